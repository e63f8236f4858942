//! The part of a network's decisions that a fast way keeps a copy of, such as programs in the kernel.
//!
//! Theory of operation. A fast way forwards unicast between *fast ports*, by a copy of their entries in the FDB. It is
//! a cache: it may lack entries, and leaves the frames that concern those to the workers, but it never has one that the
//! FDB no longer has. So an entry goes out of the copy before it goes out of the FDB, by the thread that changes the
//! FDB, which may be a worker ([`FastPath::withdraw`]). Only control puts entries in ([`Network::list_fast`]). Both
//! happen under the lock of the FDB's bookkeeping, so nothing is put in that has just been withdrawn.
//!
//! Entries for every VLAN. One look-up in the FDB prefers the entry of a VLAN to the one for every VLAN. So that a copy
//! that lacks the former does not answer with the latter, an entry for every VLAN is not listed while a fixed entry
//! says that the same address is behind another port in some VLAN.
//!
//! A frame between fast ports that are not slow may go the fast way when its source is in the copy at the port that it
//! comes from, its destination is in the copy at another one, and both ports are in its VLAN. What else decides in
//! the switch is said by [`FastPort`]; the frames that the ports' stages have to see stay with the
//! workers: ARP, IPv6 with a hop limit of 255, 802.2 LLC, and frames with a tag among their octets.
//!
//! The trunk is a fast port with two sides. Every entry at it is at one of them, as the switch has it: the host's
//! addresses, which are set for the trunk, at the host's side, and all others at the wire's. A frame from a side may go
//! fast when its source has an entry at that side: not one with the host's address from the wire, nor one of the host's
//! with another address, which the switch passes and does not learn. Between the sides of a trunk nothing goes fast.
//!
//! [`Network::list_fast`]: crate::Network::list_fast

use vmlan_frame::{MacAddr, Sides, VlanId};

use crate::{EntryKind, PortId, VlanRole};

/// A copy of the FDB's entries at fast ports. No call may call the network back, except those of its methods that say
/// that they take no lock, and none may block or take long.
pub trait FastPath: Send + Sync {
    /// Takes an entry out, if it is there; `vlan` `None` stands for the entry for every VLAN of the port. The FDB drops
    /// or changes its own entry as soon as this returns.
    ///
    /// Workers and control call it, with the FDB's bookkeeping locked; control may hold the network's ports locked too.
    fn withdraw(&self, mac: MacAddr, vlan: Option<VlanId>, port: PortId);

    /// Notes that entries came to be at a fast port, so that [`Network::list_fast`](crate::Network::list_fast) has more
    /// to tell. Not called for entries that are only refreshed.
    ///
    /// Workers and control call it, with the same locks as [`FastPath::withdraw`]; it should only wake up a thread.
    fn changed(&self);

    /// Takes over the facts about all fast ports, in the place of those said before. Entries of a port that is missing
    /// are withdrawn afterwards.
    ///
    /// Control calls it with the network's ports locked, after the workers were shown the change, and before the call
    /// that made it returns; only when something differs.
    fn ports(&self, ports: &[FastPort]);
}

/// The facts about a fast port by which the switch decides on a unicast frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FastPort {
    /// The port.
    pub id: PortId,
    /// Its part in the VLANs: [`VlanRole::Unset`] only in a network without VLANs, where tags pass unchanged.
    pub vlan: VlanRole,
    /// True if the port sends from its set addresses only: of its entries, those of [`EntryKind::Set`] are sources.
    pub guard: bool,
    /// True if the port exchanges nothing with other isolated ports.
    pub isolated: bool,
    /// Octets of the longest frame that the network takes, or of the longest segment, with the Ethernet header and
    /// without tag.
    pub frame_limit: usize,
    /// The sides of a trunk that frames may come from and go to; none of them for a guest's port.
    pub sides: Sides,
    /// True if the switch has to see what the port sends that may be a DHCP server's: UDP from port 67 or 547 or to
    /// port 68 or 546, and IPv6 with extension headers.
    pub services: bool,
    /// The reason why frames from and to the port have to be seen by the switch; `None` when they may go fast.
    pub slow: Option<SlowReason>,
}

/// Why the frames of a fast port have to be seen by the switch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SlowReason {
    /// The port is disabled by its policy.
    Disabled,
    /// The port has no peer.
    Inactive,
    /// The port's policy keeps its frames with the switch.
    TurnedOff,
    /// The octets that the port sends are limited.
    Rate,
    /// Another port, or a side of the trunk, gets a copy of everything.
    Promiscuous,
    /// The sources of packets are learnt, since the guests share the MAC address of the trunk's host.
    SharedMac,
}

impl SlowReason {
    /// The reason in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            SlowReason::Disabled => "the port is disabled",
            SlowReason::Inactive => "the port is not in use",
            SlowReason::TurnedOff => "it is turned off: `fast = \"off\"`",
            SlowReason::Rate => "the port has a rate limit",
            SlowReason::Promiscuous => "a port of the network is promiscuous",
            SlowReason::SharedMac => "guests share the MAC address of the host",
        }
    }
}

/// An entry of the FDB at a fast port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FastEntry {
    /// The address.
    pub mac: MacAddr,
    /// Its VLAN, which is VLAN 1 in a network without VLANs; `None` for an address that holds in every VLAN of its
    /// port, as far as no entry of a VLAN says otherwise.
    pub vlan: Option<VlanId>,
    /// The port behind which it is.
    pub port: PortId,
    /// The side of the trunk at which it is; [`Sides::NONE`] at a guest's port.
    pub side: Sides,
    /// Where the entry comes from.
    pub kind: EntryKind,
}
