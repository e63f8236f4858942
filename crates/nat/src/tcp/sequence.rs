//! Sequence numbers (RFC 9293 section 3.4): arithmetic modulo 2^32.

/// How far `to` is ahead of `from`; negative when it is behind.
#[inline]
pub(super) fn ahead(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from) as i32
}

/// True if `one` comes before `other`.
#[inline]
pub(super) fn before(one: u32, other: u32) -> bool {
    ahead(one, other) > 0
}

/// True if `number` is in `from..to`.
#[inline]
pub(super) fn within(number: u32, from: u32, to: u32) -> bool {
    !before(number, from) && before(number, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_wrap() {
        assert!(before(0xffff_ff00, 0x100) && !before(0x100, 0xffff_ff00) && !before(7, 7));
        assert_eq!((ahead(0xffff_ff00, 0x101), ahead(0x101, 0xffff_ff00)), (0x201, -0x201));
        assert!(within(0, 0xffff_ffff, 1) && !within(1, 0xffff_ffff, 1) && !within(5, 5, 5));
    }
}
