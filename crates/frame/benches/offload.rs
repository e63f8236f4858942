//! The cost of meeting offload requests: checks on entry, finishing checksums, segmentation and coalescing.
//!
//! Beside segmentation and coalescing stands a plain copy of the same octets, which is what the machine needs at least.
//! Coalescing of batches in which nothing can be merged is what every batch pays toward a port that takes offloads.

#[path = "../tests/offload/shape.rs"]
mod shape;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use vmlan_frame::offload::{Coalescer, Takes, finish_checksum, segment, segment_partial, validate};
use vmlan_frame::wire::TcpFlags;
use vmlan_frame::{Batch, Frame, Offload, Pool, PoolSizes};

use shape::*;

const PLAIN: Shape = Shape { flags: TcpFlags(0), tcp_options: TIMESTAMPS, ..TCP4 };
const PLAIN6: Shape = Shape { v6: true, ..PLAIN };

/// A payload that makes an IP packet of nearly 64 KiB of segments of 1448 octets.
const LARGE: usize = 45 * 1448;

fn checksum_only(shape: &Shape) -> Offload {
    Offload { gso_type: 0, header_len: 0, ..shape.request(0) }
}

fn entry(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("validate");
    for (name, shape, len, segmentation) in [
        ("nothing", PLAIN, 1448, false),
        ("checksum, TCP over IPv4", PLAIN, 1448, false),
        ("checksum, TCP over IPv6", PLAIN6, 1448, false),
        ("segmentation, TCP over IPv4", PLAIN, LARGE, true),
        ("segmentation, TCP over IPv6", PLAIN6, LARGE, true),
    ] {
        let octets = shape.unfinished(&payload(len));
        let request = match (name, segmentation) {
            ("nothing", _) => Offload::NONE,
            (_, true) => shape.request(1448),
            (_, false) => checksum_only(&shape),
        };
        assert!(validate(&octets, request).is_ok());
        group.bench_function(name, |bencher| {
            bencher.iter(|| validate(black_box(&octets), black_box(request)));
        });
    }
    group.finish();
}

fn finishing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("finish checksum");
    for len in [6, 1448, 8948] {
        let mut octets = PLAIN.unfinished(&payload(len));
        let request = checksum_only(&PLAIN);
        group.throughput(Throughput::Bytes(octets.len() as u64));
        group.bench_function(format!("{} octets", octets.len()), |bencher| {
            bencher.iter(|| finish_checksum(black_box(&mut octets), &request));
        });
    }
    group.finish();
}

fn segmentation(criterion: &mut Criterion) {
    let pool = Pool::new(PoolSizes::default());
    let mut out = Batch::new();
    let mut group = criterion.benchmark_group("segment");
    for (name, shape, size) in [
        ("TCP over IPv4 by 1448", PLAIN, 1448),
        ("TCP over IPv6 by 1428", PLAIN6, 1428),
        ("TCP over IPv4 by 8948", PLAIN, 8948),
        ("TCP over IPv4 by 512", PLAIN, 512),
        ("UDP over IPv4 by 1448", UDP4, 1448),
    ] {
        let octets = shape.unfinished(&payload(LARGE));
        let whole = with_request(&pool, &octets, shape.request(size));
        group.throughput(Throughput::Bytes(octets.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                segment(black_box(&whole), &pool, &mut out).expect("enough buffers");
                out.clear();
            });
        });
    }
    let octets = PLAIN.unfinished(&payload(LARGE));
    let whole = with_request(&pool, &octets, PLAIN.request(1448));
    group.throughput(Throughput::Bytes(octets.len() as u64));
    group.bench_function("partial checksums, by 1448", |bencher| {
        bencher.iter(|| {
            segment_partial(black_box(&whole), &pool, &mut out).expect("enough buffers");
            out.clear();
        });
    });
    group.bench_function("a plain copy in pieces of 1448", |bencher| {
        bencher.iter(|| {
            for piece in black_box(&octets).chunks(1448) {
                out.push(pool.copy(piece).expect("a buffer"));
            }
            out.clear();
        });
    });
    group.finish();
}

/// `rounds` times coalescing a batch of these frames, which share their buffers with those of the next round.
fn coalesce(frames: &[Frame], pool: &Pool, rounds: u64) -> Duration {
    let mut coalescer = Coalescer::new();
    let mut spent = Duration::ZERO;
    for _ in 0..rounds {
        let mut batch = Batch::from_iter(frames.iter().cloned());
        let start = Instant::now();
        coalescer.coalesce(black_box(&mut batch), pool, Takes::ALL);
        spent += start.elapsed();
    }
    spent
}

fn coalescing(criterion: &mut Criterion) {
    let pool = Pool::new(PoolSizes::default());
    let flow = |port: u16, shape: Shape, segments: usize| {
        Shape { source_port: port, ..shape }.segments(&payload(segments * 1448), 1448)
    };
    let of_flows = |flows: u16, shape: Shape| -> Vec<Vec<u8>> {
        let flows: Vec<_> = (0..flows).map(|port| flow(port, shape, 64 / usize::from(flows))).collect();
        // One frame of each in turn.
        (0..flows[0].len()).flat_map(|index| flows.iter().map(move |flow| flow[index].clone())).collect()
    };
    let short = PLAIN.segments(&payload(64 * 6), 6);
    let acknowledgements = vec![PLAIN.whole(&[]); 64];
    let hole = of_flows(1, PLAIN).into_iter().step_by(2).cycle().take(64).collect();
    let mut group = criterion.benchmark_group("coalesce");
    for (name, frames) in [
        ("64 TCP segments of one flow", of_flows(1, PLAIN)),
        ("64 TCP segments of 8 flows", of_flows(8, PLAIN)),
        ("64 TCP segments over IPv6", of_flows(1, PLAIN6)),
        ("64 datagrams", of_flows(1, UDP4)),
        ("nothing: 64 short frames", short),
        ("nothing: 64 acknowledgements", acknowledgements),
        ("nothing: 64 flows", of_flows(64, PLAIN)),
        ("nothing: a hole before each", hole),
    ] {
        let octets: usize = frames.iter().map(Vec::len).sum();
        let frames: Vec<_> = frames.iter().map(|octets| pool.copy(octets).expect("a buffer")).collect();
        group.throughput(Throughput::Bytes(octets as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| coalesce(&frames, &pool, rounds));
        });
    }
    let octets = payload(64 * 1514);
    let mut copy = octets.clone();
    group.throughput(Throughput::Bytes(octets.len() as u64));
    group.bench_function("a plain copy of 64 frames", |bencher| {
        bencher.iter(|| black_box(&mut copy).copy_from_slice(black_box(&octets)));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    entry(&mut criterion);
    finishing(&mut criterion);
    segmentation(&mut criterion);
    coalescing(&mut criterion);
    criterion.final_summary();
}
