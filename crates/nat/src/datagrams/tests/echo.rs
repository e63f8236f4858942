//! Echo.

use super::*;

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
