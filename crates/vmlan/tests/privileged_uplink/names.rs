//! Names of guests, and of everything else.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use testbed::{Netns, require, wait_until};
use vmlan_api::EventKind;

use crate::lab::*;
use crate::support::{Daemon, PATIENCE, assert_balanced};
use crate::upstream::{Upstream, respond};

const ANSWER: [u8; 4] = [203, 0, 113, 7];

fn dig(guest: &Netns, arguments: &[&str]) -> String {
    let fixed = ["+time=8", "+tries=1", "-4"];
    let server = format!("@{GATEWAY}");
    let server = if arguments.iter().any(|argument| argument.starts_with('@')) { "-4" } else { &server };
    guest.exec("dig", fixed.iter().chain([&server]).chain(arguments).copied()).stdout
}

#[track_caller]
fn expect(report: &str, parts: &[&str]) {
    let flat = report.split_whitespace().collect::<Vec<_>>().join(" ");
    parts.iter().for_each(|part| assert!(flat.contains(part), "{part:?} is missing: {report}"));
}

#[test]
fn names_are_answered_as_asked() {
    require!(namespaces(), tool("dig"));
    let world = World::new(2);
    let upstream = Upstream::new(&world.internet, SERVER, ANSWER);
    let other = Upstream::new(&world.internet, NARROW, [192, 0, 2, 8]);
    let daemon = world.start_settled(&world.config("host = [\"8022\"]"));
    let guest = &world.guests[1];
    case_55_names_of_ports(&world, guest);
    case_57_all_else_is_passed_on_unchanged(guest, &upstream);
    case_59_a_dead_resolver_is_waited_for_a_while(&world);
    case_58_resolv_conf_is_followed(&world, &daemon, &other);
    assert_balanced(&daemon);
    daemon.stop();
}

fn case_55_names_of_ports(world: &World, guest: &Netns) {
    expect(&dig(guest, &["g0.lab.internal", "A"]), &["NOERROR", &format!("IN A {}", v4(0))]);
    expect(&dig(guest, &["g0.lab.internal", "AAAA"]), &["NOERROR", &format!("IN AAAA {}", v6(0))]);
    expect(&dig(guest, &["g0", "A"]), &["NOERROR", &format!("IN A {}", v4(0))]);
    expect(&dig(guest, &["g0.lab.internal", "MX"]), &["NOERROR", "ANSWER: 0", "SOA"]);
    expect(&dig(guest, &["nosuch.lab.internal", "A"]), &["NXDOMAIN", "ANSWER: 0", "SOA"]);
    expect(&dig(guest, &["gateway.lab.internal", "A"]), &[&format!("IN A {GATEWAY}")]);
    expect(&dig(guest, &["host.lab.internal", "A"]), &[&format!("IN A {SERVICES}")]);
    expect(&dig(guest, &["+tcp", "g0.lab.internal", "A"]), &[&format!("IN A {}", v4(0))]);
    for address in [v4(0), v6(0)] {
        expect(&dig(guest, &["-x", &address]), &["PTR g0.lab.internal."]);
    }
    let by_v6 = guest.exec("dig", ["+time=8", "+tries=1", "@fd00:1::1", "g0.lab.internal", "A"]).stdout;
    expect(&by_v6, &[&format!("IN A {}", v4(0))]);
    // Nothing of it is the host's.
    let of_host = world.host.exec("ss", ["-Hlnu", "sport", "=", ":53"]).expect_success().stdout;
    assert_eq!(of_host.trim(), "");
}

fn case_57_all_else_is_passed_on_unchanged(guest: &Netns, upstream: &Upstream) {
    let report = dig(guest, &["+dnssec", "+bufsize=4096", "www.example.org", "A"]);
    expect(&report, &["NOERROR", "flags: do; udp: 4096", "IN A 203.0.113.7"]);
    for kind in ["TYPE65", "CAA", "TXT"] {
        expect(&dig(guest, &["www.example.org", kind]), &["NOERROR", "IN A 203.0.113.7"]);
    }
    expect(&dig(guest, &["-c", "CH", "version.bind", "TXT"]), &["NOERROR"]);
    expect(&dig(guest, &["+ignore", "large.example.org", "A"]), &["flags: qr tc"]);
    expect(&dig(guest, &["large.example.org", "A"]), &["Truncated, retrying in TCP", "IN A 203.0.113.7"]);

    // Octet for octet, but for the id.
    let socket = udp(guest, "0.0.0.0:0");
    let mut question = vec![0x12, 0x34, 1, 0x20, 0, 1, 0, 0, 0, 0, 0, 1, 4];
    question.extend(b"OdDs\x07example\x03org\0\0\x1c\0\x01");
    // An OPT record with an option that nobody knows.
    question.extend([0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 6, 0xfd, 0xe9, 0, 2, 7, 7]);
    socket.send_to(&question, at(GATEWAY, 53)).expect("a datagram");
    let mut heard = [0; 4096];
    let octets = socket.recv(&mut heard).expect("an answer");
    let asked = upstream.asked().pop().expect("a question");
    assert_eq!(asked[2..], question[2..]);
    assert_eq!(heard[..octets], respond(&question, ANSWER, false).expect("an answer"));
}

fn case_59_a_dead_resolver_is_waited_for_a_while(world: &World) {
    let guest = &world.guests[0];
    // 150 questions of one guest wait, and more are not taken.
    let socket = udp(guest, "0.0.0.0:0");
    for number in 0..150_u8 {
        let mut question = vec![0, number, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 6];
        question.extend(b"silent\x07example\x03org\0\0\x01\0\x01");
        socket.send_to(&question, at(GATEWAY, 53)).expect("a datagram");
    }
    let started = Instant::now();
    expect(&dig(&world.guests[1], &["g0.lab.internal", "A"]), &["NOERROR"]);
    expect(&dig(&world.guests[1], &["www.example.org", "A"]), &["NOERROR"]);
    let mut heard = [0; 512];
    socket.recv(&mut heard).expect("an answer");
    assert_eq!(heard[3] & 15, 2, "SERVFAIL");
    // 5 s are wanted; the machine may be busy.
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

fn case_58_resolv_conf_is_followed(world: &World, daemon: &Daemon, other: &Upstream) {
    let guest = &world.guests[1];
    let etc = |name: &str| world.etc.path().join(name);
    let mut events = daemon.events();
    let mut changed = |wanted: &[&str]| {
        events.expect("other resolvers", |event| {
            matches!(event, EventKind::ResolversChanged { resolvers, .. }
                if resolvers.iter().zip(wanted).all(|(one, other)| one.starts_with(other))
                    && resolvers.len() == wanted.len())
        });
    };
    // By rename.
    fs::write(etc("new"), format!("nameserver {NARROW}\n")).expect("our own file");
    fs::rename(etc("new"), etc("resolv.conf")).expect("our own file");
    changed(&[NARROW]);
    expect(&dig(guest, &["renamed.example.org", "A"]), &["IN A 192.0.2.8"]);
    assert_eq!(other.asked_for("renamed"), 1);
    // By a symlink, and by its next target.
    fs::create_dir(etc("one")).expect("our own directory");
    fs::create_dir(etc("two")).expect("our own directory");
    fs::write(etc("one/resolv.conf"), format!("nameserver {SERVER}\n")).expect("our own file");
    fs::write(etc("two/resolv.conf"), format!("nameserver {NARROW}\n")).expect("our own file");
    for (place, server, answer) in [("one", SERVER, "IN A 203.0.113.7"), ("two", NARROW, "IN A 192.0.2.8")] {
        symlink(format!("{place}/resolv.conf"), etc("link")).expect("our own file");
        fs::rename(etc("link"), etc("resolv.conf")).expect("our own file");
        changed(&[server]);
        expect(&dig(guest, &["linked.example.org", "A"]), &[answer]);
    }
    // A resolver of the host itself.
    fs::write(etc("two/resolv.conf"), "nameserver 127.0.0.53\n").expect("our own file");
    changed(&["127.0.0.53"]);
    let local = Upstream::new(&world.host, "127.0.0.53", [10, 1, 2, 3]);
    expect(&dig(guest, &["local.example.org", "A"]), &["IN A 10.1.2.3"]);
    assert_eq!(local.asked_for("local"), 1);
    // None.
    fs::write(etc("two/resolv.conf"), "").expect("our own file");
    changed(&[]);
    expect(&dig(guest, &["none.example.org", "A"]), &["SERVFAIL"]);
    expect(&dig(guest, &["g0.lab.internal", "A"]), &["NOERROR"]);
}

#[test]
fn case_25_a_list_of_names_opens_what_was_asked_for() {
    require!(namespaces(), tool("dig"));
    let world = World::new(1);
    let upstream = Upstream::new(&world.internet, SERVER, ANSWER);
    let egress = "egress = [{ allow = \"*.example.org:80\" }]";
    let daemon = world.start_settled(&world.config(egress));
    let guest = &world.guests[0];
    let listener = world.listen(&at(SERVER, 80).to_string());
    let refused = |port| {
        let error = dial(guest, at(SERVER, port)).expect_err("it is denied");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    };
    refused(80);
    expect(&dig(guest, &["secret.example.net", "A"]), &["REFUSED"]);
    expect(&dig(guest, &["+tcp", "secret.example.net", "A"]), &["REFUSED"]);
    refused(80);
    expect(&dig(guest, &["www.example.org", "A"]), &["NOERROR"]);
    wait_until("the way", PATIENCE, || dial(guest, at(SERVER, 80)).is_ok());
    drop(accept(&listener));
    let (mut near, mut far) = join(guest, at(SERVER, 80), &listener);
    talk(&mut near, &mut far);
    refused(81);
    assert_eq!((upstream.asked_for("secret"), upstream.asked_for("www")), (0, 1));
    daemon.stop();
}
