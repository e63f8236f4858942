//! Any octets, cut into reads at any place, give the same frames as in one piece, and never more than there are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmlan_drivers::stream::framing::{LONGEST, Piece, split};

type Frames = Vec<(Vec<u8>, Option<u16>)>;

fn frames(octets: &[u8], pieces: Vec<Piece>) -> Frames {
    pieces.into_iter().map(|piece| (octets[piece.range].to_vec(), piece.tag.map(|tag| tag.tci))).collect()
}

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (cut, octets) = input;
    let mut whole = octets.clone();
    let mut pieces = Vec::new();
    let result = split(&mut whole, usize::MAX, &mut pieces);
    let expected = frames(&whole, pieces);
    assert!(expected.iter().all(|(frame, _)| frame.len() <= LONGEST));

    let (mut carry, mut found, mut failed) = (Vec::new(), Frames::new(), false);
    for read in octets.chunks(usize::from(cut).max(1)) {
        carry.extend_from_slice(read);
        let mut pieces = Vec::new();
        let taken = split(&mut carry, usize::MAX, &mut pieces);
        found.extend(frames(&carry, pieces));
        match taken {
            Ok(taken) => drop(carry.drain(..taken)),
            Err(_) => {
                failed = true;
                break;
            }
        }
    }
    assert_eq!((found, failed), (expected, result.is_err()));
});
