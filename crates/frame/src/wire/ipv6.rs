use std::net::Ipv6Addr;

use super::field::{array, cut, cut_mut, put, u16_at, u32_at};
use super::{ExtensionHeaders, IpProtocol, Malformed};
use crate::checksum::Addresses;

const VERSION_CLASS_FLOW: usize = 0;
const PAYLOAD_LENGTH: usize = 4;
const NEXT_HEADER: usize = 6;
const HOP_LIMIT: usize = 7;
const SOURCE: usize = 8;
const DESTINATION: usize = 24;
const PAYLOAD: usize = 40;

/// A view of an IPv6 packet (RFC 8200 section 3).
///
/// Jumbograms (RFC 2675) have payload length 0 and are seen as packets without payload.
#[derive(Debug, Clone, Copy)]
pub struct Ipv6Packet<T> {
    octets: T,
}

impl<T: AsRef<[u8]>> Ipv6Packet<T> {
    /// Checks version and payload length. Padding may follow the packet.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] below 40 octets, [`Malformed::Format`] for another version,
    /// [`Malformed::Length`] if the payload reaches beyond the octets.
    #[inline]
    pub fn new_checked(octets: T) -> Result<Self, Malformed> {
        let packet = octets.as_ref();
        if packet.len() < Ipv6Repr::HEADER_LEN {
            return Err(Malformed::Truncated);
        }
        if packet[VERSION_CLASS_FLOW] >> 4 != 6 {
            return Err(Malformed::Format);
        }
        if PAYLOAD + usize::from(u16_at(packet, PAYLOAD_LENGTH)) > packet.len() {
            return Err(Malformed::Length);
        }
        Ok(Ipv6Packet { octets })
    }

    /// The octets back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.octets
    }

    /// Differentiated services code point and ECN.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (u32_at(self.octets.as_ref(), VERSION_CLASS_FLOW) >> 20) as u8
    }

    /// The flow label, 20 bits.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        u32_at(self.octets.as_ref(), VERSION_CLASS_FLOW) & 0x000f_ffff
    }

    /// Octets after the fixed header, without padding of the frame.
    #[inline]
    pub fn payload_length(&self) -> u16 {
        u16_at(self.octets.as_ref(), PAYLOAD_LENGTH)
    }

    /// Octets of the packet, fixed header included, without padding of the frame.
    #[inline]
    pub fn total_len(&self) -> usize {
        PAYLOAD + usize::from(self.payload_length())
    }

    /// Returns the protocol of the payload's first header: an extension header or the upper layer's.
    #[inline]
    pub fn next_header(&self) -> IpProtocol {
        IpProtocol(self.octets.as_ref()[NEXT_HEADER])
    }

    /// Hops left.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.octets.as_ref()[HOP_LIMIT]
    }

    /// The sender.
    #[inline]
    pub fn source(&self) -> Ipv6Addr {
        array::<16>(self.octets.as_ref(), SOURCE).into()
    }

    /// The receiver, or the next one on the way with a routing header.
    #[inline]
    pub fn destination(&self) -> Ipv6Addr {
        array::<16>(self.octets.as_ref(), DESTINATION).into()
    }

    /// Both addresses, for the checksum of the upper layer.
    #[inline]
    pub fn addresses(&self) -> Addresses {
        Addresses::V6 { source: self.source(), destination: self.destination() }
    }

    /// Returns the octets behind the fixed header, extension headers included, without padding of the frame.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        cut(self.octets.as_ref(), PAYLOAD, self.total_len())
    }

    /// Walks the extension headers.
    #[inline]
    pub fn extension_headers(&self) -> ExtensionHeaders {
        ExtensionHeaders::walk(self)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv6Packet<T> {
    /// Sets the traffic class.
    #[inline]
    pub fn set_traffic_class(&mut self, class: u8) {
        let kept = u32_at(self.octets.as_ref(), VERSION_CLASS_FLOW) & !0x0ff0_0000;
        put(self.octets.as_mut(), VERSION_CLASS_FLOW, &(kept | u32::from(class) << 20).to_be_bytes());
    }

    /// Sets the octets after the fixed header; the payload ends with the octets at the latest.
    #[inline]
    pub fn set_payload_length(&mut self, length: u16) {
        put(self.octets.as_mut(), PAYLOAD_LENGTH, &length.to_be_bytes());
    }

    /// Sets what the payload starts with.
    #[inline]
    pub fn set_next_header(&mut self, protocol: IpProtocol) {
        self.octets.as_mut()[NEXT_HEADER] = protocol.0;
    }

    /// Sets the hops left.
    #[inline]
    pub fn set_hop_limit(&mut self, limit: u8) {
        self.octets.as_mut()[HOP_LIMIT] = limit;
    }

    /// Sets the sender.
    #[inline]
    pub fn set_source(&mut self, address: Ipv6Addr) {
        put(self.octets.as_mut(), SOURCE, &address.octets());
    }

    /// Sets the receiver.
    #[inline]
    pub fn set_destination(&mut self, address: Ipv6Addr) {
        put(self.octets.as_mut(), DESTINATION, &address.octets());
    }

    /// Returns the payload behind the fixed header, mutable.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let end = self.total_len();
        cut_mut(self.octets.as_mut(), PAYLOAD, end)
    }
}

/// The fields of the fixed IPv6 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Repr {
    /// Differentiated services code point and ECN.
    pub traffic_class: u8,
    /// The flow label, 20 bits.
    pub flow_label: u32,
    /// Octets after the fixed header.
    pub payload_len: u16,
    /// The protocol of the payload's first header.
    pub next_header: IpProtocol,
    /// Hops left.
    pub hop_limit: u8,
    /// The sender.
    pub source: Ipv6Addr,
    /// The receiver.
    pub destination: Ipv6Addr,
}

impl Ipv6Repr {
    /// Octets that [`Ipv6Repr::emit`] writes.
    pub const HEADER_LEN: usize = PAYLOAD;

    /// The hop limit of neighbour discovery: with another one a router may have let the packet through, and its
    /// receivers ignore it (RFC 4861 sections 6.1 and 7.1).
    pub const NDP_HOP_LIMIT: u8 = 255;

    /// The header of a neighbour discovery message of `message_len` octets.
    pub const fn ndp(source: Ipv6Addr, destination: Ipv6Addr, message_len: usize) -> Ipv6Repr {
        Ipv6Repr {
            traffic_class: 0,
            flow_label: 0,
            payload_len: message_len as u16,
            next_header: IpProtocol::ICMPV6,
            hop_limit: Ipv6Repr::NDP_HOP_LIMIT,
            source,
            destination,
        }
    }

    /// Reads the fields.
    pub fn parse<T: AsRef<[u8]>>(packet: &Ipv6Packet<T>) -> Self {
        Ipv6Repr {
            traffic_class: packet.traffic_class(),
            flow_label: packet.flow_label(),
            payload_len: packet.payload_length(),
            next_header: packet.next_header(),
            hop_limit: packet.hop_limit(),
            source: packet.source(),
            destination: packet.destination(),
        }
    }

    /// Writes the header to the first 40 octets.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn emit(&self, octets: &mut [u8]) {
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0x000f_ffff;
        put(octets, VERSION_CLASS_FLOW, &first.to_be_bytes());
        put(octets, PAYLOAD_LENGTH, &self.payload_len.to_be_bytes());
        octets[NEXT_HEADER] = self.next_header.0;
        octets[HOP_LIMIT] = self.hop_limit;
        put(octets, SOURCE, &self.source.octets());
        put(octets, DESTINATION, &self.destination.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Traffic class 0xb9, flow label 0x12345, two octets of payload, UDP, hop limit 64, fe80::1 to ff02::1:2.
    const HEADER: [u8; 40] = [
        0x6b, 0x91, 0x23, 0x45, 0x00, 0x02, 0x11, 0x40, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2,
    ];

    fn packet() -> Vec<u8> {
        [&HEADER[..], &[0xaa, 0xbb], &[0; 4]].concat()
    }

    fn repr() -> Ipv6Repr {
        Ipv6Repr {
            traffic_class: 0xb9,
            flow_label: 0x12345,
            payload_len: 2,
            next_header: IpProtocol::UDP,
            hop_limit: 64,
            source: "fe80::1".parse().unwrap(),
            destination: "ff02::1:2".parse().unwrap(),
        }
    }

    #[test]
    fn parse_and_emit() {
        let octets = packet();
        let packet = Ipv6Packet::new_checked(&octets).unwrap();
        assert_eq!(Ipv6Repr::parse(&packet), repr());
        assert_eq!(packet.payload(), [0xaa, 0xbb], "padding is no payload");

        let mut written = [0xff; 40];
        repr().emit(&mut written);
        assert_eq!(written, HEADER);
    }

    #[test]
    fn setters() {
        let mut packet = Ipv6Packet::new_checked(packet()).unwrap();
        packet.set_traffic_class(0x5a);
        packet.set_payload_length(6);
        packet.set_next_header(IpProtocol::TCP);
        packet.set_hop_limit(255);
        packet.set_source("::1".parse().unwrap());
        packet.set_destination("::2".parse().unwrap());

        let changed = Ipv6Repr {
            traffic_class: 0x5a,
            payload_len: 6,
            next_header: IpProtocol::TCP,
            hop_limit: 255,
            source: "::1".parse().unwrap(),
            destination: "::2".parse().unwrap(),
            ..repr()
        };
        assert_eq!(Ipv6Repr::parse(&packet), changed);
        assert_eq!(packet.payload_mut().len(), 6);
        packet.set_payload_length(u16::MAX);
        assert_eq!(packet.payload().len(), 6, "no more than there is");
    }

    #[test]
    fn contradictions_are_refused() {
        assert_eq!(Ipv6Packet::new_checked(&HEADER[..39]).unwrap_err(), Malformed::Truncated);
        assert_eq!(Ipv6Packet::new_checked(&packet()[..41]).unwrap_err(), Malformed::Length);
        let mut octets = packet();
        octets[0] = 0x45;
        assert_eq!(Ipv6Packet::new_checked(octets).unwrap_err(), Malformed::Format);
    }
}
