//! The checksum of SCTP: CRC32c (RFC 9260 appendix A).

/// The polynomial, its bits in reverse.
const POLYNOMIAL: u32 = 0x82f6_3b78;

static TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let (mut value, mut bit) = (index as u32, 0);
        while bit < 8 {
            value = if value & 1 == 0 { value >> 1 } else { value >> 1 ^ POLYNOMIAL };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

/// Computes the checksum of pieces, one behind the other. It goes into a header in little-endian order.
pub(crate) fn crc32c<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let step = |crc: u32, octet: &u8| TABLE[usize::from(crc as u8 ^ octet)] ^ crc >> 8;
    !pieces.into_iter().flatten().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums() {
        // RFC 3720 appendix B.4, and the check value of the CRC.
        assert_eq!(crc32c([&[0; 32][..]]), 0x8a91_36aa);
        assert_eq!(crc32c([&[0xff; 32][..]]), 0x62a8_ab43);
        assert_eq!(crc32c([&b"1234"[..], b"", b"56789"]), 0xe306_9283);
    }
}
