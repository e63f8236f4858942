//! Instructions of x86-64. Its loads acquire and its stores release, so order is a matter of the compiler alone.

use std::arch::asm;
use std::arch::x86_64::__m128i;
use std::sync::atomic::{Ordering, compiler_fence};

/// Octets from which on `rep movsb` is faster than moves.
pub(in super::super) const LARGE: usize = 257;

macro_rules! instructions {
    ($($load:ident, $store:ident: $type:ty, $class:ident, $read:literal, $write:literal;)*) => {$(
        /// # Safety
        /// The octets are mapped.
        #[inline(always)]
        pub(in super::super) unsafe fn $load(from: *const u8) -> $type {
            let value;
            // SAFETY: it reads the octets that the caller says are mapped, and nothing else.
            unsafe {
                asm!(
                    $read,
                    from = in(reg) from,
                    value = lateout($class) value,
                    options(nostack, preserves_flags, readonly)
                );
            }
            value
        }

        /// # Safety
        /// The octets are mapped.
        #[inline(always)]
        pub(in super::super) unsafe fn $store(to: *mut u8, value: $type) {
            // SAFETY: it writes the octets that the caller says are mapped, and nothing else.
            unsafe { asm!($write, to = in(reg) to, value = in($class) value, options(nostack, preserves_flags)) }
        }
    )*};
}

instructions! {
    load_u8, store_u8: u8, reg_byte, "mov {value}, byte ptr [{from}]", "mov byte ptr [{to}], {value}";
    load_u16, store_u16: u16, reg, "movzx {value:e}, word ptr [{from}]", "mov word ptr [{to}], {value:x}";
    load_u32, store_u32: u32, reg, "mov {value:e}, dword ptr [{from}]", "mov dword ptr [{to}], {value:e}";
    load_u64, store_u64: u64, reg, "mov {value}, qword ptr [{from}]", "mov qword ptr [{to}], {value}";
    load_16, store_16: __m128i, xmm_reg, "movups {value}, xmmword ptr [{from}]", "movups xmmword ptr [{to}], {value}";
}

/// # Safety
/// 16 octets are mapped at both.
#[inline(always)]
pub(in super::super) unsafe fn copy_16(to: *mut u8, from: *const u8) {
    // SAFETY: as the caller says.
    unsafe { store_16(to, load_16(from)) }
}

/// # Safety
/// 32 octets are mapped at both.
#[inline(always)]
pub(in super::super) unsafe fn copy_32(to: *mut u8, from: *const u8) {
    // SAFETY: as the caller says.
    unsafe {
        let (first, second) = (load_16(from), load_16(from.add(16)));
        store_16(to, first);
        store_16(to.add(16), second);
    }
}

/// # Safety
/// `len` octets are mapped at both.
#[inline(always)]
pub(in super::super) unsafe fn copy_large(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: it reads and writes the octets that the caller says are mapped; the direction is forwards, as the ABI of
    // functions and `asm!` says.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags)
        );
    }
}

/// Accesses after it come after the loads before it.
#[inline(always)]
pub(in super::super) fn acquire() {
    compiler_fence(Ordering::SeqCst);
}

/// Accesses before it come before the stores after it.
#[inline(always)]
pub(in super::super) fn release() {
    compiler_fence(Ordering::SeqCst);
}

#[inline(always)]
pub(in super::super) fn prefetch(at: *const u8) {
    // SAFETY: it changes nothing that can be seen, and cannot fail.
    unsafe {
        asm!("prefetcht0 byte ptr [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly))
    }
}

#[inline(always)]
pub(in super::super) fn prefetch_for_write(at: *const u8) {
    // SAFETY: as above; processors that do not know it do nothing.
    unsafe { asm!("prefetchw byte ptr [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly)) }
}
