//! Counts of what happened to datagrams.

/// The reason that a datagram went no further, in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Drop {
    /// From a guest: a header that is short or contradicts itself, or port 0.
    BadHeader,
    /// From a guest: a wrong checksum, or none over IPv6.
    BadChecksum,
    /// From a guest: multicast, broadcast, and messages of ICMP that are no echo requests.
    NotForwarded,
    /// From a guest: a protocol that is not carried.
    BadProtocol,
    /// From a guest: a destination that is not open.
    EgressDenied,
    /// From a guest: a port of the gateway, or of the host's address, where nothing listens.
    Closed,
    /// From a guest: the last hop was the gateway.
    HopLimit,
    /// From a guest, or a caller of a forward: as many flows as there may be, or as may begin now; or the flow was
    /// closed before the datagram left.
    FlowLimit,
    /// Beyond the uplink's rate, in either direction.
    RateLimit,
    /// From a guest: the host has no descriptors or memory for another socket.
    NoSocket,
    /// From a guest: the host permits neither ping sockets nor raw ones.
    EchoUnavailable,
    /// From a guest: the socket had no room.
    SocketFull,
    /// Larger than the path's MTU or than the receiver's family carries.
    TooBig,
    /// From a guest: the host has no way to the destination.
    Unreachable,
    /// From a guest: fragments of too many packets or too many octets, so the oldest packet is given up; or a fragment
    /// beyond the end of its packet.
    FragmentLimit,
    /// From a guest: fragments that overlap.
    FragmentOverlap,
    /// From a guest: a packet whose fragments did not come in time.
    FragmentTimeout,
    /// To a guest: the sender is none that the guest sent to.
    Stranger,
    /// To a guest: not what the socket is for, or cut off.
    BadAnswer,
    /// To a guest: it is not there.
    GuestAway,
    /// To a guest: no buffer was free.
    NoBuffer,
}

impl Drop {
    /// Every reason, in order.
    pub const ALL: [Drop; 21] = [
        Drop::BadHeader,
        Drop::BadChecksum,
        Drop::NotForwarded,
        Drop::BadProtocol,
        Drop::EgressDenied,
        Drop::Closed,
        Drop::HopLimit,
        Drop::FlowLimit,
        Drop::RateLimit,
        Drop::NoSocket,
        Drop::EchoUnavailable,
        Drop::SocketFull,
        Drop::TooBig,
        Drop::Unreachable,
        Drop::FragmentLimit,
        Drop::FragmentOverlap,
        Drop::FragmentTimeout,
        Drop::Stranger,
        Drop::BadAnswer,
        Drop::GuestAway,
        Drop::NoBuffer,
    ];

    /// The reason's name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Drop::BadHeader => "bad_header",
            Drop::BadChecksum => "bad_checksum",
            Drop::NotForwarded => "not_forwarded",
            Drop::BadProtocol => "bad_protocol",
            Drop::EgressDenied => "egress_denied",
            Drop::Closed => "closed_port",
            Drop::HopLimit => "hop_limit",
            Drop::FlowLimit => "flow_limit",
            Drop::RateLimit => "rate_limit",
            Drop::NoSocket => "no_socket",
            Drop::EchoUnavailable => "echo_unavailable",
            Drop::SocketFull => "socket_full",
            Drop::TooBig => "too_big",
            Drop::Unreachable => "unreachable",
            Drop::FragmentLimit => "fragment_limit",
            Drop::FragmentOverlap => "fragment_overlap",
            Drop::FragmentTimeout => "fragment_timeout",
            Drop::Stranger => "stranger",
            Drop::BadAnswer => "bad_answer",
            Drop::GuestAway => "guest_away",
            Drop::NoBuffer => "no_buffer",
        }
    }
}

/// Counts of datagrams. A frame that stands for a run of datagrams counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Packets of guests that were handed in.
    pub taken: u64,
    /// Fragments that were handed in.
    pub fragments: u64,
    /// Fragments that became whole packets.
    pub assembled: u64,
    /// Datagrams of guests that a socket took.
    pub sent: u64,
    /// Echo requests to the gateway that it answered.
    pub answered: u64,
    /// Datagrams that sockets received.
    pub received: u64,
    /// Datagrams that went to guests.
    pub delivered: u64,
    /// Errors that were told to guests.
    pub told: u64,
    drops: [u64; Drop::ALL.len()],
}

impl Counts {
    /// The number of drops for a reason. Of fragments, each one counts.
    pub fn dropped(&self, reason: Drop) -> u64 {
        self.drops[reason as usize]
    }

    pub(super) fn drop(&mut self, reason: Drop) {
        self.drop_many(reason, 1);
    }

    pub(super) fn drop_many(&mut self, reason: Drop, count: u64) {
        self.drops[reason as usize] += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_place() {
        for (place, reason) in Drop::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place, "{}", reason.name());
        }
    }
}
