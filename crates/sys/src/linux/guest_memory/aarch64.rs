//! Instructions of 64-bit Arm. Order is a matter of barriers, which do not ask for alignment as `ldar` and `stlr` do.

use std::arch::asm;
use std::sync::atomic::{Ordering, fence};

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
    load_u8, store_u8: u8, reg, "ldrb {value:w}, [{from}]", "strb {value:w}, [{to}]";
    load_u16, store_u16: u16, reg, "ldrh {value:w}, [{from}]", "strh {value:w}, [{to}]";
    load_u32, store_u32: u32, reg, "ldr {value:w}, [{from}]", "str {value:w}, [{to}]";
    load_u64, store_u64: u64, reg, "ldr {value}, [{from}]", "str {value}, [{to}]";
}

/// # Safety
/// 16 octets are mapped at both.
#[inline(always)]
pub(in super::super) unsafe fn copy_16(to: *mut u8, from: *const u8) {
    // SAFETY: it reads and writes the octets that the caller says are mapped, and nothing else.
    unsafe {
        asm!(
            "ldr {a:q}, [{from}]",
            "str {a:q}, [{to}]",
            from = in(reg) from,
            to = in(reg) to,
            a = out(vreg) _,
            options(nostack, preserves_flags)
        );
    }
}

/// # Safety
/// 32 octets are mapped at both.
#[inline(always)]
pub(in super::super) unsafe fn copy_32(to: *mut u8, from: *const u8) {
    // SAFETY: as above.
    unsafe {
        asm!(
            "ldp {a:q}, {b:q}, [{from}]",
            "stp {a:q}, {b:q}, [{to}]",
            from = in(reg) from,
            to = in(reg) to,
            a = out(vreg) _,
            b = out(vreg) _,
            options(nostack, preserves_flags)
        );
    }
}

/// # Safety
/// 64 octets are mapped at both.
#[inline(always)]
pub(in super::super) unsafe fn copy_64(to: *mut u8, from: *const u8) {
    // SAFETY: as above.
    unsafe {
        asm!(
            "ldp {a:q}, {b:q}, [{from}]",
            "ldp {c:q}, {d:q}, [{from}, #32]",
            "stp {a:q}, {b:q}, [{to}]",
            "stp {c:q}, {d:q}, [{to}, #32]",
            from = in(reg) from,
            to = in(reg) to,
            a = out(vreg) _,
            b = out(vreg) _,
            c = out(vreg) _,
            d = out(vreg) _,
            options(nostack, preserves_flags)
        );
    }
}

/// Copies nothing: there is no instruction for many octets.
#[inline(always)]
pub(in super::super) unsafe fn copy_at_once(_: *mut u8, _: *const u8, _: usize) -> bool {
    false
}

/// Accesses after it come after the loads before it.
#[inline(always)]
pub(in super::super) fn acquire() {
    fence(Ordering::Acquire);
}

/// Accesses before it come before the stores after it.
#[inline(always)]
pub(in super::super) fn release() {
    fence(Ordering::Release);
}

#[inline(always)]
pub(in super::super) fn prefetch(at: *const u8) {
    // SAFETY: it changes nothing that can be seen, and cannot fail.
    unsafe { asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly)) }
}

#[inline(always)]
pub(in super::super) fn prefetch_for_write(at: *const u8) {
    // SAFETY: as above.
    unsafe { asm!("prfm pstl1keep, [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly)) }
}
