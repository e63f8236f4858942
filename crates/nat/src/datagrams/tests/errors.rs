//! Errors that guests are told of.

use super::*;

#[test]
fn case_34_the_last_hop_is_the_gateway() {
    let mut world = world();
    for (guest, server, gateway, message) in
        [(Guest::V4, SERVER, GATEWAY4, (11, 0)), (Guest::V6, SERVER6, GATEWAY6, (3, 0))]
    {
        let guest = Guest { hop_limit: 1, ..guest };
        let frames = [
            guest.udp(&world.pool, 4000, server, b"probe"),
            guest.echo(&world.pool, 7, 1, &server.parse::<SocketAddr>().unwrap().ip().to_string(), b"probe"),
        ];
        for frame in &frames {
            let (from, kind, code, quoted) = told(&world.take(frame)[0]);
            assert_eq!((from, (kind, code)), (gateway, message));
            assert_eq!(quoted, frame.octets()[14..]);
        }
    }
    assert_eq!((world.dropped(Drop::HopLimit), world.sockets.opened), (4, 0));
}

#[test]
fn case_34_a_router_on_the_way_is_named() {
    let mut world = world();
    let exceeded4 = Origin::Icmpv4 { kind: 11, code: 0, mtu: 0 };
    let exceeded6 = Origin::Icmpv6 { kind: 3, code: 0, mtu: 0 };
    for (guest, server, router, origin, expected) in [
        (Guest::V4, SERVER, "192.0.2.1", exceeded4, (11, 0)),
        (Guest::V6, SERVER6, "2001:db8:1::1", exceeded6, (3, 0)),
    ] {
        let guest = Guest { hop_limit: 2, ..guest };
        let frame = guest.udp(&world.pool, 4000, server, b"probe");
        world.take(&frame);
        let slot = world.sockets.sent.last().unwrap().slot;
        let frames = world.fail(slot, queued(origin, router, server), b"probe");
        let (from, kind, code, quoted) = told(&frames[0]);
        assert_eq!((from, (kind, code)), (ip(router), expected));
        // All from the addresses on; the hop limit is that of the end of the way.
        let addresses = if server == SERVER { 12 } else { 8 };
        assert_eq!(quoted[addresses..], frame.octets()[14 + addresses..]);
    }
}

#[test]
fn case_34_echo_is_quoted_with_the_guests_identifier() {
    let mut world = world();
    let frame = Guest::V4.echo(&world.pool, 77, 3, "203.0.113.7", b"probe");
    world.take(&frame);
    let mut message = frame.octets()[34..].to_vec();
    // The host's socket has an identifier of its own.
    EchoRepr { reply: false, identifier: 9999, sequence: 3 }.emit_v4(&mut message);
    let origin = Origin::Icmpv4 { kind: 11, code: 0, mtu: 0 };
    let frames = world.fail(0, queued(origin, "192.0.2.1", "203.0.113.7:0"), &message);
    let (from, kind, _, quoted) = told(&frames[0]);
    assert_eq!((from, kind), (ip("192.0.2.1"), 11));
    assert_eq!(quoted[20..], frame.octets()[34..]);
}

#[test]
fn case_31_closed_ports_are_told_and_every_datagram_is_sent() {
    let mut world = world();
    let origin = Origin::Icmpv4 { kind: 3, code: 3, mtu: 0 };
    let mut answers = Vec::new();
    for port in [9, 10, 11] {
        let to = format!("203.0.113.7:{port}");
        // The error of the datagram before fails the call, which sends nothing then.
        if let Some(socket) = world.sockets.open.get_mut(&0) {
            let before = format!("203.0.113.7:{}", port - 1);
            socket.errors.push_back((queued(origin, "203.0.113.7", &before), Vec::new()));
            socket.fails.push_back(SendError::Other);
        }
        answers.extend(world.take(&Guest::V4.udp(&world.pool, 4000, &to, b"hello")));
    }
    answers.extend(world.fail(0, queued(origin, "203.0.113.7", "203.0.113.7:11"), b""));
    assert_eq!(world.sockets.sent.len(), 3);
    let ports = Vec::from_iter(answers.iter().map(|frame| {
        let (from, kind, code, quoted) = told(frame);
        assert_eq!((from, kind, code), (ip("203.0.113.7"), 3, 3));
        u16::from_be_bytes([quoted[22], quoted[23]])
    }));
    assert_eq!(ports, [9, 10, 11]);
}

#[test]
fn case_35_a_path_of_1400_is_told() {
    let mut world = world();
    let guest = Guest { dont_fragment: true, ..Guest::V4 };
    let big = guest.udp(&world.pool, 4000, SERVER, &[7; 1472]);
    assert!(world.take(&big).is_empty());
    let origin = Origin::Icmpv4 { kind: 3, code: 4, mtu: 1400 };
    let frames = world.fail(0, queued(origin, "192.0.2.1", SERVER), &[7; 500]);
    let packet = Packet::parse(&frames[0]).unwrap();
    assert_eq!(packet.upper[..8][..2], [3, 4]);
    assert_eq!(packet.upper[6..8], 1400u16.to_be_bytes());

    // From now on the host knows.
    let socket = world.sockets.open.get_mut(&0).unwrap();
    let local = queued(Origin::Local { mtu: 1400 }, "127.0.0.1", "203.0.113.7:0");
    socket.errors.push_back((local, Vec::new()));
    socket.fails.push_back(SendError::TooLarge);
    let frames = world.take(&big);
    let (from, kind, code, quoted) = told(&frames[0]);
    assert_eq!((from, kind, code, &quoted[..]), (GATEWAY4, 3, 4, &big.octets()[14..][..quoted.len()]));
    assert!(world.take(&guest.udp(&world.pool, 4000, SERVER, &[7; 1372])).is_empty());
    assert_eq!((world.sockets.sent.len(), world.dropped(Drop::TooBig)), (2, 1));
}

#[test]
fn case_35_a_path_is_wider_by_20_octets_for_guests_without_ipv4() {
    let mut world = world();
    let server = "[64:ff9b::203.0.113.7]:7000";
    world.take(&Guest::V6.udp(&world.pool, 4000, server, &[7; 1400]));
    assert_eq!(world.sockets.sent[0].to, SERVER.parse().unwrap());
    let origin = Origin::Icmpv4 { kind: 3, code: 4, mtu: 1400 };
    let frames = world.fail(0, queued(origin, "192.0.2.1", SERVER), &[7; 500]);
    let packet = Packet::parse(&frames[0]).unwrap();
    assert_eq!((packet.source(), packet.upper[0]), (ip("64:ff9b::192.0.2.1"), 2));
    assert_eq!(packet.upper[4..8], 1420u32.to_be_bytes());
    let frames = world.come(0, SERVER, b"hi", None);
    assert_eq!(udp(&frames[0], &world).0, "[64:ff9b::cb00:7107]:7000");
}

#[test]
fn errors_are_told_only_of_what_the_guest_sent_and_not_too_often() {
    let mut world = world();
    world.take(&Guest::V4.udp(&world.pool, 4000, SERVER, b"hello"));
    let origin = Origin::Icmpv4 { kind: 3, code: 1, mtu: 0 };
    assert!(world.fail(0, queued(origin, "192.0.2.1", "203.0.113.8:7000"), b"").is_empty());
    let told = (0..1000).filter(|_| !world.fail(0, queued(origin, "192.0.2.1", SERVER), b"").is_empty());
    assert_eq!(told.count(), 100);
    // Errors of the host's own addresses are the gateway's.
    world.pass(1);
    let frames = world.fail(0, queued(origin, "127.0.0.1", SERVER), b"");
    assert_eq!(self::told(&frames[0]).0, GATEWAY4);
}

#[test]
fn refusals_name_their_reason() {
    let mut world = world();
    world.reach.set_host_addresses([ip("192.168.1.10")]);
    let sctp = Guest::V4.packet(&world.pool, IpProtocol::SCTP, "203.0.113.7", &[0; 16]);
    let igmp = Guest::V4.packet(&world.pool, IpProtocol::IGMP, "224.0.0.22", &[0; 16]);
    let cases = [
        (Guest::V4.udp(&world.pool, 1, "192.168.1.10:9", b""), Drop::EgressDenied, Some((3, 13))),
        (Guest::V4.udp(&world.pool, 1, "127.0.0.1:9", b""), Drop::EgressDenied, Some((3, 13))),
        (Guest::V6.udp(&world.pool, 1, "[fe80::7]:9", b""), Drop::EgressDenied, Some((1, 1))),
        (Guest::V4.udp(&world.pool, 1, "10.213.5.1:9", b""), Drop::Closed, Some((3, 3))),
        (Guest::V4.udp(&world.pool, 1, "10.213.5.2:9", b""), Drop::Closed, Some((3, 3))),
        (Guest::V4.udp(&world.pool, 1, "224.0.0.251:5353", b""), Drop::NotForwarded, None),
        (Guest::V4.udp(&world.pool, 1, "10.213.5.255:9", b""), Drop::NotForwarded, None),
        (Guest::V4.udp(&world.pool, 0, SERVER, b""), Drop::BadHeader, None),
        (Guest::V4.echo(&world.pool, 1, 1, "192.168.1.10", b""), Drop::EgressDenied, Some((3, 13))),
        (sctp, Drop::BadProtocol, Some((3, 2))),
        (igmp, Drop::NotForwarded, None),
    ];
    for (frame, reason, message) in &cases {
        let before = world.dropped(*reason);
        let frames = world.take(frame);
        let message = message.as_ref().copied();
        assert_eq!(frames.first().map(|frame| (told(frame).1, told(frame).2)), message, "{frame:?}");
        assert_eq!(world.dropped(*reason), before + 1, "{reason:?} {frame:?}");
    }
    assert!(world.sockets.opened == 0 && world.balances());
    let denied = Denied {
        ingress: Guest::V4.ingress,
        to: "192.168.1.10:0".parse().unwrap(),
        protocol: IpProtocol::ICMP,
    };
    assert_eq!((world.datagrams.take_denied(), world.datagrams.take_denied()), (Some(denied), None));
    world.reach.set_deny_silently(true);
    let before = world.dropped(Drop::EgressDenied);
    assert!(world.take(&Guest::V4.udp(&world.pool, 1, "127.0.0.1:9", b"")).is_empty());
    assert!(world.take(&Guest::V4.echo(&world.pool, 1, 1, "192.168.1.10", b"")).is_empty());
    assert_eq!(world.dropped(Drop::EgressDenied), before + 2);
}

#[test]
fn failed_sends_are_told() {
    let mut world = world();
    for (failed, message) in [
        (SendError::Network, Some((3, 0))),
        (SendError::Host, Some((3, 1))),
        (SendError::Prohibited, Some((3, 13))),
        (SendError::Full, None),
        (SendError::Other, None),
    ] {
        world.take(&Guest::V4.udp(&world.pool, 4000, SERVER, b"hello"));
        // Others may be an earlier datagram's, so they are tried twice.
        world.sockets.open.get_mut(&0).unwrap().fails.extend([failed, SendError::Other]);
        let frames = world.take(&Guest::V4.udp(&world.pool, 4000, SERVER, b"hello"));
        assert_eq!(frames.first().map(|frame| (told(frame).1, told(frame).2)), message, "{failed:?}");
        world.sockets.open.get_mut(&0).unwrap().fails.clear();
    }
    assert!(world.balances());
}
