//! How long and how often: the times of the standards, their random part, and the pace of requests.

use core::time::Duration;

use vmlan_frame::Instant;

/// Between requests for one neighbour (RFC 4861 section 10, RETRANS_TIMER; RFC 1122 2.3.2.1 for ARP).
pub(super) const RETRANSMIT: Duration = Duration::from_secs(1);
/// How often a neighbour is asked for before it counts as absent (RFC 4861 section 10, MAX_MULTICAST_SOLICIT).
pub(super) const MULTICAST_REQUESTS: u8 = 3;
/// How often a known neighbour is asked before it is forgotten (RFC 4861 section 10, MAX_UNICAST_SOLICIT).
pub(super) const UNICAST_REQUESTS: u8 = 3;
/// How long a neighbour is held to be there after it was heard of, half to one and a half times (RFC 4861 section 10,
/// REACHABLE_TIME).
pub(super) const REACHABLE: Duration = Duration::from_secs(30);
/// How long a neighbour that is used again may show by itself that it is there (RFC 4861 section 10,
/// DELAY_FIRST_PROBE_TIME).
pub(super) const DELAY: Duration = Duration::from_secs(5);
/// How long an address that nobody uses is remembered.
pub(super) const STALE: Duration = Duration::from_secs(600);
/// How long nobody asks again for a neighbour that did not answer.
pub(super) const FAILED: Duration = Duration::from_secs(3);

/// The longest wait before the first probe for an own address (RFC 5227 section 1.1, PROBE_WAIT; RFC 4861 section 10,
/// MAX_RTR_SOLICITATION_DELAY).
pub(super) const PROBE_WAIT: Duration = Duration::from_secs(1);
/// Probes for an own IPv4 address, one to two seconds apart (RFC 5227 section 1.1, PROBE_NUM, PROBE_MIN, PROBE_MAX).
pub(super) const ARP_PROBES: u8 = 3;
/// Probes for an own IPv6 address (RFC 4862 section 5.1, DupAddrDetectTransmits).
pub(super) const ND_PROBES: u8 = 1;
/// From the last probe for an IPv4 address until it is used (RFC 5227 section 1.1, ANNOUNCE_WAIT).
pub(super) const ANNOUNCE_WAIT: Duration = Duration::from_secs(2);
/// Announcements of an own address (RFC 5227 section 1.1, ANNOUNCE_NUM; RFC 4861 7.2.6 allows three).
pub(super) const ANNOUNCEMENTS: u8 = 2;
/// Between announcements (RFC 5227 section 1.1, ANNOUNCE_INTERVAL).
pub(super) const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// Between defences of an own address (RFC 5227 section 1.1, DEFEND_INTERVAL).
pub(super) const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// A steady rate, and after a quiet second one second's worth at once (the generic cell rate algorithm of
/// ITU-T I.371).
pub(super) struct Pace {
    /// Nanoseconds.
    interval: u64,
    tolerance: u64,
    /// When the next one is due at the steady rate.
    due: u64,
}

impl Pace {
    pub(super) fn new(per_second: u32) -> Pace {
        const SECOND: u64 = 1_000_000_000;
        let interval = SECOND / u64::from(per_second.max(1));
        Pace { interval, tolerance: SECOND - interval, due: 0 }
    }

    /// From when on the next one may go.
    pub(super) fn ready_at(&self) -> Instant {
        Instant::from_nanos(self.due.saturating_sub(self.tolerance))
    }

    /// One goes.
    pub(super) fn take(&mut self, now: Instant) {
        self.due = self.due.max(now.as_nanos()).saturating_add(self.interval);
    }
}

/// Random parts of times. They keep hosts that start together from asking together, and need no secrecy.
pub(super) struct Jitter {
    state: u64,
}

impl Jitter {
    pub(super) fn new(seed: u64) -> Jitter {
        Jitter { state: seed }
    }

    /// A time below `limit`, with SplitMix64 (Steele, Lea and Flood, 2014).
    pub(super) fn below(&mut self, limit: Duration) -> Duration {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        Duration::from_nanos(mixed % u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX).max(1))
    }

    /// How long a neighbour is held to be there this time.
    pub(super) fn reachable(&mut self) -> Duration {
        REACHABLE / 2 + self.below(REACHABLE)
    }
}
