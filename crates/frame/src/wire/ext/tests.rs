use super::*;

/// A packet from :: to :: with that payload.
fn packet(next_header: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let unspecified = std::net::Ipv6Addr::UNSPECIFIED;
    let repr = Ipv6Repr {
        traffic_class: 0,
        flow_label: 0,
        payload_len: payload.len() as u16,
        next_header,
        hop_limit: 64,
        source: unspecified,
        destination: unspecified,
    };
    let mut octets = vec![0; 40];
    repr.emit(&mut octets);
    octets.extend_from_slice(payload);
    octets
}

fn walk(next_header: IpProtocol, payload: &[u8]) -> ExtensionHeaders {
    Ipv6Packet::new_checked(packet(next_header, payload)).unwrap().extension_headers()
}

fn undecidable(next_header: IpProtocol, payload: &[u8]) -> Undecidable {
    match walk(next_header, payload).upper {
        Upper::Undecidable(reason) => reason,
        other => panic!("decided: {other:?}"),
    }
}

/// An options header of `8 + 8 * more` octets.
fn options(next: IpProtocol, more: u8) -> Vec<u8> {
    let mut octets = vec![0; 8 + 8 * usize::from(more)];
    octets[0] = next.0;
    octets[1] = more;
    octets
}

#[test]
fn none() {
    let headers = walk(IpProtocol::TCP, &[1, 2, 3]);

    assert_eq!(headers.upper, Upper::Header { protocol: IpProtocol::TCP, offset: 40 });
    assert_eq!((headers.fragment, headers.count), (None, 0));
}

#[test]
fn every_kind_in_the_order_of_rfc_8200() {
    let chain = [
        // Hop-by-hop with a router alert (RFC 2711) and padding.
        &[60, 0, 5, 2, 0, 0, 1, 0][..],
        &options(IpProtocol::ROUTING, 1),
        &[44, 2, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        &[51, 0, 0, 1, 0xde, 0xad, 0xbe, 0xef],
        // AH: length 4 is 24 octets.
        &[60, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9],
        &options(IpProtocol::MOBILITY, 0),
        &options(IpProtocol::UDP, 0),
        &[0; 8],
    ]
    .concat();

    let headers = walk(IpProtocol::HOP_BY_HOP, &chain);

    assert_eq!(
        headers.upper,
        Upper::Header { protocol: IpProtocol::UDP, offset: 40 + 8 + 16 + 24 + 8 + 24 + 8 + 8 }
    );
    assert_eq!(headers.fragment, Some(Fragment { offset: 0, more: true, identification: 0xdead_beef }));
    assert_eq!(headers.count, 7);
}

#[test]
fn later_fragment_stops_the_walk() {
    // The payload would parse as destination options, but it is the middle of a packet.
    let payload = [&[60, 0xff, 0x05, 0xa9, 0, 0, 0, 7][..], &options(IpProtocol::TCP, 0)].concat();

    let headers = walk(IpProtocol::FRAGMENT, &payload);

    assert_eq!(headers.fragment, Some(Fragment { offset: 1448, more: true, identification: 7 }));
    assert_eq!(headers.upper, Upper::LaterFragment { protocol: IpProtocol::DESTINATION_OPTIONS, offset: 48 });
}

#[test]
fn nothing_follows() {
    assert_eq!(walk(IpProtocol::NO_NEXT_HEADER, &[1, 2]).upper, Upper::Absent);
    assert_eq!(
        walk(IpProtocol::DESTINATION_OPTIONS, &options(IpProtocol::NO_NEXT_HEADER, 0)).upper,
        Upper::Absent
    );
}

#[test]
fn esp_is_the_upper_layer() {
    assert_eq!(
        walk(IpProtocol::ESP, &[0; 16]).upper,
        Upper::Header { protocol: IpProtocol::ESP, offset: 40 }
    );
}

#[test]
fn cut_off() {
    assert_eq!(undecidable(IpProtocol::ROUTING, &[]), Undecidable::Truncated);
    assert_eq!(undecidable(IpProtocol::ROUTING, &[6]), Undecidable::Truncated);
    assert_eq!(undecidable(IpProtocol::ROUTING, &[6, 0, 0, 0, 0, 0, 0]), Undecidable::Truncated);
    assert_eq!(undecidable(IpProtocol::FRAGMENT, &[6, 0, 0, 0, 0, 0, 0]), Undecidable::Truncated);
    assert_eq!(undecidable(IpProtocol::AUTHENTICATION, &[6, 1, 0, 0, 0, 0, 0, 0]), Undecidable::Truncated);
    // The first fragment ends within the chain.
    let chain = [&[60, 0, 0, 1, 0, 0, 0, 1][..], &[58, 1, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(undecidable(IpProtocol::FRAGMENT, &chain), Undecidable::Truncated);
}

#[test]
fn padding_of_the_frame_is_not_followed() {
    let mut octets = packet(IpProtocol::DESTINATION_OPTIONS, &[]);
    octets.extend(options(IpProtocol::TCP, 0));
    let headers = Ipv6Packet::new_checked(octets).unwrap().extension_headers();
    assert_eq!(headers.upper, Upper::Undecidable(Undecidable::Truncated));
}

#[test]
fn too_many() {
    let mut eight = options(IpProtocol::DESTINATION_OPTIONS, 0).repeat(7);
    eight.extend(options(IpProtocol::TCP, 0));
    let headers = walk(IpProtocol::DESTINATION_OPTIONS, &eight);
    assert_eq!(headers.upper, Upper::Header { protocol: IpProtocol::TCP, offset: 40 + 64 });

    let nine = [options(IpProtocol::DESTINATION_OPTIONS, 0), eight].concat();
    assert_eq!(undecidable(IpProtocol::DESTINATION_OPTIONS, &nine), Undecidable::TooMany);
}

#[test]
fn too_long() {
    let most = options(IpProtocol::TCP, 63);
    let headers = walk(IpProtocol::DESTINATION_OPTIONS, &most);
    assert_eq!(headers.upper, Upper::Header { protocol: IpProtocol::TCP, offset: 40 + 512 });

    assert_eq!(
        undecidable(IpProtocol::DESTINATION_OPTIONS, &options(IpProtocol::TCP, 64)),
        Undecidable::TooLong
    );
}

#[test]
fn hop_by_hop_in_the_middle() {
    let chain = [options(IpProtocol::HOP_BY_HOP, 0), options(IpProtocol::TCP, 0)].concat();
    assert_eq!(undecidable(IpProtocol::DESTINATION_OPTIONS, &chain), Undecidable::Misplaced);
    assert_eq!(undecidable(IpProtocol::HOP_BY_HOP, &chain), Undecidable::Misplaced);
}

#[test]
fn fragment_of_a_fragment() {
    let chain = [[44, 0, 0, 0, 0, 0, 0, 1], [58, 0, 0, 0, 0, 0, 0, 2]].concat();
    assert_eq!(undecidable(IpProtocol::FRAGMENT, &chain), Undecidable::Repeated);
}
