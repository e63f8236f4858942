//! Whatever guests do, and whatever is in their memory.

use proptest::prelude::*;

use super::*;

/// An act of a guest, or of ours.
#[derive(Debug, Clone)]
enum Act {
    /// Sends a frame of so many octets, cut into so many pieces, in a table or not.
    Send(usize, usize, bool),
    /// Gives a buffer of so many octets in so many pieces.
    Give(usize, usize),
    Receive,
    /// We send a frame of so many octets.
    Transmit(usize),
    /// Both rings are stopped and go on.
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (14usize..2000, 1usize..6, any::<bool>()).prop_map(|(len, cut, table)| Act::Send(len, cut, table)),
        4 => (12usize..3000, 1usize..4).prop_map(|(len, cut)| Act::Give(len, cut)),
        3 => Just(Act::Receive),
        4 => (14usize..4000).prop_map(Act::Transmit),
        1 => Just(Act::Restart),
    ];
    prop::collection::vec(act, 0..120)
}

fn cut(at: u64, len: usize, pieces: usize, write: bool) -> Vec<guest::Buffer> {
    let each = len / pieces;
    let piece = |number: usize| {
        let octets = if number + 1 == pieces { len - each * number } else { each };
        (at + (each * number) as u64, octets as u32, write)
    };
    (0..pieces).map(piece).collect()
}

proptest! {
    /// Every frame comes out once, in its order and to the octet, whatever the form of chains and buffers.
    #[test]
    fn what_goes_in_comes_out(acts in acts(), packed: bool, mergeable: bool, event_idx: bool) {
        let features = feature::VERSION_1
            | if mergeable { feature::MRG_RXBUF } else { 0 }
            | if event_idx { feature::EVENT_IDX } else { 0 };
        let mut lab = Fixture::with(packed, 16, features);
        let (mut number, mut sent, mut came) = (0u8, Vec::new(), Vec::new());
        // Entries that are out; of each buffer its id, address and octets.
        let (mut out, mut buffers) = (0, std::collections::VecDeque::new());
        let mut gave = 0;
        let (mut wanted, mut got) = (Vec::new(), Vec::new());
        for act in acts {
            number = number.wrapping_add(1);
            match act {
                Act::Send(len, pieces, table) if out + pieces <= 16 => {
                    let frame = frame(number, len);
                    let at = GuestRing::at(u64::from(number % 64) * 4096);
                    lab.tx.write(at, &[&[0; 12][..], &frame].concat());
                    let buffers = cut(at, len + 12, pieces, false);
                    if table { lab.tx.offer_indirect(&buffers) } else { lab.tx.offer(&buffers) };
                    out += if table { 1 } else { pieces };
                    sent.push(frame);
                }
                Act::Give(len, pieces) if gave + pieces <= 16 => {
                    let at = GuestRing::at(u64::from(number % 64) * 4096);
                    let id = lab.rx.offer(&cut(at, len, pieces, true));
                    gave += pieces;
                    buffers.push_back((id, at, len, pieces));
                }
                Act::Send(..) | Act::Give(..) => {}
                Act::Receive => {
                    came.extend(lab.receive());
                    let used = lab.tx.used();
                    prop_assert!(used.iter().all(|used| used.1 == 0));
                    prop_assert_eq!(lab.broken(1), None);
                    out = 0;
                }
                Act::Transmit(len) => {
                    let frame = frame(number, len);
                    let before = lab.dropped(DropReason::TooLong) + lab.dropped(DropReason::QueueFull);
                    lab.transmit(&[&frame]);
                    wanted.push((frame, before));
                }
                Act::Restart => {
                    for index in 0..2 {
                        let stopped = lab.rings.stop(index).unwrap();
                        let ring = if index == 0 { &lab.rx } else { &lab.tx };
                        let mut setup = ring.setup(features);
                        setup.base = stopped.base;
                        lab.rings.start(index, setup);
                    }
                }
            }
            // What the guest was given.
            let mut used = lab.rx.used().into_iter();
            while let Some((id, len)) = used.next() {
                let (expected, at, _, pieces) = buffers.pop_front().unwrap();
                prop_assert_eq!(id, expected);
                gave -= pieces;
                let first = lab.rx.read(at, len as usize);
                let several = u16::from_le_bytes([first[10], first[11]]);
                let mut octets = first[12..].to_vec();
                for _ in 1..several {
                    let (id, len) = used.next().unwrap();
                    let (expected, at, _, pieces) = buffers.pop_front().unwrap();
                    prop_assert_eq!(id, expected);
                    gave -= pieces;
                    octets.extend(lab.rx.read(at, len as usize));
                }
                got.push(octets);
            }
        }
        came.extend(lab.receive());
        prop_assert_eq!(came, sent);
        // What arrived is what was sent without some that were too long, in its order.
        let sum = lab.counters.snapshot();
        prop_assert_eq!(sum.tx_frames as usize, got.len());
        let lost = sum.dropped(DropReason::TooLong) + sum.dropped(DropReason::QueueFull) + sum.dropped(DropReason::NoPeer);
        prop_assert_eq!(got.len() as u64 + lost + lab.queue.status().waiting as u64, wanted.len() as u64);
        let mut rest = wanted.iter().map(|(frame, _)| frame);
        for frame in &got {
            prop_assert!(rest.any(|sent| sent == frame));
        }
    }

    /// Whatever is in a ring's memory, nothing panics, and a broken ring is left alone.
    #[test]
    fn any_memory_does_no_harm(seed: Vec<u64>, available: u16, packed: bool, mergeable: bool) {
        let features = feature::VERSION_1 | if mergeable { feature::MRG_RXBUF } else { 0 } | feature::EVENT_IDX;
        let fill = |ring: &GuestRing| {
            for (number, word) in seed.iter().enumerate().take(64) {
                // Addresses that are near the memory, and lengths that are near those of frames.
                let word = if number % 2 == 0 { word % (2 * guest::SIZE) } else { word & 0xffff_ffff_0000_0fff };
                ring.all().store_u64(8 * number, word);
            }
        };
        let (rx, tx) = (GuestRing::new(packed, 16), GuestRing::new(packed, 16));
        fill(&rx);
        fill(&tx);
        rx.set_available(available % 20);
        tx.set_available(available % 20);
        let mut lab = Fixture::of(rx, tx, features);
        for _ in 0..8 {
            lab.receive();
            lab.transmit(&[&frame(1, 60), &[9; 3000]]);
            lab.queue.rest();
        }
    }
}
