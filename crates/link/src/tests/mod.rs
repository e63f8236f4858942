//! The numbered cases of the link layer, by topic, and what they share.

use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::Arc;
use std::time::SystemTime;

use vmlan_frame::{
    Batch, Context, Counters, DropReason, Frame, Instant, MacAddr, Mutex, Pool, PoolSizes, Snapshot, Tally,
};

use crate::*;

mod arp;
mod balance;
mod control;
mod events;
mod filters;
mod finish;
mod input;
mod lifecycle;
mod output;
mod protocols;
mod queue;
mod stress;
mod taps;
mod users;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 1]);

fn registry() -> Registry {
    Registry::new(2, || SystemTime::UNIX_EPOCH)
}

fn small_pool() -> Pool {
    Pool::new(PoolSizes { small: 128, large: 1, bulk: 0 })
}

/// An Ethernet link that is not attached yet.
fn acquired(registry: &Registry) -> Link {
    registry.acquire(LinkOptions::ethernet("test").unwrap()).unwrap()
}

/// An attached Ethernet link.
fn attached(registry: &Registry) -> Link {
    let link = acquired(registry);
    link.attach(Arc::new(()), Some(MAC.into())).unwrap();
    link
}

/// A worker without a thread: its buffers, and what a call needs.
struct Worker {
    pool: Pool,
}

impl Worker {
    fn new() -> Worker {
        Worker { pool: small_pool() }
    }

    fn cx(&self) -> Context<'_> {
        Context { worker: 0, now: Instant::ZERO, pool: &self.pool }
    }

    /// An Ethernet frame whose last octet is `mark`.
    fn frame(&self, ethertype: u16, mark: u8) -> Frame {
        let mut octets = [0; 60];
        octets[..6].copy_from_slice(&MAC.0);
        octets[6] = 0x02;
        octets[12..14].copy_from_slice(&ethertype.to_be_bytes());
        octets[59] = mark;
        self.pool.copy(&octets).unwrap()
    }

    /// IPv4 frames marked 1, 2, and so on.
    fn frames(&self, count: u8) -> Batch {
        Batch::from_iter((1..=count).map(|mark| self.frame(IPV4, mark)))
    }
}

fn mark(frame: &Frame) -> u8 {
    frame.octets().last().copied().unwrap_or(0)
}

fn marks(batch: &Batch) -> Vec<u8> {
    batch.iter().map(mark).collect()
}

/// A log of the calls, in order.
type Log = Arc<Mutex<Vec<String>>>;

fn logged(log: &Log) -> Vec<String> {
    core::mem::take(&mut *log.lock())
}

/// A filter that writes down what it sees and decides by the frame's mark.
struct Probe {
    name: &'static str,
    log: Log,
    decide: fn(u8) -> Verdict,
}

impl Probe {
    fn passing(name: &'static str, log: &Log) -> Arc<Probe> {
        Probe::deciding(name, log, |_| Verdict::Continue)
    }

    fn deciding(name: &'static str, log: &Log, decide: fn(u8) -> Verdict) -> Arc<Probe> {
        Arc::new(Probe { name, log: log.clone(), decide })
    }

    fn write(&self, what: impl core::fmt::Display) {
        self.log.lock().push(format!("{} {what}", self.name));
    }

    fn see(&self, way: &str, frame: &mut Frame) -> Verdict {
        self.write(format_args!("{way} {}", mark(frame)));
        let verdict = (self.decide)(mark(frame));
        if verdict == Verdict::Consumed {
            drop(core::mem::take(frame));
        }
        verdict
    }
}

impl Filter for Probe {
    fn input(&self, _: &Context<'_>, frame: &mut Frame) -> Verdict {
        self.see("in", frame)
    }

    fn output(&self, _: &Context<'_>, frame: &mut Frame) -> Verdict {
        self.see("out", frame)
    }

    fn event(&self, _: &Link, event: &Event) {
        self.write(event.code.name());
    }

    fn detached(&self) {
        self.write("detached");
    }
}

/// A protocol that writes down its batches; it refuses what is left when it meets the mark in `refuses`.
struct Sink {
    name: &'static str,
    log: Log,
    refuses: Option<u8>,
}

impl Sink {
    fn new(name: &'static str, log: &Log) -> Arc<Sink> {
        Arc::new(Sink { name, log: log.clone(), refuses: None })
    }

    fn write(&self, what: impl core::fmt::Display) {
        self.log.lock().push(format!("{} {what}", self.name));
    }
}

impl Protocol for Sink {
    fn input(&self, _: &Context<'_>, batch: &mut Batch) -> Result<(), Error> {
        self.write(format_args!("{:?}", marks(batch)));
        if let Some(at) = batch.iter().position(|frame| Some(mark(frame)) == self.refuses) {
            drop(batch.drain_front(at));
            return Err(Error::Io);
        }
        Ok(())
    }

    fn event(&self, _: &Link, event: &Event) {
        self.write(event.code.name());
    }

    fn detached(&self) {
        self.write("detached");
    }
}

fn protocol(family: ProtocolFamily) -> ProtocolOptions {
    ProtocolOptions { family, promiscuous: false }
}

/// A driver's transmit side that keeps what it was given, and counts it as sent.
struct Wire {
    counters: Arc<Counters>,
    calls: usize,
    sent: Vec<Vec<u8>>,
}

impl Wire {
    fn of(link: &Link) -> Wire {
        Wire { counters: link.counters().clone(), calls: 0, sent: Vec::new() }
    }

    fn marks(&self) -> Vec<u8> {
        self.sent.iter().map(|octets| *octets.last().unwrap()).collect()
    }
}

impl Transmit for Wire {
    fn transmit(&mut self, batch: &mut Batch) {
        self.calls += 1;
        let mut tally = Tally::default();
        for frame in batch.drain() {
            tally.add(&frame);
            self.sent.push(frame.octets().to_vec());
        }
        self.counters.sent(0, &tally);
    }
}

/// The codes of the events that wait.
fn codes(subscription: &Subscription) -> Vec<&'static str> {
    let code = |notice| match notice {
        Notice::Event(event) => event.code.name(),
        Notice::Lost(_) => "lost",
    };
    core::iter::from_fn(|| subscription.try_next()).map(code).collect()
}

fn dropped(link: &Link, reason: DropReason) -> u64 {
    link.counters().snapshot().dropped(reason)
}

/// A tap that counts frames each way and drops.
#[derive(Default)]
struct Counting {
    ingress: AtomicUsize,
    egress: AtomicUsize,
    dropped: AtomicUsize,
    ended: AtomicUsize,
}

impl Tap for Counting {
    fn frame(&self, _: &Context<'_>, direction: vmlan_frame::Direction, _: &Frame) {
        let counter = match direction {
            vmlan_frame::Direction::Ingress => &self.ingress,
            vmlan_frame::Direction::Egress => &self.egress,
        };
        counter.fetch_add(1, SeqCst);
    }

    fn dropped(&self, _: &Context<'_>, _: &Frame, _: DropReason) {
        self.dropped.fetch_add(1, SeqCst);
    }

    fn ended(&self) {
        self.ended.fetch_add(1, SeqCst);
    }
}
