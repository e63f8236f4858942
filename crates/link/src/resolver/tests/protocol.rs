//! A resolver in front of protocols on a link.

use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::Arc;
use std::time::SystemTime;

use vmlan_frame::{Batch, Context, Counters, DropReason, Mutex, Tally};

use super::*;
use crate::{Address, Arp, Link, LinkOptions, Protocol, ProtocolFamily, ProtocolOptions, Registry, Transmit};

/// Counts what it gets.
#[derive(Default)]
struct Upper(Arc<AtomicUsize>);

impl Protocol for Upper {
    fn input(&self, _: &Context<'_>, batch: &mut Batch) -> Result<(), Error> {
        self.0.fetch_add(batch.len(), SeqCst);
        Ok(())
    }

    fn detached(&self) {
        self.0.store(usize::MAX, SeqCst);
    }
}

struct Wire(Vec<String>, Arc<Counters>);

impl Transmit for Wire {
    fn transmit(&mut self, batch: &mut Batch) {
        let mut tally = Tally::default();
        for frame in batch.drain() {
            tally.add(&frame);
            self.0.push(told(&frame));
        }
        self.1.sent(0, &tally);
    }
}

/// A link with IPv4 and IPv6 behind one resolver.
struct Station {
    _registry: Registry,
    link: Link,
    resolver: Arc<Mutex<Resolver>>,
    upper: Arc<AtomicUsize>,
    pool: Pool,
    wire: Wire,
}

impl Station {
    fn new() -> Station {
        let registry = Registry::new(1, || SystemTime::UNIX_EPOCH);
        let link = registry.acquire(LinkOptions::ethernet("test").unwrap()).unwrap();
        link.attach(Arc::new(()), Some(A.into())).unwrap();
        let resolver = Arc::new(Mutex::new(Host::new().resolver));
        let upper = Arc::<AtomicUsize>::default();
        for family in [ProtocolFamily::INET, ProtocolFamily::INET6] {
            let protocol = WithResolver::new(resolver.clone(), Upper(upper.clone()));
            let options = ProtocolOptions { family, promiscuous: false };
            link.attach_protocol(options, Arc::new(protocol)).unwrap();
        }
        let wire = Wire(Vec::new(), link.counters().clone());
        let pool = Pool::new(PoolSizes { small: 16, large: 1, bulk: 0 });
        Station { _registry: registry, link, resolver, upper, pool, wire }
    }

    fn output(&mut self, destination: Address, packet: &[u8]) -> Result<(), Error> {
        let cx = Context { worker: 0, now: secs(2), pool: &self.pool };
        let mut batch = Batch::from_iter([self.pool.copy(packet).unwrap()]);
        self.link.output_protocol(&cx, ProtocolFamily::INET, &destination, &mut batch, &mut self.wire)
    }

    /// Sends what the resolver has.
    fn flush(&mut self) -> Vec<String> {
        let cx = Context { worker: 0, now: secs(2), pool: &self.pool };
        let mut batch = Batch::new();
        while let Some(frame) = self.resolver.lock().poll_transmit(cx.now, cx.pool) {
            batch.push(frame);
        }
        self.link.output(&cx, &mut batch, &mut self.wire).unwrap();
        core::mem::take(&mut self.wire.0)
    }

    fn input(&mut self, frames: impl IntoIterator<Item = Frame>) {
        let cx = Context { worker: 0, now: secs(2), pool: &self.pool };
        self.link.input(&cx, &mut Batch::from_iter(frames));
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.link.counters().snapshot().dropped(reason)
    }
}

#[test]
fn packets_wait_for_the_answer() {
    let mut station = Station::new();
    let destination = Address::Ip(ip("10.0.0.2"));
    assert_eq!(station.output(destination, &[0x45, 0, 1]), Ok(()));
    assert_eq!((station.flush(), station.pool.out()), (vec!["all: request 10.0.0.1 10.0.0.2".into()], 0));
    assert_eq!(station.dropped(DropReason::OutputConsumed), 1);
    let reply = answer("10.0.0.2").emit(B, &station.pool).unwrap();
    station.input([reply]);
    assert_eq!(station.flush(), ["b: packet 1"]);
    assert_eq!(station.output(destination, &[0x45, 0, 2]), Ok(()));
    assert_eq!((station.flush(), station.upper.load(SeqCst)), (vec!["b: packet 2".into()], 0));
}

#[test]
fn what_cannot_be_sent_is_counted() {
    let mut station = Station::new();
    assert_eq!(station.output(Address::Ip(ip("10.0.0.1")), &[0x45, 0, 1]), Err(Error::HostUnreachable));
    assert_eq!(station.output(Address::Ip(ip("10.0.0.2")), &[0, 0, 1]), Err(Error::InvalidArgument));
    assert_eq!((station.dropped(DropReason::OutputError), station.pool.out()), (2, 0));
    assert_eq!(station.output(Address::Link(C.into()), &[0x45, 0, 1]), Ok(()));
    assert_eq!(station.flush(), ["c: packet 1"]);
}

#[test]
fn the_protocol_gets_the_rest() {
    let mut station = Station::new();
    let arp = request(B, "10.0.0.2", "10.0.0.1").emit(B, &station.pool).unwrap();
    let mut octets = arp.octets().to_vec();
    octets[12..14].copy_from_slice(&[0x08, 0x00]);
    let packet = station.pool.copy(&octets).unwrap();
    station.input([arp, packet]);
    assert_eq!((station.upper.load(SeqCst), station.dropped(DropReason::Consumed)), (1, 2));
    assert_eq!(station.flush(), ["b: reply 10.0.0.1 10.0.0.2"]);
}

#[test]
fn the_links_address_is_followed_and_arp_is_sent() {
    let mut station = Station::new();
    let arp = Arp {
        operation: ArpOperation::Request,
        sender_link: None,
        sender: Some(ip("10.0.0.1")),
        target_link: None,
        target: ip("10.0.0.9"),
    };
    station.link.send_arp(&arp).unwrap();
    assert_eq!(station.flush(), ["all: request 10.0.0.1 10.0.0.9"]);
    let reply = Arp { operation: ArpOperation::Reply, target_link: Some(C.into()), ..arp };
    station.link.send_arp(&reply).unwrap();
    assert_eq!(station.flush(), ["c: reply 10.0.0.1 10.0.0.9"]);
    let v6 = Arp { sender: Some(ip("fd00::1")), target: ip("fd00::9"), ..reply };
    station.link.send_arp(&v6).unwrap();
    assert_eq!(station.flush(), ["c: advertise fd00::1 fd00::9 fd00::1 solicited"]);
    assert_eq!(station.link.send_arp(&Arp { sender: None, ..reply }), Err(Error::InvalidArgument));
    station.link.set_address(B.into()).unwrap();
    assert_eq!(station.resolver.lock().link_address(), B);
    station.link.detach().unwrap();
    assert_eq!(station.upper.load(SeqCst), usize::MAX);
}

#[test]
fn waiting_packets_keep_what_is_known_beside_them() {
    let mut host = Host::new();
    let mut packet = host.pool.copy(&[0x45, 0, 1]).unwrap();
    packet.meta.class = vmlan_frame::TrafficClass::Voice;
    packet.meta.offload = vmlan_frame::Offload { flags: 1, checksum_start: 20, ..Default::default() };
    host.resolver.send(ip("10.0.0.2"), &packet, host.now);
    host.sent();
    host.hear(B, answer("10.0.0.2"));
    let sent = host.resolver.poll_transmit(host.now, &host.pool).unwrap();
    assert_eq!((sent.meta.class, sent.meta.offload.checksum_start), (vmlan_frame::TrafficClass::Voice, 34));
}
