//! The memory that a front end shares, as its rings' descriptors name it.

use std::sync::Arc;

use vmlan_sys::guest_memory::{Area, Mapping, Span};

use super::message::{RegionDescription, Violation};

/// A mapped region.
#[derive(Clone)]
pub struct Region {
    /// Where it lies, in the addresses of guest and front end.
    pub description: RegionDescription,
    /// Its octets.
    pub mapping: Arc<Mapping>,
}

/// All regions of a front end. No two overlap.
#[derive(Default)]
pub struct Memory {
    /// By guest address.
    regions: Vec<Region>,
}

impl Memory {
    /// # Errors
    /// Regions overlap, in the guest's addresses or in the front end's, or one ends beyond all addresses.
    pub fn new(mut regions: Vec<Region>) -> Result<Memory, Violation> {
        regions.sort_by_key(|region| region.description.guest);
        let mut users: Vec<_> =
            regions.iter().map(|region| (region.description.user, region.description.size)).collect();
        users.sort_unstable();
        let guests =
            regions.iter().map(|region| (region.description.guest, region.description.size)).collect();
        for (ranges, whose) in [(guests, "guest"), (users, "user")] {
            let ranges: Vec<(u64, u64)> = ranges;
            if ranges.iter().any(|(start, size)| start.checked_add(*size).is_none()) {
                return Err(Violation(format!("a memory region ends beyond the last {whose} address")));
            }
            if ranges.windows(2).any(|pair| pair[0].0 + pair[0].1 > pair[1].0) {
                return Err(Violation(format!("two memory regions overlap in {whose} addresses")));
            }
        }
        Ok(Memory { regions })
    }

    /// The regions, by guest address.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The `len` octets at a guest address, if they are in one region. `hint` is the caller's own, and remembers in
    /// which region the last ones were.
    #[inline]
    pub fn find(&self, hint: &mut usize, guest: u64, len: u64) -> Option<Span<'_>> {
        if let Some(span) = self.regions.get(*hint).and_then(|region| region.guest_span(guest, len)) {
            return Some(span);
        }
        self.search(hint, guest, len)
    }

    #[cold]
    fn search(&self, hint: &mut usize, guest: u64, len: u64) -> Option<Span<'_>> {
        let behind = self.regions.partition_point(|region| region.description.guest <= guest);
        *hint = behind.checked_sub(1)?;
        self.regions[*hint].guest_span(guest, len)
    }

    /// The `len` octets at an address of the front end's own, if they are in one region.
    pub fn area_of_user(&self, user: u64, len: u64) -> Option<Area> {
        self.regions.iter().find_map(|region| {
            let offset = user.checked_sub(region.description.user)?;
            region.mapping.area(offset, len)
        })
    }

    /// Octets that are mapped.
    pub fn octets(&self) -> u64 {
        self.regions.iter().map(|region| region.description.size).sum()
    }

    /// True if a file was cut short under a region, whose octets are nobody's since.
    pub fn is_poisoned(&self) -> bool {
        self.regions.iter().any(|region| region.mapping.is_poisoned())
    }
}

impl Region {
    #[inline]
    fn guest_span(&self, guest: u64, len: u64) -> Option<Span<'_>> {
        self.mapping.span(guest.checked_sub(self.description.guest)?, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(guest: u64, user: u64, size: u64) -> Region {
        let mapping = Arc::new(Mapping::plain(size as usize));
        Region { description: RegionDescription { guest, size, user, offset: 0 }, mapping }
    }

    #[test]
    fn case_15_regions_that_overlap_are_refused() {
        const MIB: u64 = 1 << 20;
        for (guest, user) in [(MIB - 1, 4 * MIB), (2 * MIB, MIB - 1), (0, 4 * MIB), (4 * MIB, 0)] {
            let regions = vec![region(0, 0, MIB), region(guest, user, 4096)];
            assert!(Memory::new(regions).is_err(), "{guest:#x} {user:#x}");
        }
        assert!(Memory::new(vec![region(0, 0, MIB), region(MIB, MIB, 4096)]).is_ok());
    }

    #[test]
    fn case_16_no_region_ends_beyond_all_addresses() {
        assert!(Memory::new(vec![region(u64::MAX - 4095, 0, 4096)]).is_err());
        assert!(Memory::new(vec![region(0, u64::MAX - 4095, 4096)]).is_err());
    }

    #[test]
    fn case_17_a_range_is_in_one_region_to_its_last_octet() {
        let memory = Memory::new(vec![region(0x3000, 0, 0x1000), region(0x1000, 0x8000, 0x2000)]).unwrap();
        let mut hint = 7;
        for (guest, len, found) in [
            (0x1000, 0x2000, true),
            (0x1000, 0x2001, false),
            (0x2fff, 1, true),
            (0x2fff, 2, false),
            (0x3000, 0x1000, true),
            (0x3fff, 1, true),
            (0x4000, 1, false),
            (0, 1, false),
            (0x3000, u64::MAX, false),
            (u64::MAX, 2, false),
        ] {
            assert_eq!(memory.find(&mut hint, guest, len).is_some(), found, "{guest:#x} {len:#x}");
        }
        assert_eq!(memory.octets(), 0x3000);
    }

    #[test]
    fn addresses_of_the_front_end_are_found_apart() {
        let memory = Memory::new(vec![region(0x3000, 0x10, 0x1000), region(0x1000, 0x8000, 0x2000)]).unwrap();
        memory.regions()[0].mapping.span(0, 4).unwrap().store_u32(0, 1);
        memory.regions()[1].mapping.span(0, 4).unwrap().store_u32(0, 3);
        assert_eq!(memory.area_of_user(0x8000, 4).unwrap().span().load_u32(0), 1);
        assert_eq!(memory.area_of_user(0x10, 4).unwrap().span().load_u32(0), 3);
        assert!(memory.area_of_user(0xf, 4).is_none() && memory.area_of_user(0x9ffe, 4).is_none());
    }
}
