//! The cost of filters: batches of 32 frames through [`Link::input`] of a bridged link with 0, 1 and 4 filters that do
//! nothing, each in a pair with the chain left out.
//!
//! All times are nanoseconds a frame. Where the chain is left out, a batch is only counted and takes an I/O
//! reference, in the same calls that input makes. Besides the distribution of each case, the run prints the pairs: the
//! median of many rounds in which both sides take turns, so that whatever slows the machine slows both.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use criterion::{BenchmarkId, Criterion};
use vmlan_frame::{Batch, Context, Pool, PoolSizes, Tally};
use vmlan_link::{BridgeGuard, Filter, FilterOptions, Link, LinkOptions, Registry};

const FRAMES: u32 = 32;
const FILTERS: [usize; 3] = [0, 1, 4];

struct Nothing;

impl Filter for Nothing {}

/// A bridged link with filters, and the batch that goes through it again and again.
struct Setup {
    _registry: Registry,
    link: Link,
    _bridge: BridgeGuard,
    pool: Pool,
    batch: Batch,
}

impl Setup {
    fn new(filters: usize) -> Setup {
        let registry = Registry::new(1, || SystemTime::UNIX_EPOCH);
        let link = registry.acquire(LinkOptions::ethernet("bench").expect("a good name")).expect("room");
        link.attach(Arc::new(()), None).expect("nothing stands in the way");
        let bridge = link.attach_bridge().expect("the place is free");
        for _ in 0..filters {
            link.attach_filter(FilterOptions::new("nothing"), Arc::new(Nothing)).expect("room");
        }
        let pool = Pool::new(PoolSizes::default());
        let batch = Batch::from_iter((0..FRAMES).map(|_| pool.copy(&[2; 60]).expect("a free buffer")));
        Setup { _registry: registry, link, _bridge: bridge, pool, batch }
    }

    /// `rounds` batches through input.
    fn input(&mut self, rounds: u64) -> Duration {
        let cx = Context { worker: 0, now: vmlan_frame::Instant::ZERO, pool: &self.pool };
        let start = Instant::now();
        for _ in 0..rounds {
            self.link.input(&cx, black_box(&mut self.batch));
        }
        start.elapsed()
    }

    /// `rounds` batches with the chain left out.
    fn left_out(&mut self, rounds: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..rounds {
            let inside = self.link.io_ref();
            let mut tally = Tally::default();
            for frame in black_box(&mut self.batch).iter() {
                tally.add(frame);
            }
            self.link.counters().received(0, &tally);
            black_box(&inside);
        }
        start.elapsed()
    }
}

fn filters(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("filters");
    let mut setup = Setup::new(0);
    group.bench_function("left out", |bencher| {
        bencher.iter_custom(|rounds| setup.left_out(rounds) / FRAMES);
    });
    for filters in FILTERS {
        let mut setup = Setup::new(filters);
        group.bench_function(BenchmarkId::from_parameter(filters), |bencher| {
            bencher.iter_custom(|rounds| setup.input(rounds) / FRAMES);
        });
    }
    group.finish();
}

/// Prints every case beside the chain left out.
fn pairs() {
    // Only shows that it runs.
    let test = std::env::args().any(|arg| arg == "--test");
    let (pairs, rounds) = if test { (1, 1) } else { (501, 2000) };
    for filters in FILTERS {
        let mut setup = Setup::new(filters);
        let nanos = |time: Duration| time.as_nanos() as f64 / (rounds * u64::from(FRAMES)) as f64;
        let mut measured = Vec::from_iter((0..pairs).map(|_| {
            let without = nanos(setup.left_out(rounds));
            (without, nanos(setup.input(rounds)))
        }));
        let mut median = |of: fn(&(f64, f64)) -> f64| {
            measured.sort_by(|a, b| of(a).total_cmp(&of(b)));
            of(&measured[measured.len() / 2])
        };
        let (without, with) = (median(|pair| pair.0), median(|pair| pair.1));
        let (more, ratio) = (median(|pair| pair.1 - pair.0), median(|pair| pair.1 / pair.0));
        if !test {
            println!(
                "{filters} filters: {with:.2} ns a frame, left out {without:.2}: {more:+.2} ns, ratio {ratio:.2}"
            );
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    filters(&mut criterion);
    criterion.final_summary();
    pairs();
}
