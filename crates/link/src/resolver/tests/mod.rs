//! Hosts with a made-up clock, and what they say to each other.

use core::net::IpAddr;
use core::time::Duration;

use vmlan_frame::wire::{
    ArpPacket, ArpRepr, Icmpv6Packet, Ipv6Packet, NeighborAdvertRepr, NeighborSolicitRepr,
};
use vmlan_frame::{Frame, Instant, MacAddr, Pool, PoolSizes};

use super::*;

mod limits;
mod own;
mod protocol;
mod states;
mod validity;

const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);
const C: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xc]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn secs(secs: u64) -> Instant {
    Instant::from_secs(secs)
}

/// Host A: 10.0.0.1/24 and fd00::1/64, gateways 10.0.0.254 and fe80::fe.
struct Host {
    resolver: Resolver,
    pool: Pool,
    now: Instant,
}

impl Host {
    /// A host whose addresses are in use and announced.
    fn new() -> Host {
        Host::with(Options { detect_duplicates: false, ..Options::default() })
    }

    fn with(options: Options) -> Host {
        let pool = Pool::new(PoolSizes { small: 16, large: 1, bulk: 0 });
        let mut host = Host { resolver: Resolver::new(A, options), pool, now: Instant::ZERO };
        host.resolver.add_address(ip("10.0.0.1"), 24, host.now).unwrap();
        host.resolver.add_address(ip("fd00::1"), 64, host.now).unwrap();
        host.resolver.set_gateway(ip("10.0.0.254"));
        host.resolver.set_gateway(ip("fe80::fe"));
        if !options.detect_duplicates {
            assert_eq!(host.announced(), 4);
        }
        host
    }

    /// Lets the host announce its addresses; how often it does.
    fn announced(&mut self) -> usize {
        let first = self.sent().len();
        first + self.after(2).sent().len()
    }

    /// Lets time pass without looking at the host.
    fn after(&mut self, secs: u64) -> &mut Host {
        for _ in 0..secs {
            self.now = self.now + Duration::from_secs(1);
            self.resolver.advance(self.now);
        }
        self
    }

    /// Has the host send a packet with `mark`.
    fn send(&mut self, destination: &str, mark: u8) -> Resolution {
        let destination = ip(destination);
        let version = if destination.is_ipv4() { 0x45 } else { 0x60 };
        let packet = self.pool.copy(&[version, 0, mark]).unwrap();
        self.resolver.send(destination, &packet, self.now)
    }

    /// Hands a message of `from` to the host.
    fn hear(&mut self, from: MacAddr, message: Message) -> &mut Host {
        let frame = message.emit(from, &self.pool).unwrap();
        assert!(self.resolver.handle(&frame, self.now));
        self
    }

    /// Takes the messages that the host sends now.
    fn sent(&mut self) -> Vec<String> {
        let next = || self.resolver.poll_transmit(self.now, &self.pool).map(|frame| told(&frame));
        core::iter::from_fn(next).collect()
    }

    fn state(&self, address: &str) -> Option<NeighbourState> {
        self.neighbour(address).map(|neighbour| neighbour.state)
    }

    fn neighbour(&self, address: &str) -> Option<Neighbour> {
        let address = ip(address);
        self.resolver.neighbours().find(|neighbour| neighbour.address == address)
    }

    fn events(&mut self) -> Vec<Event> {
        core::iter::from_fn(|| self.resolver.poll_event()).collect()
    }
}

/// Host B's answer to A's request for `address`.
fn answer(address: &str) -> Message {
    answer_from(B, address)
}

fn answer_from(mac: MacAddr, address: &str) -> Message {
    match ip(address) {
        IpAddr::V4(address) => Message::reply(mac, address, (A, "10.0.0.1".parse().unwrap())),
        IpAddr::V6(address) => Message::advertisement(mac, address, Some((A, "fd00::1".parse().unwrap()))),
    }
}

/// A request from `source` at `mac`.
fn request(mac: MacAddr, source: &str, target: &str) -> Message {
    Message::request(mac, Some(ip(source)), ip(target), None).unwrap()
}

fn probe(target: &str) -> Message {
    Message::request(C, None, ip(target), None).unwrap()
}

/// A frame in words: to whom, and what.
fn told(frame: &Frame) -> String {
    let to = match frame.destination().unwrap() {
        B => "b".to_string(),
        C => "c".to_string(),
        MacAddr::BROADCAST => "all".to_string(),
        mac => mac.to_string(),
    };
    assert_eq!(frame.source(), Some(A));
    let payload = &frame.octets()[ETHERNET_HEADER..];
    if frame.ethertype() == Some(0x0806) {
        let arp = ArpRepr::parse(&ArpPacket::new_checked(payload).unwrap());
        let operation =
            if arp.operation == vmlan_frame::wire::ArpOperation::REQUEST { "request" } else { "reply" };
        return format!("{to}: {operation} {} {}", arp.sender_protocol, arp.target_protocol);
    }
    let Some(packet) = Ipv6Packet::new_checked(payload).ok() else {
        return format!("{to}: packet {}", payload[2]);
    };
    let message = Icmpv6Packet::new_checked(packet.payload()).unwrap();
    assert!(message.verify_checksum(&packet.addresses()));
    assert_eq!(packet.hop_limit(), 255);
    let (source, destination, message) = (packet.source(), packet.destination(), message.ndp().unwrap());
    if let Some(repr) = NeighborSolicitRepr::parse(&message) {
        assert_eq!(repr.source_link_layer, (!source.is_unspecified()).then_some(A));
        return format!("{to}: solicit {source} {destination} {}", repr.target);
    }
    let repr = NeighborAdvertRepr::parse(&message).unwrap();
    assert_eq!((repr.target_link_layer, repr.replaces), (Some(A), true));
    let solicited = if repr.solicited { " solicited" } else { "" };
    format!("{to}: advertise {source} {destination} {}{solicited}", repr.target)
}
