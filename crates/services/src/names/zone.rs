//! The zone of a network: names to addresses, and addresses to names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vmlan_frame::{Instant, MacAddr};

use super::is_label;
use super::message::{Answer, Code, Question, Section, kind};
use crate::leases::State;
use crate::settings::Dns;
use crate::{Leases, Name, Port, Ports, Settings};

/// Seconds for which answers may be kept: guests come and go.
const TTL: u32 = 5;
/// Addresses of one family that a name has at most.
const MOST_ADDRESSES: usize = 4;

/// The zone as it is now.
#[derive(Debug, Clone, Copy)]
pub struct Zone<'a> {
    /// The network's settings.
    pub settings: &'a Settings,
    /// The settings of names.
    pub dns: &'a Dns,
    /// The network's ports.
    pub ports: &'a Ports,
    /// The guests' addresses.
    pub leases: &'a Leases,
    /// The time.
    pub now: Instant,
}

/// A name's content.
enum Found {
    /// The zone itself.
    Apex,
    /// A host.
    Host(Vec<IpAddr>),
    /// An address, as a name.
    Pointer(Name),
    /// Nothing but names below it.
    Between,
    /// There is no such name.
    Missing,
}

impl Zone<'_> {
    /// Answers a question about a name of the zone; `None` if it is about another.
    pub fn answer(&self, question: &Question, limit: usize) -> Option<Vec<u8>> {
        let found = self.find(&question.name)?;
        if let Some(edns) = question.edns
            && edns.version > 0
        {
            return Some(question.answer(Code::BadVersion));
        }
        if matches!(question.kind, kind::AXFR | kind::IXFR) {
            return Some(question.answer(Code::Refused));
        }
        let code = if matches!(found, Found::Missing) { Code::NoSuchName } else { Code::NoError };
        let mut answer = Answer::new(question, code, true);
        let asked = |kind| question.kind == kind || question.kind == kind::ANY;
        let mut count = 0;
        let mut push = |kind: u16, data: &[u8]| {
            if asked(kind) {
                answer.push(Section::Answer, None, kind, TTL, data);
                count += 1;
            }
        };
        match &found {
            Found::Apex => {
                push(kind::SOA, &self.soa());
                push(kind::NS, self.server().wire());
            }
            Found::Host(addresses) => {
                for address in addresses {
                    match address {
                        IpAddr::V4(address) => push(kind::A, &address.octets()),
                        IpAddr::V6(address) => push(kind::AAAA, &address.octets()),
                    }
                }
            }
            Found::Pointer(name) => push(kind::PTR, name.wire()),
            Found::Between | Found::Missing => {}
        }
        if count == 0 {
            // RFC 2308 section 3: without it, some resolvers take the answer for a failure and ask on.
            answer.push(Section::Authority, Some(&self.apex_of(question)), kind::SOA, TTL, &self.soa());
        }
        Some(answer.finish(limit))
    }

    fn find(&self, name: &Name) -> Option<Found> {
        if let Some(labels) = name.within(&self.dns.domain) {
            return Some(match labels[..] {
                [] => Found::Apex,
                [label] => text(label).and_then(|label| self.host(label)).map_or(Found::Missing, Found::Host),
                _ => Found::Missing,
            });
        }
        let labels = Vec::from_iter(name.labels());
        if let [label] = labels[..] {
            return text(label).and_then(|label| self.host(label)).map(Found::Host);
        }
        self.reverse(&labels)
    }

    /// The addresses of a host; `None` if there is none of that name.
    fn host(&self, label: &str) -> Option<Vec<IpAddr>> {
        match label {
            "gateway" => return Some(self.own(1)),
            "host" if self.dns.host => return Some(self.own(2)),
            _ => {}
        }
        if let Some(port) = self.ports.iter().find(|port| port.name.eq_ignore_ascii_case(label)) {
            return Some(self.of_port(port));
        }
        let lease = self.leases.named(label)?;
        let heard = self.heard_v6(|mac, _| mac == lease.mac);
        Some(std::iter::once(lease.address.into()).chain(heard).collect())
    }

    /// The addresses of the uplink with this host number.
    fn own(&self, number: u32) -> Vec<IpAddr> {
        let v6 = self.settings.subnet6.map(|subnet| subnet.host(number.into()).into());
        std::iter::once(self.settings.subnet.host(number).into()).chain(v6).collect()
    }

    /// The addresses of a port: those set for it, else those of the guest there.
    fn of_port(&self, port: &Port) -> Vec<IpAddr> {
        let is_guest = |mac: MacAddr| port.mac.is_none_or(|own| own == mac);
        let mut addresses = Vec::from_iter(port.v4().map(IpAddr::V4));
        if addresses.is_empty() {
            // Of several clients at the port, the one that came last.
            let leases = self.leases.bound_at(&port.name).filter(|lease| is_guest(lease.mac));
            addresses.extend(leases.max_by_key(|lease| lease.since).map(|lease| IpAddr::V4(lease.address)));
        }
        if addresses.is_empty() {
            let heard = self.leases.heard().iter(self.now);
            let here = heard.filter(|(_, client)| client.ingress == port.ingress && is_guest(client.mac));
            let v4 = here.filter(|(address, _)| self.is_guests(*address) && address.is_ipv4());
            addresses.extend(v4.map(|(address, _)| address).take(1));
        }
        let set = Vec::from_iter(port.v6().map(IpAddr::V6));
        if set.is_empty() {
            addresses.extend(self.heard_v6(|mac, ingress| ingress == port.ingress && is_guest(mac)));
        }
        addresses.extend(set);
        addresses
    }

    /// The IPv6 addresses that were heard from a guest, the one made of its link address first.
    fn heard_v6(&self, is_theirs: impl Fn(MacAddr, u16) -> bool) -> Vec<IpAddr> {
        let heard = self.leases.heard().iter(self.now);
        let mut found = Vec::from_iter(heard.filter_map(|(address, client)| match address {
            IpAddr::V6(v6) if self.is_guests(address) && is_theirs(client.mac, client.ingress) => {
                Some((!is_eui64(v6, client.mac), address))
            }
            _ => None,
        }));
        found.sort();
        found.into_iter().map(|(_, address)| address).take(MOST_ADDRESSES).collect()
    }

    fn is_guests(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.settings.subnet.contains(address),
            IpAddr::V6(address) => self.settings.subnet6.is_some_and(|subnet| subnet.contains(address)),
        }
    }

    /// Finds an address written as a name (RFC 1035 section 3.5, RFC 3596 section 2.5); `None` if it is not a guest's.
    fn reverse(&self, labels: &[&[u8]]) -> Option<Found> {
        let (digits, unit) = match labels {
            [digits @ .., b"in-addr", b"arpa"] if digits.len() <= 4 => (digits, 8),
            [digits @ .., b"ip6", b"arpa"] if digits.len() <= 32 => (digits, 4),
            _ => return None,
        };
        let mut value = 0_u128;
        for digit in digits.iter().rev() {
            let digit = text(digit)?;
            let number = match unit {
                8 => digit.parse::<u8>().ok().filter(|number| number.to_string() == digit)?,
                _ => u8::from_str_radix(digit, 16).ok().filter(|_| digit.len() == 1)?,
            };
            value = value << unit | u128::from(number);
        }
        let (bits, known) = (if unit == 8 { 32 } else { 128 }, digits.len() * unit);
        let value = value.checked_shl((bits - known) as u32).unwrap_or(0);
        let address = match bits {
            32 => IpAddr::V4(Ipv4Addr::from_bits(value as u32)),
            _ => IpAddr::V6(Ipv6Addr::from_bits(value)),
        };
        // A part of the network's addresses, or one of them.
        let prefix = if bits == 32 { usize::from(self.settings.subnet.prefix) } else { 64 };
        if known < prefix || !self.is_guests(address) {
            return None;
        }
        Some(match known == bits {
            true => self.name_of(address).map_or(Found::Missing, Found::Pointer),
            false => Found::Between,
        })
    }

    fn name_of(&self, address: IpAddr) -> Option<Name> {
        let mut candidates = vec!["gateway".to_owned(), "host".to_owned()];
        candidates.extend(self.ports.owner(address).map(|port| port.name.clone()));
        if let IpAddr::V4(v4) = address
            && let Some(lease) = self.leases.get(v4).filter(|lease| lease.state == State::Bound)
        {
            candidates.push(lease.port.clone());
            candidates.extend(lease.name.clone());
        }
        let heard = self.leases.heard().iter(self.now).find(|(known, _)| *known == address);
        if let Some((_, client)) = heard {
            candidates.push(self.ports.name_of(&client));
            let leases = self.leases.iter().filter(|lease| lease.mac == client.mac);
            candidates.extend(leases.filter_map(|lease| lease.name.clone()));
        }
        let leads_here = |label: &&String| {
            let addresses = self.host(&label.to_ascii_lowercase()).unwrap_or_default();
            is_label(label) && addresses.contains(&address)
        };
        let label = candidates.iter().find(leads_here)?;
        Name::parse(label).ok()?.under(&self.dns.domain)
    }

    /// The name at which the zone of a question begins.
    fn apex_of(&self, question: &Question) -> Name {
        let labels = Vec::from_iter(question.name.labels());
        let keep = match labels[..] {
            // The reverse zone begins at the last whole label of the prefix, and two for the tree.
            [.., b"in-addr", b"arpa"] => usize::from(self.settings.subnet.prefix / 8) + 2,
            [.., b"ip6", b"arpa"] => 64 / 4 + 2,
            _ => return self.dns.domain.clone(),
        };
        Name::of(&labels[labels.len().saturating_sub(keep)..]).expect("it is the end of a name")
    }

    fn server(&self) -> Name {
        let gateway = Name::parse("gateway").expect("it is a name");
        gateway.under(&self.dns.domain).unwrap_or(gateway)
    }

    fn soa(&self) -> Vec<u8> {
        let mailbox = Name::parse("hostmaster").expect("it is a name");
        let mailbox = mailbox.under(&self.dns.domain).unwrap_or(mailbox);
        // Serial, refresh, retry, expire, and how long a negative answer may be kept.
        let numbers = [1, 3600, 600, 86_400, TTL].map(u32::to_be_bytes).concat();
        [self.server().wire(), mailbox.wire(), &numbers].concat()
    }
}

fn text(label: &[u8]) -> Option<&str> {
    std::str::from_utf8(label).ok()
}

/// True if an address ends with the interface identifier that is made of a link address (RFC 4291 appendix A).
fn is_eui64(address: Ipv6Addr, mac: MacAddr) -> bool {
    let [a, b, c, d, e, f] = mac.0;
    address.octets()[8..] == [a ^ 2, b, c, 0xff, 0xfe, d, e, f]
}
