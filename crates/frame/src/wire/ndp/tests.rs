use super::*;

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);

/// fe80::5054:ff:fe00:1 asks the solicited-node group of fe80::2 for its address.
const SOLICITATION: [u8; 32] = [
    0x87, 0x00, 0xda, 0xee, 0, 0, 0, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 1, 0x52,
    0x54, 0, 0, 0, 1,
];

fn solicitation_addresses() -> Addresses {
    Addresses::V6 {
        source: "fe80::5054:ff:fe00:1".parse().unwrap(),
        destination: "ff02::1:ff00:2".parse().unwrap(),
    }
}

fn solicitation() -> NeighborSolicitRepr {
    NeighborSolicitRepr { target: "fe80::2".parse().unwrap(), source_link_layer: Some(MAC) }
}

#[test]
fn parse_solicitation() {
    let packet = Icmpv6Packet::new_checked(&SOLICITATION).unwrap();
    assert!(packet.verify_checksum(&solicitation_addresses()));

    let message = packet.ndp().unwrap();
    assert_eq!(NeighborSolicitRepr::parse(&message), Some(solicitation()));
    assert_eq!(NeighborAdvertRepr::parse(&message), None);
    let option = NdpOption { kind: 1, offset: 26, data: &MAC.0 };
    assert_eq!(message.options().collect::<Vec<_>>(), [Ok(option)]);
    assert_eq!(&SOLICITATION[option.offset..option.offset + 6], option.data);
}

#[test]
fn emit_solicitation() {
    let mut octets = vec![0xff; solicitation().message_len()];
    solicitation().emit(&mut octets, &solicitation_addresses());
    assert_eq!(octets, SOLICITATION);

    let probe = NeighborSolicitRepr { source_link_layer: None, ..solicitation() };
    let mut octets = vec![0xff; probe.message_len()];
    probe.emit(&mut octets, &solicitation_addresses());
    assert_eq!(octets.len(), 24);
    assert_eq!(NeighborSolicitRepr::parse(&NdpMessage::new_checked(&octets).unwrap()), Some(probe));
}

#[test]
fn advertisement_round_trip() {
    for bits in 0..8 {
        let advert = NeighborAdvertRepr {
            router: bits & 1 != 0,
            solicited: bits & 2 != 0,
            replaces: bits & 4 != 0,
            target: "2001:db8::7".parse().unwrap(),
            target_link_layer: Some(MAC),
        };
        let mut octets = vec![0xff; advert.message_len()];
        advert.emit(&mut octets, &solicitation_addresses());

        assert!(Icmpv6Packet::new_checked(&octets).unwrap().verify_checksum(&solicitation_addresses()));
        let message = NdpMessage::new_checked(&octets).unwrap();
        assert_eq!(NeighborAdvertRepr::parse(&message), Some(advert));
        assert_eq!(NeighborSolicitRepr::parse(&message), None);
    }
}

#[test]
fn router_advertisement() {
    // Hop limit 64, M and O clear, lifetime 1800; MTU 1500; a prefix of 32 octets.
    let mut octets = vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    octets.extend([5, 1, 0, 0, 0, 0, 5, 0xdc]);
    octets.extend([3, 4, 64, 0xc0]);
    octets.extend([0; 28]);
    let message = NdpMessage::new_checked(&octets).unwrap();

    let options: Vec<_> =
        message.options().map(|option| option.map(|o| (o.kind, o.offset, o.data.len()))).collect();
    assert_eq!(options, [Ok((NdpOption::MTU, 18, 6)), Ok((NdpOption::PREFIX, 26, 30))]);
    assert_eq!((message.target(), message.redirected()), (None, None));
    assert!(!message.is_router(), "the octet is the hop limit here");
}

#[test]
fn redirect() {
    let mut octets = [0; 40];
    octets[0] = 137;
    octets[23] = 1;
    octets[39] = 2;
    let message = NdpMessage::new_checked(&octets).unwrap();

    assert_eq!(message.target(), Some("::1".parse().unwrap()));
    assert_eq!(message.redirected(), Some("::2".parse().unwrap()));
    assert_eq!(message.options().next(), None);
}

#[test]
fn option_of_length_zero_ends_the_walk() {
    let mut octets = vec![133, 0, 0, 0, 0, 0, 0, 0];
    octets.extend([1, 1, 2, 0, 0, 0, 0, 1]);
    octets.extend([1, 0, 9, 9, 9, 9, 9, 9]);
    octets.extend([1, 1, 2, 0, 0, 0, 0, 3]);

    let options: Vec<_> =
        NdpMessage::new_checked(&octets).unwrap().options().map(|o| o.map(|o| o.offset)).collect();
    assert_eq!(options, [Ok(10), Err(Malformed::Length)]);
}

#[test]
fn option_that_reaches_beyond_the_message() {
    let endings: [&[u8]; 3] = [&[1], &[1, 1, 0, 0, 0, 0, 0], &[1, 2, 0, 0, 0, 0, 0, 0]];
    for ending in endings {
        let octets = [&[133, 0, 0, 0, 0, 0, 0, 0], ending].concat();
        let message = NdpMessage::new_checked(&octets).unwrap();
        assert_eq!(message.options().collect::<Vec<_>>(), [Err(Malformed::Length)], "{ending:?}");
    }
}

#[test]
fn link_layer_address_must_be_a_mac() {
    let long = NdpOption { kind: 1, offset: 0, data: &[0; 14] };
    let other = NdpOption { kind: 5, offset: 0, data: &[0; 6] };
    assert_eq!((long.link_layer_address(), other.link_layer_address()), (None, None));
}

#[test]
fn fixed_parts() {
    for (message_type, len) in [(133, 8), (134, 16), (135, 24), (136, 24), (137, 40)] {
        let mut octets = vec![0; len];
        octets[0] = message_type;
        assert!(NdpMessage::new_checked(&octets).is_ok());
        assert_eq!(NdpMessage::new_checked(&octets[..len - 1]).unwrap_err(), Malformed::Truncated);
    }
    assert_eq!(NdpMessage::new_checked([128; 40]).unwrap_err(), Malformed::Format);
    assert_eq!(NdpMessage::new_checked([]).unwrap_err(), Malformed::Truncated);
}
