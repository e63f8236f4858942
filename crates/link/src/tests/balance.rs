//! Every frame that enters leaves once: property tests over sequences of changes and traffic.

use proptest::prelude::*;

use super::*;

/// One step of a sequence.
#[derive(Clone, Debug)]
enum Step {
    Attach,
    Detach,
    Hold,
    Release,
    AddFilter(u8),
    RemoveFilter(usize),
    AddProtocol(bool),
    RemoveProtocol(bool),
    Bridge(bool),
    Input(Vec<(bool, u8)>),
    Output(Vec<(bool, u8)>),
    Enqueue(Vec<(bool, u8)>),
    Dequeue,
}

fn step() -> impl Strategy<Value = Step> {
    let frames = || prop::collection::vec((any::<bool>(), 0u8..20), 0..8);
    prop_oneof![
        2 => Just(Step::Attach),
        1 => Just(Step::Detach),
        1 => Just(Step::Hold),
        1 => Just(Step::Release),
        2 => (0u8..20).prop_map(Step::AddFilter),
        1 => (0usize..4).prop_map(Step::RemoveFilter),
        1 => any::<bool>().prop_map(Step::AddProtocol),
        1 => any::<bool>().prop_map(Step::RemoveProtocol),
        1 => any::<bool>().prop_map(Step::Bridge),
        6 => frames().prop_map(Step::Input),
        6 => frames().prop_map(Step::Output),
        2 => frames().prop_map(Step::Enqueue),
        2 => Just(Step::Dequeue),
    ]
}

/// A filter that consumes the mark in `.0`, drops the next one, and leaves the link at the one after that.
struct Choosing(u8, Arc<AtomicUsize>);

impl Choosing {
    fn decide(&self, frame: &mut Frame, reason: DropReason) -> Verdict {
        match mark(frame).wrapping_sub(self.0) {
            0 => {
                drop(core::mem::take(frame));
                Verdict::Consumed
            }
            1 => Verdict::Drop(reason),
            _ => Verdict::Continue,
        }
    }
}

impl Filter for Choosing {
    fn input(&self, _: &Context<'_>, frame: &mut Frame) -> Verdict {
        self.decide(frame, DropReason::SourceGuard)
    }

    fn output(&self, _: &Context<'_>, frame: &mut Frame) -> Verdict {
        self.decide(frame, DropReason::OutputFilter)
    }

    fn detached(&self) {
        self.1.fetch_add(1, SeqCst);
    }
}

/// The counts of frames in and out, by direction.
#[derive(Default, Debug)]
struct Books {
    received: u64,
    bridged: u64,
    handed_out: u64,
    waiting: u64,
}

/// The link and everything that a sequence keeps of it.
struct World {
    registry: Registry,
    worker: Worker,
    link: Link,
    filters: Vec<FilterId>,
    bridge: Option<BridgeGuard>,
    attached: usize,
    detached: Arc<AtomicUsize>,
    books: Books,
}

impl World {
    fn new() -> World {
        let registry = registry();
        World {
            link: acquired(&registry),
            worker: Worker::new(),
            filters: Vec::new(),
            bridge: None,
            attached: 0,
            detached: Arc::default(),
            books: Books::default(),
            registry,
        }
    }

    fn batch(&self, frames: Vec<(bool, u8)>) -> Batch {
        let frame = |(v6, mark)| self.worker.frame(if v6 { IPV6 } else { IPV4 }, mark);
        Batch::from_iter(frames.into_iter().map(frame))
    }

    /// Does a step that needs nothing but the world.
    fn step(&mut self, step: Step, log: &Log) {
        let family = |v6: bool| if v6 { ProtocolFamily::INET6 } else { ProtocolFamily::INET };
        match step {
            Step::AddFilter(mark) => {
                let filter = Arc::new(Choosing(mark, self.detached.clone()));
                if let Ok(id) = self.link.attach_filter(FilterOptions::new("choosing"), filter) {
                    self.filters.push(id);
                    self.attached += 1;
                }
            }
            Step::RemoveFilter(at) if at < self.filters.len() => {
                let _ = self.link.detach_filter(self.filters.remove(at));
            }
            Step::AddProtocol(v6) => {
                let sink = Arc::new(Sink { name: "sink", log: log.clone(), refuses: Some(7) });
                let _ = self.link.attach_protocol(protocol(family(v6)), sink);
            }
            Step::RemoveProtocol(v6) => drop(self.link.detach_protocol(family(v6))),
            Step::Bridge(true) => self.bridge = self.bridge.take().or_else(|| self.link.attach_bridge().ok()),
            Step::Bridge(false) => self.bridge = None,
            Step::Input(frames) => self.input(self.batch(frames)),
            Step::Output(frames) => {
                let mut batch = self.batch(frames);
                self.books.handed_out += batch.len() as u64;
                let mut wire = Wire::of(&self.link);
                let _ = self.link.output(&self.worker.cx(), &mut batch, &mut wire);
                assert!(batch.is_empty());
            }
            Step::Enqueue(frames) => {
                let mut batch = self.batch(frames);
                let before = self.link.counters().snapshot().rx_frames;
                let offered = batch.len() as u64;
                self.link.enqueue(&self.worker.cx(), &mut batch);
                let refused = self.link.counters().snapshot().rx_frames - before;
                self.books.received += refused;
                self.books.waiting += offered - refused;
            }
            Step::Dequeue => {
                let mut batch = Batch::new();
                self.link.dequeue(&self.worker.cx(), &mut batch);
                self.books.waiting -= batch.len() as u64;
                self.input(batch);
            }
            _ => {}
        }
    }

    fn input(&mut self, mut batch: Batch) {
        self.books.received += batch.len() as u64;
        self.link.input(&self.worker.cx(), &mut batch);
        self.books.bridged += batch.len() as u64;
        batch.clear();
    }

    /// Attaching zeroes the counters, so the books start again.
    fn reopened(&mut self) {
        self.books = Books::default();
    }

    fn check(&self) {
        let sum = self.link.counters().snapshot();
        let ended = if self.link.is_attached() || self.link.is_detaching() { 0 } else { self.books.waiting };
        assert_eq!(sum.rx_frames, self.books.received + ended);
        assert_eq!(sum.rx_frames, self.books.bridged + sum.dropped_on(vmlan_frame::Direction::Ingress));
        assert_eq!(self.books.handed_out, sum.tx_frames + sum.dropped_on(vmlan_frame::Direction::Egress));
        assert_eq!(self.worker.pool.out(), 0);
    }
}

/// Runs steps until the reference that the last `Hold` took is given back, or they end.
fn run(world: &mut World, steps: &mut dyn Iterator<Item = Step>, holding: bool) {
    let log = Log::default();
    while let Some(step) = steps.next() {
        match step {
            Step::Attach => {
                if world.link.attach(Arc::new(()), None).is_ok() {
                    world.reopened();
                }
            }
            Step::Detach => drop(world.link.detach()),
            Step::Hold if !holding => {
                let link = world.link.clone();
                let _reference = link.io_ref();
                run(world, steps, true);
            }
            Step::Release if holding => return,
            other => world.step(other, &log),
        }
        world.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_frame_that_enters_leaves_once(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        run(&mut world, &mut steps.into_iter(), false);
        let _ = world.link.detach();
        world.check();
        prop_assert_eq!(world.detached.load(SeqCst), world.attached);
        prop_assert_eq!(world.link.references(), 0);
        prop_assert!(world.registry.links().is_empty());
    }
}
