//! Frames for the tests, built layer by layer from inside out.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Offload, validate};
use crate::checksum::Addresses;
use crate::wire::{EtherType, IpProtocol, Ipv4Repr, Ipv6Repr, TcpFlags, TcpRepr, UdpRepr};
use crate::{Frame, Pool, PoolSizes};

pub const V4: Addresses =
    Addresses::V4 { source: Ipv4Addr::new(10, 0, 0, 1), destination: Ipv4Addr::new(10, 0, 0, 2) };
pub const V6: Addresses = Addresses::V6 {
    source: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
    destination: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
};

/// Octet *i* is *i*.
pub fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| i as u8).collect()
}

pub fn pool() -> Pool {
    Pool::new(PoolSizes { small: 256, large: 4, bulk: 1 })
}

pub fn tcp() -> TcpRepr<'static> {
    TcpRepr {
        source_port: 1000,
        destination_port: 2000,
        sequence: 0x0102_0304,
        acknowledgement: 5,
        flags: TcpFlags::ACK | TcpFlags::PSH | TcpFlags::FIN,
        window: 1024,
        urgent: 0,
        options: &[],
    }
}

/// A TCP segment with its checksum complete.
pub fn tcp_segment(repr: &TcpRepr<'_>, payload: &[u8], addresses: &Addresses) -> Vec<u8> {
    let mut octets = [&vec![0; repr.header_len()], payload].concat();
    repr.emit(&mut octets, addresses);
    octets
}

/// A UDP datagram with its checksum complete.
pub fn datagram(payload: &[u8], addresses: &Addresses) -> Vec<u8> {
    let mut octets = [&[0; 8], payload].concat();
    UdpRepr { source_port: 1000, destination_port: 2000 }.emit(&mut octets, addresses);
    octets
}

pub fn ipv4(protocol: IpProtocol) -> Ipv4Repr<'static> {
    Ipv4Repr {
        traffic_class: 0,
        identification: 0xfffe,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 64,
        protocol,
        source: Ipv4Addr::new(10, 0, 0, 1),
        destination: Ipv4Addr::new(10, 0, 0, 2),
        options: &[],
        payload_len: 0,
    }
}

pub fn ipv4_packet(repr: Ipv4Repr<'_>, payload: &[u8]) -> Vec<u8> {
    let repr = Ipv4Repr { payload_len: payload.len(), ..repr };
    let mut octets = [&vec![0; repr.header_len()], payload].concat();
    repr.emit(&mut octets);
    octets
}

/// An IPv6 packet; `next_header` is what the payload starts with.
pub fn ipv6_packet(next_header: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let Addresses::V6 { source, destination } = V6 else { unreachable!("it is one of IPv6") };
    let repr = Ipv6Repr {
        traffic_class: 0,
        flow_label: 0x12345,
        payload_len: payload.len() as u16,
        next_header,
        hop_limit: 64,
        source,
        destination,
    };
    let mut octets = [&[0; 40], payload].concat();
    repr.emit(&mut octets);
    octets
}

/// An extension header of 8 octets (options that are padding) in front of a payload.
pub fn extension(next_header: IpProtocol, payload: &[u8]) -> Vec<u8> {
    [&[next_header.0, 0, 1, 4, 0, 0, 0, 0], payload].concat()
}

pub fn ethernet(tags: &[u8], ethertype: EtherType, packet: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], tags, &ethertype.0.to_be_bytes(), packet].concat()
}

/// The request to cut `octets`, whose transport header starts at `start`.
pub fn request(gso_type: u8, gso_size: u16, start: usize) -> Offload {
    let tcp = matches!(gso_type & !Offload::ECN, Offload::TCPV4 | Offload::TCPV6);
    Offload {
        flags: Offload::NEEDS_CHECKSUM,
        gso_type,
        header_len: start as u16,
        gso_size,
        checksum_start: start as u16,
        checksum_offset: if tcp { 16 } else { 6 },
    }
}

/// A frame of `pool` with its request validated.
///
/// # Panics
/// When the request is refused.
pub fn frame(pool: &Pool, octets: &[u8], request: Offload) -> Frame {
    let mut frame = pool.copy(octets).expect("the pool is large enough");
    frame.meta.offload = validate(octets, request).expect("a good request");
    frame
}

/// Case 1's frame and request: 2500 octets of payload, to be cut at 1000.
pub fn case_1() -> (Vec<u8>, Offload) {
    let segment = tcp_segment(&tcp(), &payload(2500), &V4);
    let octets = ethernet(&[], EtherType::IPV4, &ipv4_packet(ipv4(IpProtocol::TCP), &segment));
    (octets, request(Offload::TCPV4, 1000, 34))
}
