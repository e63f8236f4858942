//! Frames that wait because their port takes nothing just now.
//!
//! A backlog copies frames into its own ring of octets instead of holding on to pool buffers: a port that stops
//! reading pins none of the worker's buffers, and its whole cost is bounded by the ring. Full means that the newest
//! frame is refused, and the caller counts it; nothing ever blocks.
//!
//! The ring begins small and doubles while frames come for which it has no room, for most ports never fall far behind.
//! Backlogs of one user have a bound together ([`Share`]): what a ring has beyond its first size is taken from there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::{Frame, Meta};

/// What the backlogs of one user may take together, in octets.
#[derive(Debug)]
pub struct Share {
    most: AtomicUsize,
    taken: AtomicUsize,
}

impl Share {
    /// A share of `most` octets, of which nothing is taken.
    pub fn new(most: usize) -> Share {
        Share { most: AtomicUsize::new(most), taken: AtomicUsize::new(0) }
    }

    /// Says how much it is from now on. What is taken already stays taken until it is given back.
    pub fn set(&self, most: usize) {
        self.most.store(most, Relaxed);
    }

    /// How many octets are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// Takes so many octets, all or none.
    fn take(&self, octets: usize) -> bool {
        let most = self.most.load(Relaxed);
        let take = |taken: usize| taken.checked_add(octets).filter(|sum| *sum <= most);
        self.taken.fetch_update(Relaxed, Relaxed, take).is_ok()
    }

    fn give_back(&self, octets: usize) {
        self.taken.fetch_sub(octets, Relaxed);
    }

    /// Whether more than half of it is taken, so that memory which is not in use should be given back.
    fn is_tight(&self) -> bool {
        self.taken() > self.most.load(Relaxed) / 2
    }
}

/// A bounded first-in, first-out queue of copied frames.
pub struct Backlog {
    /// Made at the first push, for most ports never fall behind.
    ring: Box<[u8]>,
    /// Octets that the ring gets at most.
    capacity: usize,
    /// What it takes octets from beyond [`Backlog::FIRST`].
    share: Option<Arc<Share>>,
    /// Where each waiting frame lies, oldest first.
    slots: VecDeque<Slot>,
    /// How many frames may wait.
    limit: usize,
    /// Where the next frame goes.
    tail: usize,
}

struct Slot {
    start: usize,
    len: usize,
    meta: Meta,
}

/// A waiting frame; the default is none.
#[derive(Clone, Copy, Default)]
pub struct Entry<'a> {
    /// The frame's octets, without the tag.
    pub octets: &'a [u8],
    /// What is known besides.
    pub meta: Meta,
}

impl Backlog {
    /// Octets that a ring has to begin with, which no share is asked for.
    const FIRST: usize = 16 << 10;

    /// An empty backlog for at most `limit` frames of together at most `octets` octets.
    pub fn new(limit: usize, octets: usize) -> Backlog {
        Backlog {
            ring: Box::default(),
            capacity: octets,
            share: None,
            slots: VecDeque::new(),
            limit,
            tail: 0,
        }
    }

    /// The same, which has its octets together with others; the first few it has alone.
    #[must_use]
    pub fn sharing(mut self, share: Option<Arc<Share>>) -> Backlog {
        self.share = share;
        self
    }

    /// Copies `frame` to the end; false, and nothing changed, when there is no room (or no frame).
    #[must_use = "a refused frame has to be counted"]
    pub fn push(&mut self, frame: &Frame) -> bool {
        let octets = frame.octets();
        if octets.is_empty() || self.slots.len() >= self.limit {
            return false;
        }
        let start = match self.place(octets.len()) {
            Some(start) => start,
            None if self.grow(octets.len()) => self.tail,
            None => return false,
        };
        self.ring[start..start + octets.len()].copy_from_slice(octets);
        self.slots.push_back(Slot { start, len: octets.len(), meta: frame.meta });
        self.tail = start + octets.len();
        true
    }

    /// Where `len` contiguous octets are free.
    fn place(&self, len: usize) -> Option<usize> {
        let Some(first) = self.slots.front() else {
            return (len <= self.ring.len()).then_some(0);
        };
        if self.tail > first.start {
            if len <= self.ring.len() - self.tail {
                return Some(self.tail);
            }
            return (len <= first.start).then_some(0);
        }
        (len <= first.start - self.tail).then_some(self.tail)
    }

    /// Makes the ring large enough for `len` octets behind the waiting frames, which are moved to its front; false, and
    /// nothing changed, when it may not be so large.
    #[cold]
    fn grow(&mut self, len: usize) -> bool {
        let waiting: usize = self.slots.iter().map(|slot| slot.len).sum();
        let wanted = (2 * self.ring.len()).max(Backlog::FIRST).max(waiting + len).min(self.capacity);
        if wanted < waiting + len || wanted <= self.ring.len() {
            return false;
        }
        let more = Backlog::charged(wanted) - Backlog::charged(self.ring.len());
        if !self.share.as_ref().is_none_or(|share| share.take(more)) {
            return false;
        }
        let mut ring: Box<[u8]> = vec![0; wanted].into();
        self.tail = 0;
        for slot in &mut self.slots {
            let end = self.tail + slot.len;
            ring[self.tail..end].copy_from_slice(&self.ring[slot.start..slot.start + slot.len]);
            slot.start = self.tail;
            self.tail = end;
        }
        self.ring = ring;
        true
    }

    /// Octets of a ring of that length that a share is asked for.
    fn charged(len: usize) -> usize {
        len.saturating_sub(Backlog::FIRST)
    }

    /// Gives the ring back.
    fn release(&mut self) {
        let charged = Backlog::charged(self.ring.len());
        self.share.as_ref().inspect(|share| share.give_back(charged));
        self.ring = Box::default();
        self.slots = VecDeque::new();
    }

    /// Gives the ring back when nothing waits in it and others may need its octets.
    fn relent(&mut self) {
        if self.slots.is_empty()
            && Backlog::charged(self.ring.len()) > 0
            && self.share.as_ref().is_some_and(|share| share.is_tight())
        {
            self.release();
        }
    }

    /// The waiting frames, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        self.slots
            .iter()
            .map(|slot| Entry { octets: &self.ring[slot.start..slot.start + slot.len], meta: slot.meta })
    }

    /// Forgets the `count` oldest frames (all, when there are fewer).
    pub fn pop(&mut self, count: usize) {
        self.slots.drain(..count.min(self.slots.len()));
        self.relent();
    }

    /// Forgets every frame; returns how many there were.
    pub fn clear(&mut self) -> usize {
        let count = self.slots.len();
        self.slots.clear();
        self.relent();
        count
    }

    /// How many frames wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many more may wait, were they small enough.
    #[inline]
    pub fn room(&self) -> usize {
        self.limit - self.slots.len()
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Pool, PoolSizes};
    use proptest::prelude::*;

    #[test]
    fn refuses_beyond_the_limit() {
        let pool = Pool::new(PoolSizes::default());
        let frame = pool.copy(&[1; 60]).unwrap();
        let mut backlog = Backlog::new(2, 1000);
        assert!(backlog.push(&frame) && backlog.push(&frame) && !backlog.push(&frame));
        backlog.pop(1);
        assert!(backlog.push(&frame));
        assert!(!Backlog::new(2, 59).push(&frame));
    }

    #[test]
    fn backlogs_of_one_user_have_a_bound_together() {
        let pool = Pool::new(PoolSizes::default());
        let frame = pool.copy(&[1; 1024]).unwrap();
        let share = Arc::new(Share::new(32 << 10));
        let backlog = || Backlog::new(1000, 512 << 10).sharing(Some(share.clone()));
        let fill = |backlog: &mut Backlog| (0..1000).filter(|_| backlog.push(&frame)).count();
        let (mut first, mut second, mut alone) = (backlog(), backlog(), Backlog::new(1000, 512 << 10));
        assert_eq!((fill(&mut first), share.taken()), (32, 16 << 10), "it doubles");
        assert_eq!((fill(&mut second), share.taken()), (32, 32 << 10));
        // Each has its first few octets all the same, and a backlog without a share is not concerned.
        let mut third = backlog();
        assert_eq!((fill(&mut third), fill(&mut alone)), (16, 512));
        // What is not in use is given back while it is scarce.
        first.pop(32);
        assert_eq!(share.taken(), 16 << 10);
        assert_eq!((fill(&mut third), fill(&mut first)), (16, 16));
        share.set(48 << 10);
        assert_eq!(fill(&mut first), 16);
        assert!(first.iter().all(|entry| entry.octets == [1; 1024]) && first.len() == 32);
        drop((first, second, third));
        assert_eq!(share.taken(), 0);
    }

    proptest! {
        /// Whatever is pushed and popped, the frames that were accepted come out in order and unharmed.
        #[test]
        fn first_in_first_out(steps in prop::collection::vec((0usize..3, 1usize..300), 1..200), octets in 100usize..900) {
            let pool = Pool::new(PoolSizes::default());
            let mut backlog = Backlog::new(8, octets);
            let mut model: VecDeque<Vec<u8>> = VecDeque::new();
            for (i, (step, len)) in steps.into_iter().enumerate() {
                if step > 0 {
                    let contents = vec![i as u8; len];
                    if backlog.push(&pool.copy(&contents).unwrap()) {
                        model.push_back(contents);
                    }
                } else {
                    backlog.pop(1);
                    model.pop_front();
                }
                prop_assert!(model.iter().map(Vec::len).sum::<usize>() <= octets && model.len() <= 8);
                let waiting: Vec<_> = backlog.iter().map(|entry| entry.octets.to_vec()).collect();
                prop_assert_eq!(waiting, Vec::from(model.clone()));
            }
        }
    }
}
