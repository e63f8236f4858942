//! Instructions of 64-bit Arm. Order is a matter of barriers, which do not ask for alignment as `ldar` and `stlr` do.

use std::arch::aarch64::uint8x16_t;
use std::arch::asm;
use std::sync::atomic::{Ordering, fence};

/// Octets from which on the loop has an instruction for 16 of each side.
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
    load_u8, store_u8: u8, reg, "ldrb {value:w}, [{from}]", "strb {value:w}, [{to}]";
    load_u16, store_u16: u16, reg, "ldrh {value:w}, [{from}]", "strh {value:w}, [{to}]";
    load_u32, store_u32: u32, reg, "ldr {value:w}, [{from}]", "str {value:w}, [{to}]";
    load_u64, store_u64: u64, reg, "ldr {value}, [{from}]", "str {value}, [{to}]";
    load_16, store_16: uint8x16_t, vreg, "ldr {value:q}, [{from}]", "str {value:q}, [{to}]";
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
        asm!(
            "ldp {first:q}, {second:q}, [{from}]",
            "stp {first:q}, {second:q}, [{to}]",
            from = in(reg) from,
            to = in(reg) to,
            first = out(vreg) _,
            second = out(vreg) _,
            options(nostack, preserves_flags)
        );
    }
}

/// # Safety
/// `len` octets, at least 64, are mapped at both.
#[inline(always)]
pub(in super::super) unsafe fn copy_large(to: *mut u8, from: *const u8, len: usize) {
    let (whole, rest) = (len - len % 64, len % 64);
    // SAFETY: it reads and writes the octets that the caller says are mapped: a multiple of 64 first, then the last 64,
    // of which some are copied twice.
    unsafe {
        asm!(
            "2:",
            "ldp {a:q}, {b:q}, [{from}]",
            "ldp {c:q}, {d:q}, [{from}, #32]",
            "add {from}, {from}, #64",
            "stp {a:q}, {b:q}, [{to}]",
            "stp {c:q}, {d:q}, [{to}, #32]",
            "add {to}, {to}, #64",
            "cmp {from}, {end}",
            "b.ne 2b",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            end = in(reg) from.add(whole),
            a = out(vreg) _,
            b = out(vreg) _,
            c = out(vreg) _,
            d = out(vreg) _,
            options(nostack)
        );
        if rest != 0 {
            copy_32(to.add(len - 64), from.add(len - 64));
            copy_32(to.add(len - 32), from.add(len - 32));
        }
    }
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
