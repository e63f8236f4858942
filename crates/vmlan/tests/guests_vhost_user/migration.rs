//! A machine moves from one QEMU to another while it runs: what was written to its memory is all in its place.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use testbed::{Netns, Nic, ping, poll_until, require, wait_until};
use vmlan_api::{FdbEntry, PortState};

use crate::lab::{LIMIT, Listens, config, socket, v4};
use crate::machines::{HOST, answers, configure, machine, with_tap};
use crate::support::{Daemon, assert_balanced, mac};

/// Octets that the guest has received and not read when it moves: less than any receive buffer.
const UNREAD: usize = 40_000;
const PORT: u16 = 5000;

/// True if the network knows the machine behind this port.
fn is_at(daemon: &Daemon, port: &str) -> bool {
    let is = |entry: &FdbEntry| entry.mac == mac(1).to_string() && entry.port == port;
    daemon.fdb("lab").iter().any(is)
}

#[track_caller]
fn moves(option: &str) {
    let netns = Netns::new("tap");
    let daemon = Daemon::start(&with_tap(&netns, &config(Listens::Port, "")));
    configure(&daemon, &netns);
    let text =
        String::from_iter((0..UNREAD).map(|number| char::from(b'a' + (number * number / 7 % 26) as u8)));
    let at = |port: &str| {
        let nic = |mac: &str| Nic::vhost_user(&socket(&daemon, port), mac).option(option);
        machine(1, nic).file("/wanted", &text)
    };
    let mut guest = at("a").start();
    let there = at("b").awaits_another().start();
    assert!(guest.reaches(v4(HOST), LIMIT), "{}\n{:#?}", guest.console(), daemon.ports());
    assert!(is_at(&daemon, "a"), "{:#?}", daemon.fdb("lab"));
    guest.run(&format!("ping -i 0.1 {} > /tmp/ping 2>&1 &", v4(HOST)));
    let read = "while ! [ -e /tmp/go ]; do sleep 0.1; done; cmp - /wanted && echo all the same";
    guest.run(&format!("nc -l -p {PORT} -e sh -c '{read}' > /tmp/read 2>&1 &"));
    let to: SocketAddr = (v4(1), PORT).into();
    let mut stream = None;
    wait_until("a connection", LIMIT, || {
        stream = netns.inside(|| TcpStream::connect(to).ok());
        stream.is_some()
    });
    let mut stream = stream.expect("it was waited for");

    // As long as it writes more than can be copied meanwhile, it stays.
    guest.run("(while ! [ -e /tmp/go ]; do cat /wanted /bin/busybox > /tmp/again; usleep 5000; done) > /dev/null 2>&1 &");

    let mut moving = guest.move_to(there);
    // All pages were copied once. What comes now is written by the daemon alone, which has to say where.
    moving.copy_once();
    stream.write_all(text.as_bytes()).expect("the guest receives");
    let wanted = format!(":{UNREAD:08X} ");
    let mut sockets = String::new();
    let all_there = poll_until(LIMIT, || {
        sockets = moving.guest().run("cat /proc/net/tcp /proc/net/tcp6 /tmp/read").output;
        sockets.contains(&wanted)
    });
    assert!(all_there, "{sockets}");
    let before = answers(moving.guest());
    let mut guest = moving.finish();

    daemon.wait_up(&["b"]);
    daemon.wait_state("a", PortState::Waiting);
    wait_until("answers at the other place", LIMIT, || answers(&mut guest) > before + 5);
    assert!(is_at(&daemon, "b"), "{:#?}", daemon.fdb("lab"));
    let report = ping(&netns, v4(1), 5);
    assert!(report.all(), "{report:?}");
    guest.run("touch /tmp/go");
    stream.shutdown(Shutdown::Write).expect("the connection goes on");
    stream.set_read_timeout(Some(LIMIT)).expect("a connected socket takes a timeout");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("the guest says what it read");
    assert_eq!(said, "all the same\n");
    assert_balanced(&daemon);
    drop(guest);
    daemon.wait_state("b", PortState::Waiting);
    daemon.stop();
}

#[test]
fn a_machine_moves_to_another_port() {
    require!(namespaces(), qemu());
    moves("mq=off");
}

#[test]
fn a_machine_with_packed_rings_moves_to_another_port() {
    require!(namespaces(), qemu());
    moves("packed=on");
}
