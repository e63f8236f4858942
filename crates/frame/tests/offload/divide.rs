//! Frames of more than 64 KiB.

use vmlan_frame::offload::{BadOffload, SegmentError, divide, segment};
use vmlan_frame::wire::TcpFlags;
use vmlan_frame::{Batch, Offload, Pool, PoolSizes};

use crate::shape::*;

/// A frame whose IP header cannot tell its length, as Linux makes them, and its request.
fn long(shape: Shape, len: usize, mss: u16, with_option: bool) -> (Vec<u8>, Offload) {
    let mut octets = shape.unfinished(&payload(1000));
    octets.truncate(octets.len() - 1000);
    octets.extend(payload(len));
    let mut request = shape.request(mss);
    if shape.v6 {
        octets[18..20].fill(0);
        if with_option {
            octets[20] = 0;
            let rest = (octets.len() - 54 + 8) as u32;
            let option = [[6, 0, 0xc2, 4], rest.to_be_bytes()].concat();
            octets.splice(54..54, option);
            request.checksum_start += 8;
            request.header_len += 8;
        }
    } else {
        octets[16..18].fill(0);
    }
    (octets, request)
}

fn pool() -> Pool {
    Pool::new(PoolSizes { small: 512, large: 12, bulk: 0 })
}

/// Returns the sequence number, flags, identification and payload of each segment that goes out at last.
fn segments(octets: &[u8], request: Offload, v6: bool) -> Vec<(u32, u8, u16, Vec<u8>)> {
    let (pool, mut parts) = (pool(), Batch::new());
    divide(octets, request, &pool, &mut parts).expect("a good frame");
    let mut found = Vec::new();
    let transport = if v6 { 54 } else { 34 };
    for part in &parts {
        assert!(part.len() <= 14 + 65_535);
        let mut out = Batch::new();
        segment(part, &pool, &mut out).expect("a good request");
        found.extend(out.iter().map(|frame| {
            let octets = frame.octets();
            let tcp = &octets[transport..];
            let sequence = u32::from_be_bytes(tcp[4..8].try_into().unwrap());
            let identification = if v6 { 0 } else { u16::from_be_bytes([octets[18], octets[19]]) };
            (sequence, tcp[13], identification, tcp[20..].to_vec())
        }));
    }
    found
}

#[test]
fn the_segments_of_a_long_frame_are_those_of_one() {
    let flags = TcpFlags::CWR | TcpFlags::ACK | TcpFlags::PSH | TcpFlags::FIN;
    for (v6, option) in [(false, false), (true, false), (true, true)] {
        let shape = Shape { v6, flags, sequence: 0xffff_0000, ..if v6 { TCP6 } else { TCP4 } };
        let (octets, request) = long(shape, 200_000, 1400, option);
        let found = segments(&octets, request, v6);
        assert_eq!(found.len(), 143);
        let all = payload(200_000);
        for (index, (segment, expected)) in found.iter().zip(all.chunks(1400)).enumerate() {
            let sequence = 0xffff_0000_u32.wrapping_add(1400 * index as u32);
            let mut kept = TcpFlags::ACK;
            if index == 0 {
                kept = kept | TcpFlags::CWR;
            }
            if index == 142 {
                kept = kept | TcpFlags::PSH | TcpFlags::FIN;
            }
            let identification = if v6 { 0 } else { shape.identification.wrapping_add(index as u16) };
            assert_eq!(segment, &(sequence, kept.0 as u8, identification, expected.to_vec()), "{index}");
        }
    }
}

#[test]
fn what_is_no_long_frame_is_refused() {
    let (octets, request) = long(TCP6, 100_000, 1400, true);
    let refused = |octets: &[u8], request: Offload, expected: BadOffload| {
        let mut out = Batch::new();
        assert_eq!(divide(octets, request, &pool(), &mut out), Err(SegmentError::NotValid(expected)));
        assert!(out.is_empty());
    };
    let wrong = |at: usize| {
        let mut octets = octets.clone();
        octets[at] ^= 1;
        octets
    };
    // Version, next headers, option, length, and a length that the header should not tell.
    for at in [18, 54, 55, 56, 57, 61] {
        refused(&wrong(at), request, BadOffload::WrongHeaders);
    }
    for len in [0, 13, 14, 53, 60, 70, 82] {
        refused(&octets[..len], request, BadOffload::WrongHeaders);
    }
    refused(&octets, Offload { gso_type: 1, ..request }, BadOffload::WrongHeaders);
    refused(&octets, Offload { flags: 0, ..request }, BadOffload::MissingChecksum);
    refused(&octets, Offload { checksum_start: 54, ..request }, BadOffload::ChecksumPlace);
    refused(&octets, Offload { gso_size: 0, ..request }, BadOffload::SegmentSize(0));
    // Many parts, as each has as many of the smallest segments as a frame may: more than there are buffers.
    let mut out = Batch::new();
    let small = Offload { gso_size: 1, ..request };
    assert_eq!(divide(&octets, small, &pool(), &mut out), Err(SegmentError::NoBuffer));
}
