//! Views of the headers in a frame, and owned forms of them.
//!
//! A view (`EthernetFrame`, `Ipv4Packet`, `TcpSegment`, …) borrows or owns octets and checks them once, in
//! `new_checked`: the fixed header is there and every length field lies within the octets. After that no
//! accessor fails. Setters change single fields in place; those of length fields may make the view's payload
//! shorter, never longer than the octets. A repr (`Ipv4Repr`, …) holds the decoded fields; its `emit` writes
//! the header in front of a payload that is already in place.
//!
//! Views do not judge what they show: a checksum, an address or a reserved bit may be wrong.

mod arp;
mod ethernet;
mod ext;
pub(crate) mod field;
mod headers;
mod icmp;
mod icmpv4;
mod icmpv6;
mod ip;
mod ipv4;
mod ipv6;
mod ndp;
mod options;
mod tcp;
mod udp;
mod vlan;

pub use arp::{ArpOperation, ArpPacket, ArpRepr};
pub use ethernet::{EtherType, EthernetFrame, EthernetRepr};
pub use ext::{ExtensionHeaders, MAX_EXTENSION_HEADERS, MAX_EXTENSION_OCTETS};
pub use headers::{Headers, Network};
pub use icmp::{EchoRepr, IcmpPacket, IcmpType};
pub use icmpv4::{Icmpv4Packet, Icmpv4Type};
pub use icmpv6::{Icmpv6Packet, Icmpv6Type};
pub use ip::{Fragment, IpProtocol, Undecidable, Upper};
pub use ipv4::{Ipv4Packet, Ipv4Repr};
pub use ipv6::{Ipv6Packet, Ipv6Repr};
pub use ndp::{NdpMessage, NdpOption, NdpOptions, NeighborAdvertRepr, NeighborSolicitRepr};
pub use options::{OptionField, Options};
pub(crate) use tcp::CHECKSUM as TCP_CHECKSUM;
pub use tcp::{TcpFlags, TcpOption, TcpRepr, TcpSegment};
pub(crate) use udp::CHECKSUM as UDP_CHECKSUM;
pub use udp::{UdpDatagram, UdpRepr};
pub use vlan::{StackedTag, VlanTags};

/// Octets that are not the header they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// The octets end before the header does.
    #[error("the octets end before the header does")]
    Truncated,
    /// A length field is less than the least, or reaches beyond the octets.
    #[error("a length field contradicts the octets")]
    Length,
    /// A field that is fixed for this format (version, hardware type, message type) has another value.
    #[error("a field that the format fixes has another value")]
    Format,
    /// More nested headers than are followed.
    #[error("more nested headers than are followed")]
    TooMany,
}
