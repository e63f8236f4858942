//! Kicks and calls: the signs that guest and device give each other.

use super::*;

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
