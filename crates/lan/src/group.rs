//! Ports of one user: however many there are, they flood and learn together as much as one user may.
//!
//! Theory of operation. Ports of a group may be received from by several workers, so the budgets are shared by these:
//! each is one atomic word, looked at once a batch and written once a batch in which something was used. Two workers
//! that look at the same time may both use what is there; the word then says that the budget is overdrawn, and nothing
//! is left until time has made up for it.
//!
//! One port's floods must not take everything from its group, whose guests may not trust each other: see
//! `forward::budget` for what a port leaves to the others.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use vmlan_frame::Instant;

use crate::port::Rate;

/// The budgets and the address quota that the ports of one user share. Each of the ports gets it by
/// [`PortConfig::group`](crate::PortConfig::group).
///
/// The ports have to be of one network.
pub struct Group {
    /// Flooded frames.
    pub(crate) storm: Bucket,
    /// Copies of them.
    pub(crate) copies: Bucket,
    pub(crate) addresses: Addresses,
}

impl Group {
    /// A group without ports that may hold so many learnt addresses.
    pub fn new(addresses: usize) -> Group {
        let addresses = Addresses {
            quota: AtomicUsize::new(addresses),
            learnt: AtomicUsize::new(0),
            told: AtomicBool::new(false),
        };
        Group { storm: Bucket::default(), copies: Bucket::default(), addresses }
    }

    /// Says how many addresses may be learnt behind the ports together. Those that are known already stay.
    pub fn set_addresses(&self, quota: usize) {
        self.addresses.quota.store(quota, Relaxed);
    }

    /// How many addresses were learnt behind the ports.
    pub fn learnt(&self) -> usize {
        self.addresses.learnt()
    }
}

/// How many addresses a group holds. Changed under the lock of its network's FDB.
pub(crate) struct Addresses {
    quota: AtomicUsize,
    learnt: AtomicUsize,
    told: AtomicBool,
}

impl Addresses {
    pub(crate) fn learnt(&self) -> usize {
        self.learnt.load(Relaxed)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.learnt() < self.quota.load(Relaxed)
    }

    /// True if the lack of room was not reported yet; notes it as reported.
    pub(crate) fn may_tell(&self) -> bool {
        !self.told.swap(true, Relaxed)
    }

    pub(crate) fn add(&self) {
        self.learnt.fetch_add(1, Relaxed);
    }

    pub(crate) fn subtract(&self) {
        self.learnt.fetch_sub(1, Relaxed);
        if self.has_room() {
            self.told.store(false, Relaxed);
        }
    }
}

/// A token bucket as one word: when it will be full, in ticks. It starts full.
#[derive(Default)]
pub(crate) struct Bucket(AtomicU64);

/// In a nanosecond, so that a token of the highest rate is several.
const TICKS: u64 = 16;
const TICKS_PER_SECOND: u64 = TICKS * 1_000_000_000;

impl Bucket {
    /// How many whole tokens it holds; [`u64::MAX`] without a limit.
    pub(crate) fn holds(&self, rate: Option<Rate>, now: Instant) -> u64 {
        let Some(rate) = rate else { return u64::MAX };
        let to_fill = Bucket::ticks(rate.burst, rate);
        let missing = self.0.load(Relaxed).saturating_sub(ticks(now));
        let held = to_fill.saturating_sub(missing);
        // A product that does not fit is more than any burst.
        let tokens = held.checked_mul(rate.per_second).map_or(u64::MAX, |product| product / TICKS_PER_SECOND);
        tokens.min(rate.burst)
    }

    /// Takes tokens out, those too that another thread took meanwhile.
    pub(crate) fn take(&self, tokens: u64, rate: Option<Rate>, now: Instant) {
        let Some(rate) = rate.filter(|_| tokens > 0) else { return };
        let (now, cost) = (ticks(now), Bucket::ticks(tokens, rate));
        let take = |full: u64| Some(full.max(now).saturating_add(cost));
        let _ = self.0.fetch_update(Relaxed, Relaxed, take);
    }

    /// How long it takes until so many tokens are made.
    fn ticks(tokens: u64, rate: Rate) -> u64 {
        let ticks = u128::from(tokens) * u128::from(TICKS_PER_SECOND) / u128::from(rate.per_second.max(1));
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

fn ticks(now: Instant) -> u64 {
    // 36 years.
    now.as_nanos().saturating_mul(TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Option<Rate> = Some(Rate { per_second: 10, burst: 3 });

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_bucket_starts_full_and_fills_at_its_rate() {
        let bucket = Bucket::default();
        for (now, expected) in [(0, 3), (0, 0), (100, 1), (149, 0), (200, 1), (10_000, 3)] {
            assert_eq!(bucket.holds(RATE, at(now)), expected, "at {now} ms");
            bucket.take(expected, RATE, at(now));
        }
    }

    #[test]
    fn what_two_threads_took_at_once_is_made_up_for() {
        let bucket = Bucket::default();
        bucket.take(3, RATE, at(1000));
        bucket.take(3, RATE, at(1000));
        for (now, expected) in [(1000, 0), (1300, 0), (1399, 0), (1400, 1), (1600, 3)] {
            assert_eq!(bucket.holds(RATE, at(now)), expected, "at {now} ms");
        }
    }

    #[test]
    fn the_highest_rates_are_met() {
        for per_second in [1, 7, 999_999_937, 1_000_000_000] {
            let rate = Some(Rate { per_second, burst: per_second });
            let bucket = Bucket::default();
            assert_eq!(bucket.holds(rate, at(0)), per_second);
            bucket.take(per_second, rate, at(0));
            let made = bucket.holds(rate, at(500));
            assert!(made.abs_diff(per_second / 2) <= 1, "{made} of {per_second}");
        }
    }

    #[test]
    fn no_limit_is_never_reached() {
        let bucket = Bucket::default();
        bucket.take(u64::MAX, None, at(0));
        assert_eq!(bucket.holds(None, at(0)), u64::MAX);
        assert_eq!(bucket.holds(RATE, at(0)), 3);
    }
}
