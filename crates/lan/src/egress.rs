//! Where the copies wait between forwarding and transmission.
//!
//! An egress belongs to one worker and one network. Forwarding puts the copies of a batch into the queue of each port
//! and lists the ports that it touched; the worker then takes these ports one by one and transmits each queue at once.
//! Nothing on this way looks at a port that got nothing. A queue takes no more frames than the port has room for: the
//! newest is dropped and counted at that port alone, and nobody waits.
//!
//! A worker's time is shared by its ports, and what a frame costs depends on where it goes: a broadcast makes a copy
//! for every port, and a segmentation frame is cut for a port whose medium takes none. So the copies are weighed, and
//! forwarding ends a turn when they weigh as much as the worker allowed ([`Egress::allow`]). One frame for many ports
//! may still be much work, so the worker may put off the ports that it did not come to ([`Egress::postpone`]) and give
//! others their turns before it goes on with them. A port that is touched again meanwhile gets all that waits for it.

use core::mem;
use std::collections::VecDeque;

use vmlan_frame::{
    Account, Batch, Context, DropReason, Frame, Losses, Meta, SecondaryMap, Sides, Takes, VlanTag,
};

use crate::PortId;

/// A worker's queues toward the ports of one network.
pub struct Egress {
    queues: Queues,
    /// Ports whose queue was empty before, in the order in which they got a frame.
    touched: Vec<PortId>,
    /// How many of `touched` were taken.
    taken: usize,
    /// Ports that were put off, in that order.
    late: VecDeque<PortId>,
    /// Ports whose queue refused a frame in this batch.
    overflowed: Vec<PortId>,
    /// The weight that the copies of this turn may still have.
    allowed: usize,
}

/// The way of a copy to a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Way {
    pub(crate) to: PortId,
    /// The tag with which it leaves.
    pub(crate) tag: Option<VlanTag>,
    /// The sides of a trunk that get it.
    pub(crate) sides: Sides,
    /// See [`Meta::ingress`].
    pub(crate) ingress: u16,
}

impl Way {
    #[inline]
    fn mark(&self, meta: &mut Meta) {
        meta.tag = self.tag;
        meta.sides = self.sides;
        meta.ingress = self.ingress;
    }
}

/// The queue of a port, in hand for some frames that go the same way.
pub(crate) struct Room<'a> {
    queue: &'a mut Queue,
    touched: &'a mut Vec<PortId>,
    allowed: &'a mut usize,
}

impl Room<'_> {
    /// True if the queue takes another frame in this turn.
    #[inline]
    pub(crate) fn is_free(&self) -> bool {
        self.queue.waiting.len() < self.queue.room && *self.allowed > 0
    }

    /// Takes a frame, which goes that way, and leaves an empty one in its place.
    // As a call it costs each frame a fifth more.
    #[inline(always)]
    pub(crate) fn take(&mut self, frame: &mut Frame, way: &Way) {
        let Room { queue, touched, allowed } = self;
        **allowed = allowed.saturating_sub(weight(frame, queue));
        // Marked where it lies then: a processor waits when it has to move what was just stored piece by piece.
        way.mark(&mut queue.waiting.push_taken(frame).meta);
        if !queue.listed {
            queue.listed = true;
            touched.push(way.to);
        }
    }
}

struct Queues {
    by_port: SecondaryMap<PortId, Queue>,
    /// Frames that waited for ports whose slots others have by now.
    orphans: Vec<(PortId, Batch)>,
    default_room: usize,
}

struct Queue {
    waiting: Batch,
    room: usize,
    /// The offloads that the port's medium takes uncut.
    takes: Takes,
    /// The weight of a copy that goes out in one piece, or waits.
    copy: usize,
    /// It is in `touched`, and was not taken.
    listed: bool,
    /// It is in `late`.
    is_late: bool,
    /// It is in `overflowed`.
    overflows: bool,
    losses: Losses,
}

impl Egress {
    /// Empty queues. A port takes `default_room` frames until [`Egress::set_room`] says otherwise.
    pub fn new(default_room: usize) -> Egress {
        Egress {
            queues: Queues { by_port: SecondaryMap::new(), orphans: Vec::new(), default_room },
            touched: Vec::new(),
            taken: 0,
            late: VecDeque::new(),
            overflowed: Vec::new(),
            allowed: usize::MAX,
        }
    }

    /// The weight of a copy that goes out in one piece.
    pub const COPY: usize = 8;

    /// The weight of a copy that waits behind earlier copies.
    const WAITING: usize = 2;

    /// The weight of a copy that is dropped for want of room.
    const REFUSED: usize = 1;

    /// Octets whose copying weighs as much as a copy.
    const OCTETS: usize = 4096;

    /// Says how much the copies of the next turn may weigh, see [`Egress::COPY`]. What the last frame of a turn makes
    /// may weigh more. Without a word there is no limit.
    #[inline]
    pub fn allow(&mut self, weight: usize) {
        self.allowed = weight;
    }

    /// True if another frame may be forwarded in this turn.
    #[inline]
    pub(crate) fn is_allowed(&self) -> bool {
        self.allowed > 0
    }

    /// Says whether frames wait for a port, so that further ones only join them. It stays until it is set again.
    pub fn set_waiting(&mut self, port: PortId, waiting: bool) {
        let queue = self.queues.of(port);
        queue.copy = if waiting { Egress::WAITING } else { Egress::COPY };
    }

    /// Says what a port's medium takes uncut; nothing, unless it is said. It stays until it is set again.
    pub fn set_takes(&mut self, port: PortId, takes: Takes) {
        self.queues.of(port).takes = takes;
    }

    /// Says how many frames may wait for `port` until it is taken next: its limit less what its driver still holds.
    /// It stays until it is set again.
    pub fn set_room(&mut self, port: PortId, room: usize) {
        self.queues.of(port).room = room;
    }

    /// The next port for which frames wait, in the order in which they were touched, and its frames.
    ///
    /// Frames that the caller leaves in the batch stay in front of the port's later ones.
    #[inline]
    pub fn next_touched(&mut self) -> Option<(PortId, &mut Batch)> {
        while let Some(port) = self.touched.get(self.taken).copied() {
            self.taken += 1;
            // A port that was removed meanwhile may have lost its slot to another one.
            if self.queues.find(port).is_some() {
                let queue = self.queues.of(port);
                queue.listed = false;
                return Some((port, &mut queue.waiting));
            }
        }
        self.touched.clear();
        self.taken = 0;
        None
    }

    /// Puts off the touched ports that were not taken, until [`Egress::next_late`].
    #[cold]
    pub fn postpone(&mut self) {
        for port in self.touched.drain(..).skip(mem::take(&mut self.taken)) {
            let Some(queue) = self.queues.find(port) else { continue };
            queue.listed = false;
            if !mem::replace(&mut queue.is_late, true) {
                self.late.push_back(port);
            }
        }
    }

    /// The next port that was put off and for which frames still wait, and its frames.
    pub fn next_late(&mut self) -> Option<(PortId, &mut Batch)> {
        while let Some(port) = self.late.pop_front() {
            let Some(queue) = self.queues.find(port) else { continue };
            queue.is_late = false;
            if !queue.waiting.is_empty() {
                return Some((port, &mut self.queues.of(port).waiting));
            }
        }
        None
    }

    /// True if a port that was put off may be waiting.
    pub fn has_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// Takes the frames that wait for a port that is no more, or that takes none, for the caller to lose.
    #[must_use]
    pub fn give_up(&mut self, port: PortId) -> Batch {
        let mut waiting =
            self.queues.find(port).map(|queue| mem::take(&mut queue.waiting)).unwrap_or_default();
        for (_, mut orphans) in self.queues.orphans.extract_if(.., |(orphan, _)| *orphan == port) {
            orphans.drain().for_each(|frame| waiting.push(frame));
        }
        waiting
    }

    /// Hands every touched port and its frames to `flush`, once each.
    #[inline]
    pub fn drain(&mut self, mut flush: impl FnMut(PortId, &mut Batch)) {
        while let Some((port, batch)) = self.next_touched() {
            flush(port, batch);
        }
    }

    /// True if no port is waiting to be taken, except ports that were put off.
    pub fn is_empty(&self) -> bool {
        self.taken == self.touched.len()
    }

    /// The queue of a port, when it is there.
    #[inline]
    pub(crate) fn room(&mut self, port: PortId) -> Option<Room<'_>> {
        let Egress { queues, touched, allowed, .. } = self;
        Some(Room { queue: queues.find(port)?, touched, allowed })
    }

    /// Queues a copy for a port, or loses it when the port has no room.
    #[inline]
    pub(crate) fn push(&mut self, cx: &Context<'_>, (way, account): (&Way, &Account), mut frame: Frame) {
        let Egress { queues, touched, allowed, .. } = self;
        let queue = queues.of(way.to);
        if queue.waiting.len() < queue.room {
            Room { queue, touched, allowed }.take(&mut frame, way);
            return;
        }
        self.allowed = self.allowed.saturating_sub(Egress::REFUSED);
        way.mark(&mut frame.meta);
        self.refuse(cx, (way.to, account), &frame);
    }

    /// Loses a copy for which a port has no room, or that could not be made.
    pub(crate) fn refuse(&mut self, cx: &Context<'_>, (port, account): (PortId, &Account), frame: &Frame) {
        let queue = self.queues.of(port);
        if !mem::replace(&mut queue.overflows, true) {
            self.overflowed.push(port);
        }
        queue.losses.lose(cx, (account.counters(), account), frame, DropReason::QueueFull);
    }

    /// Has the losses of every port counted since the last time.
    #[inline]
    pub(crate) fn settle(&mut self, mut count: impl FnMut(PortId, &mut Losses)) {
        for port in self.overflowed.drain(..) {
            if let Some(queue) = self.queues.find(port) {
                queue.overflows = false;
                count(port, &mut queue.losses);
            }
        }
    }
}

impl Queues {
    #[inline]
    fn of(&mut self, port: PortId) -> &mut Queue {
        let Queues { by_port, orphans, default_room } = self;
        by_port.get_or_insert_with(port, |former| {
            // What waited for the slot's former port is lost when that is given up.
            if let Some((former, queue)) = former.filter(|(_, queue)| !queue.waiting.is_empty()) {
                orphans.push((former, queue.waiting));
            }
            Queue::new(*default_room)
        })
    }

    /// The queue of a port, unless another has its slot.
    #[inline]
    fn find(&mut self, port: PortId) -> Option<&mut Queue> {
        self.by_port.get_mut(port)
    }
}

impl Queue {
    fn new(room: usize) -> Queue {
        Queue {
            waiting: Batch::default(),
            room,
            takes: Takes::NONE,
            copy: Egress::COPY,
            listed: false,
            is_late: false,
            overflows: false,
            losses: Losses::default(),
        }
    }
}

/// Returns the weight of a copy, from the pieces that it goes out in and from its octets.
#[inline]
fn weight(frame: &Frame, to: &Queue) -> usize {
    let octets = frame.len() * Egress::COPY / Egress::OCTETS;
    if frame.meta.offload.is_segmentation() {
        weight_of_segments(frame, to) + octets
    } else {
        to.copy + octets
    }
}

#[cold]
fn weight_of_segments(frame: &Frame, to: &Queue) -> usize {
    let offload = &frame.meta.offload;
    if to.takes.takes(*offload) {
        return to.copy;
    }
    let payload = frame.len().saturating_sub(offload.header_len.into());
    to.copy * payload.div_ceil(usize::from(offload.gso_size).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmlan_frame::{Offload, Pool, PoolSizes, SlotKey};

    const A: PortId = PortId::new(0, 0);
    const B: PortId = PortId::new(5, 0);

    fn frame(pool: &Pool) -> Frame {
        pool.copy(&[0; 60]).unwrap()
    }

    fn push(egress: &mut Egress, pool: &Pool, port: PortId, frame: Frame) {
        let cx = Context { worker: 0, now: vmlan_frame::Instant::ZERO, pool };
        let account = Account::from(std::sync::Arc::new(vmlan_frame::Counters::new(1)));
        egress.push(&cx, (&way(port), &account), frame);
    }

    fn way(to: PortId) -> Way {
        Way { to, tag: None, sides: Sides::NONE, ingress: 1 }
    }

    fn drained(egress: &mut Egress) -> Vec<(PortId, usize)> {
        let mut ports = Vec::new();
        egress.drain(|port, batch| ports.push((port, batch.drain().len())));
        ports
    }

    #[test]
    fn touched_ports_come_once_in_order() {
        let pool = Pool::new(PoolSizes::default());
        let mut egress = Egress::new(10);
        [B, A, B].into_iter().for_each(|port| push(&mut egress, &pool, port, frame(&pool)));
        assert!(!egress.is_empty());
        assert_eq!(drained(&mut egress), [(B, 2), (A, 1)]);
        assert!(egress.is_empty());
        push(&mut egress, &pool, A, frame(&pool));
        assert_eq!(drained(&mut egress), [(A, 1)]);
        assert_eq!(pool.out(), 0);
    }

    #[test]
    fn ports_that_are_put_off_come_later_unless_they_are_touched_before() {
        let pool = Pool::new(PoolSizes::default());
        let [c, d] = [PortId::new(7, 0), PortId::new(8, 0)];
        let mut egress = Egress::new(10);
        let late = |egress: &mut Egress| egress.next_late().map(|(port, batch)| (port, batch.drain().len()));
        [A, B, c, d].into_iter().for_each(|port| push(&mut egress, &pool, port, frame(&pool)));
        assert_eq!(egress.next_touched().map(|(port, batch)| (port, batch.drain().len())), Some((A, 1)));
        egress.postpone();
        assert!(egress.is_empty() && egress.has_late());
        [c, A].into_iter().for_each(|port| push(&mut egress, &pool, port, frame(&pool)));
        assert_eq!(drained(&mut egress), [(c, 2), (A, 1)]);
        push(&mut egress, &pool, B, frame(&pool));
        egress.postpone();
        assert_eq!(late(&mut egress), Some((B, 2)));
        assert_eq!(late(&mut egress), Some((d, 1)));
        assert_eq!(late(&mut egress), None);
        assert!(!egress.has_late());
        assert_eq!(pool.out(), 0);
    }

    #[test]
    fn what_waits_for_a_port_that_is_gone_is_told_once() {
        let pool = Pool::new(PoolSizes::default());
        let mut egress = Egress::new(10);
        [A, A, B].into_iter().for_each(|port| push(&mut egress, &pool, port, frame(&pool)));
        egress.postpone();
        push(&mut egress, &pool, A.successor(), frame(&pool));
        assert_eq!((egress.give_up(A).len(), egress.give_up(A).len()), (2, 0));
        assert_eq!((egress.give_up(B).len(), egress.give_up(B).len()), (1, 0));
        assert_eq!(drained(&mut egress), [(A.successor(), 1)]);
        assert_eq!(egress.next_late().map(|(port, _)| port), None);
        assert_eq!(pool.out(), 0);
    }

    #[test]
    fn no_room_drops_the_newest_of_that_port() {
        let pool = Pool::new(PoolSizes::default());
        let cx = Context { worker: 0, now: vmlan_frame::Instant::ZERO, pool: &pool };
        let counters = std::sync::Arc::new(vmlan_frame::Counters::new(1));
        let account = Account::from(std::sync::Arc::clone(&counters));
        let full = || counters.snapshot().dropped(DropReason::QueueFull);
        let mut egress = Egress::new(10);
        egress.set_room(A, 1);
        [A, A, B, A].into_iter().for_each(|port| egress.push(&cx, (&way(port), &account), frame(&pool)));
        assert_eq!(full(), 0, "they are counted together");
        let mut ports = Vec::new();
        for _ in 0..2 {
            egress.settle(|port, losses| {
                ports.push(port);
                losses.settle(&cx, &counters);
            });
        }
        assert_eq!((ports, full()), (vec![A], 2));
        assert_eq!(drained(&mut egress), [(A, 1), (B, 1)]);
        egress.set_room(A, 0);
        egress.push(&cx, (&way(A), &account), frame(&pool));
        egress.settle(|_, losses| losses.settle(&cx, &counters));
        assert_eq!(full(), 3);
    }

    #[test]
    fn frames_that_are_left_stay_in_front() {
        let pool = Pool::new(PoolSizes::default());
        let mut egress = Egress::new(2);
        push(&mut egress, &pool, A, frame(&pool));
        egress.drain(|_, _| {});
        push(&mut egress, &pool, A, frame(&pool));
        push(&mut egress, &pool, A, frame(&pool));
        assert_eq!(drained(&mut egress), [(A, 2)]);
    }

    #[test]
    fn copies_weigh_by_pieces_and_octets() {
        let pool = Pool::new(PoolSizes::default());
        let mut egress = Egress::new(10);
        egress.set_takes(A, Takes::TSO4);
        egress.set_room(B, 2);
        let mut weight = |port, frame: Frame| {
            egress.allow(1 << 20);
            push(&mut egress, &pool, port, frame);
            (1 << 20) - egress.allowed
        };
        assert_eq!(weight(A, frame(&pool)), Egress::COPY);
        let segments = || {
            let mut frame = pool.copy(&[0; 54 + 64_000]).unwrap();
            let offload = &mut frame.meta.offload;
            (offload.gso_type, offload.header_len, offload.gso_size) = (Offload::TCPV4, 54, 500);
            frame
        };
        let octets = 54 + 64_000;
        assert_eq!(weight(A, segments()), Egress::COPY + octets * Egress::COPY / Egress::OCTETS);
        assert_eq!(weight(B, segments()), Egress::COPY * 128 + octets * Egress::COPY / Egress::OCTETS);
        assert_eq!(weight(B, frame(&pool)), Egress::COPY);
        assert_eq!(weight(B, frame(&pool)), Egress::REFUSED);
        egress.set_waiting(A, true);
        let mut weight = |port, frame: Frame| {
            egress.allow(1 << 20);
            push(&mut egress, &pool, port, frame);
            (1 << 20) - egress.allowed
        };
        assert_eq!(weight(A, frame(&pool)), Egress::WAITING);
        egress.set_waiting(A, false);
        assert!(egress.is_allowed());
        egress.allow(Egress::COPY);
        push(&mut egress, &pool, A, frame(&pool));
        assert!(!egress.is_allowed());
    }

    #[test]
    fn a_new_port_in_an_old_slot_gets_nothing_of_the_old() {
        let pool = Pool::new(PoolSizes::default());
        let mut egress = Egress::new(10);
        egress.set_room(A, 0);
        egress.set_room(A, 1);
        push(&mut egress, &pool, A, frame(&pool));
        push(&mut egress, &pool, A, frame(&pool));
        let successor = A.successor();
        push(&mut egress, &pool, successor, frame(&pool));
        push(&mut egress, &pool, successor, frame(&pool));
        egress.settle(|port, _| panic!("{port:?} lost nothing"));
        assert_eq!(drained(&mut egress), [(successor, 2)]);
        assert_eq!(egress.give_up(A).len(), 1);
        assert_eq!(pool.out(), 0);
    }
}
