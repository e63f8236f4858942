//! The FDB as the fast way's copy of it needs it.

use core::sync::atomic::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use vmlan_frame::{MacAddr, Sides};

use super::{Claimant, Entry, EntryKind, Fdb, Key};
use crate::PortId;
use crate::fast::{FastEntry, FastPath};

/// How many places are looked at with the bookkeeping locked: some microseconds.
const LISTED_AT_ONCE: usize = 256;

impl Fdb {
    /// Has `fast_path` keep a copy from now on; returns the former one, from which everything is withdrawn.
    pub(crate) fn set_fast_path(&self, fast_path: Option<Arc<dyn FastPath>>) -> Option<Arc<dyn FastPath>> {
        let mut state = self.state.lock();
        if state.fast.is_some() {
            self.table.entries().for_each(|entry| state.withdraw(&entry));
        }
        let former = core::mem::replace(&mut state.fast, fast_path);
        state.fast.iter().for_each(|fast_path| fast_path.changed());
        former
    }

    /// Has the entries at `port` copied from now on, or withdraws them.
    pub(crate) fn set_fast_port(&self, port: PortId, fast: bool) {
        let mut state = self.state.lock();
        if fast {
            state.set_fast(port, true);
            state.gained(port);
        } else {
            self.table.entries().filter(|entry| entry.port == port).for_each(|entry| state.withdraw(&entry));
            state.set_fast(port, false);
        }
    }

    /// Tells `put` every entry that the copy may have, with the bookkeeping locked for a part of the table at a time:
    /// what a worker hears meanwhile is not learnt.
    pub(crate) fn list_fast(&self, put: &mut dyn FnMut(FastEntry)) {
        for first in (0..self.table.capacity()).step_by(LISTED_AT_ONCE) {
            let state = self.state.lock();
            let contradicted = match self.wildcards.load(Ordering::Relaxed) {
                0 => BTreeSet::new(),
                _ => self.contradicted(),
            };
            let wanted = |entry: &Entry| {
                let key = entry.key;
                state.is_fast(entry.port) && !(key.is_wildcard() && contradicted.contains(&key.mac()))
            };
            let part = first..self.table.capacity().min(first + LISTED_AT_ONCE);
            let listed = part.filter_map(|index| self.table.entry(index)).filter(wanted);
            for Entry { key, kind, port, .. } in listed {
                let side = match kind {
                    _ if !state.is_trunk(port) => Sides::NONE,
                    EntryKind::Set => Sides::HOST,
                    EntryKind::Learnt | EntryKind::Static => Sides::WIRE,
                };
                put(FastEntry { mac: key.mac(), vlan: key.vlan(), port, side, kind });
            }
        }
    }

    /// Refreshes what was learnt about `key`, if it is at `port`.
    pub(crate) fn heard(&self, key: Key, port: PortId, seconds: u32) {
        if let Some(entry) = self.table.find(key).filter(|entry| entry.port == port) {
            self.refresh(&entry, seconds);
        }
    }

    /// True if there is an entry of exactly this key, at `port`; a set one, where only those count.
    pub(crate) fn is_at(&self, key: Key, port: PortId, only_set: bool) -> bool {
        let counts = |entry: &Entry| entry.port == port && (!only_set || entry.kind == EntryKind::Set);
        self.table.find(key).is_some_and(|entry| counts(&entry))
    }

    /// Enters `key` as learnt at `port`, where it was heard at that time, unless something is known of it already.
    /// Answers whether it is behind the port now.
    pub(crate) fn adopt(&self, key: Key, port: PortId, seconds: u32) -> bool {
        let mut state = self.state.lock();
        if self.table.find(key).is_none() && self.find_wildcard(key).is_none() {
            state.learn(&self.table, key, Claimant { port, proven: false }, seconds);
            self.changed();
        }
        self.is_at(key, port, false)
    }

    /// The entry for every VLAN that `key`, the key of one VLAN, stands before.
    pub(super) fn general(&self, key: Key) -> Option<Entry> {
        if key.is_wildcard() { None } else { self.find_wildcard(key) }
    }

    /// The addresses that are behind another port in some VLAN than the entry for every VLAN says. Learnt entries never
    /// contradict it.
    fn contradicted(&self) -> BTreeSet<MacAddr> {
        let contradicts =
            |entry: &Entry| self.general(entry.key).is_some_and(|general| general.port != entry.port);
        let fixed = self.table.entries().filter(|entry| entry.kind != EntryKind::Learnt);
        fixed.filter(contradicts).map(|entry| entry.key.mac()).collect()
    }
}

#[cfg(test)]
mod tests;
