//! The address resolver of a host on an Ethernet link: ARP for IPv4 (RFC 826, RFC 5227), neighbour discovery for IPv6
//! (RFC 4861 7.2 and 7.3, RFC 4862 5.4).
//!
//! Theory of operation. A [`Resolver`] has the host's own addresses and a bounded table of neighbours, whose states
//! are those of RFC 4861 for both families. It does no I/O and reads no clock. Its owner hands it what was received
//! ([`Resolver::handle`]) and asks it where packets go ([`Resolver::send`]); afterwards, and at
//! [`Resolver::poll_timeout`], the owner sends every frame that [`Resolver::poll_transmit`] has: answers, packets
//! whose wait is over, probes and announcements, requests.
//!
//! A packet whose next hop has no known link address waits in a copy, bounded for each neighbour and together. It
//! comes out when the answer comes, and is dropped and counted when none comes. Then the neighbour counts as failed
//! and packets to it are refused for a while, without new requests.
//!
//! Only the host's own packets make entries; what others send changes only entries that are there, and is answered
//! only when it asks for an assigned address. So nobody else fills the table; but neither ARP nor neighbour discovery
//! tells who lies, which is for the network's guards to prevent. Requests keep to a pace, however many neighbours are
//! asked for, and what waits to be sent is bounded too.

mod arp;
mod message;
mod nd;
mod options;
mod outcome;
mod own;
mod protocol;
mod report;
mod table;
#[cfg(test)]
mod tests;
mod timing;
mod waiting;

use core::net::IpAddr;
use std::collections::VecDeque;

use vmlan_frame::wire::{ArpPacket, EtherType, EthernetFrame, EthernetRepr, Ipv6Packet};
use vmlan_frame::{ETHERNET_HEADER, Frame, Instant, MacAddr, Pool};

use self::message::Message;
use self::own::{Addresses, Conflict, Step};
use self::table::{Claim, Table};
use self::timing::{Jitter, Pace};
use self::waiting::{Pushed, Waiting};
use crate::{Arp, ArpOperation, Error, LinkAddress, media};

pub use self::options::Options;
pub use self::outcome::{Refusal, Resolution};
pub use self::own::AddressState;
pub use self::protocol::WithResolver;
pub use self::report::{Event, Neighbour, Statistics};
pub use self::table::NeighbourState;

/// The address resolver of a host on an Ethernet link.
pub struct Resolver {
    mac: MacAddr,
    detect_duplicates: bool,
    addresses: Addresses,
    table: Table,
    waiting: Waiting,
    pace: Pace,
    jitter: Jitter,
    messages: VecDeque<Message>,
    events: VecDeque<Event>,
    statistics: Statistics,
}

impl Resolver {
    /// How many own addresses there are at most.
    pub const MAX_ADDRESSES: usize = Addresses::LIMIT;
    /// How many messages wait to be sent at most.
    const MESSAGES: usize = 128;
    /// How many events wait at most.
    const EVENTS: usize = 128;

    /// A resolver for the host with the link address `mac`, without addresses.
    pub fn new(mac: MacAddr, options: Options) -> Resolver {
        Resolver {
            mac,
            detect_duplicates: options.detect_duplicates,
            addresses: Addresses::default(),
            table: Table::new(options.neighbours),
            waiting: Waiting::new(options.waiting_each, options.waiting, options.waiting_octets),
            pace: Pace::new(options.requests_per_second),
            jitter: Jitter::new(options.seed),
            messages: VecDeque::new(),
            events: VecDeque::new(),
            statistics: Statistics::default(),
        }
    }

    /// The host's link address.
    pub fn link_address(&self) -> MacAddr {
        self.mac
    }

    /// Changes the host's link address; assigned addresses are announced again (RFC 4861 7.2.6).
    pub fn set_link_address(&mut self, mac: MacAddr) {
        if self.mac != mac {
            self.mac = mac;
            self.addresses.announce();
        }
    }

    /// Adds an own address, with the bits of its subnet's prefix.
    ///
    /// # Errors
    /// `EINVAL` when no host can have it or the prefix is too long, `EEXIST` when it is there, `ENOBUFS` beyond
    /// [`Resolver::MAX_ADDRESSES`].
    pub fn add_address(&mut self, address: IpAddr, prefix_len: u8, now: Instant) -> Result<(), Error> {
        self.addresses.add(address, prefix_len, self.detect_duplicates, now, &mut self.jitter)
    }

    /// Removes an own address.
    ///
    /// # Errors
    /// `EINVAL` when it is not there.
    pub fn remove_address(&mut self, address: IpAddr) -> Result<(), Error> {
        self.addresses.remove(address)
    }

    /// The own addresses.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, AddressState)> {
        self.addresses.iter()
    }

    /// Sets the next hop of packets that leave the subnets, for the gateway's family.
    pub fn set_gateway(&mut self, gateway: IpAddr) {
        self.addresses.set_gateway(gateway);
    }

    /// The table, in no order.
    pub fn neighbours(&self) -> impl Iterator<Item = Neighbour> {
        let neighbour = |(address, entry): (IpAddr, &table::Entry)| Neighbour {
            address,
            state: entry.state,
            link: entry.link(),
        };
        self.table.iter().map(neighbour)
    }

    /// How many packets wait, those included that [`Resolver::poll_transmit`] has ready, and their octets.
    pub fn waiting(&self) -> (usize, usize) {
        self.waiting.len()
    }

    /// The counters.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Where a packet to `destination` goes: [`Resolver::resolve`] for its next hop on this link.
    pub fn send(&mut self, destination: IpAddr, packet: &Frame, now: Instant) -> Resolution {
        match self.addresses.route(destination) {
            Some(next_hop) => self.resolve(next_hop, packet, now),
            None => Resolution::Refused(Refusal::NoRoute),
        }
    }

    /// The link address of a next hop on this link, for a packet without link header. Groups and broadcast addresses
    /// have theirs at once (RFC 1112 6.4, RFC 2464 7); a neighbour that is not known is asked for.
    pub fn resolve(&mut self, next_hop: IpAddr, packet: &Frame, now: Instant) -> Resolution {
        self.advance(now);
        if let Some(entry) = self.table.get(next_hop) {
            let (state, link) = (entry.state, entry.link());
            if state == NeighbourState::Stale {
                self.table.used(next_hop, now);
            }
            return match (link, state) {
                (Some(mac), _) => Resolution::Send(mac),
                (None, NeighbourState::Failed) => Resolution::Refused(Refusal::NoAnswer),
                (None, _) => self.wait(next_hop, packet),
            };
        }
        if let Some(mac) = self.group(next_hop) {
            return Resolution::Send(mac);
        }
        if !own::is_station(next_hop) || self.addresses.state(next_hop).is_some() {
            return Resolution::Refused(Refusal::NoRoute);
        }
        if self.addresses.source(next_hop).is_none() {
            return Resolution::Refused(Refusal::NoSource);
        }
        if let Some(victim) = self.table.insert(next_hop, now) {
            self.statistics.displaced += self.waiting.discard(victim);
        }
        self.wait(next_hop, packet)
    }

    /// A higher layer shows that a neighbour receives what is sent to it (RFC 4861 7.3.1).
    pub fn confirm(&mut self, neighbour: IpAddr, now: Instant) {
        self.advance(now);
        if self.table.get(neighbour).is_some_and(|entry| entry.link().is_some()) {
            self.claim(neighbour, &Claim { link: None, solicited: true, replaces: false }, now);
        }
    }

    /// Takes a received frame. True for ARP packets, neighbour solicitations and advertisements, which are nobody
    /// else's business.
    pub fn handle(&mut self, frame: &Frame, now: Instant) -> bool {
        let Ok(ethernet) = EthernetFrame::new_checked(frame.octets()) else { return false };
        let for_us = ethernet.destination() == self.mac || ethernet.destination().is_multicast();
        match ethernet.ethertype() {
            EtherType::ARP => {
                match ArpPacket::new_checked(ethernet.payload()) {
                    Ok(packet) if for_us => self.handle_arp(&packet, now),
                    Ok(_) => {}
                    Err(_) => self.statistics.ignored += 1,
                }
                true
            }
            EtherType::IPV6 if for_us => Ipv6Packet::new_checked(ethernet.payload())
                .is_ok_and(|packet| self.handle_nd(&packet, ethernet.source(), now)),
            _ => false,
        }
    }

    /// Has an ARP message sent, or what IPv6 has instead; for [`Protocol::send_arp`](crate::Protocol::send_arp).
    ///
    /// # Errors
    /// `EINVAL` when sender and target are of different families, or a reply has no sender; `ENOBUFS` when too many
    /// messages wait.
    pub fn send_arp(&mut self, arp: &Arp) -> Result<(), Error> {
        let mac = |link: Option<LinkAddress>| link.and_then(|link| link.mac());
        let from = mac(arp.sender_link).unwrap_or(self.mac);
        let to = mac(arp.target_link);
        let message = match (arp.operation, arp.sender, arp.target) {
            (ArpOperation::Request, sender, target) => Message::request(from, sender, target, to),
            (ArpOperation::Reply, Some(IpAddr::V4(sender)), IpAddr::V4(target)) => {
                Some(Message::reply(from, sender, (to.unwrap_or(MacAddr::BROADCAST), target)))
            }
            (ArpOperation::Reply, Some(IpAddr::V6(sender)), IpAddr::V6(target)) => {
                Some(Message::advertisement(from, sender, to.map(|to| (to, target))))
            }
            _ => None,
        };
        if self.post(message.ok_or(Error::InvalidArgument)?) { Ok(()) } else { Err(Error::NoBuffers) }
    }

    /// The next frame to be sent, with its link header; `None` when there is nothing more just now. Packets whose wait
    /// is over are ahead of those sent to the same neighbour afterwards only when these frames go first.
    pub fn poll_transmit(&mut self, now: Instant, pool: &Pool) -> Option<Frame> {
        self.advance(now);
        loop {
            if let Some(message) = self.messages.pop_front() {
                match message.emit(self.mac, pool) {
                    Some(frame) => return Some(frame),
                    None => self.statistics.messages_lost += 1,
                }
            } else if let Some((mac, packet)) = self.waiting.pop() {
                match self.framed(mac, &packet, pool) {
                    Some(frame) => {
                        self.statistics.sent += 1;
                        return Some(frame);
                    }
                    None => self.statistics.no_buffer += 1,
                }
            } else if !(self.step(now) || self.request(now)) {
                return None;
            }
        }
    }

    /// When [`Resolver::poll_transmit`] has something to do; the clock's origin when it has already.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.messages.is_empty() || self.waiting.has_released() {
            return Some(Instant::ZERO);
        }
        let request = self.table.next_request().map(|due| due.max(self.pace.ready_at()));
        [self.addresses.next(), self.table.next_timer(), request].into_iter().flatten().min()
    }

    /// The oldest event that waits. When too many wait, the newest are lost.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Ends every state whose time is over.
    fn advance(&mut self, now: Instant) {
        let (waiting, statistics) = (&mut self.waiting, &mut self.statistics);
        self.table.expire(now, |failed| statistics.unanswered += waiting.discard(failed));
    }

    fn wait(&mut self, next_hop: IpAddr, packet: &Frame) -> Resolution {
        if protocol::frame_type(packet.octets()).is_none() {
            return Resolution::Refused(Refusal::NotIp);
        }
        match self.waiting.push(next_hop, packet) {
            Pushed::Kept => {}
            Pushed::Replaced => self.statistics.replaced += 1,
            Pushed::Refused => {
                self.statistics.no_room += 1;
                return Resolution::Refused(Refusal::NoRoom);
            }
        }
        Resolution::Waiting
    }

    /// The link address of a group or of everybody.
    fn group(&self, address: IpAddr) -> Option<MacAddr> {
        match address {
            IpAddr::V4(ip) if ip.is_broadcast() || self.addresses.is_broadcast(ip) => {
                Some(MacAddr::BROADCAST)
            }
            _ => message::group(address),
        }
    }

    /// Takes what a message says of a neighbour.
    fn claim(&mut self, neighbour: IpAddr, claim: &Claim, now: Instant) {
        let reachable = self.jitter.reachable();
        if let Some(mac) = self.table.claim(neighbour, claim, now, reachable)
            && self.waiting.release(neighbour, mac)
            && !claim.solicited
        {
            self.table.used(neighbour, now);
        }
    }

    /// Handles another host's use of an own address.
    fn conflict(&mut self, address: IpAddr, with: MacAddr, now: Instant) {
        self.statistics.conflicts += 1;
        let Some(conflict) = self.addresses.conflict(address, now) else { return };
        if conflict == Conflict::Defended {
            self.post(Message::announcement(self.mac, address));
        }
        self.report(Event::Conflict { address, with, lost: conflict == Conflict::Lost });
    }

    fn answer(&mut self, message: Message) {
        self.statistics.answers += u64::from(self.post(message));
    }

    fn post(&mut self, message: Message) -> bool {
        let room = self.messages.len() < Resolver::MESSAGES;
        if room {
            self.messages.push_back(message);
        } else {
            self.statistics.messages_lost += 1;
        }
        room
    }

    fn report(&mut self, event: Event) {
        if self.events.len() < Resolver::EVENTS {
            self.events.push_back(event);
        }
    }

    /// Does what is due for own addresses; whether there was something.
    fn step(&mut self, now: Instant) -> bool {
        let Some(step) = self.addresses.step(now, &mut self.jitter) else { return false };
        if let Step::Assign(address) = step {
            self.report(Event::Assigned(address));
        }
        let message = match step {
            Step::Probe(address) => Message::request(self.mac, None, address, None),
            Step::Announce(address) | Step::Assign(address) => Some(Message::announcement(self.mac, address)),
        };
        message.is_some_and(|message| self.post(message))
    }

    /// Asks for the neighbour that is due, if the pace allows; whether there was one.
    fn request(&mut self, now: Instant) -> bool {
        if now < self.pace.ready_at() {
            return false;
        }
        let Some((neighbour, link)) = self.table.request(now) else { return false };
        self.pace.take(now);
        // The last own address may be gone by now: then nobody answers.
        if let Some(source) = self.addresses.source(neighbour)
            && let Some(message) = Message::request(self.mac, Some(source), neighbour, link)
        {
            self.statistics.requests += u64::from(self.post(message));
        }
        true
    }

    /// A packet as a frame; `None` when the pool has no buffer.
    fn framed(&self, mac: MacAddr, packet: &waiting::Packet, pool: &Pool) -> Option<Frame> {
        let ethertype = protocol::frame_type(&packet.octets)?;
        let mut header = [0; ETHERNET_HEADER];
        EthernetRepr { destination: mac, source: self.mac, ethertype }.emit(&mut header);
        media::framed(pool, &header, &packet.octets, packet.meta)
    }
}
