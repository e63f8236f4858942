use std::net::Ipv4Addr;

use super::field::{array, put, u16_at};
use super::{EtherType, Malformed};
use crate::MacAddr;

/// The operation of an ARP packet: its question or answer (RFC 826, RFC 903).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ArpOperation(pub u16);

impl ArpOperation {
    /// A request for the hardware address that has the target protocol address.
    pub const REQUEST: ArpOperation = ArpOperation(1);
    /// The sender has its protocol address.
    pub const REPLY: ArpOperation = ArpOperation(2);
    /// A request for the protocol address that the target hardware has. (RARP)
    pub const REVERSE_REQUEST: ArpOperation = ArpOperation(3);
    /// The answer to a reverse request. (RARP)
    pub const REVERSE_REPLY: ArpOperation = ArpOperation(4);
}

const HARDWARE_TYPE: usize = 0;
const PROTOCOL_TYPE: usize = 2;
const HARDWARE_LEN: usize = 4;
const PROTOCOL_LEN: usize = 5;
const OPERATION: usize = 6;
const SENDER_HARDWARE: usize = 8;
const SENDER_PROTOCOL: usize = 14;
const TARGET_HARDWARE: usize = 18;
const TARGET_PROTOCOL: usize = 24;

/// "Ethernet (10Mb)" (RFC 1700).
const ETHERNET: u16 = 1;

/// A view of an ARP packet for IPv4 over Ethernet, 28 octets (RFC 826).
#[derive(Debug, Clone, Copy)]
pub struct ArpPacket<T> {
    octets: T,
}

impl<T: AsRef<[u8]>> ArpPacket<T> {
    /// Checks the length and that the packet is about IPv4 addresses on Ethernet. Padding may follow.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] below 28 octets, [`Malformed::Format`] for other kinds of addresses.
    #[inline]
    pub fn new_checked(octets: T) -> Result<Self, Malformed> {
        let packet = octets.as_ref();
        if packet.len() < ArpRepr::LEN {
            return Err(Malformed::Truncated);
        }
        if u16_at(packet, HARDWARE_TYPE) != ETHERNET
            || u16_at(packet, PROTOCOL_TYPE) != EtherType::IPV4.0
            || packet[HARDWARE_LEN] != 6
            || packet[PROTOCOL_LEN] != 4
        {
            return Err(Malformed::Format);
        }
        Ok(ArpPacket { octets })
    }

    /// The octets back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.octets
    }

    /// Request, reply or another.
    #[inline]
    pub fn operation(&self) -> ArpOperation {
        ArpOperation(u16_at(self.octets.as_ref(), OPERATION))
    }

    /// The sender's MAC address.
    #[inline]
    pub fn sender_hardware(&self) -> MacAddr {
        MacAddr::from_slice(&self.octets.as_ref()[SENDER_HARDWARE..])
    }

    /// The sender's IPv4 address; unspecified in a probe (RFC 5227).
    #[inline]
    pub fn sender_protocol(&self) -> Ipv4Addr {
        array::<4>(self.octets.as_ref(), SENDER_PROTOCOL).into()
    }

    /// The target's MAC address; means nothing in a request.
    #[inline]
    pub fn target_hardware(&self) -> MacAddr {
        MacAddr::from_slice(&self.octets.as_ref()[TARGET_HARDWARE..])
    }

    /// The target's IPv4 address.
    #[inline]
    pub fn target_protocol(&self) -> Ipv4Addr {
        array::<4>(self.octets.as_ref(), TARGET_PROTOCOL).into()
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> ArpPacket<T> {
    /// Sets what is asked or answered.
    #[inline]
    pub fn set_operation(&mut self, operation: ArpOperation) {
        put(self.octets.as_mut(), OPERATION, &operation.0.to_be_bytes());
    }

    /// Sets the sender's MAC address.
    #[inline]
    pub fn set_sender_hardware(&mut self, address: MacAddr) {
        put(self.octets.as_mut(), SENDER_HARDWARE, &address.0);
    }

    /// Sets the sender's IPv4 address.
    #[inline]
    pub fn set_sender_protocol(&mut self, address: Ipv4Addr) {
        put(self.octets.as_mut(), SENDER_PROTOCOL, &address.octets());
    }

    /// Sets the target's MAC address.
    #[inline]
    pub fn set_target_hardware(&mut self, address: MacAddr) {
        put(self.octets.as_mut(), TARGET_HARDWARE, &address.0);
    }

    /// Sets the target's IPv4 address.
    #[inline]
    pub fn set_target_protocol(&mut self, address: Ipv4Addr) {
        put(self.octets.as_mut(), TARGET_PROTOCOL, &address.octets());
    }
}

/// The fields of an ARP packet for IPv4 over Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArpRepr {
    /// Request, reply or another.
    pub operation: ArpOperation,
    /// The sender's MAC address.
    pub sender_hardware: MacAddr,
    /// The sender's IPv4 address.
    pub sender_protocol: Ipv4Addr,
    /// The target's MAC address, zero in a request.
    pub target_hardware: MacAddr,
    /// The target's IPv4 address.
    pub target_protocol: Ipv4Addr,
}

impl ArpRepr {
    /// Octets that [`ArpRepr::emit`] writes.
    pub const LEN: usize = 28;

    /// A request for `target`: from 0.0.0.0 a probe, from `target` an announcement (RFC 5227 sections 1.1 and 2.3).
    pub const fn request(mac: MacAddr, source: Ipv4Addr, target: Ipv4Addr) -> ArpRepr {
        ArpRepr {
            operation: ArpOperation::REQUEST,
            sender_hardware: mac,
            sender_protocol: source,
            target_hardware: MacAddr::ZERO,
            target_protocol: target,
        }
    }

    /// Reads the fields.
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(packet: &ArpPacket<T>) -> Self {
        ArpRepr {
            operation: packet.operation(),
            sender_hardware: packet.sender_hardware(),
            sender_protocol: packet.sender_protocol(),
            target_hardware: packet.target_hardware(),
            target_protocol: packet.target_protocol(),
        }
    }

    /// Writes the packet to the first 28 octets.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn emit(&self, octets: &mut [u8]) {
        put(octets, HARDWARE_TYPE, &ETHERNET.to_be_bytes());
        put(octets, PROTOCOL_TYPE, &EtherType::IPV4.0.to_be_bytes());
        put(octets, HARDWARE_LEN, &[6, 4]);
        put(octets, OPERATION, &self.operation.0.to_be_bytes());
        put(octets, SENDER_HARDWARE, &self.sender_hardware.0);
        put(octets, SENDER_PROTOCOL, &self.sender_protocol.octets());
        put(octets, TARGET_HARDWARE, &self.target_hardware.0);
        put(octets, TARGET_PROTOCOL, &self.target_protocol.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: [u8; 28] = [
        0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01, 0x52, 0x54, 0x00, 0x00, 0x00, 0x01, 0x0a, 0x00, 0x00,
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0a, 0x00, 0x00, 0x02,
    ];

    fn repr() -> ArpRepr {
        let mac = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
        ArpRepr::request(mac, Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2))
    }

    #[test]
    fn parse_and_emit() {
        assert_eq!(ArpRepr::parse(&ArpPacket::new_checked(REQUEST).unwrap()), repr());

        let mut octets = [0xff; 28];
        repr().emit(&mut octets);
        assert_eq!(octets, REQUEST);
    }

    #[test]
    fn setters_turn_a_request_into_its_reply() {
        let mut packet = ArpPacket::new_checked(REQUEST).unwrap();
        packet.set_operation(ArpOperation::REPLY);
        packet.set_sender_hardware(MacAddr([2, 0, 0, 0, 0, 9]));
        packet.set_sender_protocol(Ipv4Addr::new(10, 0, 0, 2));
        packet.set_target_hardware(MacAddr([0x52, 0x54, 0, 0, 0, 1]));
        packet.set_target_protocol(Ipv4Addr::new(10, 0, 0, 1));

        let reply = ArpRepr {
            operation: ArpOperation::REPLY,
            sender_hardware: MacAddr([2, 0, 0, 0, 0, 9]),
            sender_protocol: Ipv4Addr::new(10, 0, 0, 2),
            target_hardware: MacAddr([0x52, 0x54, 0, 0, 0, 1]),
            target_protocol: Ipv4Addr::new(10, 0, 0, 1),
        };
        assert_eq!(ArpRepr::parse(&packet), reply);
    }

    #[test]
    fn other_formats_and_short_packets_are_refused() {
        assert_eq!(ArpPacket::new_checked(&REQUEST[..27]).unwrap_err(), Malformed::Truncated);
        for at in [0, 1, 2, 3, 4, 5] {
            let mut octets = REQUEST;
            octets[at] ^= 1;
            assert_eq!(ArpPacket::new_checked(octets).unwrap_err(), Malformed::Format, "octet {at}");
        }
    }
}
