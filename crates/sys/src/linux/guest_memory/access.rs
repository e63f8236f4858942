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
/// As many octets as `into` has are mapped at `from`.
#[inline]
pub(super) unsafe fn read(from: *const u8, into: &mut [u8]) {
    // SAFETY: as the caller says.
    unsafe { copy(into.as_mut_ptr(), from, into.len()) }
}

/// Copies octets to guest memory.
///
/// # Safety
/// As many octets as `from` has are mapped at `to`.
#[inline]
pub(super) unsafe fn write(to: *mut u8, from: &[u8]) {
    // SAFETY: as the caller says.
    unsafe { copy(to, from.as_ptr(), from.len()) }
}

/// Copies `len` octets, of which `from` and `to` have as many. Ends overlap, so that there are no loops for the rest:
/// an octet may be copied twice.
///
/// # Safety
/// The octets are mapped, and do not overlap.
#[inline(always)]
unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: every access is within the `len` octets, as the conditions before it say.
    unsafe {
        match len {
            LARGE.. => copy_large(to, from, len),
            16.. => {
                let mut done = 0;
                while len - done > 32 {
                    copy_32(to.add(done), from.add(done));
                    done += 32;
                }
                if len - done > 16 {
                    copy_16(to.add(done), from.add(done));
                }
                copy_16(to.add(len - 16), from.add(len - 16));
            }
            8.. => {
                let last = load_u64(from.add(len - 8));
                store_u64(to, load_u64(from));
                store_u64(to.add(len - 8), last);
            }
            4.. => {
                let last = load_u32(from.add(len - 4));
                store_u32(to, load_u32(from));
                store_u32(to.add(len - 4), last);
            }
            2.. => {
                let last = load_u16(from.add(len - 2));
                store_u16(to, load_u16(from));
                store_u16(to.add(len - 2), last);
            }
            1 => store_u8(to, load_u8(from)),
            0 => {}
        }
    }
}
