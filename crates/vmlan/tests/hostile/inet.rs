//! Strangers at ports that have an address of IP, where permissions keep nobody away.

use std::io::Read;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};

use testbed::wait_until;
use vmlan_api::PortState;
use vmlan_frame::{DropReason, MacAddr};

use crate::arena::Arena;
use crate::support::{PATIENCE, free_port, mac, numbered};

fn port(kind: &str, more: &str) -> (SocketAddr, String) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    (address, format!("[network.lab.port.bad]\n{kind} = {{ listen = \"{address}\"{more} }}\n"))
}

/// A socket of one of the many addresses of the loopback interface.
fn from(host: u8) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, host], 0))).expect("an address of our own");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

fn frame(number: u8) -> Vec<u8> {
    numbered(MacAddr::BROADCAST, mac(number), 0)
}

#[test]
fn what_is_no_frame_takes_no_udp_port() {
    let (address, config) = port("datagram", "");
    let arena = Arena::start(&config);
    let (stranger, guest) = (from(1), from(1));
    for length in [0, 1, 4, 13] {
        stranger.send_to(&vec![7; length], address).expect("a datagram");
    }
    wait_until("all to be counted", PATIENCE, || arena.daemon.drops("bad", DropReason::Stranger) == 4);
    assert_eq!(arena.daemon.port("bad").state, PortState::Waiting);
    guest.send_to(&frame(7), address).expect("a datagram");
    arena.daemon.wait_up(&["bad"]);
    let name = guest.local_addr().expect("an address").to_string();
    assert_eq!(arena.daemon.port("bad").peer, Some(name));
    assert_eq!(arena.daemon.remove_port("lab", "bad").status, 200);
    arena.finish();
}

#[test]
fn datagrams_of_addresses_that_are_not_allowed_are_counted_and_dropped() {
    let (address, config) = port("datagram", ", allow = [\"127.0.0.1\", \"127.0.0.4/31\"]");
    let arena = Arena::start(&config);
    let (stranger, guest) = (from(2), from(5));
    for _ in 0..200 {
        stranger.send_to(&frame(9), address).expect("a datagram");
    }
    wait_until("all to be counted", PATIENCE, || arena.daemon.drops("bad", DropReason::Stranger) == 200);
    assert_eq!(arena.daemon.port("bad").state, PortState::Waiting);
    guest.send_to(&frame(7), address).expect("a datagram");
    arena.daemon.wait_up(&["bad"]);
    assert!(arena.daemon.fdb("lab").iter().all(|entry| entry.mac != mac(9).to_string()));
    assert_eq!(arena.daemon.remove_port("lab", "bad").status, 200);
    arena.finish();
}

#[test]
fn connections_of_addresses_that_are_not_allowed_are_refused() {
    let (address, config) = port("stream", ", allow = \"127.0.0.0/30\"");
    let arena = Arena::start(&config);
    let connect = |host: u8| {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&socket, &SocketAddr::from(([127, 0, 0, host], 0))).expect("an address of our own");
        connect(&socket, &address).expect("the port's socket");
        TcpStream::from(socket)
    };
    for _ in 0..5 {
        let mut stranger = connect(5);
        stranger.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        // Reset is closed as well.
        assert!(!matches!(stranger.read(&mut [0; 1]), Ok(1..)));
    }
    assert_eq!(arena.daemon.drops("bad", DropReason::Stranger), 5);
    // The first, the second and the fourth; what is said is written by a thread of its own.
    arena.daemon.wait_for_log("(4 so far)");
    assert_eq!(arena.daemon.log().matches("which `allow` does not name").count(), 3);
    let guest = connect(2);
    arena.daemon.wait_up(&["bad"]);
    drop(guest);
    arena.daemon.wait_state("bad", PortState::Waiting);
    arena.finish();
}

#[test]
#[cfg(debug_assertions)]
fn a_silent_guest_over_udp_yields_to_another_one() {
    let (address, config) = port("datagram", ", allow = \"127.0.0.1\"");
    let arena = Arena::start_injecting(&["short-silence"], &config);
    let (first, second, stranger) = (from(1), from(1), from(2));
    let has_port = |guest: &UdpSocket| {
        let name = guest.local_addr().expect("an address").to_string();
        arena.daemon.port("bad").peer == Some(name)
    };
    first.send_to(&frame(7), address).expect("a datagram");
    arena.daemon.wait_up(&["bad"]);
    assert!(has_port(&first));
    // Those that may not have the port, and what is no frame, do not take it from the first one.
    wait_until("strangers to be counted", PATIENCE, || {
        // They are refused by the system while no socket is for them.
        let _ = (stranger.send_to(&frame(9), address), second.send_to(b"one octet", address));
        arena.daemon.drops("bad", DropReason::Stranger) > 1
    });
    assert!(has_port(&first));
    wait_until("the other guest to have the port", PATIENCE, || {
        let _ = second.send_to(&frame(8), address);
        has_port(&second)
    });
    // Its first frame was not lost, and what it sends now is the port's.
    wait_until("its frame", PATIENCE, || {
        arena.daemon.fdb("lab").iter().any(|entry| entry.mac == mac(8).to_string())
    });
    assert_eq!(arena.daemon.remove_port("lab", "bad").status, 200);
    arena.finish();
}

#[test]
fn a_flood_of_strangers_to_a_waiting_port_holds_up_nobody() {
    let (address, config) = port("datagram", ", allow = \"127.0.0.1\"");
    let arena = Arena::start(&config);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let stranger = from(2);
            while !stop.load(Ordering::Relaxed) {
                let _ = stranger.send_to(&frame(9), address);
            }
        });
        wait_until("the flood to be counted", PATIENCE, || {
            arena.daemon.drops("bad", DropReason::Stranger) > 1000
        });
        arena.probe.wait(100);
        stop.store(true, Ordering::Relaxed);
    });
    arena.finish();
}
