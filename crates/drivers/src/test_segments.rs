//! A frame for tests of drivers, those within the crate and those beside it.

use std::net::Ipv4Addr;

use vmlan_frame::Offload;
use vmlan_frame::checksum::Addresses;
use vmlan_frame::wire::{IpProtocol, Ipv4Repr, TcpFlags, TcpRepr};

/// Segments of TCP in one frame with this many octets of data, and their request.
pub(crate) fn segments(payload: usize) -> (Vec<u8>, Offload) {
    let (source, destination) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let tcp = TcpRepr {
        source_port: 1,
        destination_port: 2,
        sequence: 3,
        acknowledgement: 4,
        flags: TcpFlags::ACK,
        window: 5,
        urgent: 0,
        options: &[],
    };
    let mut segment: Vec<u8> = (0..tcp.header_len() + payload).map(|i| (i % 251) as u8).collect();
    tcp.emit(&mut segment, &Addresses::V4 { source, destination });
    let ip = Ipv4Repr {
        traffic_class: 0,
        identification: 1,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 64,
        protocol: IpProtocol::TCP,
        source,
        destination,
        payload_len: segment.len(),
        options: &[],
    };
    let mut packet = vec![0; ip.header_len()];
    ip.emit(&mut packet);
    let frame = [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0][..], &packet, &segment].concat();
    let request = Offload {
        flags: Offload::NEEDS_CHECKSUM,
        gso_type: Offload::TCPV4,
        header_len: 54,
        gso_size: 1000,
        checksum_start: 34,
        checksum_offset: 16,
    };
    (frame, request)
}
