use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::Mapping;
use super::access;

/// A range of guest memory that was checked to be inside. Octets that are read may change at any time, so a value is
/// read once and checked after. Values are little endian; none needs an alignment, but those that the guest writes or
/// reads at the same time are whole only when they are aligned to their size. Accesses beyond the range panic.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    start: NonNull<u8>,
    len: usize,
    _mapping: PhantomData<&'a Mapping>,
}

// SAFETY: it is as good as a shared reference of the mapping, which every thread may have.
unsafe impl Send for Span<'_> {}
// SAFETY: as above.
unsafe impl Sync for Span<'_> {}

impl<'a> Span<'a> {
    /// # Safety
    /// The octets are mapped for reading and writing as long as `'a`, and nothing refers to them.
    pub(super) unsafe fn new(start: NonNull<u8>, len: usize) -> Span<'a> {
        Span { start, len, _mapping: PhantomData }
    }

    /// Octets of the range.
    #[expect(clippy::len_without_is_empty, reason = "no caller asks for it")]
    #[inline]
    pub fn len(self) -> usize {
        self.len
    }

    /// True if the first octet is at a multiple of `to`.
    #[inline]
    pub fn is_aligned(self, to: usize) -> bool {
        self.start.addr().get().is_multiple_of(to)
    }

    /// The `len` octets from `offset`; nothing when they are not all inside.
    #[inline]
    pub fn slice(self, offset: usize, len: usize) -> Option<Span<'a>> {
        if offset > self.len || len > self.len - offset {
            return None;
        }
        // SAFETY: the offset is inside, or just behind the end.
        let start = unsafe { self.start.add(offset) };
        Some(Span { start, len, ..self })
    }

    /// The place of `len` octets from `offset`.
    #[inline]
    #[track_caller]
    fn place(self, offset: usize, len: usize) -> *mut u8 {
        if len > self.len || offset > self.len - len {
            outside(offset, len, self.len);
        }
        // SAFETY: the offset is inside, as has just been checked.
        unsafe { self.start.add(offset) }.as_ptr()
    }

    /// Reads an octet.
    #[inline]
    #[track_caller]
    pub fn load_u8(self, offset: usize) -> u8 {
        // SAFETY: `place` has checked that the octet is in the mapping.
        unsafe { access::load_u8(self.place(offset, 1)) }
    }

    /// Reads 2 octets.
    #[inline]
    #[track_caller]
    pub fn load_u16(self, offset: usize) -> u16 {
        // SAFETY: `place` has checked that the octets are in the mapping.
        unsafe { access::load_u16(self.place(offset, 2)) }
    }

    /// Reads 2 octets. Accesses that follow come after it.
    #[inline]
    #[track_caller]
    pub fn load_u16_acquire(self, offset: usize) -> u16 {
        // SAFETY: as above.
        let value = unsafe { access::load_u16(self.place(offset, 2)) };
        access::acquire();
        value
    }

    /// Reads 4 octets.
    #[inline]
    #[track_caller]
    pub fn load_u32(self, offset: usize) -> u32 {
        // SAFETY: as above.
        unsafe { access::load_u32(self.place(offset, 4)) }
    }

    /// Reads 8 octets.
    #[inline]
    #[track_caller]
    pub fn load_u64(self, offset: usize) -> u64 {
        // SAFETY: as above.
        unsafe { access::load_u64(self.place(offset, 8)) }
    }

    /// Reads 16 octets, as two values of 8.
    #[inline]
    #[track_caller]
    pub fn load_u64_pair(self, offset: usize) -> [u64; 2] {
        let place = self.place(offset, 16);
        // SAFETY: `place` has checked that the octets are in the mapping.
        unsafe { [access::load_u64(place), access::load_u64(place.add(8))] }
    }

    /// Writes 4 octets twice, one value behind the other.
    #[inline]
    #[track_caller]
    pub fn store_u32_pair(self, offset: usize, [first, second]: [u32; 2]) {
        let place = self.place(offset, 8);
        // SAFETY: as above.
        unsafe {
            access::store_u32(place, first);
            access::store_u32(place.add(4), second);
        }
    }

    /// Writes 2 octets.
    #[inline]
    #[track_caller]
    pub fn store_u16(self, offset: usize, value: u16) {
        // SAFETY: as above.
        unsafe { access::store_u16(self.place(offset, 2), value) }
    }

    /// Writes 2 octets. Accesses before it come before it.
    #[inline]
    #[track_caller]
    pub fn store_u16_release(self, offset: usize, value: u16) {
        let place = self.place(offset, 2);
        access::release();
        // SAFETY: as above.
        unsafe { access::store_u16(place, value) }
    }

    /// Writes 4 octets.
    #[inline]
    #[track_caller]
    pub fn store_u32(self, offset: usize, value: u32) {
        // SAFETY: as above.
        unsafe { access::store_u32(self.place(offset, 4), value) }
    }

    /// Writes 8 octets.
    #[inline]
    #[track_caller]
    pub fn store_u64(self, offset: usize, value: u64) {
        // SAFETY: as above.
        unsafe { access::store_u64(self.place(offset, 8), value) }
    }

    /// Writes 8 octets. Accesses before it come before it.
    #[inline]
    #[track_caller]
    pub fn store_u64_release(self, offset: usize, value: u64) {
        let place = self.place(offset, 8);
        access::release();
        // SAFETY: as above.
        unsafe { access::store_u64(place, value) }
    }

    /// Sets bits of an octet, and leaves the others as they are, also those that others set at the same time. Accesses
    /// before it come before it.
    #[inline]
    #[track_caller]
    pub fn set_bits(self, offset: usize, bits: u8) {
        // SAFETY: `place` has checked that the octet is in the mapping; one octet is always aligned.
        unsafe { AtomicU8::from_ptr(self.place(offset, 1)) }.fetch_or(bits, Ordering::Release);
    }

    /// Copies octets from `offset` to all of `into`.
    #[inline]
    #[track_caller]
    pub fn read(self, offset: usize, into: &mut [u8]) {
        // SAFETY: `place` has checked that there are as many octets in the mapping.
        unsafe { access::read(self.place(offset, into.len()), into) }
    }

    /// Copies all of `from` to the octets from `offset`.
    #[inline]
    #[track_caller]
    pub fn write(self, offset: usize, from: &[u8]) {
        // SAFETY: as above.
        unsafe { access::write(self.place(offset, from.len()), from) }
    }

    /// Has the processor fetch the octet at `offset` and those around it, to be read soon. An offset beyond the range
    /// is nothing.
    #[inline]
    pub fn prefetch(self, offset: usize) {
        if offset < self.len {
            access::prefetch(self.place(offset, 1));
        }
    }

    /// Has the processor fetch the octet at `offset` and those around it, to be written soon. An offset beyond the
    /// range is nothing.
    #[inline]
    pub fn prefetch_for_write(self, offset: usize) {
        if offset < self.len {
            access::prefetch_for_write(self.place(offset, 1));
        }
    }
}

/// Panics. Apart, so that nothing of the text is made ready before it is needed.
#[cold]
#[inline(never)]
#[track_caller]
fn outside(offset: usize, len: usize, all: usize) -> ! {
    panic!("{len} octets from {offset} are not in a span of {all}")
}

/// A [`Span`] that keeps its mapping.
#[derive(Clone, Debug)]
pub struct Area {
    mapping: Arc<Mapping>,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the pointer leads into the mapping, which it keeps and which every thread may have.
unsafe impl Send for Area {}
// SAFETY: as above.
unsafe impl Sync for Area {}

impl Area {
    pub(super) fn new(mapping: &Arc<Mapping>, offset: u64, len: u64) -> Option<Area> {
        let span = mapping.span(offset, len)?;
        Some(Area { mapping: mapping.clone(), start: span.start, len: span.len })
    }

    /// The range.
    #[inline]
    pub fn span(&self) -> Span<'_> {
        // SAFETY: it was a span of the mapping, which lives as long as this.
        unsafe { Span::new(self.start, self.len) }
    }

    /// Octets of the range.
    #[expect(clippy::len_without_is_empty, reason = "no caller asks for it")]
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if its mapping is poisoned ([`Mapping::is_poisoned`]).
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.mapping.is_poisoned()
    }
}

/// Has all accesses before it come before all accesses after it, for the guest too.
#[inline]
pub fn fence() {
    std::sync::atomic::fence(Ordering::SeqCst);
}
