//! The addresses that guests have.
//!
//! A record says that an address belongs to a client, identified by its client identifier or else its link address, and
//! by its port. A record is *offered* for half a minute, then gone unless the client asks for the address; *bound*
//! until a time of the wall clock; then *ended*, which means that the client gets it back if it comes again, unless all
//! other addresses are taken; or *aside*, when a client found the address in use. [`crate::dhcp4`] moves them, and time
//! and users end them.
//!
//! Beside the records stands what was heard: addresses that guests use without having asked. An address that was heard
//! from one guest is not given to another.
//!
//! The number of records of one port is bounded, and that of all ports.

mod file;
mod heard;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use vmlan_frame::{Instant, MacAddr};

pub use file::{LONGEST_FILE, Unreadable};
pub use heard::Heard;

use crate::{Event, Ports};

/// Records and heard addresses that one port may have.
pub const MOST_EACH: usize = 64;
/// Records that all ports may have together.
pub const MOST: usize = 16_384;
/// Seconds for which an offer is held.
pub const OFFER: u64 = 30;
/// Seconds for which an address that is in use by a stranger is given to nobody.
pub const ASIDE: u64 = 600;

/// The state of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Offered, and not asked for yet.
    Offered,
    /// In use.
    Bound,
    /// Ran out or given back; kept for the client.
    Ended,
    /// Found to be in use by another guest.
    Aside,
}

/// A record: an address and its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// The client's link address.
    pub mac: MacAddr,
    /// The client identifier, or what stands for it.
    pub client: Vec<u8>,
    /// The client's port.
    pub port: String,
    /// The client's name, made a label.
    pub name: Option<String>,
    /// Seconds of the wall clock since which it has the address and the name.
    pub since: u64,
    /// Seconds of the wall clock at which the state ends; for an ended lease, at which it ended.
    pub until: u64,
    /// The state.
    pub state: State,
    /// True if the address is set for the port.
    pub set: bool,
    /// Seconds of the wall clock until which nobody else gets the address, for it was offered to the client again.
    pub held: u64,
}

/// The origin of a guest's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Set in the configuration.
    Set,
    /// Chosen from the pool.
    Dynamic,
    /// Configured in the guest.
    Static,
}

/// An address in use, for a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// The address.
    pub address: IpAddr,
    /// The guest's link address.
    pub mac: MacAddr,
    /// Its port.
    pub port: String,
    /// Its name, if it told one.
    pub name: Option<String>,
    /// Seconds of the wall clock until which a lease runs.
    pub until: Option<u64>,
    /// The address's origin.
    pub source: Source,
}

/// The addresses of a network's guests.
#[derive(Debug, Default)]
pub struct Leases {
    table: BTreeMap<Ipv4Addr, Lease>,
    by_client: BTreeMap<Vec<u8>, BTreeSet<Ipv4Addr>>,
    by_port: BTreeMap<String, BTreeSet<Ipv4Addr>>,
    by_name: BTreeMap<String, BTreeSet<Ipv4Addr>>,
    heard: Heard,
}

fn index<K: Ord + Clone>(map: &mut BTreeMap<K, BTreeSet<Ipv4Addr>>, key: &K, address: Ipv4Addr) {
    map.entry(key.clone()).or_default().insert(address);
}

fn unindex<K: Ord>(map: &mut BTreeMap<K, BTreeSet<Ipv4Addr>>, key: &K, address: Ipv4Addr) {
    if let Some(set) = map.get_mut(key) {
        set.remove(&address);
        if set.is_empty() {
            map.remove(key);
        }
    }
}

impl Leases {
    /// The record of an address.
    pub fn get(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.table.get(&address)
    }

    /// All records.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.table.values()
    }

    /// The addresses heard from guests.
    pub fn heard(&self) -> &Heard {
        &self.heard
    }

    /// The addresses heard from guests, to add to them.
    pub fn heard_mut(&mut self) -> &mut Heard {
        &mut self.heard
    }

    /// Puts a record in the place of any other of its address.
    pub(crate) fn put(&mut self, lease: Lease) {
        self.remove(lease.address);
        index(&mut self.by_client, &lease.client, lease.address);
        index(&mut self.by_port, &lease.port, lease.address);
        if let Some(name) = &lease.name {
            index(&mut self.by_name, name, lease.address);
        }
        self.table.insert(lease.address, lease);
    }

    /// Takes a record out.
    pub(crate) fn remove(&mut self, address: Ipv4Addr) -> Option<Lease> {
        let lease = self.table.remove(&address)?;
        unindex(&mut self.by_client, &lease.client, address);
        unindex(&mut self.by_port, &lease.port, address);
        if let Some(name) = &lease.name {
            unindex(&mut self.by_name, name, address);
        }
        Some(lease)
    }

    /// Changes the state of a record, which stays the same client's.
    pub(crate) fn set_state(&mut self, address: Ipv4Addr, state: State, until: u64) {
        if let Some(lease) = self.table.get_mut(&address) {
            (lease.state, lease.until, lease.held) = (state, until, 0);
        }
    }

    /// Keeps a record for its client until then, whatever its state.
    pub(crate) fn hold(&mut self, address: Ipv4Addr, until: u64) {
        if let Some(lease) = self.table.get_mut(&address) {
            lease.held = until;
        }
    }

    /// The record that a client at a port may have again: its own there, or at a port that is not up now. A client
    /// identifier alone is not enough, since copied machines have the same.
    pub fn own(&self, client: &[u8], port: &str, ports: &Ports) -> Option<&Lease> {
        let addresses = self.by_client.get(client)?;
        let mut records = addresses
            .iter()
            .filter_map(|address| self.table.get(address))
            .filter(|lease| lease.state != State::Aside);
        let here = records.clone().find(|lease| lease.port == port);
        here.or_else(|| records.find(|lease| !ports.is_up(&lease.port)))
    }

    /// The number of a port's records.
    pub fn count(&self, port: &str) -> usize {
        self.by_port.get(port).map_or(0, BTreeSet::len)
    }

    /// True if there is no room for a record more.
    pub(crate) fn is_full(&self) -> bool {
        self.table.len() >= MOST
    }

    /// The record that ended first, of all or of one port.
    pub(crate) fn oldest_ended(
        &self,
        port: Option<&str>,
        wall: u64,
        fits: impl Fn(&Lease) -> bool,
    ) -> Option<Ipv4Addr> {
        let ended = |lease: &&Lease| {
            lease.state == State::Ended
                && lease.held <= wall
                && port.is_none_or(|port| lease.port == port)
                && fits(lease)
        };
        self.table.values().filter(ended).min_by_key(|lease| lease.until).map(|lease| lease.address)
    }

    /// Ends a lease at once, as a user asks for; false if there is none.
    pub fn release(&mut self, address: Ipv4Addr, wall: u64) -> Option<Event> {
        let lease = self.table.get(&address).filter(|lease| lease.state == State::Bound)?;
        let event = Event::LeaseExpired { address, mac: lease.mac, port: lease.port.clone() };
        self.set_state(address, State::Ended, wall);
        Some(event)
    }

    /// Ends what ran out.
    pub fn expire(&mut self, wall: u64) -> Vec<Event> {
        let due = |lease: &&Lease| lease.state != State::Ended && lease.until <= wall;
        let due = Vec::from_iter(self.table.values().filter(due).map(|lease| (lease.address, lease.state)));
        let mut events = Vec::new();
        for (address, state) in due {
            match state {
                State::Bound => events.extend(self.release(address, wall)),
                State::Offered | State::Aside => {
                    self.remove(address);
                }
                State::Ended => {}
            }
        }
        events
    }

    /// Seconds of the wall clock at which [`Leases::expire`] has something to do.
    pub fn next_expiry(&self) -> Option<u64> {
        let running = self.table.values().filter(|lease| lease.state != State::Ended);
        running.map(|lease| lease.until).min()
    }

    /// The bound leases of a port.
    pub fn bound_at(&self, port: &str) -> impl Iterator<Item = &Lease> {
        let addresses = self.by_port.get(port).into_iter().flatten();
        addresses.filter_map(|address| self.table.get(address)).filter(|lease| lease.state == State::Bound)
    }

    /// The bound lease of the client that had a name first.
    pub fn named(&self, name: &str) -> Option<&Lease> {
        let addresses = self.by_name.get(name).into_iter().flatten();
        let leases = addresses.filter_map(|address| self.table.get(address));
        leases.filter(|lease| lease.state == State::Bound).min_by_key(|lease| (lease.since, lease.address))
    }

    /// The addresses in use, for a listing: leases, then what guests use without one.
    pub fn in_use(&self, ports: &Ports, now: Instant) -> Vec<InUse> {
        let bound = self.table.values().filter(|lease| lease.state == State::Bound);
        let mut all = Vec::from_iter(bound.map(|lease| InUse {
            address: lease.address.into(),
            mac: lease.mac,
            port: lease.port.clone(),
            name: lease.name.clone(),
            until: Some(lease.until),
            source: if lease.set { Source::Set } else { Source::Dynamic },
        }));
        for (address, client) in self.heard.iter(now) {
            let leased = match address {
                IpAddr::V4(address) => self
                    .get(address)
                    .is_some_and(|lease| lease.state == State::Bound && lease.mac == client.mac),
                IpAddr::V6(_) => false,
            };
            if !leased {
                let set = ports.owner(address).is_some_and(|port| port.is_for(&client));
                all.push(InUse {
                    address,
                    mac: client.mac,
                    port: ports.name_of(&client),
                    name: None,
                    until: None,
                    source: if set { Source::Set } else { Source::Static },
                });
            }
        }
        all
    }
}
