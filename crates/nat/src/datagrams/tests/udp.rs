//! UDP both ways.

use super::*;

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

#[test]
fn datagrams_that_follow_each_other_leave_together() {
    let mut world = world();
    let udp = |port, to: &str, octet: u8, len| Guest::V4.udp(&world.pool, port, to, &vec![octet; len]);
    let frames = [
        udp(4000, SERVER, 1, 1200),
        udp(4000, SERVER, 2, 1200),
        udp(4000, SERVER, 3, 300),
        // A shorter one ends a run, as do a longer one, another peer and another port.
        udp(4000, SERVER, 4, 300),
        udp(4000, SERVER, 5, 1200),
        udp(4000, "203.0.113.8:7000", 6, 1200),
        udp(4001, "203.0.113.8:7000", 7, 1200),
        udp(4001, "203.0.113.8:7000", 8, 0),
        udp(4001, "203.0.113.8:7000", 9, 1200),
    ];
    world.take_all(&frames);
    let sent = world.sockets.sent.iter();
    let runs = sent.map(|sent| (sent.payload.first().copied(), sent.payload.len(), sent.control.segment));
    assert_eq!(
        Vec::from_iter(runs),
        [
            (Some(1), 2700, Some(1200)),
            (Some(4), 300, None),
            (Some(5), 1200, None),
            (Some(6), 1200, None),
            (Some(7), 1200, None),
            (None, 0, None),
            (Some(9), 1200, None),
        ]
    );
    assert_eq!((world.datagrams.counts().sent, world.balances()), (9, true));
    let octets = world.datagrams.flows().map(|flow| flow.octets_out);
    assert_eq!(octets.sum::<u64>(), 1200 * 6 + 600);
}

#[test]
fn a_run_has_at_most_64_datagrams_and_63_kib() {
    let mut world = world();
    let small = Vec::from_iter((0..150).map(|_| Guest::V4.udp(&world.pool, 4000, SERVER, b"x")));
    world.take_all(&small);
    let large = Vec::from_iter((0..50).map(|_| Guest::V4.udp(&world.pool, 4000, SERVER, &[7; 1400])));
    world.take_all(&large);
    let lens = Vec::from_iter(world.sockets.sent.iter().map(|sent| sent.payload.len()));
    assert_eq!(lens, [64, 64, 22, 46 * 1400, 4 * 1400]);
    assert!(world.balances() && world.datagrams.counts().sent == 200);
}

#[test]
fn a_run_that_fails_is_told_of_its_first_datagram() {
    let mut world = world();
    let guest = Guest { dont_fragment: true, ..Guest::V4 };
    world.take(&guest.udp(&world.pool, 4000, SERVER, b"hello"));
    let socket = world.sockets.open.get_mut(&0).unwrap();
    let local = queued(Origin::Local { mtu: 1400 }, "127.0.0.1", "203.0.113.7:0");
    socket.errors.push_back((local, Vec::new()));
    socket.fails.push_back(SendError::TooLarge);
    let frames = [1, 2, 3].map(|octet| guest.udp(&world.pool, 4000, SERVER, &[octet; 1472]));
    let answers = world.take_all(&frames);
    let (_, kind, code, quoted) = told(&answers[0]);
    assert_eq!((answers.len(), kind, code), (1, 3, 4));
    assert_eq!(quoted, frames[0].octets()[14..][..quoted.len()]);
    assert!(world.dropped(Drop::TooBig) == 3 && world.balances());
}

#[test]
fn a_flow_that_ends_takes_what_is_held_along() {
    let mut world = world();
    let frame = Guest::V4.udp(&world.pool, 4000, SERVER, b"hello");
    let World { reach, rates, pool, sockets, datagrams, out, now } = &mut world;
    let mut turn = Turn { reach, rates, now: *now, pool, station: &super::super::fake::station, out };
    let _ = datagrams.take(sockets, &Packet::parse(&frame).unwrap(), &mut turn);
    datagrams.forget_guest(sockets, Guest::V4.ingress);
    datagrams.flush(sockets, &mut turn);
    assert!(world.sockets.sent.is_empty() && world.balances());
}

#[test]
fn what_is_beyond_the_rate_is_dropped_and_counted() {
    let mut world = world();
    // 64 KiB at once.
    world.rates = Rates::new(125_000);
    let frame = Guest::V4.udp(&world.pool, 4000, SERVER, &[7; 1000]);
    world.take_all(std::iter::repeat_n(&frame, 100));
    assert_eq!((world.datagrams.counts().sent, world.dropped(Drop::RateLimit)), (65, 35));
    for _ in 0..100 {
        world.come(0, SERVER, &[7; 1000], None);
    }
    assert_eq!((world.datagrams.counts().delivered, world.dropped(Drop::RateLimit)), (65, 70));
    world.pass(1);
    world.take(&frame);
    assert_eq!(world.come(0, SERVER, &[7; 1000], None).len(), 1);
    assert_eq!((world.datagrams.counts().sent, world.dropped(Drop::RateLimit)), (66, 70));
    assert!(world.balances());
}
