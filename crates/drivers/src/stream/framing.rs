//! Frames in a stream of octets: each is preceded by its length, 32 bits, most significant octet first.

use std::ops::Range;

use vmlan_frame::VlanTag;

/// Octets of the length in front of each frame.
pub const PREFIX: usize = 4;

/// Octets of the longest frame that is taken from a peer. QEMU sends no longer one.
pub const LONGEST: usize = (68 << 10) - PREFIX;

/// A frame in a buffer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Where the untagged frame lies.
    pub range: Range<usize>,
    /// The tag that was taken off it.
    pub tag: Option<VlanTag>,
}

/// The peer announced a frame that cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the peer announced a frame of {announced} octets; 1 to {LONGEST} are possible")]
pub struct BadLength {
    /// The length as announced.
    pub announced: u32,
}

/// Finds the whole frames at the front of `octets`, at most `most` of them, takes their tags off in place and adds them
/// to `pieces`. Answers how many octets they take, lengths included; what follows fewer than `most` is the beginning of
/// a frame.
///
/// # Errors
/// [`BadLength`]: there is no telling where the next frame would begin. The frames before it are in `pieces`.
pub fn split(octets: &mut [u8], most: usize, pieces: &mut Vec<Piece>) -> Result<usize, BadLength> {
    let mut at = 0;
    for _ in 0..most {
        let Some(prefix) = octets.get(at..).and_then(|rest| rest.first_chunk::<PREFIX>()) else {
            break;
        };
        let announced = u32::from_be_bytes(*prefix);
        let len = announced as usize;
        if len == 0 || len > LONGEST {
            return Err(BadLength { announced });
        }
        let start = at + PREFIX;
        let Some(frame) = octets.get_mut(start..start + len) else {
            break;
        };
        let (offset, tag) = VlanTag::take(frame);
        pieces.push(Piece { range: start + offset..start + len, tag });
        at = start + len;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(frames: &[Vec<u8>]) -> Vec<u8> {
        frames.iter().flat_map(|frame| [&(frame.len() as u32).to_be_bytes()[..], frame].concat()).collect()
    }

    #[test]
    fn a_length_of_zero_or_beyond_the_limit_is_an_error() {
        for announced in [0, LONGEST as u32 + 1, u32::MAX] {
            let mut octets = stream(&[vec![1; 20]]);
            octets.extend(announced.to_be_bytes());
            let mut pieces = Vec::new();
            assert_eq!(split(&mut octets, usize::MAX, &mut pieces), Err(BadLength { announced }));
            assert_eq!(pieces.len(), 1);
        }
    }

    #[test]
    fn the_tag_comes_off() {
        let mut frame = vec![7; 12];
        frame.extend([0x81, 0, 0, 10, 8, 0]);
        let mut octets = stream(&[frame]);
        let mut pieces = Vec::new();
        assert_eq!(split(&mut octets, usize::MAX, &mut pieces), Ok(22));
        assert_eq!(pieces[0].tag.unwrap().vid(), 10);
        assert_eq!(&octets[pieces[0].range.clone()], [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 0]);
    }

    #[test]
    fn no_more_than_were_asked_for() {
        let mut octets = stream(&[vec![1; 20], vec![2; 20], vec![3; 20]]);
        let mut pieces = Vec::new();
        assert_eq!(split(&mut octets, 2, &mut pieces), Ok(48));
        assert_eq!(pieces.len(), 2);
    }

    proptest! {
        /// However the stream is cut into reads, the same frames come out.
        #[test]
        fn cuts_do_not_matter(lens in prop::collection::vec(1usize..200, 0..20), cut in 1usize..97) {
            let frames: Vec<_> = lens.iter().enumerate().map(|(i, len)| vec![i as u8; *len]).collect();
            let mut found = Vec::new();
            let mut carry = Vec::new();
            for read in stream(&frames).chunks(cut) {
                carry.extend_from_slice(read);
                let mut pieces = Vec::new();
                let taken = split(&mut carry, usize::MAX, &mut pieces).unwrap();
                found.extend(pieces.into_iter().map(|piece| carry[piece.range].to_vec()));
                carry.drain(..taken);
            }
            prop_assert_eq!(found, frames);
            prop_assert!(carry.is_empty());
        }

        #[test]
        fn any_octets(mut octets in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut pieces = Vec::new();
            let len = octets.len();
            if let Ok(taken) = split(&mut octets, usize::MAX, &mut pieces) {
                prop_assert!(taken <= len);
            }
            prop_assert!(pieces.iter().all(|piece| piece.range.end <= len));
        }
    }
}
