//! Kicks and calls: the signs that guest and device give each other.

use super::super::device::Setup;
use super::*;
use crate::queue::RingCounts;

#[test]
fn case_26_the_guest_is_told_when_its_index_is_passed() {
    use super::super::ring::need_event;
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
fn case_47_a_guest_under_load_is_asked_for_no_kick_and_an_idle_one_wakes_nobody() {
    const TURNS: usize = 500;
    for (packed, event_idx) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut lab = Fixture::with(packed, 64, BASIC | if event_idx { feature::EVENT_IDX } else { 0 });
        let (mut kicks, mut came) = ([0, 0], 0);
        for turn in 0..TURNS {
            // As many as there is room for in some turns, one in others.
            let count = if turn % 3 == 0 { 1 } else { 48 };
            for number in 0..count {
                let at = GuestRing::at(4096 * number);
                lab.tx.write(at, &[&[0; 12][..], &frame(number as u8, 60)].concat());
                kicks[1] += usize::from(lab.tx.offer_and_look((at, 72, false), event_idx));
                kicks[0] += usize::from(lab.rx.offer_and_look((at, 2048, true), event_idx));
            }
            let (_, mut batch) = lab.try_receive().unwrap();
            came += batch.len();
            lab.transmit_batch(&mut batch);
            assert_eq!((lab.tx.used().len(), lab.rx.used().len()), (count as usize, count as usize));
        }
        assert!(came > TURNS);
        // The first turn has one frame, for which the ring was armed when it started.
        assert_eq!(kicks, [1, 1], "{packed} {event_idx}");

        // Frames that find no room are the only ones for which kicks are asked for: once, however many wait.
        lab.transmit(&[&frame(1, 60), &frame(2, 60)]);
        lab.transmit(&[&frame(3, 60)]);
        let buffers = (0..4).map(|at| (GuestRing::at(4096 * at), 2048, true));
        let told: Vec<_> = buffers.map(|buffer| lab.rx.offer_and_look(buffer, event_idx)).collect();
        assert!(told[0], "{packed} {event_idx}");
        lab.transmit(&[]);
        assert_eq!(lab.rx.used().len(), 3);

        // It is idle: nothing wakes the worker until there is a frame, and that does with one kick.
        let kick = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        let stopped = lab.rings.stop(1).unwrap();
        let setup = Setup { base: stopped.base, kick: Some(kick.try_clone().unwrap()), ..stopped.setup };
        lab.rings.start(1, setup);
        let poller = vmlan_sys::Poller::new().unwrap();
        poller.add(lab.queue.descriptor(0).unwrap(), 1, vmlan_sys::Interest::READ).unwrap();
        let mut events = Vec::new();
        let mut wakes = |lab: &mut Fixture| {
            poller.wait(&mut events, Some(std::time::Duration::ZERO)).unwrap();
            lab.queue.is_ready(0);
            events.len()
        };
        // That of the start.
        wakes(&mut lab);
        assert!(lab.receive().is_empty() && !lab.queue.rest());
        assert_eq!((0..100).map(|_| wakes(&mut lab)).sum::<usize>(), 0);
        let at = GuestRing::at(0);
        lab.tx.write(at, &[&[0; 12][..], &frame(1, 60)].concat());
        assert!(lab.tx.offer_and_look((at, 72, false), event_idx));
        rustix::io::write(&kick, &1u64.to_ne_bytes()).unwrap();
        assert_eq!((wakes(&mut lab), wakes(&mut lab)), (1, 0));
        assert_eq!(lab.receive().len(), 1);
    }
}

#[test]
fn kicks_calls_and_broken_rings_are_counted() {
    let mut lab = Fixture::with(false, 8, BASIC);
    let event = || rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    let kick = event();
    let mut setup = lab.tx.setup(BASIC);
    setup.kick = Some(kick.try_clone().unwrap());
    setup.call = Some(event());
    lab.rings.start(1, setup);
    let counts = |lab: &Fixture| lab.rings.counters().snapshot();
    let kick_and_receive = |lab: &mut Fixture| {
        rustix::io::write(&kick, &1u64.to_ne_bytes()).unwrap();
        lab.queue.is_ready(0);
        lab.receive();
    };
    // A guest may have slept through what was before.
    let mut expected = RingCounts { calls: 1, ..RingCounts::default() };
    assert_eq!(counts(&lab), expected);
    lab.send(0, &frame(1, 60));
    kick_and_receive(&mut lab);
    expected = RingCounts { kicks: 1, calls: 2, ..expected };
    assert_eq!(counts(&lab), expected);
    kick_and_receive(&mut lab);
    expected = RingCounts { kicks: 2, empty_wakeups: 1, ..expected };
    assert_eq!(counts(&lab), expected);
    lab.receive();
    assert_eq!(counts(&lab), expected, "nobody kicked");
    lab.tx.offer(&[(1, 100, false)]);
    kick_and_receive(&mut lab);
    assert!(lab.broken(1).is_some());
    assert_eq!(counts(&lab), RingCounts { kicks: 3, empty_wakeups: 2, broken_rings: 1, ..expected });
}

#[test]
fn a_guest_whose_memory_grew_is_asked_for_no_kick_while_it_is_polled() {
    for packed in BOTH {
        let mut lab = Fixture::with(packed, 8, BASIC);
        assert!(lab.tx.wants_kick(), "nothing came yet");
        // As when a guest maps more, of which only this ring's part matters here.
        drop(lab.rings.replace(&lab.tx.memory(), None));
        lab.send(0, &frame(1, 60));
        assert_eq!(lab.receive().len(), 1);
        assert!(!lab.tx.wants_kick(), "{packed}");
        // Whatever was asked for before, it is said anew.
        drop(lab.rings.replace(&lab.tx.memory(), None));
        assert!(!lab.queue.rest());
        assert!(lab.tx.wants_kick(), "{packed}");
    }
}
