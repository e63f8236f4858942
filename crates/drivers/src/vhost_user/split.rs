//! Split rings (virtio 1.3, 2.7).
//!
//! Theory of operation. All that is taken in one turn is completed in it, so the index of the chain that comes next is
//! that of the used ring, and a daemon that starts again finds it there.

use vmlan_sys::guest_memory::{Area, Span, fence};

use super::Trouble;
use super::chain::{Chain, DESCRIPTOR, Descriptor, INDIRECT, LONGEST, NEXT, Piece, Way, endless};
use super::memory::Memory;
use super::ring::{Layout, Taken, need_event};

/// `VIRTQ_AVAIL_F_NO_INTERRUPT` and `VIRTQ_USED_F_NO_NOTIFY`: whoever set it wants to hear nothing.
const SILENT: u16 = 1;

/// How many chains ahead their first descriptors are read, and what these have is fetched into the cache: a power of
/// two.
pub(crate) const AHEAD: u16 = 8;

/// Used entries in a line of a cache.
const LINE: u16 = 8;

/// A chain whose first descriptor was read.
#[derive(Clone, Copy, Default)]
struct Head {
    number: u16,
    descriptor: Descriptor,
}

/// The areas of a split ring.
pub(crate) struct Areas {
    pub(crate) descriptors: Area,
    pub(crate) available: Area,
    pub(crate) used: Area,
}

impl Areas {
    /// Octets of the three areas of a ring with `num` entries.
    pub(crate) fn octets(num: u32, event_idx: bool) -> [u64; 3] {
        let (num, event) = (u64::from(num), if event_idx { 2 } else { 0 });
        [16 * num, 4 + 2 * num + event, 4 + 8 * num + event]
    }
}

/// The place of an index in a ring with `num` entries, a power of two.
#[inline]
pub(crate) const fn slot(index: u16, num: u16) -> usize {
    (index & (num - 1)) as usize
}

/// The number of chains from index `taken` to `index`; `None` if a ring with `num` entries cannot have so many.
#[inline]
pub(crate) const fn available(index: u16, taken: u16, num: u16) -> Option<u16> {
    let count = index.wrapping_sub(taken);
    if count <= num { Some(count) } else { None }
}

/// A split ring.
pub(crate) struct Split {
    areas: Areas,
    num: u16,
    event_idx: bool,
    /// The index of the used ring: what is below is completed and published.
    done: u16,
    /// The index up to which chains are taken; between turns as `done`.
    taken: u16,
    /// The index up to which chains are known to be available.
    seen: u16,
    /// The chains that come next as far as they are read, each in the place that its index has.
    heads: [Head; AHEAD as usize],
    /// The index up to which they are read.
    read: u16,
    /// Completed in this turn.
    completed: u16,
    /// True if the guest was asked to tell of more. Not known of a ring that another device had, or that we had before
    /// the memory changed.
    armed: Option<bool>,
}

impl Split {
    /// A ring that begins where its used ring ends.
    ///
    /// # Errors
    /// More is available than the ring has entries, or an area is not aligned.
    pub(crate) fn new(areas: Areas, num: u16, event_idx: bool) -> Result<Split, Trouble> {
        for (area, to) in [(&areas.descriptors, 16), (&areas.available, 2), (&areas.used, 4)] {
            if !area.span().is_aligned(to) {
                return Err(Trouble("an area of the ring is not aligned".to_owned()));
            }
        }
        let done = areas.used.span().load_u16(2);
        let mut split = Split {
            areas,
            num,
            event_idx,
            done,
            taken: done,
            seen: done,
            heads: Default::default(),
            read: done,
            completed: 0,
            armed: None,
        };
        split.look()?;
        Ok(split)
    }

    /// The index of the next chain.
    pub(crate) fn position(&self) -> u16 {
        self.done
    }

    /// Looks how much is available.
    #[inline]
    fn look(&mut self) -> Result<(), Trouble> {
        let index = self.areas.available.span().load_u16_acquire(2);
        if available(index, self.taken, self.num).is_none() {
            return Err(self.too_many(index));
        }
        self.seen = index;
        Ok(())
    }

    #[cold]
    fn too_many(&self, available: u16) -> Trouble {
        let (taken, num) = (self.taken, self.num);
        Trouble(format!(
            "index {available} of the available ring is more than its {num} entries beyond {taken}"
        ))
    }

    /// Reads the next chain of those that were not read yet, and fetches what it has into the cache.
    #[inline]
    fn read(&mut self, memory: &Memory, hint: &mut usize, way: Way) -> Result<(), Trouble> {
        let slot = slot(self.read, self.num);
        let number = self.areas.available.span().load_u16(4 + 2 * slot);
        if number >= self.num {
            return Err(self.bad_head(number));
        }
        let descriptor = Descriptor::read(self.areas.descriptors.span(), usize::from(number) * DESCRIPTOR);
        way.fetch(memory, hint, descriptor.piece);
        self.heads[usize::from(self.read % AHEAD)] = Head { number, descriptor };
        self.read = self.read.wrapping_add(1);
        Ok(())
    }

    /// Has the processor fetch the place of a used entry, which the guest has read since it was written last.
    #[inline]
    fn fetch_used(&self, index: u16) {
        self.areas.used.span().prefetch_for_write(4 + 8 * slot(index, self.num));
    }

    #[cold]
    fn bad_head(&self, head: u16) -> Trouble {
        Trouble(format!("descriptor {head} is named, of {}", self.num))
    }
}

impl Layout for Split {
    type Mark = u16;

    #[inline]
    fn begin(&mut self, memory: &Memory, hint: &mut usize, way: Way) -> Result<bool, Trouble> {
        self.read = self.taken;
        if self.seen == self.taken {
            self.look()?;
        }
        let count = self.seen.wrapping_sub(self.taken);
        for _ in 0..count.min(AHEAD) {
            self.read(memory, hint, way)?;
        }
        if count > 0 {
            self.fetch_used(self.done);
            self.fetch_used(self.done.wrapping_add(LINE));
        }
        Ok(count > 0)
    }

    #[inline]
    fn next(
        &mut self,
        chain: &mut Chain,
        memory: &Memory,
        hint: &mut usize,
        way: Way,
    ) -> Result<Option<Taken>, Trouble> {
        if self.taken == self.seen {
            self.look()?;
            if self.taken == self.seen {
                return Ok(None);
            }
        }
        if self.read == self.taken {
            self.read(memory, hint, way)?;
        }
        let Head { number: head, descriptor } = self.heads[usize::from(self.taken % AHEAD)];
        if self.read != self.seen {
            self.read(memory, hint, way)?;
        }
        if descriptor.third & (NEXT | INDIRECT) == 0 {
            chain.push(descriptor.piece, descriptor.third, way)?;
        } else if let Some(piece) = walk(self.areas.descriptors.span(), self.num, descriptor, chain, way)? {
            let most = usize::from(self.num).min(LONGEST);
            let (table, count) = Chain::table(memory, hint, piece, most)?;
            if walk(table, count as u16, Descriptor::read(table, 0), chain, way)?.is_some() {
                return Err(nested());
            }
        }
        self.taken = self.taken.wrapping_add(1);
        Ok(Some(Taken { id: head, entries: 1 }))
    }

    #[inline]
    fn mark(&self) -> u16 {
        self.taken
    }

    #[inline]
    fn rewind(&mut self, mark: u16) {
        self.taken = mark;
        // What was read is in the place of what is next.
        self.read = mark;
    }

    #[inline]
    fn complete(&mut self, chain: Taken, len: u32) -> Option<(usize, usize)> {
        let index = self.done.wrapping_add(self.completed);
        let (used, offset) = (self.areas.used.span(), 4 + 8 * slot(index, self.num));
        if index.is_multiple_of(LINE) {
            self.fetch_used(index.wrapping_add(LINE));
        }
        used.store_u32_pair(offset, [chain.id.into(), len]);
        self.completed += 1;
        Some((offset, 8))
    }

    #[inline]
    fn publish(&mut self) -> bool {
        if self.completed == 0 {
            return false;
        }
        let before = self.done;
        self.done = before.wrapping_add(self.completed);
        self.completed = 0;
        self.areas.used.span().store_u16_release(2, self.done);
        // What the guest wants to hear is looked at behind the index that it looks at.
        fence();
        let available = self.areas.available.span();
        if self.event_idx {
            let event = available.load_u16(4 + 2 * usize::from(self.num));
            need_event(event, self.done, before)
        } else {
            available.load_u16(0) & SILENT == 0
        }
    }

    fn published(&self) -> [(usize, usize); 2] {
        [(2, 2), (0, 0)]
    }

    #[inline]
    fn disarm(&mut self) {
        if self.armed != Some(false) {
            self.armed = Some(false);
            // With an event index, one that is left behind tells of nothing.
            if !self.event_idx {
                self.areas.used.span().store_u16(0, SILENT);
            }
        }
    }

    fn arm(&mut self) -> Result<bool, Trouble> {
        let (used, seen) = (self.areas.used.span(), self.seen);
        if self.event_idx {
            used.store_u16(4 + 8 * usize::from(self.num), seen);
        } else if self.armed != Some(true) {
            used.store_u16(0, 0);
        }
        self.armed = Some(true);
        fence();
        self.look()?;
        Ok(self.seen != seen)
    }
}

/// Follows a chain whose first descriptor was read, in a table with `count` entries. Returns the table of descriptors
/// that it ends with, if it does: one may stand behind others (virtio 1.3, 2.7.5.3.2).
fn walk(
    table: Span<'_>,
    count: u16,
    first: Descriptor,
    chain: &mut Chain,
    way: Way,
) -> Result<Option<Piece>, Trouble> {
    let mut descriptor = first;
    for _ in 0..usize::from(count).min(LONGEST) {
        let flags = descriptor.third;
        if flags & INDIRECT != 0 {
            return if flags & NEXT == 0 { Ok(Some(descriptor.piece)) } else { Err(not_last()) };
        }
        chain.push(descriptor.piece, flags, way)?;
        if flags & NEXT == 0 {
            return Ok(None);
        }
        let next = descriptor.fourth;
        if next >= count {
            return Err(Trouble(format!("descriptor {next} follows, of {count}")));
        }
        descriptor = Descriptor::read(table, usize::from(next) * DESCRIPTOR);
    }
    Err(endless())
}

#[cold]
fn not_last() -> Trouble {
    Trouble("a descriptor is a table and has a next one".to_owned())
}

#[cold]
fn nested() -> Trouble {
    Trouble("a table of descriptors is within another table".to_owned())
}
