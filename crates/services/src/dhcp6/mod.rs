//! A DHCPv6 server (RFC 8415): what a network is like for everybody, and addresses for ports that have some set.
//!
//! It keeps no state: a set address is the port's for ever, and all others are made by guests themselves.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv6Addr};

use vmlan_frame::Instant;

use crate::packet::{DHCP6_CLIENT, DHCP6_SERVER, udp_frame};
use crate::rate::Rate;
use crate::settings::Dhcp;
use crate::{Client, Event, Port, Ports, Settings};
use vmlan_nat::envelope::{GATEWAY_LINK_LOCAL, Subnet6};

/// Messages that a port may send in a second.
const MESSAGES: u32 = 50;
/// Seconds for which a set address is valid, preferred, and after which it is renewed and rebound.
const VALID: u32 = 86_400;
const PREFERRED: u32 = 43_200;
const RENEWAL: u32 = 21_600;
const REBINDING: u32 = 34_560;
/// Associations of a message that are answered, and addresses of each: so many that the answer fits into a packet.
const ASSOCIATIONS: usize = 8;
const ADDRESSES: usize = 3;
/// Octets of the domains that are told at most.
const LONGEST_SEARCH: usize = 512;
/// Octets of the longest identifier of a client (RFC 8415 section 11.1).
const LONGEST_DUID: usize = 130;

/// The kinds of messages (RFC 8415 section 7.3).
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of RFC 8415")]
    pub const SOLICIT: u8 = 1;
    pub const ADVERTISE: u8 = 2;
    pub const REQUEST: u8 = 3;
    pub const CONFIRM: u8 = 4;
    pub const RENEW: u8 = 5;
    pub const REBIND: u8 = 6;
    pub const REPLY: u8 = 7;
    pub const RELEASE: u8 = 8;
    pub const DECLINE: u8 = 9;
    pub const INFORMATION_REQUEST: u8 = 11;
}

mod option {
    pub(super) const CLIENT: u16 = 1;
    pub(super) const SERVER: u16 = 2;
    pub(super) const IA_NA: u16 = 3;
    pub(super) const IA_TA: u16 = 4;
    pub(super) const ADDRESS: u16 = 5;
    pub(super) const REQUESTED: u16 = 6;
    pub(super) const STATUS: u16 = 13;
    pub(super) const RAPID_COMMIT: u16 = 14;
    pub(super) const DNS: u16 = 23;
    pub(super) const SEARCH: u16 = 24;
    pub(super) const IA_PD: u16 = 25;
    pub(super) const NTP: u16 = 56;
    pub(super) const NTP_ADDRESS: u16 = 1;
}

/// Status codes (RFC 8415 section 21.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Success = 0,
    NoAddresses = 2,
    NoBinding = 3,
    NotOnLink = 4,
    NoPrefix = 6,
}

/// Why a message gets no answer; each is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It is cut off, or lacks what its kind must have.
    Malformed,
    /// It is a server's or a relay's, or of no known kind.
    Kind,
    /// It is for another server.
    OtherServer,
    /// The port sent too many.
    Rate,
    /// There is nothing to say.
    Nothing,
}

/// The consequence of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The answer.
    pub message: Vec<u8>,
    /// An event.
    pub event: Option<Event>,
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

/// A message of a client.
struct Message<'a> {
    kind: u8,
    transaction: [u8; 3],
    options: Vec<(u16, &'a [u8])>,
}

/// Takes options apart; `None` if one is cut off.
fn options(mut octets: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut found = Vec::new();
    while !octets.is_empty() {
        let (head, rest) = octets.split_at_checked(4)?;
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let (value, behind) = rest.split_at_checked(len)?;
        found.push((u16::from_be_bytes([head[0], head[1]]), value));
        octets = behind;
    }
    Some(found)
}

impl<'a> Message<'a> {
    fn parse(octets: &'a [u8]) -> Option<Message<'a>> {
        let (&[kind, a, b, c], rest) = octets.split_first_chunk::<4>()?;
        Some(Message { kind, transaction: [a, b, c], options: options(rest)? })
    }

    fn get(&self, number: u16) -> Option<&'a [u8]> {
        self.options.iter().find(|(known, _)| *known == number).map(|(_, value)| *value)
    }

    /// The associations that the client asks for, with their kinds.
    fn associations(&self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let kinds = [option::IA_NA, option::IA_TA, option::IA_PD];
        self.options.iter().copied().filter(move |(kind, _)| kinds.contains(kind))
    }

    fn wants(&self, number: u16) -> bool {
        let list = self.get(option::REQUESTED).unwrap_or_default();
        list.chunks_exact(2).any(|pair| pair == number.to_be_bytes())
    }
}

fn push(octets: &mut Vec<u8>, number: u16, value: &[u8]) {
    octets.extend(number.to_be_bytes());
    octets.extend((value.len() as u16).to_be_bytes());
    octets.extend(value);
}

fn push_status(octets: &mut Vec<u8>, status: Status) {
    push(octets, option::STATUS, &(status as u16).to_be_bytes());
}

/// The addresses in an association.
fn addresses(association: &[u8]) -> Vec<Ipv6Addr> {
    let inner = association.get(12..).and_then(options).unwrap_or_default();
    let addresses = inner.iter().filter(|(number, _)| *number == option::ADDRESS);
    addresses.filter_map(|(_, value)| Some(Ipv6Addr::from_octets(*value.first_chunk()?))).collect()
}

impl Server {
    /// Answers a message of a client.
    ///
    /// # Errors
    /// [`Refusal`] if it is not answered.
    pub fn handle(
        &mut self,
        settings: &Settings,
        ports: &Ports,
        from: Client,
        octets: &[u8],
        now: Instant,
    ) -> Result<Outcome, Refusal> {
        let (Some(dhcp), Some(subnet)) = (&settings.dhcp, settings.subnet6) else {
            return Err(Refusal::Nothing);
        };
        if !self.rate.take(from.ingress, now) {
            return Err(Refusal::Rate);
        }
        let message = Message::parse(octets).ok_or(Refusal::Malformed)?;
        let port = ports.get(from.ingress).filter(|port| port.is_for(&from));
        let set = port.and_then(|port| port.v6().find(|address| subnet.contains(*address)));
        Case { settings, dhcp, subnet, message, set, from, port, name: ports.name_of(&from) }.handle()
    }

    /// Forgets a port.
    pub fn forget(&mut self, ingress: u16) {
        self.rate.forget(ingress);
    }
}

/// Makes the frame of an answer, from the gateway's link-local address.
pub fn frame(settings: &Settings, client: Client, to: Ipv6Addr, message: &[u8]) -> Option<Vec<u8>> {
    let addresses = (IpAddr::V6(GATEWAY_LINK_LOCAL), IpAddr::V6(to));
    udp_frame(settings.mac, client.mac, addresses, (DHCP6_SERVER, DHCP6_CLIENT), message)
}

/// One message with all that it is judged by.
struct Case<'a> {
    settings: &'a Settings,
    dhcp: &'a Dhcp,
    subnet: Subnet6,
    message: Message<'a>,
    /// The address set for the client.
    set: Option<Ipv6Addr>,
    from: Client,
    port: Option<&'a Port>,
    name: String,
}

impl Case<'_> {
    fn handle(&self) -> Result<Outcome, Refusal> {
        self.check()?;
        let message = &self.message;
        let rapid = message.kind == kind::SOLICIT && message.get(option::RAPID_COMMIT).is_some();
        let answer = if message.kind == kind::SOLICIT && !rapid { kind::ADVERTISE } else { kind::REPLY };
        let mut octets = vec![answer];
        octets.extend(message.transaction);
        if let Some(client) = message.get(option::CLIENT) {
            push(&mut octets, option::CLIENT, client);
        }
        push(&mut octets, option::SERVER, &self.identity());
        let mut event = None;
        match message.kind {
            kind::CONFIRM => push_status(&mut octets, self.confirm()?),
            kind::RELEASE => push_status(&mut octets, Status::Success),
            kind::DECLINE => {
                push_status(&mut octets, Status::Success);
                event = self.conflict();
            }
            kind::REBIND if self.set.is_none() && self.is_all_on_link() => {
                // Another server may have given what it asks for (RFC 8415 section 18.3.5).
                return Err(Refusal::Nothing);
            }
            _ => self.associations(&mut octets),
        }
        if rapid {
            push(&mut octets, option::RAPID_COMMIT, &[]);
        }
        self.network(&mut octets);
        Ok(Outcome { message: octets, event })
    }

    /// RFC 8415 section 16: each kind has to name its client, and a server or none.
    fn check(&self) -> Result<(), Refusal> {
        let message = &self.message;
        let (client, server) = (message.get(option::CLIENT), message.get(option::SERVER));
        let for_us = server == Some(&self.identity()[..]);
        let named = client.is_some_and(|duid| (3..=LONGEST_DUID).contains(&duid.len()));
        match message.kind {
            kind::SOLICIT | kind::CONFIRM | kind::REBIND if server.is_some() => Err(Refusal::Malformed),
            kind::SOLICIT | kind::CONFIRM | kind::REBIND if named => Ok(()),
            kind::REQUEST | kind::RENEW | kind::RELEASE | kind::DECLINE if !named => Err(Refusal::Malformed),
            kind::REQUEST | kind::RENEW | kind::RELEASE | kind::DECLINE if for_us => Ok(()),
            kind::REQUEST | kind::RENEW | kind::RELEASE | kind::DECLINE => Err(Refusal::OtherServer),
            kind::INFORMATION_REQUEST if message.associations().next().is_some() => Err(Refusal::Malformed),
            kind::INFORMATION_REQUEST if server.is_some() && !for_us => Err(Refusal::OtherServer),
            kind::INFORMATION_REQUEST if client.is_none() || named => Ok(()),
            kind::SOLICIT | kind::CONFIRM | kind::REBIND | kind::INFORMATION_REQUEST => {
                Err(Refusal::Malformed)
            }
            _ => Err(Refusal::Kind),
        }
    }

    /// The server's identifier: a UUID (RFC 6355).
    fn identity(&self) -> [u8; 18] {
        let mut octets = [0; 18];
        octets[1] = 4;
        octets[2..].copy_from_slice(&self.settings.identity);
        octets
    }

    fn is_all_on_link(&self) -> bool {
        let associations = self.message.associations();
        associations.flat_map(|(_, value)| addresses(value)).all(|address| self.subnet.contains(address))
    }

    fn confirm(&self) -> Result<Status, Refusal> {
        let mut associations = self.message.associations();
        if associations.all(|(_, value)| addresses(value).is_empty()) {
            return Err(Refusal::Nothing);
        }
        Ok(if self.is_all_on_link() { Status::Success } else { Status::NotOnLink })
    }

    fn conflict(&self) -> Option<Event> {
        let set = self.set?;
        let is_set = |(_, value): (u16, &[u8])| addresses(value).contains(&set);
        let port = self.port.map_or_else(|| self.name.clone(), |port| port.name.clone());
        let event = Event::AddressConflict { address: set.into(), mac: self.from.mac, port };
        self.message.associations().any(is_set).then_some(event)
    }

    /// Answers the associations: the first of addresses gets the one that is set, all others none.
    fn associations(&self, octets: &mut Vec<u8>) {
        let renews = matches!(self.message.kind, kind::RENEW | kind::REBIND);
        let mut set = self.set;
        for (kind, value) in self.message.associations().take(ASSOCIATIONS) {
            let Some(identity) = value.get(..4) else { continue };
            let mut content = identity.to_vec();
            let given = if kind == option::IA_NA { set.take() } else { None };
            let times = if given.is_some() { [RENEWAL, REBINDING] } else { [0, 0] };
            if kind != option::IA_TA {
                content.extend(times.map(u32::to_be_bytes).concat());
            }
            if let Some(given) = given {
                push_address(&mut content, given, [PREFERRED, VALID]);
            }
            if kind == option::IA_NA && renews {
                // What it has and must not have any more (RFC 8415 section 18.3.4).
                for old in addresses(value).into_iter().filter(|old| Some(*old) != given).take(ADDRESSES) {
                    push_address(&mut content, old, [0, 0]);
                }
            }
            match (kind, given) {
                (_, Some(_)) => {}
                (option::IA_PD, None) => push_status(&mut content, Status::NoPrefix),
                (_, None) if renews => push_status(&mut content, Status::NoBinding),
                (_, None) => push_status(&mut content, Status::NoAddresses),
            }
            push(octets, kind, &content);
        }
    }

    /// Adds the network's servers and domains, as far as they are asked for.
    fn network(&self, octets: &mut Vec<u8>) {
        if self.settings.dns.is_some() {
            if self.message.wants(option::DNS) {
                push(octets, option::DNS, &self.subnet.host(1).octets());
            }
            if self.message.wants(option::SEARCH) {
                let mut list = Vec::new();
                for name in self.settings.search() {
                    if list.len() + name.wire().len() <= LONGEST_SEARCH {
                        list.extend(name.wire());
                    }
                }
                push(octets, option::SEARCH, &list);
            }
        }
        let servers = self.dhcp.ntp.iter().filter_map(|server| match server {
            IpAddr::V6(server) => Some(server),
            IpAddr::V4(_) => None,
        });
        let mut list = Vec::new();
        servers.for_each(|server| push(&mut list, option::NTP_ADDRESS, &server.octets()));
        if !list.is_empty() && self.message.wants(option::NTP) {
            push(octets, option::NTP, &list);
        }
    }
}

fn push_address(octets: &mut Vec<u8>, address: Ipv6Addr, times: [u32; 2]) {
    let value = [&address.octets()[..], &times.map(u32::to_be_bytes).concat()].concat();
    push(octets, option::ADDRESS, &value);
}
