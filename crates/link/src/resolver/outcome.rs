use vmlan_frame::MacAddr;

use crate::Error;

/// The decision of the resolver about a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolution {
    /// It goes to this link address now.
    Send(MacAddr),
    /// The resolver has a copy, which [`Resolver::poll_transmit`](super::Resolver::poll_transmit) returns when the next
    /// hop is known.
    Waiting,
    /// It cannot be sent.
    Refused(Refusal),
}

/// Why a packet cannot be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// No host on the link has such an address, and no gateway is set; or the host itself has it.
    #[error("no next hop leads to the address")]
    NoRoute,
    /// The host has no assigned address of the family to ask from.
    #[error("there is no own address to ask from")]
    NoSource,
    /// The next hop did not answer a short while ago.
    #[error("the next hop does not answer")]
    NoAnswer,
    /// The packet is neither IPv4 nor IPv6, and cannot wait.
    #[error("the packet is neither IPv4 nor IPv6")]
    NotIp,
    /// Too many packets wait.
    #[error("too many packets wait for link addresses")]
    NoRoom,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        match refusal {
            Refusal::NoRoute | Refusal::NoSource | Refusal::NoAnswer => Error::HostUnreachable,
            Refusal::NotIp => Error::InvalidArgument,
            Refusal::NoRoom => Error::NoBuffers,
        }
    }
}
