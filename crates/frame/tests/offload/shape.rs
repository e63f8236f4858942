//! Frames for tests, built layer by layer with the emitters of [`vmlan_frame::wire`], which know nothing of
//! segmentation. Shared by the tests of this crate, the differential test against the kernel, and the fuzz targets.

#![allow(dead_code, reason = "everyone uses a part of it")]

use std::net::{Ipv4Addr, Ipv6Addr};

use vmlan_frame::checksum::Addresses;
use vmlan_frame::offload::validate;
use vmlan_frame::wire::{EtherType, IpProtocol, Ipv4Repr, Ipv6Repr, TcpFlags, TcpRepr, UdpRepr};
use vmlan_frame::{Frame, Offload, Pool, PoolSizes};

const SOURCE_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const DESTINATION_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const DESTINATION_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

pub const V4: Addresses = Addresses::V4 { source: SOURCE_V4, destination: DESTINATION_V4 };
pub const V6: Addresses = Addresses::V6 { source: SOURCE_V6, destination: DESTINATION_V6 };

/// 802.1Q with priority 3, VLAN 10.
pub const TAG: &[u8] = &[0x81, 0x00, 0x60, 0x0a];
/// 802.1Q within 802.1ad.
pub const QINQ: &[u8] = &[0x88, 0xa8, 0x00, 0x64, 0x81, 0x00, 0x20, 0x0a];
/// Three NOPs and an end, in IPv4 and in TCP.
pub const PADDING_OPTIONS: &[u8] = &[1, 1, 1, 0];
/// TCP timestamps, as Linux sends them.
pub const TIMESTAMPS: &[u8] = &[1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9];

/// A kind of segment. Segments of one frame differ in payload and in what [`Shape::segment`] is told.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub tags: &'static [u8],
    /// In a tunnel in IPv4.
    pub tunnel: bool,
    pub v6: bool,
    pub udp: bool,
    pub ip_options: &'static [u8],
    /// How many extension headers of 8 octets stand after the IPv6 header.
    pub extensions: usize,
    pub tcp_options: &'static [u8],
    pub identification: u16,
    pub dont_fragment: bool,
    /// Beside ACK on all, CWR on the first, PSH and FIN on the last.
    pub flags: TcpFlags,
    pub ttl: u8,
    pub source_port: u16,
    pub sequence: u32,
    pub acknowledgement: u32,
}

/// Case 1's.
pub const TCP4: Shape = Shape {
    tags: &[],
    tunnel: false,
    v6: false,
    udp: false,
    ip_options: &[],
    extensions: 0,
    tcp_options: &[],
    identification: 0xfffe,
    dont_fragment: false,
    flags: TcpFlags(TcpFlags::FIN.0 | TcpFlags::PSH.0),
    ttl: 64,
    source_port: 1000,
    sequence: 0x0102_0304,
    acknowledgement: 5,
};
pub const TCP6: Shape = Shape { v6: true, ..TCP4 };
pub const UDP4: Shape = Shape { udp: true, ..TCP4 };
pub const UDP6: Shape = Shape { udp: true, v6: true, ..TCP4 };

/// Which segment of a frame it is: payload octets before it, segments before it, and whether it is the last.
#[derive(Clone, Copy)]
pub struct Place {
    pub offset: usize,
    pub index: usize,
    pub last: bool,
}

impl Shape {
    /// The whole segment, as if nothing had been left to be done.
    pub fn segment(&self, place: Place, payload: &[u8]) -> Vec<u8> {
        let identification = match (self.identification, self.dont_fragment) {
            (0, true) => 0,
            (first, _) => first.wrapping_add(place.index as u16),
        };
        let transport = self.transport(place, payload);
        let mut packet = if self.v6 { self.ipv6(transport) } else { self.ipv4(identification, transport) };
        if self.tunnel {
            let protocol = if self.v6 { IpProtocol::IPV6 } else { IpProtocol::IPV4 };
            let outer = Ipv4Repr { identification, ..self.ipv4_repr(protocol) };
            packet = ipv4_packet(outer, &packet);
        }
        let ethertype = if self.v6 && !self.tunnel { EtherType::IPV6 } else { EtherType::IPV4 };
        ethernet(self.tags, ethertype, &packet)
    }

    /// The frame that holds all segments, before it is cut.
    pub fn whole(&self, payload: &[u8]) -> Vec<u8> {
        self.segment(Place { offset: 0, index: 0, last: true }, payload)
    }

    /// That frame as its sender leaves it: the checksum field holds the sum of the pseudo header.
    pub fn unfinished(&self, payload: &[u8]) -> Vec<u8> {
        let mut octets = self.whole(payload);
        let start = self.transport_offset();
        let length = (octets.len() - start) as u32;
        let pseudo = self.addresses().pseudo_header(self.protocol(), length).fold();
        let field = start + if self.udp { 6 } else { 16 };
        octets[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
        octets
    }

    /// The segments of that frame.
    pub fn segments(&self, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
        let last = payload.len().div_ceil(size) - 1;
        let pieces = payload.chunks(size).enumerate();
        pieces
            .map(|(index, piece)| {
                self.segment(Place { offset: index * size, index, last: index == last }, piece)
            })
            .collect()
    }

    /// Where the transport header starts.
    pub fn transport_offset(&self) -> usize {
        let ip = if self.v6 { 40 + 8 * self.extensions } else { 20 + self.ip_options.len() };
        let outer = if self.tunnel { 20 + self.ip_options.len() } else { 0 };
        14 + self.tags.len() + outer + ip
    }

    pub fn header_len(&self) -> usize {
        self.transport_offset() + if self.udp { 8 } else { 20 + self.tcp_options.len() }
    }

    /// The canonical request to cut the frame.
    pub fn request(&self, gso_size: u16) -> Offload {
        let gso_type = match (self.udp, self.v6) {
            (true, _) => Offload::UDP,
            (false, false) => Offload::TCPV4,
            (false, true) => Offload::TCPV6,
        };
        let ecn = !self.udp && self.flags.contains(TcpFlags::CWR);
        Offload {
            flags: Offload::NEEDS_CHECKSUM,
            gso_type: gso_type | if ecn { Offload::ECN } else { 0 },
            header_len: self.header_len() as u16,
            gso_size,
            checksum_start: self.transport_offset() as u16,
            checksum_offset: if self.udp { 6 } else { 16 },
        }
    }

    pub fn addresses(&self) -> &'static Addresses {
        if self.v6 { &V6 } else { &V4 }
    }

    fn transport(&self, place: Place, payload: &[u8]) -> Vec<u8> {
        let (source_port, destination_port) = (self.source_port, 2000);
        if self.udp {
            let mut octets = [&[0; 8], payload].concat();
            UdpRepr { source_port, destination_port }.emit(&mut octets, self.addresses());
            return octets;
        }
        let mut flags = self.flags | TcpFlags::ACK;
        if place.index > 0 {
            flags = flags.without(TcpFlags::CWR);
        }
        if !place.last {
            flags = flags.without(TcpFlags::PSH | TcpFlags::FIN);
        }
        let repr = TcpRepr {
            source_port,
            destination_port,
            sequence: self.sequence.wrapping_add(place.offset as u32),
            acknowledgement: self.acknowledgement,
            flags,
            window: 1024,
            urgent: 0,
            options: self.tcp_options,
        };
        let mut octets = [&vec![0; repr.header_len()], payload].concat();
        repr.emit(&mut octets, self.addresses());
        octets
    }

    fn protocol(&self) -> IpProtocol {
        if self.udp { IpProtocol::UDP } else { IpProtocol::TCP }
    }

    fn ipv4_repr(&self, protocol: IpProtocol) -> Ipv4Repr<'static> {
        Ipv4Repr {
            traffic_class: 0,
            identification: self.identification,
            dont_fragment: self.dont_fragment,
            more_fragments: false,
            fragment_offset: 0,
            ttl: self.ttl,
            protocol,
            source: SOURCE_V4,
            destination: DESTINATION_V4,
            options: self.ip_options,
            payload_len: 0,
        }
    }

    fn ipv4(&self, identification: u16, payload: Vec<u8>) -> Vec<u8> {
        ipv4_packet(Ipv4Repr { identification, ..self.ipv4_repr(self.protocol()) }, &payload)
    }

    fn ipv6(&self, mut payload: Vec<u8>) -> Vec<u8> {
        let mut next_header = self.protocol();
        for _ in 0..self.extensions {
            // Six octets of PadN.
            payload = [&[next_header.0, 0, 1, 4, 0, 0, 0, 0], &payload[..]].concat();
            next_header = IpProtocol::DESTINATION_OPTIONS;
        }
        let repr = Ipv6Repr {
            traffic_class: 0,
            flow_label: 0x12345,
            payload_len: payload.len() as u16,
            next_header,
            hop_limit: self.ttl,
            source: SOURCE_V6,
            destination: DESTINATION_V6,
        };
        let mut octets = [&[0; 40], &payload[..]].concat();
        repr.emit(&mut octets);
        octets
    }
}

pub fn ipv4_packet(repr: Ipv4Repr<'_>, payload: &[u8]) -> Vec<u8> {
    let repr = Ipv4Repr { payload_len: payload.len(), ..repr };
    let mut octets = [&vec![0; repr.header_len()], payload].concat();
    repr.emit(&mut octets);
    octets
}

pub fn ethernet(tags: &[u8], ethertype: EtherType, packet: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], tags, &ethertype.0.to_be_bytes(), packet].concat()
}

/// Octet *i* is *i*.
pub fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| i as u8).collect()
}

pub fn pool() -> Pool {
    Pool::new(PoolSizes { small: 256, large: 4, bulk: 1 })
}

/// A frame of `pool` with its request validated.
///
/// # Panics
/// When the request is refused.
pub fn with_request(pool: &Pool, octets: &[u8], request: Offload) -> Frame {
    let mut frame = pool.copy(octets).expect("the pool is large enough");
    frame.meta.offload = validate(octets, request).expect("a good request");
    frame
}

/// Case 1's frame and request: 2500 octets of payload, to be cut at 1000.
pub fn case_1() -> (Vec<u8>, Offload) {
    (TCP4.whole(&payload(2500)), TCP4.request(1000))
}
