//! Instructions of x86-64. Its loads acquire and its stores release, so order is a matter of the compiler alone.

use std::arch::asm;
use std::sync::atomic::{Ordering, compiler_fence};

/// Octets from which on `rep movsb` is faster than moves: measured, with both sides in the nearest cache.
const LARGE: usize = 800;

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
}

macro_rules! moves {
    ($($copy:ident: $($at:literal $value:ident)*;)*) => {$(
        /// # Safety
        /// So many octets are mapped at both.
        #[inline(always)]
        pub(in super::super) unsafe fn $copy(to: *mut u8, from: *const u8) {
            // SAFETY: it reads and writes the octets that the caller says are mapped, and nothing else.
            unsafe {
                asm!(
                    $(concat!("movups {", stringify!($value), "}, xmmword ptr [{from} + ", $at, "]"),)*
                    $(concat!("movups xmmword ptr [{to} + ", $at, "], {", stringify!($value), "}"),)*
                    from = in(reg) from,
                    to = in(reg) to,
                    $($value = out(xmm_reg) _,)*
                    options(nostack, preserves_flags)
                );
            }
        }
    )*};
}

moves! {
    copy_16: 0 a;
    copy_32: 0 a 16 b;
    copy_64: 0 a 16 b 32 c 48 d;
}

/// Copies many octets by one instruction; false, and nothing is copied, for fewer.
///
/// # Safety
/// `len` octets are mapped at both.
#[inline(always)]
pub(in super::super) unsafe fn copy_at_once(to: *mut u8, from: *const u8, len: usize) -> bool {
    if len < LARGE {
        return false;
    }
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
    true
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
