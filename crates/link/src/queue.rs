//! Input contexts: which worker a link's input runs in, and the queue toward it from elsewhere.
//!
//! Frames do not leave their worker, so one that comes up elsewhere (a pseudo link, another worker) is copied into
//! the link's bounded queue, and the worker of the link's context takes it from there. Full means dropped and
//! counted. The queue starts with attach and ends with detach; what waits then is dropped and counted. The reader is
//! woken when the first frame comes into an empty queue, and takes frames until it is empty again.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use core::task::Waker;

use vmlan_frame::{Backlog, Batch, Context, DropReason, Frame, Mutex};

use crate::{Error, Kind, Link};

pub(crate) struct InputQueue {
    /// There while the link is attached.
    waiting: Mutex<Option<Waiting>>,
    /// A thread reads the queue; written under the lock.
    has_reader: AtomicBool,
}

struct Waiting {
    backlog: Backlog,
    reader: Option<Waker>,
}

impl InputQueue {
    /// Frames that wait at most.
    const FRAMES: usize = 512;
    /// Octets that they have together at most.
    const OCTETS: usize = 1 << 20;

    pub(crate) fn new() -> InputQueue {
        InputQueue { waiting: Mutex::new(None), has_reader: AtomicBool::new(false) }
    }

    pub(crate) fn start(&self) {
        let backlog = Backlog::new(InputQueue::FRAMES, InputQueue::OCTETS);
        *self.waiting.lock() = Some(Waiting { backlog, reader: None });
    }

    /// Frees what waits; how many frames and octets that was.
    pub(crate) fn end(&self) -> (u64, u64) {
        // The reader's waker goes with it, after the lock.
        let waiting = {
            let mut waiting = self.waiting.lock();
            self.has_reader.store(false, Relaxed);
            waiting.take()
        };
        let Some(Waiting { backlog, .. }) = waiting else {
            return (0, 0);
        };
        (backlog.len() as u64, backlog.iter().map(wire_len).sum())
    }

    /// Tells if a thread reads the queue.
    #[inline]
    pub(crate) fn has_reader(&self) -> bool {
        self.has_reader.load(Relaxed)
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

    /// Names the reader of the link's queue, until the link is detached: `reader` is woken when the queue is no longer
    /// empty, once until the reader has emptied it, and at once when frames wait already. It may be woken in any thread
    /// that moves frames, so it must only wake (an event descriptor, for a worker that sleeps on descriptors).
    ///
    /// A link that has a reader gives its protocols their own broadcasts back ([`Link::output_protocol`]).
    ///
    /// # Errors
    /// `ENXIO` when the link is not attached.
    pub fn set_reader(&self, reader: Waker) -> Result<(), Error> {
        let (has_frames, _before) = {
            let mut waiting = self.record().queue.waiting.lock();
            let waiting = waiting.as_mut().ok_or(Error::NotAttached)?;
            self.record().queue.has_reader.store(true, Relaxed);
            (!waiting.backlog.is_empty(), waiting.reader.replace(reader.clone()))
        };
        if has_frames {
            reader.wake();
        }
        Ok(())
    }

    /// Copies frames to the link's queue, for the worker of its context. `batch` is empty on return: what finds no
    /// room, or no attached link, is dropped and counted.
    pub fn enqueue(&self, cx: &Context<'_>, batch: &mut Batch) {
        let (mut frames, mut octets) = (0, 0);
        let mut queue = self.record().queue.waiting.lock();
        let reason = if queue.is_some() { DropReason::InputQueue } else { DropReason::NotAttached };
        let was_empty = queue.as_ref().is_some_and(|waiting| waiting.backlog.is_empty());
        for frame in batch.drain() {
            if !queue.as_mut().is_some_and(|waiting| waiting.backlog.push(&frame)) {
                frames += 1;
                octets += frame.wire_len() as u64;
            }
        }
        let filled = queue.as_ref().filter(|waiting| was_empty && !waiting.backlog.is_empty());
        let reader = filled.and_then(|waiting| waiting.reader.clone());
        drop(queue);
        if let Some(reader) = reader {
            reader.wake();
        }
        self.counters().received_and_dropped(cx.worker, reason, frames, octets);
    }

    /// Takes up to [`Batch::room`] waiting frames from the queue, behind those in `batch`, for [`Link::input`]. Until
    /// nothing comes, more may wait, of which the reader is not told again. A frame for which the pool has no buffer
    /// is dropped and counted.
    pub fn dequeue(&self, cx: &Context<'_>, batch: &mut Batch) {
        let mut queue = self.record().queue.waiting.lock();
        let Some(Waiting { backlog, reader }) = queue.as_mut() else { return };
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
        // To the reader it would look like an empty queue.
        let looks_empty = taken > 0 && taken as u64 == lost && !backlog.is_empty();
        let reader = reader.as_ref().filter(|_| looks_empty).cloned();
        drop(queue);
        if let Some(reader) = reader {
            reader.wake();
        }
        self.counters().received_and_dropped(cx.worker, DropReason::NoBuffer, lost, octets);
    }
}

/// As [`Frame::wire_len`].
fn wire_len(entry: vmlan_frame::Entry<'_>) -> u64 {
    (entry.octets.len() + if entry.meta.tag.is_some() { vmlan_frame::VLAN_TAG } else { 0 }) as u64
}

fn with_meta(mut frame: Frame, meta: vmlan_frame::Meta) -> Frame {
    frame.meta = meta;
    frame
}
