//! Mappings.

use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Memory that the kernel writes to as well, until it is dropped: only copied from and to, never borrowed, except where
/// the kernel has no business meanwhile.
pub(super) struct Memory {
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process and not to a thread.
unsafe impl Send for Memory {}
// SAFETY: who shares it learns where its places are, and no more.
unsafe impl Sync for Memory {}

impl Memory {
    /// Zeros.
    pub(super) fn zeroed(len: usize) -> io::Result<Memory> {
        // SAFETY: no address is asked for, so nothing that is mapped already changes.
        let address = unsafe {
            mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        }?;
        Memory::at(address, len)
    }

    /// Maps `len` octets of a descriptor from `offset`.
    pub(super) fn of(fd: impl AsFd, len: usize, offset: u64) -> io::Result<Memory> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: as above.
        let address = unsafe { mmap(std::ptr::null_mut(), len, access, flags, fd, offset) }?;
        Memory::at(address, len)
    }

    fn at(address: *mut std::ffi::c_void, len: usize) -> io::Result<Memory> {
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Memory { address, len })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where `count` values of this type begin, at `offset` octets.
    ///
    /// # Errors
    /// `InvalidData` when they do not lie within the memory, or not as their type has to.
    pub(super) fn place<T>(&self, offset: u64, count: usize) -> io::Result<NonNull<T>> {
        let outside =
            || io::Error::new(io::ErrorKind::InvalidData, "the kernel tells a place outside its memory");
        let offset = usize::try_from(offset).map_err(|_| outside())?;
        let end = count.checked_mul(size_of::<T>()).and_then(|octets| offset.checked_add(octets));
        if end.is_none_or(|end| end > self.len) || !offset.is_multiple_of(align_of::<T>()) {
            return Err(outside());
        }
        // SAFETY: the offset lies within the mapping, as has just been checked.
        Ok(unsafe { self.address.add(offset) }.cast())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and of this length, and whoever has places in it keeps it alive.
        let _ = unsafe { munmap(self.address.as_ptr().cast(), self.len) };
    }
}
