//! The octets that transfers carry, a function of the offset in the stream alone.
//!
//! The period is a prime number, so that a segment in the wrong place never looks like the one that belongs there:
//! multiples of any segment size meet the period again only after 65,521 segments.

use std::sync::OnceLock;

/// Octets after which the pattern repeats; the largest prime below 2^16.
pub const PERIOD: usize = 65_521;

fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut state = 0x9e37_79b9_u32;
        (0..PERIOD)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect()
    })
}

/// Cuts the `length` octets at `offset` into ranges of the table.
fn runs(offset: u64, length: usize) -> impl Iterator<Item = (usize, &'static [u8])> {
    let table = table();
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let at = ((offset + done as u64) % PERIOD as u64) as usize;
        let run = &table[at..PERIOD.min(at + length - done)];
        let start = done;
        done += run.len();
        Some((start, run))
    })
}

/// Writes the octets that belong at `offset` of a transfer.
pub fn fill(offset: u64, octets: &mut [u8]) {
    for (start, run) in runs(offset, octets.len()) {
        octets[start..start + run.len()].copy_from_slice(run);
    }
}

/// The offset in the transfer of the first octet that is not what [`fill`] wrote at `offset`.
pub fn mismatch(offset: u64, octets: &[u8]) -> Option<u64> {
    runs(offset, octets.len()).find_map(|(start, run)| {
        let octets = &octets[start..start + run.len()];
        if octets == run {
            return None;
        }
        let at = octets.iter().zip(run).position(|(is, wanted)| is != wanted)?;
        Some(offset + (start + at) as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_filled_matches_at_its_offset_and_nowhere_near() {
        let mut octets = vec![0; 3 * PERIOD];
        fill(1_000_000, &mut octets);

        assert_eq!(mismatch(1_000_000, &octets), None);
        assert_eq!(mismatch(1_000_000 + 777, &octets[777..]), None);
        assert!(mismatch(1_000_000 + 1460, &octets).is_some());
    }

    #[test]
    fn the_first_wrong_octet_is_named() {
        let mut octets = vec![0; 2 * PERIOD];
        fill(5, &mut octets);
        octets[PERIOD + 3] ^= 1;

        assert_eq!(mismatch(5, &octets), Some(5 + PERIOD as u64 + 3));
    }
}
