//! A peer on a datagram socket, and strangers at it.

use std::os::unix::net::UnixDatagram;

use vmlan_frame::{DropReason, MacAddr};
use vmlan_guest::Attachment;

use crate::arena::{Arena, send_descriptors};
use crate::support::{PATIENCE, Peer, mac, numbered};

const BAD: &str = "[network.lab.port.bad]\ndatagram = { listen = \"bad.sock\" }\n";

/// The socket of guest 7, whom the port has as its peer.
fn guest(arena: &Arena) -> UnixDatagram {
    let socket = UnixDatagram::bind(arena.path("guest")).expect("a free path");
    socket.connect(arena.path("bad.sock")).expect("the port's socket");
    socket.send(&numbered(MacAddr::BROADCAST, mac(7), 0)).expect("a datagram");
    arena.daemon.wait_up(&["bad"]);
    socket
}

/// The guest is gone for the port as well.
fn leave(arena: &Arena, socket: UnixDatagram) {
    drop(socket);
    std::fs::remove_file(arena.path("guest")).expect("the guest's path");
    arena.daemon.wait_state("bad", vmlan_api::PortState::Waiting);
}

#[test]
fn datagrams_of_no_and_of_too_many_octets_are_dropped() {
    let arena = Arena::start(BAD);
    let socket = guest(&arena);
    for length in [0, 1, 13, 1519, 2048, 2049, 9000, 65_536, 100_000, 200_000] {
        socket.send(&vec![2; length]).expect("a datagram");
        socket.send(&numbered(MacAddr::BROADCAST, mac(7), 0)).expect("a datagram");
    }
    testbed::wait_until("all to be received", PATIENCE, || arena.daemon.port("bad").counters.rx_frames >= 20);
    let drops = |reason| arena.daemon.drops("bad", reason);
    assert!(
        drops(DropReason::Runt) >= 2 && drops(DropReason::Oversize) == 7,
        "{:?}",
        arena.daemon.port("bad")
    );
    leave(&arena, socket);
    arena.finish();
}

#[test]
fn a_first_datagram_of_no_octets_harms_nobody() {
    let arena = Arena::start(BAD);
    let socket = UnixDatagram::bind(arena.path("guest")).expect("a free path");
    socket.connect(arena.path("bad.sock")).expect("the port's socket");
    for _ in 0..5 {
        socket.send(&[]).expect("a datagram");
    }
    socket.send(&numbered(MacAddr::BROADCAST, mac(7), 0)).expect("a datagram");
    testbed::wait_until("the frame", PATIENCE, || arena.daemon.port("bad").counters.copies >= 2);
    leave(&arena, socket);
    arena.finish();
}

#[test]
fn strangers_are_kept_out() {
    let arena = Arena::start(BAD);
    let path = arena.path("bad.sock");
    // Without an address nobody can be answered.
    let nameless = UnixDatagram::unbound().expect("a socket");
    nameless.set_nonblocking(true).expect("a socket");
    for number in 0..1000 {
        // The socket's queue may be full.
        let _ = nameless.send_to(&numbered(MacAddr::BROADCAST, mac(9), number), &path);
    }
    testbed::wait_until("those that came to be counted", PATIENCE, || {
        arena.daemon.drops("bad", DropReason::Stranger) > 0
    });
    let socket = guest(&arena);
    let mut refused = 0;
    for number in 0..1000 {
        refused +=
            usize::from(nameless.send_to(&numbered(MacAddr::BROADCAST, mac(9), number), &path).is_err());
    }
    assert_eq!(refused, 1000, "the kernel refuses who is not the peer");
    assert!(arena.daemon.fdb("lab").iter().all(|entry| entry.mac != mac(9).to_string()));
    leave(&arena, socket);
    arena.finish();
}

#[test]
fn many_senders_at_once_leave_the_port_to_one_of_them() {
    let arena = Arena::start(BAD);
    let path = arena.path("bad.sock");
    let senders: Vec<_> = (0..50)
        .map(|number| {
            let socket = UnixDatagram::bind(arena.path(&format!("sender{number}"))).expect("a free path");
            socket.set_nonblocking(true).expect("a socket");
            // Refused as soon as another one has the port.
            let _ = socket.send_to(&numbered(MacAddr::BROADCAST, mac(10 + number), 0), &path);
            socket
        })
        .collect();
    arena.daemon.wait_up(&["bad"]);
    drop(senders);
    for number in 0..50 {
        std::fs::remove_file(arena.path(&format!("sender{number}"))).expect("its path");
    }
    let socket = UnixDatagram::bind(arena.path("guest")).expect("a free path");
    testbed::wait_until("the port to be free", PATIENCE, || {
        socket.send_to(&numbered(MacAddr::BROADCAST, mac(7), 0), &path).is_ok()
            && arena.daemon.fdb("lab").iter().any(|entry| entry.mac == mac(7).to_string())
    });
    leave(&arena, socket);
    arena.finish();
}

#[test]
fn descriptors_that_come_with_a_datagram_are_not_kept() {
    let arena = Arena::start(BAD);
    let socket = guest(&arena);
    let with_guest = arena.daemon.descriptors();
    for number in 0..100 {
        send_descriptors(&socket, &numbered(MacAddr::BROADCAST, mac(7), number));
    }
    let last = numbered(MacAddr::BROADCAST, mac(8), 0);
    socket.send(&last).expect("a datagram");
    testbed::wait_until("the last frame", PATIENCE, || {
        arena.daemon.fdb("lab").iter().any(|entry| entry.mac == mac(8).to_string())
    });
    testbed::wait_until("nothing to be kept", PATIENCE, || arena.daemon.descriptors() <= with_guest);
    leave(&arena, socket);
    arena.finish();
}

#[test]
fn a_guest_that_does_not_read_loses_its_own_frames_only() {
    let other = "[network.lab.port.other]\nstream = { listen = \"other.sock\" }\n";
    let arena = Arena::start(&format!("{BAD}{other}"));
    let socket = guest(&arena);
    let mut sender = Peer::attach(8, Attachment::Stream { path: arena.path("other.sock") });
    arena.daemon.wait_up(&["other"]);
    for number in 0..8000 {
        sender.raw.send_frame(&numbered(mac(7), sender.mac, number)).expect("a daemon that reads");
    }
    testbed::wait_until("the drops", PATIENCE, || arena.daemon.drops("bad", DropReason::QueueFull) > 0);
    let queued = arena.daemon.port("bad").counters.queued;
    assert!((1..=1024).contains(&queued), "{queued}");

    let mut frame = [0; 2048];
    let mut last = None;
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // The socket holds some hundreds, and the port's queue two thirds of 1024 for one sender.
    while last < Some(800) {
        let length = socket.recv(&mut frame).expect("a datagram");
        let number = u32::from_be_bytes([frame[14], frame[15], frame[16], frame[17]]);
        assert!(length == 60 && last < Some(number), "{number} after {last:?}, {length} octets");
        last = Some(number);
    }
    leave(&arena, socket);
    drop(sender);
    arena.finish();
}
