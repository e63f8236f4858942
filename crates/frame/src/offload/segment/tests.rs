use super::super::samples::*;
use super::*;
use crate::wire::{Ipv4Packet, TcpSegment};

fn segments(octets: &[u8], request: Offload) -> Vec<Vec<u8>> {
    let pool = pool();
    let mut out = Batch::new();
    let count = segment(&frame(&pool, octets, request), &pool, &mut out).unwrap();
    assert_eq!(count, out.len());
    assert!(out.iter().all(|frame| frame.meta.offload == Offload::NONE));
    out.iter().map(|frame| frame.octets().to_vec()).collect()
}

#[test]
fn case_1_tcp_over_ipv4() {
    let (octets, request) = case_1();
    let found: Vec<_> = segments(&octets, request)
        .iter()
        .map(|segment| {
            let ip = Ipv4Packet::new_checked(&segment[14..]).unwrap();
            let tcp = TcpSegment::new_checked(ip.payload()).unwrap();
            let sequence = tcp.sequence() - 0x0102_0304;
            let sums = (ip.checksum(), tcp.checksum());
            (segment.len(), ip.identification(), sums, sequence, tcp.flags().0, tcp.payload().to_vec())
        })
        .collect();
    let payload = payload(2500);
    assert_eq!(
        found,
        [
            (1054, 0xfffe, (0x62e7, 0xf2a3), 0, 0x10, payload[..1000].to_vec()),
            (1054, 0xffff, (0x62e6, 0xcd9a), 0x3e8, 0x10, payload[1000..2000].to_vec()),
            (554, 0x0000, (0x64da, 0xb883), 0x7d0, 0x19, payload[2000..].to_vec()),
        ]
    );
}

#[test]
fn case_2_payload_of_one_segment() {
    let (mut octets, request) = case_1();
    octets.truncate(1054);
    octets[16..18].copy_from_slice(&1040u16.to_be_bytes());
    let segments = segments(&octets, request);
    assert_eq!(segments.len(), 1);
    assert_eq!(segments[0].len(), 1054);
    let ip = Ipv4Packet::new_checked(&segments[0][14..]).unwrap();
    let tcp = TcpSegment::new_checked(ip.payload()).unwrap();
    assert!(ip.verify_checksum() && tcp.verify_checksum(&V4));
    assert_eq!((ip.identification(), tcp.flags().0), (0xfffe, 0x19));
}
