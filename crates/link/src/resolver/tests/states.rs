//! Every change of a neighbour's state (RFC 4861 7.3.2, appendix C), for both families.

use super::NeighbourState::{Delay, Failed, Incomplete, Probe, Reachable, Stale};
use super::*;

const BOTH: [&str; 2] = ["10.0.0.2", "fd00::2"];

fn asked(address: &str) -> &'static str {
    match address {
        "10.0.0.2" => "all: request 10.0.0.1 10.0.0.2",
        _ => "33:33:ff:00:00:02: solicit fd00::1 ff02::1:ff00:2 fd00::2",
    }
}

fn asked_alone(address: &str) -> &'static str {
    match address {
        "10.0.0.2" => "b: request 10.0.0.1 10.0.0.2",
        _ => "b: solicit fd00::1 fd00::2 fd00::2",
    }
}

/// A host to which `address` is reachable, asked for at 2 s.
fn reachable(address: &str) -> Host {
    let mut host = Host::new();
    host.send(address, 1);
    host.sent();
    host.hear(B, answer(address));
    assert_eq!(host.state(address), Some(Reachable));
    assert_eq!(host.sent(), ["b: packet 1"]);
    host
}

/// A host to which `address` was reachable.
fn stale(address: &str) -> Host {
    let mut host = reachable(address);
    host.after(45);
    assert_eq!(host.state(address), Some(Stale));
    host
}

#[test]
fn an_answer_lets_waiting_packets_go_in_order() {
    for address in BOTH {
        let mut host = Host::new();
        assert_eq!(host.send(address, 1), Resolution::Waiting);
        assert_eq!(host.send(address, 2), Resolution::Waiting);
        assert_eq!(host.sent(), [asked(address)]);
        assert_eq!((host.state(address), host.resolver.waiting()), (Some(Incomplete), (2, 6)));
        host.hear(B, answer(address));
        assert_eq!(host.resolver.poll_timeout(), Some(Instant::ZERO));
        assert_eq!(host.sent(), ["b: packet 1", "b: packet 2"]);
        assert_eq!(host.send(address, 3), Resolution::Send(B));
        assert_eq!((host.state(address), host.resolver.waiting()), (Some(Reachable), (0, 0)));
        assert_eq!((host.resolver.statistics().sent, host.pool.out()), (2, 0));
    }
}

#[test]
fn who_does_not_answer_has_failed_and_is_left_alone() {
    for address in BOTH {
        let mut host = Host::new();
        host.send(address, 1);
        for _ in 0..3 {
            assert_eq!(host.sent(), [asked(address)]);
            assert_eq!(host.resolver.poll_timeout(), Some(host.now + Duration::from_secs(1)));
            host.after(1);
        }
        assert_eq!((host.state(address), host.resolver.waiting()), (Some(Failed), (0, 0)));
        assert_eq!(host.resolver.statistics().unanswered, 1);
        assert_eq!(host.send(address, 2), Resolution::Refused(Refusal::NoAnswer));
        assert!(host.after(2).sent().is_empty());
        assert_eq!(host.after(1).state(address), None);
        assert_eq!(host.send(address, 3), Resolution::Waiting);
        assert_eq!(host.sent(), [asked(address)]);
    }
}

#[test]
fn a_late_answer_is_welcome() {
    for address in BOTH {
        let mut host = Host::new();
        host.send(address, 1);
        for _ in 0..3 {
            host.sent();
            host.after(1);
        }
        assert_eq!(host.state(address), Some(Failed));
        host.hear(B, answer(address));
        assert_eq!((host.send(address, 2), host.state(address)), (Resolution::Send(B), Some(Reachable)));
    }
}

#[test]
fn reachable_ends_after_its_time() {
    for address in BOTH {
        let mut host = reachable(address);
        assert_eq!(host.after(14).state(address), Some(Reachable));
        assert_eq!(host.after(31).state(address), Some(Stale));
        assert!(host.sent().is_empty());
    }
}

#[test]
fn stale_is_used_then_probed_then_forgotten() {
    for address in BOTH {
        let mut host = stale(address);
        assert_eq!((host.send(address, 1), host.state(address)), (Resolution::Send(B), Some(Delay)));
        assert_eq!(host.after(4).state(address), Some(Delay));
        assert_eq!(host.after(1).state(address), Some(Probe));
        for _ in 0..3 {
            assert_eq!(host.send(address, 2), Resolution::Send(B));
            assert_eq!(host.sent(), [asked_alone(address)]);
            assert_eq!(host.state(address), Some(Probe));
            host.after(1);
        }
        assert_eq!((host.state(address), host.sent().len()), (None, 0));
        host.send(address, 3);
        assert_eq!(host.sent(), [asked(address)]);
    }
}

#[test]
fn a_probe_that_is_answered_makes_reachable() {
    for address in BOTH {
        let mut host = stale(address);
        host.send(address, 1);
        host.after(5);
        assert_eq!(host.sent(), [asked_alone(address)]);
        host.hear(B, answer(address));
        assert_eq!(host.state(address), Some(Reachable));
    }
}

#[test]
fn stale_and_unused_is_forgotten() {
    for address in BOTH {
        let mut host = stale(address);
        assert_eq!(host.after(554).state(address), Some(Stale));
        assert_eq!(host.after(46).state(address), None);
        assert_eq!(host.resolver.poll_timeout(), None);
    }
}

#[test]
fn a_higher_layer_confirms() {
    for address in BOTH {
        let mut host = stale(address);
        host.send(address, 1);
        host.resolver.confirm(ip(address), host.now);
        assert_eq!(host.state(address), Some(Reachable));
        // It cannot confirm what is not known.
        host.resolver.confirm(ip("10.0.0.77"), host.now);
        host.send("10.0.0.88", 1);
        host.resolver.confirm(ip("10.0.0.88"), host.now);
        assert_eq!((host.state("10.0.0.77"), host.state("10.0.0.88")), (None, Some(Incomplete)));
    }
}

#[test]
fn a_request_of_the_neighbour_resolves_it_too() {
    for (address, own) in BOTH.into_iter().zip(["10.0.0.1", "fd00::1"]) {
        let mut host = Host::new();
        host.send(address, 1);
        host.sent();
        host.hear(B, request(B, address, own));
        // Where it is, not that it hears us: it is asked in a while.
        assert_eq!((host.state(address), host.sent().len()), (Some(Delay), 2));
    }
}

#[test]
fn nobody_is_learned_who_was_not_asked_for() {
    for (address, own) in BOTH.into_iter().zip(["10.0.0.1", "fd00::1"]) {
        let mut host = Host::new();
        host.hear(B, answer(address));
        host.hear(B, request(B, address, own));
        host.hear(B, Message::announcement(B, ip(address)));
        assert_eq!(host.resolver.neighbours().count(), 0);
    }
}

#[test]
fn an_announcement_moves_a_known_neighbour() {
    for address in BOTH {
        let mut host = reachable(address);
        host.hear(B, Message::announcement(B, ip(address)));
        assert_eq!(host.state(address), Some(Reachable));
        host.hear(C, Message::announcement(C, ip(address)));
        let moved = Neighbour { address: ip(address), state: Stale, link: Some(C) };
        assert_eq!(host.neighbour(address), Some(moved));
        assert_eq!((host.send(address, 1), host.state(address)), (Resolution::Send(C), Some(Delay)));
    }
}

/// An advertisement of fd00::2 at `link` with its flags.
fn advertisement(link: Option<MacAddr>, solicited: bool, replaces: bool) -> Message {
    let repr = NeighborAdvertRepr {
        router: false,
        solicited,
        replaces,
        target: "fd00::2".parse().unwrap(),
        target_link_layer: link,
    };
    Message::Neighbour {
        to: A,
        source: "fd00::2".parse().unwrap(),
        destination: "fd00::1".parse().unwrap(),
        body: message::Body::Advertise(repr),
    }
}

#[test]
fn advertisements_by_their_flags() {
    let after = |host: fn(&str) -> Host, link, solicited, replaces| {
        let mut host = host("fd00::2");
        let neighbour = host.hear(C, advertisement(link, solicited, replaces)).neighbour("fd00::2").unwrap();
        (neighbour.state, neighbour.link)
    };
    // RFC 4861 appendix C, from reachable.
    assert_eq!(after(reachable, Some(C), true, false), (Stale, Some(B)));
    assert_eq!(after(reachable, Some(C), false, false), (Stale, Some(B)));
    assert_eq!(after(reachable, Some(C), true, true), (Reachable, Some(C)));
    assert_eq!(after(reachable, Some(C), false, true), (Stale, Some(C)));
    assert_eq!(after(reachable, Some(B), false, true), (Reachable, Some(B)));
    assert_eq!(after(reachable, None, false, true), (Reachable, Some(B)));
    // From the other states with a link address.
    assert_eq!(after(stale, Some(C), true, false), (Stale, Some(B)));
    assert_eq!(after(stale, Some(B), true, false), (Reachable, Some(B)));
    assert_eq!(after(stale, None, true, false), (Reachable, Some(B)));
    assert_eq!(after(stale, None, false, false), (Stale, Some(B)));
    assert_eq!(after(stale, Some(C), false, true), (Stale, Some(C)));
    assert_eq!(after(stale, Some(C), true, true), (Reachable, Some(C)));
}

#[test]
fn advertisements_while_incomplete() {
    let after = |link, solicited| {
        let mut host = Host::new();
        host.send("fd00::2", 1);
        host.sent();
        host.hear(B, advertisement(link, solicited, false)).state("fd00::2")
    };
    assert_eq!(after(None, true), Some(Incomplete));
    assert_eq!(after(Some(B), true), Some(Reachable));
    // A packet went to it at once.
    assert_eq!(after(Some(B), false), Some(Delay));
}

#[test]
fn groups_broadcasts_and_gateways() {
    let mut host = Host::new();
    let mac = |octets| Resolution::Send(MacAddr(octets));
    assert_eq!(host.send("224.0.0.251", 1), mac([1, 0, 0x5e, 0, 0, 251]));
    assert_eq!(host.send("ff02::1:ff00:2", 1), mac([0x33, 0x33, 0xff, 0, 0, 2]));
    assert_eq!(host.send("255.255.255.255", 1), mac([0xff; 6]));
    assert_eq!(host.send("10.0.0.255", 1), mac([0xff; 6]));
    assert_eq!(host.send("9.9.9.9", 1), Resolution::Waiting);
    assert_eq!(host.send("2001:db8::1", 1), Resolution::Waiting);
    assert_eq!(host.send("169.254.1.1", 1), Resolution::Waiting);
    let asked = [
        "all: request 10.0.0.1 10.0.0.254",
        "all: request 10.0.0.1 169.254.1.1",
        "33:33:ff:00:00:fe: solicit fd00::1 ff02::1:ff00:fe fe80::fe",
    ];
    assert_eq!(host.sent(), asked);
}

#[test]
fn what_cannot_be_sent() {
    let mut host = Host::new();
    for own in ["10.0.0.1", "fd00::1"] {
        assert_eq!(host.send(own, 1), Resolution::Refused(Refusal::NoRoute));
    }
    let lone = |destination: &str| {
        let mut host = Host { resolver: Resolver::new(A, Options::default()), ..Host::new() };
        host.send(destination, 1)
    };
    assert_eq!(lone("10.0.0.2"), Resolution::Refused(Refusal::NoRoute));
    assert_eq!(lone("fe80::2"), Resolution::Refused(Refusal::NoSource));
    let packet = host.pool.copy(&[0x75]).unwrap();
    assert_eq!(host.resolver.send(ip("10.0.0.2"), &packet, host.now), Resolution::Refused(Refusal::NotIp));
}
