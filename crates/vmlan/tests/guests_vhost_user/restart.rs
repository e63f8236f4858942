//! Daemons and guests that are killed while frames circulate.

use std::os::unix::fs::PermissionsExt;

use testbed::testpmd::{Device, PortStats, Testpmd};
use testbed::{poll_until, require, wait_for, wait_until};
use vmlan_api::PortState;

use crate::lab::{
    LIMIT, Listens, PORTS, assert_counted, circulate, config, pair, socket, without_runtime_directory,
};
use crate::support::{self, Daemon, assert_balanced};

const RESTARTS: usize = 3;

/// Starts frames that circulate, and waits until some have come through to both.
#[track_caller]
fn set_out(guests: &mut Testpmd) {
    guests.start_with(4, 32);
    let before = guests.stats();
    let moving = poll_until(LIMIT, || {
        guests.stats().iter().zip(&before).all(|(now, before)| now.rx_packets > before.rx_packets + 10_000)
    });
    assert!(moving, "frames do not circulate: {before:?}, then {:?}", guests.stats());
}

/// DPDK's driver reconnects only where it listens.
#[track_caller]
fn outlive(shape: impl Fn(Device) -> Device) {
    let config = config(Listens::Guest, "");
    let mut daemon = Daemon::start(&config);
    let mut guests = pair(&daemon, Listens::Guest, shape).start();
    daemon.wait_up(&["a", "b"]);

    for _ in 0..RESTARTS {
        set_out(&mut guests);
        daemon = Daemon::start_in(daemon.kill(), &config);
        daemon.wait_up(&["a", "b"]);
        guests.wait_up();
        // Frames that the daemon had went with it, so others have to set out; none of these may be lost.
        guests.stop();
        guests.drain();
        let before = guests.stats();
        let after = circulate(&mut guests);
        let sum = |of: fn(&PortStats) -> u64| {
            after.iter().map(of).sum::<u64>() - before.iter().map(of).sum::<u64>()
        };
        assert_eq!(sum(|port| port.tx_packets), sum(|port| port.rx_packets), "{:#?}", daemon.ports());
        assert_balanced(&daemon);
    }

    guests.quit();
    daemon.wait_state("a", PortState::Waiting);
    daemon.stop();
}

#[test]
fn guests_that_listen_outlive_the_daemon() {
    require!(testpmd());
    outlive(|device| device.in_order(false));
}

#[test]
fn guests_with_packed_rings_outlive_the_daemon() {
    require!(testpmd());
    outlive(|device| device.packed());
}

#[test]
fn guests_with_two_pairs_of_queues_outlive_the_daemon() {
    require!(testpmd());
    outlive(|device| device.queues(2));
}

/// Waits until both ports listen, which comes after the file is opened.
#[track_caller]
fn wait_set_up(daemon: &Daemon) {
    PORTS.iter().for_each(|port| wait_until("a socket", LIMIT, || socket(daemon, port).exists()));
}

#[test]
fn positions_of_packed_rings_are_kept_in_memory_while_a_port_has_them() {
    let files = |daemon: &Daemon| PORTS.map(|port| daemon.path(&format!("runtime/lab:{port}.rings")));
    let daemon = Daemon::start_in(support::directory_in_memory(), &config(Listens::Port, ""));
    wait_set_up(&daemon);
    for file in files(&daemon) {
        assert_eq!(file.metadata().expect("the file").permissions().mode() & 0o777, 0o600);
    }
    let directory = daemon.stop();
    // Nothing is in them.
    let left = |port| directory.path().join(format!("runtime/lab:{port}.rings")).exists();
    assert_eq!(PORTS.map(left), [false; 2]);

    let daemon = Daemon::start_in(directory, &config(Listens::Port, ", packed = false"));
    wait_set_up(&daemon);
    assert!(files(&daemon).iter().all(|file| !file.exists()));
    daemon.stop();
}

#[test]
fn a_port_says_once_that_positions_of_packed_rings_are_not_kept() {
    let daemon = Daemon::start_in(without_runtime_directory(), &config(Listens::Port, ""));
    wait_set_up(&daemon);
    let log = daemon.log();
    assert_eq!(log.matches("positions of packed rings are not kept").count(), PORTS.len(), "{log}");
    daemon.stop();
}

/// The number of the daemon's descriptors when it has not changed for a moment.
#[track_caller]
fn settled_descriptors(daemon: &Daemon) -> usize {
    let mut last = 0;
    wait_for("descriptors to be closed", LIMIT, || {
        let now = daemon.descriptors();
        (std::mem::replace(&mut last, now) == now).then_some(now)
    })
}

#[test]
fn a_guest_that_is_killed_leaves_its_port_to_the_next() {
    require!(testpmd());
    let daemon = Daemon::start(&config(Listens::Port, ""));
    let mut descriptors = None;
    for _ in 0..RESTARTS {
        let mut guests = pair(&daemon, Listens::Port, |device| device).start();
        daemon.wait_up(&["a", "b"]);
        set_out(&mut guests);
        // Kills it.
        drop(guests);
        daemon.wait_state("a", PortState::Waiting);
        daemon.wait_state("b", PortState::Waiting);
        assert_balanced(&daemon);
        // What the first one left is there for all.
        let expected = *descriptors.get_or_insert_with(|| settled_descriptors(&daemon));
        let closed = poll_until(LIMIT, || daemon.descriptors() <= expected);
        assert!(closed, "{} descriptors instead of {expected}", daemon.descriptors());
    }

    daemon.stop();
}

#[test]
fn frames_wait_for_a_guest_that_is_stopped() {
    require!(testpmd());
    let daemon = Daemon::start(&config(Listens::Port, ""));
    let mut guests = pair(&daemon, Listens::Port, |device| device).start();
    daemon.wait_up(&["a", "b"]);
    // Both directions, one after the other, again and again: what stands in the queues goes on at the next start.
    circulate(&mut guests);
    circulate(&mut guests);
    let counted = circulate(&mut guests);

    assert_counted(&daemon, &counted);
    guests.quit();
    daemon.stop();
}
