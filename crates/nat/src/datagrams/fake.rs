//! Sockets that remember, and a guest with an uplink around them.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use vmlan_frame::{Frame, Instant, MacAddr, Pool, PoolSizes};

use super::*;
use crate::Rates;
use crate::reach::Plan;
use crate::testing::{GATEWAY_MAC, GUEST_MAC, INGRESS, SUBNET4, SUBNET6};

/// A datagram that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub slot: u32,
    pub to: SocketAddr,
    pub payload: Vec<u8>,
    pub control: Control,
}

#[derive(Debug)]
pub(super) struct FakeSocket {
    pub kind: SocketKind,
    pub family: Family,
    pub came: VecDeque<(SocketAddr, Vec<u8>, Option<u16>)>,
    pub errors: VecDeque<(QueuedError, Vec<u8>)>,
    /// The errors of the next calls of send.
    pub fails: VecDeque<SendError>,
}

#[derive(Debug, Default)]
pub(super) struct FakeSockets {
    pub open: BTreeMap<u32, FakeSocket>,
    pub opened: usize,
    pub sent: Vec<Sent>,
    pub refuses: Option<OpenError>,
    pub limit: Option<usize>,
}

impl FakeSockets {
    pub fn put(&mut self, slot: u32, kind: SocketKind, family: Family) {
        let socket = FakeSocket {
            kind,
            family,
            came: VecDeque::new(),
            errors: VecDeque::new(),
            fails: VecDeque::new(),
        };
        assert!(self.open.insert(slot, socket).is_none(), "slot {slot} is free");
        self.opened += 1;
    }
}

impl DatagramSockets for FakeSockets {
    fn open(&mut self, slot: u32, kind: SocketKind, family: Family) -> Result<(), OpenError> {
        if let Some(refused) = self.refuses {
            return Err(refused);
        }
        if self.limit.is_some_and(|limit| self.open.len() >= limit) {
            return Err(OpenError::Limit);
        }
        self.put(slot, kind, family);
        Ok(())
    }

    fn send(&mut self, slot: u32, to: SocketAddr, payload: &[u8], control: Control) -> Result<(), SendError> {
        let socket = self.open.get_mut(&slot).expect("an open socket");
        assert_eq!(socket.family, Family::of(to.ip()));
        assert_eq!(socket.kind == SocketKind::Echo, to.port() == 0);
        if let Some(failed) = socket.fails.pop_front() {
            return Err(failed);
        }
        self.sent.push(Sent { slot, to, payload: payload.to_vec(), control });
        Ok(())
    }

    fn receive(&mut self, slot: u32, buffer: &mut [u8]) -> Option<Received> {
        let (from, payload, segment) = self.open.get_mut(&slot)?.came.pop_front()?;
        let len = payload.len().min(buffer.len());
        buffer[..len].copy_from_slice(&payload[..len]);
        Some(Received { len, from, segment, truncated: len < payload.len() })
    }

    fn error(&mut self, slot: u32, buffer: &mut [u8]) -> Option<QueuedError> {
        let (error, payload) = self.open.get_mut(&slot)?.errors.pop_front()?;
        let len = payload.len().min(buffer.len());
        buffer[..len].copy_from_slice(&payload[..len]);
        Some(QueuedError { len, ..error })
    }

    fn close(&mut self, slot: u32) {
        assert!(self.open.remove(&slot).is_some(), "slot {slot} is open");
    }
}

/// An uplink of one network.
pub(super) struct World {
    pub reach: Reach,
    pub rates: Rates,
    pub pool: Pool,
    pub sockets: FakeSockets,
    pub datagrams: Datagrams,
    pub out: VecDeque<Frame>,
    pub now: Instant,
}

pub(super) fn settings() -> Settings {
    Settings {
        gateway_mac: GATEWAY_MAC,
        subnet4: Some(SUBNET4),
        subnet6: Some(SUBNET6),
        mtu: 1500,
        flows: 1 << 16,
        udp_per_guest: 4096,
        echo_per_guest: 64,
        open_filter: false,
        key: [3, 4],
    }
}

pub(super) fn station(address: IpAddr) -> Option<(MacAddr, u16)> {
    let number = match address {
        IpAddr::V4(address) => u64::from(address.octets()[3]),
        IpAddr::V6(address) => address.to_bits() as u64,
    };
    matches!(number, 16 | 0x16).then_some((GUEST_MAC, INGRESS))
}

impl World {
    pub fn new(settings: Settings) -> World {
        let plan = Plan { subnet4: Some(SUBNET4), subnet6: Some(SUBNET6), ..Plan::default() };
        World {
            reach: Reach::new(plan, [1, 2]),
            rates: Rates::default(),
            pool: Pool::new(PoolSizes { small: 1024, large: 8, bulk: 0 }),
            sockets: FakeSockets::default(),
            datagrams: Datagrams::new(settings),
            out: VecDeque::new(),
            now: Instant::from_secs(1000),
        }
    }

    /// Hands in a guest's frame, fragments too; the frames that answer it at once.
    pub fn take(&mut self, frame: &Frame) -> Vec<Frame> {
        self.take_all([frame])
    }

    /// Hands in a batch of frames.
    pub fn take_all<'f>(&mut self, frames: impl IntoIterator<Item = &'f Frame>) -> Vec<Frame> {
        let World { reach, rates, pool, sockets, datagrams, out, now } = self;
        let mut turn = Turn { reach, rates, now: *now, pool, station: &station, out };
        for frame in frames {
            let packet = Packet::parse(frame).expect("a good packet");
            if packet.fragment.is_none() {
                // Counted as well, which tests look at.
                let _ = datagrams.take(sockets, &packet, &mut turn);
            } else if let Some(whole) = datagrams.assemble(&packet, *now) {
                let _ = datagrams.take(sockets, &whole.packet(), &mut turn);
            }
        }
        datagrams.flush(sockets, &mut turn);
        out.drain(..).collect()
    }

    /// A datagram comes for the socket in a slot; the frames for guests.
    pub fn come(&mut self, slot: u32, from: &str, payload: &[u8], segment: Option<u16>) -> Vec<Frame> {
        let from = from.parse().expect("an address and a port");
        let socket = self.sockets.open.get_mut(&slot).expect("an open socket");
        socket.came.push_back((from, payload.to_vec(), segment));
        self.ready(slot)
    }

    pub fn fail(&mut self, slot: u32, error: QueuedError, payload: &[u8]) -> Vec<Frame> {
        let socket = self.sockets.open.get_mut(&slot).expect("an open socket");
        socket.errors.push_back((error, payload.to_vec()));
        self.ready(slot)
    }

    pub fn ready(&mut self, slot: u32) -> Vec<Frame> {
        let World { reach, rates, pool, sockets, datagrams, out, now } = self;
        let mut turn = Turn { reach, rates, now: *now, pool, station: &station, out };
        assert!(!datagrams.ready(sockets, slot, 1000, &mut turn), "all came at once");
        out.drain(..).collect()
    }

    pub fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.datagrams.expire(&mut self.sockets, self.now);
    }

    pub fn dropped(&self, reason: Drop) -> u64 {
        self.datagrams.counts().dropped(reason)
    }

    /// True if every datagram that was taken, and every one that was received, is accounted for.
    pub fn balances(&self) -> bool {
        let counts = self.datagrams.counts();
        let dropped = |reasons: &[Drop]| reasons.iter().map(|reason| counts.dropped(*reason)).sum::<u64>();
        let all = dropped(&Drop::ALL);
        let fragments = dropped(&[Drop::FragmentLimit, Drop::FragmentOverlap, Drop::FragmentTimeout]);
        counts.taken + counts.received == counts.sent + counts.answered + counts.delivered + all - fragments
    }
}
