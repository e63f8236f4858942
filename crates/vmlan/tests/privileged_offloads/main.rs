//! Case 8: what the kernel makes of a segmentation frame and what we make of it are the same octets.
//!
//! A bridge joins two TAPs. A frame with a virtio-net header is written into one; the other takes no offloads, so the
//! kernel finishes checksums and segments before it can be read there.

mod lab;
#[path = "../../../frame/tests/offload/shape.rs"]
mod shape;

use testbed::require;
use vmlan_frame::offload::{Coalescer, Takes, finish_checksum, segment, segment_partial};
use vmlan_frame::wire::TcpFlags;
use vmlan_frame::{Batch, Frame, Offload, Pool};

use lab::Lab;
use shape::*;

/// The frame that its sender leaves to be cut.
#[track_caller]
fn whole(pool: &Pool, shape: &Shape, len: usize, request: Offload) -> Frame {
    with_request(pool, &shape.unfinished(&payload(len)), request)
}

fn octets(batch: &Batch) -> Vec<Vec<u8>> {
    batch.iter().map(|frame| frame.octets().to_vec()).collect()
}

/// Compares one kind of frame in several sizes.
#[track_caller]
fn same_segments(lab: &Lab, shape: &Shape, gso_type: u8) {
    for (len, size) in [(2500, 1000), (3000, 1000), (40_001, 1448), (1025, 512), (60_000, 1448)] {
        let pool = pool();
        let request = Offload { gso_type, ..shape.request(size) };
        let whole = whole(&pool, shape, len, request);
        let mut ours = Batch::new();
        segment(&whole, &pool, &mut ours).expect("enough buffers");
        let kernels = lab.through(&whole);
        assert_eq!(kernels.len(), ours.len(), "{shape:?}: segments of {len} octets by {size}");
        for (index, (kernels, ours)) in kernels.iter().zip(&ours).enumerate() {
            assert_eq!(ours.octets(), kernels, "{shape:?}: segment {index} of {len} octets by {size}");
        }
    }
}

#[test]
fn case_8_segments_are_the_kernels_tcp() {
    require!(namespaces());
    let lab = Lab::new();
    let flags = TcpFlags::CWR | TcpFlags::ECE | TcpFlags::PSH | TcpFlags::FIN;
    for shape in [
        TCP4,
        Shape { dont_fragment: true, ..TCP4 },
        Shape { flags, ..TCP4 },
        Shape { sequence: 0xffff_f000, tcp_options: TIMESTAMPS, ..TCP4 },
        Shape { ip_options: PADDING_OPTIONS, ..TCP4 },
        Shape { tags: TAG, ..TCP4 },
        Shape { tags: QINQ, ..TCP4 },
        TCP6,
        Shape { flags, tcp_options: TIMESTAMPS, ..TCP6 },
        Shape { extensions: 2, ..TCP6 },
        Shape { tags: TAG, extensions: 1, ..TCP6 },
    ] {
        same_segments(&lab, &shape, shape.request(0).gso_type);
    }
}

#[test]
fn case_8_segments_are_the_kernels_udp_datagrams() {
    require!(namespaces());
    let lab = Lab::new();
    for shape in [
        UDP4,
        Shape { ip_options: PADDING_OPTIONS, ..UDP4 },
        Shape { tags: TAG, ..UDP4 },
        UDP6,
        Shape { extensions: 2, ..UDP6 },
    ] {
        same_segments(&lab, &shape, Offload::UDP);
    }
}

#[test]
fn case_8_segments_are_the_kernels_udp_fragments() {
    require!(namespaces());
    let lab = Lab::new();
    for shape in [UDP4, Shape { ip_options: PADDING_OPTIONS, ..UDP4 }, Shape { tags: TAG, ..UDP4 }] {
        same_segments(&lab, &shape, Offload::UDP_FRAGMENTS);
    }
}

#[test]
fn case_8_checksums_are_the_kernels() {
    require!(namespaces());
    let lab = Lab::new();
    for shape in [TCP4, TCP6, UDP4, UDP6, Shape { tags: TAG, ..TCP4 }, Shape { extensions: 1, ..UDP6 }] {
        for len in [0, 1, 100, 1399] {
            let pool = pool();
            let request = Offload { gso_type: 0, ..shape.request(0) };
            let mut frame = whole(&pool, &shape, len, request);
            let kernels = lab.through(&frame);
            let request = frame.meta.offload;
            finish_checksum(frame.make_mut(&pool).expect("a buffer"), &request);
            assert_eq!(kernels, [frame.octets()], "{shape:?} {len}");
        }
    }
}

/// Segments that still need their checksum finished are finished by the kernel to complete ones.
#[test]
fn partial_segments_are_taken_by_the_kernel() {
    require!(namespaces());
    let lab = Lab::new();
    for shape in [TCP4, TCP6, UDP4, UDP6] {
        let pool = pool();
        let whole = whole(&pool, &shape, 5000, shape.request(1000));
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
    let plain = Shape { flags: TcpFlags::PSH, tcp_options: TIMESTAMPS, ..TCP4 };
    for shape in [
        plain,
        Shape { flags: TcpFlags::CWR | TcpFlags::PSH, ..plain },
        Shape { v6: true, ..plain },
        UDP4,
        UDP6,
    ] {
        let pool = pool();
        let mut batch = Batch::new();
        let whole = whole(&pool, &shape, 20_000, shape.request(1400));
        segment(&whole, &pool, &mut batch).expect("enough buffers");
        let segments = octets(&batch);
        assert_eq!(Coalescer::new().coalesce(&mut batch, &pool, Takes::ALL), segments.len() - 1, "{shape:?}");
        let merged = batch.iter().next().expect("one frame");
        assert_eq!(lab.through(merged), segments, "{shape:?}");
    }
}
