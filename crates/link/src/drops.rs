use vmlan_frame::{Counters, DropReason, PerReason};

/// The drops of one batch, counted in the link's counters together.
#[derive(Default)]
pub(crate) struct Drops {
    any: bool,
    counts: PerReason<u32>,
}

impl Drops {
    #[inline]
    pub(crate) fn add(&mut self, reason: DropReason, count: usize) {
        self.any = true;
        self.counts[reason] += count as u32;
    }

    pub(crate) fn count(&self, counters: &Counters, worker: usize) {
        if self.any {
            for (reason, count) in DropReason::ALL.iter().zip(self.counts.iter()) {
                counters.dropped(worker, *reason, u64::from(*count));
            }
        }
    }
}
