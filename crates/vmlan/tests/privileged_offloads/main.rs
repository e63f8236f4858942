//! Case 8: what the kernel makes of a segmentation frame and what we make of it are the same octets.
//!
//! A bridge joins two TAPs. A frame with a virtio-net header is written into one; the other takes no offloads, so the
//! kernel finishes checksums and segments before it can be read there.

mod lab;
mod packets;

use frame::offload::{Coalescer, Takes, finish_checksum, segment, segment_partial, validate};
use frame::wire::{IpProtocol, TcpFlags};
use frame::{Batch, Frame, Offload, Pool, PoolSizes};
use testbed::require;

use lab::Lab;
use packets::{Packet, TIMESTAMPS, payload};

const TCP4: Packet = Packet::TCP4;
const TCP6: Packet = Packet::TCP6;
const UDP4: Packet = Packet { protocol: IpProtocol::UDP, ..TCP4 };
const UDP6: Packet = Packet { protocol: IpProtocol::UDP, ..TCP6 };

/// 802.1Q with priority 3, VLAN 10; and the same within 802.1ad.
const TAG: &[u8] = &[0x81, 0x00, 0x60, 0x0a];
const QINQ: &[u8] = &[0x88, 0xa8, 0x00, 0x64, 0x81, 0x00, 0x60, 0x0a];

fn pool() -> Pool {
    Pool::new(PoolSizes { small: 256, large: 4, bulk: 0 })
}

/// The frame that asks for segmentation, with its request validated.
#[track_caller]
fn whole(pool: &Pool, packet: &Packet, len: usize, request: Offload) -> Frame {
    let mut frame = pool.copy(&packet.with_pseudo_header(&payload(len))).expect("a buffer");
    frame.meta.offload = validate(frame.octets(), request).expect("a good request");
    frame
}

fn octets(batch: &Batch) -> Vec<Vec<u8>> {
    batch.iter().map(|frame| frame.octets().to_vec()).collect()
}

/// Compares one kind of packet in several sizes.
#[track_caller]
fn same_segments(lab: &Lab, what: &str, packet: &Packet, gso_type: u8) {
    for (len, size) in [(2500, 1000), (3000, 1000), (40_001, 1448), (1025, 512), (60_000, 1448)] {
        let pool = pool();
        let whole = whole(&pool, packet, len, packet.request(gso_type, size));
        let mut ours = Batch::new();
        segment(&whole, &pool, &mut ours).expect("enough buffers");
        let kernels = lab.through(&whole);
        assert_eq!(kernels.len(), ours.len(), "{what}: segments of {len} octets by {size}");
        for (index, (kernels, ours)) in kernels.iter().zip(&ours).enumerate() {
            assert_eq!(ours.octets(), kernels, "{what}: segment {index} of {len} octets by {size}");
        }
    }
}

#[test]
fn case_8_segments_are_the_kernels_tcp() {
    require!(namespaces());
    let lab = Lab::new();
    let ends = TcpFlags::CWR | TcpFlags::ECE | TcpFlags::PSH | TcpFlags::FIN;
    let ecn = Offload::TCPV4 | Offload::ECN;
    for (what, packet, gso_type) in [
        ("TCP over IPv4", TCP4, Offload::TCPV4),
        ("with DF", Packet { dont_fragment: true, ..TCP4 }, Offload::TCPV4),
        ("CWR, PSH and FIN", Packet { flags: ends, ..TCP4 }, ecn),
        ("TCP options", Packet { tcp_options: TIMESTAMPS, ..TCP4 }, Offload::TCPV4),
        ("IPv4 options", Packet { ip_options: &[1, 1, 1, 0], ..TCP4 }, Offload::TCPV4),
        ("a tag", Packet { tags: TAG, ..TCP4 }, Offload::TCPV4),
        ("two tags", Packet { tags: QINQ, ..TCP4 }, Offload::TCPV4),
        ("TCP over IPv6", TCP6, Offload::TCPV6),
        (
            "over IPv6 with flags and options",
            Packet { flags: ends, tcp_options: TIMESTAMPS, ..TCP6 },
            Offload::TCPV6 | Offload::ECN,
        ),
        ("IPv6 extension headers", Packet { extensions: 2, ..TCP6 }, Offload::TCPV6),
        ("IPv6, a tag", Packet { tags: TAG, extensions: 1, ..TCP6 }, Offload::TCPV6),
    ] {
        same_segments(&lab, what, &packet, gso_type);
    }
}

#[test]
fn case_8_segments_are_the_kernels_udp_datagrams() {
    require!(namespaces());
    let lab = Lab::new();
    for (what, packet) in [
        ("UDP over IPv4", UDP4),
        ("IPv4 options", Packet { ip_options: &[1, 1, 1, 0], ..UDP4 }),
        ("a tag", Packet { tags: TAG, ..UDP4 }),
        ("UDP over IPv6", UDP6),
        ("IPv6 extension headers", Packet { extensions: 2, ..UDP6 }),
    ] {
        same_segments(&lab, what, &packet, Offload::UDP);
    }
}

#[test]
fn case_8_segments_are_the_kernels_udp_fragments() {
    require!(namespaces());
    let lab = Lab::new();
    for (what, packet) in [
        ("UDP over IPv4", UDP4),
        ("IPv4 options", Packet { ip_options: &[1, 1, 1, 0], ..UDP4 }),
        ("a tag", Packet { tags: TAG, ..UDP4 }),
    ] {
        same_segments(&lab, what, &packet, Offload::UDP_FRAGMENTS);
    }
}

#[test]
fn case_8_checksums_are_the_kernels() {
    require!(namespaces());
    let lab = Lab::new();
    for packet in [TCP4, TCP6, UDP4, UDP6, Packet { tags: TAG, ..TCP4 }, Packet { extensions: 1, ..UDP6 }] {
        for len in [0, 1, 100, 1399] {
            let pool = pool();
            let request = Offload { gso_type: 0, ..packet.request(0, 0) };
            let mut frame = whole(&pool, &packet, len, request);
            let kernels = lab.through(&frame);
            let request = frame.meta.offload;
            finish_checksum(frame.make_mut(&pool).expect("a buffer"), &request);
            assert_eq!(kernels, [frame.octets()], "{packet:?} {len}");
        }
    }
}

/// Segments that still need their checksum finished are finished by the kernel to complete ones.
#[test]
fn partial_segments_are_taken_by_the_kernel() {
    require!(namespaces());
    let lab = Lab::new();
    for (packet, gso_type) in
        [(TCP4, Offload::TCPV4), (TCP6, Offload::TCPV6), (UDP4, Offload::UDP), (UDP6, Offload::UDP)]
    {
        let pool = pool();
        let whole = whole(&pool, &packet, 5000, packet.request(gso_type, 1000));
        let (mut partial, mut complete) = (Batch::new(), Batch::new());
        segment_partial(&whole, &pool, &mut partial).expect("enough buffers");
        segment(&whole, &pool, &mut complete).expect("enough buffers");
        let finished: Vec<_> = partial.iter().flat_map(|frame| lab.through(frame)).collect();
        assert_eq!(finished, octets(&complete));
    }
}

/// The kernel cuts a frame that was merged into the very frames of which it was merged.
#[test]
fn coalesced_frames_are_taken_by_the_kernel() {
    require!(namespaces());
    let lab = Lab::new();
    let plain = Packet { flags: TcpFlags::PSH, tcp_options: TIMESTAMPS, ..TCP4 };
    for (packet, gso_type) in [
        (plain, Offload::TCPV4),
        (Packet { flags: TcpFlags::CWR, ..plain }, Offload::TCPV4),
        (Packet { flags: TcpFlags::PSH, ..TCP6 }, Offload::TCPV6),
        (UDP4, Offload::UDP),
        (UDP6, Offload::UDP),
    ] {
        let pool = pool();
        let mut batch = Batch::new();
        let whole = whole(&pool, &packet, 20_000, packet.request(gso_type, 1400));
        segment(&whole, &pool, &mut batch).expect("enough buffers");
        let segments = octets(&batch);
        assert_eq!(
            Coalescer::new().coalesce(&mut batch, &pool, Takes::ALL),
            segments.len() - 1,
            "{packet:?}"
        );
        let merged = batch.iter().next().expect("one frame");
        assert_eq!(lab.through(merged), segments, "{packet:?}");
    }
}
