//! The log of pages that were written, by which a front end knows what to send again while its guest moves to another
//! host (vhost-user.rst, "Migration").

use vmlan_sys::guest_memory::Area;

use super::Trouble;

/// Octets of a page, each of which has a bit.
const PAGE: u64 = 4096;

/// A log.
pub struct Log {
    area: Area,
}

impl Log {
    /// Octets that a page of the log stands for: eight pages of the guest for each octet.
    pub const SCALE: u64 = 8 * PAGE;

    /// A log whose octets are `area`.
    pub fn new(area: Area) -> Log {
        Log { area }
    }

    /// True if its file was cut short, so that no mark goes anywhere.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.area.is_poisoned()
    }

    /// Marks the pages of `len` octets at `guest` as written. To be called after they were.
    ///
    /// # Errors
    /// The log ends before.
    pub(crate) fn mark(&self, guest: u64, len: u64) -> Result<(), Trouble> {
        let Some(last) = len.checked_sub(1) else { return Ok(()) };
        let end = guest.checked_add(last).ok_or_else(beyond)?;
        let span = self.area.span();
        for page in guest / PAGE..=end / PAGE {
            let octet =
                usize::try_from(page / 8).ok().filter(|octet| *octet < span.len()).ok_or_else(beyond)?;
            let bit = 1 << (page % 8);
            // Mostly it is set already, and what others write stays in their caches.
            if span.load_u8(octet) & bit == 0 {
                span.set_bits(octet, bit);
            }
        }
        Ok(())
    }
}

#[cold]
fn beyond() -> Trouble {
    Trouble("a page that was written is beyond the end of the log".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vmlan_sys::guest_memory::Mapping;

    use super::*;

    #[test]
    fn case_39_a_write_over_a_border_marks_two_pages() {
        let mapping = Arc::new(Mapping::plain(2));
        let log = Log::new(mapping.area(0, 2).unwrap());
        log.mark(8 * PAGE - 50, 100).unwrap();
        log.mark(2 * PAGE, 1).unwrap();
        log.mark(3 * PAGE, 0).unwrap();
        let span = mapping.span(0, 2).unwrap();
        assert_eq!((span.load_u8(0), span.load_u8(1)), (0x84, 1));
    }

    #[test]
    fn case_40_a_log_that_is_short_is_seen() {
        let mapping = Arc::new(Mapping::plain(2));
        let log = Log::new(mapping.area(0, 2).unwrap());
        assert_eq!(Log::SCALE, 8 * PAGE);
        log.mark(16 * PAGE - 1, 1).unwrap();
        assert!(log.mark(16 * PAGE - 1, 2).is_err());
        assert!(log.mark(u64::MAX, 2).is_err());
    }
}
