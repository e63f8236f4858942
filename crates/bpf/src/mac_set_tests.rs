use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::{CheckError, MAX_LENGTH};

fn frame(destination: u64, source: u64) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&MacAddr::from_u64(destination).0);
    frame[6..12].copy_from_slice(&MacAddr::from_u64(source).0);
    frame
}

fn macs(numbers: impl IntoIterator<Item = u64>) -> impl Iterator<Item = MacAddr> {
    numbers.into_iter().map(MacAddr::from_u64)
}

/// Unicast addresses that have nothing in common.
fn scattered(count: u64) -> impl Iterator<Item = u64> {
    (1..=count).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16 & !(1 << 40))
}

const STATION: u64 = 0x5254_0012_3456;
const BROADCAST: u64 = 0xffff_ffff_ffff;

#[test]
fn groups_and_members_are_accepted() {
    let program = destinations(macs([STATION, 0x5254_ffff_ffff])).unwrap();

    for accepted in
        [STATION, 0x5254_ffff_ffff, BROADCAST, 0x3333_0000_0001, 0x0100_5e00_00fb, 0x0180_c200_0000]
    {
        assert_eq!(program.run(&frame(accepted, 0)), WHOLE_PACKET, "{accepted:012x}");
    }
    // The neighbours of a member, and an address that ends as broadcast does.
    for rejected in [STATION - 1, STATION + 1, STATION ^ 1 << 16, STATION ^ 1 << 41, 0x0254_ffff_ffff, 0] {
        assert_eq!(program.run(&frame(rejected, STATION)), 0, "{rejected:012x}");
    }
}

#[test]
fn without_addresses_there_are_groups_only() {
    let program = destinations([]).unwrap();

    assert_eq!(program.run(&frame(BROADCAST, 0)), WHOLE_PACKET);
    assert_eq!(program.run(&frame(0, 0)), 0);
    assert_eq!(sources([]).unwrap().run(&frame(BROADCAST, BROADCAST)), 0);
}

#[test]
fn sources_look_at_the_source_alone() {
    let program = sources(macs([STATION])).unwrap();

    assert_eq!(program.run(&frame(BROADCAST, STATION)), WHOLE_PACKET);
    assert_eq!(program.run(&frame(STATION, STATION + 1)), 0);
    assert_eq!(program.run(&frame(BROADCAST, BROADCAST)), 0);
}

#[test]
fn duplicates_take_no_room() {
    let once = destinations(macs([STATION])).unwrap();

    assert_eq!(destinations(macs([STATION; 5000])).unwrap(), once);
}

#[test]
fn a_truncated_frame_is_rejected() {
    let frame = frame(STATION, STATION);
    let (to, from) = (destinations(macs([STATION])).unwrap(), sources(macs([STATION])).unwrap());

    for length in 0..6 {
        assert_eq!(to.run(&frame[..length]), 0, "{length}");
    }
    for length in 0..12 {
        assert_eq!(from.run(&frame[..length]), 0, "{length}");
    }
    assert_eq!(to.run(&frame[..6]), WHOLE_PACKET);
    assert_eq!(from.run(&frame[..12]), WHOLE_PACKET);
}

#[test]
fn as_many_addresses_fit_as_documented() {
    let scattered_program = destinations(macs(scattered(1000))).unwrap();
    let clustered_program = destinations(macs(STATION..STATION + 3000)).unwrap();

    assert!(scattered(1000).all(|mac| scattered_program.run(&frame(mac, 0)) == WHOLE_PACKET));
    assert!((STATION..STATION + 3000).all(|mac| clustered_program.run(&frame(mac, 0)) == WHOLE_PACKET));
    assert_eq!(clustered_program.run(&frame(STATION + 3000, 0)), 0);
}

#[test]
fn too_many_addresses_are_an_error() {
    let result = destinations(macs(scattered(5000)));

    assert!(
        matches!(result, Err(BuildError::Check(CheckError::TooLong(length))) if length > MAX_LENGTH),
        "{result:?}"
    );
}

/// Addresses anywhere, in one vendor's block, and in a few blocks: the ways in which parts coincide.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..1u64 << 48,
        (0..1u64 << 24).prop_map(|serial| 0x5254_0000_0000 | serial),
        (0..4u64, 0..1u64 << 16).prop_map(|(block, serial)| 0x0200_0000_0000 | block << 16 | serial),
        (0..3u64, 0..3u64).prop_map(|(block, serial)| block << 16 | serial),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn programs_equal_their_set(
        members in prop::collection::btree_set(address(), 0..=1000),
        others in prop::collection::vec(address(), 200),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u32..48), 200),
    ) {
        let to = destinations(macs(members.iter().copied())).unwrap();
        let from = sources(macs(members.iter().copied())).unwrap();

        let listed: Vec<u64> = members.iter().copied().collect();
        let neighbours = flips.iter().filter(|_| !listed.is_empty()).map(|(index, bit)| index.get(&listed) ^ 1 << bit);
        let probes: BTreeSet<u64> = listed.iter().copied().chain(others).chain(neighbours).collect();
        for mac in probes {
            let (is_group, is_member) = (mac >> 40 & 1 != 0, members.contains(&mac));
            prop_assert_eq!(to.run(&frame(mac, 0)) == WHOLE_PACKET, is_group || is_member, "to {:012x}", mac);
            prop_assert_eq!(from.run(&frame(0, mac)) == WHOLE_PACKET, is_member, "from {:012x}", mac);
        }
    }
}
