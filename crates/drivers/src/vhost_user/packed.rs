//! Packed rings (virtio 1.3, 2.8).
//!
//! Theory of operation. Guest and device go round one table, and each entry says by two bits whose it is: those that
//! differ in the guest's round are available, and what the device is done with it overwrites with equal ones. As all
//! that is taken in one turn is completed in it, one position is enough.
//!
//! A turn writes nothing to the table before it is published. Then its checkpoint is stored first, the last entry next,
//! and the first entry at the end, which shows all of them to the guest; each entry is one store. So a turn that a
//! killed daemon had not published is either not in the table at all, or can be finished ([`finish`]).

use vmlan_frame::Batch;
use vmlan_sys::guest_memory::{Area, Span, fence};

use super::Trouble;
use super::chain::{Chain, DESCRIPTOR, Descriptor, INDIRECT, LONGEST, NEXT, WRITE, Way, endless};
use super::checkpoint::{Turn, Word};
use super::memory::Memory;
use super::ring::{Layout, Taken, need_event};

/// Flags of a descriptor: as the guest's round is, and as the device's.
const AVAILABLE: u16 = 1 << 7;
const USED: u16 = 1 << 15;

/// Flags of an event suppression structure (virtio 1.3, 2.8.10): tell of everything, of nothing, of one entry.
const ENABLE: u16 = 0;
const DISABLE: u16 = 1;
const ENTRY: u16 = 2;

/// How many entries ahead what they have is fetched into the cache.
const AHEAD: u16 = 8;

/// Octets of an event suppression structure.
pub(crate) const EVENT: u64 = 4;

/// The areas of a packed ring.
pub(crate) struct Areas {
    pub(crate) descriptors: Area,
    /// The events that the guest wants to hear of.
    pub(crate) driver: Area,
    /// The events that we want to hear of.
    pub(crate) device: Area,
}

/// A place in the ring, and in which round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cursor {
    pub(crate) index: u16,
    pub(crate) wrap: bool,
}

impl Cursor {
    /// The first entry in the first round, where a driver that has reset its ring begins.
    pub(crate) const BEGINNING: Cursor = Cursor { index: 0, wrap: true };

    /// From its form in a message: the index, and the wrap counter above it.
    pub(crate) fn from_bits(bits: u16) -> Cursor {
        Cursor { index: bits & 0x7fff, wrap: bits >> 15 != 0 }
    }

    /// The same form.
    pub(crate) fn bits(self) -> u16 {
        self.index | u16::from(self.wrap) << 15
    }

    /// The entries from here to `to`, which is at most a round ahead.
    pub(crate) fn distance(self, to: Cursor, num: u16) -> u16 {
        if to.wrap == self.wrap { to.index - self.index } else { num - self.index + to.index }
    }

    /// Goes on by so many entries of a ring with `num` entries, which it has at least.
    #[inline]
    pub(crate) fn advance(&mut self, by: u16, num: u16) {
        // Both are at most 32,768.
        self.index += by;
        if self.index >= num {
            self.index -= num;
            self.wrap = !self.wrap;
        }
    }
}

/// The half of a descriptor that a device writes: the octets written, the id of the chain, and the flags, as one value,
/// so that whoever reads it later finds it written or not.
#[inline]
fn used(at: Cursor, id: u16, len: u32, writes: bool) -> u64 {
    let written = if writes { WRITE } else { 0 };
    let flags = if at.wrap { AVAILABLE | USED } else { 0 } | written;
    u64::from(len) | u64::from(id) << 32 | u64::from(flags) << 48
}

/// A chain that is completed, and not shown to the guest yet.
#[derive(Clone, Copy)]
struct Completed {
    at: Cursor,
    id: u16,
    len: u32,
}

impl Completed {
    #[inline]
    fn write(self, table: Span<'_>) {
        let Completed { at, id, len } = self;
        table.store_u64_release(usize::from(at.index) * DESCRIPTOR + 8, used(at, id, len, len > 0));
    }
}

/// True if a device has completed anything in this table since its driver zeroed it, the last of it being `turn`. A
/// driver sets the bit only in an entry that it comes to again, and in its first round it fills none without
/// [`AVAILABLE`].
pub(crate) fn was_used(table: Span<'_>, num: u16, turn: Turn) -> bool {
    let from = Descriptor::read(table, usize::from(turn.from.index) * DESCRIPTOR);
    let is_filled = from.piece.guest != 0 || from.piece.len != 0;
    let is_ours = turn.from != turn.to && !turn.from.wrap && is_filled && from.fourth & AVAILABLE == 0;
    is_ours || (0..usize::from(num)).any(|index| table.load_u16(index * DESCRIPTOR + 14) & USED != 0)
}

/// The state in which the end of the last daemon left its last turn in a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LastTurn {
    /// The guest could see all of it.
    Published,
    /// It was completed, and is published now.
    Finished,
    /// The table has something else there.
    Unknown,
}

/// Publishes a turn, if it was not. Entries of the table that it had written are the last ones of the turn. The others
/// are as the guest has made them. One that was written to gets the length of its buffer, for no other is known: the
/// guest finds a frame with octets behind its end, as if it were padded.
pub(crate) fn finish(table: Span<'_>, num: u16, turn: Turn) -> LastTurn {
    let Turn { from, to, writes } = turn;
    let read = |at: Cursor| Descriptor::read(table, usize::from(at.index) * DESCRIPTOR);
    let bits = |at: Cursor, flags: u16| (flags & AVAILABLE != 0, flags & USED != 0) == (at.wrap, at.wrap);
    // Only a device gives the bit its round's value; the guest leaves it so when it comes to the entry again.
    if from == to || (read(from).fourth & USED != 0) == from.wrap {
        return LastTurn::Published;
    }
    let mut chains = Vec::new();
    let mut at = from;
    while at != to {
        let mut left = at.distance(to, num);
        let head = read(at);
        if bits(at, head.fourth) {
            break;
        }
        if (head.fourth & AVAILABLE != 0) != at.wrap || (head.fourth & USED != 0) == at.wrap {
            return LastTurn::Unknown;
        }
        let (start, len) = (at, if writes { head.piece.len } else { 0 });
        let mut last = head;
        at.advance(1, num);
        left -= 1;
        while head.fourth & INDIRECT == 0 && last.fourth & NEXT != 0 {
            if left == 0 {
                return LastTurn::Unknown;
            }
            last = read(at);
            at.advance(1, num);
            left -= 1;
        }
        chains.push((start, used(start, last.third, len, writes)));
    }
    for (at, value) in chains.into_iter().rev() {
        table.store_u64_release(usize::from(at.index) * DESCRIPTOR + 8, value);
    }
    LastTurn::Finished
}

/// A packed ring.
pub(crate) struct Packed {
    areas: Areas,
    num: u16,
    event_idx: bool,
    /// All before it is completed and published.
    done: Cursor,
    /// All before it is taken; between turns as `done`.
    taken: Cursor,
    /// The first entry that was not available when it was looked at.
    edge: Cursor,
    /// Where the next completed chain is written.
    written: Cursor,
    /// The chains that were completed in this turn.
    completed: Vec<Completed>,
    /// Where the last turn began and ended, and whether it wrote to buffers.
    turn: Turn,
    /// The note of the position for a daemon that is started again.
    checkpoint: Option<Word>,
    /// As of a split ring.
    armed: Option<bool>,
}

impl Packed {
    /// A ring that goes on at `position`, which is noted in the checkpoint with every turn.
    ///
    /// # Errors
    /// The position is none of the ring's, or an area is not aligned.
    pub(crate) fn new(
        areas: Areas,
        num: u16,
        event_idx: bool,
        position: Cursor,
        checkpoint: Option<Word>,
    ) -> Result<Packed, Trouble> {
        for (area, to) in [(&areas.descriptors, 16), (&areas.driver, 4), (&areas.device, 4)] {
            if !area.span().is_aligned(to) {
                return Err(Trouble("an area of the ring is not aligned".to_owned()));
            }
        }
        if position.index >= num {
            return Err(Trouble(format!("the ring begins at entry {}, of {num}", position.index)));
        }
        Ok(Packed {
            areas,
            num,
            event_idx,
            done: position,
            taken: position,
            edge: position,
            written: position,
            completed: Vec::with_capacity(Batch::LIMIT),
            turn: Turn::none(position),
            checkpoint,
            armed: None,
        })
    }

    /// Where the next chain is.
    pub(crate) fn position(&self) -> Cursor {
        self.done
    }

    #[inline]
    fn is_available(&self, at: Cursor) -> bool {
        let flags = self.areas.descriptors.span().load_u16_acquire(usize::from(at.index) * DESCRIPTOR + 14);
        (flags & AVAILABLE != 0) == at.wrap && (flags & USED != 0) != at.wrap
    }

    #[inline]
    fn read(&self, at: Cursor) -> Descriptor {
        Descriptor::read(self.areas.descriptors.span(), usize::from(at.index) * DESCRIPTOR)
    }

    /// Fetches what an entry has into the cache, if it is available.
    #[inline]
    fn fetch(&self, mut at: Cursor, memory: &Memory, hint: &mut usize, way: Way) {
        at.advance(AHEAD.min(self.num - 1), self.num);
        if !self.is_available(at) {
            return;
        }
        way.fetch(memory, hint, self.read(at).piece);
    }
}

impl Layout for Packed {
    type Mark = Cursor;

    #[inline]
    fn begin(&mut self, _: &Memory, _: &mut usize, _: Way) -> Result<bool, Trouble> {
        let is_available = self.is_available(self.taken);
        if !is_available {
            self.edge = self.taken;
        }
        Ok(is_available)
    }

    #[inline]
    fn next(
        &mut self,
        chain: &mut Chain,
        memory: &Memory,
        hint: &mut usize,
        way: Way,
    ) -> Result<Option<Taken>, Trouble> {
        if !self.is_available(self.taken) {
            self.edge = self.taken;
            return Ok(None);
        }
        self.fetch(self.taken, memory, hint, way);
        let mut at = self.taken;
        let mut descriptor = self.read(at);
        let mut entries = 1;
        let flags = descriptor.fourth;
        if flags & INDIRECT != 0 {
            if flags & NEXT != 0 {
                return Err(Trouble("a descriptor is a table and has a next one".to_owned()));
            }
            let (table, count) = Chain::table(memory, hint, descriptor.piece, LONGEST)?;
            for number in 0..count {
                // All entries belong to the chain, whatever their flag for a next one says (2.8.7).
                let inner = Descriptor::read(table, number * DESCRIPTOR);
                if inner.fourth & INDIRECT != 0 {
                    return Err(Trouble("a table of descriptors is within another table".to_owned()));
                }
                chain.push(inner.piece, inner.fourth & WRITE, way)?;
            }
        } else {
            chain.push(descriptor.piece, flags, way)?;
            while descriptor.fourth & NEXT != 0 {
                if usize::from(entries) >= LONGEST.min(self.num.into()) {
                    return Err(endless());
                }
                at.advance(1, self.num);
                descriptor = self.read(at);
                if descriptor.fourth & INDIRECT != 0 {
                    return Err(Trouble("a table of descriptors is within a chain".to_owned()));
                }
                chain.push(descriptor.piece, descriptor.fourth, way)?;
                entries += 1;
            }
        }
        // The id of a chain is in its last entry (2.8.6).
        self.taken.advance(entries, self.num);
        Ok(Some(Taken { id: descriptor.third, entries }))
    }

    #[inline]
    fn mark(&self) -> Cursor {
        self.taken
    }

    #[inline]
    fn rewind(&mut self, mark: Cursor) {
        self.taken = mark;
    }

    #[inline]
    fn complete(&mut self, Taken { id, entries }: Taken, len: u32) -> Option<(usize, usize)> {
        self.completed.push(Completed { at: self.written, id, len });
        self.written.advance(entries, self.num);
        // It is written when it is published.
        None
    }

    #[inline]
    fn publish(&mut self) -> bool {
        let Some((first, others)) = self.completed.split_first() else { return false };
        self.turn = Turn { from: self.done, to: self.written, writes: first.len > 0 };
        if let Some(checkpoint) = &self.checkpoint {
            checkpoint.store(self.turn);
        }
        let table = self.areas.descriptors.span();
        // The guest reads in order: what is behind the first is nothing to it until that is.
        for completed in others.iter().rev() {
            completed.write(table);
        }
        first.write(table);
        self.completed.clear();
        let before = self.done;
        self.done = self.written;
        fence();
        let wanted = self.areas.driver.span().load_u32(0);
        let (event, flags) = (wanted as u16, (wanted >> 16) as u16);
        if !self.event_idx || flags != ENTRY {
            return flags != DISABLE;
        }
        // Entries of the round before are as many below this round's first.
        let event = Cursor::from_bits(event);
        let new = self.done.index;
        let old = if new <= before.index { before.index.wrapping_sub(self.num) } else { before.index };
        let event =
            if event.wrap == self.done.wrap { event.index } else { event.index.wrapping_sub(self.num) };
        need_event(event, new, old)
    }

    fn published(&self) -> [(usize, usize); 2] {
        let Turn { from, to, .. } = self.turn;
        let octets =
            |from: u16, to: u16| (usize::from(from) * DESCRIPTOR, usize::from(to - from) * DESCRIPTOR);
        match from.wrap == to.wrap {
            true => [octets(from.index, to.index), (0, 0)],
            false => [octets(from.index, self.num), octets(0, to.index)],
        }
    }

    #[inline]
    fn disarm(&mut self) {
        if self.armed != Some(false) {
            self.armed = Some(false);
            self.areas.device.span().store_u16(2, DISABLE);
        }
    }

    fn arm(&mut self) -> Result<bool, Trouble> {
        let device = self.areas.device.span();
        if self.event_idx {
            device.store_u16(0, self.edge.bits());
            device.store_u16_release(2, ENTRY);
        } else if self.armed != Some(true) {
            device.store_u16(2, ENABLE);
        }
        self.armed = Some(true);
        fence();
        Ok(self.is_available(self.edge))
    }
}
