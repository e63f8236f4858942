//! Frames to be cut, built from inside out.

use std::net::{Ipv4Addr, Ipv6Addr};

use frame::Offload;
use frame::checksum::Addresses;
use frame::wire::{EtherType, IpProtocol, Ipv4Repr, Ipv6Repr, TcpFlags, TcpRepr, UdpRepr};

use crate::lab::SOURCE;

/// TCP timestamps, as Linux sends them.
pub const TIMESTAMPS: &[u8] = &[1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9];

const SOURCE_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const DESTINATION_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const DESTINATION_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

/// What a frame looks like besides its payload.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub tags: &'static [u8],
    pub v6: bool,
    pub protocol: IpProtocol,
    pub dont_fragment: bool,
    pub ip_options: &'static [u8],
    /// Destination options headers of 8 octets.
    pub extensions: usize,
    pub tcp_options: &'static [u8],
    /// Beside ACK.
    pub flags: TcpFlags,
}

impl Packet {
    pub const TCP4: Packet = Packet {
        tags: &[],
        v6: false,
        protocol: IpProtocol::TCP,
        dont_fragment: false,
        ip_options: &[],
        extensions: 0,
        tcp_options: &[],
        flags: TcpFlags(0),
    };
    pub const TCP6: Packet = Packet { v6: true, ..Packet::TCP4 };

    /// A frame whose checksum field holds the sum of the pseudo header.
    pub fn with_pseudo_header(&self, payload: &[u8]) -> Vec<u8> {
        let (mut transport, field) = self.transport(payload);
        let pseudo = self.addresses().pseudo_header(self.protocol, transport.len() as u32).fold();
        transport[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
        let (ethertype, packet) = if self.v6 {
            (EtherType::IPV6, self.ipv6(transport))
        } else {
            (EtherType::IPV4, self.ipv4(transport))
        };
        [&[2, 0, 0, 0, 0, 2], &SOURCE[..], self.tags, &ethertype.0.to_be_bytes(), &packet].concat()
    }

    /// The request to cut it.
    pub fn request(&self, gso_type: u8, gso_size: u16) -> Offload {
        let ip = if self.v6 { 40 + 8 * self.extensions } else { 20 + self.ip_options.len() };
        Offload {
            flags: Offload::NEEDS_CHECKSUM,
            gso_type,
            header_len: 0,
            gso_size,
            checksum_start: (14 + self.tags.len() + ip) as u16,
            checksum_offset: if self.protocol == IpProtocol::TCP { 16 } else { 6 },
        }
    }

    fn addresses(&self) -> Addresses {
        if self.v6 {
            Addresses::V6 { source: SOURCE_V6, destination: DESTINATION_V6 }
        } else {
            Addresses::V4 { source: SOURCE_V4, destination: DESTINATION_V4 }
        }
    }

    /// The transport header and payload, and where the checksum is.
    fn transport(&self, payload: &[u8]) -> (Vec<u8>, usize) {
        if self.protocol == IpProtocol::UDP {
            let mut octets = [&[0; 8], payload].concat();
            UdpRepr { source_port: 1000, destination_port: 2000 }.emit(&mut octets, &self.addresses());
            return (octets, 6);
        }
        let repr = TcpRepr {
            source_port: 1000,
            destination_port: 2000,
            sequence: 0xffff_f000,
            acknowledgement: 5,
            flags: self.flags | TcpFlags::ACK,
            window: 1024,
            urgent: 0,
            options: self.tcp_options,
        };
        let mut octets = [&vec![0; repr.header_len()], payload].concat();
        repr.emit(&mut octets, &self.addresses());
        (octets, 16)
    }

    fn ipv4(&self, payload: Vec<u8>) -> Vec<u8> {
        let repr = Ipv4Repr {
            traffic_class: 2,
            identification: 0xfffe,
            dont_fragment: self.dont_fragment,
            more_fragments: false,
            fragment_offset: 0,
            ttl: 64,
            protocol: self.protocol,
            source: SOURCE_V4,
            destination: DESTINATION_V4,
            options: self.ip_options,
            payload_len: payload.len(),
        };
        let mut octets = [&vec![0; repr.header_len()], &payload[..]].concat();
        repr.emit(&mut octets);
        octets
    }

    fn ipv6(&self, mut payload: Vec<u8>) -> Vec<u8> {
        let mut next_header = self.protocol;
        for _ in 0..self.extensions {
            // Six octets of PadN.
            payload = [&[next_header.0, 0, 1, 4, 0, 0, 0, 0], &payload[..]].concat();
            next_header = IpProtocol::DESTINATION_OPTIONS;
        }
        let repr = Ipv6Repr {
            traffic_class: 2,
            flow_label: 0x12345,
            payload_len: payload.len() as u16,
            next_header,
            hop_limit: 64,
            source: SOURCE_V6,
            destination: DESTINATION_V6,
        };
        let mut octets = [&[0; 40], &payload[..]].concat();
        repr.emit(&mut octets);
        octets
    }
}

/// Octet *i* is *i*.
pub fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| i as u8).collect()
}
