//! Helpers that the tests of guests share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use vmlan_frame::MacAddr;
use vmlan_guest::{Amount, Attachment, Guest, GuestConfig, Ping};

/// The most that any wait may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const MEBI: u64 = 1 << 20;

pub fn mac(number: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 0, number])
}

pub fn ipv4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, number)
}

pub fn ipv6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number.into())
}

/// Guest `number` of 10.77.0.0/24 and fd77::/64.
pub fn config(number: u8, attachment: Attachment) -> GuestConfig {
    let mut config = GuestConfig::new(format!("guest{number}"), mac(number), attachment)
        .ipv4(ipv4(number), 24)
        .ipv6(ipv6(number), 64);
    config.timeout = PATIENCE;
    config
}

pub fn spawn(number: u8, attachment: Attachment) -> Guest {
    Guest::spawn(config(number, attachment)).unwrap()
}

/// The two ends of a datagram attachment in `directory`.
pub fn datagram_ends(directory: &Path) -> (Attachment, Attachment) {
    let (left, right) = (directory.join("left"), directory.join("right"));
    let one = Attachment::Datagram { local: left.clone(), remote: right.clone() };
    (one, Attachment::Datagram { local: right, remote: left })
}

/// Starts both at once: each waits for the other's socket.
pub fn spawn_both(one: Attachment, other: Attachment) -> (Guest, Guest) {
    std::thread::scope(|scope| {
        let one = scope.spawn(|| spawn(1, one));
        let other = spawn(2, other);
        (one.join().unwrap(), other)
    })
}

/// Pings in both families, and 8 MiB of TCP in each direction with the pattern checked.
pub fn exercise(one: &Guest, other: &Guest) {
    let ping = Ping { count: 5, interval: Duration::from_millis(1), ..Ping::default() };
    for (from, to) in [(one, other), (other, one)] {
        let report = from.ping(to.ipv4().unwrap().into(), ping).unwrap();
        assert!(report.is_complete() && report.rtts.len() == 5, "{report:?}");
        let report = from.ping(to.ipv6().unwrap().into(), ping).unwrap();
        assert!(report.is_complete(), "{report:?}");
    }
    transfer(one, other, (other.ipv4().unwrap(), 5001).into());
    transfer(other, one, (one.ipv6().unwrap(), 5001).into());
}

/// 8 MiB of TCP to `address` of `to`, with the pattern checked.
pub fn transfer(from: &Guest, to: &Guest, address: SocketAddr) {
    let server = to.tcp_serve(address.port()).unwrap();
    let sent = from.tcp_send(address, Amount::Octets(8 * MEBI)).unwrap();
    let taken = server.wait(PATIENCE, |report| report.finished == 1);

    assert_eq!((sent.octets, taken.octets), (8 * MEBI, 8 * MEBI));
    assert_eq!((taken.connections, taken.corrupt, taken.first_mismatch), (1, 0, None));
    assert!(sent.bits_per_second() > 0.0);
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not before {PATIENCE:?}: {what}");
        std::thread::yield_now();
    }
}
