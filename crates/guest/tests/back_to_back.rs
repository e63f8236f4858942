//! Two guests with nothing between them.

mod support;

use std::net::Shutdown;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use support::{
    PATIENCE, config, datagram_ends, eventually, exercise, ipv4, ipv6, mac, spawn, spawn_both, transfer,
};
use vmlan_guest::{Amount, Attachment, Error, Guest, Ping};

fn pair() -> (Guest, Guest) {
    let (one, other) = UnixStream::pair().unwrap();
    (spawn(1, Attachment::StreamFd(one.into())), spawn(2, Attachment::StreamFd(other.into())))
}

#[test]
fn over_a_stream_socket() {
    let (one, other) = pair();
    exercise(&one, &other);

    let (sent, received) = (one.counters(), other.counters());
    eventually("every frame arrives", || other.counters().rx_frames == one.counters().tx_frames);
    assert!(sent.tx_octets > 8 << 20 && received.rx_octets > 8 << 20);
    assert_eq!((sent.tx_dropped, received.tx_dropped), (0, 0));
}

#[test]
fn over_a_stream_socket_by_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stream");
    let (one, other) =
        spawn_both(Attachment::StreamListen { path: path.clone() }, Attachment::Stream { path });
    exercise(&one, &other);
}

#[test]
fn over_datagram_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = datagram_ends(directory.path());
    let (one, other) = spawn_both(one, other);
    exercise(&one, &other);

    drop((one, other));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn over_a_descriptor_of_frames() {
    let (one, other) = UnixDatagram::pair().unwrap();
    let one = spawn(1, Attachment::Fd(one.into()));
    let other = spawn(2, Attachment::Fd(other.into()));
    exercise(&one, &other);
}

#[test]
fn a_datagram_guest_that_is_started_again_is_reached_again() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = datagram_ends(directory.path());
    let (one, other) = spawn_both(one, other);
    drop(other);

    // The kernel lets nobody connect to the first one as long as that believes in its old peer: it has to send.
    let other = std::thread::scope(|scope| {
        let ping = scope.spawn(|| one.ping(ipv4(2).into(), Ping::default()).unwrap());
        let other = spawn(2, datagram_ends(directory.path()).1);
        assert!(ping.join().unwrap().is_complete());
        other
    });
    assert!(other.ping(ipv6(1).into(), Ping::default()).unwrap().is_complete());
}

#[test]
fn a_large_mtu_carries_large_packets() {
    let (left, right) = UnixStream::pair().unwrap();
    let large = |number, attachment| {
        let mut config = config(number, attachment);
        config.mtu = 9000;
        Guest::spawn(config).unwrap()
    };
    let one = large(1, Attachment::StreamFd(left.into()));
    let other = large(2, Attachment::StreamFd(right.into()));

    let ping = Ping { payload: 9000 - 20 - 8, ..Ping::default() };
    assert!(one.ping(ipv4(2).into(), ping).unwrap().is_complete());
    transfer(&one, &other, (ipv6(2), 80).into());
    let counters = one.counters();
    assert!(counters.tx_octets / counters.tx_frames > 4000, "{counters:?}");
}

#[test]
fn link_local_addresses_answer() {
    let (one, _other) = pair();
    let report = one.ping("fe80::5054:ff:fe00:2".parse().unwrap(), Ping::default()).unwrap();
    assert!(report.is_complete(), "{report:?}");
}

#[test]
fn several_transfers_run_at_once_for_a_time() {
    let (one, other) = pair();
    let server = other.tcp_serve(80).unwrap();
    let octets: u64 = std::thread::scope(|scope| {
        let send =
            || one.tcp_send((ipv4(2), 80).into(), Amount::For(Duration::from_millis(100))).unwrap().octets;
        let transfers: Vec<_> = (0..3).map(|_| scope.spawn(send)).collect();
        transfers.into_iter().map(|transfer| transfer.join().unwrap()).sum()
    });
    let taken = server.wait(PATIENCE, |report| report.finished == 3);

    assert!(octets > 0);
    assert_eq!((taken.octets, taken.connections, taken.corrupt), (octets, 3, 0));
}

#[test]
fn changed_octets_are_noticed_though_checksums_hold() {
    let (one, left) = UnixDatagram::pair().unwrap();
    let (right, other) = UnixDatagram::pair().unwrap();
    let one = spawn(1, Attachment::Fd(one.into()));
    let other = spawn(2, Attachment::Fd(other.into()));
    let server = other.tcp_serve(80).unwrap();

    let sent = std::thread::scope(|scope| {
        // The Internet checksum does not depend on the order of 16-bit words.
        scope.spawn(|| {
            relay(&left, &right, |frame| {
                if frame.len() == 1514 {
                    frame.swap(1000, 1002);
                    frame.swap(1001, 1003);
                }
            })
        });
        scope.spawn(|| relay(&right, &left, |_| {}));
        let sent = one.tcp_send((ipv4(2), 80).into(), Amount::Octets(1 << 20)).unwrap();
        for socket in [&left, &right] {
            socket.shutdown(Shutdown::Both).unwrap();
        }
        sent
    });
    let taken = server.report();
    assert_eq!((sent.octets, taken.corrupt), (1 << 20, 1));
    assert!(taken.first_mismatch.is_some_and(|offset| offset < 1460), "{taken:?}");
}

/// Passes datagrams on until the socket is shut down.
fn relay(from: &UnixDatagram, to: &UnixDatagram, mut change: impl FnMut(&mut [u8])) {
    let mut frame = [0; 2048];
    while let Ok(octets) = from.recv(&mut frame)
        && octets > 0
    {
        change(&mut frame[..octets]);
        if to.send(&frame[..octets]).is_err() {
            return;
        }
    }
}

#[test]
fn what_cannot_be_done_is_told() {
    let (one, other) = pair();

    let refused = one.tcp_send((ipv4(2), 9).into(), Amount::Octets(1)).unwrap_err();
    assert!(matches!(refused, Error::Reset { acknowledged: 0, .. }), "{refused}");
    let refused = one.fetch((ipv4(2), 9).into(), b"hello", 1, PATIENCE).unwrap_err();
    assert!(matches!(refused, Error::Reset { acknowledged: 0, .. }), "{refused}");
    let waiting = Duration::from_millis(50);
    other.tcp_serve(80).unwrap();
    let open = one.fetch((ipv4(2), 80).into(), b"hello", 1, waiting).unwrap_err();
    assert!(matches!(&open, Error::Timeout { waited, .. } if *waited == waiting), "{open}");
    let no_server = one.resolve("web.lab.internal", PATIENCE).unwrap_err();
    assert!(matches!(no_server, Error::Unresolved { .. }), "{no_server}");
    let elsewhere = one.ping("192.0.2.1".parse().unwrap(), Ping::default()).unwrap_err();
    assert!(matches!(elsewhere, Error::Unreachable { .. }), "{elsewhere}");
}

#[test]
fn an_absent_neighbour_ends_by_itself() {
    let (socket, _peer) = UnixStream::pair().unwrap();
    let mut config = config(1, Attachment::StreamFd(socket.into()));
    config.timeout = Duration::from_millis(150);
    let one = Guest::spawn(config).unwrap();

    let report = one.ping(ipv4(9).into(), Ping::default()).unwrap();
    assert_eq!((report.sent, report.received), (4, 0));
    let error = one.tcp_send((ipv6(9), 80).into(), Amount::Octets(1)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
}

#[test]
fn the_end_of_the_attachment_ends_operations() {
    let (one, other) = pair();
    let server = other.tcp_serve(80).unwrap();
    std::thread::scope(|scope| {
        let transfer = scope.spawn(|| one.tcp_send((ipv4(2), 80).into(), Amount::For(PATIENCE)));
        server.wait(PATIENCE, |report| report.octets > 0);
        other.stop();
        let error = transfer.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Disconnected { .. }), "{error}");
    });
    let error = one.ping(ipv4(2).into(), Ping::default()).unwrap_err();
    assert!(matches!(error, Error::Disconnected { .. }), "{error}");
}

#[test]
fn a_network_that_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none.sock");
    let attachments = [
        Attachment::Stream { path: path.clone() },
        Attachment::StreamListen { path: path.clone() },
        Attachment::Datagram { local: directory.path().join("own"), remote: path.clone() },
        Attachment::Vde { directory: path },
    ];
    for attachment in attachments {
        let mut config = config(1, attachment);
        config.timeout = Duration::from_millis(30);
        let error = Guest::spawn(config).unwrap_err();
        assert!(matches!(error, Error::Attach { .. }) && error.to_string().contains("none.sock"), "{error}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn impossible_configurations_are_refused() {
    let attachment = || Attachment::Stream { path: "/nonexistent".into() };
    let mut group = config(1, attachment());
    group.mac = mac(1);
    group.mac.0[0] |= 1;
    let mut mtu = config(1, attachment());
    mtu.mtu = 1279;
    let configs = [
        group,
        mtu,
        config(1, attachment()).ipv4(ipv4(1), 33),
        config(1, attachment()).ipv4([224, 0, 0, 1].into(), 24),
        config(1, attachment()).ipv6(ipv6(1), 129),
        config(1, attachment()).dhcp(),
    ];
    for config in configs {
        let error = Guest::spawn(config).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error}");
    }
}
