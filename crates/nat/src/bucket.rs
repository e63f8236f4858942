//! A bound on how often something is done.

use std::time::Duration;

use vmlan_frame::Instant;

/// A token bucket: so many at once, and so many a second after that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    /// The time at which the bucket is full again; each token moves it on.
    full: Instant,
    each: Duration,
    burst: Duration,
}

impl Bucket {
    /// A full bucket.
    pub fn new(per_second: u32, burst: u32) -> Bucket {
        let each = Duration::from_secs(1) / per_second.max(1);
        Bucket { full: Instant::ZERO, each, burst: each * burst }
    }

    /// Takes a token; false when there is none.
    #[inline]
    pub fn take(&mut self, now: Instant) -> bool {
        let full = self.full.max(now) + self.each;
        let is_there = full.since(now) <= self.burst;
        if is_there {
            self.full = full;
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut bucket = Bucket::new(10, 5);
        let mut taken = |millis: u64| {
            let now = Instant::from_nanos(millis * 1_000_000);
            (0..100).filter(|_| bucket.take(now)).count()
        };
        assert_eq!([0, 50, 100, 1000, 60_000].map(&mut taken), [5, 0, 1, 5, 5]);
    }
}
