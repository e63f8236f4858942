//! One flow: the sequence numbers of the guest, mapped onto a socket of the host.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use vmlan_frame::{Instant, MacAddr};

use super::sequence::{ahead, before};

/// A flow's name: both ends, IPv4 addresses as IPv6 addresses that stand for them (RFC 4291 section 2.5.5.2), which no
/// guest has and none reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) guest: Ipv6Addr,
    pub(super) other: Ipv6Addr,
    pub(super) guest_port: u16,
    pub(super) other_port: u16,
}

impl Key {
    pub(super) fn new(guest: SocketAddr, other: SocketAddr) -> Key {
        let wide = |address: IpAddr| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        Key {
            guest: wide(guest.ip()),
            other: wide(other.ip()),
            guest_port: guest.port(),
            other_port: other.port(),
        }
    }

    pub(super) fn guest(&self) -> SocketAddr {
        SocketAddr::new(self.guest.to_canonical(), self.guest_port)
    }

    pub(super) fn other(&self) -> SocketAddr {
        SocketAddr::new(self.other.to_canonical(), self.other_port)
    }
}

/// The state of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No flow.
    Free,
    /// The guest asked for it; it waits for its turn to connect.
    Queued,
    /// The host's socket connects.
    Connecting,
    /// Connected; the guest has been told and has not answered.
    Accepting,
    /// From outside; the guest has been asked and has not answered.
    Calling,
    /// Data flows, in one direction at least.
    Open,
    /// Both directions have ended and the socket is closed; late segments are answered for a moment.
    Gone,
}

/// Facts about a flow, as bits.
pub(super) mod flag {
    /// It waits for its turn.
    pub(in super::super) const LISTED: u32 = 1;
    /// The guest has to be told something.
    pub(in super::super) const ACK: u32 = 1 << 1;
    /// The socket may have something to read.
    pub(in super::super) const READABLE: u32 = 1 << 2;
    /// The guest's FIN came behind all that was accepted.
    pub(in super::super) const GUEST_FIN: u32 = 1 << 3;
    /// The socket's sending half is shut down, and the FIN counted.
    pub(in super::super) const GUEST_DONE: u32 = 1 << 4;
    /// The socket has no more to read.
    pub(in super::super) const HOST_END: u32 = 1 << 5;
    /// FIN was sent to the guest: the last number below `max`.
    pub(in super::super) const FIN_SENT: u32 = 1 << 6;
    /// A round trip is being measured.
    pub(in super::super) const TIMING: u32 = 1 << 7;
    /// The next segment goes however small it is.
    pub(in super::super) const FORCE: u32 = 1 << 8;
    /// The guest does window scaling.
    pub(in super::super) const SCALES: u32 = 1 << 9;
    /// Counted among the guest's flows that are not established.
    pub(in super::super) const HALF_OPEN: u32 = 1 << 10;
    /// A caller from outside began it.
    pub(in super::super) const CAME_IN: u32 = 1 << 11;
    /// Something was lost, and its repetition is not acknowledged yet.
    pub(in super::super) const RECOVERS: u32 = 1 << 12;
    /// Octets in the window could not be kept: the guest is told that there is none, until there is room.
    pub(in super::super) const SHUT: u32 = 1 << 13;
    /// The socket takes no more; what it still has to read goes to the guest before the reset.
    pub(in super::super) const BROKEN: u32 = 1 << 14;
    /// It waits until others of its guest are acknowledged.
    pub(in super::super) const STARVED: u32 = 1 << 15;
    /// The last read brought little, though a large frame was on its way.
    pub(in super::super) const SHORT: u32 = 1 << 16;
    /// It is among the flows that wait for a moment.
    pub(in super::super) const PAUSED: u32 = 1 << 17;
    /// It waits for the uplink's rate before it reads from the socket.
    pub(in super::super) const HELD_READ: u32 = 1 << 18;
    /// It waited for that, and is the next to read.
    pub(in super::super) const NEXT: u32 = 1 << 19;
    /// It waits for the uplink's rate before it writes to the socket.
    pub(in super::super) const HELD_WRITE: u32 = 1 << 20;
}

/// The purpose of a flow's timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Nothing,
    /// The guest repeats its SYN no more.
    Connect,
    /// SYN or SYN/ACK once more.
    Handshake,
    /// Repeat what is not acknowledged.
    Repeat,
    /// Ask for the window.
    Probe,
    /// Send however little.
    Silly,
    /// Ask whether the guest is there.
    KeepAlive,
    /// Forget.
    Forget,
}

/// A queue of nodes by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) head: u32,
    pub(super) tail: u32,
}

pub(super) const NONE: u32 = u32::MAX;

impl Chain {
    pub(super) const EMPTY: Chain = Chain { head: NONE, tail: NONE };

    pub(super) fn is_empty(self) -> bool {
        self.head == NONE
    }
}

pub(super) struct Flow {
    pub(super) key: Key,
    pub(super) generation: u32,
    pub(super) flags: u32,
    pub(super) ingress: u16,
    pub(super) state: State,
    pub(super) wait: Wait,
    pub(super) mac: MacAddr,
    /// Octets of payload of a segment to the guest.
    pub(super) mss: u16,
    /// Shift of the windows that the guest tells, and of those that it is told.
    pub(super) snd_scale: u8,
    pub(super) rcv_scale: u8,
    /// Repetitions without an answer, and questions without one whether the guest is there.
    pub(super) tries: u8,
    pub(super) questions: u8,
    pub(super) duplicates: u8,
    /// Acknowledgements that are due for segments beyond a gap, one for each (RFC 5681 section 4.2).
    pub(super) gaps: u8,
    /// Refused frames since the last acknowledgement.
    pub(super) refusals: u8,

    /// From the guest: the first number, the next one, and the edge that it was told.
    pub(super) irs: u32,
    pub(super) rcv_nxt: u32,
    pub(super) rcv_adv: u32,
    /// Octets that it may send beyond what is written.
    pub(super) window: u32,
    /// Octets taken since the window grew.
    pub(super) taken: u32,
    /// Octets that the socket did not take yet, and since when that is so.
    pub(super) kept: Chain,
    pub(super) kept_octets: u32,
    pub(super) kept_since: Instant,
    /// Segments of this batch: first and last of the gathered segments.
    pub(super) gathered: Chain,
    /// Segments beyond a gap, in the order of their numbers and apart.
    pub(super) beyond: Chain,
    /// Octets of payload of the largest frame so far.
    pub(super) largest: u16,

    /// To the guest: the first number, the first unacknowledged, the next, and the highest sent.
    pub(super) iss: u32,
    pub(super) una: u32,
    pub(super) nxt: u32,
    pub(super) max: u32,
    /// The guest's window, the largest so far, and the segment that told it (RFC 9293 section 3.10.7.4).
    pub(super) snd_wnd: u32,
    pub(super) max_wnd: u32,
    pub(super) wl1: u32,
    pub(super) wl2: u32,
    /// Octets that were sent and may have to be sent again, from `una` on.
    pub(super) sent: Chain,
    /// Up to here a loss has been dealt with.
    pub(super) recover: u32,
    /// Smoothed round trip and its deviation, in microseconds; 0 without a sample.
    pub(super) srtt: u32,
    pub(super) rttvar: u32,
    /// The number that is timed, and when it was sent.
    pub(super) timed: u32,
    pub(super) timed_at: Instant,

    pub(super) started: Instant,
    pub(super) heard: Instant,
    pub(super) octets_out: u64,
    pub(super) octets_in: u64,
}

/// The smallest and the largest window that a guest is told, and by how many bits it is shifted.
pub(super) const WINDOW: u32 = 64 << 10;
pub(super) const MOST_WINDOW: u32 = 4 << 20;
pub(super) const SCALE: u8 = 7;

impl Flow {
    pub(super) fn new(key: Key, generation: u32, now: Instant) -> Flow {
        Flow {
            key,
            generation,
            flags: 0,
            ingress: 0,
            state: State::Free,
            wait: Wait::Nothing,
            mac: MacAddr::ZERO,
            mss: 536,
            snd_scale: 0,
            rcv_scale: 0,
            tries: 0,
            questions: 0,
            duplicates: 0,
            gaps: 0,
            refusals: 0,
            irs: 0,
            rcv_nxt: 0,
            rcv_adv: 0,
            window: WINDOW,
            taken: 0,
            kept: Chain::EMPTY,
            kept_octets: 0,
            kept_since: now,
            gathered: Chain::EMPTY,
            beyond: Chain::EMPTY,
            largest: 0,
            iss: 0,
            una: 0,
            nxt: 0,
            max: 0,
            snd_wnd: 0,
            max_wnd: 0,
            wl1: 0,
            wl2: 0,
            sent: Chain::EMPTY,
            recover: 0,
            srtt: 0,
            rttvar: 0,
            timed: 0,
            timed_at: now,
            started: now,
            heard: now,
            octets_out: 0,
            octets_in: 0,
        }
    }

    #[inline]
    pub(super) fn has(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }

    pub(super) fn set(&mut self, flags: u32) {
        self.flags |= flags;
    }

    pub(super) fn clear(&mut self, flags: u32) {
        self.flags &= !flags;
    }

    /// Octets that were sent to the guest and are not acknowledged.
    pub(super) fn in_flight(&self) -> u32 {
        ahead(self.una, self.max) as u32
    }

    /// Those of them that may be on their way: not what is held to be lost and is to be sent again.
    pub(super) fn pipe(&self) -> u32 {
        ahead(self.una, self.nxt).max(0) as u32
    }

    /// Octets that the guest's window has room for, from the next one on.
    pub(super) fn room(&self) -> u32 {
        ahead(self.nxt, self.una.wrapping_add(self.snd_wnd)).max(0) as u32
    }

    /// True if both directions have ended, and both ends know.
    pub(super) fn is_over(&self) -> bool {
        self.has(flag::FIN_SENT) && self.una == self.max && self.has(flag::GUEST_DONE)
    }

    /// True if something waits that the guest's window has no room for.
    pub(super) fn is_blocked(&self) -> bool {
        self.repeats()
            || self.has(flag::HOST_END) && !self.has(flag::FIN_SENT)
            || self.has(flag::READABLE) && !self.has(flag::LISTED | flag::HOST_END | flag::HELD_READ)
    }

    /// True if something is to be sent again.
    pub(super) fn repeats(&self) -> bool {
        self.nxt != self.max
    }

    /// The time after which something is sent again (RFC 6298), with more patience after each try.
    pub(super) fn repeat_after(&self) -> Duration {
        const LEAST: u64 = 200_000;
        const MOST: u64 = 60_000_000;
        let base = match self.srtt {
            0 => 1_000_000,
            srtt => (u64::from(srtt) + 4 * u64::from(self.rttvar)).max(LEAST),
        };
        Duration::from_micros((base << self.tries.min(16)).min(MOST))
    }

    /// Takes a round trip into account (RFC 6298 section 2).
    pub(super) fn sample(&mut self, round: Duration) {
        let round = u32::try_from(round.as_micros()).unwrap_or(u32::MAX).clamp(1, 60_000_000);
        if self.srtt == 0 {
            (self.srtt, self.rttvar) = (round, round / 2);
        } else {
            let off = self.srtt.abs_diff(round);
            self.rttvar = (3 * u64::from(self.rttvar) / 4 + u64::from(off) / 4) as u32;
            self.srtt = (7 * u64::from(self.srtt) / 8 + u64::from(round) / 8) as u32;
        }
    }

    /// Moves the edge that the guest is told, never back, and returns the window field for it. `left` octets more may
    /// be kept for the guest.
    pub(super) fn advertise(&mut self, left: usize) -> u16 {
        if self.has(flag::SHUT) {
            return 0;
        }
        let edge = self.edge(left);
        let window = u32::try_from(ahead(self.rcv_nxt, edge)).unwrap_or(0);
        // A small step is no step (RFC 9293 section 3.8.6.2.2).
        if ahead(self.rcv_adv, edge) >= u32::from(self.mss).min(self.window / 4) as i32
            || (window > 0 && before(self.rcv_adv, self.rcv_nxt))
        {
            self.rcv_adv = edge;
        }
        let told = u32::try_from(ahead(self.rcv_nxt, self.rcv_adv)).unwrap_or(0) >> self.rcv_scale;
        told.min(0xffff) as u16
    }

    /// The largest window: no more frames than the queue of a guest's interface holds, which loses what comes beyond.
    pub(super) fn most_window(&self) -> u32 {
        /// Frames of a TAP's queue on Linux, at least (`txqueuelen`, the ring of tun).
        const FRAMES: u32 = 500;
        (FRAMES * u32::from(self.largest)).clamp(WINDOW, MOST_WINDOW)
    }

    /// The edge that the guest could be told.
    pub(super) fn edge(&self, left: usize) -> u32 {
        let most = if self.rcv_scale == 0 { 0xffff } else { self.most_window() };
        let mut open = self.window.min(most).min(u32::try_from(left / 8).unwrap_or(u32::MAX));
        if self.kept_octets == 0 {
            open = open.max(2 * u32::from(self.mss)).min(most);
        }
        self.rcv_nxt.wrapping_add(open.saturating_sub(self.kept_octets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_small() {
        assert!(size_of::<Flow>() <= 256, "{}", size_of::<Flow>());
    }

    #[test]
    fn addresses_come_back_from_a_key() {
        for (guest, other) in [("10.0.0.1:5", "192.0.2.1:80"), ("[fd00::1]:5", "[2001:db8::1]:80")] {
            let (guest, other) = (guest.parse().unwrap(), other.parse().unwrap());
            let key = Key::new(guest, other);
            assert_eq!((key.guest(), key.other()), (guest, other));
        }
    }

    #[test]
    fn patience_doubles_up_to_a_minute() {
        let mut flow =
            Flow::new(Key::new(([0, 0, 0, 0], 0).into(), ([0, 0, 0, 0], 0).into()), 0, Instant::ZERO);
        assert_eq!(flow.repeat_after(), Duration::from_secs(1));
        flow.sample(Duration::from_micros(100));
        assert_eq!(flow.repeat_after(), Duration::from_millis(200));
        flow.tries = 3;
        assert_eq!(flow.repeat_after(), Duration::from_millis(1600));
        flow.tries = 200;
        assert_eq!(flow.repeat_after(), Duration::from_secs(60));
    }
}
