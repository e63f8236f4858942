//! Accesses to memory that others change at the same time, each an instruction of its own.
//!
//! The language says nothing about two accesses at the same time of which one is plain: it may read a value twice, or
//! take for granted that it stays. An instruction in `asm!` is outside of its rules, and reads or writes once. Values
//! need no alignment: a guest chooses its addresses. Where there is no `asm!` for the processor, and under Miri, octets
//! are read and written one by one.

#[cfg(all(target_arch = "aarch64", not(miri)))]
#[path = "aarch64.rs"]
mod instructions;
#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[path = "octets.rs"]
mod instructions;
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[path = "x86_64.rs"]
mod instructions;

pub(super) use instructions::*;

/// Copies octets from guest memory.
///
/// # Safety
/// As many octets as `into` has are mapped at `from`, and `into` is not among them.
#[inline(always)]
pub(super) unsafe fn read(from: *const u8, into: &mut [u8]) {
    let (to, len) = (into.as_mut_ptr(), into.len());
    // SAFETY: as the caller says; below 16, the octets that are copied are those that the bits of `len` say.
    unsafe {
        if len >= 16 {
            return copy(to, from, len);
        }
        // What is written here is plain, so a header that is read stays in registers.
        let mut done = 0;
        if len & 8 != 0 {
            to.cast::<u64>().write_unaligned(load_u64(from));
            done = 8;
        }
        if len & 4 != 0 {
            to.add(done).cast::<u32>().write_unaligned(load_u32(from.add(done)));
            done += 4;
        }
        if len & 2 != 0 {
            to.add(done).cast::<u16>().write_unaligned(load_u16(from.add(done)));
            done += 2;
        }
        if len & 1 != 0 {
            to.add(done).write(load_u8(from.add(done)));
        }
    }
}

/// Copies octets to guest memory.
///
/// # Safety
/// As many octets as `from` has are mapped at `to`, and `from` is not among them.
#[inline(always)]
pub(super) unsafe fn write(to: *mut u8, from: &[u8]) {
    let (from, len) = (from.as_ptr(), from.len());
    // SAFETY: as in `read`.
    unsafe {
        if len >= 16 {
            return copy(to, from, len);
        }
        let mut done = 0;
        if len & 8 != 0 {
            store_u64(to, from.cast::<u64>().read_unaligned());
            done = 8;
        }
        if len & 4 != 0 {
            store_u32(to.add(done), from.add(done).cast::<u32>().read_unaligned());
            done += 4;
        }
        if len & 2 != 0 {
            store_u16(to.add(done), from.add(done).cast::<u16>().read_unaligned());
            done += 2;
        }
        if len & 1 != 0 {
            store_u8(to.add(done), from.add(done).read());
        }
    }
}

/// Copies `len` octets, 16 at least. The last moves overlap, so that there is no loop for the rest: an octet may be
/// copied twice.
///
/// # Safety
/// As many octets are mapped at both, and do not overlap.
#[inline(always)]
unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: every move is within the `len` octets, as the conditions before it say.
    unsafe {
        if copy_at_once(to, from, len) {
            return;
        }
        let mut done = 0;
        while len - done > 64 {
            copy_64(to.add(done), from.add(done));
            done += 64;
        }
        if len - done > 32 {
            copy_32(to.add(done), from.add(done));
            copy_32(to.add(len - 32), from.add(len - 32));
        } else {
            if len - done > 16 {
                copy_16(to.add(done), from.add(done));
            }
            copy_16(to.add(len - 16), from.add(len - 16));
        }
    }
}
