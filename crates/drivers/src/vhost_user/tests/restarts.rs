//! Packed rings of a daemon that was killed: at every store of a turn, and at the start of every other ring that may
//! be in the place.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::checkpoint::{Checkpoint, Process, Starting, Turn};
use super::super::packed::Cursor;
use super::*;

/// Entries of a ring, few enough to be gone round often, and one more than the longest turn has.
const NUM: u16 = 7;

const FRAME: usize = 60;
const BUFFER: u32 = 500;

/// The entries of the chains of a turn.
const SHAPES: [&[usize]; 6] = [&[1], &[1, 1], &[2, 1], &[1, 3], &[3, 2, 1], &[1, 1, 1, 1, 1, 1]];

fn this_process() -> Process {
    Process::of(std::process::id()).unwrap()
}

/// Starts a ring of the fixture as QEMU does, always with the same BASE.
fn start(lab: &Fixture, index: usize, checkpoint: &Checkpoint) {
    let ring = if index == 0 { &lab.rx } else { &lab.tx };
    let mut setup = ring.setup(BASIC);
    setup.checkpoint = Some(checkpoint.clone());
    lab.rings.start(index, setup);
}

/// A fixture whose ring `index` has an entry.
fn lab(index: usize) -> (Fixture, Checkpoint) {
    let lab = Fixture::with(true, NUM, BASIC);
    let checkpoint = Checkpoint::plain(this_process(), 0x8000_8000);
    start(&lab, index, &checkpoint);
    (lab, checkpoint)
}

/// The octets of a buffer that a frame behind its header is in, in so many pieces.
fn pieces(at: u64, entries: usize, octets: u32, writes: bool) -> Vec<(u64, u32, bool)> {
    let first = octets - 12 * (entries as u32 - 1);
    let rest = (1..entries).map(|piece| (at + u64::from(octets) - 12 * piece as u64, 12, writes));
    let mut pieces: Vec<_> = rest.collect();
    pieces.reverse();
    pieces.insert(0, (at, first, writes));
    pieces
}

fn table(ring: &GuestRing) -> Vec<u8> {
    let mut octets = vec![0; 16 * usize::from(NUM)];
    ring.all().read(0, &mut octets);
    octets
}

/// Puts the table back as it was when only the last `kept` of the turn's chains, which begin at `heads`, were written.
fn interrupt(ring: &GuestRing, before: &[u8], heads: &[u16], kept: usize) {
    let after = table(ring);
    ring.all().write(0, before);
    for head in &heads[heads.len() - kept..] {
        let at = 16 * usize::from(*head);
        ring.all().write(at, &after[at..at + 16]);
    }
}

/// Sends a frame and has it received and used.
#[track_caller]
fn pass_out(lab: &mut Fixture, number: u8) {
    let sent = frame(number, FRAME);
    let id = lab.send(0, &sent);
    assert_eq!(lab.receive(), [sent]);
    assert_eq!(lab.tx.used(), [(id, 0)]);
}

/// Has the guest receive a frame.
#[track_caller]
fn pass_in(lab: &mut Fixture, number: u8) {
    let sent = frame(number, FRAME);
    let id = lab.give(0, BUFFER);
    lab.transmit(&[&sent]);
    assert_eq!(lab.rx.used(), [(id, FRAME as u32 + 12)]);
    assert_eq!(lab.rx.read(GuestRing::at(12), FRAME), sent);
}

/// True if the ring is at the beginning and nothing is written, so that no mark of a device is in it and the turn is
/// taken again, from BASE.
fn is_at_beginning(done: u16, kept: usize) -> bool {
    done.is_multiple_of(2 * NUM) && kept == 0
}

#[test]
fn what_the_guest_sent_goes_on_wherever_a_turn_was_cut_off() {
    for (shape, done) in SHAPES.iter().flat_map(|shape| (0..2 * NUM + 2).map(move |done| (*shape, done))) {
        for kept in 0..=shape.len() {
            let (mut lab, checkpoint) = lab(1);
            (0..done).for_each(|number| pass_out(&mut lab, number as u8));
            let (mut heads, mut ids) = (Vec::new(), Vec::new());
            for (number, entries) in shape.iter().enumerate() {
                let at = GuestRing::at(number as u64 * 1000);
                lab.tx.write(at, &[&[0; 12][..], &frame(100, FRAME)].concat());
                heads.push(lab.tx.next);
                ids.push(lab.tx.offer(&pieces(at, *entries, FRAME as u32 + 12, false)));
            }
            let before = table(&lab.tx);
            assert_eq!(lab.receive().len(), shape.len());
            interrupt(&lab.tx, &before, &heads, kept);

            start(&lab, 1, &checkpoint);

            let again = if is_at_beginning(done, kept) { shape.len() } else { 0 };
            let case = (shape, done, kept);
            assert_eq!(lab.receive().len(), again, "{case:?}");
            let used: Vec<_> = lab.tx.used().into_iter().map(|(id, _)| id).collect();
            assert_eq!(used, ids, "{case:?}");
            (0..2 * NUM + 1).for_each(|number| pass_out(&mut lab, number as u8));
        }
    }
}

#[test]
fn what_the_guest_receives_goes_on_wherever_a_turn_was_cut_off() {
    for (shape, done) in SHAPES.iter().flat_map(|shape| (0..2 * NUM + 2).map(move |done| (*shape, done))) {
        for kept in 0..=shape.len() {
            let (mut lab, checkpoint) = lab(0);
            (0..done).for_each(|number| pass_in(&mut lab, number as u8));
            let (mut heads, mut ids) = (Vec::new(), Vec::new());
            for (number, entries) in shape.iter().enumerate() {
                heads.push(lab.rx.next);
                let at = GuestRing::at(number as u64 * 1000);
                ids.push(lab.rx.offer(&pieces(at, *entries, BUFFER, true)));
            }
            let before = table(&lab.rx);
            let frames: Vec<_> = (0..shape.len()).map(|number| frame(number as u8 + 1, FRAME)).collect();
            lab.transmit(&frames.iter().map(|frame| &**frame).collect::<Vec<_>>());
            interrupt(&lab.rx, &before, &heads, kept);

            start(&lab, 0, &checkpoint);

            let case = (shape, done, kept);
            let used = lab.rx.used();
            if is_at_beginning(done, kept) {
                assert_eq!(used, [], "{case:?}");
                // The buffers are as they were.
                lab.transmit(&frames.iter().map(|frame| &**frame).collect::<Vec<_>>());
                assert_eq!(lab.rx.used().len(), ids.len(), "{case:?}");
            } else {
                let (used, lengths): (Vec<_>, Vec<_>) = used.into_iter().unzip();
                assert_eq!(used, ids, "{case:?}");
                let expected = |number: usize| match shape.len() - number <= kept {
                    true => FRAME as u32 + 12,
                    false => BUFFER - 12 * (shape[number] as u32 - 1),
                };
                assert_eq!(lengths, (0..shape.len()).map(expected).collect::<Vec<_>>(), "{case:?}");
            }
            for (number, frame) in frames.iter().enumerate() {
                let at = GuestRing::at(number as u64 * 1000 + 12);
                assert_eq!(lab.rx.read(at, FRAME), *frame, "{case:?}");
            }
            (0..2 * NUM + 1).for_each(|number| pass_in(&mut lab, number as u8));
        }
    }
}

#[test]
fn a_turn_that_the_guest_has_answered_is_not_finished_again() {
    for done in 0..2 * NUM + 2 {
        let (mut lab, checkpoint) = lab(1);
        (0..=done).for_each(|number| pass_out(&mut lab, number as u8));
        // The guest comes to the turn's first entry again, and all others.
        let ids: Vec<_> = (0..NUM).map(|number| lab.send(0, &frame(number as u8, FRAME))).collect();
        start(&lab, 1, &checkpoint);
        assert_eq!(lab.tx.used(), [], "{done}");
        assert_eq!(lab.receive().len(), ids.len(), "{done}");
        assert_eq!(lab.tx.used().into_iter().map(|(id, _)| id).collect::<Vec<_>>(), ids, "{done}");
    }
}

#[test]
fn entries_that_are_written_for_a_turn_to_be_finished_are_logged() {
    let (mut lab, checkpoint) = lab(1);
    (0..3).for_each(|number| pass_out(&mut lab, number));
    lab.send(0, &frame(1, FRAME));
    let before = table(&lab.tx);
    lab.receive();
    interrupt(&lab.tx, &before, &[3], 0);
    let octets = Arc::new(Mapping::plain(4096));
    let mut setup = lab.tx.setup(BASIC);
    setup.checkpoint = Some(checkpoint);
    setup.log = Some(Arc::new(Log::new(octets.area(0, 4096).unwrap())));
    setup.addresses.log = Some(GUEST);
    lab.rings.start(1, setup);
    assert_eq!(octets.span(0, 4096).unwrap().load_u8(GUEST as usize / 4096 / 8), 1);
}

/// Where a ring starts that is known by `key`, has a table of these flags, and a turn in the entry of `checkpoint`.
fn position(checkpoint: &Checkpoint, flags: &[u16], (address, base): (u64, Cursor)) -> Cursor {
    let mapping = Mapping::plain(16 * flags.len());
    let table = mapping.span(0, 16 * flags.len() as u64).unwrap();
    flags.iter().enumerate().for_each(|(index, flags)| table.store_u16(16 * index + 14, *flags));
    checkpoint.begin(Starting { address, table, num: flags.len() as u16, base }).0
}

const AVAILABLE: u16 = 1 << 7;
const USED: u16 = 1 << 15;
/// A ring of which two entries are used in the first round.
const STALE: [u16; 4] = [AVAILABLE | USED, AVAILABLE | USED, AVAILABLE, 0];
/// One that a driver has just set up.
const FRESH: [u16; 4] = [AVAILABLE, AVAILABLE, AVAILABLE, 0];
const SECOND: Cursor = Cursor { index: 2, wrap: true };

/// An entry of the ring at address 7 that process `front_end` has started with `base`, after a turn of two entries.
fn entry(front_end: Process, base: u32) -> Checkpoint {
    let checkpoint = Checkpoint::plain(front_end, base);
    position(&checkpoint, &[0; 4], (7, Cursor::from_bits(base as u16)));
    checkpoint.word().store(Turn { from: Cursor::BEGINNING, to: SECOND, writes: false });
    checkpoint
}

#[test]
fn an_entry_is_believed_for_the_same_ring_of_the_same_process_alone() {
    let us = this_process();
    let init = Process::of(1).unwrap();
    let here = (7, Cursor::BEGINNING);
    assert_eq!(position(&entry(us, 0x8000), &STALE, here), SECOND);
    // The guest has set its ring up anew.
    assert_eq!(position(&entry(us, 0x8000), &FRESH, here), Cursor::BEGINNING);
    assert_eq!(position(&entry(us, 0x8000), &[0; 4], here), Cursor::BEGINNING);
    // Another ring: elsewhere, longer, or known to be at another place, or another front end's.
    assert_eq!(position(&entry(us, 0x8000), &STALE, (8, Cursor::BEGINNING)), Cursor::BEGINNING);
    assert_eq!(position(&entry(us, 0x8000), &[STALE[0]; 5], here), Cursor::BEGINNING);
    let other = entry(us, 0x8000).of(us, 1);
    assert_eq!(position(&other, &STALE, (7, Cursor { index: 1, wrap: false })).index, 1);
    assert_eq!(position(&entry(us, 0x8000).of(init, 0x8000), &STALE, here), Cursor::BEGINNING);
    // One that was stopped in order.
    let erased = entry(us, 0x8000);
    erased.erase();
    assert_eq!(position(&erased, &STALE, here), Cursor::BEGINNING);
}

#[test]
fn a_ring_that_was_not_at_its_beginning_needs_no_mark_of_a_device() {
    // Behind two rounds nothing tells it from a fresh one, but for its BASE.
    let here = (7, Cursor { index: 1, wrap: true });
    assert_eq!(position(&entry(this_process(), 0x8001), &[AVAILABLE | USED, 0, 0, 0], here), SECOND);
    let checkpoint = entry(this_process(), 0x8001);
    let last = Turn { from: Cursor { index: 3, wrap: false }, to: Cursor::BEGINNING, writes: false };
    checkpoint.word().store(last);
    assert_eq!(position(&checkpoint, &[0; 4], here), Cursor::BEGINNING);
}

#[test]
fn words_that_are_no_turns_of_the_ring_are_not_believed() {
    let here = (7, Cursor::BEGINNING);
    for word in [4, 0x8004, 0x8004_8000, 0x8000_8001, 0x7fff_7fff, 2 << 32 | 0x8002_8000, u64::MAX] {
        let checkpoint = entry(this_process(), 0x8000);
        checkpoint.set_word(word);
        assert_eq!(position(&checkpoint, &STALE, here), Cursor::BEGINNING, "{word:#x}");
    }
    // The chain of the turn ends elsewhere, or its head is not there.
    for head in [AVAILABLE | 1, 0] {
        let flags = [AVAILABLE | USED, AVAILABLE | USED, head, AVAILABLE | USED];
        let checkpoint = entry(this_process(), 0x8000);
        let to = Cursor { index: 3, wrap: true };
        checkpoint.word().store(Turn { from: SECOND, to, writes: false });
        assert_eq!(position(&checkpoint, &flags, here), Cursor::BEGINNING, "{head:#x}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_word_and_any_table_lead_into_the_ring(
        from in any::<u16>(),
        to in any::<u16>(),
        rest in 0_u64..4,
        flags in vec(any::<u16>(), 1..40),
        near in any::<bool>(),
    ) {
        let num = flags.len() as u16;
        let bits = |bits: u16| u64::from(if near { (bits & 0x8000) | ((bits & 0x7fff) % num) } else { bits });
        let base = 0x8000;
        let checkpoint = Checkpoint::plain(this_process(), base);
        position(&checkpoint, &vec![0; flags.len()], (7, Cursor::BEGINNING));
        checkpoint.set_word(rest << 32 | bits(to) << 16 | bits(from));
        prop_assert!(position(&checkpoint, &flags, (7, Cursor::BEGINNING)).index < num);
    }
}
