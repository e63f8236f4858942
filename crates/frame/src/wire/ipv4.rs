use std::net::Ipv4Addr;

use super::field::{array, cut, cut_mut, put, u16_at};
use super::{Fragment, IpProtocol, Malformed, Options, Upper};
use crate::checksum::{Addresses, Sum, checksum};

const VERSION_IHL: usize = 0;
const TRAFFIC_CLASS: usize = 1;
const TOTAL_LENGTH: usize = 2;
const IDENTIFICATION: usize = 4;
const FRAGMENT: usize = 6;
const TTL: usize = 8;
const PROTOCOL: usize = 9;
const CHECKSUM: usize = 10;
const SOURCE: usize = 12;
const DESTINATION: usize = 16;
const OPTIONS: usize = 20;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// A view of an IPv4 packet (RFC 791 section 3.1).
#[derive(Debug, Clone, Copy)]
pub struct Ipv4Packet<T> {
    octets: T,
}

impl<T: AsRef<[u8]>> Ipv4Packet<T> {
    /// Checks version, header length and total length. Padding may follow the packet.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] below 20 octets, [`Malformed::Format`] for another version,
    /// [`Malformed::Length`] unless 20 ≤ header length ≤ total length ≤ octets.
    #[inline]
    pub fn new_checked(octets: T) -> Result<Self, Malformed> {
        let packet = octets.as_ref();
        if packet.len() < Ipv4Repr::MIN_HEADER_LEN {
            return Err(Malformed::Truncated);
        }
        if packet[VERSION_IHL] >> 4 != 4 {
            return Err(Malformed::Format);
        }
        let header = 4 * usize::from(packet[VERSION_IHL] & 0x0f);
        let total = usize::from(u16_at(packet, TOTAL_LENGTH));
        if header < Ipv4Repr::MIN_HEADER_LEN || total < header || total > packet.len() {
            return Err(Malformed::Length);
        }
        Ok(Ipv4Packet { octets })
    }

    /// The octets back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.octets
    }

    /// Octets of the header with its options.
    #[inline]
    pub fn header_len(&self) -> usize {
        4 * usize::from(self.octets.as_ref()[VERSION_IHL] & 0x0f)
    }

    /// Differentiated services code point and ECN, the former type of service.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        self.octets.as_ref()[TRAFFIC_CLASS]
    }

    /// Octets of the packet, header included, without padding of the frame.
    #[inline]
    pub fn total_length(&self) -> u16 {
        u16_at(self.octets.as_ref(), TOTAL_LENGTH)
    }

    /// Returns the number that the fragments of one packet share.
    #[inline]
    pub fn identification(&self) -> u16 {
        u16_at(self.octets.as_ref(), IDENTIFICATION)
    }

    /// True if routers must not fragment the packet.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        u16_at(self.octets.as_ref(), FRAGMENT) & DONT_FRAGMENT != 0
    }

    /// True if more fragments follow.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        u16_at(self.octets.as_ref(), FRAGMENT) & MORE_FRAGMENTS != 0
    }

    /// Where the payload belongs in the unfragmented packet, in octets.
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        (u16_at(self.octets.as_ref(), FRAGMENT) & FRAGMENT_OFFSET) << 3
    }

    /// Where the fragment belongs, or nothing for a whole packet.
    #[inline]
    pub fn fragment(&self) -> Option<Fragment> {
        if u16_at(self.octets.as_ref(), FRAGMENT) & (MORE_FRAGMENTS | FRAGMENT_OFFSET) == 0 {
            return None;
        }
        Some(Fragment {
            offset: self.fragment_offset(),
            more: self.more_fragments(),
            identification: u32::from(self.identification()),
        })
    }

    /// Hops left.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.octets.as_ref()[TTL]
    }

    /// Returns the protocol of the payload.
    #[inline]
    pub fn protocol(&self) -> IpProtocol {
        IpProtocol(self.octets.as_ref()[PROTOCOL])
    }

    /// The header checksum as sent.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16_at(self.octets.as_ref(), CHECKSUM)
    }

    /// True if the header checksum is right.
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        Sum::new().add_octets(cut(self.octets.as_ref(), 0, self.header_len())).is_valid()
    }

    /// The sender.
    #[inline]
    pub fn source(&self) -> Ipv4Addr {
        array::<4>(self.octets.as_ref(), SOURCE).into()
    }

    /// The receiver.
    #[inline]
    pub fn destination(&self) -> Ipv4Addr {
        array::<4>(self.octets.as_ref(), DESTINATION).into()
    }

    /// Both addresses, for the checksum of the payload.
    #[inline]
    pub fn addresses(&self) -> Addresses {
        Addresses::V4 { source: self.source(), destination: self.destination() }
    }

    /// The options as they stand in the header, padding included.
    #[inline]
    pub fn raw_options(&self) -> &[u8] {
        cut(self.octets.as_ref(), OPTIONS, self.header_len())
    }

    /// Walks the options.
    #[inline]
    pub fn options(&self) -> Options<'_> {
        Options::new(self.raw_options())
    }

    /// Returns the octets behind the header, without padding of the frame.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        cut(self.octets.as_ref(), self.header_len(), usize::from(self.total_length()))
    }

    /// Returns the packet's content, with its offset from the packet's start.
    #[inline]
    pub fn upper(&self) -> Upper {
        let (protocol, offset) = (self.protocol(), self.header_len());
        if self.fragment_offset() == 0 {
            Upper::Header { protocol, offset }
        } else {
            Upper::LaterFragment { protocol, offset }
        }
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv4Packet<T> {
    /// Sets the traffic class; the checksum is left as it was, as by all setters.
    #[inline]
    pub fn set_traffic_class(&mut self, class: u8) {
        self.octets.as_mut()[TRAFFIC_CLASS] = class;
    }

    /// Sets the length of the packet, header included; the payload ends with the octets at the latest.
    #[inline]
    pub fn set_total_length(&mut self, length: u16) {
        put(self.octets.as_mut(), TOTAL_LENGTH, &length.to_be_bytes());
    }

    /// Sets what the fragments of one packet share.
    #[inline]
    pub fn set_identification(&mut self, identification: u16) {
        put(self.octets.as_mut(), IDENTIFICATION, &identification.to_be_bytes());
    }

    /// Sets where the payload belongs, in octets (a multiple of 8), and whether more fragments follow; DF stays.
    #[inline]
    pub fn set_fragment(&mut self, offset: u16, more: bool) {
        let kept = u16_at(self.octets.as_ref(), FRAGMENT) & !(MORE_FRAGMENTS | FRAGMENT_OFFSET);
        let more = if more { MORE_FRAGMENTS } else { 0 };
        put(self.octets.as_mut(), FRAGMENT, &(kept | more | offset >> 3).to_be_bytes());
    }

    /// Sets the hops left.
    #[inline]
    pub fn set_ttl(&mut self, ttl: u8) {
        self.octets.as_mut()[TTL] = ttl;
    }

    /// Sets the header checksum.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put(self.octets.as_mut(), CHECKSUM, &checksum.to_be_bytes());
    }

    /// Sets the sender.
    #[inline]
    pub fn set_source(&mut self, address: Ipv4Addr) {
        put(self.octets.as_mut(), SOURCE, &address.octets());
    }

    /// Sets the receiver.
    #[inline]
    pub fn set_destination(&mut self, address: Ipv4Addr) {
        put(self.octets.as_mut(), DESTINATION, &address.octets());
    }

    /// Computes the header checksum and sets it.
    #[inline]
    pub fn fill_checksum(&mut self) {
        self.set_checksum(0);
        let sum = checksum(cut(self.octets.as_ref(), 0, self.header_len()));
        self.set_checksum(sum);
    }

    /// Returns the payload behind the header, mutable.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.header_len(), usize::from(self.total_length()));
        cut_mut(self.octets.as_mut(), start, end)
    }
}

/// The fields of an IPv4 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Repr<'a> {
    /// Differentiated services code point and ECN.
    pub traffic_class: u8,
    /// The number that the fragments of one packet share.
    pub identification: u16,
    /// True if routers must not fragment the packet.
    pub dont_fragment: bool,
    /// True if more fragments follow.
    pub more_fragments: bool,
    /// Where the payload belongs, in octets, a multiple of 8.
    pub fragment_offset: u16,
    /// Hops left.
    pub ttl: u8,
    /// The protocol of the payload.
    pub protocol: IpProtocol,
    /// The sender.
    pub source: Ipv4Addr,
    /// The receiver.
    pub destination: Ipv4Addr,
    /// The options with their padding: a multiple of 4 and at most 40 octets.
    pub options: &'a [u8],
    /// Octets after the header.
    pub payload_len: usize,
}

impl<'a> Ipv4Repr<'a> {
    /// Octets of a header without options.
    pub const MIN_HEADER_LEN: usize = OPTIONS;

    /// Reads the fields; the reserved flag (RFC 791: "must be zero") and the checksum are not kept.
    pub fn parse<T: AsRef<[u8]>>(packet: &'a Ipv4Packet<T>) -> Self {
        Ipv4Repr {
            traffic_class: packet.traffic_class(),
            identification: packet.identification(),
            dont_fragment: packet.dont_fragment(),
            more_fragments: packet.more_fragments(),
            fragment_offset: packet.fragment_offset(),
            ttl: packet.ttl(),
            protocol: packet.protocol(),
            source: packet.source(),
            destination: packet.destination(),
            options: packet.raw_options(),
            payload_len: packet.payload().len(),
        }
    }

    /// Octets of the header.
    #[inline]
    pub fn header_len(&self) -> usize {
        OPTIONS + self.options.len()
    }

    /// Writes the header with its checksum to the front of `octets`.
    ///
    /// # Panics
    /// If `octets` is shorter than the header, the options have no valid length or the packet exceeds 65535 octets.
    pub fn emit(&self, octets: &mut [u8]) {
        assert!(self.options.len() <= 40 && self.options.len().is_multiple_of(4), "options fill whole words");
        let total =
            u16::try_from(self.header_len() + self.payload_len).expect("an IPv4 packet has 16-bit length");
        let flags = if self.dont_fragment { DONT_FRAGMENT } else { 0 }
            | if self.more_fragments { MORE_FRAGMENTS } else { 0 };
        octets[VERSION_IHL] = 0x40 | (self.header_len() / 4) as u8;
        octets[TRAFFIC_CLASS] = self.traffic_class;
        put(octets, TOTAL_LENGTH, &total.to_be_bytes());
        put(octets, IDENTIFICATION, &self.identification.to_be_bytes());
        put(octets, FRAGMENT, &(flags | self.fragment_offset >> 3).to_be_bytes());
        octets[TTL] = self.ttl;
        octets[PROTOCOL] = self.protocol.0;
        put(octets, CHECKSUM, &[0, 0]);
        put(octets, SOURCE, &self.source.octets());
        put(octets, DESTINATION, &self.destination.octets());
        put(octets, OPTIONS, self.options);
        let sum = checksum(&octets[..self.header_len()]);
        put(octets, CHECKSUM, &sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::OptionField;

    /// A UDP packet without its datagram: the header with a router alert option (RFC 2113), id 0x1c46, DF.
    const HEADER: [u8; 24] = [
        0x46, 0xc0, 0x00, 0x1a, 0x1c, 0x46, 0x40, 0x00, 0x01, 0x02, 0xdd, 0xbc, 0x0a, 0x00, 0x00, 0x05, 0xe0,
        0x00, 0x00, 0x16, 0x94, 0x04, 0x00, 0x00,
    ];

    fn packet() -> Vec<u8> {
        [&HEADER[..], &[0xaa, 0xbb], &[0; 20]].concat()
    }

    #[test]
    fn fields() {
        let octets = packet();
        let packet = Ipv4Packet::new_checked(&octets).unwrap();

        assert_eq!((packet.header_len(), packet.total_length()), (24, 26));
        assert_eq!((packet.traffic_class(), packet.identification()), (0xc0, 0x1c46));
        assert_eq!((packet.dont_fragment(), packet.fragment()), (true, None));
        assert_eq!((packet.ttl(), packet.protocol()), (1, IpProtocol::IGMP));
        assert_eq!(packet.source(), Ipv4Addr::new(10, 0, 0, 5));
        assert_eq!(packet.destination(), Ipv4Addr::new(224, 0, 0, 22));
        assert!(packet.verify_checksum());
        assert_eq!(packet.options().collect::<Vec<_>>(), [Ok(OptionField { kind: 0x94, data: &[0, 0] })]);
        assert_eq!(packet.payload(), [0xaa, 0xbb], "padding is no payload");
        assert_eq!(packet.upper(), Upper::Header { protocol: IpProtocol::IGMP, offset: 24 });
    }

    #[test]
    fn emit_writes_what_parse_read() {
        let octets = packet();
        let packet = Ipv4Packet::new_checked(&octets).unwrap();
        let mut written = [0xff; 24];
        Ipv4Repr::parse(&packet).emit(&mut written);
        assert_eq!(written, HEADER);
    }

    #[test]
    fn later_fragment() {
        let mut packet = Ipv4Packet::new_checked(packet()).unwrap();
        packet.set_fragment(1480, true);
        packet.fill_checksum();

        let fragment = Fragment { offset: 1480, more: true, identification: 0x1c46 };
        assert_eq!(packet.fragment(), Some(fragment));
        assert!(packet.dont_fragment(), "DF stays");
        assert!(packet.verify_checksum());
        assert_eq!(packet.upper(), Upper::LaterFragment { protocol: IpProtocol::IGMP, offset: 24 });
    }

    #[test]
    fn setters() {
        let mut packet = Ipv4Packet::new_checked(packet()).unwrap();
        packet.set_traffic_class(3);
        packet.set_identification(7);
        packet.set_ttl(64);
        packet.set_source(Ipv4Addr::new(1, 2, 3, 4));
        packet.set_destination(Ipv4Addr::new(5, 6, 7, 8));
        packet.set_total_length(25);
        assert!(!packet.verify_checksum());
        packet.fill_checksum();

        assert!(packet.verify_checksum());
        assert_eq!((packet.traffic_class(), packet.identification(), packet.ttl()), (3, 7, 64));
        assert_eq!(
            packet.addresses(),
            Addresses::V4 { source: [1, 2, 3, 4].into(), destination: [5, 6, 7, 8].into() }
        );
        assert_eq!(packet.payload(), [0xaa]);
    }

    #[test]
    fn a_length_beyond_the_octets_gives_no_more_than_there_is() {
        let mut packet = Ipv4Packet::new_checked(packet()).unwrap();
        packet.set_total_length(u16::MAX);
        assert_eq!(packet.payload_mut().len(), 22);
        packet.set_total_length(3);
        assert!(packet.payload().is_empty());
    }

    #[test]
    fn contradictions_are_refused() {
        let cases: [(usize, u8, Malformed); 6] = [
            (0, 0x66, Malformed::Format),
            (0, 0x44, Malformed::Length),
            (0, 0x4f, Malformed::Length),
            (3, 23, Malformed::Length),
            (3, 47, Malformed::Length),
            (2, 0x01, Malformed::Length),
        ];
        for (at, value, error) in cases {
            let mut octets = packet();
            octets[at] = value;
            assert_eq!(Ipv4Packet::new_checked(octets).unwrap_err(), error, "octet {at} = {value}");
        }
        assert_eq!(Ipv4Packet::new_checked(&HEADER[..19]).unwrap_err(), Malformed::Truncated);
    }
}
