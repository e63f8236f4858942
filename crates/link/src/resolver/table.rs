//! The neighbour cache: entries, their states, and when each state ends.
//!
//! Every entry has one time at which something happens by itself, in one of two ordered sets: in `requests` when the
//! neighbour is to be asked then, which also has to wait for the resolver's pace; in `timers` when its state ends. A
//! third set orders the entries by who is forgotten first when the table is full: neighbours that did not answer,
//! those that nobody uses, those that are being asked for, and those in use, each by the age of its state. So a sender
//! who tries many addresses displaces only what he made himself, as long as that is there.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeSet, HashMap};

use vmlan_frame::{Instant, MacAddr};

use super::timing::{DELAY, FAILED, MULTICAST_REQUESTS, RETRANSMIT, STALE, UNICAST_REQUESTS};

/// The state of a neighbour (RFC 4861 7.3.2); for IPv4 just the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NeighbourState {
    /// It is being asked for; packets wait.
    Incomplete,
    /// It was heard of a short while ago.
    Reachable,
    /// Its link address was good once, and is used until something shows otherwise.
    Stale,
    /// It is used again; soon it is asked.
    Delay,
    /// It is being asked whether it is still there.
    Probe,
    /// It did not answer. For a while nobody asks again.
    Failed,
}

pub(super) struct Entry {
    pub(super) state: NeighbourState,
    /// Means nothing while incomplete or failed.
    pub(super) mac: MacAddr,
    /// When the state began.
    since: Instant,
    /// When the next request goes, or the state ends.
    due: Instant,
    /// Requests sent in this state.
    sent: u8,
}

impl Entry {
    fn enter(&mut self, state: NeighbourState, since: Instant, lasting: Duration) {
        *self = Entry { state, mac: self.mac, since, due: since + lasting, sent: 0 };
    }

    /// True if a request is due next.
    fn asks(&self) -> bool {
        match self.state {
            NeighbourState::Incomplete => self.sent < MULTICAST_REQUESTS,
            NeighbourState::Probe => self.sent < UNICAST_REQUESTS,
            _ => false,
        }
    }

    /// The lower, the sooner it is forgotten.
    fn worth(&self) -> u8 {
        match self.state {
            NeighbourState::Failed => 0,
            NeighbourState::Stale => 1,
            NeighbourState::Incomplete => 2,
            NeighbourState::Reachable | NeighbourState::Delay | NeighbourState::Probe => 3,
        }
    }

    /// The link address, if there is one.
    pub(super) fn link(&self) -> Option<MacAddr> {
        let known = !matches!(self.state, NeighbourState::Incomplete | NeighbourState::Failed);
        known.then_some(self.mac)
    }
}

/// The content of a message about a neighbour, in the terms of a neighbour advertisement (RFC 4861 section 4.4).
pub(super) struct Claim {
    pub(super) link: Option<MacAddr>,
    pub(super) solicited: bool,
    pub(super) replaces: bool,
}

pub(super) struct Table {
    entries: HashMap<IpAddr, Entry>,
    timers: BTreeSet<(Instant, IpAddr)>,
    requests: BTreeSet<(Instant, IpAddr)>,
    victims: BTreeSet<(u8, Instant, IpAddr)>,
    limit: usize,
}

impl Table {
    pub(super) fn new(limit: usize) -> Table {
        Table {
            entries: HashMap::new(),
            timers: BTreeSet::new(),
            requests: BTreeSet::new(),
            victims: BTreeSet::new(),
            limit: limit.max(1),
        }
    }

    pub(super) fn get(&self, address: IpAddr) -> Option<&Entry> {
        self.entries.get(&address)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (IpAddr, &Entry)> {
        self.entries.iter().map(|(address, entry)| (*address, entry))
    }

    /// Begins to ask for a neighbour that is not in the table. Who was forgotten for it.
    pub(super) fn insert(&mut self, address: IpAddr, now: Instant) -> Option<IpAddr> {
        let full = self.entries.len() >= self.limit;
        let victim = self.victims.first().filter(|_| full).map(|(_, _, victim)| *victim);
        if let Some(victim) = victim {
            self.remove(victim);
        }
        let state = NeighbourState::Incomplete;
        let entry = Entry { state, mac: MacAddr::ZERO, since: now, due: now, sent: 0 };
        self.index(address, &entry);
        self.entries.insert(address, entry);
        victim
    }

    /// A packet goes to a neighbour: one that is stale is asked in a while (RFC 4861 7.3.3).
    pub(super) fn used(&mut self, address: IpAddr, now: Instant) {
        self.change(address, |entry| entry.enter(NeighbourState::Delay, now, DELAY));
    }

    /// Takes what a message says of a neighbour that is in the table (RFC 4861 7.2.3, 7.2.5). Its link address when
    /// it had none before.
    pub(super) fn claim(
        &mut self,
        address: IpAddr,
        claim: &Claim,
        now: Instant,
        reachable: Duration,
    ) -> Option<MacAddr> {
        let entry = self.entries.get(&address)?;
        let Some(known) = entry.link() else {
            let link = claim.link?;
            self.change(address, |entry| {
                entry.mac = link;
                entry.heard(claim.solicited, now, reachable);
            });
            return Some(link);
        };
        let other = claim.link.filter(|link| *link != known);
        if other.is_some() && !claim.replaces {
            if entry.state == NeighbourState::Reachable {
                self.change(address, |entry| entry.heard(false, now, reachable));
            }
        } else if claim.solicited || other.is_some() {
            self.change(address, |entry| {
                entry.mac = other.unwrap_or(known);
                entry.heard(claim.solicited, now, reachable);
            });
        }
        None
    }

    /// Ends every state whose time is over by `now`; `failed` hears of neighbours that did not answer.
    pub(super) fn expire(&mut self, now: Instant, mut failed: impl FnMut(IpAddr)) {
        while let Some((due, address)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            // States follow one another at their times, however late this is called.
            match self.entries[&address].state {
                NeighbourState::Incomplete => {
                    self.change(address, |entry| entry.enter(NeighbourState::Failed, due, FAILED));
                    failed(address);
                }
                NeighbourState::Reachable => {
                    self.change(address, |entry| entry.enter(NeighbourState::Stale, due, STALE));
                }
                NeighbourState::Delay => {
                    self.change(address, |entry| entry.enter(NeighbourState::Probe, due, Duration::ZERO));
                }
                // Who asks again after a failed probe asks everybody: the neighbour may have another link address.
                NeighbourState::Stale | NeighbourState::Probe | NeighbourState::Failed => {
                    self.remove(address)
                }
            }
        }
    }

    /// When the next request is due.
    pub(super) fn next_request(&self) -> Option<Instant> {
        self.requests.first().map(|(due, _)| *due)
    }

    /// When the next state ends.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Counts the request that is due first: whom to ask for, and his link address when it is known.
    pub(super) fn request(&mut self, now: Instant) -> Option<(IpAddr, Option<MacAddr>)> {
        let (_, address) = self.requests.first().copied().filter(|(due, _)| *due <= now)?;
        self.change(address, |entry| {
            entry.sent += 1;
            entry.due = now + RETRANSMIT;
        });
        Some((address, self.entries[&address].link()))
    }

    fn change(&mut self, address: IpAddr, change: impl FnOnce(&mut Entry)) {
        if let Some(mut entry) = self.entries.remove(&address) {
            self.unindex(address, &entry);
            change(&mut entry);
            self.index(address, &entry);
            self.entries.insert(address, entry);
        }
    }

    fn remove(&mut self, address: IpAddr) {
        if let Some(entry) = self.entries.remove(&address) {
            self.unindex(address, &entry);
        }
    }

    fn index(&mut self, address: IpAddr, entry: &Entry) {
        self.clock(entry).insert((entry.due, address));
        self.victims.insert((entry.worth(), entry.since, address));
    }

    fn unindex(&mut self, address: IpAddr, entry: &Entry) {
        self.clock(entry).remove(&(entry.due, address));
        self.victims.remove(&(entry.worth(), entry.since, address));
    }

    fn clock(&mut self, entry: &Entry) -> &mut BTreeSet<(Instant, IpAddr)> {
        if entry.asks() { &mut self.requests } else { &mut self.timers }
    }
}

impl Entry {
    /// The neighbour was heard of: it answered, or something shows where it is.
    fn heard(&mut self, solicited: bool, now: Instant, reachable: Duration) {
        match solicited {
            true => self.enter(NeighbourState::Reachable, now, reachable),
            false => self.enter(NeighbourState::Stale, now, STALE),
        }
    }
}
