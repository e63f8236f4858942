use vmlan_frame::Batch;

/// Where a link's frames go in the end: a driver's queue, a test, a closure adapter.
pub trait Transmit {
    /// Takes every frame out of `batch`, whatever becomes of them, and counts them in the link's counters as sent
    /// ([`Tally::add`](vmlan_frame::Tally::add) counts the traffic class too) or dropped.
    fn transmit(&mut self, batch: &mut Batch);
}
