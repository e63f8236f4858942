//! Frames that wait because their port takes nothing just now.
//!
//! A backlog copies frames into its own ring of octets instead of holding on to pool buffers: a port that stops
//! reading pins none of the worker's buffers, and its whole cost is bounded by the ring. Full means that the newest
//! frame is refused, and the caller counts it; nothing ever blocks.

use std::collections::VecDeque;

use crate::{Frame, Meta};

/// A bounded first-in, first-out queue of copied frames.
pub struct Backlog {
    /// Made at the first push, for most ports never fall behind.
    ring: Box<[u8]>,
    /// Octets that the ring gets.
    capacity: usize,
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
    /// An empty backlog for at most `limit` frames of together at most `octets` octets.
    pub fn new(limit: usize, octets: usize) -> Backlog {
        Backlog { ring: Box::default(), capacity: octets, slots: VecDeque::new(), limit, tail: 0 }
    }

    /// Copies `frame` to the end; false, and nothing changed, when there is no room (or no frame).
    #[must_use = "a refused frame has to be counted"]
    pub fn push(&mut self, frame: &Frame) -> bool {
        let octets = frame.octets();
        if octets.is_empty() || self.slots.len() >= self.limit {
            return false;
        }
        let Some(start) = self.place(octets.len()) else {
            return false;
        };
        if self.ring.is_empty() {
            self.ring = vec![0; self.capacity].into();
            self.slots.reserve_exact(self.limit);
        }
        self.ring[start..start + octets.len()].copy_from_slice(octets);
        self.slots.push_back(Slot { start, len: octets.len(), meta: frame.meta });
        self.tail = start + octets.len();
        true
    }

    /// Where `len` contiguous octets are free.
    fn place(&self, len: usize) -> Option<usize> {
        let Some(first) = self.slots.front() else {
            return (len <= self.capacity).then_some(0);
        };
        if self.tail > first.start {
            if len <= self.capacity - self.tail {
                return Some(self.tail);
            }
            return (len <= first.start).then_some(0);
        }
        (len <= first.start - self.tail).then_some(self.tail)
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
    }

    /// Forgets every frame; returns how many there were.
    pub fn clear(&mut self) -> usize {
        let count = self.slots.len();
        self.slots.clear();
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
