//! A guest's packet, checked once.

use std::net::IpAddr;

use vmlan_frame::checksum::Addresses;
use vmlan_frame::wire::{Fragment, IpProtocol, Ipv4Packet, Ipv6Packet, Upper};
use vmlan_frame::{ETHERNET_HEADER, Frame, MacAddr, Offload};

/// Why a packet of a guest is not handled; each is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A header that is short or contradicts itself, source routing, or extension headers that cannot be followed.
    BadHeader,
    /// A checksum that is wrong.
    BadChecksum,
}

/// An IP packet of a guest, with its headers checked: lengths agree, and the upper-layer header was found.
///
/// The checksum of IPv4's header is verified; that of the upper layer is its module's business
/// ([`Packet::is_checksum_open`]).
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// The sender's link address.
    pub mac: MacAddr,
    /// The port of the network that it came in by; 0 is none.
    pub ingress: u16,
    /// Sender and receiver, of one family.
    pub addresses: Addresses,
    /// The protocol of `upper`; of a later fragment, the one that the packet's fragmentable part begins with.
    pub protocol: IpProtocol,
    /// Hops left, as the guest sent it.
    pub hop_limit: u8,
    /// Differentiated services code point and ECN.
    pub class: u8,
    /// True if routers must not fragment the packet; always for IPv6.
    pub dont_fragment: bool,
    /// Its place, if it is a fragment; an IPv6 fragment that is the whole packet has none (RFC 6946).
    pub fragment: Option<Fragment>,
    /// The IP packet from its header on, without padding of the frame.
    pub ip: &'a [u8],
    /// The octets behind the IP headers.
    pub upper: &'a [u8],
    /// The work that the guest left to be done; positions count from the frame's start.
    pub offload: Offload,
}

impl<'a> Packet<'a> {
    /// Reads the packet of an IPv4 or IPv6 frame.
    ///
    /// # Errors
    /// [`Refusal::BadHeader`], [`Refusal::BadChecksum`] for IPv4's header.
    pub fn parse(frame: &'a Frame) -> Result<Packet<'a>, Refusal> {
        let octets = frame.octets();
        let mac = frame.source().ok_or(Refusal::BadHeader)?;
        let packet = octets.get(ETHERNET_HEADER..).ok_or(Refusal::BadHeader)?;
        let parsed = Packet::parse_ip(packet)?;
        Ok(Packet { mac, ingress: frame.meta.ingress, offload: frame.meta.offload, ..parsed })
    }

    /// Reads an IP packet that no frame is around; the fields of a frame are as of none.
    ///
    /// # Errors
    /// As [`Packet::parse`].
    pub(crate) fn parse_ip(packet: &'a [u8]) -> Result<Packet<'a>, Refusal> {
        match packet.first().map(|first| first >> 4) {
            Some(4) => Packet::v4(packet),
            Some(6) => Packet::v6(packet),
            _ => Err(Refusal::BadHeader),
        }
    }

    fn v4(octets: &'a [u8]) -> Result<Packet<'a>, Refusal> {
        /// Options that tell a packet's way: loose and strict source routes (RFC 791 section 3.1).
        const SOURCE_ROUTES: [u8; 2] = [131, 137];
        let packet = Ipv4Packet::new_checked(octets).map_err(|_| Refusal::BadHeader)?;
        if !packet.verify_checksum() {
            return Err(Refusal::BadChecksum);
        }
        let routed =
            packet.options().any(|option| option.map_or(true, |option| SOURCE_ROUTES.contains(&option.kind)));
        if routed {
            return Err(Refusal::BadHeader);
        }
        let ip = &octets[..usize::from(packet.total_length())];
        Ok(Packet {
            mac: MacAddr::default(),
            ingress: 0,
            addresses: packet.addresses(),
            protocol: packet.protocol(),
            hop_limit: packet.ttl(),
            class: packet.traffic_class(),
            dont_fragment: packet.dont_fragment(),
            fragment: packet.fragment(),
            ip,
            upper: &ip[packet.header_len()..],
            offload: Offload::NONE,
        })
    }

    fn v6(octets: &'a [u8]) -> Result<Packet<'a>, Refusal> {
        let packet = Ipv6Packet::new_checked(octets).map_err(|_| Refusal::BadHeader)?;
        let ip = octets.get(..packet.total_len()).ok_or(Refusal::BadHeader)?;
        let headers = packet.extension_headers();
        let (protocol, offset) = match headers.upper {
            Upper::Header { protocol, offset } | Upper::LaterFragment { protocol, offset } => {
                (protocol, offset)
            }
            Upper::Absent => (IpProtocol::NO_NEXT_HEADER, ip.len()),
            Upper::Undecidable(_) => return Err(Refusal::BadHeader),
        };
        Ok(Packet {
            mac: MacAddr::default(),
            ingress: 0,
            addresses: packet.addresses(),
            protocol,
            hop_limit: packet.hop_limit(),
            class: packet.traffic_class(),
            dont_fragment: true,
            fragment: headers.fragment.filter(|fragment| fragment.more || !fragment.is_first()),
            ip,
            upper: ip.get(offset..).ok_or(Refusal::BadHeader)?,
            offload: Offload::NONE,
        })
    }

    /// The sender.
    pub fn source(&self) -> IpAddr {
        self.addresses.source()
    }

    /// The receiver.
    pub fn destination(&self) -> IpAddr {
        self.addresses.destination()
    }

    /// True if the upper layer's checksum is not complete, or is known to be right: it is not to be verified.
    pub fn is_checksum_open(&self) -> bool {
        self.offload.needs_checksum() || self.offload.flags & Offload::CHECKSUM_VALID != 0
    }
}
