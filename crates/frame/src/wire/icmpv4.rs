use super::{EchoRepr, IcmpPacket, IcmpType};
use crate::checksum::{Sum, checksum};

/// The type of an ICMP message (IANA ICMP type numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Icmpv4Type(pub u8);

impl Icmpv4Type {
    /// Echo reply (RFC 792).
    pub const ECHO_REPLY: Icmpv4Type = Icmpv4Type(0);
    /// Destination unreachable (RFC 792); code 4 is "fragmentation needed" (RFC 1191).
    pub const DESTINATION_UNREACHABLE: Icmpv4Type = Icmpv4Type(3);
    /// Redirect (RFC 792).
    pub const REDIRECT: Icmpv4Type = Icmpv4Type(5);
    /// Echo request (RFC 792).
    pub const ECHO_REQUEST: Icmpv4Type = Icmpv4Type(8);
    /// Router advertisement (RFC 1256).
    pub const ROUTER_ADVERTISEMENT: Icmpv4Type = Icmpv4Type(9);
    /// Time exceeded (RFC 792).
    pub const TIME_EXCEEDED: Icmpv4Type = Icmpv4Type(11);
}

impl IcmpType for Icmpv4Type {
    const LEAST: usize = DATA;
    const ECHO_REQUEST: Icmpv4Type = Icmpv4Type::ECHO_REQUEST;
    const ECHO_REPLY: Icmpv4Type = Icmpv4Type::ECHO_REPLY;

    #[inline]
    fn new(number: u8) -> Icmpv4Type {
        Icmpv4Type(number)
    }

    #[inline]
    fn number(self) -> u8 {
        self.0
    }
}

const DATA: usize = 8;

/// A view of an ICMP message (RFC 792). The octets end where the IP packet does.
pub type Icmpv4Packet<T> = IcmpPacket<T, Icmpv4Type>;

impl<T: AsRef<[u8]>> Icmpv4Packet<T> {
    /// True if the checksum is right.
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        Sum::new().add_octets(self.octets.as_ref()).is_valid()
    }

    /// Returns the octets behind the 8-octet header: an echo's data, or the packet that an error is about.
    #[inline]
    pub fn data(&self) -> &[u8] {
        &self.octets.as_ref()[DATA..]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Icmpv4Packet<T> {
    /// Computes the checksum and sets it.
    #[inline]
    pub fn fill_checksum(&mut self) {
        self.set_checksum(0);
        let sum = checksum(self.octets.as_ref());
        self.set_checksum(sum);
    }
}

impl EchoRepr {
    /// Writes an ICMP header with its checksum in front of the data, which is the rest of `octets`.
    ///
    /// # Panics
    /// If `octets` is shorter than 8.
    pub fn emit_v4(&self, octets: &mut [u8]) {
        self.emit::<Icmpv4Type>(octets).fill_checksum();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Malformed;
    use super::*;

    const REQUEST: [u8; 11] = [0x08, 0x00, 0x21, 0x60, 0x12, 0x34, 0x00, 0x09, b'a', b'b', b'c'];

    #[test]
    fn echo_request() {
        let packet = Icmpv4Packet::new_checked(&REQUEST).unwrap();

        assert_eq!((packet.message_type(), packet.code()), (Icmpv4Type::ECHO_REQUEST, 0));
        assert!(packet.verify_checksum());
        assert_eq!(packet.echo(), Some(EchoRepr { reply: false, identifier: 0x1234, sequence: 9 }));
        assert_eq!(packet.data(), b"abc");
    }

    #[test]
    fn emit_writes_what_parse_read() {
        let mut octets = [0xff; 11];
        octets[8..].copy_from_slice(b"abc");
        EchoRepr { reply: false, identifier: 0x1234, sequence: 9 }.emit_v4(&mut octets);
        assert_eq!(octets, REQUEST);
    }

    #[test]
    fn request_turned_into_reply() {
        let mut packet = Icmpv4Packet::new_checked(REQUEST).unwrap();
        packet.set_message_type(Icmpv4Type::ECHO_REPLY);
        assert!(!packet.verify_checksum());
        packet.fill_checksum();
        assert!(packet.verify_checksum());
        assert!(packet.echo().unwrap().reply);
    }

    #[test]
    fn others_are_no_echo() {
        let packet = Icmpv4Packet::new_checked([3, 4, 0, 0, 0, 0, 0x05, 0xdc]).unwrap();
        assert_eq!(packet.echo(), None);
        assert_eq!(Icmpv4Packet::new_checked(&REQUEST[..7]).unwrap_err(), Malformed::Truncated);
    }
}
