//! Clients of a VDE directory that break the handshake, lie in it, or come in great numbers.

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use vmlan_frame::MacAddr;
use vmlan_guest::Attachment;

use crate::arena::Arena;
use crate::support::{PATIENCE, Peer, mac, numbered};

const BAD: &str = "[network.lab.port.bad]\nvde = { directory = \"bad.vde\" }\n";

/// Octets of a request without its description.
const FIXED: usize = 12 + 110;

fn connect(arena: &Arena) -> UnixStream {
    let stream = UnixStream::connect(arena.path("bad.vde/ctl")).expect("the switch");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// A request for a port whose frames go to `path`.
fn request(path: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    let mut octets = Vec::new();
    for word in [0xfeed_face_u32, 3, 0] {
        octets.extend_from_slice(&word.to_ne_bytes());
    }
    octets.extend_from_slice(&1_u16.to_ne_bytes());
    octets.extend_from_slice(path.as_os_str().as_bytes());
    octets.resize(FIXED, 0);
    octets.extend_from_slice(b"hostile");
    octets
}

/// True if the switch closes the connection without an answer.
fn is_refused(client: &mut UnixStream) -> bool {
    let mut answer = Vec::new();
    // Reset is closed as well.
    !matches!(client.read_to_end(&mut answer), Ok(1..))
}

fn vde_guest(arena: &Arena) -> Peer {
    Peer::attach(8, Attachment::Vde { directory: arena.path("bad.vde") })
}

/// A guest comes and leaves again: the switch works.
#[track_caller]
fn works(arena: &Arena) {
    let mut guest = vde_guest(arena);
    guest.send(MacAddr::BROADCAST);
    let port = || arena.daemon.ports().into_iter().find(|port| port.port.starts_with("bad."));
    testbed::wait_until("the guest's frame", PATIENCE, || {
        port().is_some_and(|port| port.counters.rx_frames == 1)
    });
    arena.daemon.departs(&port().expect("it is there").port);
    drop(guest);
    testbed::wait_until("the port to go", PATIENCE, || port().is_none());
}

#[test]
fn requests_that_are_none_are_refused() {
    let arena = Arena::start(BAD);
    let good = request(&arena.path("bad.vde/.hostile"));
    let mut wrong_version = good.clone();
    wrong_version[4] = 9;
    let mut wrong_type = good.clone();
    wrong_type[8] = 2;
    let mut endless_path = good.clone();
    endless_path[14..FIXED].fill(b'a');
    for octets in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 300],
        &[0xff; 4000],
        &wrong_version,
        &wrong_type,
        &endless_path,
        // Nobody is there.
        &good,
    ] {
        let mut client = connect(&arena);
        // It may be refused before all of it is written.
        let _ = client.write_all(octets);
        assert!(is_refused(&mut client), "{octets:?}");
    }
    assert!(arena.daemon.ports().iter().all(|port| !port.port.starts_with("bad.")));
    works(&arena);
    arena.finish();
}

#[test]
fn a_request_that_never_ends_is_given_up_on_and_holds_nobody_up() {
    let arena = Arena::start(BAD);
    let good = request(&arena.path("bad.vde/.hostile"));
    let mut clients: Vec<_> = (0..50).map(|_| connect(&arena)).collect();
    for (client, cut) in clients.iter_mut().zip(0..) {
        client.write_all(&good[..cut]).expect("a connection");
    }
    works(&arena);
    assert!(clients.iter_mut().all(is_refused));
    arena.finish();
}

#[test]
fn the_switch_cannot_be_aimed_at_other_sockets() {
    let arena = Arena::start(BAD);
    let elsewhere = tempfile::Builder::new().prefix("vmlan-it-").tempdir_in("/var/tmp").expect("a directory");
    let foreign = UnixDatagram::bind(elsewhere.path().join("socket")).expect("a free path");
    let inside = |name: &str| arena.path("bad.vde").join(name);
    std::fs::write(inside("file"), "").expect("a file");
    let _stream = UnixListener::bind(inside("stream")).expect("a free path");
    std::os::unix::fs::symlink(elsewhere.path().join("socket"), inside("link")).expect("a free path");
    for path in [
        elsewhere.path().join("socket"),
        inside("file"),
        inside("stream"),
        inside("link"),
        inside("../local"),
        inside("ctl"),
        inside("missing"),
        arena.path("two.sock"),
        arena.path("control.sock"),
        "/".into(),
        "/dev/log".into(),
        "/proc/self/fd/0".into(),
        "relative".into(),
        "".into(),
    ] {
        let mut client = connect(&arena);
        client.write_all(&request(&path)).expect("a connection");
        assert!(is_refused(&mut client), "{}", path.display());
    }
    let mut frame = [0; 100];
    foreign.set_nonblocking(true).expect("a socket");
    assert!(foreign.recv(&mut frame).is_err(), "nothing came to the other socket");
    works(&arena);
    // What we put into the directory is ours to remove.
    for name in ["stream", "link", "file"] {
        std::fs::remove_file(inside(name)).expect("our own file");
    }
    arena.finish();
}

#[test]
fn a_thousand_connections_leave_room_for_a_guest() {
    let arena = Arena::start(BAD);
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let address = SocketAddrUnix::new(arena.path("bad.vde/ctl")).expect("a short path");
    for _ in 0..1000 {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a socket");
        // The listener's queue may be full.
        let _ = connect(&socket, &address);
    }
    works(&arena);
    arena.finish();
}

#[test]
fn clients_that_join_and_leave_all_the_time_cost_others_nothing() {
    let arena = Arena::start(BAD);
    let path = arena.path("bad.vde/.hostile");
    let _socket = UnixDatagram::bind(&path).expect("a free path");
    for _ in 0..60 {
        let mut client = connect(&arena);
        client.write_all(&request(&path)).expect("a connection");
        let mut answer = [0; 110];
        client.read_exact(&mut answer).expect("an answer");
    }
    std::fs::remove_file(path).expect("our own path");
    testbed::wait_until("the ports to go", PATIENCE, || arena.daemon.ports().len() == 3);
    works(&arena);
    arena.finish();
}

#[test]
fn a_client_that_talks_on_after_its_request_is_not_listened_to() {
    let arena = Arena::start(BAD);
    let path = arena.path("bad.vde/.hostile");
    let _socket = UnixDatagram::bind(&path).expect("a free path");
    let mut client = connect(&arena);
    client.write_all(&request(&path)).expect("a connection");
    let mut answer = [0; 110];
    client.read_exact(&mut answer).expect("an answer");
    for _ in 0..200 {
        client.write_all(&[0xfe; 64 << 10]).expect("a switch that drops it");
    }
    assert!(arena.daemon.find_port("bad.0").is_some());
    // Frames for it go nowhere harmful, though it never reads any.
    let sender = UnixDatagram::unbound().expect("a socket");
    let _ = sender.send_to(&numbered(MacAddr::BROADCAST, mac(9), 0), arena.path("bad.vde"));
    arena.daemon.departs("bad.0");
    drop(client);
    std::fs::remove_file(path).expect("our own path");
    testbed::wait_until("the port to go", PATIENCE, || arena.daemon.find_port("bad.0").is_none());
    arena.finish();
}
