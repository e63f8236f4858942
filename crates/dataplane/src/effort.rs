//! The account of a worker's own effort.
//!
//! Theory of operation. A worker adds to plain numbers of its own while it gives turns ([`Effort`]), and writes them
//! down once a round of its loop, before it asks for readiness, with stores that no other thread makes ([`Ledger`]). So
//! a frame costs nothing here, a turn two additions, and a round some stores to cache lines that nobody else writes.
//! Readers load the numbers one by one: while traffic flows, they are no exact cut through time.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use vmlan_frame::Batch;

/// The work of a worker since it was started, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Effort {
    /// Time in turns in which something was received, sent or decided. A look that finds nothing is not in it.
    pub busy: Duration,
    /// Turns that were given, those that found nothing too.
    pub turns: u64,
    /// Times that it asked the system which descriptors are ready.
    pub polls: u64,
    /// Batches of received frames by their size: of up to 1, 2, 4, 8, 16, 32 and 64 frames, and of more.
    pub batches: [u64; Effort::SIZES],
    /// Frames in those.
    pub frames: u64,
    /// Times that it began anew after a panic that was no port's.
    pub restarts: u64,
}

impl Effort {
    /// How many sizes of batches are told apart.
    pub const SIZES: usize = Batch::LIMIT.ilog2() as usize + 2;

    /// The most frames of a batch of each size; there is no limit to the last.
    pub fn limits() -> impl Iterator<Item = Option<usize>> {
        (0..Effort::SIZES).map(|size| (size + 1 < Effort::SIZES).then_some(1 << size))
    }

    /// Counts a turn that took so long.
    #[inline]
    pub(crate) fn turn(&mut self, time: Duration, found_any: bool) {
        self.turns += 1;
        if found_any {
            self.busy += time;
        }
    }

    /// Counts a batch of so many frames, which is not empty.
    #[inline]
    pub(crate) fn batch(&mut self, frames: usize) {
        let size = frames.next_power_of_two().ilog2() as usize;
        self.batches[size.min(Effort::SIZES - 1)] += 1;
        self.frames += frames as u64;
    }
}

/// The effort of one worker, for anybody to read.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Ledger {
    busy: AtomicU64,
    turns: AtomicU64,
    polls: AtomicU64,
    batches: [AtomicU64; Effort::SIZES],
    frames: AtomicU64,
    restarts: AtomicU64,
}

impl Ledger {
    /// Writes down what the worker has done. Only the worker calls it.
    #[inline]
    pub(crate) fn write(&self, effort: &Effort) {
        self.busy.store(effort.busy.as_nanos() as u64, Relaxed);
        self.turns.store(effort.turns, Relaxed);
        self.polls.store(effort.polls, Relaxed);
        self.frames.store(effort.frames, Relaxed);
        self.restarts.store(effort.restarts, Relaxed);
        for (written, count) in self.batches.iter().zip(&effort.batches) {
            written.store(*count, Relaxed);
        }
    }

    pub(crate) fn read(&self) -> Effort {
        Effort {
            busy: Duration::from_nanos(self.busy.load(Relaxed)),
            turns: self.turns.load(Relaxed),
            polls: self.polls.load(Relaxed),
            batches: array::from_fn(|size| self.batches[size].load(Relaxed)),
            frames: self.frames.load(Relaxed),
            restarts: self.restarts.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_counted_by_size_and_what_is_written_is_read() {
        let mut effort = Effort { restarts: 1, polls: 2, ..Effort::default() };
        [1, 2, 3, 4, 5, 64, 65, 1000].into_iter().for_each(|frames| effort.batch(frames));
        effort.turn(Duration::from_micros(3), true);
        effort.turn(Duration::from_micros(4), false);

        assert_eq!(effort.batches, [1, 1, 2, 1, 0, 0, 1, 2]);
        assert_eq!((effort.frames, effort.turns, effort.busy), (1144, 2, Duration::from_micros(3)));
        let limits: Vec<_> = Effort::limits().collect();
        assert_eq!((limits[0], limits[6], limits[7]), (Some(1), Some(64), None));
        let ledger = Ledger::default();
        ledger.write(&effort);
        assert_eq!(ledger.read(), effort);
    }
}
