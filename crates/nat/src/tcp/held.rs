//! Flows that the uplink's rate holds back.
//!
//! Theory of operation. A flow that finds the allowance of its direction used up is held, and no other goes before one
//! that is. When the allowance has grown, held flows go on: guests one after the other, and the flows of each one after
//! the other. To a guest, going on is a turn to read; from a guest, what is kept is written, and the window that it is
//! told opens with that. [`Tcp::deadline`] says when the allowance will have grown.

use std::collections::VecDeque;

use vmlan_frame::Instant;

use super::flow::{State, flag};
use super::{Sockets, Tcp, Turn};

/// Flows that go on in one call, in each direction: as many socket calls as a turn of the uplink has.
const MOST: usize = 64;

/// Flows that wait for the allowance of one direction.
#[derive(Default)]
pub(super) struct Held {
    /// By number of the port.
    lanes: Vec<VecDeque<u32>>,
    /// Ports with something in their lanes.
    ring: VecDeque<u16>,
    /// The time to look at the allowance.
    until: Option<Instant>,
}

impl Held {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until.filter(|_| !self.is_empty())
    }

    fn push(&mut self, ingress: u16, slot: u32) {
        let place = usize::from(ingress);
        if place >= self.lanes.len() {
            self.lanes.resize_with(place + 1, VecDeque::new);
        }
        if self.lanes[place].is_empty() {
            self.ring.push_back(ingress);
        }
        self.lanes[place].push_back(slot);
    }

    fn pop(&mut self) -> Option<u32> {
        let ingress = self.ring.pop_front()?;
        let lane = &mut self.lanes[usize::from(ingress)];
        let slot = lane.pop_front();
        if !lane.is_empty() {
            self.ring.push_back(ingress);
        }
        slot
    }

    pub(super) fn remove(&mut self, ingress: u16, slot: u32) {
        let Some(lane) = self.lanes.get_mut(usize::from(ingress)) else { return };
        if let Some(place) = lane.iter().position(|other| *other == slot) {
            lane.remove(place);
            if lane.is_empty() {
                self.ring.retain(|other| *other != ingress);
            }
        }
    }
}

impl Tcp {
    /// True if the flow may read from its socket now; else it is held until it is its turn.
    pub(super) fn may_read<S>(&mut self, turn: &mut Turn<'_, S>, slot: u32) -> bool {
        let flow = &mut self.flows[slot as usize];
        if flow.has(flag::HELD_READ) {
            return false;
        }
        let is_next = flow.has(flag::NEXT) || self.reads.is_empty();
        flow.clear(flag::NEXT);
        if is_next && turn.rates.inward.turn(turn.now) > 0 {
            return true;
        }
        flow.set(flag::HELD_READ);
        self.reads.push(flow.ingress, slot);
        self.reads.until = Some(turn.rates.inward.ready());
        false
    }

    /// Has the flow wait until it may write to its socket.
    pub(super) fn hold_write<S>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        let flow = &mut self.flows[slot as usize];
        if !flow.has(flag::HELD_WRITE) {
            flow.set(flag::HELD_WRITE);
            self.writes.push(flow.ingress, slot);
            self.writes.until = Some(turn.rates.out.ready());
        }
    }

    /// Gives the next held flow its turn to read, if the allowance has grown.
    #[inline]
    pub(super) fn release_read<S>(&mut self, turn: &mut Turn<'_, S>) {
        if self.reads.is_empty() {
            return;
        }
        if turn.rates.inward.turn(turn.now) > 0
            && let Some(slot) = self.reads.pop()
        {
            self.flows[slot as usize].clear(flag::HELD_READ);
            self.list(slot, flag::NEXT);
        }
        self.reads.until = Some(turn.rates.inward.ready());
    }

    /// Has held flows write, as far as the allowance goes.
    pub(super) fn release_writes<S: Sockets>(&mut self, turn: &mut Turn<'_, S>) {
        for _ in 0..MOST {
            if self.writes.is_empty() || turn.rates.out.turn(turn.now) == 0 {
                break;
            }
            let Some(slot) = self.writes.pop() else { break };
            let flow = &mut self.flows[slot as usize];
            flow.clear(flag::HELD_WRITE);
            if flow.state == State::Open {
                self.write_now(turn, slot);
            }
        }
        self.writes.until = Some(turn.rates.out.ready());
    }
}
