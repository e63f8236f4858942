//! What a worker has to do: which ports have something, in the order in which that was found, and when others will.

use std::collections::VecDeque;
use std::sync::Arc;

use frame::{Instant, Share};

use crate::command::PortKey;
use crate::port::Port;

/// Ports whose turn comes, each once, in the order in which they were listed. The ports of one user take turns at one
/// place: however many clients a user runs, a port of another waits for one of them.
#[derive(Default)]
pub(crate) struct ReadyQueue {
    entries: VecDeque<Entry>,
    lanes: Vec<Lane>,
}

/// A place in the queue.
enum Entry {
    Port(PortKey),
    /// The ports of one user, as the number of their lane.
    Lane(usize),
}

/// The ready ports of one user.
#[derive(Default)]
struct Lane {
    /// The share that its ports have in common.
    share: Option<Arc<Share>>,
    /// Ports that belong to it.
    members: usize,
    /// Those whose turn comes. The lane has an entry as long as there are any.
    keys: VecDeque<PortKey>,
}

/// What a port's next turn is for. It is listed as long as there is anything.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Pending {
    listed: bool,
    /// Its first descriptor is ready for reading, or its queue has more.
    pub(crate) first: bool,
    /// Its second descriptor is.
    pub(crate) second: bool,
    /// Its queue received more than it gave out.
    pub(crate) more: bool,
    /// Its medium takes what waits.
    pub(crate) write: bool,
    /// Its descriptor told of a failure.
    pub(crate) failed: bool,
}

impl ReadyQueue {
    /// Puts a port at the end, unless it is in the queue, after `what` said what for.
    #[inline]
    pub(crate) fn list(&mut self, port: &mut Port, what: impl FnOnce(&mut Pending)) {
        what(&mut port.pending);
        if !port.pending.listed {
            port.pending.listed = true;
            self.push(port.key, port.lane);
        }
    }

    #[inline]
    fn push(&mut self, key: PortKey, lane: Option<usize>) {
        let Some(number) = lane else { return self.entries.push_back(Entry::Port(key)) };
        let lane = &mut self.lanes[number];
        lane.keys.push_back(key);
        if lane.keys.len() == 1 {
            self.entries.push_back(Entry::Lane(number));
        }
    }

    /// The lane of the ports that have `share`, with one port more.
    pub(crate) fn join(&mut self, share: &Arc<Share>) -> usize {
        let is_it = |lane: &Lane| lane.share.as_ref().is_some_and(|of| Arc::ptr_eq(of, share));
        // One that is empty but for ports that are gone is not ready for others yet.
        let is_free = |lane: &Lane| lane.members == 0 && lane.keys.is_empty();
        let found = self.lanes.iter().position(is_it).or_else(|| self.lanes.iter().position(is_free));
        let number = found.unwrap_or_else(|| {
            self.lanes.push(Lane::default());
            self.lanes.len() - 1
        });
        let lane = &mut self.lanes[number];
        lane.share = Some(share.clone());
        lane.members += 1;
        number
    }

    /// Takes a port out of a lane. A turn that it was listed for comes nevertheless, to nobody.
    pub(crate) fn leave(&mut self, lane: usize) {
        let lane = &mut self.lanes[lane];
        lane.members -= 1;
        if lane.members == 0 {
            lane.share = None;
        }
    }

    /// As [`ReadyQueue::list`], for reading from whatever the medium has.
    #[inline]
    pub(crate) fn list_all(&mut self, port: &mut Port) {
        let second = port.attached.as_ref().is_some_and(|attached| attached.queue.second().is_some());
        self.list(port, |pending| {
            pending.first = true;
            pending.second |= second;
        });
    }

    /// Takes the port at the front. It may be gone; what its turn is for is to be taken next.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<PortKey> {
        let number = match self.entries.pop_front()? {
            Entry::Port(key) => return Some(key),
            Entry::Lane(number) => number,
        };
        let keys = &mut self.lanes[number].keys;
        let key = keys.pop_front();
        if !keys.is_empty() {
            self.entries.push_back(Entry::Lane(number));
        }
        key
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.lanes.iter_mut().for_each(|lane| lane.keys.clear());
    }
}

/// Ports that have a deadline, and the earliest of these. Deadlines move without a word, so the earliest may be too
/// early, and is never too late.
#[derive(Default)]
pub(crate) struct Timed {
    keys: Vec<PortKey>,
    next: Option<Instant>,
}

impl Timed {
    /// Notes that `port` has something to do at `deadline`.
    #[inline]
    pub(crate) fn note(&mut self, port: &mut Port, deadline: Instant) {
        if !port.timed {
            port.timed = true;
            self.keys.push(port.key);
        }
        self.next = Some(self.next.map_or(deadline, |next| next.min(deadline)));
    }

    /// When something is to be done.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Shows `visit` every port of which a deadline may have passed at `now`; it answers the port's deadline when that
    /// is still to come, and whether there is to be another at all.
    #[inline]
    pub(crate) fn check(&mut self, now: Instant, mut visit: impl FnMut(PortKey) -> Due) {
        if self.next.is_none_or(|next| now <= next) {
            return;
        }
        let mut earliest: Option<Instant> = None;
        self.keys.retain(|key| match visit(*key) {
            Due::Never => false,
            // It is noted again after its turn.
            Due::Now => true,
            Due::At(deadline) => {
                earliest = Some(earliest.map_or(deadline, |earliest| earliest.min(deadline)));
                true
            }
        });
        self.next = earliest;
    }

    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.next = None;
    }
}

/// When a port has something to do.
pub(crate) enum Due {
    Now,
    At(Instant),
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(slot: u32) -> PortKey {
        PortKey { slot, generation: 1 }
    }

    fn turns(queue: &mut ReadyQueue) -> Vec<u32> {
        std::iter::from_fn(|| queue.next()).map(|key| key.slot).collect()
    }

    #[test]
    fn ports_of_one_user_take_turns_at_one_place() {
        let mut queue = ReadyQueue::default();
        let share = Arc::new(Share::new(1));
        for slot in 0..4 {
            let lane = queue.join(&share);
            queue.push(key(slot), Some(lane));
        }
        for slot in 10..13 {
            queue.push(key(slot), None);
        }
        assert_eq!(turns(&mut queue), [0, 10, 11, 12, 1, 2, 3]);
        assert!(queue.is_empty());
    }

    #[test]
    fn two_users_alternate_whatever_they_list() {
        let mut queue = ReadyQueue::default();
        let (many, few) = (Arc::new(Share::new(1)), Arc::new(Share::new(1)));
        for slot in 0..5 {
            let lane = queue.join(&many);
            queue.push(key(slot), Some(lane));
        }
        for slot in 10..12 {
            let lane = queue.join(&few);
            queue.push(key(slot), Some(lane));
        }
        assert_eq!(turns(&mut queue), [0, 10, 1, 11, 2, 3, 4]);
    }

    #[test]
    fn a_lane_is_used_again_when_all_have_left_and_nothing_is_listed() {
        let mut queue = ReadyQueue::default();
        let share = || Arc::new(Share::new(1));
        let first = queue.join(&share());
        queue.push(key(0), Some(first));
        queue.leave(first);
        let second = queue.join(&share());
        assert_ne!(first, second, "a port that is gone is still listed there");
        assert_eq!(turns(&mut queue), [0]);
        assert_eq!(queue.join(&share()), first);
    }
}
