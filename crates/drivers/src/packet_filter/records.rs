//! Frames in what one read of the device gave.

use std::ops::Range;

use vmlan_frame::VlanTag;
use vmlan_sys::darwin::bpf::record;

/// A frame in a read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Where the untagged frame lies.
    pub range: Range<usize>,
    /// The tag that was taken off it.
    pub tag: Option<VlanTag>,
}

/// Counts of what a read has besides whole frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// Frames whose end is missing: they are none of the pieces.
    pub cut: usize,
    /// Octets of theirs that came.
    pub cut_octets: usize,
    /// Octets from a record on that contradicts the read; whatever they are, they are none of the pieces.
    pub bad_octets: usize,
}

/// Finds the frames in `octets`, one read, takes their tags off in place and adds them to `pieces`.
pub fn split(octets: &mut [u8], pieces: &mut Vec<Piece>) -> Found {
    let mut found = Found::default();
    let mut at = 0;
    while let Some(record) = record(octets, at) {
        let Ok(record) = record else {
            found.bad_octets = octets.len() - at;
            break;
        };
        if record.cut {
            found.cut += 1;
            found.cut_octets += record.frame.len();
        } else {
            let (offset, tag) = VlanTag::take(&mut octets[record.frame.clone()]);
            pieces.push(Piece { range: record.frame.start + offset..record.frame.end, tag });
        }
        at = record.next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vmlan_sys::darwin::bpf::emit;

    fn read(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut octets = Vec::new();
        frames.iter().for_each(|frame| emit(&mut octets, frame, frame.len() as u32));
        octets
    }

    #[test]
    fn the_tag_comes_off() {
        let mut frame = vec![7; 12];
        frame.extend([0x81, 0, 0, 10, 8, 0]);
        let mut octets = read(&[frame]);
        let mut pieces = Vec::new();
        assert_eq!(split(&mut octets, &mut pieces), Found::default());
        assert_eq!(pieces[0].tag.unwrap().vid(), 10);
        assert_eq!(&octets[pieces[0].range.clone()], [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 0]);
    }

    #[test]
    fn a_cut_frame_is_left_out_and_the_next_is_found() {
        let mut octets = Vec::new();
        emit(&mut octets, &[1; 60], 61);
        emit(&mut octets, &[2; 60], 60);
        let mut pieces = Vec::new();
        let found = split(&mut octets, &mut pieces);
        assert_eq!(found, Found { cut: 1, cut_octets: 60, bad_octets: 0 });
        assert_eq!(pieces.len(), 1);
        assert_eq!(octets[pieces[0].range.start], 2);
    }

    #[test]
    fn a_bad_record_ends_the_read() {
        let mut octets = read(&[vec![1; 62], vec![2; 60], vec![3; 60]]);
        let second = 80;
        octets[second + 8..second + 12].copy_from_slice(&1000u32.to_ne_bytes());
        let mut pieces = Vec::new();
        let found = split(&mut octets, &mut pieces);
        assert_eq!(found.bad_octets, octets.len() - second);
        assert_eq!(pieces, [Piece { range: 18..80, tag: None }]);
    }

    proptest! {
        /// Frames that are written as records come out of them unchanged.
        #[test]
        fn frames_come_back(lens in prop::collection::vec(0usize..200, 0..20)) {
            let frames: Vec<_> = lens.iter().enumerate().map(|(i, len)| vec![i as u8; *len]).collect();
            let mut octets = read(&frames);
            let mut pieces = Vec::new();
            prop_assert_eq!(split(&mut octets, &mut pieces), Found::default());
            let found: Vec<_> = pieces.into_iter().map(|piece| octets[piece.range].to_vec()).collect();
            prop_assert_eq!(found, frames);
        }

        #[test]
        fn any_octets(mut octets in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut pieces = Vec::new();
            let len = octets.len();
            let found = split(&mut octets, &mut pieces);
            prop_assert!(found.bad_octets <= len);
            prop_assert!(pieces.iter().all(|piece| piece.range.end <= len - found.bad_octets));
        }
    }
}
