//! The limits on frames from a port: token buckets, one set for each worker that receives from the port, and the
//! buckets of its group.
//!
//! Theory of operation. A bucket holds at most its burst and fills at its rate. Time is looked at once a batch: what
//! the bucket holds then is what the batch may use, and what it used is taken out at its end. So the cost for a frame
//! is one comparison, and for a port without limits not more.
//!
//! A flood is charged twice: as the frames that each receiver gets, one unless the frame is cut into segments, and as
//! the copies that are made for all receivers. It passes when both are left; how many copies there were is known, and
//! taken, afterwards.
//!
//! The ports of a group share the buckets in their [`Group`](crate::Group). A port with a group has a small bucket of
//! its own, which fills with its fair part. While that lasts, the port may empty the group's buckets; beyond it, it
//! leaves them half full. So a port that floods without end gets what is left over, and one that sends a broadcast now
//! and then is heard.

use vmlan_frame::{Frame, Instant, SecondaryMap};

use crate::PortId;
use crate::port::{Limits, Port, Rate, Share};

/// The buckets of every port.
#[derive(Default)]
pub(super) struct Budgets {
    ports: SecondaryMap<PortId, Buckets>,
}

struct Buckets {
    storm: Bucket,
    copies: Bucket,
    rate: Bucket,
    filled: Instant,
}

/// In billionths of a token, so that a rate times nanoseconds needs no division; some 18 thousand million tokens fit.
#[derive(Clone, Copy)]
struct Bucket(u64);

const TOKEN: u64 = 1_000_000_000;

/// The frames, copies and octets that a port may still send in a batch.
pub(super) struct Allowance {
    left: Left,
    /// The value of `left` when the batch began.
    had: Left,
    /// The tokens that have to stay in the group's buckets when the port has used up its fair part.
    kept: Kept,
    /// How many frames each copy of the present flood is.
    segments: u64,
}

#[derive(Clone, Copy)]
struct Left {
    /// Frames to more than one other port.
    storm: u64,
    /// Copies of them.
    copies: u64,
    /// Octets; [`u64::MAX`] without a limit.
    octets: u64,
    /// Of `storm`, the port's fair part of its group's; 0 without a group.
    fair: u64,
}

#[derive(Clone, Copy, Default)]
struct Kept {
    storm: u64,
    copies: u64,
}

impl Allowance {
    fn new(left: Left) -> Allowance {
        Allowance { left, had: left, kept: Kept { storm: 0, copies: 0 }, segments: 0 }
    }

    /// Takes a frame that goes to more than one port and counts for `segments`; false when too few are left, or fewer
    /// copies than `copies`, as many as there may be.
    #[inline]
    pub(super) fn flood(&mut self, segments: u64, copies: u64) -> bool {
        let kept = if segments <= self.left.fair { Kept::default() } else { self.kept };
        let granted = self.left.storm >= kept.storm.saturating_add(segments)
            && self.left.copies >= kept.copies.saturating_add(copies);
        if granted {
            self.left.storm -= segments;
            self.left.fair = self.left.fair.saturating_sub(segments);
            self.segments = segments;
        }
        granted
    }

    /// Takes the copies that were made of a frame, if it was one for [`Allowance::flood`].
    #[inline]
    pub(super) fn made(&mut self, copies: u64) {
        let made = copies * core::mem::take(&mut self.segments);
        self.left.copies = self.left.copies.saturating_sub(made);
    }

    /// Takes the octets of a frame, and of the headers of all its segments; false when too few are left.
    #[inline]
    pub(super) fn octets(&mut self, frame: &Frame) -> bool {
        if self.left.octets == u64::MAX {
            return true;
        }
        match self.left.octets.checked_sub(frame.segments_len() as u64) {
            Some(left) => {
                self.left.octets = left;
                true
            }
            None => false,
        }
    }
}

impl Budgets {
    /// Returns the allowance of `from` for a batch that starts at `now`.
    #[inline]
    pub(super) fn start(&mut self, from: &Port, now: Instant) -> Allowance {
        let limits = &from.limits;
        let buckets = self.ports.get_or_insert_with(from.id, |_| Buckets::full(limits, now));
        let nanos = now.as_nanos().saturating_sub(buckets.filled.as_nanos());
        buckets.filled = buckets.filled.max(now);
        let storm = buckets.storm.fill(limits.storm, nanos);
        let copies = buckets.copies.fill(limits.copies, nanos);
        let octets = buckets.rate.fill(limits.rate, nanos);
        let own = Left { storm, copies, octets, fair: 0 };
        match &from.shared {
            None => Allowance::new(own),
            Some(share) => of_group(share, own, now),
        }
    }

    /// Takes out what the batch used that started at `now`.
    #[inline]
    pub(super) fn finish(&mut self, from: &Port, allowance: &Allowance, now: Instant) {
        let Allowance { left, had, .. } = allowance;
        let Some(buckets) = self.ports.get_mut(from.id) else { return };
        buckets.rate.take(had.octets - left.octets);
        let (storm, copies) = (had.storm - left.storm, had.copies - left.copies);
        match &from.shared {
            None => {
                buckets.storm.take(storm);
                buckets.copies.take(copies);
            }
            Some(Share { group, limits }) => {
                buckets.storm.take(had.fair - left.fair);
                group.storm.take(storm, limits.storm, now);
                group.copies.take(copies, limits.copies, now);
            }
        }
    }
}

impl Buckets {
    fn full(limits: &Limits, now: Instant) -> Buckets {
        let full =
            |rate: Option<Rate>| Bucket(rate.map_or(u64::MAX, |rate| rate.burst.saturating_mul(TOKEN)));
        let (storm, copies, rate) = (full(limits.storm), full(limits.copies), full(limits.rate));
        Buckets { storm, copies, rate, filled: now }
    }
}

/// Returns the allowance of a port with a group: the group's tokens for floods, the port's own for the rest.
fn of_group(share: &Share, own: Left, now: Instant) -> Allowance {
    let Share { group, limits } = share;
    let (storm, copies) = (group.storm.holds(limits.storm, now), group.copies.holds(limits.copies, now));
    let half = |rate: Option<Rate>| rate.map_or(0, |rate| rate.burst / 2);
    let kept = Kept { storm: half(limits.storm), copies: half(limits.copies) };
    Allowance { kept, ..Allowance::new(Left { storm, copies, octets: own.octets, fair: own.storm }) }
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
    use std::sync::Arc;

    use super::*;
    use crate::{Group, Roles, VlanRole};
    use vmlan_frame::{Counters, Offload, Pool, PoolSizes, SlotKey};

    const LIMITS: Limits = Limits {
        storm: Some(Rate { per_second: 10, burst: 3 }),
        copies: Some(Rate { per_second: 100, burst: 20 }),
        rate: Some(Rate { per_second: 1000, burst: 2000 }),
    };

    fn port(id: PortId, limits: Limits, shared: Option<Share>) -> Port {
        Port {
            id,
            active: true,
            enabled: true,
            macs: [].into(),
            guard: false,
            vlan: VlanRole::Unset.membership(false),
            promiscuous: false,
            sees_trunk: false,
            isolated: false,
            roles: Roles::default(),
            floating: [].into(),
            stages: crate::guard::Stages::NONE,
            limits,
            shared,
            account: Arc::new(Counters::new(1)).into(),
        }
    }

    fn alone(limits: Limits) -> Port {
        port(PortId::new(2, 0), limits, None)
    }

    /// A port of `group`, which has `limits` together.
    fn member(slot: u16, group: &Arc<Group>, limits: Limits) -> Port {
        let share = Share { group: group.clone(), limits };
        let own = Limits { storm: limits.fair_part(), copies: None, rate: limits.rate };
        port(PortId::new(slot, 0), own, Some(share))
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    /// How many floods to `copies` ports are granted in a batch of 10,000.
    fn floods(budgets: &mut Budgets, from: &Port, copies: u64, now: Instant) -> usize {
        let mut allowance = budgets.start(from, now);
        let granted = (0..10_000).filter(|_| {
            let granted = allowance.flood(1, copies);
            allowance.made(copies);
            granted
        });
        let granted = granted.count();
        budgets.finish(from, &allowance, now);
        granted
    }

    fn takes_octets(allowance: &mut Allowance, len: usize, offload: Offload) -> bool {
        let pool = Pool::new(PoolSizes { small: 1, large: 0, bulk: 0 });
        let mut frame = pool.copy(&vec![0; len]).unwrap();
        frame.meta.offload = offload;
        allowance.octets(&frame)
    }

    #[test]
    fn a_bucket_starts_full_and_fills_at_its_rate() {
        let mut budgets = Budgets::default();
        let granted =
            [0, 0, 100, 149, 199, 200, 10_000].map(|now| floods(&mut budgets, &alone(LIMITS), 2, at(now)));
        assert_eq!(granted, [3, 0, 1, 0, 0, 1, 3]);
    }

    #[test]
    fn time_does_not_run_backwards() {
        let mut budgets = Budgets::default();
        let granted = [1000, 900, 1000, 1100].map(|now| floods(&mut budgets, &alone(LIMITS), 2, at(now)));
        assert_eq!(granted, [3, 0, 0, 1]);
    }

    #[test]
    fn copies_are_limited_too() {
        let mut budgets = Budgets::default();
        let port = alone(Limits { storm: None, ..LIMITS });
        let granted = [0, 0, 49, 50, 149, 150, 1000].map(|now| floods(&mut budgets, &port, 10, at(now)));
        assert_eq!(granted, [2, 0, 0, 0, 1, 0, 2]);
    }

    #[test]
    fn what_was_made_is_charged_not_what_there_could_have_been() {
        let mut budgets = Budgets::default();
        let port = alone(Limits { storm: None, ..LIMITS });
        let mut allowance = budgets.start(&port, at(0));
        assert!(allowance.flood(1, 20));
        allowance.made(4);
        // Copies of what is no flood cost nothing.
        allowance.made(1);
        assert!(!allowance.flood(1, 17) && allowance.flood(2, 16));
        allowance.made(8);
        assert!(!allowance.flood(1, 1));
        budgets.finish(&port, &allowance, at(0));
        assert_eq!(budgets.start(&port, at(50)).left.copies, 5);
    }

    #[test]
    fn a_frame_counts_for_as_many_as_it_is_cut_into() {
        let mut budgets = Budgets::default();
        let mut allowance = budgets.start(&alone(LIMITS), at(0));
        assert!(!allowance.flood(4, 8) && allowance.flood(3, 6) && !allowance.flood(1, 2));
    }

    #[test]
    fn octets_count_with_the_headers_of_every_segment() {
        let mut budgets = Budgets::default();
        let port = alone(LIMITS);
        let mut allowance = budgets.start(&port, at(0));
        assert!(takes_octets(&mut allowance, 1000, Offload::NONE));
        // Three headers of 54 octets, and 793 of payload.
        let segments = Offload { gso_type: Offload::TCPV4, header_len: 54, gso_size: 300, ..Offload::NONE };
        assert!(!takes_octets(&mut allowance, 54 + 839, segments));
        assert!(takes_octets(&mut allowance, 54 + 838, segments));
        assert!(!takes_octets(&mut allowance, 1, Offload::NONE));
        budgets.finish(&port, &allowance, at(0));
        let mut allowance = budgets.start(&port, at(60));
        assert!(
            takes_octets(&mut allowance, 60, Offload::NONE)
                && !takes_octets(&mut allowance, 1, Offload::NONE)
        );
    }

    #[test]
    fn without_limits_everything_is_granted() {
        let mut budgets = Budgets::default();
        let port = alone(Limits::NONE);
        let mut allowance = budgets.start(&port, at(0));
        assert!(
            (0..1000)
                .all(|_| allowance.flood(128, 1 << 20) && takes_octets(&mut allowance, 1000, Offload::NONE))
        );
        allowance.made(u64::from(u32::MAX));
        budgets.finish(&port, &allowance, at(0));
    }

    #[test]
    fn the_next_user_of_a_slot_starts_anew() {
        let mut budgets = Budgets::default();
        assert_eq!(floods(&mut budgets, &alone(LIMITS), 2, at(0)), 3);
        let next = port(PortId::new(2, 0).successor(), LIMITS, None);
        assert_eq!(floods(&mut budgets, &next, 2, at(0)), 3);
    }

    #[test]
    fn the_ports_of_a_group_flood_together_what_one_may() {
        let group = Arc::new(Group::new(10));
        let limits = Limits { storm: Some(Rate { per_second: 1600, burst: 1600 }), ..Limits::NONE };
        // Two workers.
        let (mut first, mut second) = (Budgets::default(), Budgets::default());
        let ports = Vec::from_iter((0..64).map(|slot| member(slot, &group, limits)));
        let mut all = |now| {
            let granted = ports
                .iter()
                .enumerate()
                .map(|(n, port)| floods(if n % 2 == 0 { &mut first } else { &mut second }, port, 2, at(now)));
            granted.sum::<usize>()
        };
        // Each port has its fair part at least.
        assert_eq!(all(0), 1600);
        assert_eq!(all(0), 0);
        assert_eq!(all(500), 800);
    }

    #[test]
    fn a_port_that_floods_without_end_leaves_something_to_the_others_of_its_group() {
        let group = Arc::new(Group::new(10));
        let limits = Limits {
            storm: Some(Rate { per_second: 1600, burst: 1600 }),
            copies: Some(Rate { per_second: 16_000, burst: 16_000 }),
            rate: None,
        };
        let mut budgets = Budgets::default();
        let (noisy, quiet) = (member(0, &group, limits), member(1, &group, limits));
        let mut heard = 0;
        for now in 0..10_000 {
            floods(&mut budgets, &noisy, 10, at(now));
            let mut allowance = budgets.start(&quiet, at(now));
            if now % 100 == 0 {
                heard += usize::from(allowance.flood(1, 10));
                allowance.made(10);
            }
            budgets.finish(&quiet, &allowance, at(now));
        }
        assert_eq!(heard, 100);
        // Nothing of what there is to use is lost either.
        let left = group.storm.holds(limits.storm, at(10_000));
        assert!((790..=810).contains(&left), "{left}");
    }
}
