//! The account of a port: where its frames are lost.
//!
//! Theory of operation. A frame that is lost is counted for a reason, and shown to whoever watches the port, as a
//! capture of drops does. Both are one call: [`Account::lose`], or [`Losses::lose`] where many of a batch are counted
//! together at its end. A witness may look at any time, so it is asked at each loss, which costs one load where none
//! looks.
//!
//! Octets that never became a frame, or have become something else, cannot be shown: they are counted by
//! [`Counters::dropped_unseen`] and [`Counters::received_and_dropped`].

use std::sync::Arc;

use crate::{Backlog, Batch, Context, Counters, DropReason, Entry, Frame};

/// A watcher of lost frames: the taps of a link.
pub trait Witness {
    /// True if lost frames are looked at. A handle to a frame that may be lost is worth its keeping then.
    fn is_present(&self) -> bool;

    /// Shows a frame that is lost.
    fn lost(&self, cx: &Context<'_>, frame: &Frame, reason: DropReason);
}

/// The account of one port, or of one link: its counters, and the way to its witness.
#[derive(Clone)]
pub struct Account {
    counters: Arc<Counters>,
    witness: Option<Arc<dyn Witness + Send + Sync>>,
}

impl From<Arc<Counters>> for Account {
    /// An account that has no witness.
    fn from(counters: Arc<Counters>) -> Account {
        Account { counters, witness: None }
    }
}

impl Account {
    /// An account whose losses `witness` sees.
    pub fn with_witness(counters: Arc<Counters>, witness: Arc<dyn Witness + Send + Sync>) -> Account {
        Account { counters, witness: Some(witness) }
    }

    /// The counters.
    #[inline]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Counts a frame as dropped, and shows it to the witness.
    #[cold]
    pub fn lose(&self, cx: &Context<'_>, frame: &Frame, reason: DropReason) {
        self.counters.dropped_unseen(cx.worker, reason, 1);
        if frame.meta.tells_refusal && reason == DropReason::QueueFull {
            cx.pool.refuse(frame);
        }
        self.lost(cx, frame, reason);
    }

    /// Loses every frame of `batch` in that way, and leaves it empty.
    pub fn lose_all(&self, cx: &Context<'_>, batch: &mut Batch, reason: DropReason) {
        self.counters.dropped_unseen(cx.worker, reason, batch.len() as u64);
        if self.is_present() {
            batch.iter().for_each(|frame| self.lost(cx, frame, reason));
        }
        batch.clear();
    }

    /// Loses a frame of which the octets are left. It is copied to be shown; without a free buffer it is only counted.
    #[cold]
    pub fn lose_entry(&self, cx: &Context<'_>, entry: Entry<'_>, reason: DropReason) {
        self.counters.dropped_unseen(cx.worker, reason, 1);
        if self.is_present() {
            self.show_entry(cx, entry, reason);
        }
    }

    /// Loses in that way every frame that waits in `backlog`, and leaves it empty.
    pub fn lose_waiting(&self, cx: &Context<'_>, backlog: &mut Backlog, reason: DropReason) {
        self.counters.dropped_unseen(cx.worker, reason, backlog.len() as u64);
        if self.is_present() {
            backlog.iter().for_each(|entry| self.show_entry(cx, entry, reason));
        }
        backlog.clear();
    }

    fn show_entry(&self, cx: &Context<'_>, entry: Entry<'_>, reason: DropReason) {
        if let Some(mut frame) = cx.pool.copy(entry.octets) {
            frame.meta = entry.meta;
            self.lost(cx, &frame, reason);
        }
    }
}

impl Witness for Account {
    #[inline]
    fn is_present(&self) -> bool {
        self.witness.as_ref().is_some_and(|witness| witness.is_present())
    }

    fn lost(&self, cx: &Context<'_>, frame: &Frame, reason: DropReason) {
        if let Some(witness) = &self.witness {
            witness.lost(cx, frame, reason);
        }
    }
}

/// The losses of one account in a batch, counted together when they are settled. Empty between batches.
///
/// It has room for a few reasons, more than a batch has as a rule; a loss for another reason is counted at once.
#[derive(Default, Debug)]
pub struct Losses {
    counts: [Option<(DropReason, u32)>; Losses::REASONS],
}

impl Losses {
    const REASONS: usize = 3;

    /// Shows a frame to `witness`, and notes it to be counted in `counters`.
    ///
    /// A frame may be `None` where no witness was present when it went its way, and no handle to it was kept.
    #[inline]
    pub fn lose<'f>(
        &mut self,
        cx: &Context<'_>,
        (counters, witness): (&Counters, &impl Witness),
        frame: impl Into<Option<&'f Frame>>,
        reason: DropReason,
    ) {
        self.add(cx, counters, reason, 1);
        let Some(frame) = frame.into() else { return };
        if frame.meta.tells_refusal && reason == DropReason::QueueFull {
            cx.pool.refuse(frame);
        }
        if witness.is_present() {
            witness.lost(cx, frame, reason);
        }
    }

    /// Notes `count` frames that are not there to be shown.
    #[inline]
    pub fn add(&mut self, cx: &Context<'_>, counters: &Counters, reason: DropReason, count: u32) {
        for entry in &mut self.counts {
            match entry {
                Some((known, sum)) if *known == reason => return *sum += count,
                Some(_) => {}
                None => return *entry = Some((reason, count)),
            }
        }
        counters.dropped_unseen(cx.worker, reason, count.into());
    }

    /// Counts what was noted.
    #[inline]
    pub fn settle(&mut self, cx: &Context<'_>, counters: &Counters) {
        for entry in &mut self.counts {
            let Some((reason, count)) = entry.take() else { return };
            counters.dropped_unseen(cx.worker, reason, count.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::*;
    use crate::{Instant, Pool, PoolSizes};

    #[derive(Default)]
    struct Watcher {
        looks: AtomicBool,
        seen: Mutex<Vec<(usize, DropReason)>>,
    }

    impl Witness for Watcher {
        fn is_present(&self) -> bool {
            self.looks.load(Relaxed)
        }

        fn lost(&self, _: &Context<'_>, frame: &Frame, reason: DropReason) {
            if self.is_present() {
                self.seen.lock().unwrap().push((frame.len(), reason));
            }
        }
    }

    fn watched() -> (Account, Arc<Watcher>) {
        let watcher = Arc::<Watcher>::default();
        (Account::with_witness(Arc::new(Counters::new(1)), Arc::clone(&watcher) as _), watcher)
    }

    #[test]
    fn what_is_lost_is_counted_always_and_shown_while_a_witness_looks() {
        let pool = Pool::new(PoolSizes::default());
        let cx = Context { worker: 0, now: Instant::ZERO, pool: &pool };
        let (account, watcher) = watched();
        let frame = pool.copy(&[0; 60]).unwrap();
        account.lose(&cx, &frame, DropReason::NoPeer);
        watcher.looks.store(true, Relaxed);
        account.lose(&cx, &frame, DropReason::TooLong);
        let mut batch: Batch = [60, 70].map(|len| pool.copy(&vec![0; len]).unwrap()).into_iter().collect();
        account.lose_all(&cx, &mut batch, DropReason::NoPeer);

        let mut backlog = Backlog::new(4, 1000);
        assert!(backlog.push(&frame));
        account.lose_waiting(&cx, &mut backlog, DropReason::NoPeer);

        assert!(batch.is_empty() && backlog.is_empty());
        let seen = [(60, DropReason::TooLong), (60, DropReason::NoPeer), (70, DropReason::NoPeer)];
        assert_eq!(watcher.seen.lock().unwrap()[..3], seen);
        assert_eq!(watcher.seen.lock().unwrap()[3..], [(60, DropReason::NoPeer)]);
        let sum = account.counters().snapshot();
        assert_eq!((sum.dropped(DropReason::NoPeer), sum.dropped(DropReason::TooLong)), (4, 1));
    }

    #[test]
    fn losses_of_a_batch_are_counted_together_whatever_their_reasons() {
        let pool = Pool::new(PoolSizes::default());
        let cx = Context { worker: 0, now: Instant::ZERO, pool: &pool };
        let (account, watcher) = watched();
        watcher.looks.store(true, Relaxed);
        let frame = pool.copy(&[0; 60]).unwrap();
        let mut losses = Losses::default();
        let reasons = DropReason::ALL;
        reasons.iter().chain(reasons).for_each(|reason| {
            losses.lose(&cx, (account.counters(), &account), &frame, *reason);
        });
        losses.lose(&cx, (account.counters(), &account), None, reasons[0]);
        losses.add(&cx, account.counters(), reasons[1], 5);
        assert_eq!(account.counters().snapshot().dropped(reasons[0]), 0);

        losses.settle(&cx, account.counters());
        losses.settle(&cx, account.counters());
        let sum = account.counters().snapshot();
        let counts: Vec<_> = reasons.iter().map(|reason| sum.dropped(*reason)).collect();
        assert_eq!((counts[0], counts[1]), (3, 7));
        assert!(counts[2..].iter().all(|count| *count == 2), "{counts:?}");
        assert_eq!(watcher.seen.lock().unwrap().len(), 2 * reasons.len());
    }
}
