//! Forwards and their callers.

use super::*;

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
fn callers_do_not_use_up_what_a_guest_may_begin() {
    let mut world = world();
    let listener = forward(&mut world, Guest::V4, Family::V4);
    let came = (1..=600).map(|port| world.come(listener, &format!("198.51.100.7:{port}"), b"x", None).len());
    assert_eq!(came.sum::<usize>(), 500);
    world.take(&Guest::V4.udp(&world.pool, 4000, SERVER, b"hello"));
    assert_eq!((world.sockets.sent.len(), world.dropped(Drop::FlowLimit)), (1, 100));
}
