//! Octet by octet, for Miri and for processors that have no instructions here.

use std::sync::atomic::{AtomicU8, Ordering, fence};

/// # Safety
/// `N` octets are mapped.
#[inline]
unsafe fn load<const N: usize>(from: *const u8) -> [u8; N] {
    // SAFETY: each of the octets is mapped, and always aligned.
    std::array::from_fn(|at| unsafe { AtomicU8::from_ptr(from.cast_mut().add(at)) }.load(Ordering::Relaxed))
}

/// # Safety
/// `N` octets are mapped.
#[inline]
unsafe fn store<const N: usize>(to: *mut u8, value: [u8; N]) {
    for (at, octet) in value.into_iter().enumerate() {
        // SAFETY: each of the octets is mapped, and always aligned.
        unsafe { AtomicU8::from_ptr(to.add(at)) }.store(octet, Ordering::Relaxed);
    }
}

macro_rules! accesses {
    ($($load:ident, $store:ident: $type:ty;)*) => {$(
        /// # Safety
        /// The octets are mapped.
        #[inline]
        pub(in super::super) unsafe fn $load(from: *const u8) -> $type {
            // SAFETY: as the caller says.
            <$type>::from_ne_bytes(unsafe { load(from) })
        }

        /// # Safety
        /// The octets are mapped.
        #[inline]
        pub(in super::super) unsafe fn $store(to: *mut u8, value: $type) {
            // SAFETY: as the caller says.
            unsafe { store(to, value.to_ne_bytes()) }
        }
    )*};
}

accesses! {
    load_u8, store_u8: u8;
    load_u16, store_u16: u16;
    load_u32, store_u32: u32;
    load_u64, store_u64: u64;
}

macro_rules! copies {
    ($($copy:ident: $octets:literal;)*) => {$(
        /// # Safety
        /// So many octets are mapped at both.
        #[inline]
        pub(in super::super) unsafe fn $copy(to: *mut u8, from: *const u8) {
            // SAFETY: as the caller says.
            unsafe { store::<$octets>(to, load(from)) }
        }
    )*};
}

copies! {
    copy_16: 16;
    copy_32: 32;
    copy_64: 64;
}

/// Copies nothing: there is no instruction for many octets.
#[inline(always)]
pub(in super::super) unsafe fn copy_at_once(_: *mut u8, _: *const u8, _: usize) -> bool {
    false
}

/// Accesses after it come after the loads before it.
#[inline]
pub(in super::super) fn acquire() {
    fence(Ordering::Acquire);
}

/// Accesses before it come before the stores after it.
#[inline]
pub(in super::super) fn release() {
    fence(Ordering::Release);
}

/// Nothing.
#[inline]
pub(in super::super) fn prefetch(_: *const u8) {}

/// Nothing.
#[inline]
pub(in super::super) fn prefetch_for_write(_: *const u8) {}
