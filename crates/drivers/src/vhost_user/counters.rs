//! Counters of a port's rings, by which people see how guest and worker wake each other.
//!
//! Each worker has a shard that it alone writes, once for what a turn found, and never for a frame. What connections'
//! threads and faults of rings add is rare, and stands in a shard of its own. The counters are the port's, so they go
//! on from one connection to the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::queue::RingCounts;

/// The counters of one worker.
#[repr(align(128))]
#[derive(Default)]
struct Shard {
    kicks: AtomicU64,
    calls: AtomicU64,
    empty_wakeups: AtomicU64,
}

/// Counters of rare things, for any thread.
#[derive(Default)]
struct Rare {
    calls: AtomicU64,
    broken_rings: AtomicU64,
    quiesces: AtomicU64,
}

/// The counters of one port.
#[derive(Clone)]
pub struct RingCounters(Arc<(Box<[Shard]>, Rare)>);

impl RingCounters {
    /// Counters for so many workers, at 0.
    pub fn new(workers: usize) -> RingCounters {
        let shards = (0..workers.max(1)).map(|_| Shard::default()).collect();
        RingCounters(Arc::new((shards, Rare::default())))
    }

    /// The sums.
    pub fn snapshot(&self) -> RingCounts {
        let (shards, rare) = &*self.0;
        let sum =
            |counter: fn(&Shard) -> &AtomicU64| shards.iter().map(|shard| counter(shard).load(Relaxed)).sum();
        let calls: u64 = sum(|shard| &shard.calls);
        RingCounts {
            kicks: sum(|shard| &shard.kicks),
            calls: calls + rare.calls.load(Relaxed),
            empty_wakeups: sum(|shard| &shard.empty_wakeups),
            broken_rings: rare.broken_rings.load(Relaxed),
            quiesces: rare.quiesces.load(Relaxed),
        }
    }

    /// Counts kicks that `worker`, which calls, has heard.
    pub(crate) fn kicked(&self, worker: usize, kicks: u64) {
        add(&self.shard(worker).kicks, kicks);
    }

    /// Counts a wake-up of `worker`, which calls, that found nothing.
    pub(crate) fn woken_for_nothing(&self, worker: usize) {
        add(&self.shard(worker).empty_wakeups, 1);
    }

    /// Counts a call of `worker`, which calls, to a guest.
    #[inline]
    pub(crate) fn called(&self, worker: usize) {
        add(&self.shard(worker).calls, 1);
    }

    /// Counts a call of a connection's thread to a guest.
    pub(crate) fn called_by_thread(&self) {
        self.0.1.calls.fetch_add(1, Relaxed);
    }

    /// Counts a ring that is broken from now on.
    pub(crate) fn broken(&self) {
        self.0.1.broken_rings.fetch_add(1, Relaxed);
    }

    /// Counts a change of rings that are started.
    pub(crate) fn quiesced(&self) {
        self.0.1.quiesces.fetch_add(1, Relaxed);
    }

    #[inline]
    fn shard(&self, worker: usize) -> &Shard {
        &self.0.0[worker % self.0.0.len()]
    }
}

/// Adds to a counter that no other thread writes.
#[inline]
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_snapshot_is_the_sum_of_all_threads() {
        let counters = RingCounters::new(2);
        counters.kicked(0, 3);
        counters.kicked(1, 4);
        counters.called(0);
        counters.called(1);
        counters.called_by_thread();
        counters.woken_for_nothing(1);
        counters.broken();
        counters.quiesced();
        counters.quiesced();
        let counts = RingCounts { kicks: 7, calls: 3, empty_wakeups: 1, broken_rings: 1, quiesces: 2 };
        assert_eq!(counters.clone().snapshot(), counts);
    }
}
