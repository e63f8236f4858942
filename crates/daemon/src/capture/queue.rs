//! Frames on their way from the workers to the file.
//!
//! Two chunks of fixed size go back and forth: the workers fill one while the thread of the capture writes the other.
//! Exchanging them is all that the thread does under the lock.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Condvar, MutexGuard, PoisonError};
use std::thread;

use vmlan_frame::{DropReason, Mutex};

use super::Options;

/// Records are counted as if none had less than so many octets (the least that Ethernet sends).
const SMALLEST: usize = 60;

/// How many frames a filter behind the queue looks at, about a tenth of a millisecond, before others may have the
/// processor.
const AT_ONCE: u32 = 8;

/// The data of a captured frame besides its octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// Its link, in the order in which links were added.
    pub(super) interface: u32,
    /// Received from the guest, not sent to it.
    pub(super) inbound: bool,
    /// Nanoseconds since the epoch.
    pub(super) time: u64,
    /// Octets that the frame had.
    pub(super) length: u32,
    /// Why it went no further, in a capture of dropped frames.
    pub(super) dropped: Option<DropReason>,
}

/// Captured frames in the order of their capture.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    records: Vec<(Record, usize)>,
    octets: Vec<u8>,
}

/// News taken from the queue besides frames.
#[derive(Debug)]
pub(super) struct Taken {
    /// Names of links that were added.
    pub(super) new_interfaces: Vec<String>,
    /// Nothing follows.
    pub(super) is_last: bool,
}

/// Counters of the frames of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Frames that passed.
    pub(super) seen: u64,
    /// Those of them that found no room.
    pub(super) lost: u64,
}

/// All that was counted.
#[derive(Debug)]
pub(super) struct Tallies {
    /// By link.
    pub(super) interfaces: Vec<Tally>,
    /// All that is lost.
    pub(super) lost: u64,
}

#[derive(Debug)]
pub(super) struct Queue {
    octets: usize,
    /// Only what a filter wants counts.
    filtered: bool,
    /// The filter stands behind the queue, not before it.
    filtered_late: bool,
    /// Nothing more is wanted: spares the workers the lock until their taps are gone. The state has the last word.
    over: AtomicBool,
    /// All that was not written yet is not wanted either.
    abandoned: AtomicBool,
    state: Mutex<State>,
    /// Something is there to be taken.
    filled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    chunk: Chunk,
    /// Frames that are still wanted.
    wanted: u64,
    ended: bool,
    new_interfaces: Vec<String>,
    tallies: Vec<Tally>,
    /// Lost after they were taken.
    lost_later: u64,
}

impl Chunk {
    /// The frames with what is kept of their octets.
    pub(super) fn records(&self) -> impl ExactSizeIterator<Item = (&Record, &[u8])> {
        let mut start = 0;
        self.records.iter().map(move |(record, len)| {
            let octets = &self.octets[start..start + len];
            start += len;
            (record, octets)
        })
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Keeps the first `most` frames of which `filter` wants octets, and so many of these.
    pub(super) fn filter(&mut self, most: u64, mut filter: impl FnMut(&[u8]) -> usize) {
        let (octets, mut left, mut from, mut end) = (&mut self.octets, most, 0, 0);
        self.records.retain_mut(|(_, len)| {
            let start = from;
            from += *len;
            let wanted = if left > 0 { filter(&octets[start..from]).min(*len) } else { 0 };
            if wanted == 0 {
                return false;
            }
            octets.copy_within(start..start + wanted, end);
            (*len, end, left) = (wanted, end + wanted, left - 1);
            true
        });
        octets.truncate(end);
    }

    fn clear(&mut self) {
        self.records.clear();
        self.octets.clear();
    }

    /// Takes the memory for its whole life, so that workers never wait for any.
    fn reserve(&mut self, octets: usize) {
        self.octets.reserve_exact(octets);
        self.records.reserve_exact(octets / SMALLEST + 1);
    }

    fn has_room(&self, octets: usize) -> bool {
        self.records.len() < self.records.capacity() && octets <= self.octets.capacity() - self.octets.len()
    }
}

impl Queue {
    pub(super) fn new(options: &Options) -> Queue {
        let mut state = State { wanted: options.frames.unwrap_or(u64::MAX), ..State::default() };
        state.chunk.reserve(options.queue);
        Queue {
            octets: options.queue,
            filtered: options.filter.is_some(),
            filtered_late: options.late_filter().is_some(),
            over: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            state: Mutex::new(state),
            filled: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Makes a link known; its number in records.
    pub(super) fn add_interface(&self, name: String) -> u32 {
        let mut state = self.lock();
        state.new_interfaces.push(name);
        state.tallies.push(Tally::default());
        self.filled.notify_one();
        state.tallies.len() as u32 - 1
    }

    /// True if only frames that a filter wants count.
    pub(super) fn is_filtered(&self) -> bool {
        self.filtered
    }

    /// True if the capture wants nothing more. The check costs one load; frames that are pushed nevertheless are
    /// ignored.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// Copies the first `keep` octets of a frame, which comes in parts.
    pub(super) fn push(&self, record: Record, parts: [&[u8]; 2], keep: usize) {
        let mut state = self.lock();
        if state.is_over() {
            return;
        }
        let len = parts.iter().map(|part| part.len()).sum::<usize>().min(keep);
        let has_room = state.chunk.has_room(len);
        let tally = &mut state.tallies[record.interface as usize];
        tally.seen += u64::from(!self.filtered_late);
        if !has_room {
            tally.lost += 1;
            return;
        }
        let chunk = &mut state.chunk;
        let was_empty = chunk.is_empty();
        let end = chunk.octets.len() + len;
        for part in parts {
            let left = end - chunk.octets.len();
            chunk.octets.extend_from_slice(&part[..part.len().min(left)]);
        }
        chunk.records.push((record, len));
        if !self.filtered_late {
            state.wanted -= 1;
            self.over.store(state.is_over(), Relaxed);
        }
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Waits until there is something, and gives it for what `chunk` held.
    pub(super) fn take(&self, chunk: &mut Chunk) -> Taken {
        chunk.clear();
        chunk.reserve(self.octets);
        let state = self.lock();
        let idle =
            |state: &mut State| state.chunk.is_empty() && state.new_interfaces.is_empty() && !state.is_over();
        let mut state = self.filled.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.chunk, chunk);
        Taken { new_interfaces: std::mem::take(&mut state.new_interfaces), is_last: state.is_over() }
    }

    /// Leaves in `chunk`, which was taken, what the filter behind the queue wants. Answers whether nothing more is
    /// wanted.
    pub(super) fn filter(&self, chunk: &mut Chunk, filter: impl Fn(&[u8]) -> usize) -> bool {
        // Nobody else changes it where the filter is behind the queue.
        let wanted = self.lock().wanted;
        let mut looked_at = 0u32;
        chunk.filter(wanted, |octets| {
            // It may be much work for each frame, and nobody asks for its result once all is abandoned.
            if self.is_abandoned() {
                return 0;
            }
            // Many a kernel takes a processor from who computes at a tick only, milliseconds later.
            looked_at = looked_at.wrapping_add(1);
            if looked_at.is_multiple_of(AT_ONCE) {
                thread::yield_now();
            }
            filter(octets)
        });
        let mut state = self.lock();
        for (record, _) in chunk.records() {
            state.tallies[record.interface as usize].seen += 1;
            state.wanted -= 1;
        }
        self.over.store(state.is_over(), Relaxed);
        state.wanted == 0
    }

    /// Nothing more is wanted.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.over.store(true, Relaxed);
        self.filled.notify_one();
    }

    /// Says that of what came until the end nothing is wanted that was not written yet.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Relaxed);
    }

    /// Lets go of the memory, once all is over: workers may keep the tap a while longer.
    pub(super) fn free(&self) {
        self.lock().chunk = Chunk::default();
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Relaxed)
    }

    /// Counts frames that were taken and could not be written.
    pub(super) fn count_lost(&self, count: u64) {
        self.lock().lost_later += count;
    }

    pub(super) fn tallies(&self) -> Tallies {
        let state = self.lock();
        let lost = state.tallies.iter().map(|tally| tally.lost).sum::<u64>() + state.lost_later;
        Tallies { interfaces: state.tallies.clone(), lost }
    }
}

impl State {
    fn is_over(&self) -> bool {
        self.ended || self.wanted == 0
    }
}
