use super::{EchoRepr, IcmpPacket, IcmpType, IpProtocol, Malformed, NdpMessage};
use crate::checksum::{Addresses, Sum};

/// The type of an ICMPv6 message (IANA ICMPv6 type numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Icmpv6Type(pub u8);

impl Icmpv6Type {
    /// Destination unreachable (RFC 4443).
    pub const DESTINATION_UNREACHABLE: Icmpv6Type = Icmpv6Type(1);
    /// Packet too big (RFC 4443).
    pub const PACKET_TOO_BIG: Icmpv6Type = Icmpv6Type(2);
    /// Echo request (RFC 4443).
    pub const ECHO_REQUEST: Icmpv6Type = Icmpv6Type(128);
    /// Echo reply (RFC 4443).
    pub const ECHO_REPLY: Icmpv6Type = Icmpv6Type(129);
    /// Multicast listener query (RFC 2710, RFC 9777).
    pub const LISTENER_QUERY: Icmpv6Type = Icmpv6Type(130);
    /// Router solicitation (RFC 4861 section 4.1).
    pub const ROUTER_SOLICITATION: Icmpv6Type = Icmpv6Type(133);
    /// Router advertisement (RFC 4861 section 4.2).
    pub const ROUTER_ADVERTISEMENT: Icmpv6Type = Icmpv6Type(134);
    /// Neighbour solicitation (RFC 4861 section 4.3).
    pub const NEIGHBOR_SOLICITATION: Icmpv6Type = Icmpv6Type(135);
    /// Neighbour advertisement (RFC 4861 section 4.4).
    pub const NEIGHBOR_ADVERTISEMENT: Icmpv6Type = Icmpv6Type(136);
    /// Redirect (RFC 4861 section 4.5).
    pub const REDIRECT: Icmpv6Type = Icmpv6Type(137);
    /// Multicast listener report, version 2 (RFC 9777).
    pub const LISTENER_REPORT_V2: Icmpv6Type = Icmpv6Type(143);
}

impl IcmpType for Icmpv6Type {
    const LEAST: usize = BODY;
    const ECHO_REQUEST: Icmpv6Type = Icmpv6Type::ECHO_REQUEST;
    const ECHO_REPLY: Icmpv6Type = Icmpv6Type::ECHO_REPLY;

    #[inline]
    fn new(number: u8) -> Icmpv6Type {
        Icmpv6Type(number)
    }

    #[inline]
    fn number(self) -> u8 {
        self.0
    }
}

const BODY: usize = 4;

/// A view of an ICMPv6 message (RFC 4443 section 2.1). The octets end where the IPv6 packet does.
pub type Icmpv6Packet<T> = IcmpPacket<T, Icmpv6Type>;

impl<T: AsRef<[u8]>> Icmpv6Packet<T> {
    /// True if the checksum is right.
    #[inline]
    pub fn verify_checksum(&self, addresses: &Addresses) -> bool {
        self.sum(addresses).is_valid()
    }

    /// Returns the octets behind type, code and checksum.
    #[inline]
    pub fn body(&self) -> &[u8] {
        &self.octets.as_ref()[BODY..]
    }

    /// The message as one of neighbour discovery.
    ///
    /// # Errors
    /// As [`NdpMessage::new_checked`].
    #[inline]
    pub fn ndp(&self) -> Result<NdpMessage<&[u8]>, Malformed> {
        NdpMessage::new_checked(self.octets.as_ref())
    }

    #[inline]
    fn sum(&self, addresses: &Addresses) -> Sum {
        let octets = self.octets.as_ref();
        addresses.pseudo_header(IpProtocol::ICMPV6, octets.len() as u32).add_octets(octets)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Icmpv6Packet<T> {
    /// Computes the checksum and sets it.
    #[inline]
    pub fn fill_checksum(&mut self, addresses: &Addresses) {
        self.set_checksum(0);
        let sum = self.sum(addresses).checksum();
        self.set_checksum(sum);
    }
}

impl EchoRepr {
    /// Writes an ICMPv6 header with its checksum in front of the data, which is the rest of `octets`.
    ///
    /// # Panics
    /// If `octets` is shorter than 8.
    pub fn emit_v6(&self, octets: &mut [u8], addresses: &Addresses) {
        self.emit::<Icmpv6Type>(octets).fill_checksum(addresses);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const ADDRESSES: Addresses = Addresses::V6 {
        source: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
        destination: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2),
    };
    const REPLY: [u8; 11] = [0x81, 0x00, 0xab, 0x15, 0x12, 0x34, 0x00, 0x09, b'a', b'b', b'c'];

    #[test]
    fn echo_reply() {
        let packet = Icmpv6Packet::new_checked(&REPLY).unwrap();

        assert_eq!((packet.message_type(), packet.code()), (Icmpv6Type::ECHO_REPLY, 0));
        assert!(packet.verify_checksum(&ADDRESSES));
        assert_eq!(packet.echo(), Some(EchoRepr { reply: true, identifier: 0x1234, sequence: 9 }));
        assert_eq!(&packet.body()[4..], b"abc");
        assert_eq!(packet.ndp().unwrap_err(), Malformed::Format);
    }

    #[test]
    fn emit_writes_what_parse_read() {
        let mut octets = [0xff; 11];
        octets[8..].copy_from_slice(b"abc");
        EchoRepr { reply: true, identifier: 0x1234, sequence: 9 }.emit_v6(&mut octets, &ADDRESSES);
        assert_eq!(octets, REPLY);
    }

    #[test]
    fn reply_turned_into_request() {
        let mut packet = Icmpv6Packet::new_checked(REPLY).unwrap();
        packet.set_message_type(Icmpv6Type::ECHO_REQUEST);
        assert!(!packet.verify_checksum(&ADDRESSES));
        packet.fill_checksum(&ADDRESSES);
        assert!(packet.verify_checksum(&ADDRESSES));
        assert!(!packet.echo().unwrap().reply);
    }

    #[test]
    fn short_messages() {
        assert_eq!(Icmpv6Packet::new_checked(&REPLY[..3]).unwrap_err(), Malformed::Truncated);
        assert_eq!(Icmpv6Packet::new_checked(&REPLY[..7]).unwrap().echo(), None);
    }
}
