//! Taps and multicast groups: what a driver is told when several threads change them.

use core::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// A driver that knows what it was told, and whose first call about groups waits.
struct Told {
    tapped: AtomicBool,
    groups: Mutex<Vec<Vec<LinkAddress>>>,
    first: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
}

impl Told {
    fn attach(
        registry: &Registry,
        first: Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>,
    ) -> (Link, Arc<Told>) {
        let told = Told { tapped: AtomicBool::default(), groups: Mutex::default(), first: Mutex::new(first) };
        let (link, told) = (acquired(registry), Arc::new(told));
        link.attach(told.clone(), None).unwrap();
        (link, told)
    }
}

impl Driver for Told {
    fn set_tap(&self, on: bool) -> Result<(), Error> {
        assert_ne!(self.tapped.swap(on, SeqCst), on, "nothing is told twice");
        Ok(())
    }

    fn set_multicasts(&self, groups: &[LinkAddress]) {
        let first = self.first.lock().take();
        if let Some((entered, go_on)) = first {
            entered.send(()).unwrap();
            go_on.recv_timeout(DEADLINE).unwrap();
        }
        self.groups.lock().push(groups.to_vec());
    }
}

fn group(last: u8) -> LinkAddress {
    MacAddr([1, 0, 0x5e, 0, 0, last]).into()
}

#[test]
fn a_membership_that_changes_while_the_driver_is_told_is_told_last() {
    let registry = registry();
    let (entered, is_entered) = mpsc::channel();
    let (tell, go_on) = mpsc::channel();
    let (link, told) = Told::attach(&registry, Some((entered, go_on)));
    thread::scope(|scope| {
        scope.spawn(|| link.join_multicast(group(1)).unwrap());
        is_entered.recv_timeout(DEADLINE).unwrap();
        link.join_multicast(group(2)).unwrap();
        link.join_multicast(group(3)).unwrap();
        link.leave_multicast(group(1)).unwrap();
        tell.send(()).unwrap();
    });
    assert_eq!(*told.groups.lock(), [vec![group(1)], vec![group(2), group(3)]]);
}

#[test]
fn the_last_that_a_driver_hears_is_what_the_link_is_a_member_of() {
    let registry = registry();
    let (link, told) = Told::attach(&registry, None);
    thread::scope(|scope| {
        for number in 1..=3 {
            let link = &link;
            scope.spawn(move || {
                for _ in 0..300 {
                    link.join_multicast(group(number)).unwrap();
                    link.leave_multicast(group(number)).unwrap();
                }
                link.join_multicast(group(number)).unwrap();
            });
        }
    });
    assert_eq!(told.groups.lock().last(), Some(&link.multicasts()));
    assert_eq!(link.multicasts().len(), 3);
}

#[test]
fn a_driver_has_a_tap_switched_on_for_as_long_as_there_is_one() {
    let registry = registry();
    let (link, told) = Told::attach(&registry, None);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..300 {
                    let id = link.attach_tap(Arc::new(Counting::default())).unwrap();
                    assert!(told.tapped.load(SeqCst));
                    link.detach_tap(id).unwrap();
                }
            });
        }
    });
    assert!(!told.tapped.load(SeqCst));
}

#[test]
fn a_tap_that_the_driver_refuses_is_not_there() {
    struct Refusing;
    impl Driver for Refusing {
        fn set_tap(&self, _: bool) -> Result<(), Error> {
            Err(Error::Io)
        }
    }
    let registry = registry();
    let link = acquired(&registry);
    link.attach(Arc::new(Refusing), None).unwrap();
    assert_eq!(link.attach_tap(Arc::new(Counting::default())), Err(Error::Io));
    assert!(link.taps().is_none());
}

/// A tap whose callback waits until it is told to go on.
struct Blocking {
    entered: mpsc::Sender<()>,
    go_on: Mutex<mpsc::Receiver<()>>,
    running: AtomicBool,
}

impl Tap for Blocking {
    fn frame(&self, _: &Context<'_>, _: vmlan_frame::Direction, _: &Frame) {
        self.running.store(true, SeqCst);
        self.entered.send(()).unwrap();
        self.go_on.lock().recv_timeout(DEADLINE).unwrap();
        self.running.store(false, SeqCst);
    }
}

#[test]
fn detach_of_a_tap_returns_after_its_running_callback() {
    let registry = registry();
    let link = attached(&registry);
    let (entered, is_entered) = mpsc::channel();
    let (tell, go_on) = mpsc::channel();
    let tap = Arc::new(Blocking { entered, go_on: Mutex::new(go_on), running: AtomicBool::default() });
    let id = link.attach_tap(tap.clone()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let worker = Worker::new();
            link.input(&worker.cx(), &mut worker.frames(1));
        });
        is_entered.recv_timeout(DEADLINE).unwrap();
        let detaching = scope.spawn(|| {
            link.detach_tap(id).unwrap();
            assert!(!tap.running.load(SeqCst));
        });
        // Off the list at once, while the callback still runs.
        while link.taps().is_some() {
            thread::yield_now();
        }
        assert!(tap.running.load(SeqCst));
        tell.send(()).unwrap();
        detaching.join().unwrap();
    });
}

#[test]
fn a_thread_with_taps_in_hand_detaches_one_without_waiting_for_itself() {
    let (registry, worker) = (registry(), Worker::new());
    let link = attached(&registry);
    let (stays, goes) = (Arc::new(Counting::default()), Arc::new(Counting::default()));
    let id = link.attach_tap(goes.clone()).unwrap();
    link.attach_tap(stays.clone()).unwrap();
    let taps = link.taps().unwrap();
    link.detach_tap(id).unwrap();
    taps.dropped(&worker.cx(), &worker.frame(IPV4, 1), DropReason::NoDestination);
    drop(taps);
    link.input(&worker.cx(), &mut worker.frames(2));
    let seen = |tap: &Counting| (tap.dropped.load(SeqCst), tap.ingress.load(SeqCst));
    // Both saw the frame's drop, for which there was no network.
    assert_eq!((seen(&goes).1, seen(&stays).1), (0, 2));
}
