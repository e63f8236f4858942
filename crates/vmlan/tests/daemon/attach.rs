//! Every kind of attachment, from both sides.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use testbed::wait_until;
use vmlan_api::PortState;
use vmlan_frame::DropReason;
use vmlan_guest::Attachment;

use crate::support::{Daemon, PATIENCE, Peer, assert_balanced, directory, exchange, free_port, meet};

/// A network with one port whose guest is there already.
fn with_anchor(ports: &str) -> (Daemon, Peer) {
    let daemon = Daemon::start(&format!(
        "[network.lab.port.anchor]\nstream = {{ listen = \"anchor.sock\" }}\n{ports}"
    ));
    let anchor = Peer::attach(1, Attachment::Stream { path: daemon.path("anchor.sock") });
    daemon.wait_up(&["anchor"]);
    (daemon, anchor)
}

#[test]
fn guests_connect_to_every_kind_of_socket() {
    let (tcp, udp) = (free_port(), free_port());
    let (daemon, mut anchor) = with_anchor(&format!(
        "[network.lab.port.unix]\nstream = {{ listen = \"unix.sock\" }}\n\
         [network.lab.port.tcp]\nstream = {{ listen = \"127.0.0.1:{tcp}\" }}\n\
         [network.lab.port.tcp6]\nstream = {{ listen = \"[::1]:{tcp}\" }}\n\
         [network.lab.port.datagram]\ndatagram = {{ listen = \"datagram.sock\" }}\n\
         [network.lab.port.udp]\ndatagram = {{ listen = \"127.0.0.1:{udp}\" }}\n\
         [network.lab.port.vde]\nvde = {{ directory = \"lab.vde\" }}\n"
    ));
    for port in ["unix", "tcp", "tcp6", "datagram", "udp"] {
        assert_eq!(daemon.port(port).state, PortState::Waiting, "{port}");
    }
    let connected = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    connected.connect(("127.0.0.1", udp)).expect("an address");
    let mut guests = [
        ("unix", Attachment::Stream { path: daemon.path("unix.sock") }),
        ("tcp", Attachment::StreamFd(TcpStream::connect(("127.0.0.1", tcp)).expect("a listener").into())),
        ("tcp6", Attachment::StreamFd(TcpStream::connect(("::1", tcp)).expect("a listener").into())),
        (
            "datagram",
            Attachment::Datagram { local: daemon.path("guest"), remote: daemon.path("datagram.sock") },
        ),
        ("udp", Attachment::Fd(connected.into())),
        ("vde.0", Attachment::Vde { directory: daemon.path("lab.vde") }),
    ]
    .into_iter()
    .zip(2..)
    .map(|((port, attachment), number)| (port, Peer::attach(number, attachment)))
    .collect::<Vec<_>>();

    for (port, guest) in &mut guests {
        meet(guest, &mut anchor);
        let port = daemon.port(port);
        assert!(port.state == PortState::Up && port.peer.is_some(), "{port:?}");
    }
    let mut last = guests.pop().expect("a guest").1;
    guests.iter_mut().for_each(|(_, guest)| exchange(guest, &mut last));

    assert_balanced(&daemon);
    let counters = daemon.port("udp").counters;
    assert_eq!((counters.rx_octets, counters.tx_octets), (60 * counters.rx_frames, 60 * counters.tx_frames));
    drop((guests, last, anchor));
    daemon.stop();
}

#[test]
fn the_daemon_connects_to_guests_that_listen() {
    let directory = directory();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let (tcp_port, udp_port) =
        (tcp.local_addr().expect("an address").port(), udp.local_addr().expect("an address").port());
    let ours = free_port();
    udp.connect(("127.0.0.1", ours)).expect("an address");
    let guests = directory.path().display();
    let (daemon, mut anchor) = with_anchor(&format!(
        "[network.lab.port.unix]\nstream = {{ connect = \"{guests}/stream\" }}\n\
         [network.lab.port.tcp]\nstream = {{ connect = \"127.0.0.1:{tcp_port}\" }}\n\
         [network.lab.port.datagram]\ndatagram = {{ local = \"local.sock\", remote = \"{guests}/datagram\" }}\n\
         [network.lab.port.udp]\n\
         datagram = {{ local = \"127.0.0.1:{ours}\", remote = \"127.0.0.1:{udp_port}\" }}\n"
    ));
    for port in ["unix", "datagram"] {
        let port = daemon.port(port);
        let reason = port.reason.expect("a reason");
        assert!(port.state == PortState::Waiting && reason.contains("nobody"), "{reason}");
    }

    let accepted = tcp.accept().expect("the daemon's connection").0;
    let mut guests = [
        // These come later than the daemon.
        ("unix", Attachment::StreamListen { path: directory.path().join("stream") }),
        (
            "datagram",
            Attachment::Datagram {
                local: directory.path().join("datagram"),
                remote: daemon.path("local.sock"),
            },
        ),
        ("tcp", Attachment::StreamFd(accepted.into())),
        ("udp", Attachment::Fd(udp.into())),
    ]
    .into_iter()
    .zip(2..)
    .map(|((port, attachment), number)| (port, Peer::attach(number, attachment)))
    .collect::<Vec<_>>();

    for (port, guest) in &mut guests {
        daemon.wait_up(&[port]);
        meet(guest, &mut anchor);
    }
    assert_balanced(&daemon);
    drop((guests, anchor));
    daemon.stop();
}

#[test]
fn inherited_connections_are_ports() {
    let (stream, ours) = UnixStream::pair().expect("a pair");
    let (datagram, theirs) = UnixDatagram::pair().expect("a pair");
    let config = "[network.lab.port.stream]\nstream = { fd = 3 }\n\
                  [network.lab.port.datagram]\ndatagram = { fd = 4 }\n";
    let daemon = Daemon::start_with_descriptors(config, ours.into(), theirs.into());
    daemon.wait_up(&["stream", "datagram"]);
    let mut one = Peer::attach(1, Attachment::StreamFd(stream.into()));
    let mut other = Peer::attach(2, Attachment::Fd(datagram.into()));

    exchange(&mut one, &mut other);

    assert_balanced(&daemon);
    // What was inherited cannot be made again: the port says so.
    drop(one);
    daemon.wait_state("stream", PortState::Down);
    assert!(daemon.port("stream").reason.is_some_and(|reason| reason.contains("inherited")));
    daemon.stop();
}

#[test]
fn the_other_end_of_an_inherited_connection_sees_the_port_leave() {
    let (mut stream, ours) = UnixStream::pair().expect("a pair");
    let (datagram, theirs) = UnixDatagram::pair().expect("a pair");
    let config = "[network.lab.port.stream]\nstream = { fd = 3 }\n\
                  [network.lab.port.datagram]\ndatagram = { fd = 4 }\n";
    let daemon = Daemon::start_with_descriptors(config, ours.into(), theirs.into());
    daemon.wait_up(&["stream", "datagram"]);
    for number in [3, 4] {
        let info = format!("/proc/{}/fdinfo/{number}", daemon.pid());
        let info = std::fs::read_to_string(info).expect("an open descriptor");
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("its flags").trim();
        let flags = u32::from_str_radix(flags, 8).expect("an octal number");
        assert!(flags & rustix::fs::OFlags::CLOEXEC.bits() != 0, "{number} is closed on exec: {info}");
    }

    // A change that attaches the guests anew keeps the descriptors.
    daemon.write_config(&config.replace("}\n", "}\nqueue = 7\n"));
    let applied = daemon.cli(&["apply"]);
    assert!(applied.success(), "{applied:?}");
    daemon.wait_up(&["stream", "datagram"]);
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    daemon.remove_port("lab", "stream");
    assert_eq!(std::io::Read::read(&mut stream, &mut [0; 4]).expect("the end"), 0);
    daemon.remove_port("lab", "datagram");
    wait_until("the other end to be told", PATIENCE, || datagram.send(b"a").is_err());
    let again = daemon.add_port("lab", "stream", r#"{"stream": {"fd": 3}}"#);
    assert_eq!(again.error().code, vmlan_api::ErrorCode::NotSetUp, "it is closed: {again:?}");
    daemon.stop();
}

#[test]
fn inherited_sockets_that_listen_take_one_guest_after_the_other() {
    let directory = directory();
    let (stream, datagram) = (directory.path().join("stream"), directory.path().join("datagram"));
    let listener = UnixListener::bind(&stream).expect("a listener");
    let bound = UnixDatagram::bind(&datagram).expect("a socket");
    let config = "[network.lab.port.stream]\nstream = { fd = 3 }\n\
                  [network.lab.port.datagram]\ndatagram = { fd = 4 }\n";
    let daemon = Daemon::start_with_descriptors(config, listener.into(), bound.into());
    let local = directory.path().join("guest");
    for round in 0..3 {
        if round == 2 {
            // A change that attaches the port anew leaves the socket that listens what it is.
            daemon.write_config(&config.replace("fd = 3 }\n", "fd = 3 }\nqueue = 7\n"));
            daemon.departs("stream");
            assert!(daemon.cli(&["apply"]).success());
        }
        let mut one = Peer::attach(1, Attachment::Stream { path: stream.clone() });
        let mut other =
            Peer::attach(2, Attachment::Datagram { local: local.clone(), remote: datagram.clone() });
        meet(&mut other, &mut one);
        let up = ["stream", "datagram"].map(|port| daemon.port(port).state);
        assert_eq!(up, [PortState::Up; 2], "round {round}");
    }
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_descriptor_that_is_something_else_is_refused_with_its_number() {
    let (stream, _theirs) = UnixStream::pair().expect("a pair");
    let (datagram, _theirs) = UnixDatagram::pair().expect("a pair");
    // The wrong way round, and one that is not there.
    let config = "[network.lab.port.stream]\nstream = { fd = 4 }\n\
                  [network.lab.port.datagram]\ndatagram = { fd = 3 }\n\
                  [network.lab.port.absent]\nstream = { fd = 77 }\n";
    let daemon = Daemon::start_with_descriptors(config, stream.into(), datagram.into());
    for (port, number) in
        [("stream", "descriptor 4"), ("datagram", "descriptor 3"), ("absent", "descriptor 77")]
    {
        daemon.wait_state(port, PortState::Failed);
        let reason = daemon.port(port).reason.expect("a reason");
        assert!(reason.contains(number), "{reason}");
    }
    daemon.stop();
}

#[test]
fn each_client_of_a_vde_directory_is_a_port_and_numbers_are_used_again() {
    let (daemon, mut anchor) = with_anchor("[network.lab.port.guests]\nvde = { directory = \"lab.vde\" }\n");
    assert!(daemon.port("guests").reason.is_some_and(|reason| reason.contains("lab.vde/ctl")));
    let attach = |number| Peer::attach(number, Attachment::Vde { directory: daemon.path("lab.vde") });
    let (mut first, mut second) = (attach(2), attach(3));
    meet(&mut first, &mut second);
    meet(&mut first, &mut anchor);
    assert!(daemon.port("guests.0").peer.is_some_and(|peer| peer.contains("guest2")));
    assert!(daemon.port("guests.1").peer.is_some_and(|peer| peer.contains("guest3")));

    daemon.departs("guests.0");
    drop(first);
    wait_until("the first client's port to go", PATIENCE, || daemon.find_port("guests.0").is_none());
    exchange(&mut second, &mut anchor);
    let mut third = attach(4);
    meet(&mut third, &mut second);

    let names: Vec<_> = daemon.ports().into_iter().map(|port| port.port).collect();
    assert_eq!(names, ["anchor", "guests", "guests.0", "guests.1"]);
    assert!(daemon.port("guests.0").peer.is_some_and(|peer| peer.contains("guest4")));
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn the_hello_of_a_datagram_guest_is_no_frame() {
    let (daemon, mut anchor) = with_anchor("[network.lab.port.mac]\ndatagram = { listen = \"mac.sock\" }\n");
    let attachment = Attachment::Datagram { local: daemon.path("guest"), remote: daemon.path("mac.sock") };
    let mut guest = Peer::attach(2, attachment);

    guest.raw.send_octets(b"VFKT").expect("a socket that takes it");
    daemon.wait_up(&["mac"]);
    exchange(&mut guest, &mut anchor);

    assert_balanced(&daemon);
    let port = daemon.port("mac");
    assert_eq!((port.counters.rx_frames, daemon.drops("mac", DropReason::Runt)), (1, 0));
    daemon.stop();
}

#[test]
fn frames_of_every_length_pass_unchanged_between_kinds() {
    let (daemon, mut anchor) = with_anchor(
        "[network.lab]\nmtu = 65000\n\
         [network.lab.port.datagram]\ndatagram = { listen = \"datagram.sock\" }\n\
         [network.lab.port.vde]\nvde = { directory = \"lab.vde\" }\n",
    );
    let attachment =
        Attachment::Datagram { local: daemon.path("guest"), remote: daemon.path("datagram.sock") };
    let mut datagram = Peer::attach(2, attachment);
    let mut vde = Peer::attach(3, Attachment::Vde { directory: daemon.path("lab.vde") });
    meet(&mut datagram, &mut anchor);
    meet(&mut vde, &mut anchor);
    meet(&mut vde, &mut datagram);
    for length in [14, 15, 59, 60, 61, 511, 512, 513, 1514, 2048, 9014, 65_014] {
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            let guests = &mut [&mut anchor, &mut datagram, &mut vde];
            let mut frame: Vec<u8> = (0..length).map(|i: u32| i as u8).collect();
            frame[..6].copy_from_slice(&guests[to].mac.0);
            frame[6..12].copy_from_slice(&guests[from].mac.0);
            frame[12..14].copy_from_slice(&0x88b7_u16.to_be_bytes());
            guests[from].raw.send_frame(&frame).expect("room for a frame");
            let came = guests[to].raw.expect(|came| came[12..14] == frame[12..14]).expect("the frame");
            assert!(came == frame, "{length} octets from {from} to {to} came as {} others", came.len());
        }
    }
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn sockets_have_their_mode_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    for umask in ["0", "077"] {
        let daemon = Daemon::start_with_umask(
            umask,
            "[network.lab.port.stream]\nstream = { listen = \"stream.sock\" }\n\
             [network.lab.port.datagram]\ndatagram = { listen = \"datagram.sock\" }\n\
             [network.lab.port.v]\nvde = { directory = \"v\", mode = \"0666\" }\n\
             [network.lab.port.tunnel]\n\
             tunnel = { listen = \"tunnel.sock\", allow = \"10.0.0.0/24\", mode = \"0660\" }\n",
        );
        daemon.wait_up(&["v", "tunnel"]);
        let guest = Peer::attach(7, Attachment::Vde { directory: daemon.path("v") });
        daemon.wait_up(&["v.0"]);
        let data = format!("v/000.{}", daemon.pid());
        for (name, wanted) in [
            ("control.sock", 0o600),
            ("stream.sock", 0o600),
            ("datagram.sock", 0o600),
            ("v", 0o1777),
            ("v/ctl", 0o666),
            (&data, 0o666),
            ("tunnel.sock", 0o660),
        ] {
            testbed::wait_until(name, PATIENCE, || daemon.path(name).exists());
            let mode = daemon.path(name).metadata().expect("it is there").permissions().mode() & 0o7777;
            assert_eq!(format!("{mode:o}"), format!("{wanted:o}"), "{name} with umask {umask}");
        }
        drop(guest);
        daemon.stop();
    }
}
