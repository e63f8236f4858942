use proptest::prelude::*;

use vmlan_frame::checksum::Addresses;
use vmlan_frame::offload::{
    BadOffload, MAX_SEGMENTS, SegmentError, VIRTIO_HEADER, finish_checksum, segment, segment_partial,
    validate,
};
use vmlan_frame::wire::{IpProtocol, Ipv4Packet, TcpFlags, TcpSegment};
use vmlan_frame::{Batch, Meta, Offload, Pool, PoolSizes, TrafficClass, VlanTag};

use crate::shape::*;

fn segments(octets: &[u8], request: Offload) -> Vec<Vec<u8>> {
    let pool = pool();
    let mut out = Batch::new();
    let count = segment(&with_request(&pool, octets, request), &pool, &mut out).unwrap();
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
    let octets = TCP4.whole(&payload(1000));
    assert_eq!(segments(&octets, TCP4.request(1000)), [octets]);
}

/// Every kind of headers: the segments are what the emitters make of the pieces.
#[test]
fn segments_are_as_if_sent_one_by_one() {
    let cwr = TcpFlags::CWR | TcpFlags::ECE | TcpFlags::PSH;
    for shape in [
        TCP4,
        TCP6,
        UDP4,
        UDP6,
        Shape { flags: cwr, tcp_options: TIMESTAMPS, ..TCP4 },
        Shape { flags: cwr, tcp_options: TIMESTAMPS, ..TCP6 },
        Shape { ip_options: PADDING_OPTIONS, ..TCP4 },
        Shape { ip_options: PADDING_OPTIONS, ..UDP4 },
        Shape { extensions: 3, ..TCP6 },
        Shape { extensions: 1, ..UDP6 },
        Shape { tags: QINQ, ..TCP4 },
        Shape { tags: QINQ, extensions: 1, ..TCP6 },
        Shape { tunnel: true, ..TCP6 },
        Shape { tunnel: true, tags: QINQ, ip_options: PADDING_OPTIONS, extensions: 2, ..UDP6 },
        Shape { tunnel: true, ..TCP4 },
        Shape { identification: 0, dont_fragment: true, ..TCP4 },
        Shape { identification: 0, dont_fragment: true, ..UDP4 },
        Shape { identification: 0, ..TCP4 },
        Shape { identification: 7, dont_fragment: true, ..TCP4 },
        Shape { sequence: 0xffff_f000, ..TCP4 },
    ] {
        for (len, size) in
            [(2500, 1000), (3000, 1000), (513, 512), (100, 1), (4000, 48), (40_001, 1448), (20_000, 8948)]
        {
            let payload = payload(len);
            let found = segments(&shape.whole(&payload), shape.request(size as u16));
            assert!(found == shape.segments(&payload, size), "{shape:?} {len} {size}");
        }
    }
}

#[test]
fn partial_segments_are_finished_to_complete_ones() {
    for shape in [TCP4, TCP6, UDP4, UDP6, Shape { tags: QINQ, tcp_options: TIMESTAMPS, ..TCP4 }] {
        let (pool, mut out) = (pool(), Batch::new());
        let payload = payload(3001);
        let whole = with_request(&pool, &shape.whole(&payload), shape.request(1000));
        assert_eq!(segment_partial(&whole, &pool, &mut out), Ok(4));
        let expected = shape.segments(&payload, 1000);
        for (frame, expected) in out.iter_mut().zip(&expected) {
            let request = frame.meta.offload;
            assert_eq!(validate(frame.octets(), request), Ok(request));
            assert_ne!(frame.octets(), expected);
            finish_checksum(frame.make_mut(&pool).unwrap(), &request);
            assert_eq!(frame.octets(), expected);
        }
    }
}

/// UDP over IPv4 with a request for fragments, and its expected fragments: offset, MF, and payload.
fn fragments(shape: Shape, payload_len: usize, size: u16, change: impl Fn(&mut Vec<u8>)) -> Vec<Vec<u8>> {
    let mut octets = shape.whole(&payload(payload_len));
    change(&mut octets);
    let request = Offload { gso_type: Offload::UDP_FRAGMENTS, ..shape.request(size) };
    segments(&octets, request)
}

#[test]
fn fragments_of_a_datagram() {
    let shape = Shape { ip_options: PADDING_OPTIONS, tags: QINQ, ..UDP4 };
    let (at, transport) = (22, 46);
    // The checksum field holds what the sender put there; the sum must not depend on it.
    let found = fragments(shape, 2500, 1000, |octets| octets[transport + 6..transport + 8].fill(0xab));
    let whole = shape.whole(&payload(2500));
    let mut offset = 0;
    for (fragment, more) in found.iter().zip([true, true, false]) {
        let ip = Ipv4Packet::new_checked(&fragment[at..]).unwrap();
        assert!(ip.verify_checksum());
        assert_eq!(fragment.len(), at + usize::from(ip.total_length()));
        assert_eq!((ip.identification(), ip.dont_fragment()), (0xfffe, false));
        assert_eq!((usize::from(ip.fragment_offset()), ip.more_fragments()), (offset, more));
        assert!(ip.payload() == &whole[transport + offset..][..ip.payload().len()]);
        assert_eq!(&fragment[..at], &whole[..at]);
        offset += ip.payload().len();
    }
    assert_eq!((found.len(), offset), (3, 2508));
}

#[test]
fn fragments_keep_df_and_an_existing_offset() {
    // The middle of a datagram: DF, MF, and 4000 octets before it.
    let found = {
        let mut octets = UDP4.whole(&payload(1600));
        octets[20..22].copy_from_slice(&(0x6000u16 | 500).to_be_bytes());
        let request = Offload { gso_type: Offload::UDP_FRAGMENTS, ..UDP4.request(800) };
        segments(&octets, Offload { flags: 0, ..request })
    };
    let fields: Vec<_> = found
        .iter()
        .map(|fragment| {
            let ip = Ipv4Packet::new_checked(&fragment[14..]).unwrap();
            assert!(ip.verify_checksum());
            (ip.fragment_offset(), ip.more_fragments(), ip.dont_fragment(), ip.payload().len())
        })
        .collect();
    assert_eq!(fields, [(4000, true, true, 800), (4800, true, true, 800), (5600, true, true, 8)]);
}

#[test]
fn a_computed_udp_checksum_of_0_goes_out_as_ones() {
    let mut payload = payload(1024);
    // With a payload of ones' complement the sum of each datagram is 0xffff.
    let checksum = |payload: &[u8]| {
        let datagram = UDP4.whole(payload);
        u16::from_be_bytes([datagram[40], datagram[41]])
    };
    for piece in payload.chunks_mut(512) {
        piece[..2].fill(0);
        let sum = checksum(piece);
        piece[..2].copy_from_slice(&sum.to_be_bytes());
    }
    let found = segments(&UDP4.whole(&payload), UDP4.request(512));
    assert_eq!(found, UDP4.segments(&payload, 512));
    assert!(found.iter().all(|datagram| datagram[40..42] == [0xff, 0xff]));
}

#[test]
fn a_routing_header_takes_the_senders_pseudo_header() {
    // Type 4 with a segment left: the final receiver is not the one in the IPv6 header.
    let shape = Shape { extensions: 1, ..TCP6 };
    let with_routing = |mut octets: Vec<u8>| {
        octets[20] = 43;
        octets[54 + 2..54 + 4].copy_from_slice(&[4, 1]);
        octets
    };
    let final_receiver =
        Addresses::V6 { source: "fd00::1".parse().unwrap(), destination: "fd00::9".parse().unwrap() };
    let mut whole = with_routing(shape.whole(&payload(2500)));
    let length = (whole.len() - 62) as u32;
    let pseudo = final_receiver.pseudo_header(IpProtocol::TCP, length).fold();
    whole[62 + 16..62 + 18].copy_from_slice(&pseudo.to_be_bytes());
    for segment in segments(&whole, shape.request(1000)) {
        let tcp = TcpSegment::new_checked(&segment[62..]).unwrap();
        assert!(tcp.verify_checksum(&final_receiver));
    }
}

#[test]
fn meta_is_kept_and_the_source_is_not_changed() {
    let (octets, request) = case_1();
    let (pool, mut out) = (pool(), Batch::new());
    let mut whole = with_request(&pool, &octets, request);
    whole.meta.tag = Some(VlanTag { tci: 0x600a });
    whole.meta.class = TrafficClass::Voice;
    let shared = whole.clone();
    segment(&whole, &pool, &mut out).unwrap();
    assert!(out.iter().all(|frame| frame.meta == Meta { offload: Offload::NONE, ..shared.meta }));
    assert_eq!(shared.octets(), octets);
    drop((out, whole, shared));
    assert_eq!(pool.out(), 0);
}

#[test]
fn without_enough_buffers_nothing_is_made() {
    let whole = TCP4.whole(&payload(2500));
    for (small, large, bulk, enough) in
        [(2, 0, 0, false), (3, 0, 0, true), (2, 1, 0, true), (0, 0, 1, true), (0, 0, 0, false)]
    {
        let source = with_request(&pool(), &whole, TCP4.request(1000));
        let pool = Pool::new(PoolSizes { small, large, bulk });
        let mut out = Batch::new();
        let result = segment(&source, &pool, &mut out);
        assert_eq!(result.is_ok(), enough, "{small} {large} {bulk}");
        assert_eq!(result, if enough { Ok(3) } else { Err(SegmentError::NoBuffer) });
        assert_eq!(out.len(), if enough { 3 } else { 0 });
    }
}

#[test]
fn large_segments_share_a_large_buffer() {
    let pool = pool();
    let whole = with_request(&pool, &TCP4.whole(&payload(60_000)), TCP4.request(8948));
    let mut out = Batch::new();
    assert_eq!(segment(&whole, &pool, &mut out), Ok(7));
    assert_eq!(pool.out(), 2);
}

#[test]
fn a_request_that_does_not_fit_is_refused_again() {
    let (pool, mut out) = (pool(), Batch::new());
    let mut whole = with_request(&pool, &case_1().0, case_1().1);
    whole.meta.offload.gso_size = 3000;
    let refused = SegmentError::NotValid(BadOffload::SegmentSize(3000));
    assert_eq!(segment(&whole, &pool, &mut out), Err(refused));
    whole.meta.offload = Offload::NONE;
    assert_eq!(segment(&whole, &pool, &mut out), Err(SegmentError::NotValid(BadOffload::UnknownType(0))));
    assert!(out.is_empty());
}

/// Checks the segments of a frame that passed validation, whatever the frame looks like.
fn segment_anything(pool: &Pool, octets: &[u8], request: Offload) {
    let Ok(request) = validate(octets, request) else { return };
    if !request.is_segmentation() {
        let mut octets = octets.to_vec();
        return finish_checksum(&mut octets, &request);
    }
    let mut frame = pool.copy(octets).unwrap();
    frame.meta.offload = request;
    let mut out = Batch::new();
    let count = segment(&frame, pool, &mut out).unwrap();
    assert!((1..=MAX_SEGMENTS).contains(&count) && count == out.len());
    let longest = usize::from(request.header_len) + usize::from(request.gso_size);
    assert!(out.iter().all(|frame| frame.len() <= longest));
}

/// Every 16-bit value of each aligned word of the headers and of the request: no panic, at most so many segments.
fn every_value_of_every_field(shape: Shape) {
    let pool = pool();
    let octets = shape.whole(&payload(512));
    let request = shape.request(512);
    for at in (12..shape.header_len()).step_by(2) {
        let mut octets = octets.clone();
        for value in 0..=u16::MAX {
            octets[at..at + 2].copy_from_slice(&value.to_be_bytes());
            segment_anything(&pool, &octets, request);
        }
    }
    for at in (0..VIRTIO_HEADER).step_by(2) {
        let mut header = request.to_virtio();
        for value in 0..=u16::MAX {
            header[at..at + 2].copy_from_slice(&value.to_le_bytes());
            segment_anything(&pool, &octets, Offload::from_virtio(&header));
        }
    }
}

#[test]
fn case_7_every_value_of_every_field_over_ipv4() {
    every_value_of_every_field(Shape { flags: TcpFlags::CWR, ip_options: PADDING_OPTIONS, ..TCP4 });
}

#[test]
fn case_7_every_value_of_every_field_over_ipv6() {
    every_value_of_every_field(Shape { extensions: 1, tags: QINQ, ..UDP6 });
}

#[test]
fn case_7_every_value_of_every_field_in_a_tunnel() {
    every_value_of_every_field(Shape { tunnel: true, ..TCP6 });
}

#[test]
fn case_7_whole_packets_are_cut_into_small_segments() {
    let octets = TCP4.whole(&payload(65_495));
    assert_eq!(segments(&octets, TCP4.request(512)).len(), 128);
    let small = payload(36 * 512);
    assert_eq!(segments(&TCP4.whole(&small), TCP4.request(36)), TCP4.segments(&small, 36));
    let udp = UDP4.whole(&payload(65_507));
    assert_eq!(segments(&udp, UDP4.request(512)).len(), 128);
}

proptest! {
    #[test]
    fn arbitrary_requests(
        flags in 0u8..4,
        gso_type in prop::sample::select(vec![0u8, 1, 3, 4, 5, 0x81, 0x84]),
        header_len in 0u16..200,
        gso_size in 0u16..2000,
        checksum_start in prop::sample::select(vec![14u16, 34, 54, 60]),
        checksum_offset in prop::sample::select(vec![0u16, 2, 6, 16]),
        v6: bool,
        udp: bool,
        len in 0usize..6000,
    ) {
        let request = Offload { flags, gso_type, header_len, gso_size, checksum_start, checksum_offset };
        segment_anything(&pool(), &Shape { v6, udp, ..TCP4 }.whole(&payload(len)), request);
    }
}
