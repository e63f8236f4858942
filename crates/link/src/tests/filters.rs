use core::sync::atomic::AtomicBool;
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

fn options(protocol: Option<ProtocolFamily>, tagged: bool) -> FilterOptions {
    FilterOptions { protocol, tagged, ..FilterOptions::new("probe") }
}

#[test]
fn case_11_filters_run_in_order_both_ways() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    link.attach_filter(FilterOptions::new("A"), Probe::passing("A", &log)).unwrap();
    link.attach_filter(FilterOptions::new("B"), Probe::passing("B", &log)).unwrap();
    link.input(&worker.cx(), &mut worker.frames(1));
    link.output(&worker.cx(), &mut worker.frames(1), &mut Wire::of(&link)).unwrap();
    assert_eq!(logged(&log), ["A in 1", "B in 1", "A out 1", "B out 1"]);
    assert_eq!(link.filters(), ["A", "B"]);
}

#[test]
fn case_12_filter_of_another_protocol_is_not_called() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    link.attach_filter(options(Some(ProtocolFamily::INET6), false), Probe::passing("six", &log)).unwrap();
    let both = || Batch::from_iter([worker.frame(IPV4, 4), worker.frame(IPV6, 6)]);
    link.input(&worker.cx(), &mut both());
    link.output(&worker.cx(), &mut both(), &mut Wire::of(&link)).unwrap();
    assert_eq!(logged(&log), ["six in 6", "six out 6"]);
    link.set_carrier(false);
    assert_eq!(logged(&log), ["six link_off"]);
}

#[test]
fn case_13_consumed_frame_is_unseen_by_the_next() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    let consume = |mark| if mark == 1 { Verdict::Consumed } else { Verdict::Continue };
    link.attach_filter(FilterOptions::new("A"), Probe::deciding("A", &log, consume)).unwrap();
    link.attach_filter(FilterOptions::new("B"), Probe::passing("B", &log)).unwrap();
    let _bridge = link.attach_bridge().unwrap();
    let mut batch = worker.frames(2);
    link.input(&worker.cx(), &mut batch);
    assert_eq!(marks(&batch), [2]);
    assert_eq!(logged(&log), ["A in 1", "A in 2", "B in 2"]);
    assert_eq!((dropped(&link, DropReason::Consumed), worker.pool.out()), (1, 1));
    let mut wire = Wire::of(&link);
    link.output(&worker.cx(), &mut worker.frames(2), &mut wire).unwrap();
    assert_eq!((wire.marks(), dropped(&link, DropReason::OutputConsumed)), (vec![2], 1));
}

#[test]
fn case_14_dropped_frame_is_freed_once_and_its_reason_counted() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    let guard = |_| Verdict::Drop(DropReason::SourceGuard);
    link.attach_filter(FilterOptions::new("A"), Probe::deciding("A", &log, guard)).unwrap();
    link.attach_filter(FilterOptions::new("B"), Probe::passing("B", &log)).unwrap();
    let tap = Arc::new(Counting::default());
    link.attach_tap(tap.clone()).unwrap();
    link.input(&worker.cx(), &mut worker.frames(1));
    assert_eq!((logged(&log), worker.pool.out()), (vec!["A in 1".into()], 0));
    assert_eq!(dropped(&link, DropReason::SourceGuard), 1);
    // On the way out the same reason would unbalance the books.
    let _ = link.output(&worker.cx(), &mut worker.frames(1), &mut Wire::of(&link));
    assert_eq!((dropped(&link, DropReason::SourceGuard), dropped(&link, DropReason::OutputFilter)), (1, 1));
    assert_eq!((tap.ingress.load(SeqCst), tap.egress.load(SeqCst), tap.dropped.load(SeqCst)), (1, 0, 2));
}

/// A filter whose input waits until it is told to go on.
struct Blocking {
    entered: mpsc::SyncSender<()>,
    go_on: Mutex<mpsc::Receiver<()>>,
    running: AtomicBool,
    detached: AtomicUsize,
    /// The thread in which `detached` ran.
    ended_in: Mutex<Option<thread::ThreadId>>,
}

impl Filter for Blocking {
    fn input(&self, _: &Context<'_>, _: &mut Frame) -> Verdict {
        self.running.store(true, SeqCst);
        self.entered.send(()).unwrap();
        self.go_on.lock().recv_timeout(DEADLINE).unwrap();
        self.running.store(false, SeqCst);
        Verdict::Continue
    }

    fn detached(&self) {
        assert!(!self.running.load(SeqCst), "a callback runs");
        self.detached.fetch_add(1, SeqCst);
        *self.ended_in.lock() = Some(thread::current().id());
    }
}

#[test]
fn case_15_detach_returns_after_the_running_callback() {
    let registry = registry();
    let link = attached(&registry);
    let (entered, is_entered) = mpsc::sync_channel(1);
    let (tell, go_on) = mpsc::channel();
    let filter = Arc::new(Blocking {
        entered,
        go_on: Mutex::new(go_on),
        running: AtomicBool::default(),
        detached: AtomicUsize::default(),
        ended_in: Mutex::default(),
    });
    let id = link.attach_filter(FilterOptions::new("slow"), filter.clone()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let worker = Worker::new();
            link.input(&worker.cx(), &mut worker.frames(3));
        });
        is_entered.recv_timeout(DEADLINE).unwrap();
        let detaching = scope.spawn(|| {
            link.detach_filter(id).unwrap();
            assert!(!filter.running.load(SeqCst));
            assert_eq!(filter.detached.load(SeqCst), 1);
            // The worker was the last one inside, and moves frames.
            assert_eq!(*filter.ended_in.lock(), Some(thread::current().id()));
        });
        // Off the list at once, while the callback still runs; nobody else can detach it any more.
        while !link.filters().is_empty() {
            thread::yield_now();
        }
        assert_eq!(link.detach_filter(id), Err(Error::InvalidArgument));
        assert_eq!(filter.detached.load(SeqCst), 0);
        tell.send(()).unwrap();
        detaching.join().unwrap();
    });
    // The other frames of the batch did not reach it.
    assert!(is_entered.try_recv().is_err());
    assert_eq!(filter.detached.load(SeqCst), 1);
}

/// A filter that detaches itself at its first frame, in the way of `how`.
struct Leaving {
    link: Link,
    id: OnceLock<FilterId>,
    how: fn(&Leaving, &Context<'_>, &mut Frame),
    log: Log,
}

impl Leaving {
    fn attach(link: &Link, log: &Log, how: fn(&Leaving, &Context<'_>, &mut Frame)) {
        let filter = Arc::new(Leaving { link: link.clone(), id: OnceLock::new(), how, log: log.clone() });
        let id = link.attach_filter(FilterOptions::new("leaving"), filter.clone()).unwrap();
        filter.id.set(id).unwrap();
    }
}

impl Filter for Leaving {
    fn input(&self, cx: &Context<'_>, frame: &mut Frame) -> Verdict {
        self.log.lock().push(format!("in {}", mark(frame)));
        (self.how)(self, cx, frame);
        self.log.lock().push("out".into());
        Verdict::Continue
    }

    fn output(&self, _: &Context<'_>, _: &mut Frame) -> Verdict {
        self.link.detach_filter(*self.id.get().unwrap()).unwrap();
        Verdict::Continue
    }

    fn detached(&self) {
        self.log.lock().push("detached".into());
    }
}

#[test]
fn case_16_self_detach_does_not_deadlock() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    let _bridge = link.attach_bridge().unwrap();
    Leaving::attach(&link, &log, |filter, _, _| {
        filter.link.detach_filter(*filter.id.get().unwrap()).unwrap();
    });
    let mut batch = worker.frames(3);
    link.input(&worker.cx(), &mut batch);
    assert_eq!(marks(&batch), [1, 2, 3]);
    assert_eq!(logged(&log), ["in 1", "out"]);
    // Its end is not for a thread that moves frames.
    registry.settle();
    assert_eq!(logged(&log), ["detached"]);
    registry.settle();
    assert!(logged(&log).is_empty());
}

#[test]
fn a_filter_that_a_worker_detaches_ends_on_the_control_side() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    let other = attached(&registry);
    let id = other.attach_filter(FilterOptions::new("other"), Probe::passing("other", &log)).unwrap();
    let detaching = Arc::new(Detaching(other.clone(), id, registry.clone()));
    link.attach_filter(FilterOptions::new("detaching"), detaching).unwrap();
    link.input(&worker.cx(), &mut worker.frames(1));
    assert!(other.filters().is_empty() && logged(&log).is_empty());
    // The link waits for the end of what was on it.
    let events = registry.subscribe(8);
    other.detach().unwrap();
    assert!(other.is_detaching());
    assert_eq!(codes(&events), ["if_detaching", "if_detached"]);
    assert_eq!(logged(&log), ["other detached"]);
}

/// Detaches a filter of another link while it is itself inside a batch.
struct Detaching(Link, FilterId, Registry);

impl Filter for Detaching {
    fn input(&self, _: &Context<'_>, _: &mut Frame) -> Verdict {
        self.0.detach_filter(self.1).unwrap();
        // Nothing happens here.
        self.2.settle();
        Verdict::Continue
    }
}

#[test]
fn self_detach_from_a_nested_callback_does_not_deadlock() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    Leaving::attach(&link, &log, |filter, cx, frame| {
        let mut reply = Batch::from_iter([frame.clone()]);
        filter.link.output(cx, &mut reply, &mut Wire::of(&filter.link)).unwrap();
    });
    link.input(&worker.cx(), &mut worker.frames(2));
    registry.settle();
    assert_eq!(logged(&log), ["in 1", "out", "detached"]);
    assert_eq!(worker.pool.out(), 0);
}

#[test]
fn a_filter_attaches_another_from_its_callback() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    Leaving::attach(&link, &log, |filter, _, _| {
        filter.link.attach_filter(FilterOptions::new("new"), Probe::passing("new", &filter.log)).unwrap();
    });
    link.input(&worker.cx(), &mut worker.frames(1));
    assert_eq!(logged(&log), ["in 1", "out"]);
    link.input(&worker.cx(), &mut worker.frames(1));
    assert_eq!(logged(&log), ["in 1", "out", "new in 1"]);
}

#[test]
fn case_17_tagged_frame_bypasses_filters() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    link.attach_filter(options(None, false), Probe::passing("plain", &log)).unwrap();
    link.attach_filter(options(None, true), Probe::passing("tagged", &log)).unwrap();
    let mut frame = worker.frame(IPV4, 1);
    frame.meta.tag = Some(vmlan_frame::VlanTag { tci: 10 });
    link.input(&worker.cx(), &mut Batch::from_iter([frame.clone()]));
    link.output(&worker.cx(), &mut Batch::from_iter([frame]), &mut Wire::of(&link)).unwrap();
    assert_eq!(logged(&log), ["tagged in 1", "tagged out 1"]);
}

#[test]
fn filters_are_bounded() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    let attach = || link.attach_filter(FilterOptions::new("probe"), Probe::passing("probe", &log));
    let ids: Vec<_> = (0..64).map(|_| attach().unwrap()).collect();
    assert_eq!(attach(), Err(Error::NoBuffers));
    link.input(&worker.cx(), &mut worker.frames(1));
    assert_eq!(logged(&log).len(), 64);
    link.detach_filter(ids[63]).unwrap();
    assert!(attach().is_ok());
}
