//! The addresses that a guest may reach, and those that it may use.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use testbed::{Interface, Netns, require, wait_until};
use vmlan_frame::DropReason;

use crate::lab::*;
use crate::support::{Daemon, PATIENCE, assert_balanced};

#[test]
fn guests_reach_what_they_may() {
    require!(namespaces());
    let world = World::new(2);
    let daemon = world.start_settled(&world.config("host = [\"8022\"]"));
    case_24_the_host_is_closed(&world, &daemon);
    case_24_services_are_opened_one_by_one(&world);
    case_29_others_addresses_cannot_be_used(&world, &daemon);
    case_26_a_policy_changes_while_flows_are_open(&world, &daemon);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn case_29_a_set_address_waits_for_its_guest() {
    require!(namespaces());
    let world = World::new(2);
    let daemon = world.start(&world.config(""));
    world.plug();
    let [owner, other] = [&world.guests[0], &world.guests[1]];
    let far = udp(&world.internet, &at(SERVER, 9300).to_string());
    let send = |guest: &Netns, number, text: &str| {
        let near = udp(guest, &at(&v4(number), 5000).to_string());
        near.send_to(text.as_bytes(), at(SERVER, 9300)).expect("a datagram");
    };
    let mut heard = [0; 99];
    let mut hear = || {
        let octets = far.recv(&mut heard).expect("a datagram");
        String::from_utf8_lossy(&heard[..octets]).into_owned()
    };
    // The owner has not said anything yet.
    for (number, text) in [(0, "spoofed"), (1, "own")] {
        other.configure("t0", &Interface::new().address(&format!("{}/24", v4(number))));
        other.ip(["route", "replace", "default", "via", GATEWAY, "src", &v4(number)]);
        send(other, number, text);
    }
    assert_eq!(hear(), "own");
    owner.configure("t0", &Interface::new().address(&format!("{}/24", v4(0))));
    owner.ip(["route", "add", "default", "via", GATEWAY]);
    send(owner, 0, "owner");
    assert_eq!(hear(), "owner");
    daemon.stop();
}

#[test]
fn what_is_denied_is_dropped_in_silence() {
    require!(namespaces());
    let world = World::new(1);
    let daemon = world.start_settled(&world.config("egress = \"none\""));
    let (guest, mut events) = (&world.guests[0], daemon.events());
    for (address, by_udp) in [(SERVER, ErrorKind::HostUnreachable), (SERVER6, ErrorKind::PermissionDenied)] {
        assert_eq!(attempt(guest, at(address, 80)), [ErrorKind::ConnectionRefused, by_udp], "{address}");
        expect_denied(&mut events, &format!("{}/tcp", at(address, 80)));
    }
    daemon.write_config(&world.config("egress = \"none\"\ndeny = \"drop\""));
    daemon.cli(&["apply"]).expect_success();
    let before = daemon.drops("uplink", DropReason::EgressDenied);
    for address in [SERVER, SERVER6] {
        assert_eq!(
            attempt(guest, at(address, 81)),
            [ErrorKind::TimedOut, ErrorKind::WouldBlock],
            "{address}"
        );
        expect_denied(&mut events, &format!("{}/tcp", at(address, 81)));
    }
    assert!(daemon.drops("uplink", DropReason::EgressDenied) >= before + 4);
    assert_balanced(&daemon);
    daemon.stop();
}

/// Attempts by TCP and UDP to reach what is denied; returns the guest's errors.
fn attempt(guest: &Netns, to: SocketAddr) -> [ErrorKind; 2] {
    const A_MOMENT: Duration = Duration::from_millis(500);
    let error = guest.inside(|| TcpStream::connect_timeout(&to, A_MOMENT));
    let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = udp(guest, any);
    socket.set_read_timeout(Some(A_MOMENT)).expect("a timeout");
    socket.connect(to).expect("a route");
    socket.send(b"hello").expect("a datagram");
    let answer = socket.recv(&mut [0; 9]);
    [error.expect_err("it is denied").kind(), answer.expect_err("it is denied").kind()]
}

fn case_24_the_host_is_closed(world: &World, daemon: &Daemon) {
    let guest = &world.guests[0];
    // The guest's own loopback would take them else.
    guest.sysctl("net.ipv4.conf.all.route_localnet", "1");
    guest.ip(["route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local"]);
    guest.ip(["route", "del", "local", "127.0.0.1", "dev", "lo", "table", "local"]);
    guest.ip(["route", "add", "127.0.0.0/8", "via", GATEWAY]);
    world.host.ip(["address", "add", "198.51.100.77/24", "dev", "wan"]);
    let listeners = ["0.0.0.0:8021", "[::]:8021"].map(|at| {
        let only_v6 = at.starts_with('[');
        world.host.inside(|| listener(at, only_v6))
    });
    let mut events = daemon.events();
    let targets = [
        "169.254.169.254",
        HOST,
        HOST6,
        "198.51.100.77",
        "64:ff9b::7f00:1",
        "64:ff9b::c633:6401",
        "240.0.0.1",
    ];
    for target in targets {
        let any = if target.contains(':') { "::".to_owned() } else { v4(0) };
        let is_refused = || {
            let result = dial_from(guest, at(&any, 0), at(target, 8021));
            result.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        };
        // What was added a moment ago is known a moment later, and ends a call that waits for its answer. The next one
        // is denied.
        wait_until(target, PATIENCE, is_refused);
        assert!(is_refused(), "{target}");
        expect_denied(&mut events, &format!("{}/tcp", at(target, 8021)));
    }
    drop(listeners);
    // The guest's kernel takes no answer from there.
    let local = udp(&world.host, "127.0.0.1:8021");
    local.set_nonblocking(true).expect("a socket");
    let socket = udp(guest, &at(&v4(0), 0).to_string());
    socket.send_to(b"hello", at("127.0.0.1", 8021)).expect("a datagram");
    expect_denied(&mut events, "127.0.0.1:8021/udp");
    assert!(local.recv(&mut [0; 9]).is_err(), "the host heard it");
}

fn listener(at: &str, only_v6: bool) -> std::net::TcpListener {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
    let address: std::net::SocketAddr = at.parse().expect("an address");
    let family = if only_v6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let fd = socket(family, SocketType::STREAM, None).expect("a socket");
    if only_v6 {
        sockopt::set_ipv6_v6only(&fd, true).expect("a socket");
    }
    bind(&fd, &address).expect("a free address");
    listen(&fd, 16).expect("a socket");
    fd.into()
}

fn case_24_services_are_opened_one_by_one(world: &World) {
    let _closed = listen(&world.host, "127.0.0.1:8023");
    // Each family leads to its own loopback address.
    for (address, loopback) in [(SERVICES, "127.0.0.1:8022"), ("fd00:1::2", "[::1]:8022")] {
        let open = listen(&world.host, loopback);
        let (mut near, mut far) = join(&world.guests[1], at(address, 8022), &open);
        talk(&mut near, &mut far);
        let error = dial(&world.guests[1], at(address, 8023)).expect_err("it is closed");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    }
}

fn case_29_others_addresses_cannot_be_used(world: &World, daemon: &Daemon) {
    let (victim, attacker) = (&world.guests[0], &world.guests[1]);
    let far = udp(&world.internet, &at(SERVER, 9300).to_string());
    let good = udp(victim, &at(&v4(0), 5000).to_string());
    good.send_to(b"good", at(SERVER, 9300)).expect("a datagram");
    let mut heard = [0; 99];
    assert_eq!(far.recv(&mut heard).expect("a datagram"), 4);
    let before = flows(daemon).len();
    for address in [v4(0).as_str(), GATEWAY, "192.168.7.7", SERVICES] {
        attacker.ip(["address", "add", &format!("{address}/32"), "dev", "t0"]);
        let bad = udp(attacker, &at(address, 5000).to_string());
        // There may be no route from it.
        let _ = bad.send_to(b"spoofed", at(SERVER, 9300));
        drop(bad);
        attacker.ip(["address", "del", &format!("{address}/32"), "dev", "t0"]);
    }
    // Behind them, from the same guest: what came before is through by now.
    let own = udp(attacker, &at(&v4(1), 5000).to_string());
    own.send_to(b"own", at(SERVER, 9300)).expect("a datagram");
    let octets = far.recv(&mut heard).expect("a datagram");
    assert_eq!(&heard[..octets], b"own");
    assert_eq!(flows(daemon).len(), before + 1);
}

fn case_26_a_policy_changes_while_flows_are_open(world: &World, daemon: &Daemon) {
    let listener = world.listen(&at(SERVER, 80).to_string());
    let (mut near, mut far) = join(&world.guests[0], at(SERVER, 80), &listener);
    let (mut stays, mut too) = join(&world.guests[1], at(SERVER, 80), &listener);
    let stricter = world.uplink("") + &world.fixed(0, "egress = \"none\"") + &world.fixed(1, "");
    daemon.write_config(&stricter);
    daemon.cli(&["apply"]).expect_success();
    expect_reset(&mut near);
    expect_reset(&mut far);
    talk(&mut stays, &mut too);
    let error = dial(&world.guests[0], at(SERVER, 80)).expect_err("it is denied");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");

    daemon.write_config(&world.config("egress = \"none\""));
    daemon.cli(&["apply"]).expect_success();
    expect_reset(&mut stays);
    expect_reset(&mut too);

    daemon.write_config(&world.config(""));
    daemon.cli(&["apply"]).expect_success();
    let (mut near, mut far) = join(&world.guests[0], at(SERVER, 80), &listener);
    talk(&mut near, &mut far);
}
