//! No octets make a view panic, and what a repr writes is what it read.

mod every_view;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Starts of headers that random octets hardly ever hit, so that what is behind them is reached.
const STARTS: [&[u8]; 14] = [
    &[],
    &[0x45, 0, 0, 40],
    &[0x46, 0, 0, 30, 0, 1, 0x20, 0, 64, 6],
    &[0x60, 0, 0, 0, 0, 48, 0, 64],
    &[0x60, 0, 0, 0, 0, 48, 44, 255],
    &[0, 1, 8, 0, 6, 4],
    &[8, 0],
    &[128, 0],
    &[134, 0],
    &[135, 0],
    &[136, 0],
    &[137, 0],
    &[0, 53, 0, 53, 0, 12],
    &[0, 80, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x80, 0x10],
];

/// The octets between the addresses of a frame and its network layer.
const TYPES: [&[u8]; 6] = [
    &[0x08, 0x00],
    &[0x86, 0xdd],
    &[0x08, 0x06],
    &[0x81, 0x00, 0x00, 0x0a, 0x86, 0xdd],
    &[0x88, 0xa8, 0x00, 0x64, 0x81, 0x00, 0x00, 0x0a, 0x08, 0x00],
    &[0x00, 0x26],
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_octets(octets in vec(any::<u8>(), 0..200)) {
        every_view::look(&octets);
    }

    #[test]
    fn octets_that_start_as_a_header(
        start in select(&STARTS[..]),
        rest in vec(any::<u8>(), 0..100),
        len: Index,
    ) {
        let octets = [start, &rest].concat();
        every_view::look(&octets);
        every_view::look(&octets[..len.index(octets.len() + 1)]);
    }

    #[test]
    fn octets_that_start_as_a_frame(
        addresses in any::<[u8; 12]>(),
        types in select(&TYPES[..]),
        start in select(&STARTS[..]),
        // Small octets make likely lengths and extension headers.
        rest in prop_oneof![vec(any::<u8>(), 0..100), vec(select(&[0u8, 1, 2, 6, 17, 43, 44, 51, 58, 60][..]), 0..100)],
        len: Index,
    ) {
        let octets = [&addresses, types, start, &rest].concat();
        every_view::look(&octets);
        every_view::look(&octets[..len.index(octets.len() + 1)]);
    }
}
