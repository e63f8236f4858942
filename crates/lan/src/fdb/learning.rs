//! The FDB's records besides its entries: counts by port, moves, events. One thread at a time uses them.
//!
//! Moves. An address that sends from another port than before moves there at once: a station that migrates, or a guest
//! whose bond fails over, cannot wait until its former port was silent for long. The port that had the address first is
//! its *home*, for as long as an entry there would not have aged. An address that is heard at its home again did not
//! migrate: two ports claim it. It goes back and stays there. From then on its home has to be silent for a *hold*
//! before it moves again: [`HOLD`] seconds, twice as many with every further return, the ageing time at most. So a
//! thief gets frames for as long as its victim is silent, once. More than [`MOVES_PER_SECOND`] moves in a second
//! between other ports put the address back home too.
//!
//! The trunk. An address on the wire moves to a guest's port only when the wire was silent for [`HOLD`] seconds, for
//! the ageing time once it was contested. An address of a guest that was heard in the last [`HOLD`] seconds moves to
//! the wire only by a frame that proves it: unicast to a station behind this network. Group frames may be the guest's
//! own, which something on the wire reflects. An address that moved to the wire has its home there.

use core::cmp::Reverse;
use core::mem;
use core::ops::Range;
use std::sync::Arc;

use vmlan_frame::SecondaryMap;

use super::table::{Entry, Key, Table};
use super::{EntryKind, PortId};
use crate::event::{Event, EventQueue};
use crate::fast::FastPath;
use crate::group::Group;
use crate::trunk::{Notify, TrunkNotice};

/// How often an address may move in a second.
pub(super) const MOVES_PER_SECOND: u8 = 4;

/// For how many seconds a contested address stays where it is, at least.
pub(super) const HOLD: u32 = 10;

/// How many places one call looks at for addresses that aged.
pub(super) const AGED_AT_ONCE: usize = 8192;

/// The outcome of an attempt to learn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Learning {
    /// An entry was made or moved.
    Changed,
    /// The address stays as it is: known already, fixed, or there is no place for it.
    Refused,
    /// The address stays at another port, or went back to it, and frames from it are not this port's to send.
    Contested {
        /// True if the address went back.
        moved: bool,
    },
    /// Another thread is changing the FDB.
    Busy,
}

/// The count of a port's learnt addresses, with its quota and reports.
struct Load {
    learnt: usize,
    quota: usize,
    /// The ports that hold addresses together with this one.
    group: Option<Arc<Group>>,
    /// True if the port may learn. A port that receives nothing does not, for frames to its addresses would go nowhere.
    learns: bool,
    /// True if it was reported that the quota is reached.
    told: bool,
    /// True if a fast way copies the entries at the port.
    fast: bool,
    /// The second in which it was last said that the port claims another's address.
    contested: Option<u32>,
}

/// The moves of the learnt address in one place of the table.
#[derive(Clone, Copy, Default)]
struct Moves {
    /// The port that has the best claim to the address.
    home: u32,
    /// When the address was last heard there, in seconds; the entry says so while it is there.
    heard: u32,
    /// How often it came back there after another port had it.
    returns: u8,
    /// When it last moved or was to move, in seconds.
    last: u32,
    /// Attempts in that second.
    attempts: u8,
    /// It stays where it is until then, because it moved too often.
    held_until: u32,
}

/// The port that an address is heard from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimant {
    pub(crate) port: PortId,
    /// True if the frame shows that the address is there. Only asked for the trunk: what comes from the wire may be a
    /// reflection.
    pub(crate) proven: bool,
}

impl Moves {
    fn at(home: PortId, heard: u32) -> Moves {
        Moves { home: home.bits(), heard, ..Moves::default() }
    }

    /// Counts an attempt to move. What was contested is so no more after an ageing time without any.
    fn count(&mut self, now: u32, ageing: u32) {
        if now.saturating_sub(self.last) >= ageing {
            self.returns = 0;
        }
        if self.last < now {
            (self.last, self.attempts) = (now, 0);
        }
        self.attempts = self.attempts.saturating_add(1);
    }

    /// For how many seconds a contested home has to be silent before the address moves away.
    fn hold(&self, ageing: u32) -> u32 {
        match self.returns {
            0 => 0,
            returns => HOLD.checked_shl(u32::from(returns) - 1).unwrap_or(ageing).min(ageing),
        }
    }
}

pub(super) struct State {
    loads: SecondaryMap<PortId, Load>,
    /// By place in the table.
    moves: Box<[Moves]>,
    /// Times that a learnt address changed its port.
    pub(super) moved: u64,
    /// Where ageing goes on.
    cursor: usize,
    /// For how many seconds a silent address is remembered.
    ageing: u32,
    pub(super) events: EventQueue,
    pub(super) watch: Option<Watch>,
    /// The copy of the entries at fast ports.
    pub(super) fast: Option<Arc<dyn FastPath>>,
}

/// A callback for changes of the addresses behind ports other than the trunk.
pub(super) struct Watch {
    pub(super) trunk: PortId,
    pub(super) notify: Notify,
}

impl State {
    pub(super) fn new(capacity: usize, ageing: u32) -> State {
        let moves = vec![Moves::default(); capacity].into();
        State {
            loads: SecondaryMap::new(),
            moves,
            moved: 0,
            cursor: 0,
            ageing,
            events: EventQueue::new(),
            watch: None,
            fast: None,
        }
    }

    /// Tells who watches that an address came to be behind `port`, or left it.
    pub(super) fn tell(&self, port: PortId) {
        if let Some(watch) = self.watch.as_ref().filter(|watch| watch.trunk != port) {
            (watch.notify)(TrunkNotice::Stations);
        }
    }

    /// Takes an entry out of the fast way's copy. To be called before the table shows that the entry goes or changes.
    pub(super) fn withdraw(&self, entry: &Entry) {
        if let Some(fast) = self.fast.as_ref().filter(|_| self.is_fast(entry.port)) {
            fast.withdraw(entry.key.mac(), entry.key.vlan(), entry.port);
        }
    }

    /// Notes that an entry came to be at `port`.
    pub(super) fn gained(&self, port: PortId) {
        if let Some(fast) = self.fast.as_ref().filter(|_| self.is_fast(port)) {
            fast.changed();
        }
    }

    /// True if a fast way copies the entries at `port`.
    pub(super) fn is_fast(&self, port: PortId) -> bool {
        self.loads.get(port).is_some_and(|load| load.fast)
    }

    pub(super) fn set_fast(&mut self, port: PortId, fast: bool) {
        if let Some(load) = self.loads.get_mut(port) {
            load.fast = fast;
        }
    }

    pub(super) fn admit_port(&mut self, port: PortId, quota: usize, group: Option<&Arc<Group>>) {
        if let Some(load) = self.loads.get_mut(port) {
            load.quota = quota;
            load.told = false;
            return;
        }
        let group = group.cloned();
        let load = Load { learnt: 0, quota, group, learns: false, told: false, fast: false, contested: None };
        self.loads.insert(port, load);
    }

    pub(super) fn set_learning(&mut self, port: PortId, learns: bool) {
        if let Some(load) = self.loads.get_mut(port) {
            load.learns = learns;
        }
    }

    pub(super) fn dismiss_port(&mut self, port: PortId) {
        self.loads.remove(port);
    }

    /// How many addresses were learnt behind `port`.
    pub(super) fn learnt(&self, port: PortId) -> usize {
        self.loads.get(port).map_or(0, |load| load.learnt)
    }

    /// How many addresses were learnt behind `port` and the others of its group.
    fn held(&self, port: PortId) -> usize {
        self.loads
            .get(port)
            .map_or(0, |load| load.group.as_ref().map_or(load.learnt, |group| group.addresses.learnt()))
    }

    pub(super) fn learn(&mut self, table: &Table, key: Key, claimant: Claimant, now: u32) -> Learning {
        let port = claimant.port;
        if let Some(entry) = table.find(key) {
            let is_move = entry.kind == EntryKind::Learnt && entry.port != port;
            return if is_move { self.relocate(table, &entry, claimant, now) } else { Learning::Refused };
        }
        if !self.within_quota(port, None) {
            return Learning::Refused;
        }
        let Some(index) = table.free_place(key).or_else(|| self.evict_for(table, key, port)) else {
            return Learning::Refused;
        };
        self.moves[index] = Moves::at(port, now);
        table.write(index, key, EntryKind::Learnt, port, now);
        self.add(port);
        self.tell(port);
        self.gained(port);
        self.events.push(Event::Learnt { mac: key.mac(), vlan: key.vlan(), port });
        Learning::Changed
    }

    /// True if `port` may hold one address more, which is behind `from` now. A port that was removed, which a worker
    /// may name until it sees the next port table, holds none.
    fn within_quota(&mut self, port: PortId, from: Option<PortId>) -> bool {
        if self.has_room(port, from) {
            return true;
        }
        let Some(load) = self.loads.get_mut(port).filter(|load| load.learns) else { return false };
        let group = load.group.as_ref().filter(|_| load.learnt < load.quota);
        let may_tell = match group {
            Some(group) => group.addresses.may_tell(),
            None => !mem::replace(&mut load.told, true),
        };
        if may_tell {
            self.events.push(Event::QuotaReached { port });
        }
        false
    }

    fn has_room(&self, port: PortId, from: Option<PortId>) -> bool {
        let Some(load) = self.loads.get(port).filter(|load| load.learns) else { return false };
        let Some(group) = &load.group else { return load.learnt < load.quota };
        let former = from.and_then(|from| self.loads.get(from)?.group.as_ref());
        let stays = former.is_some_and(|former| Arc::ptr_eq(former, group));
        load.learnt < load.quota && (stays || group.addresses.has_room())
    }

    fn relocate(&mut self, table: &Table, entry: &Entry, claimant: Claimant, now: u32) -> Learning {
        let (holder, port) = (entry.port, claimant.port);
        let mut moves = self.moves[entry.index];
        let home = PortId::from_bits(moves.home);
        if home == holder {
            moves.heard = entry.seen;
        } else if now.saturating_sub(moves.heard) >= self.ageing || !self.learns(home) {
            moves = Moves::at(holder, entry.seen);
        }
        moves.count(now, self.ageing);
        self.moves[entry.index] = moves;
        if moves.home == port.bits() {
            return self.bring_home(table, entry, port, now);
        }
        if now < moves.held_until || self.is_held(entry, &moves, claimant, now) {
            self.tell_contest(entry, holder, port, now);
            return Learning::Contested { moved: false };
        }
        if moves.attempts > MOVES_PER_SECOND {
            return self.hold(table, entry, port, now);
        }
        self.move_to(table, entry, port, now)
    }

    /// True if the port that has an address keeps it, by the time since it was heard there.
    fn is_held(&self, entry: &Entry, moves: &Moves, claimant: Claimant, now: u32) -> bool {
        let silent = now.saturating_sub(entry.seen);
        if self.is_trunk(entry.port) {
            return silent < if moves.returns == 0 { HOLD } else { self.ageing };
        }
        let reflects = self.is_trunk(claimant.port) && !claimant.proven;
        let contested = moves.home == entry.port.bits() && silent < moves.hold(self.ageing);
        reflects && silent < HOLD || contested && !(self.is_trunk(claimant.port) && claimant.proven)
    }

    /// Gives an address back to its home, where it was heard again.
    fn bring_home(&mut self, table: &Table, entry: &Entry, home: PortId, now: u32) -> Learning {
        let learning = self.move_to(table, entry, home, now);
        // A port that was silent for so long has lost the address to a station that moved back.
        let is_contest = now.saturating_sub(entry.seen) < HOLD;
        if learning == Learning::Changed && is_contest {
            let moves = &mut self.moves[entry.index];
            moves.returns = moves.returns.saturating_add(1);
            self.tell_contest(entry, home, entry.port, now);
        }
        learning
    }

    fn move_to(&mut self, table: &Table, entry: &Entry, port: PortId, now: u32) -> Learning {
        if !self.within_quota(port, Some(entry.port)) {
            return Learning::Refused;
        }
        self.transfer(table, entry, port, now);
        if self.is_trunk(port) && self.moves[entry.index].home != port.bits() {
            self.moves[entry.index] = Moves::at(port, now);
        }
        let (mac, vlan) = (entry.key.mac(), entry.key.vlan());
        self.events.push(Event::Moved { mac, vlan, from: entry.port, to: port });
        Learning::Changed
    }

    /// Puts an address that moved too often back home, if there is room for it, and says so.
    fn hold(&mut self, table: &Table, entry: &Entry, claimant: PortId, now: u32) -> Learning {
        let moves = &mut self.moves[entry.index];
        moves.held_until = now.saturating_add(HOLD);
        let home = PortId::from_bits(moves.home);
        let returns = home != entry.port && self.has_room(home, Some(entry.port));
        if returns {
            self.transfer(table, entry, home, now);
        }
        let port = if returns { home } else { entry.port };
        self.tell_contest(entry, port, claimant, now);
        Learning::Contested { moved: returns }
    }

    /// Reports that `port` keeps an address which `claimant` sends from, once a second for a claimant.
    fn tell_contest(&mut self, entry: &Entry, port: PortId, claimant: PortId, now: u32) {
        let (mac, vlan) = (entry.key.mac(), entry.key.vlan());
        let Some(load) = self.loads.get_mut(claimant) else { return };
        if load.contested.replace(now) != Some(now) {
            self.events.push(Event::Contested { mac, vlan, port, claimant });
        }
    }

    fn learns(&mut self, port: PortId) -> bool {
        self.loads.get_mut(port).is_some_and(|load| load.learns)
    }

    pub(super) fn is_trunk(&self, port: PortId) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.trunk == port)
    }

    fn transfer(&mut self, table: &Table, entry: &Entry, to: PortId, now: u32) {
        self.withdraw(entry);
        self.moved += 1;
        table.write(entry.index, entry.key, EntryKind::Learnt, to, now);
        self.subtract(entry.port);
        self.add(to);
        self.tell(entry.port);
        self.tell(to);
        self.gained(to);
    }

    /// Frees a place for an address that `port` wants learnt: of the learnt addresses there, one of the port that holds
    /// most, the one that was silent longest; never one of a port that holds no more than `port` does. The ports of a
    /// group hold together what each of them holds.
    fn evict_for(&mut self, table: &Table, key: Key, port: PortId) -> Option<usize> {
        let own = self.held(port);
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
            .filter(|entry| learnt(entry) && allowed(entry, self.held(entry.port)))
            .max_by_key(|entry| (self.held(entry.port), self.learnt(entry.port), Reverse(entry.seen)))
    }

    fn evict(&mut self, table: &Table, victim: &Entry) -> usize {
        self.remove(table, victim);
        let (mac, vlan) = (victim.key.mac(), victim.key.vlan());
        self.events.push(Event::Evicted { mac, vlan, port: victim.port });
        victim.index
    }

    pub(super) fn remove(&mut self, table: &Table, entry: &Entry) {
        self.withdraw(entry);
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
        if let Some(load) = self.loads.get_mut(port) {
            load.learnt += 1;
            load.group.as_ref().inspect(|group| group.addresses.add());
        }
    }

    fn subtract(&mut self, port: PortId) {
        if let Some(load) = self.loads.get_mut(port) {
            load.learnt -= 1;
            load.group.as_ref().inspect(|group| group.addresses.subtract());
            load.told &= load.learnt >= load.quota;
        }
    }
}
