//! Packed rings (virtio 1.3, 2.8).
//!
//! Theory of operation. Guest and device go round one table, and each entry says by two bits whose it is: those that
//! differ in the guest's round are available, and what the device is done with it overwrites with equal ones. As all
//! that is taken in one turn is completed in it, one position is enough.

use vmlan_sys::guest_memory::{Area, fence};

use super::Trouble;
use super::chain::{Chain, DESCRIPTOR, Descriptor, INDIRECT, LONGEST, NEXT, WRITE, Way, endless};
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
    index: u16,
    wrap: bool,
}

impl Cursor {
    /// From its form in a message: the index, and the wrap counter above it.
    pub(crate) fn from_bits(bits: u16) -> Cursor {
        Cursor { index: bits & 0x7fff, wrap: bits >> 15 != 0 }
    }

    /// The same form.
    pub(crate) fn bits(self) -> u16 {
        self.index | u16::from(self.wrap) << 15
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
    /// The flags of the first chain that was completed in this turn, which are written last.
    first: Option<(usize, u16)>,
    armed: bool,
}

impl Packed {
    /// A ring that goes on at `position`.
    ///
    /// # Errors
    /// The position is none of the ring's, or an area is not aligned.
    pub(crate) fn new(areas: Areas, num: u16, event_idx: bool, position: Cursor) -> Result<Packed, Trouble> {
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
            first: None,
            armed: false,
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
    fn complete(&mut self, Taken { id, entries }: Taken, len: u32) -> (usize, usize) {
        let (ring, at) = (self.areas.descriptors.span(), self.written);
        let offset = usize::from(at.index) * DESCRIPTOR;
        ring.store_u32(offset + 8, len);
        ring.store_u16(offset + 12, id);
        let written = if len > 0 { WRITE } else { 0 };
        let flags = if at.wrap { AVAILABLE | USED } else { 0 } | written;
        match self.first {
            // The guest reads in order: what is behind the first is nothing to it until that is.
            Some(_) => ring.store_u16_release(offset + 14, flags),
            None => self.first = Some((offset + 14, flags)),
        }
        self.written.advance(entries, self.num);
        (offset, DESCRIPTOR)
    }

    #[inline]
    fn publish(&mut self) -> bool {
        let Some((offset, flags)) = self.first.take() else { return false };
        self.areas.descriptors.span().store_u16_release(offset, flags);
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

    fn index(&self) -> Option<(usize, usize)> {
        None
    }

    #[inline]
    fn disarm(&mut self) {
        if self.armed {
            self.armed = false;
            self.areas.device.span().store_u16(2, DISABLE);
        }
    }

    fn arm(&mut self) -> Result<bool, Trouble> {
        let device = self.areas.device.span();
        if self.event_idx {
            device.store_u16(0, self.edge.bits());
            device.store_u16_release(2, ENTRY);
        } else if !self.armed {
            device.store_u16(2, ENABLE);
        }
        self.armed = true;
        fence();
        Ok(self.is_available(self.edge))
    }
}
