//! The addresses that guests may reach through the uplink.

mod egress;
mod names;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vmlan_frame::Instant;
use vmlan_frame::wire::IpProtocol;

use crate::envelope::{GATEWAY_LINK_LOCAL, Subnet4, Subnet6};
use crate::keyed::Keyed;
use egress::Question;
use names::Names;

/// The part of the world that is open to guests, beside what never is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Egress {
    /// The internet and the host's local networks.
    #[default]
    All,
    /// All but private ranges.
    Internet,
    /// Nothing.
    None,
    /// The first rule that matches decides; what none matches is denied.
    Rules(Vec<Rule>),
}

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The decision.
    pub allow: bool,
    /// The addresses that it is about.
    pub to: To,
    /// The ports; all when `None`.
    pub ports: Option<RangeInclusive<u16>>,
    /// TCP or UDP; every protocol when `None`.
    pub protocol: Option<IpProtocol>,
}

/// The addresses of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// Those that begin alike in so many bits.
    Prefix(IpAddr, u8),
    /// Those that the guest got for a name from the network's DNS. In lower case without a final dot; `*.` in front
    /// stands for one label or more.
    Name(String),
    /// All.
    Any,
}

/// A service of the host that guests may reach at host number 2 of their subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// TCP or UDP.
    pub protocol: IpProtocol,
    /// The port that guests use.
    pub port: u16,
    /// The place on the host.
    pub target: Target,
}

/// The place of a host service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A port of 127.0.0.1 for guests that use IPv4, of `::1` for those that use IPv6.
    Loopback(u16),
    /// A Unix socket.
    Path(PathBuf),
}

/// The place of a host service, for one guest's packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostTarget<'a> {
    /// A port of the loopback interface.
    Address(SocketAddr),
    /// A Unix socket.
    Path(&'a Path),
}

/// The decision about a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Open; the address to connect or send to, which is IPv4 for a destination that stands for one.
    Connect(SocketAddr),
    /// A host service.
    Host(HostTarget<'a>),
    /// An address of the gateway itself.
    Gateway,
    /// The host's address without an open service at that port: refused as any closed port.
    Closed,
    /// Multicast or broadcast, to which errors are never sent (RFC 1122 section 3.2.2).
    Group,
    /// Not open to this guest.
    Deny,
}

/// An address that a guest got from the network's DNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learned<'a> {
    /// The port of the network that asked.
    pub ingress: u16,
    /// The name that was asked for, in lower case without a final dot.
    pub name: &'a str,
    /// The address of the answer.
    pub address: IpAddr,
    /// The time to live of the answer.
    pub ttl: Duration,
}

/// The addresses of an uplink and what its guests may reach, to make a [`Reach`] from.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The guests' IPv4 addresses.
    pub subnet4: Option<Subnet4>,
    /// The guests' IPv6 addresses.
    pub subnet6: Option<Subnet6>,
    /// The part of the world that is open to all guests of the network.
    pub egress: Egress,
    /// Services of the host that are open.
    pub services: Vec<Service>,
    /// True if guests are not told that a destination is not open.
    pub deny_silently: bool,
}

/// Decides which destinations a guest reaches.
///
/// Destinations that stand for an IPv4 address (`::ffff:0:0/96`, `64:ff9b::/96`) are that address first. Then come the
/// gateway and the host services, then what is never open: this host, its links, the guests' subnet, groups. What is
/// left is decided by the network's [`Egress`] and, where one is set, the port's as well: both have to agree.
#[derive(Debug)]
pub struct Reach {
    subnet4: Option<Subnet4>,
    subnet6: Option<Subnet6>,
    egress: Egress,
    services: HashMap<(IpProtocol, u16), Target, Keyed>,
    /// Every address of this host.
    host: HashSet<IpAddr, Keyed>,
    /// By number of the port.
    ports: Vec<Port>,
    deny_silently: bool,
    generation: u64,
}

/// The part that is one port's.
#[derive(Debug)]
struct Port {
    egress: Option<Egress>,
    names: Names,
}

impl Port {
    fn new(keyed: Keyed) -> Port {
        Port { egress: None, names: Names::new(keyed) }
    }
}

impl Reach {
    /// The least time that an address stays open after it was learnt.
    pub const LEAST_LEARNED: Duration = Duration::from_secs(60);

    /// Makes the decisions of `plan`; `key` is random. The host's addresses are told next.
    pub fn new(plan: Plan, key: [u64; 2]) -> Reach {
        let keyed = Keyed(key);
        let mut reach = Reach {
            subnet4: plan.subnet4,
            subnet6: plan.subnet6,
            egress: plan.egress,
            services: HashMap::with_hasher(keyed),
            host: HashSet::with_hasher(keyed),
            ports: Vec::new(),
            deny_silently: plan.deny_silently,
            generation: 1,
        };
        reach.set_services(plan.services);
        reach
    }

    /// A number that changes with everything that is decided by, but for what is learnt.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The guests' IPv4 addresses.
    pub fn subnet4(&self) -> Option<Subnet4> {
        self.subnet4
    }

    /// The guests' IPv6 addresses.
    pub fn subnet6(&self) -> Option<Subnet6> {
        self.subnet6
    }

    /// Replaces the list of this host's addresses.
    pub fn set_host_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.host.clear();
        self.host.extend(addresses);
        self.generation += 1;
    }

    /// Replaces the list of open host services.
    pub fn set_services(&mut self, services: impl IntoIterator<Item = Service>) {
        self.services.clear();
        self.services.extend(services.into_iter().map(|it| ((it.protocol, it.port), it.target)));
        self.generation += 1;
    }

    /// Replaces the egress of the network.
    pub fn set_egress(&mut self, egress: Egress) {
        self.egress = egress;
        self.generation += 1;
    }

    /// Has guests told that a destination is not open, or not.
    pub fn set_deny_silently(&mut self, silently: bool) {
        self.deny_silently = silently;
    }

    /// True if guests are not told that a destination is not open.
    pub fn denies_silently(&self) -> bool {
        self.deny_silently
    }

    /// Sets or removes the stricter egress of one port.
    pub fn set_port_egress(&mut self, ingress: u16, egress: Option<Egress>) {
        self.port_mut(ingress).egress = egress;
        self.generation += 1;
    }

    /// Forgets the egress of a port and the names that it learnt.
    pub fn forget_port(&mut self, ingress: u16) {
        if let Some(port) = self.ports.get_mut(usize::from(ingress)) {
            *port = Port::new(*self.host.hasher());
            self.generation += 1;
        }
    }

    fn port_mut(&mut self, ingress: u16) -> &mut Port {
        let index = usize::from(ingress);
        if self.ports.len() <= index {
            let keyed = *self.host.hasher();
            self.ports.resize_with(index + 1, || Port::new(keyed));
        }
        &mut self.ports[index]
    }

    /// Remembers an address that a guest got for a name, if a rule is about that name.
    pub fn learn(&mut self, learned: Learned<'_>, now: Instant) {
        let network = self.egress.has_rule_for(learned.name);
        let port = self.port_mut(learned.ingress);
        if network || port.egress.as_ref().is_some_and(|egress| egress.has_rule_for(learned.name)) {
            let until = now + learned.ttl.max(Reach::LEAST_LEARNED);
            port.names.insert(canonical(learned.address), learned.name, until, now);
        }
    }

    /// True if what is open to the guest at `ingress` depends on ports, which fragments do not have.
    pub fn asks_for_ports(&self, ingress: u16) -> bool {
        let port = self.ports.get(usize::from(ingress)).and_then(|port| port.egress.as_ref());
        self.egress.asks_for_ports() || port.is_some_and(Egress::asks_for_ports)
    }

    /// True if the network's DNS may ask outside for a name: a list that opens names is a list of all of them.
    pub fn is_name_open(&self, ingress: u16, name: &str) -> bool {
        let port = self.ports.get(usize::from(ingress)).and_then(|port| port.egress.as_ref());
        self.egress.is_name_open(name) && port.is_none_or(|egress| egress.is_name_open(name))
    }

    /// Decides about a destination of the guest at `ingress`; the port is 0 for protocols without.
    pub fn decide(
        &self,
        ingress: u16,
        destination: SocketAddr,
        protocol: IpProtocol,
        now: Instant,
    ) -> Verdict<'_> {
        if let Some(verdict) = self.own(destination, protocol) {
            return verdict;
        }
        let to = SocketAddr::new(canonical(destination.ip()), destination.port());
        if is_group(to.ip(), self.subnet4) {
            return Verdict::Group;
        }
        if is_never(to.ip()) || self.is_in_subnet(to.ip()) || self.host.contains(&to.ip()) {
            return Verdict::Deny;
        }
        let port = self.ports.get(usize::from(ingress));
        let names = port.map(|port| &port.names);
        let question = Question { to, protocol, now, names };
        let stricter = port.and_then(|port| port.egress.as_ref());
        if self.egress.allows(&question) && stricter.is_none_or(|egress| egress.allows(&question)) {
            Verdict::Connect(to)
        } else {
            Verdict::Deny
        }
    }

    /// The decision about addresses of the uplink itself.
    #[inline]
    fn own(&self, destination: SocketAddr, protocol: IpProtocol) -> Option<Verdict<'_>> {
        let (number, loopback) = match destination.ip() {
            IpAddr::V4(address) => {
                let subnet = self.subnet4.filter(|subnet| subnet.contains(address))?;
                (u64::from(address.to_bits() ^ subnet.network.to_bits()), Ipv4Addr::LOCALHOST.into())
            }
            IpAddr::V6(GATEWAY_LINK_LOCAL) => return Some(Verdict::Gateway),
            IpAddr::V6(address) => {
                self.subnet6.filter(|subnet| subnet.contains(address))?;
                (address.to_bits() as u64, Ipv6Addr::LOCALHOST.into())
            }
        };
        match (number, protocol) {
            (GATEWAY, _) | (HOST, IpProtocol::ICMP | IpProtocol::ICMPV6) => Some(Verdict::Gateway),
            (HOST, _) => Some(match self.services.get(&(protocol, destination.port())) {
                Some(Target::Loopback(port)) => {
                    Verdict::Host(HostTarget::Address(SocketAddr::new(loopback, *port)))
                }
                Some(Target::Path(path)) => Verdict::Host(HostTarget::Path(path)),
                None => Verdict::Closed,
            }),
            _ => None,
        }
    }

    /// True if the address is one that a guest may have, or the uplink's.
    pub fn is_in_subnet(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.subnet4.is_some_and(|subnet| subnet.contains(address)),
            IpAddr::V6(address) => self.subnet6.is_some_and(|subnet| subnet.contains(address)),
        }
    }
}

/// The host number of the gateway.
const GATEWAY: u64 = 1;

/// The host number of the host services.
const HOST: u64 = 2;

/// The well-known prefix of IPv4 addresses for guests without IPv4 (RFC 6052 section 2.1).
pub const NAT64: [u8; 12] = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];

/// The prefix of IPv4 addresses in sockets of both families (RFC 4291 section 2.5.5.2).
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// The address that is connected to for a destination: the IPv4 address that it stands for, else itself.
#[inline]
pub fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let octets = v6.octets();
    let (prefix, rest) = octets.split_at(12);
    if prefix == NAT64 || prefix == MAPPED {
        let rest: [u8; 4] = rest.try_into().expect("an IPv6 address has 16 octets");
        return Ipv4Addr::from(rest).into();
    }
    address
}

/// True for multicast and broadcast, also that of the guests' subnet.
#[inline]
fn is_group(address: IpAddr, subnet: Option<Subnet4>) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_multicast()
                || address.is_broadcast()
                || subnet.is_some_and(|subnet| subnet.broadcast() == address)
        }
        IpAddr::V6(address) => address.is_multicast(),
    }
}

/// True for addresses that are the host itself, its links, or nobody: "this network" (RFC 791), loopback, link-local
/// with the metadata services of clouds (RFC 3927), reserved (RFC 1112), and IPv6 addresses that embed IPv4 ones in the
/// way that is no longer used (RFC 4291 section 2.5.5.1).
#[inline]
fn is_never(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            first == 0 || first == 127 || (first, second) == (169, 254) || first >= 224
        }
        IpAddr::V6(address) => address.to_bits() >> 32 == 0 || address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
