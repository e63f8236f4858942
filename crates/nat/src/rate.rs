//! The rate of an uplink, each way.
//!
//! Theory of operation. Each way has an allowance of octets, which grows with time up to a burst. A datagram that is
//! larger than the allowance is dropped. Of TCP nothing is dropped: a flow waits until there is a part of the burst,
//! and takes no more than there is. Datagrams that use up all as it grows would keep TCP waiting for ever, so that gets
//! a part in any case when twice the time of the last one is over; until that is grown back the allowance is below
//! nothing.

use std::time::Duration;

use vmlan_frame::Instant;

/// The allowances of an uplink.
#[derive(Debug, Default)]
pub struct Rates {
    /// For octets from guests.
    pub(crate) out: Allowance,
    /// For octets to guests.
    pub(crate) inward: Allowance,
}

impl Rates {
    /// Full allowances of so many octets a second each; any number when 0.
    pub fn new(rate: u64) -> Rates {
        Rates { out: Allowance::new(rate), inward: Allowance::new(rate) }
    }

    /// Sets another rate. The same one changes nothing.
    pub(crate) fn set(&mut self, rate: u64) {
        if rate != self.out.rate {
            *self = Rates::new(rate);
        }
    }
}

/// Octets that may pass in one direction.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    /// Octets a second; any number when 0.
    rate: u64,
    /// The most that there is at once, in billionths of an octet, as all levels.
    burst: i64,
    level: i64,
    /// The time of `level`.
    at: Instant,
    /// TCP gets a part from here on, whatever the level is.
    due: Instant,
}

/// Billionths of an octet, and nanoseconds of a second.
const BILLION: i64 = 1_000_000_000;

/// The least burst, in octets.
const LEAST: u64 = 64 << 10;

/// The time that a burst grows in.
const BURST: u64 = 10;

/// Octets of one turn of a flow.
const TURN: i64 = 64 << 10;

/// Parts of a burst, one of which is worth a turn.
const PARTS: i64 = 8;

impl Allowance {
    fn new(rate: u64) -> Allowance {
        let burst = (rate / 1000 * BURST).max(LEAST);
        let burst = i64::try_from(burst).unwrap_or(i64::MAX).saturating_mul(BILLION);
        Allowance { rate, burst, level: burst, at: Instant::ZERO, due: Instant::ZERO }
    }

    /// True unless any number may pass.
    #[inline]
    pub(crate) fn is_limited(&self) -> bool {
        self.rate > 0
    }

    /// Octets that a flow of TCP may have now; 0 when it has to wait.
    #[inline]
    pub(crate) fn turn(&mut self, now: Instant) -> usize {
        if self.rate == 0 {
            return usize::MAX;
        }
        self.grow(now);
        if self.level >= self.part() {
            (self.level / BILLION).min(TURN) as usize
        } else if now >= self.due {
            (self.part() / BILLION) as usize
        } else {
            0
        }
    }

    /// Takes octets that a flow of TCP has had.
    #[inline]
    pub(crate) fn take(&mut self, octets: usize, now: Instant) {
        if self.rate == 0 || octets == 0 {
            return;
        }
        self.grow(now);
        let octets = octets as i64 * BILLION;
        self.level -= octets;
        self.due = now + self.time_for(octets) * 2;
    }

    /// Takes the octets of a datagram; false when they are not there.
    #[inline]
    pub(crate) fn admit(&mut self, octets: usize, now: Instant) -> bool {
        if self.rate == 0 {
            return true;
        }
        self.grow(now);
        let octets = octets as i64 * BILLION;
        let is_there = octets <= self.level;
        if is_there {
            self.level -= octets;
        }
        is_there
    }

    /// The time from which a flow of TCP may have something, unless datagrams take it before.
    pub(crate) fn ready(&self) -> Instant {
        if self.rate == 0 {
            return Instant::ZERO;
        }
        let lacks = (self.part() - self.level).max(0);
        (self.at + self.time_for(lacks)).min(self.due)
    }

    /// The least that is worth a turn.
    fn part(&self) -> i64 {
        (self.burst / PARTS).min(TURN * BILLION)
    }

    fn grow(&mut self, now: Instant) {
        let elapsed = u64::try_from(now.since(self.at).as_nanos()).unwrap_or(u64::MAX);
        let grown = i64::try_from(elapsed.saturating_mul(self.rate)).unwrap_or(i64::MAX);
        self.level = self.level.saturating_add(grown).min(self.burst);
        self.at = self.at.max(now);
    }

    fn time_for(&self, octets: i64) -> Duration {
        Duration::from_nanos((octets as u64).div_ceil(self.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 50 Mbit/s.
    const RATE: u64 = 6_250_000;

    fn at(micros: u64) -> Instant {
        Instant::from_secs(5) + Duration::from_micros(micros)
    }

    #[test]
    fn without_a_rate_everything_passes() {
        let mut any = Allowance::new(0);
        any.take(1 << 40, at(0));
        assert!(any.admit(1 << 40, at(0)) && any.turn(at(0)) == usize::MAX && any.ready() <= at(0));
    }

    #[test]
    fn a_burst_is_ten_milliseconds_or_64_kib() {
        for (rate, burst) in [(RATE, 65_536), (125_000_000, 1_250_000), (125_000_000_000, 1_250_000_000)] {
            let mut allowance = Allowance::new(rate);
            assert!(!allowance.admit(burst + 1, at(0)) && allowance.admit(burst, at(0)), "{rate}");
            assert!(!allowance.admit(1, at(0)));
            assert!(allowance.admit(rate as usize / 1000, at(1_000)));
            // However long it was idle.
            let later = at(3_600_000_000);
            assert!(!allowance.admit(burst + 1, later) && allowance.admit(burst, later), "{rate}");
        }
    }

    #[test]
    fn flows_wait_for_a_part_and_get_the_rate() {
        let mut allowance = Allowance::new(RATE);
        let (mut now, mut taken, mut turns) = (at(0), 0, 0);
        while now < at(1_000_000) {
            let octets = allowance.turn(now);
            assert!(octets >= 8 << 10, "{octets} at {now:?}");
            allowance.take(octets, now);
            (taken, turns) = (taken + octets, turns + 1);
            now = now.max(allowance.ready());
        }
        let most = RATE as usize + (64 << 10);
        assert!((most - (16 << 10)..=most).contains(&taken), "{taken}");
        assert!(turns < 800, "{turns}");
    }

    #[test]
    fn datagrams_and_flows_share_a_rate() {
        let mut allowance = Allowance::new(RATE);
        let (mut by_flow, mut by_datagrams) = (0, 0);
        for micros in (0..1_000_000).step_by(10) {
            by_datagrams += if allowance.admit(1_400, at(micros)) { 1_400 } else { 0 };
            let octets = allowance.turn(at(micros));
            allowance.take(octets, at(micros));
            by_flow += octets;
        }
        assert!(by_flow > RATE as usize * 4 / 10, "{by_flow}");
        assert!(by_datagrams > RATE as usize * 4 / 10, "{by_datagrams}");
        assert!(by_flow + by_datagrams <= RATE as usize + (80 << 10));
    }
}
