//! Input contexts: which worker a link's input runs in, and the queue toward it from elsewhere.
//!
//! Frames do not leave their worker, so one that comes up elsewhere (a pseudo link, another worker) is copied into
//! the link's bounded queue, and the worker of the link's context takes it from there. Full means dropped and
//! counted. The queue starts with attach and ends with detach; what waits then is dropped and counted.

use std::sync::Mutex;

use frame::{Backlog, Batch, Context, DropReason, Frame};

use crate::gate::lock;
use crate::{Kind, Link};

pub(crate) struct InputQueue {
    /// There while the link is attached.
    backlog: Mutex<Option<Backlog>>,
}

impl InputQueue {
    /// Frames that wait at most.
    const FRAMES: usize = 512;
    /// Octets that they have together at most.
    const OCTETS: usize = 1 << 20;

    pub(crate) fn new() -> InputQueue {
        InputQueue { backlog: Mutex::new(None) }
    }

    pub(crate) fn start(&self) {
        *lock(&self.backlog) = Some(Backlog::new(InputQueue::FRAMES, InputQueue::OCTETS));
    }

    /// Frees what waits; how many frames and octets that was.
    pub(crate) fn end(&self) -> (u64, u64) {
        let Some(backlog) = lock(&self.backlog).take() else {
            return (0, 0);
        };
        (backlog.len() as u64, backlog.iter().map(wire_len).sum())
    }
}

impl Link {
    /// The worker in which the link's input runs when nothing else decides it: Ethernet-like links are spread over
    /// the workers, loopback and pseudo links share the first one.
    pub fn worker(&self) -> usize {
        let workers = self.registry().map_or(1, |registry| registry.workers());
        match self.kind() {
            Kind::Ethernet | Kind::Bridge | Kind::Vlan | Kind::Cellular => {
                self.index().map_or(0, |index| index as usize - 1) % workers
            }
            Kind::Loopback | Kind::Tunnel | Kind::Other => 0,
        }
    }

    /// Copies frames to the link's queue, for the worker of its context. `batch` is empty on return: what finds no
    /// room, or no attached link, is dropped and counted.
    pub fn enqueue(&self, cx: &Context<'_>, batch: &mut Batch) {
        let mut backlog = lock(&self.record().queue.backlog);
        let (reason, mut frames, mut octets) = match *backlog {
            Some(_) => (DropReason::InputQueue, 0, 0),
            None => (DropReason::NotAttached, 0, 0),
        };
        for frame in batch.drain() {
            if !backlog.as_mut().is_some_and(|backlog| backlog.push(&frame)) {
                frames += 1;
                octets += frame.wire_len() as u64;
            }
        }
        drop(backlog);
        self.counters().received_and_dropped(cx.worker, reason, frames, octets);
    }

    /// Takes up to [`Batch::room`] waiting frames from the queue, behind those in `batch`, for [`Link::input`]. A
    /// frame for which the pool has no buffer is dropped and counted.
    pub fn dequeue(&self, cx: &Context<'_>, batch: &mut Batch) {
        let mut backlog = lock(&self.record().queue.backlog);
        let Some(backlog) = backlog.as_mut() else { return };
        let (mut taken, mut lost, mut octets) = (0, 0, 0);
        for entry in backlog.iter().take(batch.room()) {
            taken += 1;
            match cx.pool.copy(entry.octets) {
                Some(frame) => batch.push(with_meta(frame, entry.meta)),
                None => {
                    lost += 1;
                    octets += wire_len(entry);
                }
            }
        }
        backlog.pop(taken);
        self.counters().received_and_dropped(cx.worker, DropReason::NoBuffer, lost, octets);
    }
}

/// As [`Frame::wire_len`].
fn wire_len(entry: frame::Entry<'_>) -> u64 {
    (entry.octets.len() + if entry.meta.tag.is_some() { frame::VLAN_TAG } else { 0 }) as u64
}

fn with_meta(mut frame: Frame, meta: frame::Meta) -> Frame {
    frame.meta = meta;
    frame
}
