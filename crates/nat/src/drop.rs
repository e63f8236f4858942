/// Why a packet of a guest goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Drop {
    /// A header that is short or contradicts itself, or asks for a way of its own.
    BadHeader,
    /// A checksum that is wrong.
    BadChecksum,
    /// From an address that is not the guest's.
    SpoofedSource,
    /// To where the guest may not go.
    Denied,
    /// For another station, or no IP packet.
    NotForUplink,
    /// To a group, or of a protocol that is not carried.
    NotForwarded,
    /// A SYN with segments that are too small.
    BadMss,
    /// A limit on flows.
    FlowLimit,
    /// Too many frames for guests wait, or too many messages for services come.
    Busy,
    /// A reason of the datagram half.
    Datagram(crate::datagrams::Drop),
}

impl From<crate::packet::Refusal> for Drop {
    fn from(refusal: crate::packet::Refusal) -> Drop {
        match refusal {
            crate::packet::Refusal::BadHeader => Drop::BadHeader,
            crate::packet::Refusal::BadChecksum => Drop::BadChecksum,
        }
    }
}
