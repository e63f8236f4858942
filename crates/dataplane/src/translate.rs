//! Each port gets a frame in a form that the port's medium takes. The work that a frame still asks for is done where
//! the ways to its ports part.
//!
//! A medium that takes segmentation frames gets runs of small ones merged, so that a receiver is not slowed down by a
//! sender without offloads; a medium that does not gets large ones cut, so that a sender is not held back by the
//! receiver. Cutting goes in steps of about a batch, or of one frame, so it never holds more buffers than a few
//! batches, whatever comes: what is made of one frame is bounded.

use std::mem;

use vmlan_drivers::{Fault, Queue};
use vmlan_frame::offload::{finish_checksum, segment};
use vmlan_frame::{
    Account, Batch, Coalescer, Context, DropReason, Frame, Offload, Pool, SegmentError, Takes,
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
        mem::take(self).ready.len()
    }

    /// Sends `batch` through `queue` in a form that its medium takes, and leaves it empty.
    ///
    /// # Errors
    /// The queue's first; every frame has been counted nevertheless.
    pub(crate) fn transmit(
        &mut self,
        cx: &Context<'_>,
        account: &Account,
        queue: &mut dyn Queue,
        batch: &mut Batch,
    ) -> Result<(), Fault> {
        let (takes, counters) = (queue.takes(), account.counters());
        if !takes.is_none() && !takes.contains(Takes::APART) && batch.len() > 1 {
            counters.coalesced(cx.worker, self.coalescer.coalesce(batch, cx.pool, takes) as u64);
        }
        if batch.iter().all(|frame| takes.takes(frame.meta.offload)) {
            return queue.transmit(cx, batch);
        }
        let mut result = Ok(());
        for mut frame in batch.drain() {
            match self.prepare(&mut frame, takes, cx.pool) {
                Ok(made) => counters.segmented(cx.worker, made as u64 - 1),
                Err(reason) => account.lose(cx, &frame, reason),
            }
            if self.ready.len() >= Batch::LIMIT {
                result = result.and(queue.transmit(cx, &mut self.ready));
            }
        }
        result.and(queue.transmit(cx, &mut self.ready))
    }

    /// Puts what becomes of `frame` among what is ready; answers how many frames that is, at least one. A frame that is
    /// to be dropped stays as it is.
    fn prepare(&mut self, frame: &mut Frame, takes: Takes, pool: &Pool) -> Result<usize, DropReason> {
        let offload = frame.meta.offload;
        if takes.takes(offload) {
            self.ready.push(mem::take(frame));
            return Ok(1);
        }
        if offload.is_segmentation() {
            return match segment(frame, pool, &mut self.ready) {
                Ok(count) => Ok(count),
                Err(SegmentError::NoBuffer) => Err(DropReason::NoSendBuffer),
                // A filter changed the frame and not what it asks for.
                Err(SegmentError::NotValid(_)) => Err(DropReason::OutputError),
            };
        }
        finish_checksum(frame.make_mut(pool).ok_or(DropReason::NoSendBuffer)?, &offload);
        frame.meta.offload = Offload::NONE;
        self.ready.push(mem::take(frame));
        Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::BorrowedFd;
    use std::sync::{Arc, Mutex};

    use vmlan_drivers::{Progress, Status};
    use vmlan_frame::{Counters, Instant, PoolSizes, Witness};

    use super::*;

    /// A medium without offloads, which takes every frame.
    struct Plain(usize);

    impl Queue for Plain {
        fn descriptor(&self, _: usize) -> Option<BorrowedFd<'_>> {
            None
        }

        fn receive(&mut self, _: &Context<'_>, _: &mut Batch) -> Result<Progress, Fault> {
            Ok(Progress::Done)
        }

        fn transmit(&mut self, _: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
            self.0 += batch.drain().len();
            Ok(())
        }

        fn status(&self) -> Status {
            Status::default()
        }
    }

    #[derive(Default)]
    struct Watcher(Mutex<Vec<(Vec<u8>, DropReason)>>);

    impl Witness for Watcher {
        fn is_present(&self) -> bool {
            true
        }

        fn lost(&self, _: &Context<'_>, frame: &Frame, reason: DropReason) {
            self.0.lock().unwrap().push((frame.octets().to_vec(), reason));
        }
    }

    #[test]
    fn a_frame_that_cannot_be_cut_is_lost_as_it_was() {
        let pool = Pool::new(PoolSizes::default());
        let cx = Context { worker: 0, now: Instant::ZERO, pool: &pool };
        let watcher = Arc::<Watcher>::default();
        let account = Account::with_witness(Arc::new(Counters::new(1)), Arc::clone(&watcher) as _);
        // The header that it asks to be repeated is longer than the frame.
        let mut broken = pool.copy(&[7; 60]).unwrap();
        let offload = &mut broken.meta.offload;
        (offload.gso_type, offload.header_len, offload.gso_size) = (Offload::TCPV4, 200, 500);
        let mut batch = Batch::from_iter([broken, pool.copy(&[8; 60]).unwrap()]);
        let mut medium = Plain(0);

        Translator::default().transmit(&cx, &account, &mut medium, &mut batch).unwrap();

        let sum = account.counters().snapshot();
        assert_eq!((medium.0, sum.segmented, sum.dropped(DropReason::OutputError)), (1, 0, 1));
        assert_eq!(*watcher.0.lock().unwrap(), [(vec![7; 60], DropReason::OutputError)]);
    }
}
