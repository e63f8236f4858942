//! Things that peers bring along besides octets: addresses that libraries cannot decode, and descriptors that take
//! their time to be closed.

use std::ffi::OsStr;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketType, bind,
    connect, recv, send, sendmsg, socket, sockopt,
};
use vmlan_drivers::tunnel::message::Request;
use vmlan_frame::MacAddr;

use crate::arena::Arena;
use crate::support::{PATIENCE, mac, numbered};

/// A port of each kind that strangers can reach by a path.
const PORTS: &str = "[network.lab.port.stream]\nstream = { listen = \"stream.sock\" }\n\
     [network.lab.port.datagram]\ndatagram = { listen = \"datagram.sock\" }\n\
     [network.lab.port.vde]\nvde = { directory = \"vde\" }\n\
     [network.other.port.tunnel]\ntunnel = { listen = \"tunnel.sock\", allow = \"10.9.0.0/24\" }\n";

/// A path of all octets that an address has for one, which is no UTF-8 either.
fn longest(arena: &Arena, last: u8) -> PathBuf {
    let mut path = arena.path("").into_os_string().into_vec();
    path.resize(108, 0xff);
    path[107] = last;
    OsStr::from_bytes(&path).into()
}

/// A socket of this type, bound to `path` and connected to `to`.
fn from(path: &Path, kind: SocketType, to: &Path) -> OwnedFd {
    let socket = socket(AddressFamily::UNIX, kind, None).expect("a socket");
    bind(&socket, &vmlan_sys::address::of_unix_path(path).expect("an address")).expect("a free path");
    connect(&socket, &vmlan_sys::address::of_unix_path(to).expect("an address")).expect("a listener");
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE)).expect("a timeout");
    socket
}

/// A request for a VDE port whose frames go to `path`.
fn vde_request(path: &Path) -> Vec<u8> {
    let mut octets = Vec::new();
    for word in [0xfeed_face_u32, 3, 0] {
        octets.extend_from_slice(&word.to_ne_bytes());
    }
    octets.extend_from_slice(&1_u16.to_ne_bytes());
    octets.extend_from_slice(path.as_os_str().as_bytes());
    octets.resize(12 + 110, 0);
    octets
}

fn open_request(last: u8) -> Vec<u8> {
    let address = format!("10.9.0.{last}/24").parse().expect("an address");
    Request::Open { unit: 0, addresses: vec![address] }.emit()
}

#[test]
fn clients_with_the_longest_paths_are_served() {
    let arena = Arena::start(PORTS);
    let files = [b'd', b's', b'v', b't', b'c'].map(|last| longest(&arena, last));
    let [datagram_path, stream_path, vde_path, tunnel_path, control_path] = &files;

    let datagram = from(datagram_path, SocketType::DGRAM, &arena.path("datagram.sock"));
    send(&datagram, &numbered(MacAddr::BROADCAST, mac(7), 0), SendFlags::empty()).expect("a datagram");
    arena.daemon.wait_up(&["datagram"]);

    let stream = from(stream_path, SocketType::STREAM, &arena.path("stream.sock"));
    arena.daemon.wait_up(&["stream"]);

    let data = UnixDatagram::bind(arena.path("vde/data")).expect("a free path");
    let mut vde = UnixStream::from(from(vde_path, SocketType::STREAM, &arena.path("vde/ctl")));
    vde.write_all(&vde_request(&arena.path("vde/data"))).expect("a connection");
    vde.read_exact(&mut [0; 110]).expect("an answer");

    let tunnel = from(tunnel_path, SocketType::SEQPACKET, &arena.path("tunnel.sock"));
    send(&tunnel, &open_request(1), SendFlags::NOSIGNAL).expect("a connection");
    let mut answer = [0; 100];
    recv(&tunnel, &mut answer, RecvFlags::empty()).expect("an answer");
    assert_eq!(answer[..4], [1, 0x81, 0, 0], "{answer:?}");

    let mut control = UnixStream::from(from(control_path, SocketType::STREAM, &arena.daemon.control()));
    control
        .write_all(b"GET /v1/status HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n")
        .expect("a connection");
    assert_eq!(crate::support::Answer::read(&mut control).expect("an answer").status, 200);

    // A frame comes back to the path that is no text.
    let mut frame = [0; 100];
    send(&stream, &[&[0, 0, 0, 60][..], &numbered(mac(7), mac(8), 1)].concat(), SendFlags::NOSIGNAL)
        .expect("a connection");
    while frame[6..12] != mac(8).0 {
        recv(&datagram, &mut frame, RecvFlags::empty()).expect("the frame");
    }

    // The tunnel is gone already: its data socket came along with the answer, and nothing took it.
    arena.daemon.departs("vde.0");
    drop((datagram, stream, data, vde, tunnel, control));
    for file in files.iter().chain(&[arena.path("vde/data")]) {
        std::fs::remove_file(file).expect("our own file");
    }
    // The port finds out by the path that the guest is gone, as with any other.
    arena.daemon.wait_state("datagram", vmlan_api::PortState::Waiting);
    testbed::wait_until("the ports to go", PATIENCE, || arena.daemon.ports().len() == 6);
    arena.finish();
}

/// Connections of TCP that hold up whoever closes them last, for ten minutes: their peer takes nothing.
struct Lingering {
    listener: TcpListener,
    unread: Vec<TcpStream>,
}

impl Lingering {
    fn new() -> Lingering {
        Lingering { listener: TcpListener::bind("127.0.0.1:0").expect("a socket"), unread: Vec::new() }
    }

    /// Sends `octets` with such a connection, of which nothing is left here.
    fn send(&mut self, socket: impl AsFd, octets: &[u8]) {
        let address = self.listener.local_addr().expect("an address");
        let connection = TcpStream::connect(address).expect("a listener");
        self.unread.push(self.listener.accept().expect("a connection").0);
        connection.set_nonblocking(true).expect("a socket");
        while send(&connection, &[0; 65_536], SendFlags::NOSIGNAL).is_ok() {}
        connection.set_nonblocking(false).expect("a socket");
        sockopt::set_socket_linger(&connection, Some(Duration::from_secs(600))).expect("an option");

        let descriptors = [connection.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        match sendmsg(&socket, &[IoSlice::new(octets)], &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => {}
            // The daemon refuses: nobody but this test would be held up.
            Err(Errno::PERM) => {
                sockopt::set_socket_linger(&connection, None).expect("an option");
                send(&socket, octets, SendFlags::NOSIGNAL).expect("a connection");
            }
            Err(error) => panic!("a descriptor cannot be sent: {error}"),
        }
    }
}

/// Sends such descriptors to everything that receives from strangers, in every state.
fn send_everywhere(arena: &Arena) {
    let mut lingering = Lingering::new();
    let frame = |number| numbered(MacAddr::BROADCAST, mac(7), number);
    let goes_on = || {
        arena.probe.wait(50);
        assert_eq!(arena.daemon.status().networks, 2);
    };

    // The first datagrams of a guest, of one that has no address, and those to a port that is up.
    let nameless = UnixDatagram::unbound().expect("a socket");
    nameless.connect(arena.path("datagram.sock")).expect("the port's socket");
    lingering.send(&nameless, &frame(0));
    let datagram = UnixDatagram::bind(arena.path("guest")).expect("a free path");
    datagram.connect(arena.path("datagram.sock")).expect("the port's socket");
    lingering.send(&datagram, &frame(1));
    arena.daemon.wait_up(&["datagram"]);
    goes_on();
    lingering.send(&datagram, &frame(2));
    goes_on();

    // Before the connection is accepted, and behind a frame.
    let stream = UnixStream::connect(arena.path("stream.sock")).expect("the port's socket");
    let framed = |number| [&[0, 0, 0, 60][..], &frame(number)].concat();
    lingering.send(&stream, &framed(3));
    arena.daemon.wait_up(&["stream"]);
    goes_on();
    lingering.send(&stream, &framed(4));
    goes_on();
    // A second guest is sent away, with whatever it has sent.
    let second = UnixStream::connect(arena.path("stream.sock")).expect("the port's socket");
    lingering.send(&second, &framed(5));
    goes_on();

    let data = UnixDatagram::bind(arena.path("vde/data")).expect("a free path");
    let mut vde = UnixStream::connect(arena.path("vde/ctl")).expect("the switch");
    vde.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    lingering.send(&vde, &vde_request(&arena.path("vde/data")));
    let mut answer = [0; 110];
    vde.read_exact(&mut answer).expect("an answer");
    let path = answer[2..].split(|octet| *octet == 0).next().expect("a path");
    data.connect(OsStr::from_bytes(path)).expect("the switch's socket");
    lingering.send(&vde, b"idle talk");
    lingering.send(&data, &frame(6));
    goes_on();

    let tunnel = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).expect("a socket");
    let path = arena.path("tunnel.sock");
    connect(&tunnel, &vmlan_sys::address::of_unix_path(&path).expect("an address"))
        .expect("the tunnel socket");
    lingering.send(&tunnel, &open_request(1));
    goes_on();
    lingering.send(&tunnel, b"no request");
    let client = vmlan_drivers::tunnel::client::Client::connect(
        &path,
        0,
        &["10.9.0.2/24".parse().expect("it is one")],
    );
    let client = client.expect("a tunnel");
    lingering.send(client.data(), &[0; 40]);
    goes_on();

    let mut control = arena.daemon.connect();
    lingering.send(&control, b"GET /v1/status HTTP/1.1\r\n");
    control.write_all(b"Host: v\r\nConnection: close\r\n\r\n").expect("a connection");
    goes_on();

    for port in ["vde.0", "tunnel.0", "tunnel.1"] {
        arena.daemon.departs(port);
    }
    drop((datagram, stream, second, vde, data, tunnel, client, control));
    for file in ["guest", "vde/data"] {
        std::fs::remove_file(arena.path(file)).expect("our own file");
    }
    testbed::wait_until("the ports to go", PATIENCE, || arena.daemon.ports().len() == 6);
    goes_on();
}

#[test]
fn descriptors_that_linger_hold_up_nobody() {
    let arena = Arena::start(PORTS);
    send_everywhere(&arena);
    arena.finish();
}

/// As kernels before 6.16 do it, which cannot refuse descriptors.
#[test]
#[cfg(debug_assertions)]
fn descriptors_that_linger_hold_up_nobody_where_none_are_refused() {
    let arena = Arena::start_injecting(&["no-passrights"], PORTS);
    send_everywhere(&arena);
    arena.finish();
}
