use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use vmlan_frame::checksum::Addresses;
use vmlan_frame::wire::{EchoRepr, Icmpv4Packet, Icmpv6Packet, IpProtocol, UdpDatagram};
use vmlan_frame::{Batch, Frame, Offload, offload};

use super::fake::{World, settings};
use super::*;
use crate::Envelope;
use crate::reach::{Service, Target};
use crate::testing::{GATEWAY_MAC, GATEWAY4, GATEWAY6, GUEST_MAC, Guest};

const SERVER: &str = "203.0.113.7:7000";
const SERVER6: &str = "[2001:db8::7]:7000";

fn world() -> World {
    World::new(settings())
}

/// A guest's frame as (from, to, payload), finished and checked.
fn udp(frame: &Frame, world: &World) -> (String, String, Vec<u8>) {
    let mut octets = frame.octets().to_vec();
    offload::finish_checksum(&mut octets, &frame.meta.offload);
    let frame = world.pool.copy(&octets).expect("a buffer");
    let packet = Packet::parse(&frame).expect("a good packet");
    let datagram = UdpDatagram::new_checked(packet.upper).expect("a good datagram");
    assert!(datagram.verify_checksum(&packet.addresses));
    let side = |address: IpAddr, port| SocketAddr::new(address, port).to_string();
    (
        side(packet.source(), datagram.source_port()),
        side(packet.destination(), datagram.destination_port()),
        datagram.payload().to_vec(),
    )
}

/// The sender, type and code of an error, and the packet that it quotes.
fn told(frame: &Frame) -> (IpAddr, u8, u8, Vec<u8>) {
    let packet = Packet::parse(frame).expect("a good packet");
    match packet.addresses {
        Addresses::V4 { .. } => assert!(Icmpv4Packet::new_checked(packet.upper).unwrap().verify_checksum()),
        addresses @ Addresses::V6 { .. } => {
            assert!(Icmpv6Packet::new_checked(packet.upper).unwrap().verify_checksum(&addresses));
        }
    }
    (packet.source(), packet.upper[0], packet.upper[1], packet.upper[8..].to_vec())
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn case_30_one_port_to_twenty_peers_is_one_socket() {
    let mut world = world();
    for peer in 1..=20 {
        let frame = Guest::V4.udp(&world.pool, 4000, &format!("203.0.113.{peer}:7000"), b"hello");
        assert!(world.take(&frame).is_empty());
    }
    assert_eq!((world.sockets.opened, world.sockets.sent.len()), (1, 20));
    let slot = world.sockets.sent[0].slot;

    let frames = world.come(slot, "203.0.113.9:7001", b"another port of a peer", None);
    let (from, to, payload) = udp(&frames[0], &world);
    assert_eq!(
        (&from[..], &to[..], &payload[..]),
        ("203.0.113.9:7001", "10.213.5.16:4000", &b"another port of a peer"[..])
    );
    assert!(world.come(slot, "198.51.100.1:7000", b"a stranger", None).is_empty());
    assert_eq!(world.dropped(Drop::Stranger), 1);
    assert!(world.balances());
}

#[test]
fn case_30_an_open_filter_lets_strangers_in() {
    let mut world = World::new(Settings { open_filter: true, ..settings() });
    world.take(&Guest::V4.udp(&world.pool, 4000, SERVER, b"hello"));
    let frames = world.come(0, "198.51.100.1:7000", b"a stranger", None);
    assert_eq!(udp(&frames[0], &world).0, "198.51.100.1:7000");
    assert!(world.come(0, "169.254.1.1:7000", b"never", None).is_empty());
    world.reach.set_egress(crate::reach::Egress::None);
    assert!(world.come(0, "198.51.100.1:7000", b"a stranger", None).is_empty());
}

#[test]
fn case_18_two_guests_with_one_port_are_two_sockets() {
    let mut world = world();
    let other = Guest { address: ip("10.213.5.17"), ingress: 4, ..Guest::V4 };
    for guest in [Guest::V4, other] {
        world.take(&guest.udp(&world.pool, 40_000, SERVER, b"hello"));
    }
    assert_eq!(world.sockets.open.len(), 2);
    let slot = world.sockets.sent[1].slot;
    let frames = world.come(slot, SERVER, b"hi", None);
    assert_eq!(udp(&frames[0], &world).1, "10.213.5.17:40000");
}

#[test]
fn an_address_that_moved_gets_nothing_of_its_former_guest() {
    let mut world = world();
    world.take(&Guest::V4.udp(&world.pool, 4000, SERVER, b"one"));
    let moved = Guest { ingress: 9, ..Guest::V4 };
    world.take(&moved.udp(&world.pool, 4000, "203.0.113.8:7000", b"two"));
    assert_eq!((world.sockets.opened, world.sockets.open.len()), (2, 1));
    assert!(world.come(0, SERVER, b"for the former", None).is_empty());
}

#[test]
fn headers_of_a_datagram_go_with_it() {
    let mut world = world();
    let guest = Guest { hop_limit: 9, dont_fragment: true, ..Guest::V4 };
    world.take(&guest.udp(&world.pool, 4000, SERVER, b"hello"));
    let control = Control { hop_limit: 8, class: 0, dont_fragment: true, segment: None };
    assert_eq!((world.sockets.sent[0].control, world.sockets.sent[0].to), (control, SERVER.parse().unwrap()));
    let mut octets = Guest::V4.udp(&world.pool, 4000, SERVER, b"hello").octets().to_vec();
    octets[15] = 0xbb;
    vmlan_frame::wire::Ipv4Packet::new_checked(&mut octets[14..]).unwrap().fill_checksum();
    let mut frame = world.pool.copy(&octets).unwrap();
    frame.meta.ingress = 3;
    world.take(&frame);
    assert_eq!(world.sockets.sent[1].control.class, 0xb8);
}

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

fn queued(origin: Origin, offender: &str, destination: &str) -> QueuedError {
    QueuedError {
        origin,
        offender: Some(ip(offender)),
        destination: destination.parse().expect("an address and a port"),
        len: 0,
    }
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
    let mut silent = World::new(Settings { deny_silently: true, ..settings() });
    assert!(silent.take(&Guest::V4.udp(&silent.pool, 1, "127.0.0.1:9", b"")).is_empty());
}

#[test]
fn checksums_are_verified_unless_they_are_open() {
    let mut world = world();
    for (guest, server, none) in [(Guest::V4, SERVER, 1), (Guest::V6, SERVER6, 0)] {
        let udp = if guest == Guest::V4 { 34 } else { 54 };
        let mut frame = guest.udp(&world.pool, 4000, server, b"hello");
        let sent = world.sockets.sent.len();
        frame.make_mut(&world.pool).unwrap()[udp + 8] ^= 1;
        world.take(&frame);
        assert_eq!(world.sockets.sent.len(), sent, "wrong");
        frame.make_mut(&world.pool).unwrap()[udp + 6..udp + 8].fill(0);
        world.take(&frame);
        assert_eq!(world.sockets.sent.len(), sent + none, "none");
        frame.meta.offload = Offload {
            flags: Offload::NEEDS_CHECKSUM,
            checksum_start: udp as u16,
            checksum_offset: 6,
            ..Offload::NONE
        };
        world.take(&frame);
        assert_eq!(world.sockets.sent.len(), sent + none + 1, "to be finished");
    }
    assert_eq!(world.dropped(Drop::BadChecksum), 3);
}

#[test]
fn a_checksum_within_a_tunnel_is_finished() {
    let mut world = world();
    let mut frame = Guest::V4.udp(&world.pool, 4000, SERVER, &[1, 2, 0, 0, 5, 6]);
    frame.meta.offload =
        Offload { flags: Offload::NEEDS_CHECKSUM, checksum_start: 42, checksum_offset: 2, ..Offload::NONE };
    world.take(&frame);
    let [high, low] = (!0x0608u16).to_be_bytes();
    assert_eq!(world.sockets.sent[0].payload, [1, 2, high, low, 5, 6]);
}

#[test]
fn case_37_a_mapping_lives_for_300_seconds() {
    let mut world = world();
    let hello = |world: &mut World| world.take(&Guest::V4.udp(&world.pool, 4000, SERVER, b"hello"));
    hello(&mut world);
    world.come(0, SERVER, b"hi", None);
    world.pass(299);
    assert_eq!(world.sockets.open.len(), 1);
    hello(&mut world);
    assert_eq!(world.sockets.opened, 1, "the same port");
    assert_eq!(world.datagrams.next_deadline(), Some(world.now + std::time::Duration::from_secs(300)));
    world.pass(301);
    assert_eq!((world.sockets.open.len(), world.datagrams.next_deadline()), (0, None));
}

#[test]
fn case_37_without_answers_it_lives_shorter() {
    for (server, seconds) in [("203.0.113.7:53", 30), (SERVER, 120)] {
        let mut world = world();
        world.take(&Guest::V4.udp(&world.pool, 4000, server, b"hello"));
        world.pass(seconds - 1);
        assert_eq!(world.sockets.open.len(), 1);
        world.pass(1);
        assert_eq!(world.sockets.open.len(), 0, "{server}");
    }
}

#[test]
fn a_full_guest_gives_up_its_oldest_unanswered_flow() {
    let mut world = World::new(Settings { udp_per_guest: 3, ..settings() });
    for port in [1, 2, 3] {
        world.take(&Guest::V4.udp(&world.pool, port, SERVER, b"hello"));
    }
    world.come(0, SERVER, b"answered", None);
    world.take(&Guest::V4.udp(&world.pool, 2, SERVER, b"again"));
    world.take(&Guest::V4.udp(&world.pool, 4, SERVER, b"hello"));
    let ports = Vec::from_iter(world.datagrams.flows().map(|flow| flow.guest.port()));
    assert_eq!(ports, [1, 2, 4]);
    world.come(1, SERVER, b"answered", None);
    world.come(2, SERVER, b"answered", None);
    world.take(&Guest::V4.udp(&world.pool, 5, SERVER, b"hello"));
    assert_eq!((world.dropped(Drop::FlowLimit), world.sockets.open.len()), (1, 3));
    let other = Guest { address: ip("10.213.5.17"), ingress: 4, ..Guest::V4 };
    world.take(&other.udp(&world.pool, 5, SERVER, b"hello"));
    assert_eq!(world.sockets.open.len(), 4);
}

#[test]
fn no_guest_has_more_than_half_of_what_is_left() {
    let mut world = World::new(Settings { flows: 100, ..settings() });
    let other = Guest { address: ip("10.213.5.17"), ingress: 4, ..Guest::V4 };
    for guest in [Guest::V4, other] {
        for port in 1..=100 {
            world.take(&guest.udp(&world.pool, port, SERVER, b"hello"));
        }
    }
    let of = |ingress| world.datagrams.flows().filter(|flow| flow.ingress == ingress).count();
    assert_eq!((of(Guest::V4.ingress), of(4)), (50, 25));
}

#[test]
fn flows_begin_at_most_500_times_a_second() {
    let mut world = world();
    for port in 1..=1000 {
        world.take(&Guest::V4.udp(&world.pool, port, SERVER, b"hello"));
    }
    assert_eq!((world.sockets.opened, world.dropped(Drop::FlowLimit)), (500, 500));
    world.pass(1);
    world.take(&Guest::V4.udp(&world.pool, 1001, SERVER, b"hello"));
    assert_eq!(world.sockets.opened, 501);
}

#[test]
fn hosts_without_sockets_drop() {
    for (refused, of_udp, of_echo) in [
        (OpenError::Limit, Drop::NoSocket, Drop::NoSocket),
        (OpenError::Unavailable, Drop::Unreachable, Drop::EchoUnavailable),
    ] {
        let mut world = world();
        world.sockets.refuses = Some(refused);
        world.take(&Guest::V4.udp(&world.pool, 4000, SERVER, b"hello"));
        assert_eq!(world.dropped(of_udp), 1);
        world.take(&Guest::V4.echo(&world.pool, 1, 1, "203.0.113.7", b"hello"));
        assert!(world.dropped(of_echo) >= 1 && world.datagrams.flows().count() == 0 && world.balances());
    }
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

#[test]
fn runs_of_datagrams_leave_in_one_call() {
    let mut world = world();
    let mut frame = Guest::V4.udp(&world.pool, 4000, SERVER, &[7; 3000]);
    frame.meta.offload = Offload {
        flags: Offload::NEEDS_CHECKSUM,
        gso_type: Offload::UDP,
        header_len: 42,
        gso_size: 1200,
        checksum_start: 34,
        checksum_offset: 6,
    };
    assert_eq!(offload::validate(frame.octets(), frame.meta.offload), Ok(frame.meta.offload));
    world.take(&frame);
    frame.meta.offload.gso_type = Offload::TCPV4;
    world.take(&frame);
    let sent = &world.sockets.sent;
    assert_eq!((sent.len(), sent[0].control.segment, sent[0].payload.len()), (1, Some(1200), 3000));
}

#[test]
fn case_38_runs_that_come_are_one_frame() {
    let mut world = world();
    for (guest, server) in [(Guest::V4, SERVER), (Guest::V6, SERVER6)] {
        world.take(&guest.udp(&world.pool, 4000, server, b"hello"));
        let slot = world.sockets.sent.last().unwrap().slot;
        let payload = Vec::from_iter((0..6000u32).map(|octet| octet as u8));
        let frames = world.come(slot, server, &payload, Some(1200));
        let [frame] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!(offload::validate(frame.octets(), frame.meta.offload), Ok(frame.meta.offload));
        let mut segments = Batch::new();
        assert_eq!(offload::segment(frame, &world.pool, &mut segments), Ok(5));
        let came = segments.drain().flat_map(|frame| udp(&frame, &world).2);
        assert_eq!(Vec::from_iter(came), payload);
    }
}

#[test]
fn runs_of_large_or_many_datagrams_are_cut() {
    let mut world = world();
    world.take(&Guest::V4.udp(&world.pool, 4000, SERVER, b"hello"));
    let frames = world.come(0, SERVER, &[7; 4500], Some(2000));
    // Twice two fragments, and 500 octets.
    assert_eq!(frames.len(), 5);
    let frames = world.come(0, SERVER, &[7; 300], Some(2));
    assert_eq!(frames.len(), 150);
    assert!(frames.iter().all(|frame| udp(frame, &world).2 == [7, 7]));
    assert_eq!(world.come(0, SERVER, &[], None).len(), 1, "an empty datagram is one too");
}

#[test]
fn case_32_large_datagrams_go_both_ways_in_fragments() {
    for (guest, server) in [(Guest::V4, SERVER), (Guest::V6, SERVER6)] {
        let mut world = world();
        let payload = Vec::from_iter((0..60_000u32).map(|octet| (octet / 3) as u8));
        world.take(&guest.udp(&world.pool, 4000, server, b"hello"));
        let frames = world.come(0, server, &payload, None);
        assert!(frames.len() > 40 && frames.iter().all(|frame| frame.len() <= 1514));
        // What the guest gets, it sends back.
        let mut fragments = crate::fragments::Fragments::new();
        let whole =
            frames.iter().find_map(|frame| match fragments.take(&Packet::parse(frame).unwrap(), world.now) {
                Assembly::Whole { whole, .. } => Some(whole),
                _ => None,
            });
        let whole = whole.expect("all fragments came");
        let datagram = UdpDatagram::new_checked(whole.packet().upper).unwrap();
        assert!(datagram.verify_checksum(&whole.packet().addresses));
        assert_eq!(datagram.payload(), payload);

        let reply = guest.udp(&world.pool, 4000, server, &payload);
        let packet = Packet::parse(&reply).unwrap();
        let envelope =
            Envelope::new(GATEWAY_MAC, guest.mac, (packet.source(), packet.destination()), IpProtocol::UDP);
        let mut out = VecDeque::new();
        assert!(crate::fragments::fragment(&envelope.unwrap(), packet.upper, 1500, 7, &world.pool, &mut out));
        for mut frame in out {
            frame.meta.ingress = guest.ingress;
            world.take(&frame);
        }
        let sent = &world.sockets.sent[1];
        assert_eq!((&sent.payload, sent.control.dont_fragment), (&payload, false));
        assert!(world.balances());
    }
}

#[test]
fn case_36_echo_of_65000_octets_comes_back() {
    let mut world = world();
    let data = vec![7; 65_000];
    let request = Guest::V4.echo(&world.pool, 77, 1, "203.0.113.7", &data);
    world.take(&request);
    let sent = world.sockets.sent[0].clone();
    assert_eq!((sent.payload.len(), sent.to), (65_008, "203.0.113.7:0".parse().unwrap()));
    let mut reply = sent.payload;
    EchoRepr { reply: true, identifier: 9999, sequence: 1 }.emit_v4(&mut reply);
    let frames = world.come(0, "203.0.113.7:0", &reply, None);
    assert!(frames.len() > 43);
    // The gateway is as far as its own address.
    let request = Guest::V4.echo(&world.pool, 77, 1, "10.213.5.1", &data);
    assert_eq!(world.take(&request).len(), frames.len());
    assert_eq!(world.datagrams.counts().answered, 1);
}

#[test]
fn case_36_replies_have_the_guests_identifier_and_sender() {
    let mut world = world();
    for (guest, server, outside, kind) in [
        (Guest::V4, "203.0.113.7", "203.0.113.7:0", 0),
        (Guest::V6, "2001:db8::7", "[2001:db8::7]:0", 129),
        (Guest::V6, "64:ff9b::203.0.113.7", "203.0.113.7:0", 129),
    ] {
        world.take(&guest.echo(&world.pool, 77, 5, server, b"ping"));
        let sent = world.sockets.sent.last().unwrap().clone();
        let mut reply = sent.payload;
        reply[0] = if sent.to.is_ipv4() { 0 } else { 129 };
        reply[4..6].copy_from_slice(&[9, 9]);
        let frames = world.come(sent.slot, outside, &reply, None);
        let packet = Packet::parse(&frames[0]).unwrap();
        assert_eq!((packet.source(), packet.upper[0]), (ip(server), kind));
        assert_eq!(packet.upper[4..], [0, 77, 0, 5, b'p', b'i', b'n', b'g']);
        reply[0] = 8;
        assert!(world.come(sent.slot, outside, &reply, None).is_empty(), "no reply");
        assert!(world.come(sent.slot, outside, &[0; 3], None).is_empty(), "short");
    }
    let strange = [0, 0, 0, 0, 0, 0, 0, 0];
    assert!(world.come(0, "198.51.100.1:0", &strange, None).is_empty());
    assert!(world.balances());
}

#[test]
fn case_36_wrong_checksums_and_other_messages_go_nowhere() {
    let mut world = world();
    for guest in [Guest::V4, Guest::V6] {
        let server = if guest == Guest::V4 { "203.0.113.7" } else { "2001:db8::7" };
        let mut frame = guest.echo(&world.pool, 77, 5, server, b"ping");
        let last = frame.len() - 1;
        frame.make_mut(&world.pool).unwrap()[last] ^= 1;
        world.take(&frame);
    }
    world.take(&Guest::V4.packet(
        &world.pool,
        IpProtocol::ICMP,
        "203.0.113.7",
        &[0, 0, 0xff, 0xff, 0, 0, 0, 0],
    ));
    world.take(&Guest::V4.packet(&world.pool, IpProtocol::ICMP, "203.0.113.7", &[8, 0]));
    assert_eq!(world.dropped(Drop::BadChecksum), 2);
    assert_eq!((world.dropped(Drop::NotForwarded), world.dropped(Drop::BadHeader)), (1, 1));
    assert_eq!(world.sockets.opened, 0);
}

#[test]
fn case_36_a_new_identifier_takes_the_place_of_the_oldest() {
    let mut world = world();
    for identifier in 0..70 {
        world.take(&Guest::V4.echo(&world.pool, identifier, 1, "203.0.113.7", b"ping"));
        let slot = world.sockets.sent.last().unwrap().slot;
        world.come(slot, "203.0.113.7:0", &[0; 12], None);
    }
    assert_eq!((world.sockets.opened, world.sockets.open.len()), (70, 64));
    world.pass(60);
    assert_eq!(world.sockets.open.len(), 0);
}

#[test]
fn host_services_answer_from_their_inside_address() {
    let mut world = world();
    world.reach.set_services([Service {
        protocol: IpProtocol::UDP,
        port: 8000,
        target: Target::Loopback(53),
    }]);
    world.take(&Guest::V4.udp(&world.pool, 4000, "10.213.5.2:8000", b"hello"));
    assert_eq!(world.sockets.sent[0].to, "127.0.0.1:53".parse().unwrap());
    let frames = world.come(0, "127.0.0.1:53", b"hi", None);
    assert_eq!(udp(&frames[0], &world).0, "10.213.5.2:8000");
    assert!(world.come(0, "127.0.0.1:54", b"another service", None).is_empty());
    let refused = queued(Origin::Icmpv4 { kind: 3, code: 3, mtu: 0 }, "127.0.0.1", "127.0.0.1:53");
    let frames = world.fail(0, refused, b"");
    assert_eq!((told(&frames[0]).0, told(&frames[0]).2), (ip("10.213.5.2"), 3));
    world.reach.set_services([]);
    assert_eq!(told(&world.take(&Guest::V4.udp(&world.pool, 4000, "10.213.5.2:8000", b""))[0]).2, 3);
}

#[test]
fn case_26_flows_that_are_closed_by_a_change_end() {
    let mut world = world();
    let other = Guest { address: ip("10.213.5.17"), ingress: 4, ..Guest::V4 };
    for guest in [Guest::V4, other] {
        world.take(&guest.udp(&world.pool, 4000, SERVER, b"hello"));
        world.take(&guest.echo(&world.pool, 4000, 1, "203.0.113.7", b"hello"));
    }
    world.reach.set_port_egress(4, Some(crate::reach::Egress::None));
    let World { datagrams, sockets, reach, now, .. } = &mut world;
    datagrams.recheck(sockets, reach, *now);
    assert!(world.datagrams.flows().all(|flow| flow.ingress == Guest::V4.ingress));
    assert_eq!(world.sockets.open.len(), 2);
    assert_eq!(told(&world.take(&other.udp(&world.pool, 4000, SERVER, b"hello"))[0]).2, 13);
}

#[test]
fn flows_are_listed_closed_and_forgotten() {
    let mut world = world();
    world.take(&Guest::V4.udp(&world.pool, 4000, SERVER, b"hello"));
    world.come(0, SERVER, b"hi", None);
    let flow = world.datagrams.flows().next().unwrap();
    assert_eq!((flow.octets_out, flow.octets_in, flow.answered), (5, 2, true));
    assert_eq!((flow.guest, flow.peer), (Guest::V4.socket(4000), SERVER.parse().unwrap()));
    assert!(world.datagrams.close(&mut world.sockets, flow.id));
    assert!(!world.datagrams.close(&mut world.sockets, flow.id));
    world.take(&Guest::V4.udp(&world.pool, 4000, SERVER, b"hello"));
    assert!(!world.datagrams.close(&mut world.sockets, flow.id), "the slot's next user");
    world.datagrams.forget_guest(&mut world.sockets, Guest::V4.ingress);
    assert!(world.sockets.open.is_empty() && world.datagrams.next_deadline().is_none());
}

fn forward(world: &mut World, guest: Guest, family: Family) -> u32 {
    let slot = world.datagrams.add_forward(guest.socket(53), family, world.now).unwrap();
    world.sockets.put(slot, SocketKind::Udp, family);
    slot
}

#[test]
fn case_19_a_caller_is_seen_by_its_address_and_answered_by_the_listener() {
    let mut world = world();
    let listener = forward(&mut world, Guest::V4, Family::V4);
    let caller = "198.51.100.7:5555";
    let frames = world.come(listener, caller, b"question", None);
    let (from, to, _) = udp(&frames[0], &world);
    assert_eq!((&from[..], &to[..]), (caller, "10.213.5.16:53"));
    world.take(&Guest::V4.udp(&world.pool, 53, caller, b"answer"));
    let sent = &world.sockets.sent[0];
    assert_eq!((sent.slot, sent.to, &sent.payload[..]), (listener, caller.parse().unwrap(), &b"answer"[..]));
    // The guest's own question to the same address is another flow.
    world.take(&Guest::V4.udp(&world.pool, 53, "198.51.100.7:5556", b"own"));
    assert_ne!(world.sockets.sent[1].slot, listener);
    let error = queued(Origin::Icmpv4 { kind: 3, code: 3, mtu: 0 }, "198.51.100.7", caller);
    let (from, _, code, quoted) = told(&world.fail(listener, error, b"answer")[0]);
    assert_eq!((from, code, &quoted[20..24]), (ip("198.51.100.7"), 3, &[0, 53, 0x15, 0xb3][..]));
}

#[test]
fn case_19_callers_that_guests_cannot_answer_are_the_gateways() {
    for (guest, family, caller, gateway) in [
        (Guest::V4, Family::V4, "127.0.0.1:5555", "10.213.5.1"),
        (Guest::V4, Family::V6, "[2001:db8::9]:5555", "10.213.5.1"),
        (Guest::V6, Family::V6, "[::1]:5555", "fd00:1:2:3::1"),
        (Guest::V6, Family::V6, "[fe80::9]:5555", "fd00:1:2:3::1"),
        (Guest::V4, Family::V4, "10.213.5.1:5555", "10.213.5.1"),
    ] {
        let mut world = world();
        let listener = forward(&mut world, guest, family);
        let frames = world.come(listener, caller, b"question", None);
        let (from, ..) = udp(&frames[0], &world);
        let seen: SocketAddr = from.parse().unwrap();
        assert!(seen.ip() == ip(gateway) && seen.port() >= 49_152, "{caller}: {seen}");
        world.take(&guest.udp(&world.pool, 53, &from, b"answer"));
        assert_eq!(world.sockets.sent[0].to, caller.parse().unwrap());
    }
}

#[test]
fn case_22_a_removed_forward_takes_its_callers_along() {
    let mut world = world();
    let listener = forward(&mut world, Guest::V4, Family::V4);
    let other = forward(&mut world, Guest::V4, Family::V4);
    for (slot, port) in [(listener, 1), (listener, 2), (other, 3), (other, 1)] {
        assert_eq!(world.come(slot, &format!("198.51.100.7:{port}"), b"question", None).len(), 1);
    }
    assert_eq!(world.datagrams.flows().count(), 6);
    world.datagrams.remove_forward(&mut world.sockets, listener);
    assert_eq!((world.datagrams.flows().count(), world.sockets.open.len()), (3, 1));
    world.pass(120);
    assert_eq!(world.datagrams.flows().count(), 1, "the listener stays");
    world.datagrams.forget_guest(&mut world.sockets, Guest::V4.ingress);
    assert_eq!(world.datagrams.flows().count(), 1);
}

#[test]
fn case_20_forwards_to_a_guest_that_is_away_drop() {
    let mut world = world();
    let away = Guest { address: ip("10.213.5.99"), ..Guest::V4 };
    let listener = forward(&mut world, away, Family::V4);
    assert!(world.come(listener, "198.51.100.7:1", b"question", None).is_empty());
    assert_eq!(world.dropped(Drop::GuestAway), 1);
}

#[test]
fn gateway_services_answer_in_one_frame() {
    let world = world();
    let from = (GATEWAY_MAC, SocketAddr::new(GATEWAY4, 53));
    let to = (GUEST_MAC, Guest::V4.socket(4000));
    let frame = datagram(to, from, b"answer", 1500, &world.pool).unwrap();
    let (source, destination, payload) = udp(&frame, &world);
    assert_eq!(
        (&source[..], &destination[..], &payload[..]),
        ("10.213.5.1:53", "10.213.5.16:4000", &b"answer"[..])
    );
    assert!(datagram(to, from, &[0; 1473], 1500, &world.pool).is_none());
    assert!(datagram((to.0, Guest::V6.socket(1)), from, b"", 1500, &world.pool).is_none());
}

#[derive(Debug, Clone)]
enum Step {
    Udp { guest: bool, port: u16, to: u8, len: usize, hop_limit: u8 },
    Echo { guest: bool, identifier: u16, to: u8 },
    Come { slot: u32, from: u8, len: usize, segment: Option<u16> },
    Fail { slot: u32, failed: u8 },
    Pass(u64),
    Forget(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), 0u16..12, 0u8..8, prop_oneof![Just(4usize), 0usize..3000], 1u8..4)
            .prop_map(|(guest, port, to, len, hop_limit)| Step::Udp { guest, port, to, len, hop_limit }),
        2 => (any::<bool>(), 0u16..8, 0u8..8).prop_map(|(guest, identifier, to)| Step::Echo { guest, identifier, to }),
        4 => (0u32..12, 0u8..8, 0usize..5000, prop::option::of(1u16..2000))
            .prop_map(|(slot, from, len, segment)| Step::Come { slot, from, len, segment }),
        2 => (0u32..12, 0u8..6).prop_map(|(slot, failed)| Step::Fail { slot, failed }),
        2 => (0u64..200).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever happens, every datagram is accounted for, every buffer comes back, and sockets are those of flows.
    #[test]
    fn books_balance(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new(Settings { flows: 24, udp_per_guest: 6, echo_per_guest: 3, ..settings() });
        let other = Guest { address: ip("10.213.5.17"), ingress: 4, ..Guest::V4 };
        let guest = |first: bool| if first { Guest::V4 } else { other };
        let targets = ["203.0.113.1", "203.0.113.2", "127.0.0.1", "10.213.5.1", "10.213.5.2", "224.0.0.1",
            "203.0.113.3", "198.51.100.1"];
        for step in steps {
            match step {
                Step::Udp { guest: which, port, to, len, hop_limit } => {
                    let guest = Guest { hop_limit, ..guest(which) };
                    let to = format!("{}:{}", targets[usize::from(to)], 1000 + 10 * port);
                    let frame = guest.udp(&world.pool, port, &to, &vec![7; len]);
                    world.take(&frame);
                }
                Step::Echo { guest: which, identifier, to } => {
                    let frame = guest(which).echo(&world.pool, identifier, 1, targets[usize::from(to)], b"ping");
                    world.take(&frame);
                }
                Step::Come { slot, from, len, segment } if world.sockets.open.contains_key(&slot) => {
                    world.come(slot, &format!("{}:1000", targets[usize::from(from)]), &vec![0; len], segment);
                }
                Step::Fail { slot, failed } => {
                    if let Some(socket) = world.sockets.open.get_mut(&slot) {
                        let failures = [SendError::Full, SendError::TooLarge, SendError::Network,
                            SendError::Host, SendError::Prohibited, SendError::Other];
                        socket.fails.push_back(failures[usize::from(failed)]);
                    }
                }
                Step::Pass(seconds) => world.pass(seconds),
                Step::Forget(which) => {
                    world.datagrams.forget_guest(&mut world.sockets, guest(which).ingress);
                }
                Step::Come { .. } => {}
            }
            prop_assert!(world.balances(), "{:?}", world.datagrams.counts());
            prop_assert_eq!(world.pool.out(), 0);
            prop_assert_eq!(world.datagrams.flows().count(), world.sockets.open.len());
            for ingress in [3, 4] {
                let of = |kind| {
                    world.datagrams.flows().filter(|flow| flow.ingress == ingress && flow.kind == kind).count()
                };
                prop_assert!(of(FlowKind::Udp) <= 6 && of(FlowKind::Echo) <= 3);
            }
        }
        world.pass(1000);
        prop_assert_eq!(world.sockets.open.len(), 0);
        prop_assert_eq!(world.datagrams.next_deadline(), None);
    }
}
