//! How our feth interfaces are known from others: by their addresses.
//!
//! The first three octets are the same for all, locally administered; the rest says which process made the interface,
//! which of its pairs it belongs to, and which end it is. So no two of them are the same on a host, and one whose
//! process is gone is known to be left over, whatever ended the process.

use vmlan_frame::MacAddr;

/// The first three octets: `vml`.
const PREFIX: u64 = 0x766d6c;
/// A process identifier is below 100,000 on macOS.
const PROCESS_BITS: u32 = 17;
const PAIR_BITS: u32 = 6;

/// The information in the address of one of our feth interfaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    /// The process that made the interface.
    pub process: u32,
    /// Which of that process's pairs, below [`Mark::PAIRS`].
    pub pair: u32,
    /// True for the bridge's end of the pair.
    pub is_outer: bool,
}

impl Mark {
    /// How many pairs a process has at most.
    pub const PAIRS: u32 = 1 << PAIR_BITS;

    /// The address that says so; `None` when there is no room for it.
    pub fn mac(self) -> Option<MacAddr> {
        if self.process >> PROCESS_BITS != 0 || self.pair >= Mark::PAIRS {
            return None;
        }
        let number = self.process << (PAIR_BITS + 1) | self.pair << 1 | u32::from(self.is_outer);
        Some(MacAddr::from_u64(PREFIX << 24 | u64::from(number)))
    }

    /// Reads the mark in `mac`; `None` when the address is not one of ours.
    pub fn of(mac: MacAddr) -> Option<Mark> {
        let number = mac.to_u64();
        (number >> 24 == PREFIX).then_some(Mark {
            process: (number as u32 & 0xff_ffff) >> (PAIR_BITS + 1),
            pair: number as u32 >> 1 & (Mark::PAIRS - 1),
            is_outer: number & 1 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_what_it_was_made_of() {
        for (process, pair, is_outer) in
            [(0, 0, false), (1, 0, true), (99_999, 63, true), (131_071, 5, false)]
        {
            let mark = Mark { process, pair, is_outer };
            let mac = mark.mac().unwrap();
            assert_eq!(Mark::of(mac), Some(mark));
            assert!(mac.is_station() && mac.0[0] & 2 != 0, "locally administered: {mac}");
        }
    }

    #[test]
    fn addresses_of_others_say_nothing() {
        // The system's own for feth0 is `feth` and its number.
        for text in ["66:65:74:68:00:00", "52:54:00:12:34:56", "ff:ff:ff:ff:ff:ff"] {
            assert_eq!(Mark::of(text.parse().unwrap()), None);
        }
    }

    #[test]
    fn what_does_not_fit_has_no_address() {
        assert_eq!(Mark { process: 131_072, pair: 0, is_outer: false }.mac(), None);
        assert_eq!(Mark { process: 1, pair: 64, is_outer: false }.mac(), None);
    }
}
