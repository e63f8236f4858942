//! Everything around the flows: guests, sockets, pools and time.

use std::collections::VecDeque;
use std::time::Duration;

use vmlan_frame::{Frame, Instant, Pool, PoolSizes};

use super::fake::Fake;
use super::peer::{Peer, read};
use crate::drop::Drop;
use crate::guests::{Guests, Limits, Usage};
use crate::keyed::Keyed;
use crate::packet::Packet;
use crate::rate::Rates;
use crate::reach::{Plan, Reach};
use crate::tcp::{FlowId, Settings, Tcp, Turn};
use crate::testing::{GATEWAY_MAC, SUBNET4, SUBNET6};

pub(super) const GUEST: &str = "10.213.5.16:40000";
pub(super) const SERVER: &str = "203.0.113.7:80";

pub(super) struct World {
    pub(super) tcp: Tcp,
    pub(super) sockets: Fake,
    pub(super) reach: Reach,
    pub(super) guests: Guests,
    pub(super) rates: Rates,
    pub(super) now: Instant,
    /// The worker's buffers, and the uplink's own.
    pub(super) pool: Pool,
    pub(super) own: Pool,
    pub(super) out: VecDeque<Frame>,
    pub(super) peers: Vec<Peer>,
    /// Frames for guests that have no connection.
    pub(super) strays: Vec<Frame>,
    /// Calls of `poll` for time alone.
    pub(super) wakes: usize,
}

/// Octets of the uplink's memory.
pub(super) const MEMORY: usize = 128 << 20;

impl World {
    pub(super) fn new() -> World {
        World::with(1500, Limits::default(), PoolSizes { small: 8192, large: 512, bulk: 0 })
    }

    pub(super) fn with(mtu: usize, limits: Limits, sizes: PoolSizes) -> World {
        let (key, now) = (Keyed([7, 9]), Instant::from_secs(1_000));
        let plan = Plan { subnet4: Some(SUBNET4), subnet6: Some(SUBNET6), ..Plan::default() };
        let own = Pool::new(sizes);
        let settings = Settings { mac: GATEWAY_MAC, mtu, key, memory: MEMORY };
        World {
            tcp: Tcp::new(settings, own.clone(), now),
            sockets: Fake::default(),
            reach: Reach::new(plan, key.0),
            guests: Guests::new(Some(SUBNET4), Some(SUBNET6), limits),
            rates: Rates::default(),
            now,
            pool: Pool::new(PoolSizes { small: 16_384, large: 512, bulk: 0 }),
            own,
            out: VecDeque::new(),
            peers: Vec::new(),
            strays: Vec::new(),
            wakes: 0,
        }
    }

    pub(super) fn turn(&mut self) -> (&mut Tcp, Turn<'_, Fake>) {
        let World { tcp, sockets, reach, guests, rates, now, pool, out, .. } = self;
        (tcp, Turn { sockets, reach, guests, rates, now: *now, pool, out })
    }

    pub(super) fn take(&mut self, frame: &Frame) -> Result<(), Drop> {
        let packet = Packet::parse(frame)?;
        let (tcp, mut turn) = self.turn();
        tcp.take(&mut turn, &packet, frame)
    }

    /// Takes frames as one batch.
    pub(super) fn batch(&mut self, frames: &[Frame]) {
        for frame in frames {
            self.take(frame).expect("taken");
        }
        let (tcp, mut turn) = self.turn();
        tcp.flush(&mut turn);
    }

    pub(super) fn poll(&mut self) {
        let (tcp, mut turn) = self.turn();
        tcp.poll(&mut turn, 64);
        self.check();
    }

    /// Tells readiness, and makes the frames for guests that there are now.
    pub(super) fn step(&mut self) -> Vec<Frame> {
        while let Some((flow, ready)) = self.sockets.events.pop_front() {
            let (tcp, mut turn) = self.turn();
            tcp.ready(&mut turn, flow, ready);
        }
        let mut frames = Vec::new();
        loop {
            self.poll();
            frames.extend(self.out.drain(..));
            if !self.tcp.has_output() && self.tcp.deadline().is_none_or(|at| at > self.now) {
                return frames;
            }
        }
    }

    /// As [`World::step`], and what was seen of each frame.
    pub(super) fn seen(&mut self) -> Vec<super::peer::Seen> {
        self.step().iter().map(|frame| read(frame).0).collect()
    }

    /// Hands a frame to the guest's connection that it is for.
    pub(super) fn deliver(&mut self, frame: Frame) {
        let to = Packet::parse(&frame).ok().filter(|packet| packet.protocol.0 == 6).map(|_| read(&frame));
        let peer = to.and_then(|(_, guest, other, _)| {
            self.peers.iter_mut().rev().find(|peer| (peer.guest, peer.other) == (guest, other))
        });
        match peer {
            Some(peer) => peer.handle(&frame),
            None => self.strays.push(frame),
        }
    }

    /// Lets everything go its way until nothing moves without time.
    pub(super) fn run(&mut self) {
        for _ in 0..200_000 {
            let frames = self.step();
            let is_quiet = frames.is_empty();
            frames.into_iter().for_each(|frame| self.deliver(frame));
            let answers: Vec<Frame> = self.peers.iter_mut().flat_map(|peer| peer.outbox.drain(..)).collect();
            if is_quiet && answers.is_empty() && self.sockets.events.is_empty() {
                return;
            }
            for batch in answers.chunks(64) {
                for frame in batch {
                    let _ = self.take(frame);
                }
                let (tcp, mut turn) = self.turn();
                tcp.flush(&mut turn);
            }
        }
        panic!("this does not come to an end");
    }

    /// Lets time go by, from deadline to deadline.
    pub(super) fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        self.run();
        while let Some(at) = self.tcp.deadline().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.wakes += 1;
            self.run();
        }
        self.now = end;
        self.run();
    }

    /// A connection that is established; its number, and its socket.
    pub(super) fn open(&mut self, peer: Peer) -> (usize, FlowId) {
        let syn = peer.syn();
        self.peers.push(peer);
        self.take(&syn).expect("a SYN");
        self.run();
        let flow = self.sockets.last();
        self.sockets.is_connected(flow);
        self.run();
        let number = self.peers.len() - 1;
        assert!(self.peers[number].is_open);
        (number, flow)
    }

    pub(super) fn peer(&self) -> Peer {
        Peer::new(GUEST, SERVER, &self.pool)
    }

    /// Limits that hold at any time.
    pub(super) fn check(&mut self) {
        let limits = self.guests.limits;
        for ingress in 0..8 {
            let guest = self.guests.of(ingress);
            assert!(guest.memory <= limits.memory && guest.flows <= limits.flows);
        }
        assert!(self.tcp.memory <= MEMORY);
    }

    /// Nothing is left of any flow, after all of them are over.
    pub(super) fn assert_nothing_is_left(&mut self) {
        self.peers.iter_mut().for_each(|peer| peer.outbox.clear());
        self.strays.clear();
        self.advance(Duration::from_secs(3));
        self.strays.clear();
        assert_eq!((self.tcp.len(), self.own.out(), self.pool.out(), self.tcp.memory), (0, 0, 0, 0));
        assert!(self.sockets.open.is_empty() && self.tcp.turns.is_empty());
        for ingress in 0..8 {
            assert_eq!(self.guests.usage(ingress), Usage::default(), "{ingress}");
        }
        assert!(self.tcp.reads.is_empty() && self.tcp.writes.is_empty());
        assert_eq!(self.tcp.deadline(), None);
        assert!(!self.tcp.has_work() && self.tcp.queued.is_empty() && self.tcp.touched.is_empty());
    }
}

/// Octets that differ from place to place.
pub(super) fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}
