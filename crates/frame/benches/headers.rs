//! The cost of looking at a frame: finding its headers, and checksums over it.
//!
//! Beside the checksum stands what the processor can do with the same octets: reading all of them, added up as 64-bit
//! words without carries.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use vmlan_frame::MacAddr;
use vmlan_frame::checksum::checksum;
use vmlan_frame::wire::{EthernetFrame, Headers};

const LENGTHS: [usize; 4] = [64, 1500, 9000, 65_536];

/// An Ethernet header with these tags and this type, in front of a packet.
fn frame(tags: &[u8], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], tags, &ethertype.to_be_bytes(), packet].concat()
}

fn tcp(payload: usize) -> Vec<u8> {
    let mut segment = vec![0; 20 + payload];
    segment[..4].copy_from_slice(&[0x03, 0xe8, 0x07, 0xd0]);
    segment[12] = 5 << 4;
    segment
}

fn ipv4(payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&((20 + payload.len()) as u16).to_be_bytes());
    packet[8..10].copy_from_slice(&[64, 6]);
    packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// With a hop-by-hop options header in front of TCP.
fn ipv6(payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
    packet[6..8].copy_from_slice(&[0, 64]);
    packet[8] = 0xfd;
    packet[24] = 0xfd;
    packet.extend([6, 0, 1, 4, 0, 0, 0, 0]);
    packet.extend(payload);
    packet
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    let cases = [
        ("addresses", frame(&[], 0x88b5, &[0; 46])),
        ("ipv4 tcp 64", frame(&[], 0x0800, &ipv4(&tcp(10)))),
        ("ipv4 tcp 1514", frame(&[], 0x0800, &ipv4(&tcp(1460)))),
        ("two tags ipv4 tcp", frame(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6], 0x0800, &ipv4(&tcp(10)))),
        ("ipv6 hop-by-hop tcp", frame(&[], 0x86dd, &ipv6(&tcp(10)))),
    ];
    group.bench_function("switching", |bencher| {
        let octets = &cases[0].1;
        bencher.iter(|| {
            let frame = EthernetFrame::new_checked(black_box(octets.as_slice())).expect("an Ethernet header");
            let addresses: (MacAddr, MacAddr) = (frame.destination(), frame.source());
            black_box(addresses)
        });
    });
    for (name, octets) in &cases[1..] {
        group.bench_with_input(BenchmarkId::new("headers", name), octets, |bencher, octets| {
            bencher.iter(|| Headers::parse(black_box(octets)));
        });
    }
    group.finish();
}

fn sums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    for length in LENGTHS {
        let octets: Vec<u8> = (0..length).map(|i| i as u8).collect();
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_with_input(BenchmarkId::new("internet", length), &octets, |bencher, octets| {
            bencher.iter(|| checksum(black_box(octets)));
        });
        group.bench_with_input(BenchmarkId::new("reading alone", length), &octets, |bencher, octets| {
            bencher.iter(|| read(black_box(octets)));
        });
    }
    group.finish();
}

/// Adds all octets up as cheaply as can be, so that they are read.
fn read(octets: &[u8]) -> u64 {
    let (words, _) = octets.as_chunks::<8>();
    words.iter().fold(0, |sum: u64, word| sum.wrapping_add(u64::from_ne_bytes(*word)))
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    parse(&mut criterion);
    sums(&mut criterion);
    criterion.final_summary();
}
