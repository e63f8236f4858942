//! What a port may send: token buckets, one set for each worker that receives from the port.
//!
//! Theory of operation. A bucket holds at most its burst and fills at its rate. Time is looked at once a batch: what the
//! bucket holds then is what the batch may use, and what it used is taken out at its end. So the cost for a frame is one
//! comparison, and for a port without limits not more.

use frame::Instant;

use crate::PortId;
use crate::port::{Limits, Rate};

/// The buckets of every port, by slot.
#[derive(Default)]
pub(super) struct Budgets {
    ports: Vec<Buckets>,
}

struct Buckets {
    port: PortId,
    storm: Bucket,
    rate: Bucket,
    filled: Instant,
}

/// In billionths of a token, so that a rate times nanoseconds needs no division; some 18 thousand million tokens fit.
#[derive(Clone, Copy)]
struct Bucket(u64);

const TOKEN: u64 = 1_000_000_000;

/// What a port may still send in a batch.
pub(super) struct Allowance {
    /// Frames to more than one other port.
    storm: u64,
    /// Octets; [`u64::MAX`] without a limit.
    octets: u64,
    had: [u64; 2],
}

impl Allowance {
    /// For whoever sends nothing.
    pub(super) const NONE: Allowance = Allowance { storm: 0, octets: 0, had: [0; 2] };

    /// Takes a frame that goes to more than one port; false when none is left.
    #[inline]
    pub(super) fn flood(&mut self) -> bool {
        let granted = self.storm > 0;
        self.storm -= u64::from(granted);
        granted
    }

    /// Takes the octets of a frame; false when too few are left.
    #[inline]
    pub(super) fn octets(&mut self, octets: usize) -> bool {
        if self.octets == u64::MAX {
            return true;
        }
        match self.octets.checked_sub(octets as u64) {
            Some(left) => {
                self.octets = left;
                true
            }
            None => false,
        }
    }
}

impl Budgets {
    /// What `port` may send in a batch that starts at `now`.
    #[inline]
    pub(super) fn start(&mut self, port: PortId, limits: &Limits, now: Instant) -> Allowance {
        let known = self.ports.get(port.slot()).is_some_and(|buckets| buckets.port == port);
        if !known {
            self.claim(port, limits, now);
        }
        let buckets = &mut self.ports[port.slot()];
        let nanos = now.as_nanos().saturating_sub(buckets.filled.as_nanos());
        buckets.filled = buckets.filled.max(now);
        let storm = buckets.storm.fill(limits.storm, nanos);
        let octets = buckets.rate.fill(limits.rate, nanos);
        Allowance { storm, octets, had: [storm, octets] }
    }

    /// Takes out what the batch used.
    #[inline]
    pub(super) fn finish(&mut self, port: PortId, allowance: &Allowance) {
        let [storm, octets] = allowance.had;
        let buckets = &mut self.ports[port.slot()];
        buckets.storm.take(storm - allowance.storm);
        buckets.rate.take(octets - allowance.octets);
    }

    #[cold]
    fn claim(&mut self, port: PortId, limits: &Limits, now: Instant) {
        let full =
            |rate: Option<Rate>| Bucket(rate.map_or(u64::MAX, |rate| rate.burst.saturating_mul(TOKEN)));
        let buckets =
            |port| Buckets { port, storm: full(limits.storm), rate: full(limits.rate), filled: now };
        while self.ports.len() <= port.slot() {
            self.ports.push(buckets(port));
        }
        self.ports[port.slot()] = buckets(port);
    }
}

impl Bucket {
    /// Fills the bucket for so long, and returns how many whole tokens it holds.
    #[inline]
    fn fill(&mut self, rate: Option<Rate>, nanos: u64) -> u64 {
        let Some(rate) = rate else {
            // Full for whatever limit comes next.
            self.0 = u64::MAX;
            return u64::MAX;
        };
        let more = rate.per_second.saturating_mul(nanos);
        self.0 = self.0.saturating_add(more).min(rate.burst.saturating_mul(TOKEN));
        self.0 / TOKEN
    }

    #[inline]
    fn take(&mut self, tokens: u64) {
        self.0 = self.0.saturating_sub(tokens.saturating_mul(TOKEN));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: PortId = PortId::new(2, 0);
    const LIMITS: Limits = Limits {
        storm: Some(Rate { per_second: 10, burst: 3 }),
        rate: Some(Rate { per_second: 1000, burst: 2000 }),
    };

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    /// How many floods are granted in a batch.
    fn floods(budgets: &mut Budgets, limits: &Limits, now: Instant) -> usize {
        let mut allowance = budgets.start(PORT, limits, now);
        let granted = (0..100).filter(|_| allowance.flood()).count();
        budgets.finish(PORT, &allowance);
        granted
    }

    #[test]
    fn a_bucket_starts_full_and_fills_at_its_rate() {
        let mut budgets = Budgets::default();
        let granted = [0, 0, 100, 149, 199, 200, 10_000].map(|now| floods(&mut budgets, &LIMITS, at(now)));
        assert_eq!(granted, [3, 0, 1, 0, 0, 1, 3]);
    }

    #[test]
    fn time_does_not_run_backwards() {
        let mut budgets = Budgets::default();
        assert_eq!([1000, 900, 1000, 1100].map(|now| floods(&mut budgets, &LIMITS, at(now))), [3, 0, 0, 1]);
    }

    #[test]
    fn octets() {
        let mut budgets = Budgets::default();
        let mut allowance = budgets.start(PORT, &LIMITS, at(0));
        assert!(allowance.octets(1500) && !allowance.octets(501) && allowance.octets(500));
        budgets.finish(PORT, &allowance);
        let mut allowance = budgets.start(PORT, &LIMITS, at(60));
        assert!(allowance.octets(60) && !allowance.octets(1));
    }

    #[test]
    fn without_limits_everything_is_granted() {
        let mut budgets = Budgets::default();
        let mut allowance = budgets.start(PORT, &Limits::NONE, at(0));
        assert!((0..1000).all(|_| allowance.flood() && allowance.octets(1 << 20)));
        budgets.finish(PORT, &allowance);
    }

    #[test]
    fn the_next_user_of_a_slot_starts_anew() {
        let mut budgets = Budgets::default();
        assert_eq!(floods(&mut budgets, &LIMITS, at(0)), 3);
        let next = budgets.start(PORT.successor(), &LIMITS, at(0));
        assert_eq!(next.storm, 3);
    }
}
