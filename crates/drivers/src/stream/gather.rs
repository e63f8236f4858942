use std::io::IoSlice;
use std::ops::Range;

use vmlan_frame::{Batch, Entry, VLAN_TAG};

use super::framing::PREFIX;
use crate::parts::parts;

/// Frames up to this many octets are copied together: cheaper than a piece of their own in the gathered write.
const COPIED: usize = 512;

/// Octets of the most that is copied for one write.
const ROOM: usize = Batch::LIMIT * (PREFIX + COPIED + VLAN_TAG);

/// The pieces of one write.
pub(super) struct Gathered {
    /// Lengths, tags and small frames.
    copied: Box<Copied>,
    pieces: Vec<Piece>,
}

/// Octets that are copied together, from the beginning of a page on.
///
/// The kernel copies them to the beginning of a page. A processor takes a load for one of what it has just stored when
/// both addresses end in the same twelve bits, and waits; a source that begins shortly before the end of a page has
/// that in every step, and is copied at a fifth of the speed.
#[repr(C, align(4096))]
struct Copied {
    octets: [u8; ROOM],
    len: usize,
}

enum Piece {
    /// In what is copied.
    Copied(Range<usize>),
    /// The last octets of frame `entry` of the chunk, from `from` on.
    Lent { entry: usize, from: usize },
}

impl Default for Gathered {
    fn default() -> Self {
        Gathered { copied: Box::new(Copied { octets: [0; ROOM], len: 0 }), pieces: Vec::new() }
    }
}

impl Copied {
    #[inline]
    fn push(&mut self, octets: &[u8]) {
        self.octets[self.len..][..octets.len()].copy_from_slice(octets);
        self.len += octets.len();
    }
}

impl Gathered {
    /// Decides what of a chunk is copied and what is lent. A chunk is no longer than a batch.
    pub(super) fn lay_out(&mut self, chunk: &[Entry<'_>]) {
        let Gathered { copied, pieces } = self;
        copied.len = 0;
        pieces.clear();
        let mut from = 0;
        for (i, entry) in chunk.iter().enumerate() {
            let mut tag = [0; 4];
            let [first, middle, last] = parts(entry, &mut tag);
            let len = (first.len() + middle.len() + last.len()) as u32;
            copied.push(&len.to_be_bytes());
            if entry.octets.len() <= COPIED {
                copied.push(first);
                copied.push(middle);
                copied.push(last);
                continue;
            }
            let lent = if entry.meta.tag.is_some() {
                copied.push(first);
                copied.push(middle);
                first.len()
            } else {
                0
            };
            pieces.push(Piece::Copied(from..copied.len));
            pieces.push(Piece::Lent { entry: i, from: lent });
            from = copied.len;
        }
        if from < copied.len {
            pieces.push(Piece::Copied(from..copied.len));
        }
    }

    /// Returns the pieces that were laid out of `chunk`, for a gathered write.
    pub(super) fn slices<'a, 's>(
        &'a self,
        chunk: &[Entry<'a>],
        slices: &'s mut [IoSlice<'a>; 2 * Batch::LIMIT + 1],
    ) -> &'s [IoSlice<'a>] {
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(match piece {
                Piece::Copied(range) => &self.copied.octets[range.clone()],
                Piece::Lent { entry, from } => &chunk[*entry].octets[*from..],
            });
        }
        &slices[..self.pieces.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmlan_frame::{Meta, VlanTag};

    #[test]
    fn the_longest_that_is_copied_has_room_and_begins_a_page() {
        let octets = [7; COPIED + 1];
        let meta = Meta { tag: Some(VlanTag { tci: 5 }), ..Meta::default() };
        let small = [Entry { octets: &octets[1..], meta }; Batch::LIMIT];
        let mut gathered = Gathered::default();
        gathered.lay_out(&small);
        let mut slices = [IoSlice::new(&[]); 2 * Batch::LIMIT + 1];
        let [one] = gathered.slices(&small, &mut slices) else { panic!("one piece") };
        assert_eq!((one.len(), one.as_ptr() as usize % 4096), (ROOM, 0));

        let large = [Entry { octets: &octets, meta }; Batch::LIMIT];
        gathered.lay_out(&large);
        let mut slices = [IoSlice::new(&[]); 2 * Batch::LIMIT + 1];
        let slices = gathered.slices(&large, &mut slices);
        let sum: usize = slices.iter().map(|slice| slice.len()).sum();
        assert_eq!((slices.len(), sum), (2 * Batch::LIMIT, Batch::LIMIT * (PREFIX + COPIED + 1 + VLAN_TAG)));
    }
}
