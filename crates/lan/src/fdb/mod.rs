//! The forwarding database: which address is behind which port (IEEE 802.1Q-2022 8.8).
//!
//! Theory of operation. Everything is in one table that is made at the start and never grows (`table`). The data path
//! of every worker reads it without a lock. An entry is *set* (an address of a port's configuration), *static* (made
//! by control) or *learnt*; only learnt ones age, move and are evicted, and the data path changes no others.
//!
//! A thread that inserts, moves or removes holds the mutex around the bookkeeping (`learning`): how many addresses each
//! port holds, how often an address moved, the events. The data path only tries that lock; when another thread has it,
//! the address is learnt from a later frame.
//!
//! A fast way may have a copy of the entries at some ports (`fast`): an entry is taken out of it before it goes out of
//! the table, by the thread that holds the mutex.
//!
//! An attacker cannot choose addresses that collide, for the hash is keyed with a secret seed; cannot take a set
//! address; cannot keep a learnt one whose station goes on to speak; cannot hold more addresses than its port's quota,
//! or those of its group; and cannot push others out, for an entry is evicted only on behalf of a port that holds fewer
//! addresses than the one it is taken from, where the ports of a group count as one.

mod fast;
mod learning;
mod table;
#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::Arc;

use vmlan_frame::{MacAddr, Mutex, VlanId};

pub(crate) use self::learning::{Claimant, Learning};
use self::learning::{State, Watch};
use self::table::Table;
pub(crate) use self::table::{Entry, Key};
use crate::PortId;
use crate::event::{Event, Events};
use crate::group::Group;
use crate::trunk::Notify;

/// How large a network's FDB is and how long it remembers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FdbConfig {
    /// Entries, rounded up to a power of two from 16 to 2^20.
    pub size: usize,
    /// How long a silent address is remembered, in whole seconds, at least one.
    pub ageing: Duration,
    /// The secret key of the hash; take it from the system's randomness.
    pub seed: [u64; 2],
}

impl FdbConfig {
    /// 8192 entries that age within 300 s, the time that IEEE 802.1Q-2022 table 8-6 recommends.
    pub const fn new(seed: [u64; 2]) -> FdbConfig {
        FdbConfig { size: 8192, ageing: Duration::from_secs(300), seed }
    }
}

/// Where an entry comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// From a frame's source address.
    Learnt,
    /// Made by control.
    Static,
    /// An address set for a port.
    Set,
}

impl EntryKind {
    #[inline]
    fn bits(self) -> u64 {
        match self {
            EntryKind::Learnt => 1,
            EntryKind::Static => 2,
            EntryKind::Set => 3,
        }
    }

    #[inline]
    fn from_bits(bits: u64) -> Option<EntryKind> {
        match bits {
            1 => Some(EntryKind::Learnt),
            2 => Some(EntryKind::Static),
            3 => Some(EntryKind::Set),
            _ => None,
        }
    }
}

/// An address that the network knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FdbEntry {
    /// The address.
    pub mac: MacAddr,
    /// Its VLAN; `None` in a network without VLANs, and for an address that holds in every VLAN of its port.
    pub vlan: Option<VlanId>,
    /// The port behind which it is.
    pub port: PortId,
    /// For how long it has been silent, in whole seconds; `None` for an address that was not learnt.
    pub age: Option<Duration>,
    /// Where the entry comes from.
    pub kind: EntryKind,
}

/// The size of a network's FDB, and its unrest.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FdbTally {
    /// Addresses that it holds now, fixed ones included.
    pub entries: usize,
    /// Times that a learnt address changed its port, since the network was made.
    pub moves: u64,
}

pub(crate) struct Fdb {
    table: Table,
    state: Mutex<State>,
    /// Changes with every entry that is made, moved or removed, so that lookups can be remembered until then.
    version: AtomicU64,
    /// How many entries hold in every VLAN. Without any, the second lookup for them is spared.
    wildcards: AtomicUsize,
    /// Seconds.
    ageing: u32,
}

impl Fdb {
    pub(crate) fn new(config: &FdbConfig) -> Fdb {
        let table = Table::new(config.size, config.seed);
        let ageing = u32::try_from(config.ageing.as_secs()).unwrap_or(u32::MAX).max(1);
        let state = Mutex::new(State::new(table.capacity(), ageing));
        Fdb { table, state, version: AtomicU64::new(0), wildcards: AtomicUsize::new(0), ageing }
    }

    #[inline]
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The entry that says where `key` is: its own, or else the one of its address for every VLAN.
    #[inline]
    pub(crate) fn find(&self, key: Key) -> Option<Entry> {
        self.table.find(key).or_else(|| self.find_wildcard(key))
    }

    #[inline]
    fn find_wildcard(&self, key: Key) -> Option<Entry> {
        if self.wildcards.load(Ordering::Relaxed) == 0 { None } else { self.table.find(key.to_wildcard()) }
    }

    #[inline]
    pub(crate) fn refresh(&self, entry: &Entry, now: u32) {
        if entry.kind == EntryKind::Learnt && entry.seen < now {
            self.table.refresh(entry, now);
        }
    }

    /// Enters `key` as learnt at the claimant's port, if it can be and nobody else is changing the FDB.
    pub(crate) fn learn(&self, key: Key, claimant: Claimant, now: u32) -> Learning {
        let Some(mut state) = self.state.try_lock() else { return Learning::Busy };
        if self.find_wildcard(key).is_some_and(|entry| entry.port != claimant.port) {
            return Learning::Refused;
        }
        let learning = state.learn(&self.table, key, claimant, now);
        if matches!(learning, Learning::Changed | Learning::Contested { moved: true }) {
            self.changed();
        }
        learning
    }

    /// Tells `notify` from now on when an address comes to be behind another port than `trunk`, or leaves it.
    pub(crate) fn watch(&self, trunk: PortId, notify: Option<Notify>) {
        self.state.lock().watch = notify.map(|notify| Watch { trunk, notify });
    }

    /// Lets `port` hold up to `quota` learnt addresses from now on. A new port does not learn yet.
    pub(crate) fn admit_port(&self, port: PortId, quota: usize, group: Option<&Arc<Group>>) {
        self.state.lock().admit_port(port, quota, group);
    }

    /// Says whether addresses are learnt behind `port`.
    pub(crate) fn set_learning(&self, port: PortId, learns: bool) {
        self.state.lock().set_learning(port, learns);
    }

    /// Forgets everything of `port`, which learns nothing any more.
    pub(crate) fn dismiss_port(&self, port: PortId) {
        let mut state = self.state.lock();
        for entry in self.table.entries().filter(|entry| entry.port == port) {
            self.remove_entry(&mut state, &entry);
        }
        state.dismiss_port(port);
    }

    /// Makes a set or static entry. What was learnt about the address is forgotten.
    ///
    /// False, and nothing changed, when every place of the key is taken by fixed entries.
    #[must_use]
    pub(crate) fn insert_fixed(&self, key: Key, kind: EntryKind, port: PortId) -> bool {
        let mut state = self.state.lock();
        let former = self.table.find(key);
        let Some(index) = state.place_fixed(&self.table, key) else {
            return false;
        };
        former.iter().chain(&self.general(key)).for_each(|entry| state.withdraw(entry));
        self.table.write(index, key, kind, port, 0);
        if key.is_wildcard() {
            if former.is_none() {
                self.wildcards.fetch_add(1, Ordering::Relaxed);
            }
            let of_mac = |entry: &Entry| entry.kind == EntryKind::Learnt && entry.key.mac() == key.mac();
            for entry in self.table.entries().filter(of_mac) {
                self.remove_entry(&mut state, &entry);
            }
        }
        self.changed();
        state.tell(port);
        state.gained(port);
        former.inspect(|entry| state.tell(entry.port));
        true
    }

    /// Removes the set or static entry of `key`; false when there is none.
    pub(crate) fn remove_fixed(&self, key: Key, kind: EntryKind) -> bool {
        let mut state = self.state.lock();
        let entry = self.table.find(key).filter(|entry| entry.kind == kind);
        entry.inspect(|entry| self.remove_entry(&mut state, entry)).is_some()
    }

    /// Forgets what was learnt, behind one port or all.
    pub(crate) fn flush(&self, port: Option<PortId>) {
        let mut state = self.state.lock();
        let concerned =
            |entry: &Entry| entry.kind == EntryKind::Learnt && port.is_none_or(|port| entry.port == port);
        for entry in self.table.entries().filter(concerned) {
            self.remove_entry(&mut state, &entry);
        }
    }

    /// Forgets addresses that were silent for too long, in the next part of the table.
    pub(crate) fn age(&self, now: u32) {
        let mut state = self.state.lock();
        for index in state.next_to_age(self.table.capacity()) {
            let Some(entry) = self.table.entry(index) else { continue };
            if entry.kind == EntryKind::Learnt && now.saturating_sub(entry.seen) >= self.ageing {
                self.remove_entry(&mut state, &entry);
                state.expired(&entry);
            }
        }
    }

    fn remove_entry(&self, state: &mut State, entry: &Entry) {
        state.remove(&self.table, entry);
        if entry.key.is_wildcard() {
            self.wildcards.fetch_sub(1, Ordering::Relaxed);
        } else if entry.kind != EntryKind::Learnt {
            // The entry for every VLAN may be contradicted no more.
            self.general(entry.key).inspect(|general| state.gained(general.port));
        }
        self.changed();
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn entries(&self, now: u32) -> Vec<FdbEntry> {
        let listed = |entry: Entry| FdbEntry {
            mac: entry.key.mac(),
            vlan: entry.key.vlan(),
            port: entry.port,
            age: (entry.kind == EntryKind::Learnt)
                .then(|| Duration::from_secs(now.saturating_sub(entry.seen).into())),
            kind: entry.kind,
        };
        self.table.entries().map(listed).collect()
    }

    /// How many addresses there are, and how often a learnt one changed its port.
    pub(crate) fn tally(&self) -> FdbTally {
        FdbTally { entries: self.table.len(), moves: self.state.lock().moved }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.table.capacity()
    }

    /// Adds an event.
    pub(crate) fn report(&self, event: Event) {
        self.state.lock().events.push(event);
    }

    /// Adds an event that the data path saw, unless somebody is changing the FDB just now.
    pub(crate) fn try_report(&self, event: Event) {
        if let Some(mut state) = self.state.try_lock() {
            state.events.push(event);
        }
    }

    pub(crate) fn events(&self) -> Events {
        self.state.lock().events.take()
    }
}
