//! Clients of a tunnel socket that say nothing, too much or nonsense, and that flood.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send,
    socket_with,
};
use vmlan_drivers::tunnel::client::Client;
use vmlan_drivers::tunnel::message::{LONGEST, Request, option};
use vmlan_frame::DropReason;

use crate::arena::{Arena, send_descriptors};
use crate::support::PATIENCE;

/// A network of its own, so that what a client says when it comes and goes is in nobody's books.
const BAD: &str = "[network.other.port.bad]\ntunnel = { listen = \"bad.sock\", address = \"10.9.0.9/24\" }\n";
/// On the network of the honest guests.
const BESIDE: &str =
    "[network.lab.port.bad]\ntunnel = { listen = \"bad.sock\", address = \"10.9.0.9/24\" }\n";

fn control(arena: &Arena, flags: SocketFlags) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a socket");
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).expect("a timeout");
    let address = SocketAddrUnix::new(arena.path("bad.sock")).expect("a short path");
    // The listener's queue may be full, for those that do not wait.
    let connected = connect(&socket, &address);
    assert!(connected.is_ok() || flags.contains(SocketFlags::NONBLOCK), "{connected:?}");
    socket
}

fn open(arena: &Arena) -> Client {
    let path = arena.path("bad.sock");
    testbed::wait_for("a tunnel", PATIENCE, || Client::connect(&path, 0, &[]).ok())
}

/// A client comes and leaves again: the socket works.
#[track_caller]
fn works(arena: &Arena) {
    let client = open(arena);
    assert!(client.name().expect("a name").starts_with("tunnel"));
    leave(arena, client);
}

#[track_caller]
fn leave(arena: &Arena, client: Client) {
    arena.daemon.departs("bad.0");
    drop(client);
    testbed::wait_until("the port to go", PATIENCE, || arena.daemon.find_port("bad.0").is_none());
}

/// The next answer; none at the end.
fn answer(socket: &OwnedFd) -> Option<Vec<u8>> {
    let mut octets = [0; 2 * LONGEST];
    match recv(socket, &mut octets, RecvFlags::empty()) {
        Ok((len, _)) if len > 0 => Some(octets[..len].to_vec()),
        Ok(_) | Err(Errno::CONNRESET) => None,
        Err(error) => panic!("no answer and no end: {error}"),
    }
}

#[test]
fn requests_that_are_none_are_refused_and_cost_nothing() {
    let arena = Arena::start(BAD);
    let before_opening = control(&arena, SocketFlags::CLOEXEC);
    let client = open(&arena);
    for socket in [before_opening.as_fd(), client.control()] {
        for octets in
            [&b"GET / HTTP/1.1"[..], &[0; 3], &[0xff; LONGEST], &[1, 1, 0, 0, 0, 0, 0, 0, 255], &[1; 4096]]
        {
            send(socket, octets, SendFlags::NOSIGNAL).expect("a connection");
            let mut answer = [0; 100];
            let (len, _) = recv(socket, &mut answer, RecvFlags::empty()).expect("an answer");
            assert_eq!(answer[..len], [1, 0x80, 0, 22], "{octets:?}");
        }
        // Descriptors are nothing that a request has.
        send_descriptors(socket, &Request::Get(option::IFNAME).emit());
    }
    leave(&arena, client);
    drop(before_opening);
    works(&arena);
    arena.finish();
}

#[test]
fn clients_that_say_nothing_are_given_up_on_and_hold_nobody_up() {
    let arena = Arena::start(BAD);
    let clients: Vec<_> = (0..50).map(|_| control(&arena, SocketFlags::CLOEXEC)).collect();
    works(&arena);
    assert!(clients.iter().all(|client| answer(client).is_none()));
    arena.finish();
}

#[test]
fn a_thousand_connections_leave_room_for_a_client() {
    let arena = Arena::start(BAD);
    for _ in 0..1000 {
        drop(control(&arena, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK));
    }
    works(&arena);
    arena.finish();
}

#[test]
fn a_client_that_reads_no_answers_is_dropped() {
    let arena = Arena::start(BAD);
    let client = control(&arena, SocketFlags::CLOEXEC);
    let request = Request::Get(option::IFNAME).emit();
    // Whoever asks on and on without reading fills its own socket and then loses its connection.
    let mut asked = 0_u32;
    while send(&client, &request, SendFlags::NOSIGNAL).is_ok() {
        asked += 1;
        assert!(asked < 100_000, "it may ask for ever");
    }
    works(&arena);
    arena.finish();
}

#[test]
fn a_flood_of_records_of_every_size_costs_only_its_own_port() {
    let arena = Arena::start(BESIDE);
    let client = open(&arena);
    let mut record = vec![0x45; 70_000];
    record[..4].copy_from_slice(&[0, 0, 0, 2]);
    for turn in 0..20_usize {
        for len in (0..64).chain([1504, 1505, 2048, 4096, 65_536, 70_000]) {
            record[3] = [2, 30, 0, 7][turn % 4];
            // One longer than the socket's buffer is refused here already.
            let _ = client.send_record(&[IoSlice::new(&record[..len])]);
        }
    }
    testbed::wait_until("the errors", PATIENCE, || arena.daemon.drops("bad.0", DropReason::Malformed) > 900);
    assert!(client.statistics().expect("statistics").errors_in > 900);
    send_descriptors(client.data(), &record[..64]);
    leave(&arena, client);
    works(&arena);
    arena.finish();
}

/// Packets to a thousand hosts that are not there: the wait for them is bounded.
#[test]
fn packets_to_hosts_that_are_not_there_wait_within_bounds() {
    let arena = Arena::start(BESIDE);
    let client = open(&arena);
    let mut packet = [0; 1400];
    (packet[0], packet[2], packet[3]) = (0x45, 5, 120);
    packet[12..16].copy_from_slice(&[10, 9, 0, 9]);
    for number in 0..20_000_u32 {
        packet[16..20].copy_from_slice(&[10, 9, 0, 10 + (number % 240) as u8]);
        client.send(&packet).expect("a tunnel");
    }
    testbed::wait_until("the drops", PATIENCE, || {
        arena.daemon.drops("bad.0", DropReason::NoNextHop) > 15_000
    });
    leave(&arena, client);
    arena.finish();
}

#[test]
fn clients_that_join_and_leave_all_the_time_cost_others_nothing() {
    let arena = Arena::start(BAD);
    let connect = |path: &Path| while Client::connect(path, 0, &[]).is_err() {};
    let path = arena.path("bad.sock");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..25).for_each(|_| connect(&path)));
        }
    });
    testbed::wait_until("the port to go", PATIENCE, || arena.daemon.find_port("bad.0").is_none());
    works(&arena);
    arena.finish();
}

#[test]
fn a_client_that_never_reads_loses_its_own_packets() {
    let arena =
        Arena::start(&format!("{BAD}[network.other.port.flood]\nstream = {{ listen = \"flood.sock\" }}\n"));
    let client = open(&arena);
    let flood = vmlan_guest::Attachment::Stream { path: arena.path("flood.sock") };
    let mut flood = crate::support::Peer::attach(7, flood);
    arena.daemon.wait_up(&["flood"]);
    let mut packet = [0; 1400];
    (packet[0], packet[2], packet[3]) = (0x45, 5, 120);
    let frame = vmlan_guest::ethernet(client.opened().mac, flood.mac, 0x0800, &packet);
    while arena.daemon.drops("bad.0", DropReason::QueueFull) == 0 {
        (0..1000).for_each(|_| flood.raw.send_frame(&frame).expect("a network that takes it"));
    }
    assert!(client.statistics().is_ok(), "control is served meanwhile");
    arena.daemon.departs("bad.0");
    drop((client, flood));
    testbed::wait_until("the port to go", PATIENCE, || arena.daemon.find_port("bad.0").is_none());
    arena.finish();
}
