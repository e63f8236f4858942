//! A worker's event loop.
//!
//! Theory of operation. The loop waits for readiness, lists the ready ports, and gives each a turn (`turn`) in the
//! order in which they were listed. A turn takes at most one batch, and ends earlier when what is made of the batch is
//! much work; a port that has more goes to the end of the list. So a port waits for about one turn of each other one,
//! whatever these do. Between turns the loop asks for readiness again when it has not for a while ([`SLICE`]).
//!
//! After work the loop looks again without sleeping a few times before it sleeps ([`LOOKS`]): under load it polls, idle
//! it costs nothing. Told to be busy ([`Polling`]) it never sleeps, and while it has few ports it does not even ask
//! which of them are ready: it gives each a turn, for asking costs as much as looking. Commands are taken between
//! turns, as many as a slice has time for. Who uses little of the worker's time goes before who uses much, and a frame
//! for many ports is handed out in pieces, with others' turns between them.
//!
//! A fault takes the attachment off its port at once, so that a dead descriptor cannot keep the loop busy, and control
//! is told; the port itself stays until control removes it.

use std::cell::Cell;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use vmlan_drivers::{Endpoint, Fault, Status};
use vmlan_frame::{Batch, Context, DropReason, Instant, Pool, PoolSizes, SecondaryMap};
use vmlan_lan::{Egress, Forwarder, Network, PortId};
use vmlan_sys::{Interest, Poller, Ready, Waker};

use crate::command::{Command, Notice, Polling, PortKey, PortSetup};
use crate::contain::{Panics, message};
use crate::effort::{Effort, Ledger};
use crate::port::{Attached, Port};
use crate::ready::{Due, ReadyQueue, Timed, Turn};
use crate::translate::Translator;

/// How often the loop looks for more work without sleeping, after it had some; and how many looks in a row at queues
/// that found nothing share a look at the clock.
const LOOKS: u32 = 16;

/// To how many ports a busy worker gives turns unasked.
const FEW_PORTS: usize = 8;

/// How many rounds of such turns lie at most between two looks at readiness, which tells commands and room for writing.
const ROUNDS: u32 = 64;

/// For how long turns are given, and commands taken, before the loop asks for readiness again. Asking costs about a
/// hundredth of it.
const SLICE: Duration = Duration::from_micros(50);

/// The waker's token; no port's generation and slot reach it together.
const WAKER: u64 = u64::MAX;

pub(crate) struct Worker {
    pub(crate) number: usize,
    pub(crate) pool: Pool,
    pub(crate) poller: Poller,
    pub(crate) waker: Arc<Waker>,
    commands: mpsc::Receiver<Command>,
    /// True if commands may be waiting.
    pub(crate) told: bool,
    pub(crate) notify: Arc<dyn Fn(Notice) + Send + Sync>,
    pub(crate) ports: SecondaryMap<PortKey, Port>,
    pub(crate) networks: Vec<Option<WorkerNetwork>>,
    pub(crate) batch: Batch,
    pub(crate) translator: Translator,
    pub(crate) ready: ReadyQueue,
    pub(crate) timed: Timed,
    /// When the first claim that a network holds back is to be decided; it may be too early.
    pub(crate) decision: Option<Instant>,
    /// The port whose code runs, which a panic is the fault of.
    pub(crate) hand: Cell<Option<PortKey>>,
    pub(crate) panics: Panics,
    pub(crate) polling: Polling,
    pub(crate) effort: Effort,
    ledger: Arc<Ledger>,
    /// The turn that is being given received, sent or decided something.
    pub(crate) found_any: bool,
    stopping: Option<Duration>,
}

/// A network as one worker sees it, for as long as it has ports.
pub(crate) struct WorkerNetwork {
    pub(crate) network: Arc<Network>,
    pub(crate) forwarder: Forwarder,
    pub(crate) egress: Egress,
    /// The keys that its ports have in the data plane.
    pub(crate) ports: SecondaryMap<PortId, PortKey>,
    /// Frames that may wait for a port of which nothing else was said.
    pub(crate) backlog: usize,
    /// The port whose turn made the copies that were put off last.
    pub(crate) late_of: PortKey,
    /// Its late copies are in the worker's list.
    pub(crate) is_listed: bool,
    count: usize,
}

impl Worker {
    /// A poller that watches `waker`.
    pub(crate) fn poller(waker: &Waker) -> io::Result<Poller> {
        let poller = Poller::new()?;
        poller.add(waker, WAKER, Interest::READ)?;
        Ok(poller)
    }

    pub(crate) fn new(
        number: usize,
        sizes: PoolSizes,
        poller: Poller,
        waker: Arc<Waker>,
        commands: mpsc::Receiver<Command>,
        notify: Arc<dyn Fn(Notice) + Send + Sync>,
        ledger: Arc<Ledger>,
    ) -> Worker {
        Worker {
            number,
            pool: Pool::new(sizes),
            poller,
            waker,
            commands,
            told: false,
            notify,
            ports: SecondaryMap::new(),
            networks: Vec::new(),
            batch: Batch::new(),
            translator: Translator::default(),
            ready: ReadyQueue::default(),
            timed: Timed::default(),
            decision: None,
            hand: Cell::new(None),
            panics: Panics::default(),
            polling: Polling::default(),
            effort: Effort::default(),
            ledger,
            found_any: false,
            stopping: None,
        }
    }

    pub(crate) fn run(&mut self) {
        let mut events = Vec::new();
        let mut looks: u32 = 0;
        while self.stopping.is_none() {
            let has_work = self.told || !self.ready.is_empty();
            let awake = has_work || looks > 0 || self.polling == Polling::Busy && self.receives();
            let timeout = if awake { Some(Duration::ZERO) } else { self.timeout(now()) };
            self.effort.polls += 1;
            self.ledger.write(&self.effort);
            self.poller.wait(&mut events, timeout).expect("the poller is ours");
            looks = match self.polling {
                Polling::Sleep => 0,
                _ if events.is_empty() && !has_work => looks.saturating_sub(1),
                _ => LOOKS,
            };
            let now = now();
            self.ready.set_now(now);
            for event in &events {
                self.note(*event);
            }
            self.check_deadlines(now);
            if self.decision.is_some_and(|decision| decision <= now) {
                self.decide(now);
            }
            if self.told {
                self.take_commands(now);
            }
            match self.polling {
                Polling::Busy => self.give_rounds(now),
                _ => {
                    self.give_turns(now, now);
                }
            }
        }
        self.drain();
    }

    /// Lists the port that an event is about.
    fn note(&mut self, event: Ready) {
        if event.token == WAKER {
            self.waker.clear();
            self.told = true;
            return;
        }
        let (key, descriptor) = PortKey::from_token(event.token);
        let Some(port) = self.ports.get_mut(key) else { return };
        let Some(attached) = &port.attached else { return };
        let (receive, room) = attached.meaning(descriptor, event);
        self.ready.list(port, |pending| {
            pending.receive |= u8::from(receive) << descriptor;
            pending.room |= u8::from(room) << descriptor;
            pending.transmit |= room;
            pending.failed |= event.failed;
        });
    }

    /// Gives listed ports their turns, until there is none or readiness is to be asked for again, as it was at `asked`.
    /// Returns what time it is.
    fn give_turns(&mut self, asked: Instant, mut now: Instant) -> Instant {
        let mut unclocked = 0;
        while let Some(turn) = self.ready.next() {
            self.found_any = false;
            let key = match turn {
                Turn::Port(key) => {
                    if !self.serve(key, now) && unclocked < LOOKS {
                        // Reading the clock takes as long as the look did.
                        unclocked += 1;
                        self.effort.turns += 1;
                        continue;
                    }
                    Some(key)
                }
                Turn::Late(network) => self.serve_late(network, now),
            };
            unclocked = 0;
            let begun = mem::replace(&mut now, self::now());
            self.ready.set_now(now);
            self.effort.turn(now.since(begun), self.found_any);
            if let Some(port) = key.and_then(|key| self.ports.get_mut(key)) {
                self.ready.charge(port, now.since(begun));
            }
            if now.since(asked) >= SLICE {
                break;
            }
        }
        now
    }

    /// Gives every port turns without asking whether it is ready, when they are few.
    fn give_rounds(&mut self, asked: Instant) {
        let mut now = asked;
        for _ in 0..ROUNDS {
            let few = self.list_few();
            now = self.give_turns(asked, now);
            if !few || now.since(asked) >= SLICE {
                return;
            }
        }
    }

    /// True if this worker receives from any port; otherwise it has nothing to send either.
    fn receives(&self) -> bool {
        self.ports.values().any(|port| port.attached.as_ref().is_some_and(Attached::receives))
    }

    /// Lists all ports from which this worker receives; false, and none, when they are many.
    fn list_few(&mut self) -> bool {
        let receives = |port: &&mut Port| port.attached.as_ref().is_some_and(Attached::receives);
        if self.ports.values_mut().filter(receives).count() > FEW_PORTS {
            return false;
        }
        for port in self.ports.values_mut().filter(receives) {
            self.ready.list_all(port);
        }
        true
    }

    fn take_commands(&mut self, asked: Instant) {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.obey(command),
                Err(_) => {
                    self.told = false;
                    return;
                }
            }
            if self.stopping.is_some() || now().since(asked) >= SLICE {
                return;
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::AddPort { key, setup } => self.add_port(key, setup),
            Command::Connect { key, attachment, endpoint, receives, .. } => {
                self.contained(key, |worker| worker.connect((key, attachment), &*endpoint, receives));
            }
            Command::Open { key, attachment } => self.contained(key, |worker| worker.open(key, attachment)),
            Command::Disconnect { key, .. } => self.contained(key, |worker| {
                if let Some(port) = worker.ports.get_mut(key) {
                    port.detach(worker.number, &worker.poller);
                }
            }),
            Command::RemovePort { key, .. } => self.contained(key, |worker| worker.remove_port(key)),
            Command::SetPolling { polling } => self.polling = polling,
            Command::Stop { patience } => self.stopping = Some(patience),
        }
    }

    fn connect(&mut self, (key, attachment): (PortKey, u64), endpoint: &dyn Endpoint, receives: bool) {
        let Some(port) = self.ports.get_mut(key) else { return };
        port.detach(self.number, &self.poller);
        let attach = || port.attach(self.number, attachment, endpoint, receives, &self.poller);
        // There is no attachment yet that a panic could cost.
        let fault = match catch_unwind(AssertUnwindSafe(attach)) {
            Ok(Ok(())) => return self.set_room(key),
            Ok(Err(error)) => Fault::Io(error),
            Err(panic) => Fault::Bug(message(&*panic)),
        };
        (self.notify)(Notice::Fault { port: key, attachment, fault });
    }

    fn open(&mut self, key: PortKey, attachment: u64) {
        let attached = self.ports.get_mut(key).and_then(|port| port.attached.as_mut());
        if let Some(attached) = attached.filter(|attached| attached.is(attachment)) {
            attached.open();
            self.set_room(key);
        }
    }

    fn add_port(&mut self, key: PortKey, setup: PortSetup) {
        let network = self.network(&setup);
        if let Some(network) = &mut self.networks[network] {
            network.ports.insert(setup.id, key);
            network.count += 1;
        }
        let lane = setup.share.as_ref().map(|share| self.ready.join(share));
        self.ports.insert(key, Port::new(key, network, lane, setup));
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
            egress: Egress::new(setup.backlog),
            ports: SecondaryMap::new(),
            backlog: setup.backlog,
            late_of: PortKey::NOBODY,
            is_listed: false,
            count: 0,
        });
        place
    }

    fn remove_port(&mut self, key: PortKey) {
        let Some(port) = self.ports.get_mut(key) else { return };
        port.detach(self.number, &self.poller);
        let (place, id) = (port.network, port.id);
        let cx = Context { worker: self.number, now: now(), pool: &self.pool };
        let late = self.networks[place].as_mut().map(|network| network.egress.give_up(id));
        port.account.lose_all(&cx, &mut port.held, DropReason::NotAttached);
        port.account.lose_all(&cx, &mut late.unwrap_or_default(), DropReason::NoPeer);
        if let Some(lane) = port.lane {
            self.ready.leave(lane);
        }
        self.ports.remove(key);
        if let Some(network) = &mut self.networks[place] {
            network.ports.remove(id);
            network.count -= 1;
            if network.count == 0 {
                self.networks[place] = None;
            }
        }
    }

    fn check_deadlines(&mut self, now: Instant) {
        let (ports, ready) = (&mut self.ports, &mut self.ready);
        let hand = &self.hand;
        self.timed.check(now, |key| {
            hand.set(Some(key));
            let Some(port) = ports.get_mut(key) else { return Due::Never };
            let status = port.status();
            match status.deadline {
                None => {
                    port.timed = false;
                    Due::Never
                }
                Some(deadline) if deadline < now => {
                    ready.list_all(port);
                    port.pending.transmit |= status.waiting > 0 && !status.waits.is_for_room();
                    Due::Now
                }
                Some(deadline) => Due::At(deadline),
            }
        });
        self.hand.set(None);
    }

    /// How long the loop may sleep.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        let next = [self.timed.next(), self.decision].into_iter().flatten().min();
        // A nanosecond more, so that the deadline has passed when the loop wakes.
        next.map(|deadline| deadline.since(now) + Duration::from_nanos(1))
    }

    /// Sends what waits, for as long as control has patience, and receives nothing more.
    fn drain(&mut self) {
        let end = now() + self.stopping.unwrap_or_default();
        let mut events = Vec::new();
        self.finish_turns(end);
        self.send_late();
        for attached in self.ports.values_mut().filter_map(|port| port.attached.as_mut()) {
            attached.stop_receiving();
        }
        loop {
            for (key, _) in self.waiting() {
                self.contained(key, |worker| worker.transmit_waiting(key, now()));
            }
            let left = end.since(now());
            let statuses = self.waiting();
            if left.is_zero() || statuses.is_empty() {
                return;
            }
            // When the first of them is to be tried again that nothing tells of.
            let again = statuses.iter().filter_map(|(_, status)| match status {
                Status { retry: true, .. } => Some(Duration::ZERO),
                Status { waits, .. } if waits.is_for_room() => None,
                Status { deadline, .. } => deadline.map(|deadline| deadline.since(now())),
            });
            let left = again.min().map_or(left, |again| again.min(left));
            self.poller.wait(&mut events, Some(left)).expect("the poller is ours");
        }
    }

    /// The ports for whose medium something waits.
    fn waiting(&self) -> Vec<(PortKey, Status)> {
        let statuses = self.ports.iter().map(|(key, port)| (key, port.status()));
        let has_any = |status: &Status| status.waits.is_for_room() || status.retry || status.waiting > 0;
        statuses.filter(|(_, status)| has_any(status)).collect()
    }
}

pub(crate) fn now() -> Instant {
    Instant::from_nanos(vmlan_sys::monotonic_nanos())
}
