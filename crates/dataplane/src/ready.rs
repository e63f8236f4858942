//! The work ahead of a worker: the ports that have work, in the order in which it was found, and when other ports will
//! have some.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use vmlan_frame::{Instant, Share};

use crate::command::PortKey;
use crate::port::{Attached, Port};

/// The part of the worker's time that a place may use and still be served before those that use more: one in so many.
const MODEST: u32 = 8;

/// For how long a place that used more has to wait for the others at most, once it uses nothing.
const MEMORY: Duration = Duration::from_millis(10);

/// The most that a turn is charged. It takes longer only when something else had the processor meanwhile.
const DEAREST: Duration = Duration::from_micros(250);

/// How many turns of modest places go before one of the others at most.
const AHEAD: u32 = 8;

/// Ports whose turn comes, each once, in the order in which they were listed.
///
/// The ports of one user take turns at one place: however many clients a user runs, a port of another waits for one of
/// them. Places that use little of the worker's time go before those that use much (the idea is that of the new and the
/// old flows in RFC 8290, section 4.2): who asks now and then waits for the turn that is being given and for others
/// like it, and who floods waits for those who flood. Nobody waits for ever, for one of [`AHEAD`] turns is the others'.
#[derive(Default)]
pub(crate) struct ReadyQueue {
    /// Places that use little.
    modest: VecDeque<Entry>,
    /// Places that use much.
    busy: VecDeque<Entry>,
    lanes: Vec<Lane>,
    /// Turns of modest places since the last one of the others.
    ahead: u32,
    now: Instant,
}

/// A place in the queue.
enum Entry {
    Port(PortKey),
    /// The ports of one user, as the number of their lane.
    Lane(usize),
    /// The copies of a network that were put off.
    Late(usize),
}

/// The next thing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// That of a port. It may be gone; what its turn is for is to be taken next.
    Port(PortKey),
    /// Copies in the network at this place were put off. It may be gone, or another.
    Late(usize),
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
    used: Used,
}

/// A place's use of the worker's time.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Used {
    /// When it will have used no more than its part.
    until: Instant,
}

impl Used {
    fn charge(&mut self, turn: Duration, now: Instant) {
        self.until = (self.until.max(now) + turn.min(DEAREST) * MODEST).min(now + MEMORY);
    }

    fn is_modest(self, now: Instant) -> bool {
        self.until <= now
    }
}

/// The work for a port's next turn. The port is listed as long as there is any.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Pending {
    listed: bool,
    /// Its descriptors that told of something to receive, as a bit for each.
    pub(crate) receive: u8,
    /// Its descriptors that told of room.
    pub(crate) room: u8,
    /// Its queue received more than it gave out.
    pub(crate) more: bool,
    /// Its queue is to be looked at, whatever its descriptors say.
    pub(crate) look: bool,
    /// Frames that wait are to be sent.
    pub(crate) transmit: bool,
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
            self.push(port.key, port.lane, port.used);
        }
    }

    #[inline]
    fn push(&mut self, key: PortKey, lane: Option<usize>, used: Used) {
        let Some(number) = lane else { return self.enter(Entry::Port(key), used) };
        let lane = &mut self.lanes[number];
        lane.keys.push_back(key);
        if lane.keys.len() == 1 {
            let used = lane.used;
            self.enter(Entry::Lane(number), used);
        }
    }

    #[inline]
    fn enter(&mut self, entry: Entry, used: Used) {
        let entries = if used.is_modest(self.now) { &mut self.modest } else { &mut self.busy };
        entries.push_back(entry);
    }

    /// Says what time it is.
    #[inline]
    pub(crate) fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// Charges a port, or all of its user, for a turn that took so long.
    #[inline]
    pub(crate) fn charge(&mut self, port: &mut Port, turn: Duration) {
        let used = port.lane.map_or(&mut port.used, |lane| &mut self.lanes[lane].used);
        used.charge(turn, self.now);
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
        if !is_it(lane) {
            lane.used = Used::default();
        }
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

    /// As [`ReadyQueue::list`], for receiving whatever the medium has.
    #[inline]
    pub(crate) fn list_all(&mut self, port: &mut Port) {
        if port.attached.as_ref().is_some_and(Attached::is_polled) {
            return self.list(port, |pending| pending.look = true);
        }
        let receivers = port.attached.as_ref().map_or(0, Attached::receivers);
        // Of a queue that waits for nothing as well, what its deadline is for.
        self.list(port, |pending| pending.receive |= receivers.max(1));
    }

    /// Puts the late copies of a network behind all that is ready.
    pub(crate) fn list_late(&mut self, network: usize) {
        self.busy.push_back(Entry::Late(network));
    }

    /// Takes what is at the front.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Turn> {
        let number = match self.next_entry()? {
            Entry::Port(key) => return Some(Turn::Port(key)),
            Entry::Late(network) => return Some(Turn::Late(network)),
            Entry::Lane(number) => number,
        };
        let lane = &mut self.lanes[number];
        let key = lane.keys.pop_front();
        if !lane.keys.is_empty() {
            let used = lane.used;
            self.enter(Entry::Lane(number), used);
        }
        key.map(Turn::Port)
    }

    #[inline]
    fn next_entry(&mut self) -> Option<Entry> {
        if self.busy.is_empty() {
            return self.modest.pop_front();
        }
        if self.ahead < AHEAD
            && let Some(entry) = self.modest.pop_front()
        {
            self.ahead += 1;
            return Some(entry);
        }
        self.ahead = 0;
        self.busy.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.modest.is_empty() && self.busy.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.modest.clear();
        self.busy.clear();
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
        let slot = |turn| match turn {
            Turn::Port(key) => key.slot,
            Turn::Late(network) => panic!("no copies were put off in {network}"),
        };
        std::iter::from_fn(|| queue.next()).map(slot).collect()
    }

    #[test]
    fn ports_of_one_user_take_turns_at_one_place() {
        let mut queue = ReadyQueue::default();
        let share = Arc::new(Share::new(1));
        for slot in 0..4 {
            let lane = queue.join(&share);
            queue.push(key(slot), Some(lane), Used::default());
        }
        for slot in 10..13 {
            queue.push(key(slot), None, Used::default());
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
            queue.push(key(slot), Some(lane), Used::default());
        }
        for slot in 10..12 {
            let lane = queue.join(&few);
            queue.push(key(slot), Some(lane), Used::default());
        }
        assert_eq!(turns(&mut queue), [0, 10, 1, 11, 2, 3, 4]);
    }

    #[test]
    fn who_uses_little_goes_before_who_uses_much_and_nobody_waits_for_ever() {
        let mut queue = ReadyQueue::default();
        let now = Instant::from_secs(1);
        queue.set_now(now);
        let mut much = Used::default();
        much.charge(Duration::from_millis(1), now);
        let mut little = Used::default();
        little.charge(Duration::from_micros(10), now);
        queue.set_now(now + Duration::from_micros(100));
        for slot in 0..3 {
            queue.push(key(slot), None, much);
        }
        for slot in 10..30 {
            queue.push(key(slot), None, little);
        }
        let expected =
            [10, 11, 12, 13, 14, 15, 16, 17, 0, 18, 19, 20, 21, 22, 23, 24, 25, 1, 26, 27, 28, 29, 2];
        assert_eq!(turns(&mut queue), expected);
    }

    #[test]
    fn what_was_used_is_forgotten_soon_and_a_pause_of_the_thread_is_not_charged() {
        let now = Instant::from_secs(1);
        let mut used = Used::default();
        used.charge(Duration::from_secs(5), now);
        assert!(!used.is_modest(now) && used.is_modest(now + DEAREST * MODEST));
        (0..1000).for_each(|_| used.charge(DEAREST, now));
        assert!(!used.is_modest(now + MEMORY / 2) && used.is_modest(now + MEMORY));
    }

    #[test]
    fn late_copies_wait_for_their_like_and_not_for_ever() {
        let mut queue = ReadyQueue::default();
        queue.list_late(7);
        (0..10).for_each(|slot| queue.push(key(slot), None, Used::default()));
        let all: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
        assert_eq!(all.iter().position(|turn| *turn == Turn::Late(7)), Some(AHEAD as usize));
        assert_eq!(all.len(), 11);
    }

    #[test]
    fn a_lane_is_used_again_when_all_have_left_and_nothing_is_listed() {
        let mut queue = ReadyQueue::default();
        let share = || Arc::new(Share::new(1));
        let first = queue.join(&share());
        queue.push(key(0), Some(first), Used::default());
        queue.leave(first);
        let second = queue.join(&share());
        assert_ne!(first, second, "a port that is gone is still listed there");
        assert_eq!(turns(&mut queue), [0]);
        assert_eq!(queue.join(&share()), first);
    }
}
