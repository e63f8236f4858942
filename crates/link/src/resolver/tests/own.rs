//! The host's own addresses: detection, announcement, answers, defence.

use super::*;

fn detecting() -> Host {
    Host::with(Options::default())
}

/// Everything that is sent until nothing more is due, each with its second.
fn timeline(host: &mut Host, until: u64) -> Vec<(u64, String)> {
    let mut told = Vec::new();
    while let Some(due) = host.resolver.poll_timeout().filter(|due| *due <= secs(until)) {
        host.now = host.now.max(due);
        let second = host.now.as_secs();
        told.extend(host.sent().into_iter().map(|what| (second, what)));
    }
    told
}

#[test]
fn addresses_are_probed_for_then_announced() {
    let mut host = detecting();
    assert_eq!(host.send("10.0.0.2", 1), Resolution::Refused(Refusal::NoSource));
    let mut told: Vec<String> = timeline(&mut host, 60).into_iter().map(|(_, what)| what).collect();
    told.sort();
    let probe = "all: request 0.0.0.0 10.0.0.1";
    let announcement = "all: request 10.0.0.1 10.0.0.1";
    let solicitation = "33:33:ff:00:00:01: solicit :: ff02::1:ff00:1 fd00::1";
    let advertisement = "33:33:00:00:00:01: advertise fd00::1 ff02::1 fd00::1";
    assert_eq!(
        told,
        [advertisement, advertisement, solicitation, probe, probe, probe, announcement, announcement]
    );
    assert_eq!(host.events(), [Event::Assigned(ip("fd00::1")), Event::Assigned(ip("10.0.0.1"))]);
    assert!(host.resolver.addresses().all(|(_, state)| state == AddressState::Assigned));
    assert_eq!(host.resolver.poll_timeout(), None);
}

#[test]
fn detection_takes_the_time_of_the_standards() {
    for seed in 0..20 {
        let mut host = Host::with(Options { seed, ..Options::default() });
        let told = timeline(&mut host, 60);
        let first = |what: &str| told.iter().find(|(_, told)| told.contains(what)).unwrap().0;
        let announced = first("request 10.0.0.1 10.0.0.1");
        // Up to 1 s, two intervals of 1 to 2 s, and 2 s.
        assert!((4..=7).contains(&announced), "{told:?}");
        assert!((1..=2).contains(&first("advertise")), "{told:?}");
    }
}

#[test]
fn a_tentative_address_is_not_answered_for() {
    let mut host = detecting();
    host.hear(C, request(C, "10.0.0.9", "10.0.0.1"));
    host.hear(C, request(C, "fd00::9", "fd00::1"));
    assert_eq!((host.resolver.statistics().answers, host.events().len()), (0, 0));
}

#[test]
fn duplicates_are_not_used() {
    // Somebody else probes for it, or uses it.
    for messages in [
        [probe("10.0.0.1"), probe("fd00::1")],
        [Message::announcement(C, ip("10.0.0.1")), Message::announcement(C, ip("fd00::1"))],
        [request(C, "10.0.0.1", "10.0.0.7"), Message::announcement(C, ip("fd00::1"))],
    ] {
        let mut host = detecting();
        for message in messages {
            host.hear(C, message);
        }
        let lost = |address| Event::Conflict { address: ip(address), with: C, lost: true };
        assert_eq!(host.events(), [lost("10.0.0.1"), lost("fd00::1")]);
        assert!(host.resolver.addresses().all(|(_, state)| state == AddressState::Duplicate));
        assert_eq!((host.resolver.poll_timeout(), host.after(60).sent().len()), (None, 0));
        host.hear(C, request(C, "10.0.0.9", "10.0.0.1"));
        assert_eq!(host.sent().len(), 0);
        assert_eq!(host.send("10.0.0.2", 1), Resolution::Refused(Refusal::NoSource));
    }
}

#[test]
fn requests_are_answered_for_own_addresses_only() {
    let mut host = Host::new();
    host.hear(B, request(B, "10.0.0.2", "10.0.0.1"));
    host.hear(B, request(B, "fd00::2", "fd00::1"));
    host.hear(C, probe("10.0.0.1"));
    host.hear(C, probe("fd00::1"));
    for other in ["10.0.0.3", "10.0.0.254", "fd00::3", "fe80::fe"] {
        host.hear(C, probe(other));
    }
    host.hear(B, request(B, "10.0.0.2", "10.0.0.254"));
    assert_eq!(
        host.sent(),
        [
            "b: reply 10.0.0.1 10.0.0.2",
            "b: advertise fd00::1 fd00::2 fd00::1 solicited",
            "c: reply 10.0.0.1 0.0.0.0",
            "33:33:00:00:00:01: advertise fd00::1 ff02::1 fd00::1",
        ]
    );
    assert_eq!(host.resolver.statistics().answers, 4);
}

#[test]
fn answers_for_link_local_ipv4_are_broadcast() {
    let mut host = Host::new();
    host.resolver.add_address(ip("169.254.1.1"), 16, host.now).unwrap();
    host.announced();
    host.hear(B, request(B, "169.254.1.2", "169.254.1.1"));
    assert_eq!(host.sent(), ["all: reply 169.254.1.1 169.254.1.2"]);
}

#[test]
fn assigned_addresses_are_kept_and_defended_now_and_then() {
    for address in ["10.0.0.1", "fd00::1"] {
        let mut host = Host::new();
        let claim = || Message::announcement(C, ip(address));
        host.hear(C, claim()).hear(C, claim());
        assert_eq!(host.events(), [Event::Conflict { address: ip(address), with: C, lost: false }]);
        assert_eq!(host.sent().len(), 1);
        host.after(9).hear(C, claim());
        assert_eq!((host.sent().len(), host.events().len()), (0, 0));
        host.after(1).hear(C, claim());
        assert_eq!((host.sent().len(), host.events().len()), (1, 1));
        assert_eq!(host.resolver.statistics().conflicts, 4);
        assert_eq!(host.resolver.addresses().next().unwrap().1, AddressState::Assigned);
    }
}

#[test]
fn own_messages_that_come_back_mean_nothing() {
    let mut host = detecting();
    host.hear(A, Message::request(A, None, ip("10.0.0.1"), None).unwrap());
    host.hear(A, Message::request(A, None, ip("fd00::1"), None).unwrap());
    host.hear(A, Message::announcement(A, ip("fd00::1")));
    assert_eq!((host.resolver.statistics().conflicts, host.events().len()), (0, 0));
}

#[test]
fn a_new_link_address_is_announced() {
    let mut host = Host::new();
    host.resolver.set_link_address(A);
    assert!(host.sent().is_empty());
    host.resolver.set_link_address(B);
    let frame = host.resolver.poll_transmit(host.now, &host.pool).unwrap();
    assert_eq!((frame.source(), host.resolver.link_address()), (Some(B), B));
}

#[test]
fn addresses_that_cannot_be_added() {
    let mut host = Host::new();
    let mut add = |address: &str, prefix_len| host.resolver.add_address(ip(address), prefix_len, secs(9));
    for none in ["0.0.0.0", "255.255.255.255", "224.0.0.1", "127.0.0.1", "::", "::1", "ff02::1"] {
        assert_eq!(add(none, 24), Err(Error::InvalidArgument));
    }
    assert_eq!(add("10.0.0.3", 33), Err(Error::InvalidArgument));
    assert_eq!(add("fd00::3", 129), Err(Error::InvalidArgument));
    assert_eq!(add("10.0.0.1", 24), Err(Error::AlreadyExists));
    for last in 2..Resolver::MAX_ADDRESSES {
        add(&format!("10.0.1.{last}"), 24).unwrap();
    }
    assert_eq!(add("10.0.2.1", 24), Err(Error::NoBuffers));
    assert_eq!(host.resolver.remove_address(ip("10.0.1.2")), Ok(()));
    assert_eq!(host.resolver.remove_address(ip("10.0.1.2")), Err(Error::InvalidArgument));
}

#[test]
fn the_source_of_a_request_is_on_the_targets_subnet() {
    let mut host = Host::new();
    host.resolver.add_address(ip("192.168.7.1"), 31, host.now).unwrap();
    host.announced();
    // A point-to-point subnet has no broadcast address.
    assert_eq!(host.send("192.168.7.0", 1), Resolution::Waiting);
    assert_eq!(host.sent()[0], "all: request 192.168.7.1 192.168.7.0");
}

#[test]
fn requests_stop_with_the_last_address() {
    let mut host = Host::new();
    host.send("10.0.0.2", 1);
    host.resolver.remove_address(ip("10.0.0.1")).unwrap();
    for _ in 0..3 {
        assert!(host.sent().is_empty());
        host.after(1);
    }
    assert_eq!(host.resolver.statistics().unanswered, 1);
}
