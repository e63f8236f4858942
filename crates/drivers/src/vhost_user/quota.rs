//! Bounds of what all front ends together have mapped.
//!
//! Theory of operation. Addresses, and the mappings that the guard of guest memory can watch, are the process's, so all
//! ports draw from one account. A front end of a hostile guest may share its memory in as many regions as the protocol
//! has, each of a page; a few such front ends would leave nothing to the next guest. So what goes beyond a usual
//! machine's memory is given only while a part of everything is still free: that part is for the first regions of each
//! front end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vmlan_sys::guest_memory;

use super::message::{Violation, violation};

/// An amount of mapped memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Amount {
    pub(super) regions: u64,
    pub(super) octets: u64,
}

impl Amount {
    const fn add(self, other: Amount) -> Amount {
        Amount {
            regions: self.regions.saturating_add(other.regions),
            octets: self.octets.saturating_add(other.octets),
        }
    }

    fn is_within(self, limit: Amount) -> bool {
        self.regions <= limit.regions && self.octets <= limit.octets
    }
}

impl std::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Amount>>(amounts: I) -> Amount {
        amounts.fold(Amount::default(), Amount::add)
    }
}

/// The most that a front end may have mapped as long as anything is left at all.
const USUAL: Amount = Amount { regions: 8, octets: 64 << 30 };

/// The part of everything that is for front ends with no more than [`USUAL`].
const RESERVED: Amount = Amount { regions: 1024, octets: 4 << 40 };

/// The rest. The guard of guest memory has places for both.
const UNRESERVED: Amount =
    Amount { regions: guest_memory::PLACES as u64 - RESERVED.regions, octets: 16 << 40 };

/// The most that all front ends together may have mapped.
const ALL: Amount = UNRESERVED.add(RESERVED);

/// The memory that all front ends together have mapped.
#[derive(Default)]
pub(super) struct Account {
    regions: AtomicU64,
    octets: AtomicU64,
}

impl Account {
    /// The account of the process.
    pub(super) fn of_all() -> Arc<Account> {
        static ALL: std::sync::LazyLock<Arc<Account>> = std::sync::LazyLock::new(Arc::default);
        ALL.clone()
    }
}

/// A part of an account, for one mapping.
pub(super) struct Quota {
    account: Arc<Account>,
    octets: u64,
}

impl Quota {
    /// Takes a part for one mapping of so many octets, by a front end that has `own` already.
    ///
    /// # Errors
    /// Too much is mapped.
    pub(super) fn take(account: &Arc<Account>, own: Amount, octets: u64) -> Result<Quota, Violation> {
        let more = Amount { regions: 1, octets };
        let is_usual = own.add(more).is_within(USUAL);
        let limit = if is_usual { ALL } else { UNRESERVED };
        let grow = |counter: &AtomicU64, by: u64, limit: u64| {
            let grown = |now: u64| now.checked_add(by).filter(|sum| *sum <= limit);
            counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok()
        };
        if !grow(&account.regions, 1, limit.regions) {
            return Err(match is_usual {
                true => violation!("the guests of all ports share more than {} regions", ALL.regions),
                false => violation!(
                    "the guests of all ports share {} regions, and the rest is for guests with up to {} each",
                    UNRESERVED.regions,
                    USUAL.regions
                ),
            });
        }
        // From here on dropping it gives back what was taken.
        let mut quota = Quota { account: account.clone(), octets: 0 };
        if !grow(&account.octets, octets, limit.octets) {
            return Err(match is_usual {
                true => violation!("the guests of all ports share more than {} TiB", ALL.octets >> 40),
                false => violation!(
                    "the guests of all ports share {} TiB, and the rest is for guests with up to {} GiB each",
                    UNRESERVED.octets >> 40,
                    USUAL.octets >> 30
                ),
            });
        }
        quota.octets = octets;
        Ok(quota)
    }

    /// The part that it is.
    pub(super) fn amount(&self) -> Amount {
        Amount { regions: 1, octets: self.octets }
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        self.account.regions.fetch_sub(1, Ordering::Relaxed);
        self.account.octets.fetch_sub(self.octets, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A front end that takes regions of so many octets until none is given. Returns what it has.
    fn fill(account: &Arc<Account>, octets: u64, most: u64) -> Vec<Quota> {
        let mut own = Vec::<Quota>::new();
        while (own.len() as u64) < most {
            let sum = Amount { regions: own.len() as u64, octets: own.len() as u64 * octets };
            match Quota::take(account, sum, octets) {
                Ok(quota) => own.push(quota),
                Err(_) => break,
            }
        }
        own
    }

    fn mapped(account: &Account) -> Amount {
        let [regions, octets] = [&account.regions, &account.octets].map(|of| of.load(Ordering::Relaxed));
        Amount { regions, octets }
    }

    #[test]
    fn front_ends_with_many_regions_leave_some_to_others() {
        let account = Arc::default();

        let greedy: Vec<_> = (0..20).map(|_| fill(&account, 4096, 509)).collect();

        let usual: Vec<_> = (0..20).map(|_| fill(&account, 1 << 30, USUAL.regions).len()).collect();
        assert_eq!(usual, [8; 20]);
        drop(greedy);
        assert_eq!(mapped(&account), Amount::default());
    }

    #[test]
    fn front_ends_with_much_memory_leave_some_to_others() {
        let account = Arc::default();

        let greedy: Vec<_> = (0..20).map(|_| fill(&account, 1 << 40, 1)).collect();

        assert_eq!(mapped(&account).octets, 16 << 40);
        let usual: Vec<_> = (0..64).map(|_| fill(&account, 64 << 30, 1)).collect();
        assert!(usual.iter().all(|own| own.len() == 1));
        assert_eq!(mapped(&account).octets, 20 << 40);
        assert!(Quota::take(&account, Amount::default(), 1).is_err());
        drop((greedy, usual));
        assert_eq!(mapped(&account), Amount::default());
    }

    #[test]
    fn amounts_beyond_all_numbers_are_refused() {
        let account = Arc::default();
        let own = Amount { regions: 1, octets: u64::MAX };

        assert!(Quota::take(&account, own, u64::MAX).is_err());

        let _some = Quota::take(&account, Amount::default(), 1).unwrap();
        assert!(Quota::take(&account, Amount::default(), u64::MAX).is_err());
        assert_eq!(mapped(&account), Amount { regions: 1, octets: 1 });
    }
}
