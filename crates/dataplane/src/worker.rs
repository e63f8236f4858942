//! A worker's event loop.
//!
//! Theory of operation. The loop waits for readiness, gives each ready port one turn, and waits again. A turn takes
//! at most one batch of a packet medium or one read of a stream, so no port keeps the others from theirs for long.
//! After work the loop looks again without sleeping a few times before it sleeps ([`LOOKS`]): under load it polls,
//! idle it costs nothing. Told to be busy ([`Polling`]) it never sleeps, and while it has few ports it does not even ask
//! which of them are ready: it gives each a turn, for asking costs as much as looking. Commands are taken when the waker is ready, between two turns.
//!
//! A fault takes the attachment off its port at once, so that a dead descriptor cannot keep the loop busy, and control
//! is told; the port itself stays until control removes it.

use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use drivers::{Fault, Progress, Status};
use frame::{Batch, DropReason, Instant, Pool, PoolSizes};
use lan::{Egress, Forwarder, Network};
use link::Context;
use sys::{Interest, Poller, Ready, Waker};

use crate::command::{Command, Notice, Polling, PortKey, PortSetup};
use crate::port::{Attached, Out, Port};
use crate::translate::Translator;

/// How often the loop looks for more work without sleeping, after it had some.
const LOOKS: u32 = 16;

/// To how many ports a busy worker gives turns unasked.
const FEW_PORTS: usize = 8;

/// How many rounds of such turns lie between two looks at readiness, which tells commands and room for writing.
const ROUNDS: u32 = 16;

/// How often in a row a descriptor may report a failure that nothing comes of.
const EMPTY_FAILURES: u32 = 16;

/// The waker's token; no port's generation and slot reach it together.
const WAKER: u64 = u64::MAX;

pub(crate) struct Worker {
    number: usize,
    pool: Pool,
    poller: Poller,
    waker: Arc<Waker>,
    commands: mpsc::Receiver<Command>,
    notify: Arc<dyn Fn(Notice) + Send + Sync>,
    ports: Vec<Option<Port>>,
    networks: Vec<Option<WorkerNetwork>>,
    batch: Batch,
    translator: Translator,
    /// Ports that wait for another worker.
    retries: Vec<PortKey>,
    /// Ports that have a deadline.
    timed: Vec<PortKey>,
    polling: Polling,
    stopping: Option<Duration>,
}

/// A network as one worker sees it, for as long as it has ports.
struct WorkerNetwork {
    network: Arc<Network>,
    forwarder: Forwarder,
    egress: Egress,
    /// The slots of its ports here, by their slots there.
    ports: Vec<Option<usize>>,
    count: usize,
}

impl Worker {
    /// A poller that watches `waker`.
    pub(crate) fn poller(waker: &Waker) -> io::Result<Poller> {
        let poller = Poller::new()?;
        poller.add(waker, WAKER, Interest { read: true, write: false })?;
        Ok(poller)
    }

    pub(crate) fn new(
        number: usize,
        sizes: PoolSizes,
        poller: Poller,
        waker: Arc<Waker>,
        commands: mpsc::Receiver<Command>,
        notify: Arc<dyn Fn(Notice) + Send + Sync>,
    ) -> Worker {
        Worker {
            number,
            pool: Pool::new(sizes),
            poller,
            waker,
            commands,
            notify,
            ports: Vec::new(),
            networks: Vec::new(),
            batch: Batch::new(),
            translator: Translator::default(),
            retries: Vec::new(),
            timed: Vec::new(),
            polling: Polling::default(),
            stopping: None,
        }
    }

    pub(crate) fn run(mut self) {
        let mut ready = Vec::new();
        let mut looks: u32 = 0;
        while self.stopping.is_none() {
            let awake = looks > 0 || self.polling == Polling::Busy;
            let timeout = if awake { Some(Duration::ZERO) } else { self.timeout(now()) };
            self.poller.wait(&mut ready, timeout).expect("the poller is ours");
            looks = match self.polling {
                Polling::Sleep => 0,
                _ if ready.is_empty() => looks.saturating_sub(1),
                _ => LOOKS,
            };
            let now = now();
            for event in &ready {
                self.handle(*event, now);
            }
            self.retry(now);
            self.check_deadlines(now);
            if self.polling == Polling::Busy {
                self.give_turns();
            }
        }
        self.drain();
    }

    /// Gives every port some turns without asking whether it is ready, when they are few.
    fn give_turns(&mut self) {
        let receives = |port: &&Port| port.attached.as_ref().is_some_and(Attached::receives);
        let mut few = [None; FEW_PORTS];
        for (i, port) in self.ports.iter().flatten().filter(receives).enumerate() {
            let Some(place) = few.get_mut(i) else { return };
            *place = Some(port.key);
        }
        for _ in 0..ROUNDS {
            for key in few.iter().flatten() {
                self.turn(*key, now(), false);
            }
        }
    }

    fn handle(&mut self, event: Ready, now: Instant) {
        if event.token == WAKER {
            self.waker.clear();
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
            return;
        }
        let (key, second) = PortKey::from_token(event.token);
        if event.write {
            self.transmit_waiting(key, now);
        }
        if event.read {
            if let Some(attached) = port_of(&mut self.ports, key).and_then(|port| port.attached.as_mut()) {
                attached.queue.is_ready(second);
            }
            self.turn(key, now, event.failed);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::AddPort { key, setup } => self.add_port(key, setup),
            Command::Connect { key, attachment, endpoint, receives, .. } => {
                let Some(port) = port_of(&mut self.ports, key) else { return };
                port.detach(self.number, &self.poller);
                match port.attach(self.number, attachment, &*endpoint, receives, &self.poller) {
                    Ok(()) => self.set_room(key),
                    Err(error) => {
                        (self.notify)(Notice::Fault { port: key, attachment, fault: Fault::Io(error) });
                    }
                }
            }
            Command::Disconnect { key, .. } => {
                if let Some(port) = port_of(&mut self.ports, key) {
                    port.detach(self.number, &self.poller);
                }
            }
            Command::RemovePort { key, .. } => self.remove_port(key),
            Command::SetPolling { polling } => self.polling = polling,
            Command::Stop { patience } => self.stopping = Some(patience),
        }
    }

    fn add_port(&mut self, key: PortKey, setup: PortSetup) {
        let network = self.network(&setup);
        let slot = key.slot as usize;
        if self.ports.len() <= slot {
            self.ports.resize_with(slot + 1, || None);
        }
        if let Some(network) = &mut self.networks[network] {
            let id = setup.id.slot();
            if network.ports.len() <= id {
                network.ports.resize(id + 1, None);
            }
            network.ports[id] = Some(slot);
            network.count += 1;
        }
        self.ports[slot] = Some(Port::new(key, network, setup));
    }

    /// Where the port's network is, which is made when this is its first port.
    fn network(&mut self, setup: &PortSetup) -> usize {
        let is_it = |entry: &Option<WorkerNetwork>| {
            entry.as_ref().is_some_and(|entry| Arc::ptr_eq(&entry.network, &setup.network))
        };
        if let Some(found) = self.networks.iter().position(is_it) {
            return found;
        }
        let place = self.networks.iter().position(Option::is_none).unwrap_or_else(|| {
            self.networks.push(None);
            self.networks.len() - 1
        });
        self.networks[place] = Some(WorkerNetwork {
            network: setup.network.clone(),
            forwarder: Forwarder::new(setup.network.clone()),
            egress: Egress::new(setup.backlog).keeping_refused(),
            ports: Vec::new(),
            count: 0,
        });
        place
    }

    fn remove_port(&mut self, key: PortKey) {
        let Some(port) = port_of(&mut self.ports, key) else { return };
        port.detach(self.number, &self.poller);
        let (place, id) = (port.network, port.id);
        self.ports[key.slot as usize] = None;
        if let Some(network) = &mut self.networks[place] {
            network.ports[id.slot()] = None;
            network.count -= 1;
            if network.count == 0 {
                self.networks[place] = None;
            }
        }
    }

    /// Takes what a port has, once, and carries it all the way.
    fn turn(&mut self, key: PortKey, now: Instant, failed: bool) {
        let cx = Context { worker: self.number, now, pool: &self.pool };
        loop {
            let Some(port) = port_of(&mut self.ports, key) else { return };
            let Some(attached) = &mut port.attached else { return };
            let result = attached.queue.receive(&cx, &mut self.batch);
            attached.empty_failures = if failed && self.batch.is_empty() && result.is_ok() {
                attached.empty_failures + 1
            } else {
                0
            };
            let stuck = attached.empty_failures >= EMPTY_FAILURES;
            let deadline = attached.queue.status().deadline;
            if deadline.is_some() && !self.timed.contains(&key) {
                self.timed.push(key);
            }
            let place = port.network;
            port.link.input(&cx, &mut self.batch);
            if let Some(network) = &mut self.networks[place] {
                let WorkerNetwork { forwarder, egress, .. } = network;
                let (id, batch) = (port.id, &mut self.batch);
                let left = match port.link.taps() {
                    None => forwarder.forward(cx.worker, id, batch, now, egress),
                    Some(taps) => {
                        let mut watch = |frame: &_, reason| taps.dropped(&cx, frame, reason);
                        forwarder.forward_watched(cx.worker, id, batch, now, egress, &mut watch)
                    }
                };
                // The network has just removed the port, and the command to forget it is on its way.
                port.link.counters().dropped(cx.worker, DropReason::NotAttached, left as u64);
                let poller = &self.poller;
                let mut ways = Ways {
                    cx: &cx,
                    translator: &mut self.translator,
                    poller,
                    retries: &mut self.retries,
                    timed: &mut self.timed,
                    notify: &*self.notify,
                };
                flush(network, &mut self.ports, &mut ways);
            }
            self.batch.clear();
            match result {
                Ok(Progress::Again) => {}
                Ok(Progress::Done) if stuck => {
                    let error = io::Error::other("the descriptor reports a failure and gives no reason");
                    return self.fault(key, Fault::Io(error));
                }
                Ok(Progress::Done) => return,
                Err(fault) => return self.fault(key, fault),
            }
        }
    }

    /// Sends what waited for a port's medium.
    fn transmit_waiting(&mut self, key: PortKey, now: Instant) {
        let cx = Context { worker: self.number, now, pool: &self.pool };
        let Some(port) = port_of(&mut self.ports, key) else { return };
        let Some(attached) = &mut port.attached else { return };
        match attached.queue.transmit(&cx, &mut Batch::default()) {
            Ok(()) => self.set_room(key),
            Err(fault) => self.fault(key, fault),
        }
    }

    /// Tells the network how much a port takes, and watches for the moment when it takes more.
    fn set_room(&mut self, key: PortKey) {
        let Some(port) = port_of(&mut self.ports, key) else { return };
        let (place, id) = (port.network, port.id);
        let status = port.status();
        let room = port.room(status);
        let result = settle(port, status, self.number, &self.poller, &mut self.retries, &mut self.timed);
        if let Some(network) = &mut self.networks[place] {
            network.egress.set_room(id, room);
        }
        if let Err(error) = result {
            self.fault(key, Fault::Io(error));
        }
    }

    fn fault(&mut self, key: PortKey, fault: Fault) {
        if let Some(port) = port_of(&mut self.ports, key) {
            report(port, fault, self.number, &self.poller, &*self.notify);
        }
    }

    fn retry(&mut self, now: Instant) {
        for key in std::mem::take(&mut self.retries) {
            self.transmit_waiting(key, now);
        }
    }

    fn check_deadlines(&mut self, now: Instant) {
        let mut i = 0;
        while i < self.timed.len() {
            let key = self.timed[i];
            match deadline_of(&mut self.ports, key) {
                None => {
                    self.timed.swap_remove(i);
                }
                Some(deadline) => {
                    if deadline < now {
                        self.turn(key, now, false);
                    }
                    i += 1;
                }
            }
        }
    }

    /// How long the loop may sleep.
    fn timeout(&mut self, now: Instant) -> Option<Duration> {
        if !self.retries.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadlines = self.timed.iter().filter_map(|key| deadline_of(&mut self.ports, *key));
        // A nanosecond more, so that the deadline has passed when the loop wakes.
        deadlines.min().map(|deadline| deadline.since(now) + Duration::from_nanos(1))
    }

    /// Sends what waits, for as long as control has patience, and receives nothing more.
    fn drain(&mut self) {
        let end = now() + self.stopping.unwrap_or_default();
        let mut ready = Vec::new();
        for attached in self.ports.iter_mut().flatten().filter_map(|port| port.attached.as_mut()) {
            attached.stop_receiving();
        }
        loop {
            for key in self.waiting() {
                self.transmit_waiting(key, now());
            }
            let left = end.since(now());
            if left.is_zero() || self.waiting().is_empty() {
                return;
            }
            let left = if self.retries.is_empty() { left } else { Duration::ZERO };
            self.retries.clear();
            self.poller.wait(&mut ready, Some(left)).expect("the poller is ours");
        }
    }

    /// The ports for whose medium something waits.
    fn waiting(&self) -> Vec<PortKey> {
        let waits = |port: &&Port| {
            let status = port.status();
            status.write || status.retry
        };
        self.ports.iter().flatten().filter(waits).map(|port| port.key).collect()
    }
}

/// What of a worker takes part in sending.
struct Ways<'a> {
    cx: &'a Context<'a>,
    translator: &'a mut Translator,
    poller: &'a Poller,
    retries: &'a mut Vec<PortKey>,
    timed: &'a mut Vec<PortKey>,
    notify: &'a dyn Fn(Notice),
}

/// Hands every touched port of `network` what it got.
fn flush(network: &mut WorkerNetwork, ports: &mut [Option<Port>], ways: &mut Ways<'_>) {
    let cx = ways.cx;
    network.egress.take_refused(|id, frame| {
        let slot = network.ports.get(id.slot()).copied().flatten();
        if let Some(taps) = slot.and_then(|slot| find(ports, slot, id)).and_then(|port| port.link.taps()) {
            taps.dropped(cx, frame, DropReason::QueueFull);
        }
    });
    while let Some((id, batch)) = network.egress.next_touched() {
        let slot = network.ports.get(id.slot()).copied().flatten();
        let Some(port) = slot.and_then(|slot| find(ports, slot, id)) else {
            // Control added it to the network and the command is still on its way, or it has just been removed.
            batch.clear();
            continue;
        };
        let queue = port.attached.as_mut().map(|attached| &mut attached.queue);
        let mut out = Out { cx, queue, translator: ways.translator, link: &port.link, fault: None };
        // The outcome of each frame has been counted; nobody upstream waits for a result.
        let _ = port.link.output(cx, batch, &mut out);
        let fault = out.fault;
        let status = port.status();
        let room = port.room(status);
        let fault = fault.or_else(|| {
            settle(port, status, cx.worker, ways.poller, ways.retries, ways.timed).err().map(Fault::Io)
        });
        network.egress.set_room(id, room);
        if let Some(fault) = fault {
            report(port, fault, cx.worker, ways.poller, ways.notify);
        }
    }
}

/// Watches for what the port's queue waits for now.
fn settle(
    port: &mut Port,
    status: Status,
    worker: usize,
    poller: &Poller,
    retries: &mut Vec<PortKey>,
    timed: &mut Vec<PortKey>,
) -> io::Result<()> {
    let key = port.key;
    let Some(attached) = &mut port.attached else { return Ok(()) };
    if status.retry && !retries.contains(&key) {
        retries.push(key);
    }
    // What a port was sent may make it have something to say later.
    if status.deadline.is_some() && !timed.contains(&key) {
        timed.push(key);
    }
    port.link.counters().set_queued(worker, status.waiting as u64);
    attached.watch(poller, key, status.write)
}

fn report(port: &mut Port, fault: Fault, worker: usize, poller: &Poller, notify: &dyn Fn(Notice)) {
    if let Some(attachment) = port.detach(worker, poller) {
        notify(Notice::Fault { port: port.key, attachment, fault });
    }
}

fn find(ports: &mut [Option<Port>], slot: usize, id: lan::PortId) -> Option<&mut Port> {
    ports[slot].as_mut().filter(|port| port.id == id)
}

fn port_of(ports: &mut [Option<Port>], key: PortKey) -> Option<&mut Port> {
    ports.get_mut(key.slot as usize)?.as_mut().filter(|port| port.key == key)
}

fn deadline_of(ports: &mut [Option<Port>], key: PortKey) -> Option<Instant> {
    port_of(ports, key)?.status().deadline
}

fn now() -> Instant {
    Instant::from_nanos(sys::monotonic_nanos())
}
