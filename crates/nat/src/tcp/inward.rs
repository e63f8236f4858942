//! From the socket to the guest.

use std::time::Duration;

use vmlan_frame::wire::TcpFlags;
use vmlan_frame::{Frame, Size, WriteBuf};

use super::emit::{Segment, bare, prepend, strip};
use super::flow::{Flow, State, flag};
use super::sequence::{ahead, before};
use super::{Failure, FlowId, Read, Sent, Sockets, Tcp, Turn};
use crate::guests::Guests;

/// Room for headers in front of what is read.
const HEADROOM: usize = 128;

/// Octets that were read are moved to a small buffer up to here, so that flows with little hold little.
const SMALL: usize = Size::Small.octets() - HEADROOM;

/// A read that ends below this, while a large frame is on its way, was too early for the next one.
const LITTLE: usize = 16 << 10;

/// A window that is smaller than a segment, and never was larger, is used from here on.
const LEAST: usize = 64;

/// Frames of a flow that may be refused in a row before it waits for its timer.
pub(super) const REFUSALS: u8 = 32;

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
            State::Connecting if writable => self.connected(turn, slot),
            State::Open | State::Accepting | State::Calling => {
                if writable {
                    self.write(turn, slot);
                }
                if readable && self.slot_of(id).is_some() {
                    self.list(slot, flag::READABLE);
                    // Behind the end of the data there may be a reset.
                    if self.flows[slot as usize].has(flag::HOST_END)
                        && let Some(failure) = turn.sockets.error(id)
                    {
                        self.broken(turn, slot, failure);
                    }
                }
            }
            State::Free | State::Queued | State::Connecting | State::Gone => {}
        }
    }

    /// Sends what is next to the guest. True if more can follow at once.
    pub(super) fn send<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, slot: u32) -> bool {
        let flow = &self.flows[slot as usize];
        if flow.repeats() {
            return self.may_repeat(turn, slot) && self.repeat(turn, slot);
        }
        if flow.has(flag::HOST_END) {
            if flow.has(flag::BROKEN) {
                self.broken(turn, slot, Failure::Reset);
            } else if !flow.has(flag::FIN_SENT) {
                self.send_end(turn, slot);
            }
            return false;
        }
        if !flow.has(flag::READABLE) {
            return false;
        }
        let is_broken = flow.has(flag::BROKEN);
        // The acknowledgement of the large frame is the clock: by then there is more, and fewer frames carry it.
        if flow.has(flag::SHORT) && flow.in_flight() as usize > SMALL && !is_broken {
            self.pause(slot, turn.now);
            return false;
        }
        if turn.rates.inward.is_limited() && !self.may_read(turn, slot) {
            return false;
        }
        match self.allowed(turn, slot) {
            Some(room) => self.read(turn, slot, room),
            None => {
                if is_broken {
                    self.broken(turn, slot, Failure::Reset);
                }
                false
            }
        }
    }

    /// True if something that was lost may be sent again now. Without an answer since a timeout only one segment is on
    /// its way; else the guest's budget holds, for all but the first frame.
    fn may_repeat<S>(&mut self, turn: &mut Turn<'_, S>, slot: u32) -> bool {
        let flow = &self.flows[slot as usize];
        let guest = turn.guests.of(flow.ingress);
        if flow.pipe() == 0 {
            return true;
        }
        if flow.tries > 0 {
            return false;
        }
        let fits = guest.in_flight + usize::from(flow.mss) <= guest.budget;
        if !fits {
            self.starve(slot);
        }
        fits
    }

    /// Octets that may go now; `None` when the window or the guest's budget has no room for a useful segment.
    fn allowed<S>(&mut self, turn: &mut Turn<'_, S>, slot: u32) -> Option<usize> {
        let flow = &mut self.flows[slot as usize];
        let guest = turn.guests.of(flow.ingress);
        let budget = guest.budget.saturating_sub(guest.in_flight);
        let window = flow.room() as usize;
        let mss = usize::from(flow.mss);
        // A small piece is sent only if it is the window's better half (RFC 9293 section 3.8.6.2.1).
        let useful = mss.min((flow.max_wnd as usize / 2).max(LEAST));
        if window == 0 || window < useful && !flow.has(flag::FORCE) {
            return None;
        }
        if budget < window.min(mss) {
            // The guest's flows have it all; the next acknowledgement gives some back.
            self.starve(slot);
            return None;
        }
        flow.clear(flag::FORCE);
        Some(window.min(budget))
    }

    /// A buffer to read up to `most` octets into: a large one for much, but whatever there is when it is scarce.
    fn buffer(&self, most: usize, left: usize) -> Option<(WriteBuf, Size)> {
        let order = if most <= SMALL { [Size::Small, Size::Large] } else { [Size::Large, Size::Small] };
        order
            .into_iter()
            .filter(|size| size.octets() <= left)
            .find_map(|size| Some((self.pool.take(size)?, size)))
    }

    /// Reads once, and sends what was read. True if the socket may have more, and there may be room for it.
    fn read<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, slot: u32, room: usize) -> bool {
        let id = self.id(slot);
        let left = self.left(self.flows[slot as usize].ingress, turn.guests);
        let room = room.min(turn.rates.inward.turn(turn.now));
        let flow = &mut self.flows[slot as usize];
        let mss = usize::from(flow.mss);
        let whole = |room: usize| if room >= mss { room / mss * mss } else { room };
        let most = whole(room.min(MOST));
        if left < Size::Small.octets() {
            self.starve(slot);
            return false;
        }
        let Some((mut buffer, size)) = self.buffer(most, left) else {
            self.lack(turn.now);
            self.list(slot, 0);
            return false;
        };
        let most = if size == Size::Small { whole(most.min(SMALL)) } else { most };
        let flow = &mut self.flows[slot as usize];
        let len = match turn.sockets.receive(id, &mut buffer[HEADROOM..HEADROOM + most]) {
            Read::Octets(len) => len.min(most),
            Read::Nothing if flow.has(flag::BROKEN) => {
                self.broken(turn, slot, Failure::Reset);
                return false;
            }
            Read::Nothing => {
                flow.clear(flag::READABLE);
                return false;
            }
            Read::End => {
                flow.clear(flag::READABLE);
                flow.set(flag::HOST_END);
                drop(buffer);
                return self.send(turn, slot);
            }
            Read::Failed(failure) => {
                self.broken(turn, slot, failure);
                return false;
            }
        };
        if len < most && len < LITTLE {
            flow.set(flag::SHORT);
        } else {
            flow.clear(flag::SHORT);
        }
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
        flow.octets_in += len as u64;
        turn.rates.inward.take(len, turn.now);
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
        // What is new is the last one; only what is repeated has to be looked for.
        let is_last = self.sent.last(flow.sent).is_some_and(|last| !before(next, last.sequence));
        let holds = |sent: &Sent| ahead(sent.sequence, next) < sent.frame.len() as i32;
        let found = if is_last {
            self.sent.last(flow.sent).filter(|last| holds(last))
        } else {
            self.sent.find(flow.sent, holds)
        };
        let Some(sent) = found else {
            // Only the FIN is left.
            if flow.has(flag::FIN_SENT) {
                self.send_end(turn, slot);
            }
            return false;
        };
        let skip = ahead(sent.sequence, next) as usize;
        let mut room = flow.room() as usize;
        if flow.tries > 0 {
            room = room.min(usize::from(flow.mss));
        }
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
            part(&sent.frame.octets()[skip..skip + len], flow, gateway, &segment, [&self.pool, turn.pool])
        };
        let Some(frame) = frame else {
            self.lack(turn.now);
            self.list(slot, 0);
            return false;
        };
        turn.out.push_back(frame);
        flow.nxt = next.wrapping_add(len as u32);
        turn.guests.of(flow.ingress).in_flight += len;
        flow.clear(flag::ACK);
        flow.repeats() || flow.has(flag::READABLE)
    }

    /// Tells the guest that nothing more comes.
    fn send_end<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        let left = self.left(self.flows[slot as usize].ingress, turn.guests);
        let flow = &mut self.flows[slot as usize];
        if flow.room() == 0 {
            // It takes a number of the window, as data does.
            return;
        }
        let window = flow.advertise(left);
        let segment = Segment {
            sequence: flow.nxt,
            acknowledgement: flow.rcv_nxt,
            flags: TcpFlags::FIN | TcpFlags::ACK,
            window,
        };
        let Some(frame) = bare(flow, self.settings.mac, &segment, &[], turn.pool) else {
            self.lack(turn.now);
            return self.list(slot, 0);
        };
        turn.out.push_back(frame);
        if !flow.has(flag::FIN_SENT) {
            flow.set(flag::FIN_SENT);
            flow.max = flow.max.wrapping_add(1);
        }
        // It counts as an octet in flight until it is acknowledged.
        turn.guests.of(flow.ingress).in_flight += 1;
        flow.nxt = flow.max;
        flow.clear(flag::ACK);
    }

    /// A segment without data, which tells what was taken and how much more may come: as many as there were segments
    /// beyond a gap, and one at least.
    pub(super) fn acknowledge<S>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        let left = self.left(self.flows[slot as usize].ingress, turn.guests);
        let flow = &mut self.flows[slot as usize];
        let window = flow.advertise(left);
        let segment =
            Segment { sequence: flow.nxt, acknowledgement: flow.rcv_nxt, flags: TcpFlags::ACK, window };
        for _ in 0..flow.gaps.max(1) {
            let Some(frame) = bare(flow, self.settings.mac, &segment, &[], turn.pool) else {
                self.lack(turn.now);
                return self.list(slot, 0);
            };
            turn.out.push_back(frame);
            flow.gaps = flow.gaps.saturating_sub(1);
            flow.clear(flag::ACK);
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
            // Where the guest is, or ahead of that: such a reset is asked about (RFC 5961 section 3.2).
            sequence: flow.max,
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
        let pipe = flow.pipe();
        flow.una = number;
        if before(flow.nxt, number) {
            flow.nxt = number;
        }
        guest.acknowledged(octets, (pipe - flow.pipe()) as usize);
        (flow.duplicates, flow.tries, flow.refusals) = (0, 0, 0);
        flow.clear(flag::SHORT);
        if flow.has(flag::RECOVERS) && !before(number, flow.recover) {
            flow.clear(flag::RECOVERS);
        }
        if flow.has(flag::TIMING) && !before(number, flow.timed) {
            flow.clear(flag::TIMING);
            flow.sample(turn.now.since(flow.timed_at));
        }
        let mut freed = 0;
        while let Some(sent) = self.sent.first(flow.sent) {
            let done = ahead(sent.sequence, number).max(0) as usize;
            if done < sent.frame.len() {
                sent.frame.trim_front(done);
                sent.sequence = sent.sequence.wrapping_add(done as u32);
                break;
            }
            freed += sent.cost as usize;
            self.sent.pop(&mut flow.sent);
        }
        let ingress = flow.ingress;
        self.freed(ingress, freed, turn.guests);
        self.wake(ingress);
        if self.flows[slot as usize].is_over() {
            return self.end(turn, slot);
        }
        self.list(slot, 0);
    }

    /// Sends everything again that the guest does not have.
    pub(super) fn go_back<S>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        self.step_back(slot, None, turn.guests);
        self.lost(turn, slot);
        self.list(slot, 0);
    }

    /// Has the flow send again from `number` on, or from the first that is not acknowledged.
    pub(super) fn step_back(&mut self, slot: u32, number: Option<u32>, guests: &mut Guests) {
        let flow = &mut self.flows[slot as usize];
        let pipe = flow.pipe();
        flow.nxt = number.unwrap_or(flow.una);
        flow.recover = flow.max;
        flow.set(flag::RECOVERS);
        // An answer may now be to either copy (RFC 6298 section 3).
        flow.clear(flag::TIMING);
        let guest = guests.of(flow.ingress);
        guest.in_flight = guest.in_flight.saturating_sub((pipe - flow.pipe()) as usize);
        let ingress = flow.ingress;
        self.wake(ingress);
    }

    /// A queue on the way to the guest was full.
    pub(super) fn lost<S>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        let flow = &self.flows[slot as usize];
        let round = Duration::from_micros(flow.srtt.max(1_000).into());
        turn.guests.of(flow.ingress).lost(round, turn.now);
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

/// A frame with a copy of some octets, in a buffer of either pool: what is repeated must not wait for buffers that only
/// its arrival frees.
fn part(
    octets: &[u8],
    flow: &Flow,
    gateway: vmlan_frame::MacAddr,
    segment: &Segment,
    pools: [&vmlan_frame::Pool; 2],
) -> Option<Frame> {
    let end = HEADROOM + octets.len();
    let sizes = [Size::Small, Size::Large].into_iter().filter(|size| size.octets() >= end);
    let mut places = sizes.flat_map(|size| pools.map(|pool| (pool, size)));
    let (pool, mut buffer) = places.find_map(|(pool, size)| Some((pool, pool.take(size)?)))?;
    buffer[HEADROOM..end].copy_from_slice(octets);
    let mut frame = buffer.into_frame(HEADROOM..end);
    prepend(&mut frame, flow, gateway, segment, pool).then_some(frame)
}
