//! From the guest to the socket.

use std::io::IoSlice;
use std::time::Duration;

use vmlan_frame::Size;

use super::flow::{Chain, State, WINDOW, flag};
use super::sequence::ahead;
use super::{Failure, Kept, Sockets, Tcp, Turn};

/// Slices of one call.
const SLICES: usize = 64;

/// A socket that takes what waits this soon was not jammed.
const BRIEF: Duration = Duration::from_millis(10);

/// A socket that did not take what waits for so long gets less.
const LONG: Duration = Duration::from_millis(100);

impl Tcp {
    /// Hands over what the frames of a batch brought, one call a flow. To be called after each batch.
    pub fn flush<S: Sockets>(&mut self, turn: &mut Turn<'_, S>) {
        while let Some(slot) = self.touched.pop() {
            if self.flows[slot as usize].state == State::Open {
                self.hand_over(turn, slot);
            } else {
                let flow = &mut self.flows[slot as usize];
                while self.gathered.pop(&mut flow.gathered).is_some() {}
            }
        }
    }

    fn hand_over<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        let id = self.id(slot);
        let flow = &mut self.flows[slot as usize];
        let (mut taken, mut skip, mut is_full) = (0, 0, false);
        let goes_first = flow.kept.is_empty();
        // Nor before another flow that the rate holds back.
        let mut room = if self.writes.is_empty() { turn.rates.out.turn(turn.now) } else { 0 };
        // Before what waits goes nothing.
        while goes_first && room > 0 && !flow.gathered.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            // Whole pieces, and octets of the one behind them that there is no room for as a whole.
            let (mut count, mut octets, mut cut) = (0, 0, 0);
            let mut used = 0;
            for (slice, piece) in slices.iter_mut().zip(self.gathered.iter(flow.gathered)) {
                let len = piece.len.min(u32::try_from(room).unwrap_or(u32::MAX) - octets);
                *slice = IoSlice::new(&piece.frame.octets()[piece.start as usize..][..len as usize]);
                octets += len;
                used += 1;
                if len < piece.len {
                    cut = len;
                    break;
                }
                count += 1;
            }
            let sent = match turn.sockets.send(id, &slices[..used]) {
                Ok(sent) => u32::try_from(sent).unwrap_or(u32::MAX).min(octets),
                Err(_) => return self.salvage(turn, slot),
            };
            taken += sent;
            room -= sent as usize;
            if sent < octets {
                // There is more room only when the socket says so.
                is_full = true;
                skip = sent;
                break;
            }
            for _ in 0..count {
                self.gathered.pop(&mut flow.gathered);
            }
            skip = cut;
        }
        flow.octets_out += u64::from(taken);
        turn.rates.out.take(taken as usize, turn.now);
        let is_held = goes_first && !is_full && !flow.gathered.is_empty();
        let mut lost = 0;
        let mut left = self.left(self.flows[slot as usize].ingress, turn.guests);
        let flow = &mut self.flows[slot as usize];
        while let Some(piece) = self.gathered.pop(&mut flow.gathered) {
            let done = skip.min(piece.len);
            skip -= done;
            let mut rest =
                &piece.frame.octets()[(piece.start + done) as usize..][..(piece.len - done) as usize];
            if lost > 0 {
                lost += rest.len() as u32;
                continue;
            }
            while !rest.is_empty() {
                if flow.kept.is_empty() {
                    flow.kept_since = turn.now;
                }
                let Some(copied) = keep(&mut self.kept, &mut flow.kept, rest, &self.pool, &mut left) else {
                    lost += rest.len() as u32;
                    break;
                };
                let (octets, cost) = copied;
                flow.kept_octets += octets as u32;
                rest = &rest[octets..];
                turn.guests.of(flow.ingress).memory += cost;
                self.memory += cost;
            }
        }
        if lost > 0 {
            // Taken back: the guest sends it again.
            flow.rcv_nxt = flow.rcv_nxt.wrapping_sub(lost);
            flow.clear(flag::GUEST_FIN);
            flow.set(flag::SHUT);
        }
        if is_held {
            self.hold_write(turn, slot);
        }
        let flow = &mut self.flows[slot as usize];
        if flow.kept.is_empty() {
            flow.taken = flow.taken.saturating_add(taken);
            if flow.taken >= flow.window {
                flow.taken = 0;
                flow.window = (flow.window * 2).min(flow.most_window());
            }
            self.finish(turn, slot);
        }
        if self.flows[slot as usize].state == State::Open {
            self.list(slot, flag::ACK);
        }
    }

    /// Writes what waits for a socket that has room again, unless the rate holds it back.
    pub(super) fn write<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        let flow = &self.flows[slot as usize];
        if self.writes.is_empty() {
            self.write_now(turn, slot);
        } else if !flow.kept.is_empty() || flow.has(flag::SHUT) {
            self.hold_write(turn, slot);
        }
    }

    /// Writes what waits, as far as the socket has room and the rate allows it.
    pub(super) fn write_now<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        let id = self.id(slot);
        let mut room = turn.rates.out.turn(turn.now);
        let flow = &mut self.flows[slot as usize];
        if flow.has(flag::SHUT) {
            flow.clear(flag::SHUT);
            self.list(slot, flag::ACK);
        }
        let flow = &mut self.flows[slot as usize];
        if flow.kept.is_empty() {
            return;
        }
        let (mut freed, mut taken, mut is_full) = (0, 0, false);
        let told = ahead(flow.rcv_nxt, flow.rcv_adv);
        while !flow.kept.is_empty() && room > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let (mut count, mut octets) = (0, 0);
            for (slice, kept) in slices.iter_mut().zip(self.kept.iter(flow.kept)) {
                let len = ((kept.end - kept.start) as usize).min(room - octets);
                *slice = IoSlice::new(&kept.buffer[kept.start as usize..][..len]);
                octets += len;
                count += 1;
                if octets == room {
                    break;
                }
            }
            let sent = match turn.sockets.send(id, &slices[..count]) {
                Ok(sent) => sent.min(octets),
                Err(_) => {
                    let ingress = flow.ingress;
                    self.freed(ingress, freed, turn.guests);
                    return self.salvage(turn, slot);
                }
            };
            flow.octets_out += sent as u64;
            flow.kept_octets -= sent as u32;
            taken += sent;
            room -= sent;
            let mut rest = sent;
            while let Some(kept) = self.kept.first(flow.kept) {
                let done = rest.min((kept.end - kept.start) as usize);
                kept.start += done as u32;
                rest -= done;
                if kept.start < kept.end {
                    break;
                }
                freed += kept.buffer.len();
                self.kept.pop(&mut flow.kept);
            }
            if sent < octets {
                is_full = true;
                break;
            }
        }
        turn.rates.out.take(taken, turn.now);
        let waited = turn.now.since(flow.kept_since);
        flow.window = next_window(flow.window, flow.most_window(), flow.kept.is_empty(), waited);
        if waited > LONG {
            flow.kept_since = turn.now;
        }
        let (ingress, is_empty) = (flow.ingress, flow.kept.is_empty());
        self.freed(ingress, freed, turn.guests);
        self.wake(ingress);
        if is_empty {
            self.finish(turn, slot);
        } else if !is_full {
            self.hold_write(turn, slot);
        }
        let left = self.left(self.flows[slot as usize].ingress, turn.guests);
        let flow = &self.flows[slot as usize];
        if flow.state != State::Open {
            return;
        }
        let grown = ahead(flow.rcv_nxt, flow.edge(left)) - told;
        if grown >= i32::from(flow.mss).min((flow.window / 2) as i32) {
            self.list(slot, flag::ACK);
        }
    }

    /// Shuts down the socket's half when the guest has, and everything is written.
    fn finish<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        let flow = &mut self.flows[slot as usize];
        if !flow.has(flag::GUEST_FIN) || flow.has(flag::GUEST_DONE) {
            return;
        }
        flow.set(flag::GUEST_DONE);
        flow.rcv_nxt = flow.rcv_nxt.wrapping_add(1);
        let id = self.id(slot);
        self.list(slot, flag::ACK);
        if self.flows[slot as usize].is_over() {
            return self.end(turn, slot);
        }
        turn.sockets.shutdown(id);
    }

    /// The socket takes no more. What it has to read still goes to the guest, as far as the guest takes it at once: the
    /// reason is often among it. Then comes the reset.
    fn salvage<S>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        self.forget_data(slot, turn.guests);
        self.list(slot, flag::BROKEN | flag::READABLE);
    }

    /// The socket failed: the guest is reset.
    pub(super) fn broken<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, slot: u32, _: Failure) {
        self.reset_guest(turn, slot);
        turn.sockets.close(self.id(slot), true);
        self.release(slot, turn.guests);
    }
}

/// The window after something that waited was written.
fn next_window(window: u32, most: u32, is_empty: bool, waited: Duration) -> u32 {
    if is_empty && waited < BRIEF {
        (window * 2).min(most)
    } else if waited > LONG {
        (window / 2).max(WINDOW)
    } else {
        window
    }
}

/// Copies octets behind those that are kept, as far as one buffer goes. Returns how many, and the octets of a buffer
/// that was taken for them. `None` without a buffer, or room.
fn keep(
    chains: &mut super::chains::Chains<Kept>,
    chain: &mut Chain,
    octets: &[u8],
    pool: &vmlan_frame::Pool,
    left: &mut usize,
) -> Option<(usize, usize)> {
    if let Some(last) = chains.last(*chain) {
        let room = (last.buffer.len() - last.end as usize).min(octets.len());
        if room > 0 {
            last.buffer[last.end as usize..][..room].copy_from_slice(&octets[..room]);
            last.end += room as u32;
            return Some((room, 0));
        }
    }
    let size = if octets.len() <= Size::Small.octets() { Size::Small } else { Size::Large };
    let cost = size.octets();
    *left = left.checked_sub(cost)?;
    let mut buffer = pool.take(size)?;
    let count = octets.len().min(buffer.len());
    buffer[..count].copy_from_slice(&octets[..count]);
    chains.push(chain, Kept { buffer, start: 0, end: count as u32 });
    Some((count, cost))
}
