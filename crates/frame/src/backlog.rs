//! Frames that wait because their port takes nothing just now.
//!
//! A backlog copies frames into its own ring of octets instead of holding on to pool buffers: a port that stops
//! reading pins none of the worker's buffers, and its whole cost is bounded by the ring. Full means that the newest
//! frame is refused, and the caller counts it; nothing ever blocks.
//!
//! The ring begins small and doubles while frames come for which it has no room, for most ports never fall far behind.
//! Backlogs of one user have a bound together ([`Share`]): what a ring has beyond its first size is taken from there.
//!
//! Ports that send to the same one share its backlog ([`Meta::ingress`]): none may have more than [`PART`] times what
//! it leaves free (the dynamic threshold of Choudhury and Hahne, 1998). One that floods alone gets two thirds of the
//! backlog, several get equal parts, and there is always room for another: as frames leave, those below their part get
//! in, and those above it do not. A port of which nothing waits may always have one frame, as long as there is room.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::{Frame, Meta};

/// How many times what is left free one port may have waiting.
const PART: usize = 2;

/// The octets that the backlogs of one user may take together.
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

    /// True if more than half of the share is taken, so that unused memory should be given back.
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
    /// The share that the ring takes octets from beyond [`Backlog::FIRST`].
    share: Option<Arc<Share>>,
    /// Where each waiting frame lies, oldest first.
    slots: VecDeque<Slot>,
    /// How many frames may wait.
    limit: usize,
    /// Where the next frame goes.
    tail: usize,
    /// Octets that wait.
    octets: usize,
    /// The waiting frames and octets of each port, by [`Meta::ingress`], up to the highest port that ever had any.
    held: Vec<Held>,
}

/// The waiting frames and octets of one port.
#[derive(Clone, Copy, Default)]
struct Held {
    frames: usize,
    octets: usize,
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
    /// The facts about the frame besides its octets.
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
            octets: 0,
            held: Vec::new(),
        }
    }

    /// The same, which has its octets together with others; the first few it has alone.
    #[must_use]
    pub fn sharing(mut self, share: Option<Arc<Share>>) -> Backlog {
        self.share = share;
        self
    }

    /// Copies `frame` to the end; false, and nothing changed, when there is no room (or no frame), or its port has its
    /// share.
    #[must_use = "a refused frame has to be counted"]
    pub fn push(&mut self, frame: &Frame) -> bool {
        self.push_within(frame, self.limit)
    }

    /// As [`Backlog::push`], as if it were for so many frames when it is for more.
    #[must_use = "a refused frame has to be counted"]
    pub fn push_within(&mut self, frame: &Frame, limit: usize) -> bool {
        let octets = frame.octets();
        let limit = limit.min(self.limit);
        if octets.is_empty() || self.slots.len() >= limit || !self.leaves_frames(frame, limit) {
            return false;
        }
        let start = loop {
            match self.place(octets.len()) {
                Some(start) if self.leaves_octets(frame) => break start,
                _ if self.grow(octets.len()) => {}
                _ => return false,
            }
        };
        self.ring[start..start + octets.len()].copy_from_slice(octets);
        self.slots.push_back(Slot { start, len: octets.len(), meta: frame.meta });
        self.tail = start + octets.len();
        let ingress = usize::from(frame.meta.ingress);
        if self.held.len() <= ingress {
            self.held.resize(ingress + 1, Held::default());
        }
        self.held[ingress].frames += 1;
        self.held[ingress].octets += octets.len();
        self.octets += octets.len();
        true
    }

    /// True if other ports can still have their part of the `limit` when `frame` waits, too. There is room for `frame`.
    fn leaves_frames(&self, frame: &Frame, limit: usize) -> bool {
        let held = self.held_of(frame).frames;
        held == 0 || held < PART * (limit - self.slots.len() - 1)
    }

    /// The same for the ring's octets.
    fn leaves_octets(&self, frame: &Frame) -> bool {
        let held = self.held_of(frame);
        let free = self.ring.len().saturating_sub(self.octets + frame.len());
        held.frames == 0 || held.octets + frame.len() <= PART * free
    }

    /// Returns the waiting frames and octets of the port that `frame` came in by; none where that port is not known.
    fn held_of(&self, frame: &Frame) -> Held {
        let held = self.held.get(usize::from(frame.meta.ingress)).filter(|_| frame.meta.ingress > 0);
        held.copied().unwrap_or_default()
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
        let waiting = self.octets;
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
        for slot in self.slots.drain(..count.min(self.slots.len())) {
            let held = &mut self.held[usize::from(slot.meta.ingress)];
            held.frames -= 1;
            held.octets -= slot.len;
            self.octets -= slot.len;
        }
        self.relent();
    }

    /// Forgets every frame; returns how many there were.
    pub fn clear(&mut self) -> usize {
        let count = self.slots.len();
        self.pop(count);
        count
    }

    /// How many frames wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True if no frame waits.
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

    /// A frame of a port's, with a number in front.
    fn frame_of(pool: &Pool, ingress: u16, number: usize) -> Frame {
        let mut frame = pool.copy(&[&number.to_be_bytes()[..], &[0; 52]].concat()).unwrap();
        frame.meta.ingress = ingress;
        frame
    }

    #[test]
    fn a_port_that_floods_alone_leaves_room_for_another() {
        let pool = Pool::new(PoolSizes::default());
        for limit in [1, 2, 5, 64, 1000] {
            let mut backlog = Backlog::new(limit, 1 << 20);
            let taken = (0..2000).filter(|number| backlog.push(&frame_of(&pool, 1, *number))).count();
            assert_eq!(taken, (limit * 2 / 3).max(1));
            assert_eq!(backlog.push(&frame_of(&pool, 2, 0)), limit > 1);
            assert!(backlog.len() <= limit);
            assert_eq!(backlog.clear(), taken + usize::from(limit > 1));
        }
    }

    #[test]
    fn one_port_s_large_frames_leave_octets_for_another() {
        let pool = Pool::new(PoolSizes::default());
        let mut backlog = Backlog::new(1000, 512 << 10);
        let mut large = pool.copy(&vec![0; 60_000]).unwrap();
        large.meta.ingress = 1;
        assert!((0..20).filter(|_| backlog.push(&large)).count() >= 4);
        assert!((0..20).all(|number| backlog.push(&frame_of(&pool, 2, number))));
    }

    /// However many ports flood, one that sends less than its part of what leaves loses nothing, and floods share the
    /// rest evenly.
    #[test]
    fn a_slow_port_loses_nothing_to_floods() {
        let pool = Pool::new(PoolSizes::default());
        for floods in 1..=8 {
            let mut backlog = Backlog::new(256, 1 << 20);
            let mut left = vec![0; floods + 2];
            for step in 0..20_000 {
                for flood in 1..=floods {
                    let _ = (0..4).all(|_| backlog.push(&frame_of(&pool, flood as u16, step)));
                }
                // Half of its part, in bursts.
                if step % (8 * (floods + 1)) == 0 {
                    for number in 0..4 {
                        assert!(backlog.push(&frame_of(&pool, floods as u16 + 1, step + number)), "{floods}");
                    }
                }
                if let Some(entry) = backlog.iter().next() {
                    left[usize::from(entry.meta.ingress)] += 1;
                }
                backlog.pop(1);
            }
            let (least, most) = (left[1..=floods].iter().min(), left[1..=floods].iter().max());
            assert!(most.unwrap() * 2 <= least.unwrap() * 3, "{left:?}");
        }
    }

    proptest! {
        #[test]
        fn each_port_s_frames_stay_in_order_and_the_counts_hold(
            steps in prop::collection::vec((0u16..5, 0usize..4), 0..300),
            limit in 1usize..40,
        ) {
            let pool = Pool::new(PoolSizes::default());
            let mut backlog = Backlog::new(limit, 2000);
            let mut next = [0; 5];
            let mut seen = [0; 5];
            for (ingress, pops) in steps {
                let port = usize::from(ingress);
                let had = backlog.iter().any(|entry| entry.meta.ingress == ingress);
                let room = backlog.len() < limit && backlog.octets + 60 <= 1900;
                let pushed = backlog.push(&frame_of(&pool, ingress, next[port] + 1));
                next[port] += usize::from(pushed);
                // The ring's end may be lost to it.
                prop_assert!(pushed || had || !room || backlog.place(60).is_none());
                for entry in backlog.iter().take(pops) {
                    let number = usize::from_be_bytes(*entry.octets.first_chunk().unwrap());
                    let seen = &mut seen[usize::from(entry.meta.ingress)];
                    prop_assert_eq!(number, *seen + 1);
                    *seen = number;
                }
                backlog.pop(pops);
                prop_assert!(backlog.len() <= limit);
                let frames: usize = backlog.held.iter().map(|held| held.frames).sum();
                let octets: usize = backlog.held.iter().map(|held| held.octets).sum();
                let waiting: usize = backlog.iter().map(|entry| entry.octets.len()).sum();
                prop_assert_eq!((frames, octets, backlog.octets), (backlog.len(), waiting, waiting));
            }
        }
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
