//! Amounts of memory, written with their unit.

use std::ops::RangeInclusive;

use vmlan_api::ErrorCode;

use super::{Validator, shown};

/// The units, and the octets of each as a power of two.
const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];

impl Validator {
    /// Octets, from a whole number and its unit: `64GiB`.
    pub(crate) fn octets(&mut self, path: &str, text: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let Some(octets) = parse(text) else {
            let message = format!(
                "`{}` is no amount of memory; write a whole number and its unit, one of KiB, MiB, GiB and TiB: \
                 \"64GiB\"",
                shown(text)
            );
            return self.refuse(ErrorCode::OutOfRange, path, message);
        };
        if !range.contains(&octets) {
            let (least, most) = (written(*range.start()), written(*range.end()));
            let message = format!("{} is out of range; use {least} to {most}", shown(text));
            return self.refuse(ErrorCode::OutOfRange, path, message);
        }
        Some(octets)
    }
}

/// Reads an amount. One that is too much for the type becomes the most that it holds.
fn parse(text: &str) -> Option<u64> {
    let (number, shift) = UNITS.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))?;
    let number = number.bytes().all(|octet| octet.is_ascii_digit()).then_some(number)?;
    (!number.is_empty()).then(|| number.parse().unwrap_or(u64::MAX).saturating_mul(1 << shift))
}

/// The amount in the largest unit that leaves a whole number.
fn written(octets: u64) -> String {
    let fits = |(_, shift): &&(&str, u32)| octets.trailing_zeros() >= *shift && octets > 0;
    match UNITS.iter().rev().find(fits) {
        Some((unit, shift)) => format!("{}{unit}", octets >> shift),
        None => format!("{octets} octets"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_a_whole_number_and_a_unit() {
        for (text, octets) in [
            ("1KiB", Some(1 << 10)),
            ("64GiB", Some(64 << 30)),
            ("0MiB", Some(0)),
            ("007TiB", Some(7 << 40)),
            ("99999999999999999999TiB", Some(u64::MAX)),
            ("", None),
            ("GiB", None),
            ("64", None),
            ("64G", None),
            ("64GB", None),
            ("64 GiB", None),
            ("-1GiB", None),
            ("+1GiB", None),
            ("1.5GiB", None),
        ] {
            assert_eq!(parse(text), octets, "{text:?}");
        }
    }

    #[test]
    fn a_range_is_told_in_the_largest_units() {
        let mut validator = Validator::default();
        assert_eq!(validator.octets("memory", "17TiB", 1 << 20..=16 << 40), None);
        let [fault] = &validator.faults()[..] else { panic!("one fault") };
        assert_eq!(fault.message, "17TiB is out of range; use 1MiB to 16TiB");
    }
}
