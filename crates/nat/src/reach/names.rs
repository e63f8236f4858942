//! The addresses that a guest got for names.

use std::collections::HashMap;
use std::net::IpAddr;

use vmlan_frame::Instant;

use super::egress::fits;
use crate::keyed::Keyed;

/// Most addresses that are remembered for one guest.
const ADDRESSES: usize = 1024;

/// Most names that are remembered for one address, as with many sites behind one.
const NAMES: usize = 8;

/// Names by address, each for a time.
#[derive(Debug)]
pub(super) struct Names {
    addresses: HashMap<IpAddr, Vec<(Box<str>, Instant)>, Keyed>,
}

impl Names {
    /// None; the key is for the table.
    pub fn new(keyed: Keyed) -> Names {
        Names { addresses: HashMap::with_hasher(keyed) }
    }

    /// Remembers a name; of too many, the one that ends first is forgotten.
    pub fn insert(&mut self, address: IpAddr, name: &str, until: Instant, now: Instant) {
        if !self.addresses.contains_key(&address) && self.addresses.len() >= ADDRESSES {
            self.make_room(now);
        }
        let names = self.addresses.entry(address).or_default();
        if let Some((_, known)) = names.iter_mut().find(|(known, _)| **known == *name) {
            *known = until.max(*known);
            return;
        }
        names.retain(|(_, until)| *until > now);
        if names.len() >= NAMES
            && let Some(first) = (0..names.len()).min_by_key(|index| names[*index].1)
        {
            names.swap_remove(first);
        }
        names.push((name.into(), until));
    }

    fn make_room(&mut self, now: Instant) {
        let end = |names: &Vec<(Box<str>, Instant)>| names.iter().map(|(_, until)| *until).max();
        self.addresses.retain(|_, names| end(names) > Some(now));
        if self.addresses.len() >= ADDRESSES {
            let first = self.addresses.iter().min_by_key(|(_, names)| end(names));
            if let Some(address) = first.map(|(address, _)| *address) {
                self.addresses.remove(&address);
            }
        }
    }

    /// True if the address was learnt for a name that fits the pattern, and still counts.
    pub fn has(&self, address: IpAddr, pattern: &str, now: Instant) -> bool {
        self.addresses
            .get(&address)
            .is_some_and(|names| names.iter().any(|(name, until)| *until > now && fits(pattern, name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn addresses_and_names_are_bounded() {
        let mut names = Names::new(Keyed([1, 2]));
        for number in 0..3000u32 {
            let until = Instant::from_secs(100 + u64::from(number));
            names.insert(Ipv4Addr::from_bits(number).into(), "a.example", until, Instant::ZERO);
            names.insert(
                Ipv4Addr::from_bits(2999).into(),
                &format!("{number}.example"),
                until,
                Instant::ZERO,
            );
        }
        assert_eq!(names.addresses.len(), ADDRESSES);
        assert!(names.addresses.values().all(|names| names.len() <= NAMES));
        let last = Ipv4Addr::from_bits(2999).into();
        assert!(names.has(last, "2999.example", Instant::from_secs(3098)));
        assert!(!names.has(last, "2999.example", Instant::from_secs(3099)));
        assert!(!names.has(Ipv4Addr::from_bits(5).into(), "a.example", Instant::ZERO));
    }

    #[test]
    fn a_name_lasts_as_long_as_its_longest_answer() {
        let mut names = Names::new(Keyed([1, 2]));
        let address = IpAddr::from([192, 0, 2, 1]);
        for until in [100, 60] {
            names.insert(address, "a.example", Instant::from_secs(until), Instant::ZERO);
        }
        assert!(names.has(address, "a.example", Instant::from_secs(99)));
    }
}
