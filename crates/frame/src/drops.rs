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

/// Declares the reasons once, with their stable names, directions and explanations.
macro_rules! reasons {
    ($($(#[$doc:meta])+ $variant:ident, $name:literal, $direction:ident;)+) => {
        /// Why a frame was dropped. An index into a port's counters; the names are stable.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason { $($(#[$doc])+ $variant,)+ }

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
        }
    };
}

reasons! {
    /// Shorter than an Ethernet header (14 octets).
    Runt, "runt", Ingress;
    /// Longer than the network's MTU with header and tag.
    Oversize, "oversize", Ingress;
    /// The source address is a group address or zero.
    BadSource, "bad_source", Ingress;
    /// The destination is one of the addresses that a bridge never forwards.
    ReservedAddress, "reserved_address", Ingress;
    /// The source address is not the one set for the port.
    SourceGuard, "source_guard", Ingress;
    /// The port is not enabled.
    PortDown, "port_down", Ingress;
    /// From a side of the trunk that is not enabled.
    SideDisabled, "side_disabled", Ingress;
    /// Claims an IP address of the host's, or of a guest that was heard from lately, in ARP or neighbour discovery.
    AddressConflict, "address_conflict", Ingress;
    /// Speaks of addresses in ARP or neighbour discovery in a form that receivers may read differently.
    UnclearClaim, "unclear_claim", Ingress;
    /// Says what only the network's uplink may say: as a DHCP server or router, or claims an address of the uplink's.
    ServiceGuard, "service_guard", Ingress;
    /// The source address is another port's, which was there first and was heard from lately.
    Contested, "contested", Ingress;
    /// One of our own frames that came back from the trunk.
    Echo, "echo", Ingress;
    /// More broadcast, multicast and unknown unicast than the port may send.
    Storm, "storm", Ingress;
    /// More than the port may send.
    RateLimit, "rate_limit", Ingress;
    /// The port is not a member of the frame's VLAN, or does not take frames with, or without, a tag, or with a tag
    /// behind that.
    VlanNotAllowed, "vlan_not_allowed", Ingress;
    /// To a group, or to an address that nobody knows, while no other port is there to get it. That is no fault: a lone
    /// guest's broadcasts are such.
    NoReceiver, "no_receiver", Ingress;
    /// The port that it is for cannot get it: the sender's own, one that is down, or one that is kept apart.
    NoDestination, "no_destination", Ingress;
    /// An input filter dropped it.
    InputFilter, "input_filter", Ingress;
    /// An input filter, a demultiplexer or a protocol took it.
    Consumed, "consumed", Ingress;
    /// No protocol wants it.
    NoProtocol, "no_protocol", Ingress;
    /// The protocol refused it.
    ProtocolError, "protocol_error", Ingress;
    /// The link is not attached, or is being detached.
    NotAttached, "not_attached", Ingress;
    /// The offload request contradicts the frame.
    BadOffload, "bad_offload", Ingress;
    /// A record whose framing is wrong: its length, family or header.
    Malformed, "malformed", Ingress;
    /// From a sender that is not the port's peer.
    Stranger, "stranger", Ingress;
    /// No buffer was free.
    NoBuffer, "no_buffer", Ingress;
    /// Waited in a bounded queue between contexts that was full or came to its end.
    InputQueue, "input_queue", Ingress;
    /// A packet of a tunnel whose next hop is not known, or does not answer.
    NoNextHop, "no_next_hop", Ingress;

    /// The port's queue is full: the newest frame goes.
    QueueFull, "queue_full", Egress;
    /// No peer is there.
    NoPeer, "no_peer", Egress;
    /// More than the peer can take, or than the port's MTU.
    TooLong, "too_long", Egress;
    /// The system refused it.
    TransmitError, "transmit_error", Egress;
    /// No buffer was free for the form that the medium takes: its segments, or a copy with its checksum.
    NoSendBuffer, "no_send_buffer", Egress;
    /// An output filter dropped it.
    OutputFilter, "output_filter", Egress;
    /// An output filter took it.
    OutputConsumed, "output_consumed", Egress;
    /// The framer or the resolver refused it.
    OutputError, "output_error", Egress;
    /// The link is not attached, or is being detached.
    LinkDetached, "link_detached", Egress;
    /// A tunnel gets IP packets only, and only those for its own link address or for groups.
    NotForTunnel, "not_for_tunnel", Egress;
    /// An uplink gets ARP and IP packets only, and only those for its own link address or for groups.
    NotForUplink, "not_for_uplink", Egress;
    /// A packet to the uplink whose headers are short or contradict themselves, or that asks for a way of its own.
    BadHeader, "bad_header", Egress;
    /// A packet to the uplink whose checksum is wrong.
    BadChecksum, "bad_checksum", Egress;
    /// A packet to the uplink from an address that is another guest's, or no guest's.
    SpoofedSource, "spoofed_source", Egress;
    /// A packet to where its guest may not go.
    EgressDenied, "egress_denied", Egress;
    /// A packet to a group, or of a protocol, that the uplink does not carry.
    NotForwarded, "not_forwarded", Egress;
    /// A SYN with segments that are too small.
    BadMss, "bad_mss", Egress;
    /// A new flow beyond the guest's limits.
    FlowLimit, "flow_limit", Egress;
    /// A datagram beyond the uplink's rate.
    UplinkRate, "uplink_rate", Egress;
    /// A packet to a port of the gateway, or of the host's, where nothing listens.
    ClosedPort, "closed_port", Egress;
    /// A packet whose last hop the uplink was; its sender is told.
    HopLimit, "hop_limit", Egress;
    /// An echo request, where the host permits the uplink none.
    EchoUnavailable, "echo_unavailable", Egress;
    /// A packet to where the host has no way; its sender is told.
    Unreachable, "unreachable", Egress;
    /// Fragments that do not make a packet: too many, too late, or over each other.
    BadFragment, "bad_fragment", Egress;
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
