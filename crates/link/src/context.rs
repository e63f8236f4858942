use frame::{Batch, Instant, Pool};

/// What the caller of [`Link::input`](crate::Link::input) and [`Link::output`](crate::Link::output) brings along.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The number of the worker, which is also its shard of the counters.
    pub worker: usize,
    /// The time.
    pub now: Instant,
    /// The worker's buffers.
    pub pool: &'a Pool,
}

/// Where a link's frames go in the end: a driver's queue, a test, a closure adapter.
pub trait Transmit {
    /// Takes every frame out of `batch`, whatever becomes of them, and counts them in the link's counters as sent
    /// ([`Tally::add`](crate::Tally::add) counts the traffic class too) or dropped.
    fn transmit(&mut self, batch: &mut Batch);
}
