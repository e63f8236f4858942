//! Turns: guests one after the other, and the flows of each one after the other.
//!
//! Theory of operation. A flow that may have something for its guest is listed in its guest's lane, and lanes with
//! listed flows go round in a ring, so a guest with a thousand flows has as many turns as one with a single flow. A
//! flow that finds its guest's budget used up is starved: it is listed again when something of the guest is
//! acknowledged, one flow at a time, and each that had its turn wakes the next for as long as there is budget. A flow
//! that is to wait for a moment only is paused. The lane of a guest that is away keeps its flows and is not in the
//! ring.

use std::collections::VecDeque;
use std::time::Duration;

use vmlan_frame::Instant;

use super::flow::{State, Wait, flag};
use super::{Sockets, Tcp, Turn};

/// The time of a pause.
const PAUSE: Duration = Duration::from_micros(200);

/// The flows of a guest that is away for longer end.
const PATIENCE: Duration = Duration::from_secs(120);

/// Flows that are asked about in one call, and those that are looked at for it.
const QUESTIONS: usize = 64;
const LOOKS: usize = 1024;

/// The flows of one guest that wait.
#[derive(Default)]
struct Lane {
    listed: VecDeque<u32>,
    starved: VecDeque<u32>,
    is_in_ring: bool,
    is_away: bool,
}

/// Everything that waits for a turn.
#[derive(Default)]
pub(super) struct Turns {
    /// By number of the port.
    lanes: Vec<Lane>,
    ring: VecDeque<u16>,
    /// Flows that wait for a moment, in the order of time.
    paused: VecDeque<(Instant, u32)>,
    /// Guests that are asked about their flows, and the slot that is next.
    asked: VecDeque<(u16, u32)>,
    /// Guests that are away, and until when their flows stay; in the order of time.
    away: Vec<(Instant, u16)>,
}

impl Turns {
    fn lane(&mut self, ingress: u16) -> &mut Lane {
        let place = usize::from(ingress);
        if place >= self.lanes.len() {
            self.lanes.resize_with(place + 1, Lane::default);
        }
        &mut self.lanes[place]
    }

    /// Puts the lane into the ring if it has something, and its guest is there.
    fn enter(&mut self, ingress: u16) {
        let lane = self.lane(ingress);
        if !lane.is_in_ring && !lane.is_away && !lane.listed.is_empty() {
            lane.is_in_ring = true;
            self.ring.push_back(ingress);
        }
    }

    /// The flow whose turn it is.
    fn next(&mut self) -> Option<u32> {
        loop {
            let ingress = self.ring.pop_front()?;
            let lane = self.lane(ingress);
            lane.is_in_ring = false;
            let next = if lane.is_away { None } else { lane.listed.pop_front() };
            self.enter(ingress);
            if next.is_some() {
                return next;
            }
        }
    }

    pub(super) fn has_next(&self) -> bool {
        !self.ring.is_empty()
    }

    pub(super) fn asks(&self) -> bool {
        !self.asked.is_empty()
    }

    pub(super) fn is_away(&self, ingress: u16) -> bool {
        self.lanes.get(usize::from(ingress)).is_some_and(|lane| lane.is_away)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let paused = self.paused.front().map(|(at, _)| *at);
        [paused, self.away.first().map(|(at, _)| *at)].into_iter().flatten().min()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let is_bare = |lane: &Lane| lane.listed.is_empty() && lane.starved.is_empty();
        self.lanes.iter().all(is_bare) && self.paused.is_empty() && self.asked.is_empty()
    }
}

impl Tcp {
    /// Gives the flow a turn later.
    pub(super) fn list(&mut self, slot: u32, flags: u32) {
        let flow = &mut self.flows[slot as usize];
        flow.set(flags);
        if !flow.has(flag::LISTED) {
            flow.set(flag::LISTED);
            let ingress = flow.ingress;
            self.turns.lane(ingress).listed.push_back(slot);
            self.turns.enter(ingress);
        }
    }

    /// Has the flow wait until others of its guest are acknowledged.
    pub(super) fn starve(&mut self, slot: u32) {
        let flow = &mut self.flows[slot as usize];
        if !flow.has(flag::STARVED) {
            flow.set(flag::STARVED);
            self.turns.lane(flow.ingress).starved.push_back(slot);
        }
    }

    /// Lists a flow that waits for the guest's budget.
    pub(super) fn wake(&mut self, ingress: u16) {
        if let Some(slot) = self.turns.lane(ingress).starved.pop_front() {
            self.flows[slot as usize].clear(flag::STARVED);
            self.list(slot, 0);
        }
    }

    /// Has the flow wait for a moment.
    pub(super) fn pause(&mut self, slot: u32, now: Instant) {
        let flow = &mut self.flows[slot as usize];
        if !flow.has(flag::PAUSED) {
            flow.set(flag::PAUSED);
            self.turns.paused.push_back((now + PAUSE, slot));
        }
    }

    /// Takes the flow out of the lists of its guest.
    pub(super) fn unlist(&mut self, slot: u32) {
        let flow = &mut self.flows[slot as usize];
        let lane = self.turns.lane(flow.ingress);
        for (list, flag) in [(&mut lane.listed, flag::LISTED), (&mut lane.starved, flag::STARVED)] {
            if flow.has(flag)
                && let Some(place) = list.iter().position(|other| *other == slot)
            {
                list.remove(place);
            }
        }
        if flow.has(flag::HELD_READ) {
            self.reads.remove(flow.ingress, slot);
        }
        if flow.has(flag::HELD_WRITE) {
            self.writes.remove(flow.ingress, slot);
        }
        flow.clear(flag::LISTED | flag::STARVED | flag::HELD_READ | flag::HELD_WRITE | flag::NEXT);
    }

    /// Gives flows turns, until `room` frames are made or nothing is left to do. Time is what [`Turn::now`] says.
    pub fn poll<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, room: usize) {
        self.flush(turn);
        self.run_timers(turn);
        self.end_pauses(turn.now);
        self.end_away(turn);
        self.ask(turn);
        self.connect(turn);
        self.starved = None;
        self.release_writes(turn);
        self.release_read(turn);
        while turn.out.len() < room && self.starved.is_none() {
            let Some(slot) = self.turns.next() else { return };
            let flow = &mut self.flows[slot as usize];
            flow.clear(flag::LISTED);
            if flow.state == State::Open {
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
        if flow.has(flag::ACK) || flow.gaps > 0 {
            self.acknowledge(turn, slot);
        }
        if more {
            self.list(slot, 0);
        }
        self.release_read(turn);
        self.rearm(slot, turn.now, false);
        let flow = &self.flows[slot as usize];
        if !flow.has(flag::STARVED) {
            let guest = turn.guests.of(flow.ingress);
            if guest.budget > guest.in_flight {
                self.wake(flow.ingress);
            }
        }
    }

    fn end_pauses(&mut self, now: Instant) {
        while let Some((_, slot)) = self.turns.paused.pop_front_if(|(at, _)| *at <= now) {
            let flow = &mut self.flows[slot as usize];
            flow.clear(flag::PAUSED | flag::SHORT);
            if flow.state == State::Open {
                self.list(slot, 0);
            }
        }
    }

    /// Asks the guest behind each of a port's flows whether it knows of the flow: one that was started anew does not,
    /// and says so. At most once a second.
    pub fn question<S>(&mut self, turn: &mut Turn<'_, S>, ingress: u16) {
        let account = turn.guests.of(ingress);
        if account.flows > 0
            && !self.turns.asked.iter().any(|(other, _)| *other == ingress)
            && account.questions.take(1, turn.now)
        {
            self.turns.asked.push_back((ingress, 0));
        }
    }

    /// Goes on with what [`Tcp::question`] began: many flows are not asked about at once.
    fn ask<S>(&mut self, turn: &mut Turn<'_, S>) {
        let (mut questions, mut looks) = (0, 0);
        while let Some((ingress, slot)) = self.turns.asked.front_mut() {
            let ingress = *ingress;
            if questions == QUESTIONS || looks == LOOKS {
                return;
            }
            let number = *slot;
            *slot += 1;
            looks += 1;
            match self.flows.get(number as usize) {
                None => drop(self.turns.asked.pop_front()),
                Some(flow) if flow.state == State::Open && flow.ingress == ingress => {
                    self.probe(turn, number);
                    questions += 1;
                }
                Some(_) => {}
            }
        }
    }

    /// The port of a guest is not connected: nothing is sent and no time counts until [`Tcp::port_back`], but after two
    /// minutes the flows end.
    pub fn port_away(&mut self, ingress: u16, now: Instant) {
        let lane = self.turns.lane(ingress);
        if !lane.is_away {
            lane.is_away = true;
            self.turns.away.push((now + PATIENCE, ingress));
        }
    }

    /// The port of a guest is connected again. What was on the way is sent again, and the guest is asked about all
    /// flows, since it may be another or have been started anew.
    pub fn port_back<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, ingress: u16) {
        let lane = self.turns.lane(ingress);
        if !lane.is_away {
            return;
        }
        lane.is_away = false;
        self.turns.away.retain(|(_, other)| *other != ingress);
        self.turns.enter(ingress);
        for slot in 0..self.flows.len() as u32 {
            let flow = &mut self.flows[slot as usize];
            if flow.ingress != ingress {
                continue;
            }
            match flow.state {
                State::Open => {
                    (flow.wait, flow.tries, flow.questions) = (Wait::Nothing, 0, 0);
                    if flow.in_flight() > 0 {
                        self.step_back(slot, None, turn.guests);
                    }
                    self.list(slot, 0);
                    self.rearm(slot, turn.now, true);
                }
                State::Accepting | State::Calling => self.wait_until(slot, Wait::Handshake, turn.now),
                State::Free | State::Queued | State::Connecting | State::Gone => {}
            }
        }
        self.question(turn, ingress);
    }

    /// Ends the flows of guests that were away for too long.
    fn end_away<S: Sockets>(&mut self, turn: &mut Turn<'_, S>) {
        while let Some((_, ingress)) = self.turns.away.first().copied().filter(|(at, _)| *at <= turn.now) {
            self.turns.away.remove(0);
            self.close_where(turn, |flow| flow.ingress == ingress);
        }
    }
}
