//! Threads that change a link while others run traffic through it. Bounded by rounds, not by time.

use core::sync::atomic::{AtomicBool, AtomicU64};
use std::collections::HashSet;
use std::thread;

use super::*;

/// A filter that must not be called after its end, drops one mark, and consumes another.
struct Mortal {
    dead: AtomicBool,
    ends: Arc<AtomicUsize>,
}

impl Mortal {
    fn decide(&self, frame: &mut Frame, reason: DropReason) -> Verdict {
        assert!(!self.dead.load(SeqCst), "called after its end");
        match mark(frame) {
            1 => Verdict::Drop(reason),
            2 => {
                drop(core::mem::take(frame));
                Verdict::Consumed
            }
            _ => Verdict::Continue,
        }
    }
}

impl Filter for Mortal {
    fn input(&self, _: &Context<'_>, frame: &mut Frame) -> Verdict {
        self.decide(frame, DropReason::InputFilter)
    }

    fn output(&self, _: &Context<'_>, frame: &mut Frame) -> Verdict {
        self.decide(frame, DropReason::OutputFilter)
    }

    fn event(&self, _: &Link, _: &Event) {
        assert!(!self.dead.load(SeqCst), "called after its end");
    }

    fn detached(&self) {
        assert!(!self.dead.swap(true, SeqCst), "ended twice");
        self.ends.fetch_add(1, SeqCst);
    }
}

const ROUNDS: usize = 200;
const WORKERS: usize = 3;

/// The counts of all workers together.
#[derive(Default)]
struct Seen {
    received: AtomicU64,
    bridged: AtomicU64,
    handed_out: AtomicU64,
}

/// Input and output until the changes are over.
fn work(number: usize, link: &Link, over: &AtomicBool, seen: &Seen) {
    let worker = Worker::new();
    let cx = Context { worker: number, ..worker.cx() };
    while !over.load(SeqCst) {
        let mut batch = worker.frames(6);
        batch.push(worker.frame(IPV6, 7));
        seen.received.fetch_add(batch.len() as u64, SeqCst);
        link.input(&cx, &mut batch);
        seen.bridged.fetch_add(batch.len() as u64, SeqCst);
        seen.handed_out.fetch_add(batch.len() as u64, SeqCst);
        let _ = link.output(&cx, &mut batch, &mut Wire::of(link));
        assert!(batch.is_empty());
        assert_eq!(worker.pool.out(), 0);
    }
}

/// Attaches and detaches filters; how many were attached.
fn change_filters(link: &Link, ends: &Arc<AtomicUsize>) -> usize {
    let mut attached = 0;
    for _ in 0..ROUNDS {
        let filter = Arc::new(Mortal { dead: AtomicBool::default(), ends: ends.clone() });
        if let Ok(id) = link.attach_filter(FilterOptions::new("mortal"), filter.clone()) {
            attached += 1;
            thread::yield_now();
            // Else the link's own end was quicker, and may still be running.
            if link.detach_filter(id).is_ok() {
                assert!(filter.dead.load(SeqCst), "detach returns after the end");
            }
        }
    }
    attached
}

fn change_others(link: &Link) {
    for round in 0..ROUNDS {
        let bridge = link.attach_bridge();
        let _ = link.attach_protocol(protocol(ProtocolFamily::INET), Sink::new("v4", &Log::default()));
        let tap = link.attach_tap(Arc::new(Counting::default()));
        link.set_carrier(round % 2 == 0);
        thread::yield_now();
        let _ = link.detach_protocol(ProtocolFamily::INET);
        let _ = tap.map(|tap| link.detach_tap(tap));
        drop(bridge);
    }
}

/// Lets other threads end, also when a change panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Runs workers beside `changes`; what was seen.
fn beside_traffic(link: &Link, changes: impl FnOnce() + Send) -> Seen {
    let (seen, over) = (Seen::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        for number in 0..WORKERS {
            let (seen, over) = (&seen, &over);
            scope.spawn(move || work(number, link, over, seen));
        }
        let _over = Over(&over);
        changes();
    });
    seen
}

#[test]
fn filters_change_under_traffic() {
    let registry = Registry::new(WORKERS, || SystemTime::UNIX_EPOCH);
    let link = attached(&registry);
    let ends = Arc::new(AtomicUsize::default());
    let attached = AtomicUsize::default();
    let seen = beside_traffic(&link, || {
        thread::scope(|scope| {
            scope.spawn(|| attached.fetch_add(change_filters(&link, &ends), SeqCst));
            scope.spawn(|| attached.fetch_add(change_filters(&link, &ends), SeqCst));
            change_others(&link);
        });
    });
    assert_eq!((ends.load(SeqCst), attached.load(SeqCst)), (2 * ROUNDS, 2 * ROUNDS));
    let sum = link.counters().snapshot();
    assert_eq!(sum.rx_frames, seen.received.load(SeqCst));
    assert_eq!(sum.rx_frames, seen.bridged.load(SeqCst) + sum.dropped_on(vmlan_frame::Direction::Ingress));
    assert_eq!(seen.handed_out.load(SeqCst), sum.tx_frames + sum.dropped_on(vmlan_frame::Direction::Egress));
}

/// A filter, protocol or driver that must not end in a thread that moves frames.
struct Placed {
    /// The threads in which a filter saw one.
    workers: Arc<Mutex<HashSet<thread::ThreadId>>>,
    ends: Arc<AtomicUsize>,
}

impl Placed {
    fn end(&self) {
        assert!(!self.workers.lock().contains(&thread::current().id()), "a worker ends nothing");
        self.ends.fetch_add(1, SeqCst);
    }
}

impl Filter for Placed {
    fn input(&self, _: &Context<'_>, _: &mut Frame) -> Verdict {
        self.workers.lock().insert(thread::current().id());
        Verdict::Continue
    }

    fn detached(&self) {
        self.end();
    }
}

impl Protocol for Placed {
    fn input(&self, _: &Context<'_>, _: &mut Batch) -> Result<(), Error> {
        Ok(())
    }

    fn detached(&self) {
        self.end();
    }
}

impl Driver for Placed {
    fn detached(&self) {
        self.end();
    }
}

#[test]
fn nothing_ends_in_a_worker() {
    let registry = Registry::new(WORKERS, || SystemTime::UNIX_EPOCH);
    let link = acquired(&registry);
    let workers = Arc::<Mutex<HashSet<_>>>::default();
    let ends = Arc::new(AtomicUsize::default());
    let placed = || Arc::new(Placed { workers: workers.clone(), ends: ends.clone() });
    beside_traffic(&link, || {
        for _ in 0..ROUNDS {
            while link.attach(placed(), None) == Err(Error::Busy) {
                thread::yield_now();
            }
            let id = link.attach_filter(FilterOptions::new("placed"), placed()).unwrap();
            link.attach_protocol(protocol(ProtocolFamily::INET), placed()).unwrap();
            link.attach_protocol(protocol(ProtocolFamily::INET6), placed()).unwrap();
            thread::yield_now();
            link.detach_protocol(ProtocolFamily::INET).unwrap();
            link.detach_filter(id).unwrap();
            link.attach_filter(FilterOptions::new("placed"), placed()).unwrap();
            link.detach().unwrap();
        }
    });
    registry.settle();
    assert_eq!((ends.load(SeqCst), link.is_detaching()), (5 * ROUNDS, false));
}

#[test]
fn a_link_is_heard_of_from_its_attachment_to_its_end() {
    let registry = registry();
    let link = acquired(&registry);
    let events = registry.subscribe(1 << 14);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    link.post_driver_event(1);
                }
            });
        }
        let _over = Over(&over);
        let mut is_attached = false;
        for _ in 0..ROUNDS {
            while link.attach(Arc::new(()), None) == Err(Error::Busy) {
                thread::yield_now();
            }
            thread::yield_now();
            link.detach().unwrap();
            for code in codes(&events) {
                assert_eq!(is_attached, code != "if_attached", "{code}");
                is_attached = code != "if_detached";
            }
        }
    });
}

#[test]
fn links_come_and_go_under_traffic() {
    let registry = Registry::new(WORKERS, || SystemTime::UNIX_EPOCH);
    let link = acquired(&registry);
    let ends = Arc::new(AtomicUsize::default());
    let attached = AtomicUsize::default();
    beside_traffic(&link, || {
        thread::scope(|scope| {
            scope.spawn(|| attached.fetch_add(change_filters(&link, &ends), SeqCst));
            scope.spawn(|| change_others(&link));
            for _ in 0..ROUNDS {
                // Busy: the last detach is waiting for a worker's batch.
                while link.attach(Arc::new(()), None) == Err(Error::Busy) {
                    thread::yield_now();
                }
                thread::yield_now();
                link.detach().unwrap();
            }
        });
    });
    registry.settle();
    assert!(!link.is_attached() && !link.is_detaching());
    assert_eq!((link.references(), ends.load(SeqCst)), (0, attached.load(SeqCst)));
}
