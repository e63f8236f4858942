use proptest::prelude::*;

use super::*;

/// RFC 1071 section 1 word by word, as slow as it is plain.
fn naive(octets: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in octets.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[test]
fn rfc_1071_section_3_example() {
    let octets = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];

    assert_eq!(Sum::new().add_octets(&octets).fold(), 0xddf2);
    assert_eq!(checksum(&octets), 0x220d);
}

#[test]
fn rfc_1624_section_4_example() {
    // Equation 2 would give 0xffff here, which is not what the words add up to.
    assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
}

#[test]
fn ipv4_header() {
    let header = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0,
        0xa8, 0x00, 0xc7,
    ];

    assert!(Sum::new().add_octets(&header).is_valid());
    assert_eq!(Sum::new().add_octets(&header[..10]).add_octets(&header[12..]).checksum(), 0xb861);
}

#[test]
fn nothing_adds_up_to_zero() {
    assert_eq!(Sum::new().fold(), 0);
    assert_eq!(checksum(&[]), 0xffff);
    assert_eq!(checksum(&[0; 64]), 0xffff);
}

#[test]
fn every_octet_set() {
    assert_eq!(Sum::new().add_octets(&[0xff; 65_535]).fold(), naive(&[0xff; 65_535]));
    assert_eq!(Sum::new().add_octets(&vec![0xff; 1 << 20]).fold(), 0xffff);
}

#[test]
fn udp_sends_a_computed_zero_as_ones() {
    assert_eq!(Sum::new().add_octets(&[0xff, 0xff]).checksum(), 0);
    assert_eq!(Sum::new().add_octets(&[0xff, 0xff]).udp_checksum(), 0xffff);
    assert_eq!(Sum::new().add_octets(&[0xff, 0xfe]).udp_checksum(), 1);
}

#[test]
fn pseudo_headers() {
    let v4 = Addresses::V4 { source: [192, 168, 0, 1].into(), destination: [192, 168, 0, 199].into() };
    let v6 = Addresses::V6 {
        source: "fe80::1".parse().unwrap(),
        destination: "2001:db8:ffff:1:2:3:4:5".parse().unwrap(),
    };

    let mut flat = vec![192, 168, 0, 1, 192, 168, 0, 199, 0, 17];
    flat.extend_from_slice(&0x0123u16.to_be_bytes());
    assert_eq!(v4.pseudo_header(IpProtocol::UDP, 0x123).fold(), naive(&flat));

    let mut flat = Vec::new();
    flat.extend_from_slice(&"fe80::1".parse::<Ipv6Addr>().unwrap().octets());
    flat.extend_from_slice(&"2001:db8:ffff:1:2:3:4:5".parse::<Ipv6Addr>().unwrap().octets());
    flat.extend_from_slice(&0x0001_fff0u32.to_be_bytes());
    flat.extend_from_slice(&[0, 0, 0, 58]);
    assert_eq!(v6.pseudo_header(IpProtocol::ICMPV6, 0x0001_fff0).fold(), naive(&flat));
}

#[test]
#[should_panic(expected = "whole words")]
fn update_of_half_a_word_is_our_bug() {
    let _ = update_octets(0, &[1], &[2]);
}

proptest! {
    #[test]
    fn as_the_naive_sum(octets in proptest::collection::vec(any::<u8>(), 0..300), start in 0usize..9) {
        let octets = octets.get(start..).unwrap_or(&[]);
        prop_assert_eq!(Sum::new().add_octets(octets).fold(), naive(octets));
    }

    #[test]
    fn any_split_gives_the_same_sum(
        octets in proptest::collection::vec(any::<u8>(), 0..300),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(octets.len() + 1)).collect();
        cuts.sort_unstable();
        let mut sum = Sum::new();
        let mut start = 0;
        for cut in cuts {
            sum = sum.add_octets(&octets[start..cut]);
            start = cut;
        }
        prop_assert_eq!(sum.add_octets(&octets[start..]).fold(), naive(&octets));
    }

    #[test]
    fn its_own_checksum_makes_it_valid(words in proptest::collection::vec(any::<u16>(), 1..100), at: prop::sample::Index) {
        let mut octets: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let at = 2 * at.index(words.len());
        octets[at..at + 2].fill(0);
        let sum = checksum(&octets);
        octets[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        prop_assert!(Sum::new().add_octets(&octets).is_valid());
    }

    #[test]
    fn update_is_as_good_as_a_new_sum(
        words in proptest::collection::vec(any::<u16>(), 5..60),
        new in any::<[u8; 8]>(),
        at: prop::sample::Index,
    ) {
        let mut octets: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        // A first word that no change touches and that is not zero: without it 0 and 0xffff are both "nothing".
        octets[0] = 0x45;
        let at = 2 + 2 * at.index(words.len() - 4);
        let before = checksum(&octets);
        let old: [u8; 8] = octets[at..at + 8].try_into().unwrap();
        octets[at..at + 8].copy_from_slice(&new);
        prop_assert_eq!(update_octets(before, &old, &new), checksum(&octets));
    }
}
