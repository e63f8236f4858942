use proptest::prelude::*;
use vmlan_frame::Frame;

use super::*;
use crate::testing::{GATEWAY_MAC, GUEST_MAC, Guest, INGRESS, pool};

const NOW: Instant = Instant::from_secs(1000);

/// The fragments of a guest's datagram of `len` octets, each with at most `mtu` octets.
fn fragments(
    guest: &Guest,
    len: usize,
    mtu: usize,
    identification: u32,
    pool: &Pool,
) -> (Vec<u8>, Vec<Frame>) {
    let to = if guest.address.is_ipv4() { "203.0.113.7:7000" } else { "[2001:db8::7]:7000" };
    let payload = Vec::from_iter((0..len).map(|octet| (octet * 7 / 3) as u8));
    let frame = guest.udp(pool, 4000, to, &payload);
    let packet = Packet::parse(&frame).expect("a good packet");
    let addresses = (packet.source(), packet.destination());
    let envelope = Envelope::new(GATEWAY_MAC, GUEST_MAC, addresses, IpProtocol::UDP).expect("one family");
    let mut out = VecDeque::new();
    assert!(fragment(&envelope, packet.upper, mtu, identification, pool, &mut out));
    for frame in &mut out {
        frame.meta.ingress = guest.ingress;
    }
    (packet.upper.to_vec(), out.into())
}

fn take(fragments: &mut Fragments, frame: &Frame, now: Instant) -> Assembly {
    fragments.take(&Packet::parse(frame).expect("a good packet"), now)
}

/// Takes frames in order; the whole packets.
fn take_all<'a>(kept: &mut Fragments, frames: impl IntoIterator<Item = &'a Frame>) -> Vec<Whole> {
    let whole = |frame| match take(kept, frame, NOW) {
        Assembly::Whole { whole, .. } => Some(whole),
        _ => None,
    };
    frames.into_iter().filter_map(whole).collect()
}

#[test]
fn fragments_are_as_long_as_the_mtu_allows() {
    for (guest, each) in [(Guest::V4, 1480), (Guest::V6, 1448)] {
        let pool = pool();
        let (upper, frames) = fragments(&guest, 4000, 1500, 0x1_2345, &pool);
        let mut at = 0;
        for frame in &frames {
            let packet = Packet::parse(frame).unwrap();
            let fragment = packet.fragment.unwrap();
            assert_eq!((usize::from(fragment.offset), fragment.more), (at, at + each < upper.len()));
            let number = if guest == Guest::V4 { 0x2345 } else { 0x1_2345 };
            assert_eq!((fragment.identification, packet.ip.len() <= 1500), (number, true));
            at += each;
        }
        assert!(at >= upper.len() && frames.len() == 3);
    }
}

#[test]
fn without_buffers_for_all_fragments_there_are_none() {
    let small = Pool::new(vmlan_frame::PoolSizes { small: 2, large: 0, bulk: 0 });
    let addresses = (Guest::V4.address, [203, 0, 113, 7].into());
    let envelope = Envelope::new(GUEST_MAC, GATEWAY_MAC, addresses, IpProtocol::UDP).unwrap();
    let mut out = VecDeque::new();
    assert!(!fragment(&envelope, &[0; 4000], 1500, 1, &small, &mut out));
    assert!(out.is_empty() && fragment(&envelope, &[0; 2000], 1500, 1, &small, &mut out));
}

#[test]
fn case_33_overlap_spoils_the_packet_for_its_time() {
    for guest in [Guest::V4, Guest::V6] {
        let pool = pool();
        let (_, good) = fragments(&guest, 4000, 1500, 1, &pool);
        // Of the same packet, cut elsewhere.
        let (_, other) = fragments(&guest, 4000, 1300, 1, &pool);
        for (frames, dropped) in [
            (vec![&good[0], &good[0]], 2),
            (vec![&good[0], &other[1]], 2),
            (vec![&good[2], &good[1], &other[1]], 3),
            (vec![&good[2], &other[3]], 2),
        ] {
            let mut kept = Fragments::new();
            let lost = frames.iter().map(|frame| match take(&mut kept, frame, NOW) {
                Assembly::Dropped { reason: Drop::FragmentOverlap, fragments } => fragments,
                _ => 0,
            });
            assert_eq!(lost.sum::<u64>(), dropped);
            assert!(take_all(&mut kept, &good).is_empty(), "nothing is delivered");
            assert_eq!(kept.expire(NOW + LIFETIME), 0);
            assert_eq!(take_all(&mut kept, &good).len(), 1, "its number is used again");
        }
    }
}

#[test]
fn a_guest_has_16_packets_and_the_oldest_is_given_up() {
    let pool = pool();
    let mut kept = Fragments::new();
    let sets = Vec::from_iter((0..17).map(|number| fragments(&Guest::V4, 2000, 1500, number, &pool).1));
    for (index, frames) in sets.iter().enumerate() {
        let expected = u64::from(index == 16);
        assert!(
            matches!(take(&mut kept, &frames[0], NOW), Assembly::Waiting { given_up } if given_up == expected)
        );
    }
    let other = Guest { ingress: 9, ..Guest::V4 };
    let (_, frames) = fragments(&other, 2000, 1500, 1, &pool);
    assert_eq!(take_all(&mut kept, &frames).len(), 1, "another guest has its own");
    assert_eq!(take_all(&mut kept, sets[1..].iter().map(|frames| &frames[1])).len(), 16);
    assert!(kept.guests[usize::from(INGRESS)].is_empty());
}

#[test]
fn a_packet_has_five_seconds() {
    let pool = pool();
    let (_, frames) = fragments(&Guest::V4, 4000, 1500, 1, &pool);
    let mut kept = Fragments::new();
    assert_eq!(kept.next_end(), None);
    take_all(&mut kept, &frames[..2]);
    let end = NOW + LIFETIME;
    assert_eq!((kept.next_end(), kept.expire(Instant::from_secs(1004))), (Some(end), 0));
    assert!(matches!(take(&mut kept, &frames[2], end), Assembly::Waiting { .. }), "it is another packet's");
    assert_eq!(kept.expire(end), 2);
    kept.forget_guest(INGRESS);
    assert_eq!((kept.expire(end + LIFETIME), kept.next_end()), (0, None));
}

#[test]
fn nothing_is_longer_than_a_packet_and_no_unit_is_odd() {
    let pool = pool();
    let mut octets = fragments(&Guest::V4, 4000, 1500, 1, &pool).1[1].octets().to_vec();
    let mut piece = |offset: u16, more: bool, len: u16| {
        let mut ip = Ipv4Packet::new_checked(&mut octets[ETHERNET_HEADER..]).unwrap();
        ip.set_fragment(offset, more);
        ip.set_total_length(20 + len);
        ip.fill_checksum();
        let mut frame = pool.copy(&octets).unwrap();
        frame.meta.ingress = INGRESS;
        take(&mut Fragments::new(), &frame, NOW)
    };
    let is = |assembly: Assembly, wanted: Option<Drop>| match assembly {
        Assembly::Dropped { reason, fragments: 1 } => wanted == Some(reason),
        Assembly::Waiting { .. } => wanted.is_none(),
        _ => false,
    };
    assert!(is(piece(65_528, false, 7), None));
    assert!(is(piece(65_528, false, 8), Some(Drop::FragmentLimit)));
    assert!(is(piece(8, true, 9), Some(Drop::BadHeader)));
    assert!(is(piece(8, false, 0), Some(Drop::BadHeader)));
}

#[test]
fn a_whole_packet_that_is_too_long_with_its_header_is_dropped() {
    let pool = pool();
    let addresses = (Guest::V4.address, [203, 0, 113, 7].into());
    let envelope = Envelope::new(GATEWAY_MAC, GUEST_MAC, addresses, IpProtocol::UDP).unwrap();
    let mut out = VecDeque::new();
    assert!(fragment(&envelope, &vec![0; 65_528], 1500, 1, &pool, &mut out));
    let mut kept = Fragments::new();
    let last = out.iter().map(|frame| take(&mut kept, frame, NOW)).last();
    assert!(matches!(last, Some(Assembly::Dropped { reason: Drop::BadHeader, fragments: 45 })));
}

#[test]
fn headers_in_front_of_and_behind_an_ipv6_fragment_header_are_kept() {
    // Hop-by-hop options, a fragment header, destination options, and UDP in the second fragment.
    let (source, destination) = (Guest::V6.address, "2001:db8::7".parse().unwrap());
    let mut upper = vec![IpProtocol::UDP.0, 0, 1, 4, 0, 0, 0, 0];
    upper.extend([0x0f, 0xa0, 0x1b, 0x58, 0, 24, 1, 1]);
    upper.extend([9; 16]);
    let mut kept = Fragments::new();
    let mut parts = upper.chunks(16).enumerate().map(|(index, part)| {
        let mut packet = vec![0; 40];
        packet.extend([IpProtocol::FRAGMENT.0, 0, 1, 4, 0, 0, 0, 0]);
        let place = ((16 * index as u16) | u16::from(index == 0)).to_be_bytes();
        packet.extend([IpProtocol::DESTINATION_OPTIONS.0, 0, place[0], place[1], 0, 0, 0, 5]);
        packet.extend(part);
        Ipv6Repr {
            traffic_class: 0,
            flow_label: 0,
            payload_len: (packet.len() - 40) as u16,
            next_header: IpProtocol::HOP_BY_HOP,
            hop_limit: 9,
            source: match source {
                IpAddr::V6(source) => source,
                IpAddr::V4(_) => unreachable!(),
            },
            destination,
        }
        .emit(&mut packet);
        kept.take(&Packet::parse_ip(&packet).unwrap(), NOW)
    });
    assert!(matches!(parts.next(), Some(Assembly::Waiting { .. })));
    let Some(Assembly::Whole { whole, fragments: 2 }) = parts.next() else { panic!("it is not whole") };
    let packet = whole.packet();
    assert_eq!((packet.protocol, packet.upper, packet.hop_limit), (IpProtocol::UDP, &upper[8..], 9));
    assert_eq!((packet.ip.len(), packet.dont_fragment), (40 + 8 + upper.len(), false));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// In any order, of several packets at once, every packet comes whole, once.
    #[test]
    fn any_order_is_put_together(
        lens in prop::collection::vec(1473usize..9000, 1..8),
        v6 in any::<bool>(),
        mtu in 600usize..1500,
        seed in any::<u64>(),
    ) {
        let guest = if v6 { Guest::V6 } else { Guest::V4 };
        let pool = pool();
        let mut uppers = Vec::new();
        let mut all = Vec::new();
        for (number, len) in lens.iter().enumerate() {
            let (upper, frames) = fragments(&guest, *len, mtu, number as u32, &pool);
            uppers.push(upper);
            all.extend(frames);
        }
        let mut state = seed | 1;
        for index in (1..all.len()).rev() {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            all.swap(index, (state >> 33) as usize % (index + 1));
        }
        let mut kept = Fragments::new();
        let mut whole = take_all(&mut kept, &all);
        whole.sort_by_key(|whole| whole.packet().upper.to_vec());
        uppers.sort();
        prop_assert_eq!(whole.len(), uppers.len());
        for (whole, upper) in whole.iter().zip(&uppers) {
            prop_assert_eq!(whole.packet().upper, &upper[..]);
        }
        prop_assert!(kept.guests[usize::from(INGRESS)].is_empty());
    }

    /// Whatever comes, what is kept stays within bounds, each fragment is accounted for, and a packet that comes whole
    /// has none of the octets of an overlap.
    #[test]
    fn hostile_fragments_are_bounded(
        steps in prop::collection::vec((0u16..20, 0u16..8190, any::<bool>(), 1usize..200, 0u64..2), 1..200),
    ) {
        let pool = pool();
        let mut kept = Fragments::new();
        let mut now = NOW;
        let (mut taken, mut gone) = (0, 0);
        for (number, place, more, units, seconds) in steps {
            let mut packet = vec![0; 20 + 8 * units];
            Ipv4Repr {
                traffic_class: 0, identification: number, dont_fragment: false, more_fragments: more,
                fragment_offset: 8 * (place % 64), ttl: 9, protocol: IpProtocol::UDP, source: [10, 213, 5, 16].into(),
                destination: [203, 0, 113, 7].into(), options: &[], payload_len: 8 * units,
            }.emit(&mut packet);
            let parsed = Packet { mac: GUEST_MAC, ingress: INGRESS, ..Packet::parse_ip(&packet).unwrap() };
            if parsed.fragment.is_none() { continue }
            taken += 1;
            gone += match kept.take(&parsed, now) {
                Assembly::Waiting { given_up } => given_up,
                Assembly::Whole { fragments, .. } | Assembly::Dropped { fragments, .. } => fragments,
            };
            now = now + Duration::from_secs(seconds);
            gone += kept.expire(now);
            let partials = &kept.guests[usize::from(INGRESS)];
            prop_assert!(partials.len() <= PACKETS);
            prop_assert!(partials.iter().map(|partial| partial.payload.len()).sum::<usize>() <= 1 << 20);
        }
        gone += kept.expire(now + LIFETIME);
        prop_assert_eq!(taken, gone);
        prop_assert_eq!(pool.out(), 0);
    }
}
