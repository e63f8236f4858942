//! The guests of an uplink: which address is behind which link address and port, and what each port may use.
//!
//! Theory of operation. A guest is a port of the network; a number above 0 names it. An address of the subnet is bound
//! to the link address and the port that used it first, until that port is gone; a lease binds it whatever was there,
//! and one that is set for a port is bound to no other by use. So no guest can speak with another's address, and
//! answers go to one place without a look-up in the switch.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use vmlan_frame::{Instant, MacAddr};

use crate::envelope::{Subnet4, Subnet6};

/// The place of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// The guest's link address.
    pub mac: MacAddr,
    /// Its port of the network.
    pub ingress: u16,
}

/// Limits for each guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// TCP flows.
    pub flows: u32,
    /// New TCP flows a second, and how many at once.
    pub new_per_second: u32,
    /// TCP flows that are not established.
    pub half_open: u32,
    /// Octets that are kept for a guest, in both directions together.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { flows: 4096, new_per_second: 500, half_open: 256, memory: 16 << 20 }
    }
}

/// One guest's use of its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// TCP flows.
    pub flows: u32,
    /// TCP flows that are not established.
    pub half_open: u32,
    /// Octets that are kept for it, in both directions.
    pub memory: usize,
    /// Octets that are on their way to it.
    pub in_flight: usize,
}

/// A number of tokens that grows with time, up to what a second brings.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tokens {
    /// In nanoseconds of growth.
    level: u64,
    at: Instant,
}

impl Tokens {
    /// Takes one of `rate` tokens a second.
    pub(crate) fn take(&mut self, rate: u32, now: Instant) -> bool {
        const SECOND: u64 = 1_000_000_000;
        let cost = SECOND / u64::from(rate.max(1));
        let grown = u64::try_from(now.since(self.at).as_nanos()).unwrap_or(SECOND);
        let fresh = self.at == Instant::ZERO;
        self.level = if fresh { SECOND } else { self.level.saturating_add(grown).min(SECOND) };
        self.at = now;
        match self.level.checked_sub(cost) {
            Some(rest) if rate > 0 => {
                self.level = rest;
                true
            }
            _ => false,
        }
    }
}

/// One guest's account.
#[derive(Debug)]
pub(crate) struct Guest {
    /// Its TCP flows.
    pub(crate) flows: u32,
    /// Those that are not established.
    pub(crate) half_open: u32,
    /// Octets that are kept for it, in both directions.
    pub(crate) memory: usize,
    /// Octets that are on their way to it.
    pub(crate) in_flight: usize,
    /// The most that may be in flight.
    pub(crate) budget: usize,
    /// Until then a loss does not halve the budget again.
    pub(crate) calm_until: Instant,
    /// For new flows.
    pub(crate) new_flows: Tokens,
    /// For answers to what does not fit a flow.
    pub(crate) challenges: Tokens,
    /// For being asked about all its flows.
    pub(crate) questions: Tokens,
    /// For messages to the network's services.
    pub(crate) services: Tokens,
    /// For notices of what it was kept from.
    pub(crate) denials: Tokens,
    /// For notices that it has as much as it may.
    pub(crate) limits: Tokens,
}

impl Guest {
    /// Octets in flight to begin with: what a port's backlog holds.
    const BUDGET: usize = 512 << 10;
    /// The most octets in flight.
    const MOST: usize = 4 << 20;

    fn new() -> Guest {
        Guest {
            flows: 0,
            half_open: 0,
            memory: 0,
            in_flight: 0,
            budget: Guest::BUDGET,
            calm_until: Instant::ZERO,
            new_flows: Tokens::default(),
            challenges: Tokens::default(),
            questions: Tokens::default(),
            services: Tokens::default(),
            denials: Tokens::default(),
            limits: Tokens::default(),
        }
    }

    /// So many octets have arrived; `in_flight` of them counted as being on their way.
    pub(crate) fn acknowledged(&mut self, octets: usize, in_flight: usize) {
        self.in_flight = self.in_flight.saturating_sub(in_flight);
        self.budget = (self.budget + octets / 16).min(Guest::MOST);
    }

    /// Something was lost; for `round` no other loss counts.
    pub(crate) fn lost(&mut self, round: Duration, now: Instant) {
        if now >= self.calm_until {
            self.budget = (self.budget / 2).max(64 << 10);
            self.calm_until = now + round;
        }
    }
}

/// All guests of an uplink.
#[derive(Debug)]
pub struct Guests {
    /// Subnets of the guests.
    pub(crate) subnet4: Option<Subnet4>,
    pub(crate) subnet6: Option<Subnet6>,
    pub(crate) limits: Limits,
    bindings: HashMap<IpAddr, Binding>,
    /// The number of addresses that are bound to each port.
    bound: Vec<usize>,
    /// The ports that addresses are set for.
    set: HashMap<IpAddr, u16>,
    /// Addresses that were bound by their use and not asked for yet.
    news: Vec<(IpAddr, Binding)>,
    by_port: Vec<Option<Box<Guest>>>,
}

impl Guests {
    /// Addresses of one port that are bound because it used them.
    const PER_PORT: usize = 64;

    /// No guest yet.
    pub fn new(subnet4: Option<Subnet4>, subnet6: Option<Subnet6>, limits: Limits) -> Guests {
        Guests {
            subnet4,
            subnet6,
            limits,
            bindings: HashMap::new(),
            bound: Vec::new(),
            set: HashMap::new(),
            news: Vec::new(),
            by_port: Vec::new(),
        }
    }

    /// Sets other limits, for what comes.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// True if the address can be a guest's: in a subnet, and neither the uplink's own nor the subnet's itself.
    pub fn is_guest(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.subnet4.is_some_and(|subnet| {
                subnet.contains(address)
                    && address != subnet.network
                    && address != subnet.broadcast()
                    && ![1, 2].map(|number| subnet.host(number)).contains(&address)
            }),
            IpAddr::V6(address) => self.subnet6.is_some_and(|subnet| {
                subnet.contains(address) && ![0, 1, 2].map(|number| subnet.host(number)).contains(&address)
            }),
        }
    }

    /// True if the address is in a subnet of the guests.
    pub(crate) fn is_inside(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.subnet4.is_some_and(|subnet| subnet.contains(address)),
            IpAddr::V6(address) => self.subnet6.is_some_and(|subnet| subnet.contains(address)),
        }
    }

    /// True if the address is the gateway's: the one that has the network's services.
    pub fn is_gateway(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.subnet4.is_some_and(|subnet| address == subnet.host(1)),
            IpAddr::V6(address) => {
                address == crate::envelope::GATEWAY_LINK_LOCAL
                    || self.subnet6.is_some_and(|subnet| address == subnet.host(1))
            }
        }
    }

    /// True if the address is the one at which services of the host are opened.
    pub fn is_host(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.subnet4.is_some_and(|subnet| address == subnet.host(2)),
            IpAddr::V6(address) => self.subnet6.is_some_and(|subnet| address == subnet.host(2)),
        }
    }

    /// The gateway's address of the family of `other`.
    pub fn gateway_for(&self, other: IpAddr) -> Option<IpAddr> {
        match other {
            IpAddr::V4(_) => self.subnet4.map(|subnet| subnet.host(1).into()),
            IpAddr::V6(_) => self.subnet6.map(|subnet| subnet.host(1).into()),
        }
    }

    /// Tells whether the port and link address may use this source address, which binds one that nobody has.
    pub fn is_own(&mut self, address: IpAddr, mac: MacAddr, ingress: u16) -> bool {
        if let Some(binding) = self.bindings.get(&address) {
            return binding.mac == mac && binding.ingress == ingress;
        }
        let is_free = self.set.get(&address).is_none_or(|owner| *owner == ingress);
        if !self.is_guest(address) || !is_free || self.bound(ingress) >= Guests::PER_PORT {
            return false;
        }
        let binding = Binding { mac, ingress };
        self.insert(address, binding);
        self.news.push((address, binding));
        true
    }

    /// Takes the addresses that were bound by their use since the last call.
    pub fn take_news(&mut self) -> Vec<(IpAddr, Binding)> {
        std::mem::take(&mut self.news)
    }

    /// Binds an address that was given to a guest. Returns the binding that was there, if it was another place.
    pub fn bind(&mut self, address: IpAddr, mac: MacAddr, ingress: u16) -> Option<Binding> {
        let binding = Binding { mac, ingress };
        let before = self.insert(address, binding)?;
        (before != binding).then_some(before)
    }

    /// Forgets the place of an address. Returns it.
    pub fn unbind(&mut self, address: IpAddr) -> Option<Binding> {
        let before = self.bindings.remove(&address)?;
        self.bound[usize::from(before.ingress)] -= 1;
        Some(before)
    }

    /// Replaces the addresses that are set, each with the port that it is for. Returns those that are bound to others.
    pub fn set(&mut self, owners: Vec<(IpAddr, u16)>) -> Vec<IpAddr> {
        self.set = owners.into_iter().collect();
        let others = self.set.iter().filter(|(address, owner)| {
            self.bindings.get(*address).is_some_and(|binding| binding.ingress != **owner)
        });
        others.map(|(address, _)| *address).collect()
    }

    /// Forgets the addresses of a port that is gone.
    pub fn forget_port(&mut self, ingress: u16) {
        self.bindings.retain(|_, binding| binding.ingress != ingress);
        if let Some(bound) = self.bound.get_mut(usize::from(ingress)) {
            *bound = 0;
        }
    }

    fn insert(&mut self, address: IpAddr, binding: Binding) -> Option<Binding> {
        let slot = usize::from(binding.ingress);
        if slot >= self.bound.len() {
            self.bound.resize(slot + 1, 0);
        }
        let before = self.bindings.insert(address, binding);
        self.bound[slot] += 1;
        if let Some(before) = before {
            self.bound[usize::from(before.ingress)] -= 1;
        }
        before
    }

    fn bound(&self, ingress: u16) -> usize {
        self.bound.get(usize::from(ingress)).copied().unwrap_or(0)
    }

    /// The place of an address.
    pub fn place(&self, address: IpAddr) -> Option<Binding> {
        self.bindings.get(&address).copied()
    }

    /// Reports what the guest at a port uses of its limits.
    pub fn usage(&self, ingress: u16) -> Usage {
        self.by_port.get(usize::from(ingress)).and_then(Option::as_ref).map_or_else(Usage::default, |guest| {
            Usage {
                flows: guest.flows,
                half_open: guest.half_open,
                memory: guest.memory,
                in_flight: guest.in_flight,
            }
        })
    }

    /// The account of the guest at a port.
    pub(crate) fn of(&mut self, ingress: u16) -> &mut Guest {
        let slot = usize::from(ingress);
        if slot >= self.by_port.len() {
            self.by_port.resize_with(slot + 1, || None);
        }
        self.by_port[slot].get_or_insert_with(|| Box::new(Guest::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn guests() -> Guests {
        let subnet4 = Subnet4 { network: [10, 213, 5, 0].into(), prefix: 24 };
        let subnet6 = Subnet6 { network: "fd00:1::".parse().unwrap() };
        Guests::new(Some(subnet4), Some(subnet6), Limits::default())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn case_29_no_guest_speaks_with_anothers_address() {
        let mut guests = guests();
        assert!(guests.is_own(ip("10.213.5.20"), A, 1));
        assert!(guests.is_own(ip("10.213.5.20"), A, 1));
        for (address, mac, port) in [
            ("10.213.5.20", B, 1),
            ("10.213.5.20", A, 2),
            ("10.213.5.1", A, 1),
            ("10.213.5.2", A, 1),
            ("10.213.5.255", A, 1),
            ("192.0.2.7", A, 1),
            ("fd00:1::1", A, 1),
            ("fd00:2::7", A, 1),
            ("fe80::7", A, 1),
        ] {
            assert!(!guests.is_own(ip(address), mac, port), "{address}");
        }
        assert!(guests.is_own(ip("fd00:1::77"), B, 2));
    }

    #[test]
    fn a_lease_wins_and_a_port_that_is_gone_has_nothing() {
        let mut guests = guests();
        assert!(guests.is_own(ip("10.213.5.20"), A, 1));
        let before = guests.bind(ip("10.213.5.20"), B, 2);
        assert_eq!(before, Some(Binding { mac: A, ingress: 1 }));
        assert!(!guests.is_own(ip("10.213.5.20"), A, 1) && guests.is_own(ip("10.213.5.20"), B, 2));
        assert_eq!(guests.bind(ip("10.213.5.20"), B, 2), None);
        guests.forget_port(2);
        assert!(guests.is_own(ip("10.213.5.20"), A, 1));
    }

    #[test]
    fn an_address_that_is_set_for_a_port_is_bound_to_no_other_by_use() {
        let mut guests = guests();
        assert!(guests.is_own(ip("10.213.5.20"), A, 1));
        let set = vec![(ip("10.213.5.20"), 2), (ip("fd00:1::20"), 1)];
        assert_eq!(guests.set(set), [ip("10.213.5.20")]);
        guests.unbind(ip("10.213.5.20"));
        assert!(!guests.is_own(ip("10.213.5.20"), A, 1) && !guests.is_own(ip("fd00:1::20"), B, 2));
        assert!(guests.is_own(ip("10.213.5.20"), B, 2) && guests.is_own(ip("fd00:1::20"), A, 1));
        assert_eq!(guests.set(vec![]), [] as [IpAddr; 0]);
        guests.forget_port(2);
        assert!(guests.is_own(ip("10.213.5.20"), A, 1));
    }

    #[test]
    fn a_port_binds_a_bounded_number_again_after_it_lost_them() {
        let mut guests = guests();
        let all = |guests: &mut Guests| {
            (3..200).filter(|n| guests.is_own(IpAddr::from([10, 213, 5, *n]), A, 1)).count()
        };
        assert_eq!(all(&mut guests), 64);
        guests.bind(ip("10.213.5.3"), B, 2);
        guests.bind(ip("10.213.5.3"), B, 2);
        guests.unbind(ip("10.213.5.4"));
        assert!(guests.is_own(ip("10.213.5.150"), A, 1) && guests.is_own(ip("10.213.5.151"), A, 1));
        assert!(!guests.is_own(ip("10.213.5.152"), A, 1));
        guests.forget_port(1);
        assert_eq!(all(&mut guests), 64);
    }

    #[test]
    fn a_port_binds_a_bounded_number() {
        let mut guests = guests();
        let own = (3..200).filter(|n| guests.is_own(IpAddr::from([10, 213, 5, *n]), A, 1)).count();
        assert_eq!(own, 64);
        assert!(guests.is_own(ip("10.213.5.201"), B, 2));
    }

    #[test]
    fn tokens_come_back_with_time() {
        let mut tokens = Tokens::default();
        let start = Instant::from_secs(5);
        assert_eq!((0..2000).filter(|_| tokens.take(500, start)).count(), 500);
        let later = start + Duration::from_millis(100);
        assert_eq!((0..2000).filter(|_| tokens.take(500, later)).count(), 50);
        assert!(!tokens.take(0, Instant::from_secs(100)));
    }
}
