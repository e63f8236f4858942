//! Offload requests: checked, met and merged, by the cases of the specification and on arbitrary input.

mod coalesce;
mod flows;
mod hostile;
mod segment;
mod shape;
mod validate;

use frame::offload::Takes;
use proptest::collection::vec;
use proptest::prelude::*;

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
