mod chains;
mod differential;
mod exhaustive;
mod front_end;
pub(super) mod guest;
mod hostile;
mod kicks;
mod naive;
mod properties;
mod restarts;
mod threads;

use std::os::fd::AsFd;
use std::sync::Arc;

use vmlan_frame::{Batch, Context, Counters, DropReason, Instant, Offload, Pool, PoolSizes, Takes, VlanTag};
use vmlan_sys::guest_memory::Mapping;

use super::counters::RingCounters;
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
        let fixture = Fixture::unknown(count, rx, tx, features);
        fixture.rings.admit();
        fixture
    }

    /// A device of a guest that the network does not know yet.
    fn unknown(count: usize, rx: GuestRing, tx: GuestRing, features: u64) -> Fixture {
        let device = Device::new(count, 1, RingCounters::new(1)).unwrap();
        let counters = Arc::new(Counters::new(1));
        let settings = Settings::of_test(0, counters.clone(), 64);
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
fn case_49_before_the_network_knows_a_guest_only_rings_that_are_not_enabled_are_looked_at() {
    for packed in BOTH {
        let [rx, tx] = [(); 2].map(|()| GuestRing::new(packed, 8));
        let mut lab = Fixture::unknown(2, rx, tx, BASIC);
        lab.send(0, &frame(1, 60));
        assert_eq!((lab.receive().len(), lab.tx.used().len()), (0, 0));
        assert!(!lab.queue.rest(), "what is left alone is not looked at again and again");
        lab.rings.set_enabled(1, false);
        assert_eq!((lab.receive().len(), lab.tx.used().len()), (0, 1));
        assert_eq!(lab.dropped(DropReason::NotAttached), 1);
        lab.rings.set_enabled(1, true);
        lab.send(0, &frame(2, 60));
        assert_eq!((lab.receive().len(), lab.tx.used().len()), (0, 0));
        lab.rings.admit();
        assert_eq!(lab.receive(), [frame(2, 60)]);
        assert_eq!(lab.dropped(DropReason::NotAttached), 1);
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
