//! From the socket to the guest.

use std::time::Duration;

use vmlan_frame::wire::TcpFlags;
use vmlan_frame::{Frame, Size};

use super::emit::{Segment, bare, prepend, strip};
use super::flow::{Flow, State, flag};
use super::sequence::{ahead, before};
use super::{FlowId, Read, Sent, Sockets, Tcp, Turn};

/// Room for headers in front of what is read.
const HEADROOM: usize = 128;

/// What was read is moved to a small buffer up to here, so that flows with little hold little.
const SMALL: usize = Size::Small.octets() - HEADROOM;

/// Octets of payload of one frame: the largest IPv4 packet, less headers.
const MOST: usize = 65_535 - 40;

impl Tcp {
    /// The socket of a flow is ready.
    pub fn ready<S: Sockets>(
        &mut self,
        turn: &mut Turn<'_, S>,
        id: FlowId,
        (readable, writable): (bool, bool),
    ) {
        let Some(slot) = self.slot_of(id) else { return };
        match self.flows[slot as usize].state {
            State::Connecting => self.connected(turn, slot),
            State::Open | State::Accepting | State::Calling => {
                if writable {
                    self.write(turn, slot);
                }
                if readable && self.slot_of(id).is_some() {
                    self.list(slot, flag::READABLE);
                }
            }
            State::Free | State::Queued | State::Gone => {}
        }
    }

    /// Gives flows turns, until `room` frames are made or nothing is left to do. Time is what [`Turn::now`] says.
    pub fn poll<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, room: usize) {
        self.run_timers(turn);
        self.connect(turn);
        self.starved = false;
        // Each flow that is listed now has one turn before one has a second.
        while turn.out.len() < room && !self.starved {
            let Some(slot) = self.listed.pop_front() else { return };
            let flow = &mut self.flows[slot as usize];
            flow.clear(flag::LISTED);
            if matches!(flow.state, State::Open) {
                self.turn(turn, slot);
            }
        }
    }

    /// One turn of a flow: something to the guest, if anything is to be said.
    fn turn<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        let more = self.send(turn, slot);
        let flow = &self.flows[slot as usize];
        if flow.state != State::Open {
            return;
        }
        if flow.has(flag::ACK) {
            self.acknowledge(turn, slot);
        }
        if more {
            self.list(slot, 0);
        }
        self.rearm(slot, turn.now);
    }

    /// Sends what is next to the guest. True if more can follow at once.
    fn send<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, slot: u32) -> bool {
        let flow = &self.flows[slot as usize];
        if flow.repeats() {
            return self.repeat(turn, slot);
        }
        if flow.has(flag::HOST_END) {
            if !flow.has(flag::FIN_SENT) {
                self.send_end(turn, slot);
            }
            return false;
        }
        if !flow.has(flag::READABLE) {
            return false;
        }
        let Some(room) = self.allowed(turn, slot) else { return false };
        self.read(turn, slot, room)
    }

    /// Octets that may go now; `None` when the window or the guest's budget has no room for a useful segment.
    fn allowed<S>(&mut self, turn: &mut Turn<'_, S>, slot: u32) -> Option<usize> {
        let flow = &mut self.flows[slot as usize];
        let guest = turn.guests.of(flow.ingress);
        let budget = guest.budget.saturating_sub(guest.in_flight);
        let window = flow.room() as usize;
        let mss = usize::from(flow.mss);
        let room = window.min(budget);
        // A small piece is sent only if it is the window's better half (RFC 9293 section 3.8.6.2.1).
        if room >= mss || room > 0 && room >= flow.max_wnd as usize / 2 {
            return Some(room);
        }
        if room > 0 && flow.has(flag::FORCE) {
            flow.clear(flag::FORCE);
            return Some(room);
        }
        if flow.in_flight() == 0 && budget == 0 {
            // Others of the guest's flows have it all; the next acknowledgement gives some back.
            turn.guests.starve(flow.ingress, slot);
        }
        None
    }

    /// Reads once, and sends what was read. True if the socket may have more, and there may be room for it.
    fn read<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, slot: u32, room: usize) -> bool {
        let id = self.id(slot);
        let left = self.left(self.flows[slot as usize].ingress, turn.guests);
        let flow = &mut self.flows[slot as usize];
        let mss = usize::from(flow.mss);
        let most = if room >= mss { room.min(MOST) / mss * mss } else { room };
        let size = if most <= SMALL { Size::Small } else { Size::Large };
        if left < size.octets() {
            turn.guests.starve(flow.ingress, slot);
            return false;
        }
        let Some(mut buffer) = self.pool.take(size) else {
            self.starved = true;
            self.list(slot, 0);
            return false;
        };
        let len = match turn.sockets.receive(id, &mut buffer[HEADROOM..HEADROOM + most]) {
            Read::Octets(len) => len,
            Read::Nothing => {
                flow.clear(flag::READABLE);
                return false;
            }
            Read::End => {
                flow.clear(flag::READABLE);
                flow.set(flag::HOST_END);
                drop(buffer);
                self.send_end(turn, slot);
                return false;
            }
            Read::Failed(failure) => {
                drop(buffer);
                self.broken(turn, slot, failure);
                return false;
            }
        };
        let (payload, size) = match size {
            Size::Large if len <= SMALL => match self.pool.take(Size::Small) {
                Some(mut small) => {
                    small[HEADROOM..HEADROOM + len].copy_from_slice(&buffer[HEADROOM..HEADROOM + len]);
                    (small.into_frame(HEADROOM..HEADROOM + len), Size::Small)
                }
                None => (buffer.into_frame(HEADROOM..HEADROOM + len), size),
            },
            _ => (buffer.into_frame(HEADROOM..HEADROOM + len), size),
        };
        let cost = size.octets();
        self.memory += cost;
        let guest = turn.guests.of(flow.ingress);
        guest.memory += cost;
        guest.in_flight += len;
        flow.octets_in += len as u64;
        let sequence = flow.nxt;
        self.sent.push(&mut flow.sent, Sent { frame: payload, sequence, cost: cost as u32 });
        flow.max = flow.max.wrapping_add(len as u32);
        if !flow.has(flag::TIMING) {
            flow.set(flag::TIMING);
            (flow.timed, flow.timed_at) = (flow.max, turn.now);
        }
        self.repeat(turn, slot)
    }

    /// Sends what was read and is next, for the first time or again. True if more can follow.
    fn repeat<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, slot: u32) -> bool {
        let left = self.left(self.flows[slot as usize].ingress, turn.guests);
        let flow = &mut self.flows[slot as usize];
        let next = flow.nxt;
        let holds = |sent: &Sent| ahead(sent.sequence, next) < sent.frame.len() as i32;
        let Some(sent) = self.sent.find(flow.sent, holds) else {
            // Only the FIN is left.
            if flow.has(flag::FIN_SENT) {
                self.send_end(turn, slot);
            }
            return false;
        };
        let skip = ahead(sent.sequence, next) as usize;
        let room = flow.room() as usize;
        let len = (sent.frame.len() - skip).min(room);
        if len == 0 {
            return false;
        }
        let window = flow.advertise(left);
        let ends = next.wrapping_add(len as u32) == flow.max;
        let push = if ends { TcpFlags::ACK | TcpFlags::PSH } else { TcpFlags::ACK };
        let segment = Segment { sequence: next, acknowledgement: flow.rcv_nxt, flags: push, window };
        let gateway = self.settings.mac;
        let frame = if skip == 0 && len == sent.frame.len() {
            whole(&mut sent.frame, flow, gateway, &segment, &self.pool)
        } else {
            part(&sent.frame.octets()[skip..skip + len], flow, gateway, &segment, &self.pool)
        };
        let Some(frame) = frame else {
            self.starved = true;
            self.list(slot, 0);
            return false;
        };
        turn.out.push_back(frame);
        flow.nxt = next.wrapping_add(len as u32);
        flow.clear(flag::ACK);
        flow.repeats() || flow.has(flag::READABLE)
    }

    /// Tells the guest that nothing more comes.
    fn send_end<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        let left = self.left(self.flows[slot as usize].ingress, turn.guests);
        let flow = &mut self.flows[slot as usize];
        let window = flow.advertise(left);
        let segment = Segment {
            sequence: flow.nxt,
            acknowledgement: flow.rcv_nxt,
            flags: TcpFlags::FIN | TcpFlags::ACK,
            window,
        };
        let Some(frame) = bare(flow, self.settings.mac, &segment, &[], turn.pool) else {
            return self.list(slot, 0);
        };
        turn.out.push_back(frame);
        if !flow.has(flag::FIN_SENT) {
            flow.set(flag::FIN_SENT);
            flow.max = flow.max.wrapping_add(1);
            // It counts as an octet in flight until it is acknowledged.
            turn.guests.of(flow.ingress).in_flight += 1;
        }
        flow.nxt = flow.max;
        flow.clear(flag::ACK);
    }

    /// A segment without data, which tells what was taken and how much more may come.
    pub(super) fn acknowledge<S>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        let left = self.left(self.flows[slot as usize].ingress, turn.guests);
        let flow = &mut self.flows[slot as usize];
        let window = flow.advertise(left);
        let segment =
            Segment { sequence: flow.nxt, acknowledgement: flow.rcv_nxt, flags: TcpFlags::ACK, window };
        match bare(flow, self.settings.mac, &segment, &[], turn.pool) {
            Some(frame) => {
                turn.out.push_back(frame);
                flow.clear(flag::ACK);
            }
            None => self.list(slot, 0),
        }
    }

    /// A segment without data and with an old number, which has to be answered.
    pub(super) fn probe<S>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        let left = self.left(self.flows[slot as usize].ingress, turn.guests);
        let flow = &mut self.flows[slot as usize];
        let window = flow.advertise(left);
        let sequence = flow.una.wrapping_sub(1);
        let segment = Segment { sequence, acknowledgement: flow.rcv_nxt, flags: TcpFlags::ACK, window };
        turn.out.extend(bare(flow, self.settings.mac, &segment, &[], turn.pool));
    }

    /// Tells the guest that the flow is broken.
    pub(super) fn reset_guest<S>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        let flow = &self.flows[slot as usize];
        let segment = Segment {
            sequence: flow.nxt,
            acknowledgement: flow.rcv_nxt,
            flags: TcpFlags::RST | TcpFlags::ACK,
            window: 0,
        };
        turn.out.extend(bare(flow, self.settings.mac, &segment, &[], turn.pool));
    }

    /// The guest has everything before `number`.
    pub(super) fn acknowledged<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, slot: u32, number: u32) {
        let flow = &mut self.flows[slot as usize];
        let guest = turn.guests.of(flow.ingress);
        let octets = ahead(flow.una, number) as usize;
        guest.acknowledged(octets);
        flow.una = number;
        if before(flow.nxt, number) {
            flow.nxt = number;
        }
        (flow.duplicates, flow.tries) = (0, 0);
        if flow.has(flag::RECOVERS) && !before(number, flow.recover) {
            flow.clear(flag::RECOVERS);
        }
        if flow.has(flag::TIMING) && !before(number, flow.timed) {
            flow.clear(flag::TIMING);
            flow.sample(turn.now.since(flow.timed_at));
        }
        while let Some(sent) = self.sent.first(flow.sent) {
            let done = ahead(sent.sequence, number).max(0) as usize;
            if done < sent.frame.len() {
                sent.frame.trim_front(done);
                sent.sequence = sent.sequence.wrapping_add(done as u32);
                break;
            }
            let cost = sent.cost as usize;
            self.sent.pop(&mut flow.sent);
            guest.memory = guest.memory.saturating_sub(cost);
            self.memory = self.memory.saturating_sub(cost);
            self.starved = false;
        }
        while let Some(other) = turn.guests.unstarve(self.flows[slot as usize].ingress) {
            self.list(other, 0);
        }
        if self.flows[slot as usize].is_over() {
            return self.end(turn, slot);
        }
        self.list(slot, 0);
    }

    /// Sends everything again that the guest does not have.
    pub(super) fn go_back<S>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        let flow = &mut self.flows[slot as usize];
        flow.nxt = flow.una;
        flow.recover = flow.max;
        flow.set(flag::RECOVERS);
        // An answer may now be to either copy (RFC 6298 section 3).
        flow.clear(flag::TIMING);
        let round = Duration::from_micros(flow.srtt.max(1_000).into());
        turn.guests.of(flow.ingress).lost(round, turn.now);
        self.list(slot, 0);
    }
}

/// A frame with all of the payload: headers in front of it, in its own buffer where that is possible.
fn whole(
    payload: &mut Frame,
    flow: &Flow,
    gateway: vmlan_frame::MacAddr,
    segment: &Segment,
    pool: &vmlan_frame::Pool,
) -> Option<Frame> {
    let len = payload.len();
    if !prepend(payload, flow, gateway, segment, pool) {
        return None;
    }
    let frame = payload.clone();
    strip(payload, len);
    Some(frame)
}

/// A frame with a copy of some octets.
fn part(
    octets: &[u8],
    flow: &Flow,
    gateway: vmlan_frame::MacAddr,
    segment: &Segment,
    pool: &vmlan_frame::Pool,
) -> Option<Frame> {
    let size = Size::for_octets(HEADROOM + octets.len())?;
    let mut buffer = pool.take(size)?;
    buffer[HEADROOM..HEADROOM + octets.len()].copy_from_slice(octets);
    let mut frame = buffer.into_frame(HEADROOM..HEADROOM + octets.len());
    prepend(&mut frame, flow, gateway, segment, pool).then_some(frame)
}
