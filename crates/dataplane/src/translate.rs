//! Each port gets a frame in a form that the port's medium takes. The work that a frame still asks for is done where
//! the ways to its ports part.
//!
//! A medium that takes segmentation frames gets runs of small ones merged, so that a receiver is not slowed down by a
//! sender without offloads; a medium that does not gets large ones cut, so that a sender is not held back by the
//! receiver. Cutting goes in steps of about a batch, or of one frame, so it never holds more buffers than a few
//! batches, whatever comes: what is made of one frame is bounded.

use vmlan_drivers::{Fault, Queue};
use vmlan_frame::offload::{finish_checksum, segment};
use vmlan_frame::{
    Batch, Coalescer, Context, Counters, DropReason, Frame, Offload, Pool, SegmentError, Takes,
};

/// A worker's means to change the form of frames.
#[derive(Default)]
pub(crate) struct Translator {
    coalescer: Coalescer,
    /// The frames that the medium gets next; empty between calls.
    ready: Batch,
}

impl Translator {
    /// Begins anew after a panic; answers how many frames were about to be sent.
    #[cold]
    pub(crate) fn reset(&mut self) -> usize {
        std::mem::take(self).ready.len()
    }

    /// Sends `batch` through `queue` in a form that its medium takes, and leaves it empty.
    ///
    /// # Errors
    /// The queue's first; every frame has been counted nevertheless.
    pub(crate) fn transmit(
        &mut self,
        cx: &Context<'_>,
        counters: &Counters,
        queue: &mut dyn Queue,
        batch: &mut Batch,
    ) -> Result<(), Fault> {
        let takes = queue.takes();
        if !takes.is_none() && batch.len() > 1 {
            counters.coalesced(cx.worker, self.coalescer.coalesce(batch, cx.pool, takes) as u64);
        }
        if batch.iter().all(|frame| takes.takes(frame.meta.offload)) {
            return queue.transmit(cx, batch);
        }
        let mut result = Ok(());
        for frame in batch.drain() {
            match self.prepare(frame, takes, cx.pool) {
                Ok(made) => counters.segmented(cx.worker, made as u64 - 1),
                Err(reason) => counters.dropped(cx.worker, reason, 1),
            }
            if self.ready.len() >= Batch::LIMIT {
                result = result.and(queue.transmit(cx, &mut self.ready));
            }
        }
        result.and(queue.transmit(cx, &mut self.ready))
    }

    /// Puts what becomes of `frame` among what is ready; answers how many frames that is, at least one.
    fn prepare(&mut self, mut frame: Frame, takes: Takes, pool: &Pool) -> Result<usize, DropReason> {
        let offload = frame.meta.offload;
        if takes.takes(offload) {
            self.ready.push(frame);
            return Ok(1);
        }
        if offload.is_segmentation() {
            return match segment(&frame, pool, &mut self.ready) {
                Ok(count) => Ok(count),
                Err(SegmentError::NoBuffer) => Err(DropReason::NoSendBuffer),
                // A filter changed the frame and not what it asks for.
                Err(SegmentError::NotValid(_)) => Err(DropReason::OutputError),
            };
        }
        finish_checksum(frame.make_mut(pool).ok_or(DropReason::NoSendBuffer)?, &offload);
        frame.meta.offload = Offload::NONE;
        self.ready.push(frame);
        Ok(1)
    }
}
