use proptest::prelude::*;
use proptest::sample::select;

use vmlan_frame::checksum::Sum;
use vmlan_frame::offload::{Coalescer, Takes};
use vmlan_frame::wire::{EtherType, Ipv4Packet, TcpFlags};
use vmlan_frame::{Frame, Offload, Pool, PoolSizes, VlanTag};

use crate::flows::*;
use crate::shape::*;

/// Merges the frames and says into how many octets each; cutting has to give the frames back.
fn coalesced(frames: &[Vec<u8>], takes: Takes) -> Vec<usize> {
    let pool = large_pool();
    let mut batch = batch(&pool, frames);
    let fewer = Coalescer::new().coalesce(&mut batch, &pool, takes);
    assert_eq!(batch.len() + fewer, frames.len());
    let back: Vec<_> = segmented(&batch, &pool).into_iter().map(|(octets, _)| octets).collect();
    assert!(back == frames);
    batch.iter().map(Frame::len).collect()
}

#[test]
fn case_9_segments_of_every_kind_become_one_frame() {
    let cwr = TcpFlags::CWR | TcpFlags::PSH | TcpFlags::ECE;
    for shape in [
        PLAIN,
        Shape { v6: true, ..PLAIN },
        UDP4,
        UDP6,
        Shape { flags: TcpFlags::PSH, tcp_options: TIMESTAMPS, ..PLAIN },
        Shape { flags: cwr, ..PLAIN },
        Shape { identification: 0, dont_fragment: true, ..PLAIN },
        Shape { identification: 0, ..UDP4 },
        Shape { identification: 7, dont_fragment: true, ..PLAIN },
        Shape { sequence: 0xffff_fc00, ..PLAIN },
    ] {
        for (len, size) in [(1024, 512), (2500, 1000), (40_000, 1448), (1025, 1024)] {
            let payload = payload(len);
            let pool = large_pool();
            let mut batch = batch(&pool, &shape.segments(&payload, size));
            let fewer = Coalescer::new().coalesce(&mut batch, &pool, Takes::ALL);
            assert_eq!((batch.len(), fewer), (1, len.div_ceil(size) - 1), "{shape:?} {len} {size}");
            let merged = batch.iter().next().unwrap();
            assert_eq!(merged.meta.offload, shape.request(size as u16));
            assert!(merged.octets()[shape.header_len()..] == payload[..]);
            let back = segmented(&batch, &pool);
            assert!(back.iter().map(|(octets, _)| octets).eq(&shape.segments(&payload, size)), "{shape:?}");
            drop(batch);
            assert_eq!(pool.out(), 0);
        }
    }
}

#[test]
fn only_what_the_medium_takes() {
    let all = [PLAIN, Shape { v6: true, ..PLAIN }, UDP4, UDP6, Shape { flags: TcpFlags::CWR, ..PLAIN }];
    for (takes, merged) in [
        (Takes::NONE, [false, false, false, false, false]),
        (Takes::CHECKSUM | Takes::UFO, [false, false, false, false, false]),
        (Takes::TSO4, [false, false, false, false, false]),
        (Takes::CHECKSUM | Takes::TSO4, [true, false, false, false, false]),
        (Takes::CHECKSUM | Takes::TSO6, [false, true, false, false, false]),
        (Takes::CHECKSUM | Takes::USO, [false, false, true, true, false]),
        (Takes::CHECKSUM | Takes::TSO4 | Takes::ECN, [true, false, false, false, true]),
    ] {
        for (shape, merged) in all.iter().zip(merged) {
            let frames = shape.segments(&payload(1024), 512);
            assert_eq!(coalesced(&frames, takes).len(), if merged { 1 } else { 2 }, "{takes:?} {shape:?}");
        }
    }
}

/// Two segments of which the second is changed, with its checksums right again: they stay two frames.
#[test]
fn headers_that_differ() {
    let first = |shape: Shape| shape.segments(&payload(2000), 1000).remove(0);
    let second = |shape: Shape| {
        let place = Place { offset: 1000, index: 1, last: true };
        shape.segment(place, &payload(2000)[1000..])
    };
    let dont = Shape { dont_fragment: true, ..PLAIN };
    let zero = Shape { identification: 0, dont_fragment: true, ..PLAIN };
    let number = |identification: u16| Shape { identification, dont_fragment: true, ..PLAIN };
    for (what, a, b) in [
        ("port", PLAIN, Shape { source_port: 1001, ..PLAIN }),
        ("acknowledgement", PLAIN, Shape { acknowledgement: 6, ..PLAIN }),
        ("time to live", PLAIN, Shape { ttl: 63, ..PLAIN }),
        ("hop limit", Shape { v6: true, ..PLAIN }, Shape { v6: true, ttl: 63, ..PLAIN }),
        ("DF", PLAIN, dont),
        ("options", PLAIN, Shape { tcp_options: PADDING_OPTIONS, ..PLAIN }),
        ("identification", PLAIN, number(0xffff)),
        ("identification and none", number(0xfff0), zero),
        ("FIN", PLAIN, Shape { flags: TcpFlags::FIN, ..PLAIN }),
        ("RST", PLAIN, Shape { flags: TcpFlags::RST, ..PLAIN }),
        ("SYN", PLAIN, Shape { flags: TcpFlags::SYN, ..PLAIN }),
        ("URG", PLAIN, Shape { flags: TcpFlags::URG, ..PLAIN }),
        ("ECE", PLAIN, Shape { flags: TcpFlags::ECE, ..PLAIN }),
        ("IPv4 options", PLAIN, Shape { ip_options: PADDING_OPTIONS, ..PLAIN }),
        ("tags", PLAIN, Shape { tags: QINQ, ..PLAIN }),
    ] {
        assert_eq!(coalesced(&[first(a), second(b)], Takes::ALL).len(), 2, "{what}");
    }
    assert_eq!(coalesced(&[first(PLAIN), second(PLAIN)], Takes::ALL).len(), 1);
    // 0 is no number with DF, so 1 is not the next one.
    let mut numbered = second(Shape { identification: 0, ..PLAIN });
    numbered[20] = 0x40;
    Ipv4Packet::new_checked(&mut numbered[14..]).unwrap().fill_checksum();
    assert_eq!(coalesced(&[first(zero), numbered], Takes::ALL).len(), 2);
}

#[test]
fn a_hole_and_a_wrong_order_are_kept() {
    let frames = PLAIN.segments(&payload(5000), 1000);
    let pick = |order: &[usize]| -> Vec<Vec<u8>> { order.iter().map(|i| frames[*i].clone()).collect() };
    assert_eq!(coalesced(&pick(&[0, 1, 3, 4]), Takes::ALL), [2054, 2054]);
    assert_eq!(coalesced(&pick(&[1, 0, 2, 3, 4]), Takes::ALL), [1054, 1054, 3054]);
    assert_eq!(coalesced(&pick(&[0, 0, 1, 1]), Takes::ALL), [1054, 2054, 1054]);
}

#[test]
fn a_short_segment_or_push_is_the_last() {
    let mut frames = PLAIN.segments(&payload(2500), 1000);
    let push = Shape { flags: TcpFlags::PSH, ..PLAIN };
    let after = Place { offset: 2500, index: 3, last: false };
    frames.push(push.segment(after, &payload(1000)));
    let place = Place { offset: 3500, index: 4, last: true };
    frames.push(push.segment(place, &payload(1000)));
    let place = Place { offset: 4500, index: 5, last: true };
    frames.push(push.segment(place, &payload(1000)));
    assert_eq!(coalesced(&frames, Takes::ALL), [2554, 2054, 1054]);
}

#[test]
fn small_segments_do_not_begin() {
    assert_eq!(coalesced(&PLAIN.segments(&payload(1022), 511), Takes::ALL).len(), 2);
    assert_eq!(coalesced(&PLAIN.segments(&payload(1024), 512), Takes::ALL).len(), 1);
}

#[test]
fn no_frame_of_more_than_64_kib_or_too_many_segments() {
    let frames = PLAIN.segments(&payload(70 * 1460), 1460);
    assert_eq!(coalesced(&frames, Takes::ALL), [54 + 44 * 1460, 54 + 26 * 1460]);
    let frames = UDP4.segments(&payload(100 * 512), 512);
    assert_eq!(coalesced(&frames, Takes::ALL), [42 + 64 * 512, 42 + 36 * 512]);
    let frames = PLAIN.segments(&payload(65_495), 512);
    assert_eq!(coalesced(&frames, Takes::ALL), [65_549]);
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    let shape = Shape { identification: 10, ..PLAIN };
    for at in [14 + 8, 14 + 11, 34 + 15, 34 + 17, 100, 1053] {
        let mut frames = shape.segments(&payload(5000), 1000);
        // A header octet that has to agree is changed in all of them.
        let header = at < 54 && at != 14 + 11 && at != 34 + 17;
        for frame in &mut frames[if header { 0..5 } else { 2..3 }] {
            frame[at] ^= 0x10;
        }
        let expected: &[usize] = if header { &[1054; 5] } else { &[2054, 1054, 2054] };
        assert_eq!(coalesced(&frames, Takes::ALL), expected, "{at}");
    }
}

#[test]
fn checksums_that_are_right_but_not_what_we_would_compute() {
    let mut frames = UDP4.segments(&payload(2000), 1000);
    frames[1][40..42].fill(0);
    assert_eq!(coalesced(&frames, Takes::ALL).len(), 2, "a datagram without checksum");

    // A sum of 0 can be written in two ways; make both checksums 0 by a payload that takes the difference.
    let mut payload = payload(2000);
    for index in 0..2 {
        let sum = PLAIN.segments(&payload, 1000)[index][50..52].to_vec();
        let old = u16::from_be_bytes([payload[1000 * index], payload[1000 * index + 1]]);
        let new = Sum::new().add_word(old).add_octets(&sum).fold();
        payload[1000 * index..][..2].copy_from_slice(&new.to_be_bytes());
    }
    let mut frames = PLAIN.segments(&payload, 1000);
    assert!(frames.iter().all(|frame| frame[50..52] == [0, 0]));
    assert_eq!(coalesced(&frames, Takes::ALL).len(), 1);
    frames[1][50..52].fill(0xff);
    assert_eq!(coalesced(&frames, Takes::ALL).len(), 2);
}

#[test]
fn numbering_past_0_does_not_begin_after_a_wrong_checksum() {
    // Identifications fffe, ffff, 0, 1, 2 with DF; 1 is wrong, so 0 would be first.
    let shape = Shape { dont_fragment: true, ..PLAIN };
    let mut frames = shape.segments(&payload(5000), 1000);
    frames[1][100] ^= 1;
    assert_eq!(coalesced(&frames, Takes::ALL), [1054, 1054, 1054, 2054]);
}

#[test]
fn whatever_else_comes_of_a_flow_ends_its_run() {
    let segments = PLAIN.segments(&payload(2000), 1000);
    let acknowledgement = PLAIN.segment(Place { offset: 1000, index: 9, last: true }, &[]);
    let fragment = {
        let mut octets = UDP4.whole(&payload(100));
        octets[20] = 0x20;
        octets
    };
    let other = UDP4.whole(&payload(10));
    let arp = ethernet(&[], EtherType::ARP, &[0; 28]);
    for (what, between, frames) in [
        ("pure acknowledgement", &acknowledgement, 3),
        ("fragment", &fragment, 3),
        ("another flow", &other, 2),
        ("ARP", &arp, 2),
    ] {
        let pool = large_pool();
        let mut batch = batch(&pool, &[segments[0].clone(), between.clone(), segments[1].clone()]);
        Coalescer::new().coalesce(&mut batch, &pool, Takes::ALL);
        assert_eq!(batch.len(), frames, "{what}");
    }
}

#[test]
fn requests_and_meta_are_respected() {
    let pool = large_pool();
    let frames = PLAIN.segments(&payload(3000), 1000);
    let mut tagged = batch(&pool, &frames);
    for (frame, tci) in tagged.iter_mut().zip([5, 5, 6]) {
        frame.meta.tag = Some(VlanTag { tci });
    }
    assert_eq!(Coalescer::new().coalesce(&mut tagged, &pool, Takes::ALL), 1);
    let merged = tagged.iter().next().unwrap();
    assert_eq!((merged.len(), merged.meta.tag), (2054, Some(VlanTag { tci: 5 })));

    let mut partial = batch(&pool, &frames);
    for frame in partial.iter_mut() {
        frame.meta.offload = Offload { gso_type: 0, ..PLAIN.request(512) };
    }
    assert_eq!(Coalescer::new().coalesce(&mut partial, &pool, Takes::ALL), 0);
}

#[test]
fn without_large_buffers_nothing_is_merged() {
    let pool = Pool::new(PoolSizes { small: 16, large: 0, bulk: 0 });
    let frames = PLAIN.segments(&payload(3000), 1000);
    let mut plain = batch(&pool, &frames);
    assert_eq!(Coalescer::new().coalesce(&mut plain, &pool, Takes::ALL), 0);
    assert!(plain.iter().map(|frame| frame.octets().to_vec()).eq(frames));
}

#[test]
fn runs_share_large_buffers() {
    let pool = large_pool();
    let flows: Vec<_> = (0..10)
        .flat_map(|flow| Shape { source_port: flow, ..PLAIN }.segments(&payload(6000), 1000))
        .collect();
    let mut batch = batch(&pool, &flows);
    assert_eq!(Coalescer::new().coalesce(&mut batch, &pool, Takes::ALL), 50);
    assert_eq!((batch.len(), pool.out()), (10, 1));
}

fn step() -> impl Strategy<Value = Step> {
    let len = select(vec![0usize, 1, 100, 511, 512, 513, 600, 600, 600, 1000, 1000, 1000, 1000, 1448]);
    let none = Just(Twist::None);
    let flags = [TcpFlags::PSH, TcpFlags::FIN, TcpFlags::CWR, TcpFlags::ECE, TcpFlags::URG, TcpFlags::SYN];
    let rare = prop_oneof![
        3 => select(flags.map(|flags| flags.0).to_vec()).prop_map(Twist::Flags),
        1 => Just(Twist::Hole),
        1 => Just(Twist::Skip),
        1 => Just(Twist::Ttl),
        1 => Just(Twist::Options),
        2 => (12usize..600).prop_map(Twist::Corrupt),
        1 => Just(Twist::Pad),
        1 => Just(Twist::Tag),
        1 => Just(Twist::Valid),
        1 => Just(Twist::Fragment),
    ];
    let twist = prop_oneof![6 => none, 1 => rare];
    (0usize..6, len, 1usize..5, twist).prop_map(|(flow, len, times, twist)| Step { flow, len, times, twist })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever comes in a batch: cutting what was merged gives the very same frames, in the same order in each flow.
    #[test]
    fn case_9_segmenting_what_was_coalesced_gives_it_back(
        steps in prop::collection::vec(step(), 1..40),
        takes in select(vec![Takes::ALL, Takes::CHECKSUM | Takes::TSO4, Takes::CHECKSUM | Takes::TSO6 | Takes::USO]),
    ) {
        gives_it_back(&generated(&steps), takes);
    }
}
