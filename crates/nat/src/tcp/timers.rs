//! What time alone brings.

use std::time::Duration;

use vmlan_frame::Instant;

use super::flow::{State, Wait, flag};
use super::{FlowId, Sockets, Tcp, Turn};

/// Repetitions of one segment, about a quarter of an hour.
const TRIES: u8 = 15;

/// The wait for a window, and for a better part of one, at first.
const SHORT: Duration = Duration::from_millis(200);
/// The longest wait for a window.
const LONG: Duration = Duration::from_secs(60);

/// A guest of which nothing was heard for so long is asked whether it is there.
const IDLE: Duration = Duration::from_secs(600);
/// Between two such questions, and how many there are.
const BETWEEN: Duration = Duration::from_secs(75);
const QUESTIONS: u8 = 10;

/// A flow that is over is remembered for so long.
const MEMORY: Duration = Duration::from_secs(2);

impl Tcp {
    pub(super) fn wait_until(&mut self, slot: u32, wait: Wait, at: Instant) {
        self.flows[slot as usize].wait = wait;
        self.wheel.set(slot, at);
    }

    /// Sets the timer of an established flow to what it waits for now.
    pub(super) fn rearm(&mut self, slot: u32, now: Instant) {
        let flow = &self.flows[slot as usize];
        if flow.state != State::Open {
            return;
        }
        let is_blocked =
            flow.repeats() || flow.has(flag::READABLE) && !flow.has(flag::LISTED | flag::HOST_END);
        let (wait, after) = if flow.room() == 0 && is_blocked && flow.snd_wnd == 0 {
            (Wait::Probe, (SHORT * (1 << flow.tries.min(10))).min(LONG))
        } else if flow.in_flight() > 0 {
            (Wait::Repeat, flow.repeat_after())
        } else if is_blocked {
            (Wait::Silly, SHORT)
        } else if flow.tries == 0 {
            (Wait::KeepAlive, IDLE)
        } else {
            (Wait::KeepAlive, BETWEEN)
        };
        // One that runs for the same is not begun anew by what changes nothing.
        if wait == flow.wait && matches!(wait, Wait::Silly) {
            return;
        }
        self.wait_until(slot, wait, now + after);
    }

    pub(super) fn run_timers<S: Sockets>(&mut self, turn: &mut Turn<'_, S>) {
        while let Some(slot) = self.wheel.due(turn.now) {
            let flow = &mut self.flows[slot as usize];
            let wait = std::mem::replace(&mut flow.wait, Wait::Nothing);
            match wait {
                Wait::Nothing => {}
                Wait::Connect => {
                    let since = turn.now.since(flow.heard);
                    if since >= BETWEEN {
                        self.abort(turn, slot, true);
                    } else {
                        let at = flow.heard + BETWEEN;
                        self.wait_until(slot, Wait::Connect, at);
                    }
                }
                Wait::Handshake => self.shake(turn, slot),
                Wait::Repeat if flow.tries >= TRIES => self.abort(turn, slot, false),
                Wait::Repeat => {
                    flow.tries += 1;
                    self.statistics.timeouts += 1;
                    self.go_back(turn, slot);
                    self.rearm(slot, turn.now);
                }
                Wait::Probe => {
                    flow.tries = flow.tries.saturating_add(1);
                    self.probe(turn, slot);
                    self.rearm(slot, turn.now);
                }
                Wait::Silly => {
                    flow.set(flag::FORCE);
                    self.list(slot, 0);
                }
                Wait::KeepAlive if flow.tries >= QUESTIONS => self.abort(turn, slot, false),
                Wait::KeepAlive => {
                    flow.tries += 1;
                    self.probe(turn, slot);
                    self.rearm(slot, turn.now);
                }
                Wait::Forget => self.release(slot, turn.guests),
            }
        }
    }

    /// Both directions have ended.
    pub(super) fn end<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, slot: u32) {
        // The guest's own FIN may be the last word, and be waiting for an answer.
        if self.flows[slot as usize].has(flag::ACK) {
            self.acknowledge(turn, slot);
        }
        turn.sockets.close(self.id(slot), false);
        self.let_go(slot, turn.guests);
        self.flows[slot as usize].state = State::Gone;
        self.wait_until(slot, Wait::Forget, turn.now + MEMORY);
    }

    /// Ends a flow in both directions at once; the guest is told unless it was `the_guest` that ended it.
    pub(super) fn abort<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, slot: u32, the_guest: bool) {
        if !the_guest {
            self.reset_guest(turn, slot);
        }
        turn.sockets.close(self.id(slot), true);
        self.release(slot, turn.guests);
    }

    /// Ends a flow at once, on both sides.
    pub fn close<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, id: FlowId) -> bool {
        let Some(slot) = self.slot_of(id) else { return false };
        match self.flows[slot as usize].state {
            State::Gone => self.release(slot, turn.guests),
            State::Open | State::Accepting => self.abort(turn, slot, false),
            _ => self.abort(turn, slot, true),
        }
        true
    }

    /// Ends the flows for which `wanted` holds, at once and on both sides.
    pub fn close_where<S: Sockets>(
        &mut self,
        turn: &mut Turn<'_, S>,
        mut wanted: impl FnMut(&super::FlowReport) -> bool,
    ) -> usize {
        let ids: Vec<_> = self.reports().filter(|report| wanted(report)).map(|report| report.id).collect();
        ids.into_iter().filter(|id| self.close(turn, *id)).count()
    }

    /// Asks the guest behind each of a port's flows whether it knows of the flow: one that was started anew does not, and
    /// says so.
    pub fn question<S>(&mut self, turn: &mut Turn<'_, S>, ingress: u16) {
        /// Flows that are asked about at once.
        const MOST: usize = 256;
        let asked: Vec<u32> = (0..self.flows.len() as u32)
            .filter(|slot| {
                let flow = &self.flows[*slot as usize];
                flow.state == State::Open && flow.ingress == ingress
            })
            .take(MOST)
            .collect();
        for slot in asked {
            self.probe(turn, slot);
        }
    }
}
