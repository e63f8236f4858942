//! The host's own addresses: detection of duplicates, announcement, defence; and which way its packets go.
//!
//! An address is tentative while probes go out that nobody may answer (RFC 5227 2.1, RFC 4862 5.4), then it is
//! assigned and announced. Somebody else's use of a tentative address makes it a duplicate, which is not used. An
//! assigned address is kept, for it was configured so, and defended with an announcement now and then
//! (RFC 5227 2.4 c): a neighbour who claims it cannot take it away.

use core::net::{IpAddr, Ipv4Addr};

use vmlan_frame::Instant;
use vmlan_frame::ip::begin_alike;

use super::timing::{
    ANNOUNCE_INTERVAL, ANNOUNCE_WAIT, ANNOUNCEMENTS, ARP_PROBES, DEFEND_INTERVAL, Jitter, ND_PROBES,
    PROBE_WAIT, RETRANSMIT,
};
use crate::Error;

/// The state of an own address, which decides its use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressState {
    /// No other host seems to have the address, but it is too early to tell: not used yet.
    Tentative,
    /// In use.
    Assigned,
    /// Another host has the address: not used.
    Duplicate,
}

struct Own {
    address: IpAddr,
    /// Bits of the network part.
    prefix_len: u8,
    state: AddressState,
    /// Probes or announcements still to be sent.
    left: u8,
    /// When the next of them goes, or the address is assigned.
    due: Option<Instant>,
    defended: Option<Instant>,
}

/// A message that is to be sent for an own address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Probe(IpAddr),
    Announce(IpAddr),
    /// The first announcement of an address that was tentative.
    Assign(IpAddr),
}

/// The consequence of another host's use of an own address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Conflict {
    Lost,
    Defended,
}

#[derive(Default)]
pub(super) struct Addresses {
    own: Vec<Own>,
    gateways: [Option<IpAddr>; 2],
}

impl Addresses {
    pub(super) const LIMIT: usize = 64;

    pub(super) fn add(
        &mut self,
        address: IpAddr,
        prefix_len: u8,
        detect: bool,
        now: Instant,
        jitter: &mut Jitter,
    ) -> Result<(), Error> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if prefix_len > bits || !is_station(address) {
            return Err(Error::InvalidArgument);
        }
        if self.find(address).is_some() {
            return Err(Error::AlreadyExists);
        }
        if self.own.len() >= Addresses::LIMIT {
            return Err(Error::NoBuffers);
        }
        let probes = if address.is_ipv4() { ARP_PROBES } else { ND_PROBES };
        let (state, left, due) = match detect {
            true => (AddressState::Tentative, probes, now + jitter.below(PROBE_WAIT)),
            false => (AddressState::Assigned, ANNOUNCEMENTS, now),
        };
        self.own.push(Own { address, prefix_len, state, left, due: Some(due), defended: None });
        Ok(())
    }

    pub(super) fn remove(&mut self, address: IpAddr) -> Result<(), Error> {
        let at = self.own.iter().position(|own| own.address == address).ok_or(Error::InvalidArgument)?;
        self.own.remove(at);
        Ok(())
    }

    pub(super) fn set_gateway(&mut self, gateway: IpAddr) {
        self.gateways[usize::from(gateway.is_ipv6())] = Some(gateway);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (IpAddr, AddressState)> {
        self.own.iter().map(|own| (own.address, own.state))
    }

    fn find(&self, address: IpAddr) -> Option<&Own> {
        self.own.iter().find(|own| own.address == address)
    }

    pub(super) fn state(&self, address: IpAddr) -> Option<AddressState> {
        self.find(address).map(|own| own.state)
    }

    /// The own address that a request for `target` comes from: on its subnet if there is one.
    pub(super) fn source(&self, target: IpAddr) -> Option<IpAddr> {
        let usable = || {
            let same = |own: &&Own| own.address.is_ipv4() == target.is_ipv4();
            self.own.iter().filter(same).filter(|own| own.state == AddressState::Assigned)
        };
        usable().find(|own| own.contains(target)).or_else(|| usable().next()).map(|own| own.address)
    }

    /// The next hop of packets to `destination`: itself on the link, else the gateway.
    pub(super) fn route(&self, destination: IpAddr) -> Option<IpAddr> {
        let link_local = match destination {
            IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        let here = link_local || destination.is_multicast();
        if here || self.own.iter().any(|own| own.contains(destination)) {
            return Some(destination);
        }
        self.gateways[usize::from(destination.is_ipv6())]
    }

    /// True if an IPv4 address is the broadcast address of a subnet of ours (RFC 919).
    pub(super) fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        self.own.iter().any(|own| {
            let host = u32::MAX.checked_shr(u32::from(own.prefix_len)).unwrap_or(0);
            // Point-to-point subnets have none (RFC 3021).
            own.prefix_len <= 30 && own.contains(address.into()) && address.to_bits() & host == host
        })
    }

    /// Notes that another host uses `address`. Returns `None` when nothing new follows from it.
    pub(super) fn conflict(&mut self, address: IpAddr, now: Instant) -> Option<Conflict> {
        let own = self.own.iter_mut().find(|own| own.address == address)?;
        match own.state {
            AddressState::Tentative => {
                own.state = AddressState::Duplicate;
                own.due = None;
                Some(Conflict::Lost)
            }
            AddressState::Assigned if own.defended.is_none_or(|last| now.since(last) >= DEFEND_INTERVAL) => {
                own.defended = Some(now);
                Some(Conflict::Defended)
            }
            AddressState::Assigned | AddressState::Duplicate => None,
        }
    }

    /// Announces every assigned address again.
    pub(super) fn announce(&mut self) {
        for own in self.own.iter_mut().filter(|own| own.state == AddressState::Assigned) {
            (own.left, own.due) = (ANNOUNCEMENTS, Some(Instant::ZERO));
        }
    }

    /// When [`Addresses::step`] has something next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.own.iter().filter_map(|own| own.due).min()
    }

    /// The next thing that is due.
    pub(super) fn step(&mut self, now: Instant, jitter: &mut Jitter) -> Option<Step> {
        let own = self.own.iter_mut().find(|own| own.due.is_some_and(|due| due <= now))?;
        if own.state == AddressState::Tentative && own.left > 0 {
            own.left -= 1;
            own.due = Some(match (own.left, own.address.is_ipv4()) {
                (0, true) => now + ANNOUNCE_WAIT,
                (0, false) => now + RETRANSMIT,
                _ => now + RETRANSMIT + jitter.below(RETRANSMIT),
            });
            return Some(Step::Probe(own.address));
        }
        let assigned = own.state == AddressState::Tentative;
        if assigned {
            (own.state, own.left) = (AddressState::Assigned, ANNOUNCEMENTS);
        }
        own.left = own.left.saturating_sub(1);
        own.due = (own.left > 0).then(|| now + ANNOUNCE_INTERVAL);
        Some(if assigned { Step::Assign(own.address) } else { Step::Announce(own.address) })
    }
}

impl Own {
    fn contains(&self, other: IpAddr) -> bool {
        begin_alike(self.address, other, self.prefix_len)
    }
}

/// True if the address can be the address of one host on a link.
pub(super) fn is_station(address: IpAddr) -> bool {
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    !(broadcast || address.is_unspecified() || address.is_multicast() || address.is_loopback())
}
