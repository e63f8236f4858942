//! Forwards: listeners of the host whose datagrams are a guest's, and their callers.
//!
//! The guest sees a caller's own address, so that its logs and rules work. Where that cannot be, because the address is
//! the host's own, one of the guests', or of another family, the caller has a port of the gateway's.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::drops::Drop;
use super::flow::{Flow, FlowKind};
use super::run::Held;
use super::sockets::{DatagramSockets, Family};
use super::{Datagrams, Turn};
use crate::Packet;
use crate::keyed::Keyed;

/// The first port that the gateway has for callers (RFC 6335 section 6, dynamic ports).
const FIRST_PORT: u16 = 49_152;

/// Ports that are tried for a new caller.
const TRIES: u32 = 32;

/// Callers by both of their sides.
#[derive(Debug)]
pub(super) struct Callers {
    /// By the guest's address and port, and the caller's as the guest sees it.
    inside: HashMap<(SocketAddr, SocketAddr), u32, Keyed>,
    /// By listener and the caller's address and port.
    outside: HashMap<(u32, SocketAddr), u32, Keyed>,
}

impl Callers {
    pub fn new(keyed: Keyed) -> Callers {
        Callers { inside: HashMap::with_hasher(keyed), outside: HashMap::with_hasher(keyed) }
    }

    /// The caller that a guest's datagram answers.
    #[inline]
    pub fn slot(&self, guest: SocketAddr, to: SocketAddr) -> Option<u32> {
        if self.inside.is_empty() { None } else { self.inside.get(&(guest, to)).copied() }
    }

    pub fn of(&self, listener: u32, caller: SocketAddr) -> Option<u32> {
        self.outside.get(&(listener, caller)).copied()
    }

    pub fn remove(&mut self, flow: &Flow) {
        self.inside.remove(&(flow.guest, flow.inside));
        self.outside.remove(&(flow.listener, flow.peer));
    }
}

impl Datagrams {
    /// Adds a forward to a guest's address and port, and gives the slot of its listener, which the driver puts there:
    /// a bound socket of `family`. `None` when all slots are taken.
    pub fn add_forward(
        &mut self,
        guest: SocketAddr,
        family: Family,
        now: vmlan_frame::Instant,
    ) -> Option<u32> {
        self.table.insert(Flow::new(FlowKind::Forward, guest, family, now))
    }

    /// Removes a forward and its callers, and closes its listener.
    pub fn remove_forward(&mut self, sockets: &mut impl DatagramSockets, listener: u32) {
        if self.table.get(listener).is_none_or(|flow| flow.kind != FlowKind::Forward) {
            return;
        }
        self.end_where(sockets, |flow| flow.kind == FlowKind::Caller && flow.listener == listener);
        self.end(sockets, listener);
    }

    /// The flow of a caller, which is made for its first datagram.
    pub(super) fn caller(
        &mut self,
        sockets: &mut impl DatagramSockets,
        listener: u32,
        from: SocketAddr,
        turn: &Turn<'_>,
    ) -> Result<u32, Drop> {
        if let Some(slot) = self.callers.of(listener, from) {
            return Ok(slot);
        }
        let forward = self.table.get(listener).ok_or(Drop::GuestAway)?;
        let (guest, family) = (forward.guest, forward.family);
        let (mac, ingress) = (turn.station)(guest.ip()).ok_or(Drop::GuestAway)?;
        let inside = self.seen_by(guest, from).ok_or(Drop::FlowLimit)?;
        let flow = Flow {
            mac,
            ingress,
            peer: from,
            inside,
            listener,
            ..Flow::new(FlowKind::Caller, guest, family, turn.now)
        };
        let slot = self.begin(sockets, flow, turn.now)?;
        self.callers.inside.insert((guest, inside), slot);
        self.callers.outside.insert((listener, from), slot);
        Ok(slot)
    }

    /// The address and port that a guest sees of a caller; `None` when no port of the gateway is free.
    fn seen_by(&mut self, guest: SocketAddr, caller: SocketAddr) -> Option<SocketAddr> {
        let is_link_local = match caller.ip() {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        let is_hidden = caller.is_ipv4() != guest.is_ipv4()
            || caller.ip().is_loopback()
            || is_link_local
            || self.is_in_subnet(caller.ip());
        let plain = SocketAddr::new(caller.ip(), caller.port());
        // Two listeners may have the same caller for one guest's port.
        if !is_hidden && !self.callers.inside.contains_key(&(guest, plain)) {
            return Some(plain);
        }
        let gateway = self.gateway(Family::of(guest.ip()))?;
        (0..TRIES).find_map(|_| {
            let port = FIRST_PORT | self.random() as u16;
            let seen = SocketAddr::new(gateway, port);
            (!self.callers.inside.contains_key(&(guest, seen))).then_some(seen)
        })
    }

    /// Sends a guest's datagram to a caller, by the listener that it called.
    pub(super) fn answer_caller(
        &mut self,
        sockets: &mut impl DatagramSockets,
        slot: u32,
        packet: &Packet<'_>,
        (payload, segment): (&[u8], Option<u16>),
        turn: &mut Turn<'_>,
    ) -> Result<(), Drop> {
        let flow = self.table.get(slot).ok_or(Drop::Closed)?;
        if (flow.mac, flow.ingress) != (packet.mac, packet.ingress) {
            // The address is another guest's now.
            self.end(sockets, slot);
            return Err(Drop::Closed);
        }
        let (listener, caller) = (flow.listener, flow.peer);
        let (guest, inside) = (flow.guest, flow.inside);
        self.check_hops(packet, turn)?;
        if !turn.rates.out.admit(payload.len(), turn.now) {
            return Err(Drop::RateLimit);
        }
        self.table.touch(slot, turn.now, |flow| {
            flow.answered = true;
            flow.octets_out += payload.len() as u64;
        });
        let held = Held {
            slot: listener,
            flow: slot,
            from: guest,
            inside,
            outside: caller,
            generation: turn.reach.generation(),
        };
        self.hold(sockets, held, packet, (payload, segment), turn)
    }
}
