//! The parts of a packet that are there.

/// Most parts with gaps in between. Fragments in any order that are all on their way make few.
const MOST: usize = 256;

/// The fate of a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    Yes,
    Overlap,
    TooMany,
}

/// Ranges of octets in order, none of which touches another.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    ranges: Vec<(usize, usize)>,
}

impl Ranges {
    /// Adds a range that is not empty.
    pub fn add(&mut self, start: usize, end: usize) -> Added {
        let index = self.ranges.partition_point(|range| range.0 < start);
        let before = index.checked_sub(1).map(|before| self.ranges[before]);
        let after = self.ranges.get(index).copied();
        if before.is_some_and(|before| before.1 > start) || after.is_some_and(|after| after.0 < end) {
            return Added::Overlap;
        }
        let joins_before = before.is_some_and(|before| before.1 == start);
        let joins_after = after.is_some_and(|after| after.0 == end);
        match (joins_before, joins_after) {
            (true, true) => {
                self.ranges[index - 1].1 = self.ranges[index].1;
                self.ranges.remove(index);
            }
            (true, false) => self.ranges[index - 1].1 = end,
            (false, true) => self.ranges[index].0 = start,
            (false, false) if self.ranges.len() >= MOST => return Added::TooMany,
            (false, false) => self.ranges.insert(index, (start, end)),
        }
        Added::Yes
    }

    /// The end of the last range.
    pub fn end(&self) -> usize {
        self.ranges.last().map_or(0, |range| range.1)
    }

    /// True if all octets below `total` are there, and no others.
    pub fn is_all(&self, total: usize) -> bool {
        self.ranges == [(0, total)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_set_of_octets(parts in prop::collection::vec((0usize..64, 1usize..16), 0..64)) {
            let mut ranges = Ranges::default();
            let mut model = std::collections::BTreeSet::new();
            for (start, len) in parts {
                let octets = start..start + len;
                let is_free = octets.clone().all(|octet| !model.contains(&octet));
                let added = ranges.add(octets.start, octets.end);
                prop_assert_eq!(added, if is_free { Added::Yes } else { Added::Overlap });
                if is_free {
                    model.extend(octets);
                }
                prop_assert_eq!(ranges.end(), model.last().map_or(0, |last| last + 1));
                let total: usize = ranges.ranges.iter().map(|range| range.1 - range.0).sum();
                prop_assert_eq!(total, model.len());
                prop_assert!(ranges.ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
            }
        }
    }

    #[test]
    fn gaps_are_bounded() {
        let mut ranges = Ranges::default();
        for index in 0..MOST {
            assert_eq!(ranges.add(16 * index, 16 * index + 8), Added::Yes);
        }
        assert_eq!(ranges.add(16 * MOST, 16 * MOST + 8), Added::TooMany);
        assert_eq!(ranges.add(8, 16), Added::Yes, "it closes a gap");
    }
}
