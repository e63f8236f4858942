use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use testbed::testpmd::{Builder, Device, PortStats, Testpmd};
use testbed::{poll_until, wait_until};
use vmlan_guest::{Attachment, ethernet};

use crate::support::{self, Daemon, PATIENCE, Peer, TYPE, assert_balanced, mac};

/// How long frames may take to circulate so many times, or a machine to answer: others use this machine too.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Frames that each guest has received before a test goes on.
const MANY: u64 = 100_000;
/// Frames that are on their way from each guest: so many bursts of so many.
const CIRCULATING: (u32, u32) = (4, 32);

/// Numbered frames that are echoed, and how many of them are on their way at once.
const ECHOED: u32 = 5_000;
const WINDOW: u32 = 32;

pub const PORTS: [&str; 2] = ["a", "b"];

/// The IPv4 address of guest `number`.
pub fn v4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, number)
}

/// Which end of a socket listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listens {
    /// The port.
    Port,
    /// The guest.
    Guest,
}

/// Two vhost-user ports with these further keys, whose sockets are `a.sock` and `b.sock`, and a stream port.
pub fn config(listens: Listens, keys: &str) -> String {
    let key = match listens {
        Listens::Port => "listen",
        Listens::Guest => "connect",
    };
    let port =
        |name: &str| format!("[network.lab.port.{name}]\nvhost_user = {{ {key} = \"{name}.sock\"{keys} }}\n");
    format!("{}[network.lab.port.raw]\nstream = {{ listen = \"raw.sock\" }}\n", PORTS.map(port).concat())
}

/// A directory for a daemon in which it cannot keep the positions of packed rings.
pub fn without_runtime_directory() -> TempDir {
    let directory = support::directory();
    std::fs::write(directory.path().join("runtime"), "").expect("a file in our own directory");
    directory
}

/// The socket of a port.
pub fn socket(daemon: &Daemon, port: &str) -> PathBuf {
    daemon.path(&format!("{port}.sock"))
}

/// DPDK's guests 1 and 2 on ports `a` and `b`, before they start.
pub fn pair(daemon: &Daemon, listens: Listens, shape: impl Fn(Device) -> Device) -> Builder {
    let guest = |number: u8, port: &str| {
        let (socket, mac) = (socket(daemon, port), mac(number).to_string());
        shape(match listens {
            Listens::Port => Device::virtio(&socket, &mac),
            Listens::Guest => Device::virtio_listening(&socket, &mac),
        })
    };
    let [a, b] = PORTS;
    let pair = Testpmd::builder().device(guest(1, a)).device(guest(2, b));
    pair.peer(0, &mac(2).to_string()).peer(1, &mac(1).to_string())
}

/// Lets frames circulate between the two guests until many have come through. Answers how many were sent and received.
#[track_caller]
pub fn circulate(guests: &mut Testpmd) -> Vec<PortStats> {
    let before = guests.stats();
    let (bursts, frames) = CIRCULATING;
    guests.start_with(bursts, frames);
    let arrived = poll_until(LIMIT, || {
        let now = guests.stats();
        now.iter().zip(&before).all(|(now, before)| now.rx_packets - before.rx_packets > MANY)
    });
    assert!(arrived, "frames do not circulate: {before:?}, then {:?}", guests.stats());
    guests.stop();
    guests.drain()
}

/// Checks that every frame that a guest has sent was received by the daemon and by the other guest, and the other way.
#[track_caller]
pub fn assert_counted(daemon: &Daemon, guests: &[PortStats]) {
    let books = || {
        PORTS.map(|port| {
            let counters = daemon.port(port).counters;
            (counters.rx_frames, counters.tx_frames)
        })
    };
    let of_guests: Vec<(u64, u64)> =
        guests.iter().map(|guest| (guest.tx_packets, guest.rx_packets)).collect();
    let agree = poll_until(PATIENCE, || books() == *of_guests);
    assert!(agree, "guests sent and received {of_guests:?}, ports {:?}: {:#?}", books(), daemon.ports());
    let [first, second] = guests else { panic!("{guests:?}") };
    assert_eq!(
        (first.tx_packets, second.tx_packets),
        (second.rx_packets, first.rx_packets),
        "frames were lost: {:#?}",
        daemon.ports()
    );
    assert_balanced(daemon);
}

/// Sends numbered frames of all lengths to a guest that sends them back, and checks that each comes back once, in order
/// and unchanged.
#[track_caller]
pub fn assert_echoed(daemon: &Daemon, number: u8) {
    let path = daemon.path("raw.sock");
    let mut peer = Peer::attach(9, Attachment::Stream { path });
    daemon.wait_up(&["raw"]);
    let (ours, theirs) = (peer.mac, mac(number));
    let frame = |count: u32, to, from| {
        let mut payload = vec![count as u8; 46 + count as usize % 1455];
        payload[..4].copy_from_slice(&count.to_be_bytes());
        ethernet(to, from, TYPE, &payload)
    };
    let mut sent = 0;
    for expected in 0..ECHOED {
        while sent < ECHOED.min(expected + WINDOW) {
            peer.raw.send_frame(&frame(sent, theirs, ours)).expect("room for a frame");
            sent += 1;
        }
        let received = peer.raw.receive(PATIENCE).expect("a connection");
        let wanted = frame(expected, ours, theirs);
        assert!(
            received.as_ref() == Some(&wanted),
            "frame {expected} came back as {received:?}: {:#?}",
            daemon.ports()
        );
    }
    drop(peer);
    wait_until("the books", PATIENCE, || daemon.port("raw").counters.tx_frames == u64::from(ECHOED));
    assert_balanced(daemon);
}
