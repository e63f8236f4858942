//! The trunk of a network: the port behind which the host and the wire are.
//!
//! Theory of operation. A network has at most one trunk. It is one port with one link and one queue, and has two
//! *sides* ([`Sides`]): the host's own stack, and the wire, the physical network behind the host's interface. A frame
//! that the trunk received carries in its [`Meta::sides`](vmlan_frame::Meta::sides) where it came from, when the driver
//! knows it; otherwise a frame from one of the host's addresses is the host's and any other the wire's. A frame in the
//! trunk's queue carries the sides that are to get it; one frame may be for both.
//!
//! A driver hands to the network either the frame itself, taken off its way, or a copy of a frame that goes on by
//! itself. [`Diversion`] says which, and decides whether the network itself has to send a frame from one side on to the
//! other:
//!
//! | Driver | Takes | The network sends from side to side |
//! |---|---|---|
//! | Linux, mode `packet` | nothing: all frames are copies | never |
//! | Linux, mode `filter` | unicast to guests; groups are mirrored | never, but guests' frames to a promiscuous side |
//! | one that is the interface | everything | always |
//!
//! The trunk is wanted while a guest's port is active: [`Network::is_trunk_wanted`](crate::Network::is_trunk_wanted)
//! tells, and [`TrunkNotice::Wanted`] when that changes.

use std::sync::Arc;

use vmlan_frame::{Account, MacAddr, Sides};

use crate::{Limits, VlanRole};

/// A callback for changes that a trunk's driver follows. Control and workers call it with locks of the network held. It
/// must not block and not call the network, only wake up a thread that then asks.
pub type Notify = Arc<dyn Fn(TrunkNotice) + Send + Sync>;

/// A new trunk.
#[derive(Clone)]
pub struct TrunkConfig {
    /// The port's name in messages.
    pub name: String,
    /// The settings that can be changed while the trunk is there.
    pub policy: TrunkPolicy,
    /// The callback for changes that the driver follows.
    pub notify: Notify,
    /// The account of the trunk's link.
    pub account: Account,
}

/// The settings of a trunk that can be changed while it is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrunkPolicy {
    /// The host's addresses on the interface, the interface's own first; empty while it is not known. Guests do not
    /// send from them.
    pub macs: Vec<MacAddr>,
    /// The sides that are enabled. What comes from another one is dropped, and nothing is sent there.
    pub enabled: Sides,
    /// The sides that get a copy of everything.
    pub promiscuous: Sides,
    /// The sides to which the driver can deliver.
    pub reaches: Sides,
    /// The frames that the driver takes off their way.
    pub diversion: Diversion,
    /// The trunk's part in the VLANs of the network.
    pub vlan: VlanRole,
    /// True if the wire takes frames from the host's address only, as Wi-Fi does: guests then share it (see the
    /// `shared_mac` module's source).
    pub shared_mac: bool,
    /// How many addresses of stations on the wire are learnt at most.
    pub quota: usize,
    /// The limits on frames from both sides together.
    pub limits: Limits,
}

impl TrunkPolicy {
    /// The quota when nothing else is said: room for the stations of a large LAN.
    pub const DEFAULT_QUOTA: usize = 1024;
}

impl Default for TrunkPolicy {
    /// Both sides, none of them promiscuous, no address, and a driver that takes nothing.
    fn default() -> Self {
        TrunkPolicy {
            macs: Vec::new(),
            enabled: Sides::BOTH,
            promiscuous: Sides::NONE,
            reaches: Sides::BOTH,
            diversion: Diversion::Nothing,
            vlan: VlanRole::Unset,
            shared_mac: false,
            quota: TrunkPolicy::DEFAULT_QUOTA,
            limits: Limits::default(),
        }
    }
}

/// Which of the frames that a trunk's driver hands to the network it has taken off their way between host and wire.
/// All others are copies, whose originals go on by themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Diversion {
    /// None.
    Nothing,
    /// Unicast to the addresses behind the network's ports ([`Network::stations`](crate::Network::stations)), and in
    /// shared-MAC mode what is for their IP addresses.
    Guests,
    /// All.
    Everything,
}

/// A change that a trunk's driver follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrunkNotice {
    /// The first guest became active, or the last one ceased to be:
    /// [`Network::is_trunk_wanted`](crate::Network::is_trunk_wanted).
    Wanted,
    /// An address came to be behind a port, or left it: [`Network::stations`](crate::Network::stations).
    Stations,
    /// A guest got an IP address or lost one: [`Network::shared_addresses`](crate::Network::shared_addresses).
    SharedAddresses,
}

/// A trunk as the data path sees it, besides its port.
pub(crate) struct Trunk {
    pub(crate) macs: Box<[MacAddr]>,
    pub(crate) enabled: Sides,
    pub(crate) promiscuous: Sides,
    pub(crate) reaches: Sides,
    pub(crate) diversion: Diversion,
    pub(crate) shared_mac: bool,
}

impl Trunk {
    pub(crate) fn new(policy: &TrunkPolicy) -> Trunk {
        Trunk {
            macs: policy.macs.clone().into(),
            enabled: policy.enabled,
            promiscuous: policy.promiscuous,
            reaches: policy.reaches,
            diversion: policy.diversion,
            shared_mac: policy.shared_mac,
        }
    }

    /// The side that a frame with these marks and this source came from.
    #[inline]
    pub(crate) fn side(&self, marked: Sides, source: MacAddr) -> Sides {
        match marked {
            Sides::HOST | Sides::WIRE => marked,
            _ if self.macs.contains(&source) => Sides::HOST,
            _ => Sides::WIRE,
        }
    }
}
