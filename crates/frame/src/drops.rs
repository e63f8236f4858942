use core::ops::{Index, IndexMut};
use core::{array, fmt, slice};

/// On which side of a port a frame was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// A frame that the port received: it made no copies for other ports.
    Ingress,
    /// A copy on its way out of the port.
    Egress,
}

/// Declares the reasons once, with their stable names, directions, meanings and remedies. Of these the documents, the
/// web page and `vmlan explain` are made.
macro_rules! reasons {
    ($($variant:ident, $name:literal, $direction:ident, $meaning:literal, $remedy:literal;)+) => {
        /// Why a frame was dropped. An index into a port's counters; the names are stable.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason { $(#[doc = $meaning] $variant,)+ }

        impl DropReason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The stable name, in snake case.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name,)+ }
            }

            /// On which side of the port the reason is counted.
            pub const fn direction(self) -> Direction {
                match self { $(DropReason::$variant => Direction::$direction,)+ }
            }

            /// The case in which it is counted, in a sentence or two.
            pub const fn meaning(self) -> &'static str {
                match self { $(DropReason::$variant => $meaning,)+ }
            }

            /// The remedy, or the reason why none is needed.
            pub const fn remedy(self) -> &'static str {
                match self { $(DropReason::$variant => $remedy,)+ }
            }
        }
    };
}

reasons! {
    Runt, "runt", Ingress,
        "Shorter than an Ethernet header, 14 octets.",
        "Look at the guest's driver: nothing in order sends that.";
    Oversize, "oversize", Ingress,
        "Longer than the network's `mtu` with header and tag.",
        "Raise the network's `mtu`, or lower that of the guest's interface.";
    BadSource, "bad_source", Ingress,
        "The source address is zero or a group.",
        "Give the guest's interface a MAC address.";
    ReservedAddress, "reserved_address", Ingress,
        "To an address that bridges never pass on: spanning tree, LLDP, LACP, PAUSE.",
        "Nothing, or `pass_reserved = true` where guests are to hear these; PAUSE never passes.";
    SourceGuard, "source_guard", Ingress,
        "From another address than those of the port's `mac`, or from one that is set for another port.",
        "Set `mac` to what the guest uses, or `guard = \"off\"` for a guest with guests of its own.";
    PortDown, "port_down", Ingress,
        "The port is not enabled.",
        "Nothing, or `vmlan port up`.";
    SideDisabled, "side_disabled", Ingress,
        "From the host or the wire of a trunk, where `host` or `wire` is off.",
        "Nothing: the key says so.";
    AddressConflict, "address_conflict", Ingress,
        "Claims an IP address that the host has, or another guest that said so when it was asked.",
        "Give one of them another address; the event `address_conflict` names both. `floating` is for addresses \
         that move at once.";
    UnclearClaim, "unclear_claim", Ingress,
        "Speaks of IP addresses in a form that receivers read differently, on a network with a trunk or with \
         `floating` addresses.",
        "Look at it with `vmlan capture --drops`: guests in order send none.";
    ServiceGuard, "service_guard", Ingress,
        "In a network with an uplink: what only the uplink may say. A DHCP server's message, a router advertisement \
         or redirect, ARP or neighbour discovery with an address of the uplink's, or a packet that may hide one of \
         these.",
        "Stop the DHCP or router daemon in the guest, or give it another address. For a DHCP server of your own, \
         set `dhcp = false` on the uplink and `roles = [\"dhcp\"]` on the port.";
    Contested, "contested", Ingress,
        "From a MAC address that another port had first.",
        "Set `mac` on the port whose address it is; the event `mac_contested` names both.";
    Echo, "echo", Ingress,
        "A frame of ours that the wire sent back.",
        "Nothing, unless there are many: then something on the LAN reflects frames.";
    Storm, "storm", Ingress,
        "More broadcast, multicast and unknown unicast than `storm` or `copies` allows.",
        "Look for a loop; raise the keys where that much is wanted.";
    RateLimit, "rate_limit", Ingress,
        "More than `rate` allows.",
        "Nothing, or raise `rate`.";
    VlanNotAllowed, "vlan_not_allowed", Ingress,
        "Of a VLAN that the port is no member of, with a tag at an access port, without one at a port with `tagged` \
         and no `native`, or with a tag behind a tag.",
        "Compare the port's `vlan` with what the guest sends.";
    NoReceiver, "no_receiver", Ingress,
        "To all or to an address that nobody knows, while no other port was there to get it: the broadcasts of a \
         guest that is alone in its network or VLAN.",
        "Nothing, for a guest that is to be alone; else `vmlan ports` shows which guests are not there, and `vmlan \
         check` which port is alone in its VLAN.";
    NoDestination, "no_destination", Ingress,
        "The port that it is for cannot get it: it is the sender's own, is down, or is kept apart by `isolation`.",
        "Look at the other guest's port, unless a guest sends to itself.";
    InputFilter, "input_filter", Ingress,
        "A filter of the port dropped it.",
        "`vmlan filter list` shows which rule.";
    Consumed, "consumed", Ingress,
        "A filter or a protocol on the link took it: it is not lost.",
        "Nothing: the filter or the protocol does with it what it is there for.";
    NoProtocol, "no_protocol", Ingress,
        "No protocol on the link wants it.",
        "Nothing: a host without IPv6 hears IPv6.";
    ProtocolError, "protocol_error", Ingress,
        "The link's protocol refused it.",
        "Look at it with `vmlan capture`.";
    NotAttached, "not_attached", Ingress,
        "The port was being removed, or its link taken down; or a guest sent by a vhost-user ring that its monitor \
         has not enabled.",
        "Nothing, unless it goes on.";
    BadOffload, "bad_offload", Ingress,
        "The guest asks for a checksum or for segments that contradict its frame, or for too many.",
        "Update the guest's driver or the VMM; `offloads = false` on a TAP helps meanwhile.";
    Malformed, "malformed", Ingress,
        "A record of a tunnel or a header of a medium is wrong.",
        "Look at the program at the other end.";
    Stranger, "stranger", Ingress,
        "From somebody who is not the port's guest.",
        "Look at who else sends there; use a path instead of a UDP port.";
    NoBuffer, "no_buffer", Ingress,
        "All buffers of the worker were in use.",
        "Lower `queue` of slow ports, or use more `workers`.";
    InputQueue, "input_queue", Ingress,
        "A tunnel's queue was full when it came, or the kernel's buffer for a trunk in mode `packet` or on macOS.",
        "The program reads too slowly; the host is too busy.";
    NoNextHop, "no_next_hop", Ingress,
        "A packet of a tunnel to an address whose MAC address nobody told.",
        "Look whether the receiver is up, and at the tunnel's `gateway`.";

    QueueFull, "queue_full", Egress,
        "The port's queue was full; the newest frame goes.",
        "The guest reads too slowly; a larger `queue` helps against bursts only.";
    NoPeer, "no_peer", Egress,
        "Nobody is connected to the port.",
        "Nothing while the guest is away.";
    TooLong, "too_long", Egress,
        "Longer than the guest, or the trunk's interface, takes.",
        "Use one MTU on the network, in the guests and on the interface.";
    TransmitError, "transmit_error", Egress,
        "The system refused it.",
        "The port's reason and the log say why.";
    NoSendBuffer, "no_send_buffer", Egress,
        "No buffer was free for a segment, or for a copy with its checksum.",
        "As `no_buffer`.";
    OutputFilter, "output_filter", Egress,
        "A filter of the port dropped it.",
        "`vmlan filter list` shows which rule.";
    OutputConsumed, "output_consumed", Egress,
        "A filter on the link took it: it is not lost.",
        "Nothing: the filter does with it what it is there for.";
    OutputError, "output_error", Egress,
        "The link could not put a header in front of it.",
        "Report it, with `vmlan capture`.";
    LinkDetached, "link_detached", Egress,
        "The port was being removed, or its link taken down.",
        "Nothing, unless it goes on.";
    NotForTunnel, "not_for_tunnel", Egress,
        "No IP packet, or neither for the link address of the tunnel nor for a group.",
        "Nothing: tunnels carry IP for themselves.";
    NotForUplink, "not_for_uplink", Egress,
        "No ARP and no IP packet, or neither for the link address of the uplink nor for a group.",
        "Nothing: an uplink carries IP for itself.";
    BadHeader, "bad_header", Egress,
        "A packet to the uplink whose headers are short, contradict themselves, or ask for a way of their own.",
        "Look at the guest's program with `vmlan capture`: guests in order send none.";
    BadChecksum, "bad_checksum", Egress,
        "A packet to the uplink whose checksum is wrong.",
        "Look at the guest's driver and its offloads.";
    SpoofedSource, "spoofed_source", Egress,
        "A packet to the uplink from an address that is another guest's, or no guest's.",
        "`vmlan leases` shows which guest has which address; let the guest use DHCP, or an address of the subnet \
         that is free.";
    EgressDenied, "egress_denied", Egress,
        "A packet to where its guest may not go: by `egress`, or this host's own addresses.",
        "The event `egress_denied` names the target; allow it in `egress`, or open the host's port in `host`.";
    NotForwarded, "not_forwarded", Egress,
        "A packet to a group, or of a protocol, that the uplink does not carry.",
        "Nothing, for multicasts; it carries TCP, UDP and echo.";
    BadMss, "bad_mss", Egress,
        "A SYN that allows segments of less than 88 octets.",
        "Look at the guest's program: guests in order ask for more.";
    FlowLimit, "flow_limit", Egress,
        "A new flow beyond what its guest may have, or have in a second.",
        "Nothing, or raise `limits.flows` or `limits.new_per_second`; `vmlan flows` shows what is open.";
    UplinkRate, "uplink_rate", Egress,
        "A datagram or echo request beyond `limits.rate` of the uplink. TCP is slowed down instead.",
        "Nothing, or raise `limits.rate`.";
    ClosedPort, "closed_port", Egress,
        "To a port of the gateway, or of the host's services, where nothing listens.",
        "Nothing; `host` opens ports of this host's.";
    HopLimit, "hop_limit", Egress,
        "The uplink was the packet's last hop; its sender is told.",
        "Nothing: traceroute works so.";
    EchoUnavailable, "echo_unavailable", Egress,
        "An echo request, where this host permits the uplink none.",
        "`vmlan doctor`, `ping_sockets`, prints the line that permits it.";
    Unreachable, "unreachable", Egress,
        "To where this host has no way; its sender is told.",
        "Look at the host's routes (`ip route`, `ip -6 route`).";
    BadFragment, "bad_fragment", Egress,
        "Fragments that do not make a packet: too many, too late, or over each other.",
        "Nothing, unless there are many: then a smaller MTU in the guest helps.";
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something for every [`DropReason`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PerReason<T>([T; DropReason::COUNT]);

impl<T> PerReason<T> {
    /// In the order of [`DropReason::ALL`].
    #[inline]
    pub fn iter(&self) -> slice::Iter<'_, T> {
        self.0.iter()
    }

    /// In the order of [`DropReason::ALL`], for changing.
    #[inline]
    pub fn iter_mut(&mut self) -> slice::IterMut<'_, T> {
        self.0.iter_mut()
    }
}

impl<T: Default> Default for PerReason<T> {
    fn default() -> Self {
        PerReason(array::from_fn(|_| T::default()))
    }
}

impl<T> Index<DropReason> for PerReason<T> {
    type Output = T;

    #[inline]
    fn index(&self, reason: DropReason) -> &T {
        &self.0[reason as usize]
    }
}

impl<T> IndexMut<DropReason> for PerReason<T> {
    #[inline]
    fn index_mut(&mut self, reason: DropReason) -> &mut T {
        &mut self.0[reason as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn index_and_names_are_unique() {
        let names: HashSet<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), DropReason::COUNT);
        assert!(DropReason::ALL.iter().enumerate().all(|(i, reason)| *reason as usize == i));
    }
}
