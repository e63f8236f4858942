//! What the FDB keeps about its entries besides the entries: counts by port, moves, events. One thread at a time.
//!
//! Moves. An address that sends from another port than before moves there. More than [`MOVES_PER_SECOND`] moves in a
//! second are no moving guest but a loop or a theft: the address goes back to where it was before it began to move (its
//! *home*) and stays there for [`HOLD`] seconds. The home changes only after [`HOLD`] seconds without an attempt to
//! move, so who keeps trying does not become the home.

use core::cmp::Reverse;
use core::mem;
use core::ops::Range;

use super::table::{Entry, Key, Table};
use super::{EntryKind, PortId};
use crate::event::{Event, EventQueue};
use crate::trunk::{Notify, TrunkNotice};

/// How often an address may move in a second.
pub(super) const MOVES_PER_SECOND: u8 = 4;

/// For how many seconds an address that moved too often stays where it is.
pub(super) const HOLD: u32 = 10;

/// How many places one call looks at for addresses that aged.
pub(super) const AGED_AT_ONCE: usize = 8192;

/// What came of an attempt to learn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Learning {
    /// An entry was made or moved.
    Changed,
    /// The address stays as it is: known already, held, fixed, or there is no place for it.
    Refused,
    /// Somebody else is changing the FDB.
    Busy,
}

/// What a port holds.
#[derive(Clone, Copy)]
struct Load {
    port: PortId,
    learnt: usize,
    quota: usize,
    /// Whether it may learn: a port that receives nothing does not, for its addresses would be sent nowhere.
    learns: bool,
    /// Whether it was said that the quota is reached.
    told: bool,
}

/// The moves of the address in one place of the table.
#[derive(Clone, Copy, Default)]
struct Moves {
    /// Where the address was before it began to move; of no meaning while `attempts` is 0.
    home: u32,
    /// When it last tried, in seconds.
    last: u32,
    /// Attempts in that second.
    attempts: u8,
    held_until: u32,
}

pub(super) struct State {
    /// By slot.
    loads: Vec<Option<Load>>,
    /// By place in the table.
    moves: Box<[Moves]>,
    /// Where ageing goes on.
    cursor: usize,
    pub(super) events: EventQueue,
    pub(super) watch: Option<Watch>,
}

/// Somebody who follows which addresses are behind other ports than the trunk.
pub(super) struct Watch {
    pub(super) trunk: PortId,
    pub(super) notify: Notify,
}

impl State {
    pub(super) fn new(capacity: usize) -> State {
        let moves = vec![Moves::default(); capacity].into();
        State { loads: Vec::new(), moves, cursor: 0, events: EventQueue::new(), watch: None }
    }

    /// Tells who watches that an address came to be behind `port`, or left it.
    pub(super) fn tell(&self, port: PortId) {
        if let Some(watch) = self.watch.as_ref().filter(|watch| watch.trunk != port) {
            (watch.notify)(TrunkNotice::Stations);
        }
    }

    pub(super) fn admit_port(&mut self, port: PortId, quota: usize) {
        if let Some(load) = self.load(port) {
            load.quota = quota;
            load.told = false;
            return;
        }
        let slots = self.loads.len().max(port.slot() + 1);
        self.loads.resize(slots, None);
        self.loads[port.slot()] = Some(Load { port, learnt: 0, quota, learns: false, told: false });
    }

    pub(super) fn set_learning(&mut self, port: PortId, learns: bool) {
        if let Some(load) = self.load(port) {
            load.learns = learns;
        }
    }

    pub(super) fn dismiss_port(&mut self, port: PortId) {
        if self.load(port).is_some() {
            self.loads[port.slot()] = None;
        }
    }

    fn load(&mut self, port: PortId) -> Option<&mut Load> {
        self.loads.get_mut(port.slot())?.as_mut().filter(|load| load.port == port)
    }

    /// How many addresses were learnt behind `port`.
    pub(super) fn learnt(&self, port: PortId) -> usize {
        let load = self.loads.get(port.slot()).copied().flatten();
        load.filter(|load| load.port == port).map_or(0, |load| load.learnt)
    }

    pub(super) fn learn(&mut self, table: &Table, key: Key, port: PortId, now: u32) -> Learning {
        if let Some(entry) = table.find(key) {
            let is_move = entry.kind == EntryKind::Learnt && entry.port != port;
            return if is_move { self.relocate(table, &entry, port, now) } else { Learning::Refused };
        }
        if !self.within_quota(port) {
            return Learning::Refused;
        }
        let Some(index) = table.free_place(key).or_else(|| self.evict_for(table, key, port)) else {
            return Learning::Refused;
        };
        self.moves[index] = Moves::default();
        table.write(index, key, EntryKind::Learnt, port, now);
        self.add(port);
        self.tell(port);
        self.events.push(Event::Learnt { mac: key.mac(), vlan: key.vlan(), port });
        Learning::Changed
    }

    /// Whether `port` may hold one address more. A port that was removed, which a worker may name until it sees the
    /// next port table, holds none.
    fn within_quota(&mut self, port: PortId) -> bool {
        let Some(load) = self.load(port).filter(|load| load.learns) else { return false };
        if load.learnt < load.quota {
            return true;
        }
        if !mem::replace(&mut load.told, true) {
            self.events.push(Event::QuotaReached { port });
        }
        false
    }

    fn relocate(&mut self, table: &Table, entry: &Entry, port: PortId, now: u32) -> Learning {
        let moves = &mut self.moves[entry.index];
        if moves.attempts == 0 || now.saturating_sub(moves.last) >= HOLD {
            *moves = Moves { home: entry.port.bits(), ..Moves::default() };
        }
        if moves.last < now {
            (moves.last, moves.attempts) = (now, 0);
        }
        moves.attempts = moves.attempts.saturating_add(1);
        if now < moves.held_until {
            return Learning::Refused;
        }
        if moves.attempts > MOVES_PER_SECOND {
            moves.held_until = now.saturating_add(HOLD);
            let home = PortId::from_bits(moves.home);
            return self.hold(table, entry, home, port, now);
        }
        if !self.within_quota(port) {
            return Learning::Refused;
        }
        self.transfer(table, entry, port, now);
        let (mac, vlan) = (entry.key.mac(), entry.key.vlan());
        self.events.push(Event::Moved { mac, vlan, from: entry.port, to: port });
        Learning::Changed
    }

    /// Puts an address that moved too often back where it was, if there is room for it, and says so.
    fn hold(&mut self, table: &Table, entry: &Entry, home: PortId, claimant: PortId, now: u32) -> Learning {
        let returns =
            home != entry.port && self.load(home).is_some_and(|load| load.learns && load.learnt < load.quota);
        if returns {
            self.transfer(table, entry, home, now);
        }
        let port = if returns { home } else { entry.port };
        self.events.push(Event::MoveDamped { mac: entry.key.mac(), vlan: entry.key.vlan(), port, claimant });
        if returns { Learning::Changed } else { Learning::Refused }
    }

    fn transfer(&mut self, table: &Table, entry: &Entry, to: PortId, now: u32) {
        table.write(entry.index, entry.key, EntryKind::Learnt, to, now);
        self.subtract(entry.port);
        self.add(to);
        self.tell(entry.port);
        self.tell(to);
    }

    /// Frees a place for an address that `port` wants learnt: of the learnt addresses there, one of the port that
    /// holds most, the one that was silent longest; never one of a port that holds no more than `port` does.
    fn evict_for(&mut self, table: &Table, key: Key, port: PortId) -> Option<usize> {
        let own = self.learnt(port);
        let victim = self.heaviest(table, key, |entry, learnt| entry.port == port || learnt > own)?;
        Some(self.evict(table, &victim))
    }

    /// The place for a fixed entry: its present one, a free one, or that of a learnt address.
    pub(super) fn place_fixed(&mut self, table: &Table, key: Key) -> Option<usize> {
        if let Some(entry) = table.find(key) {
            if entry.kind == EntryKind::Learnt {
                self.subtract(entry.port);
            }
            return Some(entry.index);
        }
        if let Some(index) = table.free_place(key) {
            return Some(index);
        }
        let victim = self.heaviest(table, key, |_, _| true)?;
        Some(self.evict(table, &victim))
    }

    fn heaviest(&self, table: &Table, key: Key, allowed: impl Fn(&Entry, usize) -> bool) -> Option<Entry> {
        let learnt = |entry: &Entry| entry.kind == EntryKind::Learnt;
        table
            .places(key)
            .filter_map(|index| table.entry(index))
            .filter(|entry| learnt(entry) && allowed(entry, self.learnt(entry.port)))
            .max_by_key(|entry| (self.learnt(entry.port), Reverse(entry.seen)))
    }

    fn evict(&mut self, table: &Table, victim: &Entry) -> usize {
        self.remove(table, victim);
        let (mac, vlan) = (victim.key.mac(), victim.key.vlan());
        self.events.push(Event::Evicted { mac, vlan, port: victim.port });
        victim.index
    }

    pub(super) fn remove(&mut self, table: &Table, entry: &Entry) {
        table.clear(entry.index);
        if entry.kind == EntryKind::Learnt {
            self.subtract(entry.port);
        }
        self.tell(entry.port);
    }

    pub(super) fn expired(&mut self, entry: &Entry) {
        let (mac, vlan) = (entry.key.mac(), entry.key.vlan());
        self.events.push(Event::Expired { mac, vlan, port: entry.port });
    }

    /// The places to look at for aged addresses this time.
    pub(super) fn next_to_age(&mut self, capacity: usize) -> Range<usize> {
        let start = self.cursor;
        let end = capacity.min(start + AGED_AT_ONCE);
        self.cursor = if end == capacity { 0 } else { end };
        start..end
    }

    fn add(&mut self, port: PortId) {
        if let Some(load) = self.load(port) {
            load.learnt += 1;
        }
    }

    fn subtract(&mut self, port: PortId) {
        if let Some(load) = self.load(port) {
            load.learnt -= 1;
            load.told &= load.learnt >= load.quota;
        }
    }
}
