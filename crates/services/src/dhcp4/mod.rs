//! A DHCPv4 server (RFC 2131) that speaks for the gateway.
//!
//! It has no state but the records in [`Leases`]; a DISCOVER makes one *offered*, a REQUEST *bound*. Addresses are
//! chosen without asking the network: the switch hears which addresses are in use ([`crate::leases::Heard`]), so no
//! client waits for a probe. An answer that binds must not leave before the records are on disk ([`Outcome::binds`]).

mod message;
mod options;
#[cfg(test)]
pub(crate) mod tests;

use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr};

use siphasher::sip::SipHasher13;
use vmlan_frame::{Instant, MacAddr};

pub use message::{Refusal, Request, kind, option};

use crate::leases::{ASIDE, Lease, MOST_EACH, OFFER, State};
use crate::packet::{DHCP_CLIENT, DHCP_SERVER, TO_ALL, udp_frame};
use crate::rate::Rate;
use crate::settings::Dhcp;
use crate::{Client, Event, Leases, Port, Ports, Settings};
use options::Answer;

/// Messages that a port may send in a second.
const MESSAGES: u32 = 50;
/// Seconds of a lease of a set address, at least.
const SET_LEASE: u32 = 12 * 3600;

/// An answer of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The link address that it goes to: the client's, or all.
    pub to: MacAddr,
    /// The address that it goes to, port 68.
    pub destination: Ipv4Addr,
    /// The message.
    pub message: Vec<u8>,
}

impl Reply {
    /// The whole frame, from the gateway.
    pub fn frame(&self, settings: &Settings) -> Option<Vec<u8>> {
        let addresses = (IpAddr::V4(settings.gateway()), IpAddr::V4(self.destination));
        udp_frame(settings.mac, self.to, addresses, (DHCP_SERVER, DHCP_CLIENT), &self.message)
    }
}

/// The consequence of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The answer, if there is one.
    pub reply: Option<Reply>,
    /// True if records changed that must outlive the process; the answer is to wait until they are written.
    pub binds: bool,
    /// The address that the client has from now on.
    pub bound: Option<Ipv4Addr>,
    /// Events.
    pub events: Vec<Event>,
}

/// The server.
#[derive(Debug)]
pub struct Server {
    rate: Rate,
}

impl Default for Server {
    fn default() -> Server {
        Server { rate: Rate::per_second(MESSAGES) }
    }
}

/// One message with all that it is judged by.
struct Case<'a> {
    settings: &'a Settings,
    dhcp: &'a Dhcp,
    ports: &'a Ports,
    leases: &'a mut Leases,
    from: Client,
    port: Option<&'a Port>,
    port_name: String,
    client: Vec<u8>,
    request: Request,
    now: Instant,
    wall: u64,
}

impl Server {
    /// Answers a message of a client. `wall` is the wall clock's time in seconds, in which leases are counted.
    ///
    /// # Errors
    /// [`Refusal`] if it is not answered.
    pub fn handle(
        &mut self,
        (settings, ports, leases): (&Settings, &Ports, &mut Leases),
        from: Client,
        message: &[u8],
        now: Instant,
        wall: u64,
    ) -> Result<Outcome, Refusal> {
        let dhcp = settings.dhcp.as_ref().ok_or(Refusal::OtherServer)?;
        if !self.rate.take(from.ingress, now) {
            return Err(Refusal::Rate);
        }
        let request = Request::parse(message)?;
        if request.mac != from.mac {
            return Err(Refusal::Hardware);
        }
        let (port, port_name) = (ports.get(from.ingress), ports.name_of(&from));
        let client = request.client();
        let mut case =
            Case { settings, dhcp, ports, leases, from, port, port_name, client, request, now, wall };
        case.handle()
    }

    /// Forgets a port.
    pub fn forget(&mut self, ingress: u16) {
        self.rate.forget(ingress);
    }
}

impl Case<'_> {
    fn handle(&mut self) -> Result<Outcome, Refusal> {
        match self.request.kind {
            kind::DISCOVER => self.discover(),
            kind::REQUEST => self.request(),
            kind::DECLINE => self.decline(),
            kind::RELEASE => self.release(),
            kind::INFORM => self.inform(),
            kind::OFFER | kind::ACK | kind::NAK => Err(Refusal::Reply),
            _ => Err(Refusal::Malformed),
        }
    }

    fn discover(&mut self) -> Result<Outcome, Refusal> {
        let Some(address) = self.choose() else {
            if self.is_at_limit() {
                return Err(Refusal::NoAddress);
            }
            let event = Event::PoolExhausted { mac: self.request.mac, port: self.port_name.clone() };
            return Ok(Outcome { events: vec![event], ..Outcome::default() });
        };
        if self.request.option(option::RAPID_COMMIT).is_some() {
            return Ok(self.bind(address));
        }
        match self.leases.get(address) {
            Some(lease) if self.is_own(lease) => self.leases.hold(address, self.wall + OFFER),
            _ => {
                let lease = self.record(address, State::Offered, OFFER);
                self.leases.put(lease);
            }
        }
        let lease = Some(self.seconds(address));
        Ok(Outcome { reply: Some(self.answer(kind::OFFER, address, lease)), ..Outcome::default() })
    }

    fn request(&mut self) -> Result<Outcome, Refusal> {
        let (server, asked) = (self.request.address(option::SERVER), self.request.address(option::REQUESTED));
        let ciaddr = self.request.ciaddr;
        if server.is_some_and(|server| server != self.settings.gateway()) {
            self.forget_offer();
            return Err(Refusal::OtherServer);
        }
        let address = if ciaddr.is_unspecified() { asked.ok_or(Refusal::NotTheirs)? } else { ciaddr };
        if !self.may_have(address) {
            return Ok(Outcome { reply: Some(self.nak()), ..Outcome::default() });
        }
        let is_new = !self.leases.get(address).is_some_and(|lease| self.is_own(lease));
        if is_new && !self.make_room() {
            return Err(Refusal::NoAddress);
        }
        Ok(self.bind(address))
    }

    /// Sets an address aside that the client found in use; set addresses stay the client's all the same.
    fn decline(&mut self) -> Result<Outcome, Refusal> {
        let address = self.request.address(option::REQUESTED).ok_or(Refusal::NotTheirs)?;
        let lease = self.leases.get(address).filter(|lease| self.is_own(lease)).ok_or(Refusal::NotTheirs)?;
        let event = Event::AddressConflict {
            address: address.into(),
            mac: self.request.mac,
            port: self.port_name.clone(),
        };
        if lease.set {
            self.leases.set_state(address, State::Ended, self.wall);
        } else {
            self.leases.set_state(address, State::Aside, self.wall + ASIDE);
        }
        Ok(Outcome { binds: true, events: vec![event], ..Outcome::default() })
    }

    fn release(&mut self) -> Result<Outcome, Refusal> {
        let address = self.request.ciaddr;
        self.leases.get(address).filter(|lease| self.is_own(lease)).ok_or(Refusal::NotTheirs)?;
        let event = self.leases.release(address, self.wall).ok_or(Refusal::NotTheirs)?;
        Ok(Outcome { binds: true, events: vec![event], ..Outcome::default() })
    }

    fn inform(&mut self) -> Result<Outcome, Refusal> {
        let reply = self.answer(kind::ACK, Ipv4Addr::UNSPECIFIED, None);
        Ok(Outcome { reply: Some(reply), ..Outcome::default() })
    }

    /// True if a record is this client's at this port, or at one that is not up any more.
    fn is_own(&self, lease: &Lease) -> bool {
        let same_client = lease.client == self.client || (lease.set && self.set_address().is_some());
        same_client
            && lease.state != State::Aside
            && (lease.port == self.port_name || !self.ports.is_up(&lease.port))
    }

    /// The address set for this client.
    fn set_address(&self) -> Option<Ipv4Addr> {
        let port = self.port.filter(|port| port.is_for(&self.from))?;
        let mut addresses = port.v4().filter(|address| self.settings.subnet.contains(*address));
        let first = addresses.next()?;
        // Of several, the one that the client has or asks for.
        let asked = self.request.address(option::REQUESTED).unwrap_or(self.request.ciaddr);
        Some(addresses.find(|address| *address == asked).unwrap_or(first))
    }

    /// The address for a client that asks for any, with room for its record.
    fn choose(&mut self) -> Option<Ipv4Addr> {
        if let Some(address) = self.set_address() {
            return Some(address);
        }
        let own = self.leases.own(&self.client, &self.port_name, self.ports).map(|lease| lease.address);
        if let Some(address) = own.filter(|address| self.may_have(*address) && !self.is_heard(*address)) {
            return Some(address);
        }
        if !self.make_room() {
            return None;
        }
        let asked = self.request.address(option::REQUESTED);
        let asked = asked.filter(|address| self.is_free(*address));
        asked.or_else(|| self.next_free()).or_else(|| {
            let fits = |lease: &Lease| self.is_in_pool(lease.address) && !self.is_heard(lease.address);
            self.leases.oldest_ended(None, self.wall, fits)
        })
    }

    /// The first free address from the client's own place in the pool on, which is the same each time.
    fn next_free(&self) -> Option<Ipv4Addr> {
        let (first, last) = (self.dhcp.pool.start().to_bits(), self.dhcp.pool.end().to_bits());
        let count = u64::from(last.checked_sub(first)?) + 1;
        // Nothing secret, and the same after a restart.
        let mut hasher = SipHasher13::new_with_keys(0, 0);
        hasher.write(&self.client);
        let start = hasher.finish() % count;
        let candidates = (0..count).map(|step| first + ((start + step) % count) as u32);
        candidates.map(Ipv4Addr::from_bits).find(|address| self.is_free(*address))
    }

    /// True if the client may use this address: it is right for the client, and no other has it.
    fn may_have(&self, address: Ipv4Addr) -> bool {
        if let Some(set) = self.set_address() {
            return set == address;
        }
        match self.leases.get(address) {
            Some(lease) => self.is_in_pool(address) && self.is_own(lease),
            None => self.is_free(address),
        }
    }

    fn is_free(&self, address: Ipv4Addr) -> bool {
        self.is_in_pool(address) && self.leases.get(address).is_none() && !self.is_heard(address)
    }

    fn is_in_pool(&self, address: Ipv4Addr) -> bool {
        let subnet = &self.settings.subnet;
        let reserved = [subnet.network, subnet.host(1), subnet.host(2), subnet.broadcast()];
        self.dhcp.pool.contains(&address)
            && subnet.contains(address)
            && !reserved.contains(&address)
            && self.ports.owner(address.into()).is_none()
    }

    fn is_heard(&self, address: Ipv4Addr) -> bool {
        self.leases.heard().is_anothers(address.into(), self.request.mac, self.now)
    }

    fn is_at_limit(&self) -> bool {
        self.leases.count(&self.port_name) >= MOST_EACH || self.leases.is_full()
    }

    /// Makes room for one record more by giving up the one that ended first, of the same port if that has as many as it
    /// may; false if there is none.
    fn make_room(&mut self) -> bool {
        if !self.is_at_limit() {
            return true;
        }
        let of_port = self.leases.count(&self.port_name) >= MOST_EACH;
        let port = of_port.then_some(self.port_name.as_str());
        let oldest = self.leases.oldest_ended(port, self.wall, |_| true);
        oldest.and_then(|address| self.leases.remove(address)).is_some()
    }

    fn forget_offer(&mut self) {
        if let Some(lease) = self.leases.own(&self.client, &self.port_name, self.ports) {
            let (address, state) = (lease.address, lease.state);
            match state {
                State::Offered => {
                    self.leases.remove(address);
                }
                _ => self.leases.hold(address, 0),
            }
        }
    }

    fn bind(&mut self, address: Ipv4Addr) -> Outcome {
        let seconds = self.seconds(address);
        let mut lease = self.record(address, State::Bound, seconds.into());
        let before = self.leases.get(address).filter(|before| {
            before.state == State::Bound && before.client == lease.client && before.port == lease.port
        });
        let is_new = before.is_none();
        if let Some(before) = before.filter(|before| before.name == lease.name) {
            lease.since = before.since;
        }
        let event =
            Event::Lease { address, mac: lease.mac, port: lease.port.clone(), name: lease.name.clone() };
        self.leases.put(lease);
        Outcome {
            reply: Some(self.answer(kind::ACK, address, Some(seconds))),
            binds: true,
            bound: Some(address),
            events: Vec::from_iter(is_new.then_some(event)),
        }
    }

    fn record(&self, address: Ipv4Addr, state: State, seconds: u64) -> Lease {
        Lease {
            address,
            mac: self.request.mac,
            client: self.client.clone(),
            port: self.port_name.clone(),
            name: self.request.name(),
            since: self.wall,
            until: self.wall.saturating_add(seconds),
            state,
            set: self.set_address() == Some(address),
            held: 0,
        }
    }

    fn seconds(&self, address: Ipv4Addr) -> u32 {
        let lease = self.dhcp.lease;
        if self.set_address() == Some(address) { lease.max(SET_LEASE) } else { lease }
    }

    fn nak(&self) -> Reply {
        let answer = Answer {
            request: &self.request,
            kind: kind::NAK,
            address: Ipv4Addr::UNSPECIFIED,
            lease: None,
            port: self.port,
        };
        let message = options::write(self.settings, self.dhcp, &answer);
        Reply { to: MacAddr::BROADCAST, destination: TO_ALL, message }
    }

    fn answer(&self, kind: u8, address: Ipv4Addr, lease: Option<u32>) -> Reply {
        let request = &self.request;
        let answer = Answer { request, kind, address, lease, port: self.port };
        let message = options::write(self.settings, self.dhcp, &answer);
        // RFC 2131 section 4.1, without relays.
        let (to, destination) = if !request.ciaddr.is_unspecified() {
            (request.mac, request.ciaddr)
        } else if request.wants_broadcast() {
            (MacAddr::BROADCAST, TO_ALL)
        } else if address.is_unspecified() {
            (request.mac, TO_ALL)
        } else {
            (request.mac, address)
        };
        Reply { to, destination, message }
    }
}
