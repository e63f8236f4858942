//! What a worker has to do: which ports have something, in the order in which that was found, and when others will.

use std::collections::VecDeque;

use frame::Instant;

use crate::command::PortKey;
use crate::port::Port;

/// Ports whose turn comes, each once, in the order in which they were listed.
#[derive(Default)]
pub(crate) struct ReadyQueue {
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
            self.keys.push_back(port.key);
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
        self.keys.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.keys.clear();
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
