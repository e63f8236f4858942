//! The lives of flows, and their number.

use super::*;

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
