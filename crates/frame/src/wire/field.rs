//! Reads and writes fields in network order. Callers have checked the length.

/// The octets from `at` on as an array.
#[inline]
pub(crate) fn array<const N: usize>(octets: &[u8], at: usize) -> [u8; N] {
    octets[at..at + N].try_into().expect("the range has N octets")
}

/// The 16-bit field at `at`.
#[inline]
pub(crate) fn u16_at(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array(octets, at))
}

/// The 32-bit field at `at`.
#[inline]
pub(crate) fn u32_at(octets: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(octets, at))
}

/// Overwrites the octets from `at` on.
#[inline]
pub(crate) fn put(octets: &mut [u8], at: usize, field: &[u8]) {
    octets[at..at + field.len()].copy_from_slice(field);
}

/// Overwrites the 16-bit field at `at`.
#[inline]
pub(crate) fn put_u16(octets: &mut [u8], at: usize, value: u16) {
    put(octets, at, &value.to_be_bytes());
}

/// The octets from `start` to `end`, cut to what there is.
#[inline]
pub(crate) fn cut(octets: &[u8], start: usize, end: usize) -> &[u8] {
    let end = end.min(octets.len());
    &octets[start.min(end)..end]
}

/// As [`cut`], to be changed.
#[inline]
pub(crate) fn cut_mut(octets: &mut [u8], start: usize, end: usize) -> &mut [u8] {
    let end = end.min(octets.len());
    &mut octets[start.min(end)..end]
}
