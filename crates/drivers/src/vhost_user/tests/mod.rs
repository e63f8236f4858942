mod differential;
mod exhaustive;
mod front_end;
pub(super) mod guest;
mod naive;

use std::os::fd::AsFd;
use std::sync::Arc;

use proptest::prelude::*;
use vmlan_frame::{Batch, Context, Counters, DropReason, Instant, Offload, Pool, PoolSizes, Takes, VlanTag};
use vmlan_sys::guest_memory::Mapping;

use super::device::{Device, RingState, Rings};
use super::log::Log;
use super::session::feature;
use crate::queue::{Endpoint, Fault, Progress, Queue, Settings};
use guest::{GUEST, GuestRing};

const BASIC: u64 = feature::VERSION_1 | feature::MRG_RXBUF;

/// A device with one pair of rings, and the guest's halves of them.
struct Fixture {
    rings: Arc<Rings>,
    queue: Box<dyn Queue>,
    pool: Pool,
    counters: Arc<Counters>,
    /// From us to the guest.
    rx: GuestRing,
    /// From the guest to us.
    tx: GuestRing,
    now: Instant,
}

impl Fixture {
    fn with(packed: bool, num: u16, features: u64) -> Fixture {
        Fixture::of(GuestRing::new(packed, num), GuestRing::new(packed, num), features)
    }

    fn of(rx: GuestRing, tx: GuestRing, features: u64) -> Fixture {
        Fixture::among(2, rx, tx, features)
    }

    /// A device with places for more rings.
    fn rings(count: usize) -> Fixture {
        Fixture::among(count, GuestRing::new(false, 256), GuestRing::new(false, 256), BASIC)
    }

    fn among(count: usize, rx: GuestRing, tx: GuestRing, features: u64) -> Fixture {
        let device = Device::new(count, 1).unwrap();
        let counters = Arc::new(Counters::new(1));
        let settings = Settings {
            worker: 0,
            receives: true,
            account: counters.clone().into(),
            backlog: 64,
            share: None,
            longest: 1518,
        };
        let queue = device.queue(settings).unwrap();
        let rings = device.rings();
        assert!(rings.start(0, rx.setup(features)).is_none() && rings.start(1, tx.setup(features)).is_none());
        let pool = Pool::new(PoolSizes::default());
        Fixture { rings, queue, pool, counters, rx, tx, now: Instant::ZERO }
    }

    fn receive(&mut self) -> Vec<Vec<u8>> {
        self.try_receive().unwrap().0
    }

    fn try_receive(&mut self) -> Result<(Vec<Vec<u8>>, Batch), Fault> {
        let mut batch = Batch::new();
        let cx = Context { worker: 0, now: self.now, pool: &self.pool };
        let progress = self.queue.receive(&cx, &mut batch)?;
        assert!(matches!(progress, Progress::Polled { .. } | Progress::Done));
        Ok((batch.iter().map(|frame| frame.octets().to_vec()).collect(), batch))
    }

    fn transmit(&mut self, frames: &[&[u8]]) {
        let mut batch: Batch = frames.iter().map(|octets| self.pool.copy(octets).unwrap()).collect();
        self.transmit_batch(&mut batch);
    }

    fn transmit_batch(&mut self, batch: &mut Batch) {
        let cx = Context { worker: 0, now: self.now, pool: &self.pool };
        self.queue.transmit(&cx, batch).unwrap();
        assert!(batch.is_empty());
    }

    /// Sends a frame from the guest in one buffer with its header.
    fn send(&mut self, offset: u64, frame: &[u8]) -> u16 {
        self.tx.write(GuestRing::at(offset), &[&[0; 12], frame].concat());
        self.tx.offer(&[(GuestRing::at(offset), frame.len() as u32 + 12, false)])
    }

    /// Gives a buffer to receive into.
    fn give(&mut self, offset: u64, len: u32) -> u16 {
        self.rx.offer(&[(GuestRing::at(offset), len, true)])
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.counters.snapshot().dropped(reason)
    }

    /// Why the guest's way out is broken.
    fn broken(&self, index: usize) -> Option<String> {
        match &self.rings.states()[index] {
            RingState::Broken(reason) => Some(reason.clone()),
            _ => None,
        }
    }
}

fn frame(number: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![number; len];
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

const BOTH: [bool; 2] = [false, true];

#[test]
fn frames_pass_both_ways() {
    for packed in BOTH {
        let mut lab = Fixture::with(packed, 8, BASIC);
        for round in 0..50 {
            let lengths = [60, 61, 300, 1514];
            let sent: Vec<_> = lengths.iter().map(|len| frame(round, *len)).collect();
            let ids: Vec<_> =
                sent.iter().enumerate().map(|(at, frame)| lab.send(4096 * at as u64, frame)).collect();
            assert_eq!(lab.receive(), sent, "{packed}");
            let used: Vec<_> = lab.tx.used().iter().map(|used| used.0).collect();
            assert_eq!(used, ids);
            let gave: Vec<_> = (0..4).map(|at| lab.give(4096 * at, 2048)).collect();
            let all: Vec<_> = sent.iter().map(|frame| &frame[..]).collect();
            lab.transmit(&all);
            let used = lab.rx.used();
            for (at, frame) in sent.iter().enumerate() {
                assert_eq!(used[at], (gave[at], frame.len() as u32 + 12));
                let read = lab.rx.read(GuestRing::at(4096 * at as u64), frame.len() + 12);
                assert_eq!(
                    (&read[..12], &read[12..]),
                    (&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0][..], &frame[..])
                );
            }
        }
        let sum = lab.counters.snapshot();
        assert_eq!((sum.tx_frames, sum.queued), (200, 0));
    }
}

#[test]
fn case_4_a_split_ring_goes_on_where_its_used_ring_ends() {
    let mut tx = GuestRing::new(false, 16).beginning_at(10, 10);
    let ids: Vec<_> = (0..2).map(|at| tx.offer(&[(GuestRing::at(4096 * at), 72, false)])).collect();
    let mut lab = Fixture::of(GuestRing::new(false, 16), tx, BASIC);
    assert_eq!(lab.receive().len(), 2);
    assert_eq!(lab.tx.used(), [(ids[0], 0), (ids[1], 0)]);
    assert_eq!(lab.rings.stop(1).unwrap().base, 12);
}

#[test]
fn case_5_and_6_what_is_available_is_no_more_than_the_ring_has() {
    for (available, used, expected) in
        [(300, 44, Some(256)), (258, 1, None), (257, 1, Some(256)), (0, 0, Some(0))]
    {
        let tx = GuestRing::new(false, 256).beginning_at(available, used);
        for number in 0..256 {
            tx.set(number, (GuestRing::at(0), 72, false), 0, 0);
        }
        let mut lab = Fixture::of(GuestRing::new(false, 16), tx, BASIC);
        let mut count = 0;
        while lab.broken(1).is_none() {
            let came = lab.receive().len();
            count += came;
            if came == 0 {
                break;
            }
        }
        assert_eq!(lab.broken(1).is_none().then_some(count), expected, "{available} {used}");
    }
}

#[test]
fn case_7_indices_go_round() {
    let tx = GuestRing::new(false, 4).beginning_at(65_534, 65_534);
    let mut lab = Fixture::of(GuestRing::new(false, 4).beginning_at(65_534, 65_534), tx, BASIC);
    for round in 0..6 {
        let sent = frame(round, 60);
        lab.send(0, &sent);
        assert_eq!(lab.receive(), [&sent[..]]);
        assert_eq!(lab.tx.used().len(), 1);
        lab.give(0, 2048);
        lab.transmit(&[&sent]);
        assert_eq!(lab.rx.used().len(), 1);
    }
    assert_eq!((lab.tx.used_index(), lab.rings.stop(1).unwrap().base), (4, 4));
}

#[test]
fn case_8_and_9_a_packed_ring_goes_on_where_it_is_told() {
    for (base, next, wrap) in [(0x8000_8000, 0, true), (0x5_8003, 3, true), (0x3, 3, false)] {
        let mut tx = GuestRing::new(true, 8);
        // Entries of the round before are none of this one's.
        (tx.next, tx.wrap) = (next, wrap);
        if !wrap {
            for entry in 0..8 {
                tx.set(entry, (0, 0, false), 0, 1 << 7 | 1 << 15);
            }
        }
        let mut lab = Fixture::of(GuestRing::new(true, 8), tx, BASIC);
        let mut setup = lab.tx.setup(BASIC);
        setup.base = base;
        assert!(lab.rings.start(1, setup).is_some());
        (0..2).for_each(|at| {
            lab.send(4096 * at, &frame(1, 60));
        });
        assert_eq!(lab.receive().len(), 2, "{base:#x}");
        let position = (u32::from(next) + 2) | if wrap { 0x8000 } else { 0 };
        assert_eq!(lab.rings.stop(1).unwrap().base, position << 16 | position);
    }
}

#[test]
fn case_10_to_14_rings_stop_and_go_on_in_other_memory() {
    for packed in BOTH {
        let mut lab = Fixture::with(packed, 8, BASIC);
        lab.send(0, &frame(1, 60));
        assert_eq!(lab.receive().len(), 1);
        let stopped = lab.rings.stop(1).unwrap();
        assert!(lab.rings.stop(1).is_none());
        lab.send(0, &frame(2, 60));
        assert_eq!(lab.receive().len(), 0, "nothing is taken from a ring that is stopped");
        let mut setup = lab.tx.setup(BASIC);
        setup.base = stopped.base;
        lab.rings.start(1, setup);
        assert_eq!(lab.receive(), [&frame(2, 60)[..]]);
        // Another table of memory with the same octets: nothing is lost or comes twice.
        lab.send(0, &frame(3, 60));
        let same = lab.tx.memory();
        lab.rings.stop(0);
        lab.rings.replace(&same, None);
        assert_eq!(lab.receive(), [&frame(3, 60)[..]]);
        lab.send(0, &frame(4, 60));
        assert_eq!(lab.receive(), [&frame(4, 60)[..]]);
        // And one without the ring.
        lab.rings.replace(&Arc::default(), None);
        assert!(lab.broken(1).unwrap().contains("no region"), "{packed}");
        lab.send(0, &frame(5, 60));
        assert_eq!(lab.receive().len(), 0);
        let mut setup = lab.tx.setup(BASIC);
        setup.base = lab.rings.stop(1).unwrap().base;
        lab.rings.start(1, setup);
        assert_eq!(lab.receive(), [&frame(5, 60)[..]]);
    }
}

#[test]
fn case_17_a_buffer_is_in_one_region() {
    let end = GUEST + guest::SIZE;
    for (buffer, fits) in
        [((end - 72, 72), true), ((end - 71, 72), false), ((0, 72), false), ((u64::MAX - 8, 72), false)]
    {
        for packed in BOTH {
            let mut lab = Fixture::with(packed, 8, BASIC);
            lab.tx.offer(&[(buffer.0, buffer.1, false)]);
            assert_eq!(lab.receive().len(), usize::from(fits));
            assert_eq!(lab.broken(1).is_none(), fits, "{buffer:?}");
        }
    }
}

#[test]
fn case_18_a_header_may_be_cut_anywhere() {
    let sent = frame(7, 100);
    let octets = [&[0; 12][..], &sent].concat();
    for packed in BOTH {
        let mut lab = Fixture::with(packed, 32, BASIC);
        lab.tx.write(GuestRing::at(0), &octets);
        let pieces = |lengths: &[u32]| {
            let mut at = GuestRing::at(0);
            let pieces = lengths.iter().map(|len| {
                let piece = (at, *len, false);
                at += u64::from(*len);
                piece
            });
            pieces.collect::<Vec<_>>()
        };
        for lengths in [&[12, 100][..], &[26, 86], &[5, 0, 20, 87], &[1; 12].map(|one| one)[..]] {
            let mut lengths = lengths.to_vec();
            lengths.push(112 - lengths.iter().sum::<u32>());
            lab.tx.offer(&pieces(&lengths));
            lab.tx.offer_indirect(&pieces(&lengths));
            assert_eq!(lab.receive(), [&sent[..], &sent[..]], "{lengths:?}");
            assert_eq!(lab.tx.used().len(), 2);
        }
    }
}

#[test]
fn case_19_what_is_no_frame_is_counted_and_completed() {
    for packed in BOTH {
        let mut lab = Fixture::with(packed, 32, BASIC);
        lab.tx.offer(&[(GuestRing::at(0), 11, false)]);
        lab.tx.offer(&[(GuestRing::at(0), 12 + 13, false)]);
        lab.tx.offer(&[(GuestRing::at(0), 70_000, false)]);
        // Four of these are more than a frame can be, though no region has them.
        lab.tx.offer(&[(GuestRing::at(0), 1 << 31, false); 4]);
        // A checksum beyond the end of the frame.
        lab.tx.write(GuestRing::at(4096), &[1, 0, 0, 0, 0, 0, 200, 0, 16, 0, 0, 0]);
        lab.tx.offer(&[(GuestRing::at(4096), 72, false)]);
        assert_eq!(lab.receive(), [[0; 13]]);
        assert_eq!(lab.tx.used().len(), 5);
        assert_eq!(lab.dropped(DropReason::Malformed), 1);
        assert_eq!((lab.dropped(DropReason::Oversize), lab.dropped(DropReason::BadOffload)), (2, 1));
        assert_eq!(lab.broken(1), None);
    }
}

#[test]
fn case_20_a_chain_has_an_end() {
    let mut lab = Fixture::with(false, 8, BASIC);
    lab.tx.set(0, (GuestRing::at(0), 1, false), 1, 0);
    lab.tx.name(0);
    assert_eq!(lab.receive().len(), 0);
    assert!(lab.broken(1).unwrap().contains("no end"));

    // All entries of a packed ring, each with a next one.
    let mut lab = Fixture::with(true, 8, BASIC);
    for entry in 0..8 {
        lab.tx.set(entry, (GuestRing::at(0), 1, false), 0, 1 | 1 << 7);
    }
    assert_eq!(lab.receive().len(), 0);
    assert!(lab.broken(1).unwrap().contains("no end"));
}

#[test]
fn case_21_tables_are_whole_and_not_nested() {
    for (len, flags, reason) in
        [(24, 4, "whole number"), (0, 4, "whole number"), (16, 5, "next one"), (16 * 9, 4, "at most 8")]
    {
        let mut lab = Fixture::with(false, 8, BASIC);
        lab.tx.set(0, (GuestRing::at(0), len, false), flags, 1);
        lab.tx.name(0);
        assert_eq!(lab.receive().len(), 0);
        assert!(lab.broken(1).unwrap().contains(reason), "{:?}", lab.broken(1));
    }
    for packed in BOTH {
        let mut lab = Fixture::with(packed, 8, BASIC);
        let at = GuestRing::at(0);
        // A table with one entry that is a table.
        lab.tx.write(at, &at.to_le_bytes());
        lab.tx.write(at + 8, &16u32.to_le_bytes());
        lab.tx.write(at + 12, &[4, 0, 4, 0]);
        match packed {
            true => lab.tx.set(0, (at, 16, false), 0, 4 | 1 << 7),
            false => {
                lab.tx.set(0, (at, 16, false), 4, 0);
                lab.tx.name(0);
            }
        }
        assert_eq!(lab.receive().len(), 0);
        assert!(lab.broken(1).unwrap().contains("within"), "{:?}", lab.broken(1));
    }
}

#[test]
fn a_chain_of_a_split_ring_may_end_with_a_table() {
    let mut lab = Fixture::with(false, 8, BASIC);
    let sent = frame(3, 100);
    lab.tx.write(GuestRing::at(0), &[&[0; 12][..], &sent].concat());
    // The table has two entries: 20 octets, and what is behind them.
    let table = GuestRing::at(4096);
    for (entry, at, len, flags) in [(0, 12, 20u32, 1u16), (1, 32, 80, 0)] {
        lab.tx.write(table + 16 * entry, &GuestRing::at(at).to_le_bytes());
        lab.tx.write(table + 16 * entry + 8, &len.to_le_bytes());
        lab.tx.write(table + 16 * entry + 12, &[flags.to_le_bytes(), 1u16.to_le_bytes()].concat());
    }
    lab.tx.set(5, (GuestRing::at(0), 12, false), 1, 2);
    lab.tx.set(2, (table, 32, false), 4, 0);
    lab.tx.name(5);
    assert_eq!(lab.receive(), [&sent[..]], "{:?}", lab.broken(1));
    assert_eq!(lab.tx.used(), [(5, 0)]);
}

#[test]
fn heads_next_ones_and_directions_are_checked() {
    let broken = |make: &dyn Fn(&mut GuestRing)| {
        let mut lab = Fixture::with(false, 8, BASIC);
        make(&mut lab.tx);
        lab.send(0, &frame(1, 60));
        lab.receive();
        assert_eq!(lab.receive().len(), 0, "no more is taken");
        lab.broken(1).unwrap()
    };
    assert!(broken(&|tx| tx.name(8)).contains("descriptor 8"));
    let next = |tx: &mut GuestRing| {
        tx.set(7, (GuestRing::at(0), 20, false), 1, 8);
        tx.name(7);
    };
    assert!(broken(&next).contains("descriptor 8"));
    let written = |tx: &mut GuestRing| {
        tx.set(7, (GuestRing::at(0), 20, true), 2, 0);
        tx.name(7);
    };
    assert!(broken(&written).contains("to be written"));
    let mut lab = Fixture::with(false, 8, BASIC);
    lab.rx.offer(&[(GuestRing::at(0), 2048, false)]);
    lab.transmit(&[&frame(1, 60)]);
    assert!(lab.broken(0).unwrap().contains("not to be written"));
    assert_eq!(lab.queue.status().waiting, 0);
    lab.transmit(&[&frame(1, 60)]);
    assert_eq!(lab.dropped(DropReason::NoPeer), 2, "nothing waits for a ring that is broken");
}

#[test]
fn case_22_a_frame_is_written_to_several_buffers() {
    for packed in BOTH {
        let mut lab = Fixture::with(packed, 8, BASIC);
        let ids: Vec<_> = (0..3).map(|at| lab.give(4096 * at, 1526)).collect();
        let sent = Vec::from_iter((0..4000).map(|octet| octet as u8));
        lab.transmit(&[&sent]);
        assert_eq!(lab.rx.used(), [(ids[0], 1526), (ids[1], 1526), (ids[2], 960)]);
        let first = lab.rx.read(GuestRing::at(0), 1526);
        assert_eq!(first[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0]);
        let rest = [lab.rx.read(GuestRing::at(4096), 1526), lab.rx.read(GuestRing::at(8192), 960)];
        assert_eq!([&first[12..], &rest[0], &rest[1]].concat(), sent);
    }
}

#[test]
fn case_23_with_too_few_buffers_a_frame_waits_as_a_whole() {
    for packed in BOTH {
        let mut lab = Fixture::with(packed, 8, BASIC);
        (0..2).for_each(|at| {
            lab.give(4096 * at, 1526);
        });
        lab.transmit(&[&[7; 4000], &frame(1, 60)]);
        assert_eq!(lab.rx.used(), []);
        assert_eq!(lab.queue.status().waiting, 2);
        assert!(lab.queue.status().waits.is_for_room());
        lab.give(8192, 1526);
        lab.give(12288, 1526);
        lab.transmit(&[]);
        assert_eq!(lab.rx.used().len(), 4);
        assert_eq!(lab.queue.status().waiting, 0);
    }
}

#[test]
fn case_24_without_merging_a_long_frame_leaves_its_buffer_to_the_next() {
    for packed in BOTH {
        let mut lab = Fixture::with(packed, 8, feature::VERSION_1);
        let id = lab.give(0, 100);
        lab.transmit(&[&frame(1, 200), &frame(2, 60)]);
        assert_eq!(lab.rx.used(), [(id, 72)]);
        assert_eq!(lab.dropped(DropReason::TooLong), 1);
        assert_eq!(lab.rx.read(GuestRing::at(0), 12)[10], 1);
    }
}

#[test]
fn case_25_a_legacy_header_has_10_octets() {
    let mut lab = Fixture::with(false, 8, 0);
    lab.tx.write(GuestRing::at(0), &[&[0; 10][..], &frame(3, 60)].concat());
    lab.tx.offer(&[(GuestRing::at(0), 70, false)]);
    assert_eq!(lab.receive(), [&frame(3, 60)[..]]);
    let id = lab.give(0, 2048);
    lab.transmit(&[&frame(4, 60)]);
    assert_eq!(lab.rx.used(), [(id, 70)]);
    assert_eq!(lab.rx.read(GuestRing::at(10), 60), frame(4, 60));
}

#[test]
fn tags_and_requests_travel() {
    for packed in BOTH {
        let features = BASIC | feature::GUEST_CSUM | feature::GUEST_TSO4;
        let mut lab = Fixture::with(packed, 8, features);
        let mut tagged = frame(5, 64);
        tagged[12..16].copy_from_slice(&[0x81, 0, 0x20, 7]);
        lab.send(0, &tagged);
        let (_, mut batch) = lab.try_receive().unwrap();
        assert_eq!(batch.iter().next().unwrap().meta.tag, Some(VlanTag { tci: 0x2007 }));
        assert_eq!(batch.iter().next().unwrap().len(), 60);
        lab.give(0, 2048);
        lab.transmit_batch(&mut batch);
        assert_eq!(lab.rx.read(GuestRing::at(12), 64), tagged);
        assert_eq!(lab.queue.takes(), Takes::CHECKSUM | Takes::TSO4);

        let (octets, request) = crate::test_segments::segments(3000);
        lab.tx.write(GuestRing::at(0), &[&request.to_virtio()[..], &octets].concat());
        lab.tx.offer(&[(GuestRing::at(0), 12 + octets.len() as u32, false)]);
        let (_, mut batch) = lab.try_receive().unwrap();
        assert_eq!(batch.iter().next().unwrap().meta.offload, request);
        lab.give(0, 60_000);
        lab.transmit_batch(&mut batch);
        let header = lab.rx.read(GuestRing::at(0), 12);
        assert_eq!(Offload::from_virtio(header.first_chunk().unwrap()), request);
    }
}

#[test]
fn case_26_the_guest_is_told_when_its_index_is_passed() {
    use super::ring::need_event;
    for (event, old, new, told) in [
        (5, 5, 6, true),
        (5, 6, 9, false),
        (0, 65_535, 2, true),
        (65_535, 65_535, 0, true),
        (7, 5, 7, false),
        (6, 5, 7, true),
    ] {
        assert_eq!(need_event(event, new, old), told, "{event} {old} {new}");
    }
    for packed in BOTH {
        let mut told = 0;
        let mut lab = Fixture::with(packed, 8, BASIC | feature::EVENT_IDX);
        let call = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        let mut setup = lab.tx.setup(BASIC | feature::EVENT_IDX);
        setup.call = Some(call.try_clone().unwrap());
        lab.rings.start(1, setup);
        let heard = || rustix::io::read(&call, &mut [0u8; 8]).is_ok();
        assert!(heard(), "a guest may have slept through what was before");
        for number in 0..6 {
            // The third of them; in the round that begins with 1.
            lab.tx.set_call_event(if packed { 0x8002 } else { 2 });
            lab.send(0, &frame(number, 60));
            lab.receive();
            let is_told = heard();
            told += usize::from(is_told);
            assert_eq!(is_told, number == 2, "{packed} {number}");
            lab.tx.used();
        }
        assert_eq!(told, 1);
    }
}

#[test]
fn case_27_and_28_kicks_are_asked_for_when_nothing_comes() {
    for packed in BOTH {
        let mut lab = Fixture::with(packed, 8, BASIC);
        let kick = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        let mut setup = lab.tx.setup(BASIC);
        setup.kick = Some(kick.try_clone().unwrap());
        lab.rings.start(1, setup);
        lab.send(0, &frame(1, 60));
        lab.receive();
        assert!(!lab.tx.wants_kick(), "while it is polled");
        lab.send(0, &frame(2, 60));
        assert!(lab.queue.rest(), "something came meanwhile");
        assert_eq!(lab.receive().len(), 1);
        assert!(!lab.queue.rest());
        assert!(lab.tx.wants_kick());
        let poller = vmlan_sys::Poller::new().unwrap();
        poller.add(lab.queue.descriptor(0).unwrap(), 1, vmlan_sys::Interest::READ).unwrap();
        let mut events = Vec::new();
        let mut is_ready = |lab: &mut Fixture| {
            poller.wait(&mut events, Some(std::time::Duration::ZERO)).unwrap();
            lab.queue.is_ready(0);
            !events.is_empty()
        };
        is_ready(&mut lab);
        assert!(!is_ready(&mut lab));
        // However full it is: nobody reads it.
        for count in [1, 1, u64::MAX - 3] {
            rustix::io::write(&kick, &count.to_ne_bytes()).unwrap();
            assert!(is_ready(&mut lab));
            assert!(!is_ready(&mut lab));
        }
    }
    let mut lab = Fixture::with(false, 8, BASIC | feature::EVENT_IDX);
    lab.send(0, &frame(1, 60));
    lab.receive();
    assert!(!lab.queue.rest());
    assert_eq!(lab.tx.kick_event(), 1);
}

#[test]
fn kicks_for_nothing_are_not_heard_for_a_while() {
    let mut lab = Fixture::with(false, 8, BASIC);
    let kick = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    let mut setup = lab.tx.setup(BASIC);
    setup.kick = Some(kick.try_clone().unwrap());
    lab.rings.start(1, setup);
    lab.rings.stop(0);
    lab.queue.is_ready(0);
    lab.receive();
    assert_eq!(lab.queue.status().waits.receivers(), 1);
    for _ in 0..16 {
        rustix::io::write(&kick, &1u64.to_ne_bytes()).unwrap();
        lab.queue.is_ready(0);
        lab.receive();
    }
    let status = lab.queue.status();
    assert_eq!(status.waits.receivers(), 0);
    assert!(status.deadline.is_some());
    lab.now = Instant::from_secs(2);
    lab.send(0, &frame(1, 60));
    assert_eq!(lab.receive().len(), 1);
    assert_eq!((lab.queue.status().waits.receivers(), lab.queue.status().deadline), (1, None));
}

#[test]
fn kicks_for_room_that_is_not_there_are_not_heard_for_a_while() {
    let mut lab = Fixture::with(false, 8, BASIC);
    let kick = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    let mut setup = lab.rx.setup(BASIC);
    setup.kick = Some(kick.try_clone().unwrap());
    lab.rings.start(0, setup);
    lab.queue.is_ready(1);
    lab.transmit(&[&frame(1, 60)]);
    assert!(lab.queue.status().waits.is_for_room());
    for _ in 0..16 {
        rustix::io::write(&kick, &1u64.to_ne_bytes()).unwrap();
        lab.queue.is_ready(1);
        lab.transmit(&[]);
    }
    let status = lab.queue.status();
    // At the deadline it is sent whatever waits for no room.
    assert!(!status.waits.is_for_room() && status.waiting == 1 && status.deadline.is_some());
    lab.now = Instant::from_secs(2);
    lab.give(0, 100);
    lab.transmit(&[]);
    assert_eq!((lab.rx.used().len(), lab.queue.status().waiting), (1, 0));
    lab.transmit(&[&frame(2, 60)]);
    assert!(lab.queue.status().waits.is_for_room());
}

#[test]
fn a_log_that_was_cut_short_ends_the_connection() {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    let mut lab = Fixture::with(false, 8, BASIC);
    let file = memfd_create("log", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, 4096).unwrap();
    let marks = Arc::new(Mapping::of_log(file.as_fd(), 0, 4096).unwrap());
    let log = Arc::new(Log::new(marks.area(0, 4096).unwrap()));
    lab.rings.replace(&lab.rx.memory(), Some(&log));
    let mut setup = lab.tx.setup(BASIC);
    setup.log = Some(log);
    setup.addresses.log = Some(GUEST);
    lab.rings.start(1, setup);
    lab.send(0, &frame(1, 60));
    ftruncate(&file, 0).unwrap();
    assert!(matches!(lab.try_receive(), Err(Fault::Violation(text)) if text.contains("log")));
}

/// Makes all entries of a split ring name a chain of all descriptors, which have no octets.
fn offer_nothing(ring: &mut GuestRing, flags: u16) {
    let num = ring.num;
    for number in 0..num {
        let flag = if number + 1 == num { 0 } else { 1 };
        ring.set(number, (GuestRing::at(0), 0, false), flags | flag, (number + 1) % num);
    }
    (0..num).for_each(|_| ring.name(0));
}

#[test]
fn buffers_without_room_cost_a_turn_no_more_than_others() {
    let mut lab = Fixture::with(false, 256, BASIC);
    offer_nothing(&mut lab.rx, 2);
    let all: Vec<_> = (0..8).map(|number| frame(number, 60)).collect();
    lab.transmit(&all.iter().map(Vec::as_slice).collect::<Vec<_>>());
    // The first one costs as many descriptors as a turn has.
    assert_eq!(lab.dropped(DropReason::TooLong), 1);
    let status = lab.queue.status();
    assert!(status.retry && status.waiting == 7);
    (0..7).for_each(|_| lab.transmit(&[]));
    assert_eq!((lab.dropped(DropReason::TooLong), lab.queue.status().waiting), (8, 0));
    assert_eq!((lab.broken(0), lab.rx.used().len()), (None, 0));
}

#[test]
fn a_turn_has_a_bound_for_all_rings_together() {
    let mut lab = Fixture::rings(4);
    offer_nothing(&mut lab.tx, 0);
    let mut other = GuestRing::new(false, 256);
    offer_nothing(&mut other, 0);
    lab.rings.start(3, other.setup(BASIC));
    lab.rings.start(1, lab.tx.setup(BASIC));
    assert!(lab.receive().is_empty());
    let used = |ring: &GuestRing| ring.used_index();
    assert_eq!((used(&lab.tx), used(&other)), (4, 0));
    assert!(lab.queue.rest());
    lab.receive();
    assert_eq!((used(&lab.tx), used(&other)), (4, 4));
    assert_eq!(lab.dropped(DropReason::Malformed), 8);
}

#[test]
fn case_39_writes_are_logged() {
    for packed in BOTH {
        let mut lab = Fixture::with(packed, 8, BASIC);
        let marks = Arc::new(Mapping::plain(4096));
        let log = Arc::new(Log::new(marks.area(0, 4096).unwrap()));
        let mut setup = lab.rx.setup(BASIC);
        (setup.log, setup.addresses.log) = (Some(log), Some(0x700_0000));
        lab.rings.start(0, setup);
        let at = GuestRing::at(0) / 4096 * 4096 + 8192 - 50;
        lab.rx.offer(&[(at, 2048, true)]);
        lab.transmit(&[&frame(1, 88)]);
        let set: Vec<_> = (0..4096 * 8u64)
            .filter(|page| marks.span(page / 8, 1).unwrap().load_u8(0) >> (page % 8) & 1 != 0)
            .collect();
        assert_eq!(set, [at / 4096, at / 4096 + 1, 0x700_0000 / 4096]);
    }
}

#[test]
fn case_46_commands_are_answered() {
    for packed in BOTH {
        let mut lab = Fixture::with(packed, 8, BASIC);
        let mut commands = GuestRing::new(packed, 8);
        let mut setup = commands.setup(BASIC);
        setup.commands = true;
        lab.rings.stop(0);
        lab.rings.start(0, setup);
        assert!(!lab.rings.are_up(), "nothing can be received");
        // VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 2 pairs, and room for the answer.
        commands.write(GuestRing::at(0), &[4, 0, 2, 0, 0xff]);
        let [header, pairs, answer] = [(0, 2, false), (2, 2, false), (4, 1, true)]
            .map(|(offset, len, write)| (GuestRing::at(offset), len, write));
        let id = commands.offer(&[header, pairs, answer]);
        assert_eq!(lab.receive().len(), 0);
        assert_eq!(commands.used(), [(id, 1)]);
        assert_eq!(commands.read(GuestRing::at(4), 1), [0]);
        // Without room there is no answer.
        let id = commands.offer_indirect(&[header]);
        lab.receive();
        assert_eq!(commands.used(), [(id, 0)]);
        assert!(!lab.queue.rest());
        assert!(commands.wants_kick());
        lab.transmit(&[&frame(1, 60)]);
        assert_eq!(lab.dropped(DropReason::NoPeer), 1, "it is no ring for frames");
    }
}

#[test]
fn case_49_a_ring_that_is_not_enabled_is_drained_or_left_alone() {
    for packed in BOTH {
        let mut lab = Fixture::with(packed, 8, BASIC);
        lab.rings.set_enabled(1, false);
        lab.rings.set_enabled(0, false);
        assert!(!lab.rings.are_up());
        lab.send(0, &frame(1, 60));
        lab.give(0, 2048);
        assert_eq!(lab.receive().len(), 0);
        lab.transmit(&[&frame(1, 60)]);
        assert_eq!((lab.tx.used().len(), lab.rx.used().len()), (1, 0));
        assert_eq!((lab.dropped(DropReason::NotAttached), lab.dropped(DropReason::NoPeer)), (1, 1));
        lab.rings.set_enabled(0, true);
        lab.rings.set_enabled(1, true);
        assert!(lab.rings.are_up());
        lab.transmit(&[&frame(1, 60)]);
        assert_eq!(lab.rx.used().len(), 1);
    }
}

#[test]
fn an_announcement_comes_in_whatever_the_rings_do() {
    let mut lab = Fixture::with(false, 8, BASIC);
    lab.rings.clear();
    lab.rings.announce(vmlan_frame::MacAddr([2, 0, 0, 0, 0, 9]));
    let came = lab.receive();
    assert_eq!((came.len(), came[0].len()), (1, 60));
    assert_eq!(
        came[0][..22],
        [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 9, 0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]
    );
    assert_eq!((&came[0][22..28], &came[0][32..38]), (&[2, 0, 0, 0, 0, 9][..], &[2, 0, 0, 0, 0, 9][..]));
    assert!(lab.receive().is_empty());
}

#[test]
fn without_buffers_frames_stay_in_the_ring() {
    for packed in BOTH {
        let mut lab = Fixture::with(packed, 8, BASIC);
        lab.pool = Pool::new(PoolSizes { small: 1, large: 0, bulk: 0 });
        (0..3).for_each(|at| {
            lab.send(4096 * at, &frame(at as u8, 60));
        });
        let (frames, held) = lab.try_receive().unwrap();
        assert_eq!(frames, [&frame(0, 60)[..]]);
        assert_eq!(lab.receive().len(), 0);
        assert!(lab.queue.rest(), "it has more");
        drop(held);
        assert_eq!(lab.receive(), [&frame(1, 60)[..]]);
        assert_eq!(lab.receive(), [&frame(2, 60)[..]]);
        assert_eq!(lab.tx.used().len(), 3);
    }
}

#[test]
fn areas_are_inside_and_aligned() {
    for packed in BOTH {
        let lab = Fixture::with(packed, 8, BASIC);
        for wrong in 0..3 {
            for by in [1, guest::SIZE] {
                let mut setup = lab.tx.setup(BASIC);
                let addresses = &mut setup.addresses;
                *[&mut addresses.descriptors, &mut addresses.driver, &mut addresses.device][wrong] += by;
                lab.rings.start(1, setup);
                assert!(lab.broken(1).is_some(), "{packed} {wrong} {by}");
            }
        }
        for num in [0, 3, 65_536] {
            let mut setup = lab.tx.setup(BASIC);
            setup.num = num;
            setup.base = 0;
            lab.rings.start(1, setup);
            assert_eq!(lab.broken(1).is_none(), packed && num == 3, "{packed} {num}");
        }
    }
    let lab = Fixture::with(true, 8, BASIC);
    let mut setup = lab.tx.setup(BASIC);
    setup.base = 8;
    lab.rings.start(1, setup);
    assert!(lab.broken(1).unwrap().contains("entry 8"));
    assert!(lab.queue.descriptor(0).unwrap().as_fd().try_clone_to_owned().is_ok());
}

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
