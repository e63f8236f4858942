use crate::{Instant, Pool};

/// A worker's number, time and buffers, which it brings along wherever it takes a batch.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The number of the worker, which is also its shard of all [`Counters`](crate::Counters).
    pub worker: usize,
    /// The time.
    pub now: Instant,
    /// The worker's buffers.
    pub pool: &'a Pool,
}
