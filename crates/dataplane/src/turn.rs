//! One port's turn: what it has is carried all the way to the ports that get it.

use std::cell::Cell;
use std::io;
use std::mem;

use vmlan_drivers::{Fault, Progress, Status, Waits};
use vmlan_frame::{Batch, Context, DropReason, Frame, Instant, SecondaryMap, Takes};
use vmlan_lan::Egress;
use vmlan_sys::Poller;

use crate::command::{Notice, PortKey};
use crate::port::{Attached, Out, Port};
use crate::ready::{Pending, ReadyQueue, Timed};
use crate::translate::Translator;
use crate::worker::{Worker, WorkerNetwork, now};

/// The most that the copies of one turn may weigh: the copies of a batch of plain frames to one port each, and half as
/// much again. These take about a tenth of a millisecond where every copy is a system call. A batch that makes more
/// copies, more segments or more octets ends its turn earlier. The frame that reaches the limit is forwarded whole.
const TURN: usize = 96 * Egress::COPY;

/// The most ports that get copies in one piece of a turn, about a tenth of a millisecond where each copy is a system
/// call. The other copies are put off until the other ports that are ready had a turn.
const PIECE: usize = 32;

/// How many copies there are in a piece. What goes to one port is not divided.
const COPIES: usize = Batch::LIMIT;

/// Consecutive error events, without data or fault, before the port is taken down.
const EMPTY_FAILURES: u32 = 16;

impl Worker {
    /// Gives a port its turn, for whatever it was listed for. False if it was a look that found nothing.
    pub(crate) fn give_turn(&mut self, key: PortKey, now: Instant) -> bool {
        let Some(port) = self.ports.get_mut(key) else { return true };
        let Pending { receive, room, more, look, transmit, failed, .. } = mem::take(&mut port.pending);
        if transmit {
            if let Some(attached) = &mut port.attached {
                numbers(room).for_each(|number| attached.queue.is_ready(number));
            }
            self.transmit_waiting(key, now);
        }
        let Some(port) = self.ports.get_mut(key) else { return true };
        if !port.held.is_empty() {
            // What it received before goes before what comes now.
            self.ready.list(port, |pending| {
                pending.receive |= receive;
                pending.more |= more;
                pending.look |= look;
                pending.failed |= failed;
            });
            mem::swap(&mut port.held, &mut self.batch);
            self.forward(key, now);
            return true;
        }
        if receive == 0 && !look || !port.attached.as_ref().is_some_and(Attached::is_open) {
            return true;
        }
        if receive == 0 {
            return self.receive(key, now, failed) || transmit;
        }
        // Descriptors that are ready take turns.
        let number = after(port.read_last, receive);
        port.read_last = number;
        let others = receive & !(1 << number);
        if others != 0 {
            self.ready.list(port, |pending| pending.receive |= others);
        }
        if let Some(attached) = &mut port.attached {
            attached.queue.is_ready(number.into());
        }
        self.receive(key, now, failed);
        true
    }

    /// Takes what a port has, once, and carries it all the way. False if a look at a queue found nothing.
    fn receive(&mut self, key: PortKey, now: Instant, failed: bool) -> bool {
        let cx = Context { worker: self.number, now, pool: &self.pool };
        let Some(port) = self.ports.get_mut(key) else { return true };
        let Some(attached) = &mut port.attached else { return true };
        let result = attached.queue.receive(&cx, &mut self.batch);
        attached.empty_failures =
            if failed && self.batch.is_empty() && result.is_ok() { attached.empty_failures + 1 } else { 0 };
        let stuck = attached.empty_failures >= EMPTY_FAILURES;
        let looks = match result {
            Ok(Progress::Polled { any }) => attached.poll(any, self.polling.empty_looks()),
            _ => false,
        };
        if let Some(deadline) = attached.queue.status().deadline {
            self.timed.note(port, deadline);
        }
        if matches!(result, Ok(Progress::Again)) {
            port.pending.more = true;
            self.ready.list_all(port);
        }
        if looks {
            self.ready.list(port, |pending| pending.look = true);
        }
        let any = !self.batch.is_empty() || !matches!(result, Ok(Progress::Polled { any: false }));
        if !self.batch.is_empty() {
            self.effort.batch(self.batch.len());
            port.link.input(&cx, &mut self.batch);
            self.forward(key, now);
        }
        match result {
            Ok(Progress::Done) if stuck => {
                let error = io::Error::other("the descriptor reports a failure and gives no reason");
                self.fault(key, Fault::Io(error));
            }
            Ok(_) => {}
            Err(fault) => self.fault(key, fault),
        }
        any
    }

    /// Forwards the batch, as far as a turn goes, and hands the copies to their ports. The rest is the port's next
    /// turn.
    fn forward(&mut self, key: PortKey, now: Instant) {
        self.found_any = true;
        let cx = Context { worker: self.number, now, pool: &self.pool };
        let Some(port) = self.ports.get_mut(key) else { return self.batch.clear() };
        let Some(network) = &mut self.networks[port.network] else { return self.batch.clear() };
        let WorkerNetwork { forwarder, egress, .. } = network;
        egress.allow(TURN);
        let (id, batch) = (port.id, &mut self.batch);
        if !forwarder.forward(&cx, id, batch, egress) {
            // The network has just removed the port, and the command to forget it is on its way.
            port.account.lose_all(&cx, batch, DropReason::NotAttached);
        }
        if let Some(due) = forwarder.due() {
            self.decision = Some(self.decision.map_or(due, |decision| decision.min(due)));
        }
        let left = forwarder.left();
        if !left.is_empty() {
            left.drain().for_each(|frame| port.held.push(frame));
            self.ready.list(port, |_| {});
        }
        let place = port.network;
        self.flush(place, now);
        self.batch.clear();
    }

    /// Hands the touched ports of a network what they got; when they are many, the first of them.
    pub(crate) fn flush(&mut self, place: usize, now: Instant) {
        let turn = self.hand.get();
        self.send(place, now, Egress::next_touched);
        let Some(network) = &mut self.networks[place] else { return };
        if !network.egress.is_empty() {
            network.egress.postpone();
            network.late_of = turn.unwrap_or(network.late_of);
            self.list_late(place);
        }
    }

    /// Hands a piece of what waits in a network to its ports, in the order of `next`.
    fn send(&mut self, place: usize, now: Instant, next: Next) {
        let cx = Context { worker: self.number, now, pool: &self.pool };
        let Some(network) = &mut self.networks[place] else { return };
        let mut ways = Ways {
            cx: &cx,
            translator: &mut self.translator,
            poller: &self.poller,
            ready: &mut self.ready,
            timed: &mut self.timed,
            notify: &*self.notify,
            hand: &self.hand,
        };
        send(network, &mut self.ports, &mut ways, next);
        let refused = self.pool.take_refused();
        if !refused.is_empty() {
            self.tell_refused(place, now, &refused);
        }
    }

    /// Tells the ports of a network which of the frames that they received a full queue has lost.
    #[cold]
    fn tell_refused(&mut self, place: usize, now: Instant, refused: &[Frame]) {
        let cx = Context { worker: self.number, now, pool: &self.pool };
        let Some(network) = &self.networks[place] else { return };
        for frames in refused.chunk_by(|one, other| one.meta.ingress == other.meta.ingress) {
            let ingress = usize::from(frames[0].meta.ingress);
            let port = network.ports.iter().find(|(id, _)| id.slot() + 1 == ingress);
            let Some(port) = port.and_then(|(_, key)| self.ports.get_mut(*key)) else { continue };
            let Some(attached) = &mut port.attached else { continue };
            attached.queue.refused(&cx, frames);
            if let Some(deadline) = attached.queue.status().deadline {
                self.timed.note(port, deadline);
            }
        }
    }

    /// Has the networks decide the claims that they held back until now.
    #[cold]
    pub(crate) fn decide(&mut self, now: Instant) {
        for place in 0..self.networks.len() {
            self.contained(PortKey::NOBODY, |worker| {
                let Some(network) = &mut worker.networks[place] else { return };
                let cx = Context { worker: worker.number, now, pool: &worker.pool };
                network.forwarder.decide(&cx, &mut network.egress);
                worker.flush(place, now);
            });
        }
        self.decision = self.networks.iter().flatten().filter_map(|network| network.forwarder.due()).min();
    }

    /// Sees to it that the copies of a network that were put off come to their turn.
    pub(crate) fn list_late(&mut self, place: usize) {
        let Some(network) = &mut self.networks[place] else { return };
        if network.egress.has_late() && !mem::replace(&mut network.is_listed, true) {
            self.ready.list_late(place);
        }
    }

    /// Hands the next piece of what was put off in a network to its ports. Answers whose turn it had been.
    pub(crate) fn serve_late(&mut self, place: usize, now: Instant) -> Option<PortKey> {
        let network = self.networks.get_mut(place)?.as_mut()?;
        network.is_listed = false;
        self.found_any = true;
        let of = network.late_of;
        self.contained(of, |worker| worker.send(place, now, Egress::next_late));
        // Also after a panic.
        self.list_late(place);
        Some(of)
    }

    /// Hands all that was put off to its ports.
    pub(crate) fn send_late(&mut self) {
        for place in 0..self.networks.len() {
            while self.networks[place].as_ref().is_some_and(|network| network.egress.has_late()) {
                self.serve_late(place, now());
            }
        }
    }

    /// Gives turns to the ports of which something was received and not forwarded, for as long as that is so, and until
    /// `end` at most.
    pub(crate) fn finish_turns(&mut self, end: Instant) {
        let mut keys: Vec<_> = self.ports.iter().map(|(key, _)| key).collect();
        while !keys.is_empty() && now() < end {
            keys.retain(|key| {
                let Some(port) = self.ports.get_mut(*key) else { return false };
                let more = port.pending.more;
                port.pending = Pending::default();
                (port.pending.receive, port.pending.more) = (u8::from(more), more);
                let goes_on = more || !port.held.is_empty();
                if goes_on {
                    self.serve(*key, now());
                }
                goes_on
            });
        }
    }

    /// Sends what waited for a port's medium.
    pub(crate) fn transmit_waiting(&mut self, key: PortKey, now: Instant) {
        self.found_any = true;
        let cx = Context { worker: self.number, now, pool: &self.pool };
        let Some(port) = self.ports.get_mut(key) else { return };
        let Some(attached) = &mut port.attached else { return };
        match attached.queue.transmit(&cx, &mut Batch::default()) {
            Ok(()) => self.set_room(key),
            Err(fault) => self.fault(key, fault),
        }
    }

    /// Tells the network how much a port takes, and watches for the moment when it takes more.
    pub(crate) fn set_room(&mut self, key: PortKey) {
        let Some(port) = self.ports.get_mut(key) else { return };
        let (place, id) = (port.network, port.id);
        let status = port.status();
        let room = port.room(status);
        let takes = port.attached.as_ref().map_or(Takes::NONE, |attached| attached.queue.takes());
        let result = settle(port, status, self.number, &self.poller, &mut self.ready, &mut self.timed);
        if let Some(network) = &mut self.networks[place] {
            network.egress.set_room(id, room);
            network.egress.set_waiting(id, status.waiting > 0);
            network.egress.set_takes(id, takes);
        }
        if let Err(error) = result {
            self.fault(key, Fault::Io(error));
        }
    }

    pub(crate) fn fault(&mut self, key: PortKey, fault: Fault) {
        if let Some(port) = self.ports.get_mut(key) {
            report(port, fault, self.number, &self.poller, &*self.notify);
        }
    }
}

/// The parts of a worker that sending needs.
struct Ways<'a> {
    cx: &'a Context<'a>,
    translator: &'a mut Translator,
    poller: &'a Poller,
    ready: &'a mut ReadyQueue,
    timed: &'a mut Timed,
    notify: &'a dyn Fn(Notice),
    hand: &'a Cell<Option<PortKey>>,
}

/// Takes the port of a network that is to be sent to next, and its frames.
type Next = for<'a> fn(&'a mut Egress) -> Option<(vmlan_lan::PortId, &'a mut Batch)>;

/// Hands ports of `network` what they got, as many as a piece has, in the order of `next`.
fn send(
    network: &mut WorkerNetwork,
    ports: &mut SecondaryMap<PortKey, Port>,
    ways: &mut Ways<'_>,
    next: Next,
) {
    let cx = ways.cx;
    let turn = ways.hand.get();
    let (mut sent, mut copies) = (0, 0);
    while sent < PIECE && copies < COPIES {
        let Some((id, batch)) = next(&mut network.egress) else { break };
        (sent, copies) = (sent + 1, copies + batch.len());
        let Some(port) = network.ports.get(id).and_then(|key| ports.get_mut(*key)) else {
            // Control added it to the network and the command is still on its way, or it has just been removed.
            batch.clear();
            continue;
        };
        ways.hand.set(Some(port.key));
        let queue = port.attached.as_mut().map(|attached| &mut attached.queue);
        let mut out = Out { cx, queue, translator: ways.translator, account: &port.account, fault: None };
        // The outcome of each frame has been counted; nobody upstream waits for a result.
        let _ = port.link.output(cx, batch, &mut out);
        let fault = out.fault;
        let status = port.status();
        let room = port.room(status);
        let fault = fault.or_else(|| {
            settle(port, status, cx.worker, ways.poller, ways.ready, ways.timed).err().map(Fault::Io)
        });
        network.egress.set_room(id, room);
        network.egress.set_waiting(id, status.waiting > 0);
        if let Some(fault) = fault {
            report(port, fault, cx.worker, ways.poller, ways.notify);
        }
    }
    ways.hand.set(turn);
}

/// Watches for what the port's queue waits for now.
fn settle(
    port: &mut Port,
    status: Status,
    worker: usize,
    poller: &Poller,
    ready: &mut ReadyQueue,
    timed: &mut Timed,
) -> io::Result<()> {
    let key = port.key;
    if port.attached.is_none() {
        return Ok(());
    }
    if status.retry {
        ready.list(port, |pending| pending.transmit = true);
    }
    // What a port was sent may make it have something to say later.
    if let Some(deadline) = status.deadline {
        timed.note(port, deadline);
    }
    port.link.counters().set_queued(worker, status.waiting as u64);
    match &mut port.attached {
        Some(attached) => attached.watch(poller, key, status.waits),
        None => Ok(()),
    }
}

fn report(port: &mut Port, fault: Fault, worker: usize, poller: &Poller, notify: &dyn Fn(Notice)) {
    if let Some(attachment) = port.detach(worker, poller) {
        notify(Notice::Fault { port: port.key, attachment, fault });
    }
}

/// The set bits.
fn numbers(bits: u8) -> impl Iterator<Item = usize> {
    (0..Waits::DESCRIPTORS).filter(move |number| bits >> number & 1 != 0)
}

/// The first set bit behind that with the number `last`, or else the first one; one is set.
#[inline]
fn after(last: u8, bits: u8) -> u8 {
    let behind = bits & (!1 << last);
    (if behind != 0 { behind } else { bits }).trailing_zeros() as u8
}
