//! Offload requests: checked, met and merged, by the cases of the specification and on arbitrary input.

mod coalesce;
mod divide;
mod flows;
mod hostile;
mod nested;
mod segment;
mod shape;
mod validate;

use proptest::collection::vec;
use proptest::prelude::*;
use vmlan_frame::offload::Takes;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_frames_with_arbitrary_requests(octets in vec(any::<u8>(), 12..200)) {
        let (request, octets) = hostile::from_virtio(&octets).expect("there is a header");
        hostile::check(octets, request);
    }

    #[test]
    fn almost_good_frames_with_almost_good_requests(octets in vec(any::<u8>(), 6..18)) {
        let (request, octets) = hostile::almost_good(&octets).expect("long enough");
        hostile::check(&octets, request);
    }

    #[test]
    fn arbitrary_batches(octets in vec(any::<u8>(), 4..100)) {
        flows::gives_it_back(&flows::generated(&hostile::steps(&octets)), Takes::ALL);
    }
}

/// The generator would be worth little if it made mostly bad ones.
#[test]
fn almost_good_requests_are_often_good() {
    let good = |kind: u8, options: u8| {
        let octets = [kind, options, 0x10, 0, 0x04, 0];
        let (request, octets) = hostile::almost_good(&octets).expect("long enough");
        hostile::check(&octets, request)
    };
    for kind in 0..16 {
        for options in 0..128 {
            assert!(good(kind, options), "{kind} {options}");
        }
    }
    // Fragments of UDP over IPv4, and a checksum only.
    assert!(good(0x32, 0) && good(0xc0, 0) && good(0xc3, 0));
}
/// Found by fuzzing: the harness took the fragment within the tunnel for the first of its datagram.
#[test]
fn a_later_fragment_in_a_tunnel() {
    let changes = [0, 0, 0, 0x00, 0xdb, 0x21, 0xa7, 0xa7, 0xa7];
    let (request, octets) =
        hostile::almost_good(&[&[0x7e, 0xbe, 0x0c, 0x1c, 0x27, 0x00], &changes[..]].concat())
            .expect("long enough");
    hostile::check(&octets, request);
    let mut later = octets.clone();
    later[53] = 0xa7;
    assert!(hostile::check(&later, request));
}
