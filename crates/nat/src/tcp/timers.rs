//! Timers of flows.

use std::time::Duration;

use vmlan_frame::Instant;

use super::flow::{State, Wait, flag};
use super::{Failure, FlowId, Sockets, Tcp, Turn};

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

/// A guest that repeats its SYN no more has given up after so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(75);

/// A guest whose window is closed and that answers nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(900);

/// A flow that is over is remembered for so long.
const MEMORY: Duration = Duration::from_secs(2);

impl Tcp {
    pub(super) fn wait_until(&mut self, slot: u32, wait: Wait, at: Instant) {
        self.flows[slot as usize].wait = wait;
        self.wheel.set(slot, at);
    }

    /// Sets the timer of an established flow to what it waits for now. One that waits for the same already is begun
    /// anew only where there is `news`, that is, something was acknowledged (RFC 6298 section 5.3): else a guest that
    /// sends all the time would put it off for ever.
    pub(super) fn rearm(&mut self, slot: u32, now: Instant, news: bool) {
        let flow = &mut self.flows[slot as usize];
        if flow.state != State::Open {
            return;
        }
        let is_blocked = flow.is_blocked();
        let (wait, after) = if flow.room() == 0 && is_blocked && flow.snd_wnd == 0 {
            (Wait::Probe, (SHORT * (1 << flow.tries.min(10))).min(LONG))
        } else if flow.in_flight() > 0 {
            (Wait::Repeat, flow.repeat_after())
        } else if is_blocked {
            (Wait::Silly, SHORT)
        } else {
            (Wait::KeepAlive, IDLE)
        };
        if wait == flow.wait && !(news && wait == Wait::Repeat) {
            return;
        }
        self.wait_until(slot, wait, now + after);
    }

    pub(super) fn run_timers<S: Sockets>(&mut self, turn: &mut Turn<'_, S>) {
        while let Some(slot) = self.wheel.due(turn.now) {
            let flow = &mut self.flows[slot as usize];
            let wait = std::mem::replace(&mut flow.wait, Wait::Nothing);
            let is_for_guest = !matches!(wait, Wait::Nothing | Wait::Connect | Wait::Forget);
            if is_for_guest && self.turns.is_away(flow.ingress) {
                // No time counts, until the port is back or the flow ends.
                self.wait_until(slot, wait, turn.now + LONG);
                continue;
            }
            match wait {
                Wait::Nothing => {}
                Wait::Connect => {
                    let since = turn.now.since(flow.heard);
                    if since >= PATIENCE {
                        self.abort(turn, slot, true);
                    } else {
                        let at = flow.heard + PATIENCE;
                        self.wait_until(slot, Wait::Connect, at);
                    }
                }
                Wait::Handshake => self.shake(turn, slot),
                Wait::Repeat if flow.tries >= TRIES => self.abort(turn, slot, false),
                Wait::Repeat => {
                    flow.tries += 1;
                    self.statistics.timeouts += 1;
                    self.go_back(turn, slot);
                    self.rearm(slot, turn.now, false);
                }
                Wait::Probe if turn.now.since(flow.heard) >= SILENCE => self.abort(turn, slot, false),
                Wait::Probe => {
                    flow.tries = flow.tries.saturating_add(1);
                    self.probe(turn, slot);
                    self.rearm(slot, turn.now, false);
                }
                Wait::Silly => {
                    flow.set(flag::FORCE);
                    self.list(slot, 0);
                }
                Wait::KeepAlive if flow.questions >= QUESTIONS => self.abort(turn, slot, false),
                Wait::KeepAlive if flow.questions == 0 && turn.now.since(flow.heard) < IDLE => {
                    // It was heard meanwhile, for which the timer was not touched.
                    let at = flow.heard + IDLE;
                    self.wait_until(slot, Wait::KeepAlive, at);
                }
                Wait::KeepAlive => {
                    flow.questions += 1;
                    self.probe(turn, slot);
                    self.wait_until(slot, Wait::KeepAlive, turn.now + BETWEEN);
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
        self.unlist(slot);
        self.let_go(slot, turn.guests);
        self.flows[slot as usize].state = State::Gone;
        self.wait_until(slot, Wait::Forget, turn.now + MEMORY);
    }

    /// Ends a flow in both directions at once; the guest is told unless it was `the_guest` that ended it.
    pub(super) fn abort<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, slot: u32, the_guest: bool) {
        if !the_guest {
            self.reset_guest(turn, slot);
        }
        if self.flows[slot as usize].state != State::Queued {
            turn.sockets.close(self.id(slot), true);
        }
        self.release(slot, turn.guests);
    }

    /// Ends a flow at once, on both sides.
    pub fn close<S: Sockets>(&mut self, turn: &mut Turn<'_, S>, id: FlowId) -> bool {
        let Some(slot) = self.slot_of(id) else { return false };
        match self.flows[slot as usize].state {
            State::Gone => self.release(slot, turn.guests),
            State::Open | State::Accepting => self.abort(turn, slot, false),
            State::Queued | State::Connecting => self.refuse(turn, slot, Failure::Refused),
            State::Calling | State::Free => self.abort(turn, slot, true),
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
}
