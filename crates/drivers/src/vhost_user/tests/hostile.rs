//! Guests that mean harm, as far as an attack on a whole daemon (`crates/attack`) cannot show what becomes of it.

use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};

use vmlan_frame::offload::validate;

use super::guest::SIZE;
use super::*;

/// The mappings of both rings.
fn mappings(lab: &Fixture) -> [Weak<Mapping>; 2] {
    [Arc::downgrade(&lab.rx.mapping), Arc::downgrade(&lab.tx.mapping)]
}

/// Has the guest let go of its memory.
fn let_go(lab: &mut Fixture) {
    for ring in [&mut lab.rx, &mut lab.tx] {
        ring.mapping = Arc::new(Mapping::plain(SIZE as usize));
    }
}

/// A worker that had the last reference would free all of a guest's memory in the middle of its work.
#[test]
fn memory_that_is_given_back_is_freed_by_the_thread_that_took_it() {
    for packed in BOTH {
        for is_broken in BOTH {
            let mut lab = Fixture::with(packed, 8, BASIC);
            let old = mappings(&lab);
            lab.send(0, &frame(1, 60));
            let (_, held) = lab.try_receive().unwrap();
            // Frames that wait for room.
            lab.transmit(&[&frame(2, 60)]);
            if is_broken {
                lab.tx.offer(&[(0, 100, false)]);
                assert_eq!(lab.receive().len(), 0);
                assert!(lab.broken(1).is_some());
            }
            let_go(&mut lab);

            let taken = lab.rings.clear();

            assert!(old.iter().all(|mapping| mapping.strong_count() > 0));
            drop(taken);
            assert_eq!(old.map(|mapping| mapping.strong_count()), [0, 0], "{packed} {is_broken}");
            assert_eq!(held.iter().map(|frame| frame.octets().to_vec()).collect::<Vec<_>>(), [frame(1, 60)]);
        }
    }
}

#[test]
fn memory_that_is_replaced_is_freed_by_the_thread_that_took_it() {
    for packed in BOTH {
        let mut lab = Fixture::with(packed, 8, BASIC);
        let old = mappings(&lab);
        lab.send(0, &frame(1, 60));
        assert_eq!(lab.receive().len(), 1);
        let_go(&mut lab);

        let taken = lab.rings.replace(&Arc::default(), None);

        assert!(old.iter().all(|mapping| mapping.strong_count() > 0));
        drop(taken);
        assert_eq!(old.map(|mapping| mapping.strong_count()), [0, 0], "{packed}");
    }
}

#[test]
fn frames_that_wait_elsewhere_do_not_need_their_ring() {
    for packed in BOTH {
        let mut lab = Fixture::with(packed, 8, BASIC);
        let sent: Vec<_> = (0..3).map(|number| frame(number, 300)).collect();
        for (at, frame) in sent.iter().enumerate() {
            lab.send(4096 * at as u64, frame);
        }
        let (_, waiting) = lab.try_receive().unwrap();

        let stopped = lab.rings.stop(1).unwrap();

        // Each is completed, so the ring goes on behind them.
        assert_eq!(stopped.base, if packed { 0x8003_8003 } else { 3 });
        assert_eq!(lab.tx.used().len(), 3);
        drop(stopped);
        (0..3).for_each(|at| lab.tx.write(GuestRing::at(4096 * at), &[0xff; 400]));
        let_go(&mut lab);
        let frames: Vec<_> = waiting.iter().map(|frame| frame.octets().to_vec()).collect();
        assert_eq!(frames, sent);
    }
}

#[test]
fn nothing_is_written_to_a_ring_that_was_stopped_while_frames_waited_for_its_room() {
    for packed in BOTH {
        let mut lab = Fixture::with(packed, 8, BASIC);
        lab.transmit(&[&frame(1, 60), &frame(2, 60)]);
        assert_eq!(lab.queue.status().waiting, 2);

        let stopped = lab.rings.stop(0).unwrap();

        assert_eq!(stopped.base, if packed { 0x8000_8000 } else { 0 });
        lab.give(0, 2048);
        lab.transmit(&[&frame(3, 60)]);
        assert_eq!(lab.rx.used(), []);
        assert_eq!(lab.rx.read(GuestRing::at(0), 2048), [0; 2048]);
        let sum = lab.counters.snapshot();
        assert_eq!((sum.tx_frames, lab.dropped(DropReason::NoPeer), sum.queued), (0, 3, 0), "{packed}");
    }
}

/// The places of fields in a virtio-net header, and values of theirs that no frame of 3,000 octets of TCP has.
const WRONG: &[(usize, &[u8])] = &[
    // Flags and types that there are not, UDP, IPv6.
    (0, &[0xff]),
    (0, &[0]),
    (1, &[0x40]),
    (1, &[0xff]),
    (1, &[5]),
    (1, &[4]),
    // Segments of no octet, of one, and so small that there are more than may be made.
    (4, &[0, 0]),
    (4, &[1, 0]),
    (4, &[2, 0]),
    // Checksums beyond the end, around all numbers, in the addresses, and behind the place of TCP's.
    (6, &[0xff, 0x0f]),
    (6, &[0xff, 0xff]),
    (8, &[0xff, 0xff]),
    (6, &[0xff, 0xff, 0xff, 0xff]),
    (6, &[26, 0, 0, 0]),
    (8, &[18, 0]),
];

#[test]
fn requests_that_do_not_fit_their_frame_are_counted_and_completed() {
    for packed in BOTH {
        let mut lab = Fixture::with(packed, 8, BASIC);
        let (octets, request) = crate::test_segments::segments(3000);
        for (count, (place, wrong)) in (1..).zip(WRONG) {
            let mut header = request.to_virtio();
            header[*place..place + wrong.len()].copy_from_slice(wrong);
            lab.tx.write(GuestRing::at(0), &[&header[..], &octets].concat());
            let id = lab.tx.offer(&[(GuestRing::at(0), 12 + octets.len() as u32, false)]);

            assert_eq!(lab.receive().len(), 0, "{packed} {place} {wrong:?}");

            assert_eq!(lab.tx.used(), [(id, 0)]);
            assert_eq!(lab.dropped(DropReason::BadOffload), count, "{packed} {place} {wrong:?}");
        }
        assert_eq!(lab.broken(1), None);
    }
}

#[test]
fn the_number_of_buffers_is_not_the_senders_to_say() {
    for packed in BOTH {
        let mut lab = Fixture::with(packed, 8, BASIC);
        let header = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
        lab.tx.write(GuestRing::at(0), &[&header[..], &frame(1, 60)].concat());
        lab.tx.offer(&[(GuestRing::at(0), 72, false)]);
        let (frames, mut batch) = lab.try_receive().unwrap();
        assert_eq!(frames, [frame(1, 60)]);
        lab.give(0, 2048);

        lab.transmit_batch(&mut batch);

        assert_eq!(lab.rx.read(GuestRing::at(0), 12), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    }
}

/// Tells a thread to end, also where a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn headers_that_change_while_they_are_read_are_sent_as_they_were_checked() {
    const ROUNDS: usize = 2000;
    for packed in BOTH {
        let mut lab = Fixture::with(packed, 8, BASIC);
        let (octets, request) = crate::test_segments::segments(3000);
        let right = [&request.to_virtio()[..], &octets].concat();
        lab.tx.write(GuestRing::at(0), &right);
        // Of the frame: its type, the length of the IP header, the protocol, and the length of the TCP header.
        let frame: &[(usize, &[u8])] = &[
            (12 + 12, &[0x81, 0]),
            (12 + 12, &[0x86, 0xdd]),
            (12 + 14, &[0x4f]),
            (12 + 23, &[17]),
            (12 + 46, &[0xf0]),
        ];
        let (mapping, is_over) = (lab.tx.mapping.clone(), AtomicBool::new(false));
        let at = (GuestRing::at(0) - GUEST) as usize;
        let mut passed = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let span = mapping.span(0, SIZE).unwrap();
                for (place, wrong) in WRONG.iter().chain(frame).cycle() {
                    for _ in 0..20 {
                        span.write(at + place, wrong);
                        span.write(at + place, &right[*place..place + wrong.len()]);
                    }
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            let _over = Over(&is_over);
            for _ in 0..ROUNDS {
                lab.tx.offer(&[(GuestRing::at(0), right.len() as u32, false)]);
                let (_, batch) = lab.try_receive().unwrap();
                for frame in batch.iter() {
                    let request = frame.meta.offload;
                    assert_eq!(validate(frame.octets(), request), Ok(request));
                    passed += 1;
                }
                assert_eq!(lab.tx.used().len(), 1);
            }
        });
        assert_eq!(passed + lab.dropped(DropReason::BadOffload), ROUNDS as u64, "{packed}");
    }
}
