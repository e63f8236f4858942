use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use smoltcp::iface::SocketHandle;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::icmp;
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress};

use crate::guest::Reply;
use crate::stack::{BATCH, Resolver, Stack};
use crate::worker::{Step, Task};
use crate::{Error, pattern};

/// Octets of the largest payload of an echo request.
const MAX_PAYLOAD: u16 = 65_000;
/// Requests or replies that a socket holds: all that come before the task that reads them has its turn.
const PACKETS: usize = BATCH;

/// The echo requests to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping {
    /// Echo requests.
    pub count: u16,
    /// Time from one to the next.
    pub interval: Duration,
    /// Octets of payload, without the ICMP header; keep it within the MTU, guests do not fragment.
    pub payload: u16,
}

impl Default for Ping {
    fn default() -> Ping {
        Ping { count: 4, interval: Duration::from_millis(10), payload: 56 }
    }
}

/// The result of echo requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PingReport {
    /// Requests sent, or kept because the neighbour could not be found.
    pub sent: u16,
    /// Requests answered.
    pub received: u16,
    /// Replies that did not bring back what was sent; not in `received`.
    pub corrupt: u16,
    /// Round-trip times in the order of arrival.
    pub rtts: Vec<Duration>,
}

impl PingReport {
    /// True if there were requests, and every request was answered.
    pub fn is_complete(&self) -> bool {
        self.sent > 0 && self.received == self.sent
    }

    /// The mean round-trip time; none when nothing was received.
    pub fn mean_rtt(&self) -> Option<Duration> {
        let count = u32::try_from(self.rtts.len()).ok().filter(|&count| count > 0)?;
        Some(self.rtts.iter().sum::<Duration>() / count)
    }
}

enum State {
    New,
    Resolving { resolver: Resolver, until: Instant },
    Running(Running),
}

struct Running {
    socket: SocketHandle,
    ident: u16,
    next_at: Instant,
    outstanding: HashMap<u16, Instant>,
    /// When the replies still missing are given up.
    until: Instant,
    report: PingReport,
    payload: Vec<u8>,
}

/// A ping under way.
pub(crate) struct PingTask {
    target: IpAddr,
    ping: Ping,
    state: State,
    reply: Reply<Result<PingReport, Error>>,
}

impl PingTask {
    pub(crate) fn new(target: IpAddr, ping: Ping, reply: Reply<Result<PingReport, Error>>) -> PingTask {
        PingTask { target, ping, state: State::New, reply }
    }

    fn finish(&self, result: Result<PingReport, Error>) -> Step {
        // The caller waits for it, unless its thread died.
        let _ = self.reply.send(result);
        Step::Done
    }
}

impl Task for PingTask {
    fn poll(&mut self, stack: &mut Stack, now: Instant) -> Step {
        if let State::New = self.state {
            match Resolver::new(stack, self.target) {
                Ok(resolver) => self.state = State::Resolving { resolver, until: now + stack.timeout },
                Err(error) => return self.finish(Err(error)),
            }
        }
        if let State::Resolving { resolver, until } = &mut self.state {
            if resolver.poll(stack, now) {
                self.state = State::Running(Running::new(stack, &self.ping, now));
            } else if now < *until {
                return Step::Wait(resolver.wake_at().into_iter().chain([*until]).min());
            } else {
                return self.finish(Ok(PingReport { sent: self.ping.count, ..PingReport::default() }));
            }
        }
        let State::Running(running) = &mut self.state else { unreachable!("the states above went on") };
        running.receive(stack, self.target, now);
        running.send(stack, self.target, &self.ping, now);
        let all_sent = running.report.sent == self.ping.count;
        if all_sent && (running.outstanding.is_empty() || now >= running.until) {
            stack.sockets.remove(running.socket);
            let report = std::mem::take(&mut running.report);
            return self.finish(Ok(report));
        }
        Step::Wait(Some(if all_sent { running.until } else { running.next_at.max(now) }))
    }

    fn disconnected(&mut self, error: Error) {
        self.finish(Err(error));
    }
}

impl Running {
    fn new(stack: &mut Stack, ping: &Ping, now: Instant) -> Running {
        let mut payload = vec![0; usize::from(ping.payload.min(MAX_PAYLOAD))];
        pattern::fill(0, &mut payload);
        let buffer = || {
            let octets = vec![0; PACKETS * (payload.len() + 8)];
            icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; PACKETS], octets)
        };
        let mut socket = icmp::Socket::new(buffer(), buffer());
        let ident = stack.next_ident();
        socket
            .bind(icmp::Endpoint::Ident(ident))
            .expect("a new socket is unbound and the endpoint is specified");
        Running {
            socket: stack.sockets.add(socket),
            ident,
            next_at: now,
            outstanding: HashMap::new(),
            until: now + stack.timeout,
            report: PingReport::default(),
            payload,
        }
    }

    /// Queues the requests that are due.
    fn send(&mut self, stack: &mut Stack, target: IpAddr, ping: &Ping, now: Instant) {
        while self.report.sent < ping.count && self.next_at <= now {
            let socket = stack.sockets.get_mut::<icmp::Socket>(self.socket);
            if !socket.can_send() {
                // Room comes with the next frame sent; do not wake for a time that is over.
                self.next_at = now + Duration::from_millis(1);
                return;
            }
            let sequence = self.report.sent;
            let request = request(stack, self.ident, sequence, &self.payload, target);
            let socket = stack.sockets.get_mut::<icmp::Socket>(self.socket);
            if socket.send_slice(&request, target.into()).is_err() {
                self.next_at = now + Duration::from_millis(1);
                return;
            }
            self.outstanding.insert(sequence, Instant::now());
            self.report.sent += 1;
            self.next_at += ping.interval;
            self.until = now + stack.timeout;
        }
    }

    fn receive(&mut self, stack: &mut Stack, target: IpAddr, now: Instant) {
        let socket = stack.sockets.get_mut::<icmp::Socket>(self.socket);
        while let Ok((packet, from)) = socket.recv() {
            let Some((ident, sequence, data)) = reply(packet, from) else { continue };
            if from != target.into() || ident != self.ident {
                continue;
            }
            // A second reply to the same request is not counted.
            let Some(sent_at) = self.outstanding.remove(&sequence) else { continue };
            if data == self.payload {
                self.report.received += 1;
                self.report.rtts.push(now.saturating_duration_since(sent_at));
            } else {
                self.report.corrupt += 1;
            }
        }
    }
}

/// An echo request, from the ICMP header on.
fn request(stack: &Stack, ident: u16, seq_no: u16, data: &[u8], target: IpAddr) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    match target {
        IpAddr::V4(_) => {
            let request = Icmpv4Repr::EchoRequest { ident, seq_no, data };
            let mut octets = vec![0; request.buffer_len()];
            request.emit(&mut Icmpv4Packet::new_unchecked(&mut octets[..]), &checksums);
            octets
        }
        IpAddr::V6(target) => {
            let request = Icmpv6Repr::EchoRequest { ident, seq_no, data };
            let source = stack.interface.get_source_address_ipv6(&target);
            let mut octets = vec![0; request.buffer_len()];
            request.emit(&source, &target, &mut Icmpv6Packet::new_unchecked(&mut octets[..]), &checksums);
            octets
        }
    }
}

/// Identifier, sequence number and payload of an echo reply; the stack has verified its checksum.
fn reply(packet: &[u8], from: IpAddress) -> Option<(u16, u16, &[u8])> {
    let unchecked = ChecksumCapabilities::ignored();
    match from {
        IpAddress::Ipv4(_) => {
            let packet = Icmpv4Packet::new_checked(packet).ok()?;
            match Icmpv4Repr::parse(&packet, &unchecked).ok()? {
                Icmpv4Repr::EchoReply { ident, seq_no, data } => Some((ident, seq_no, data)),
                _ => None,
            }
        }
        IpAddress::Ipv6(from) => {
            let packet = Icmpv6Packet::new_checked(packet).ok()?;
            match Icmpv6Repr::parse(&from, &from, &packet, &unchecked).ok()? {
                Icmpv6Repr::EchoReply { ident, seq_no, data } => Some((ident, seq_no, data)),
                _ => None,
            }
        }
    }
}
