//! The beginning of a flow, from either side.

use std::net::SocketAddr;
use std::time::Duration;

use vmlan_frame::wire::{IpProtocol, TcpFlags, TcpOption, TcpRepr, TcpSegment};
use vmlan_frame::{Frame, MacAddr, Pool};

use super::emit::{Segment, bare, reset_for, syn_options};
use super::flow::{Flow, Key, SCALE, State, Wait, flag};
use super::timers::PATIENCE;
use super::{Failure, FlowId, GuestEnd, Sockets, Target, Tcp, Turn};
use crate::drop::Drop;
use crate::engine::LIMITS;
use crate::reach::{HostTarget, Verdict};
use crate::unreachable::{self, Reporter, Unreachable};
use crate::{Envelope, Packet, neighbour};

/// The port of DNS (RFC 7766).
const NAMES: u16 = 53;

/// The smallest segment size that a guest may tell: smaller ones cost more than they carry.
const LEAST_MSS: u16 = 88;

/// Flows that are connected in one turn.
const CONNECTS: usize = 16;

/// Flows that wait to be connected.
const QUEUE: usize = 256;

/// Repetitions of SYN and SYN/ACK.
const TRIES: u8 = 4;

impl Tcp {
    /// A segment of a guest that begins a flow.
    pub(super) fn begin<S: Sockets>(
        &mut self,
        turn: &mut Turn<'_, S>,
        packet: &Packet<'_>,
        tcp: &TcpSegment<&[u8]>,
    ) -> Result<(), Drop> {
        let guest = SocketAddr::new(packet.source(), tcp.source_port());
        let other = SocketAddr::new(packet.destination(), tcp.destination_port());
        if tcp.flags().intersects(TcpFlags::FIN | TcpFlags::ACK) || other.port() == 0 || guest.port() == 0 {
            return Err(Drop::BadHeader);
        }
        match turn.reach.decide(packet.ingress, other, IpProtocol::TCP, turn.now) {
            Verdict::Group => return Err(Drop::NotForwarded),
            verdict if target(&verdict, other).is_some() => {}
            Verdict::Deny => return Err(self.deny(turn, packet, tcp)),
            _ => {
                self.answer_reset(turn, packet, tcp);
                return Ok(());
            }
        }
        let (mss, scale) = options(tcp, other.is_ipv6());
        if mss < LEAST_MSS {
            return Err(Drop::BadMss);
        }
        let limits = turn.guests.limits;
        let account = turn.guests.of(packet.ingress);
        let fits =
            account.flows < limits.flows && account.half_open < limits.half_open && self.queued.len() < QUEUE;
        if !fits || !account.new_flows.take(limits.new_per_second, turn.now) {
            self.statistics.flow_limit += 1;
            return Err(Drop::FlowLimit);
        }
        let slot = self.allocate(Key::new(guest, other), packet.ingress, turn.guests, turn.now);
        let most = self.mss(other.is_ipv6());
        let flow = &mut self.flows[slot as usize];
        flow.state = State::Queued;
        flow.mac = packet.mac;
        flow.mss = mss.min(most);
        if let Some(scale) = scale {
            flow.set(flag::SCALES);
            (flow.snd_scale, flow.rcv_scale) = (scale, SCALE);
        }
        flow.irs = tcp.sequence();
        flow.rcv_nxt = flow.irs.wrapping_add(1);
        flow.rcv_adv = flow.rcv_nxt;
        flow.snd_wnd = u32::from(tcp.window());
        flow.wl1 = flow.irs;
        self.queued.push_back(slot);
        Ok(())
    }

    /// Octets of payload of a segment that fits the network.
    pub(super) fn mss(&self, v6: bool) -> u16 {
        let headers = if v6 { 60 } else { 40 };
        // The largest MTU does not fit a TCP option with less.
        self.settings.mtu.saturating_sub(headers).clamp(usize::from(LEAST_MSS), 65_495) as u16
    }

    /// Tells a guest that its segment belongs to no flow.
    pub(super) fn answer_reset<S>(
        &self,
        turn: &mut Turn<'_, S>,
        packet: &Packet<'_>,
        tcp: &TcpSegment<&[u8]>,
    ) {
        let macs = (packet.mac, self.settings.mac);
        turn.out.extend(reset_for(tcp, macs, &packet.addresses, turn.pool));
    }

    /// Tells a guest that a destination is not open, unless that is to be silent.
    pub(super) fn deny<S>(
        &self,
        turn: &mut Turn<'_, S>,
        packet: &Packet<'_>,
        tcp: &TcpSegment<&[u8]>,
    ) -> Drop {
        if !turn.reach.denies_silently() {
            self.answer_reset(turn, packet, tcp);
        }
        Drop::Denied
    }

    /// Connects flows whose turn it is.
    pub(super) fn connect<S: Sockets>(&mut self, turn: &mut Turn<'_, S>) {
        let mut count = 0;
        while count < CONNECTS {
            let Some(slot) = self.queued.pop_front() else { return };
            let id = self.id(slot);
            let flow = &mut self.flows[slot as usize];
            if flow.state != State::Queued {
                // It was given up meanwhile.
                continue;
            }
            count += 1;
            flow.state = State::Connecting;
            flow.heard = turn.now;
            let other = flow.key.other();
            let guest = GuestEnd { address: flow.key.guest(), mac: flow.mac, ingress: flow.ingress };
            let verdict = turn.reach.decide(flow.ingress, other, IpProtocol::TCP, turn.now);
            let result = match target(&verdict, other) {
                Some(target) => turn.sockets.connect(id, guest, &target),
                None => Err(Failure::Refused),
            };
            match result {
                Ok(()) => self.wait_until(slot, Wait::Connect, turn.now + PATIENCE),
                Err(failure) => {
                    // There is no socket to be closed.
                    self.flows[slot as usize].state = State::Queued;
                    self.refuse(turn, slot, failure);
                }
            }
        }
    }

    /// The socket of a connecting flow is ready: it is connected, or has failed.
    pub(super) fn connected<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        let id = self.id(slot);
        if let Some(failure) = turn.sockets.error(id) {
            return self.refuse(turn, slot, failure);
        }
        self.flows[slot as usize].state = State::Accepting;
        self.shake(turn, slot);
    }

    /// Tells the guest that its flow cannot be, as the host's network said it.
    pub(super) fn refuse<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, slot: u32, failure: Failure) {
        let flow = &self.flows[slot as usize];
        let segment = Segment {
            sequence: 0,
            acknowledgement: flow.irs.wrapping_add(1),
            flags: TcpFlags::RST | TcpFlags::ACK,
            window: 0,
        };
        let kind = match failure {
            Failure::Refused | Failure::Reset => None,
            Failure::NetworkUnreachable => Some(Unreachable::Network),
            Failure::HostUnreachable => Some(Unreachable::Host),
            Failure::Denied => Some(Unreachable::Prohibited),
            // The guest tries again, and by then there may be one.
            Failure::NoDescriptor => {
                self.statistics.flow_limit += 1;
                let ingress = flow.ingress;
                if turn.guests.of(ingress).limits.take(LIMITS, turn.now) {
                    self.without_descriptor = Some(ingress);
                }
                return self.abort(turn, slot, true);
            }
        };
        let answer = match kind.zip(turn.guests.gateway_for(flow.key.guest().ip())) {
            None => bare(flow, self.settings.mac, &segment, &[], turn.pool),
            Some((kind, address)) => {
                let from = Reporter { mac: self.settings.mac, address };
                error_about_syn(flow, from, kind, turn.pool)
            }
        };
        turn.out.extend(answer);
        self.abort(turn, slot, true);
    }

    /// Sends SYN/ACK, or SYN to a guest that is called, and again while nothing comes.
    pub(super) fn shake<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        let flow = &self.flows[slot as usize];
        let (ingress, mss) = (flow.ingress, self.mss(flow.key.guest().is_ipv6()));
        let left = self.left(ingress, turn.guests);
        let flow = &mut self.flows[slot as usize];
        if flow.tries > TRIES {
            return self.abort(turn, slot, true);
        }
        let calls = flow.state == State::Calling;
        if calls && flow.mac == MacAddr::ZERO {
            match turn.guests.place(flow.key.guest().ip()) {
                Some(place) => self.place(turn, slot, (place.mac, place.ingress)),
                None => {
                    let question =
                        neighbour::ask(flow.key.guest().ip(), turn.guests, self.settings.mac, turn.pool);
                    turn.out.extend(question);
                }
            }
        }
        let flow = &mut self.flows[slot as usize];
        if flow.mac != MacAddr::ZERO {
            let (flags, acknowledgement) = match calls {
                true => (TcpFlags::SYN, 0),
                false => (TcpFlags::SYN | TcpFlags::ACK, flow.rcv_nxt),
            };
            // The window of a SYN is not scaled (RFC 7323 section 2.2).
            let scale = std::mem::take(&mut flow.rcv_scale);
            let window = if calls { u16::MAX } else { flow.advertise(left) };
            flow.rcv_scale = scale;
            let mut octets = [0; 8];
            let len = syn_options(mss, flow, &mut octets);
            let segment = Segment { sequence: flow.iss, acknowledgement, flags, window };
            turn.out.extend(bare(flow, self.settings.mac, &segment, &octets[..len], turn.pool));
            flow.max = flow.iss.wrapping_add(1);
            flow.nxt = flow.max;
        }
        let pause = Duration::from_secs(1 << flow.tries.min(4));
        flow.tries += 1;
        self.wait_until(slot, Wait::Handshake, turn.now + pause);
    }

    /// A caller from outside wants a guest: a flow for its socket, which the driver keeps by the answered id. `from` is
    /// the address that the guest sees. `None` when there is no room, or the ends are in use.
    pub fn call<S: Sockets>(
        &mut self,
        turn: &mut Turn<'_, S>,
        guest: SocketAddr,
        from: SocketAddr,
    ) -> Option<FlowId> {
        let key = Key::new(guest, from);
        if guest.is_ipv6() != from.is_ipv6() {
            return None;
        }
        if let Some(&slot) = self.by_key.get(&key) {
            if self.flows[slot as usize].state != State::Gone {
                return None;
            }
            // The caller's TCP knows that it may use these ends again.
            self.release(slot, turn.guests);
        }
        let place = turn.guests.place(guest.ip());
        let ingress = place.map_or(0, |place| place.ingress);
        if self.turns.is_away(ingress) {
            return None;
        }
        let limits = turn.guests.limits;
        if turn.guests.of(ingress).flows >= limits.flows {
            self.statistics.flow_limit += 1;
            return None;
        }
        let slot = self.allocate(key, ingress, turn.guests, turn.now);
        let flow = &mut self.flows[slot as usize];
        flow.state = State::Calling;
        flow.set(flag::CAME_IN | flag::SCALES);
        flow.rcv_scale = SCALE;
        if let Some(place) = place {
            flow.mac = place.mac;
        }
        Some(self.id(slot))
    }

    /// Puts a flow where its guest is, with what it counts for.
    pub(super) fn place<S>(&mut self, turn: &mut Turn<'_, S>, slot: u32, (mac, ingress): (MacAddr, u16)) {
        self.unlist(slot);
        let flow = &mut self.flows[slot as usize];
        let half_open = u32::from(flow.has(flag::HALF_OPEN));
        let before = turn.guests.of(flow.ingress);
        before.flows = before.flows.saturating_sub(1);
        before.half_open = before.half_open.saturating_sub(half_open);
        let after = turn.guests.of(ingress);
        after.flows += 1;
        after.half_open += half_open;
        (flow.mac, flow.ingress) = (mac, ingress);
    }

    /// Begins to call, once the driver has the socket.
    pub fn begin_call<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, id: FlowId) {
        if let Some(slot) = self.slot_of(id) {
            self.shake(turn, slot);
        }
    }

    /// The guest answers a call.
    pub(super) fn answered<S: Sockets>(
        &mut self,
        turn: &mut Turn<'_, S>,
        slot: u32,
        packet: &Packet<'_>,
        tcp: &TcpSegment<&[u8]>,
    ) -> Result<(), Drop> {
        let flags = tcp.flags();
        let most = self.mss(packet.destination().is_ipv6());
        let flow = &mut self.flows[slot as usize];
        let agrees = flags.contains(TcpFlags::ACK) && tcp.acknowledgement() == flow.iss.wrapping_add(1);
        if flags.contains(TcpFlags::RST) {
            if agrees {
                self.abort(turn, slot, true);
            }
            return Ok(());
        }
        if !agrees {
            // The guest knows of an older flow between these ends, which this ends (RFC 9293 section 3.5.1).
            if flags.contains(TcpFlags::ACK) {
                self.answer_reset(turn, packet, tcp);
            }
            return Ok(());
        }
        if !flags.contains(TcpFlags::SYN) {
            return Ok(());
        }
        let (mss, scale) = options(tcp, packet.destination().is_ipv6());
        if mss < LEAST_MSS {
            self.abort(turn, slot, true);
            return Err(Drop::BadMss);
        }
        flow.mss = mss.min(most);
        match scale {
            Some(scale) => flow.snd_scale = scale,
            None => {
                flow.clear(flag::SCALES);
                flow.rcv_scale = 0;
            }
        }
        (flow.irs, flow.rcv_nxt) = (tcp.sequence(), tcp.sequence().wrapping_add(1));
        flow.rcv_adv = flow.rcv_nxt.wrapping_add(u32::from(u16::MAX));
        flow.una = flow.nxt;
        flow.snd_wnd = u32::from(tcp.window());
        (flow.max_wnd, flow.wl1, flow.wl2) = (flow.snd_wnd, tcp.sequence(), tcp.acknowledgement());
        flow.heard = turn.now;
        self.established(slot, turn.guests);
        self.list(slot, flag::ACK | flag::READABLE);
        self.rearm(slot, turn.now, true);
        Ok(())
    }
}

/// The largest segment that a SYN tells, and its scale; at most 14 (RFC 7323 section 2.3).
fn options(tcp: &TcpSegment<&[u8]>, v6: bool) -> (u16, Option<u8>) {
    let mut told = (if v6 { 1220 } else { 536 }, None);
    // The first broken one ends the list, as for the host's own TCP.
    for option in tcp.options().map_while(Result::ok) {
        match option {
            TcpOption::MaximumSegmentSize(mss) => told.0 = mss,
            TcpOption::WindowScale(scale) => told.1 = Some(scale.min(14)),
            _ => {}
        }
    }
    told
}

/// The end that a flow to `other` is connected to; `None` when there is none.
fn target<'a>(verdict: &Verdict<'a>, other: SocketAddr) -> Option<Target<'a>> {
    match *verdict {
        Verdict::Connect(to) | Verdict::Host(HostTarget::Address(to)) => Some(Target::Address(to)),
        Verdict::Host(HostTarget::Path(path)) => Some(Target::Unix(path)),
        Verdict::Gateway if other.port() == NAMES => Some(Target::Names),
        Verdict::Gateway | Verdict::Closed | Verdict::Group | Verdict::Deny => None,
    }
}

/// Makes an error about the SYN that began a flow. Its options are not kept, which no receiver looks at.
fn error_about_syn(flow: &Flow, from: Reporter, kind: Unreachable, pool: &Pool) -> Option<Frame> {
    const TCP: usize = TcpRepr::MIN_HEADER_LEN;
    let (guest, other) = (flow.key.guest(), flow.key.other());
    let envelope = Envelope::new(from.mac, flow.mac, (guest.ip(), other.ip()), IpProtocol::TCP)?;
    let syn = TcpRepr {
        source_port: guest.port(),
        destination_port: other.port(),
        sequence: flow.irs,
        acknowledgement: 0,
        flags: TcpFlags::SYN,
        window: u16::MAX,
        urgent: 0,
        options: &[],
    };
    let mut frame = envelope.frame(pool, TCP, |octets, addresses| syn.emit(octets, addresses))?;
    frame.meta.ingress = flow.ingress;
    unreachable::error(&Packet::parse(&frame).ok()?, from, kind, pool)
}
