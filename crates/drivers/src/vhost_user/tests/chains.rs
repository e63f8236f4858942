//! Chains of descriptors, good and bad.

use super::*;

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
