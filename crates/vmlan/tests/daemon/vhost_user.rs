//! The life of a vhost-user port, as far as it takes no guest: who connects to whom, and what is left of whom.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use testbed::{wait_for, wait_until};
use vmlan_api::PortState;

use crate::support::{Daemon, PATIENCE, directory};

/// Requests by their numbers (QEMU's vhost-user.rst).
const GET_FEATURES: u32 = 1;
const SET_VRING_CALL: u32 = 13;

/// A machine monitor without a machine.
struct Monitor(UnixStream);

impl Monitor {
    fn new(stream: UnixStream) -> Monitor {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Monitor(stream)
    }

    fn connect(path: &Path) -> Monitor {
        Monitor::new(UnixStream::connect(path).expect("a listener"))
    }

    /// Sends a message of this version of the protocol, and perhaps a descriptor along.
    fn send(&mut self, version: u32, request: u32, body: &[u8], passed: Option<OwnedFd>) {
        let header = [request, version, body.len() as u32];
        let octets: Vec<u8> = header.into_iter().flat_map(u32::to_ne_bytes).chain(body.to_vec()).collect();
        let passed = passed.iter().map(AsFd::as_fd).collect::<Vec<_>>();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !passed.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&passed)));
        }
        let sent = sendmsg(&self.0, &[IoSlice::new(&octets)], &mut control, SendFlags::NOSIGNAL);
        assert_eq!(sent, Ok(octets.len()));
    }

    /// Passes a descriptor, and asks for something: a descriptor that did not arrive ends the connection.
    #[track_caller]
    fn expect_service(&mut self) {
        let call = eventfd(0, EventfdFlags::empty()).expect("a descriptor");
        self.send(1, SET_VRING_CALL, &0_u64.to_ne_bytes(), Some(call));
        self.send(1, GET_FEATURES, &[], None);
        let mut answer = [0; 20];
        self.0.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer[..4], GET_FEATURES.to_ne_bytes());
    }

    /// Waits for the other end to close.
    #[track_caller]
    fn expect_end(mut self) {
        assert!(matches!(self.0.read(&mut [0; 1]), Ok(0)), "the connection is open");
    }
}

fn start(table: &str) -> Daemon {
    Daemon::start(&format!("[network.lab.port.web]\nvhost_user = {{ {table} }}\n"))
}

/// Waits until a monitor is there, which has no guest, and answers for what the port waits then.
#[track_caller]
fn wait_for_peer(daemon: &Daemon) -> String {
    let port = wait_for("a peer", PATIENCE, || {
        daemon.find_port("web").filter(|port| port.peer.is_some() && port.state == PortState::Waiting)
    });
    port.reason.expect("a reason")
}

#[test]
fn a_port_has_one_monitor_at_a_time_and_then_the_next() {
    let daemon = start("listen = \"web.sock\"");
    let path = daemon.path("web.sock");
    assert_eq!(daemon.port("web").address.as_deref(), path.to_str());
    let mut first = Monitor::connect(&path);
    first.expect_service();
    let reason = wait_for_peer(&daemon);
    assert!(!reason.contains("waiting for a guest"), "{reason}");

    Monitor::connect(&path).expect_end();
    first.expect_service();
    // The other one is there before the first one's end is heard of.
    drop(first);
    let mut successor = Monitor::connect(&path);
    successor.expect_service();
    drop(successor);
    wait_until("it to be alone", PATIENCE, || daemon.port("web").peer.is_none());
    let port = daemon.port("web");
    assert!(
        port.state == PortState::Waiting
            && port.reason.is_some_and(|why| why.contains("waiting for a guest"))
    );
    daemon.stop();
}

#[test]
fn a_monitor_that_listens_is_connected_to_again_and_again() {
    let directory = directory();
    let path = directory.path().join("monitor");
    let daemon = start(&format!("connect = \"{}\"", path.display()));
    for _ in 0..3 {
        let listener = UnixListener::bind(&path).expect("a free path");
        let mut monitor = Monitor::new(listener.accept().expect("the daemon's connection").0);
        monitor.expect_service();
        wait_for_peer(&daemon);
        drop((listener, monitor));
        std::fs::remove_file(&path).expect("its path");
        wait_until("it to be alone", PATIENCE, || daemon.port("web").peer.is_none());
    }
    daemon.stop();
}

#[test]
fn inherited_sockets_are_connections_or_listen() {
    let directory = directory();
    let path = directory.path().join("inherited");
    let listener = UnixListener::bind(&path).expect("a listener");
    let (monitor, ours) = UnixStream::pair().expect("a pair");
    let config = "[network.lab.port.web]\nvhost_user = { fd = 3 }\n\
                  [network.lab.port.pair]\nvhost_user = { fd = 4 }\n";
    let daemon = Daemon::start_with_descriptors(config, listener.into(), ours.into());
    let mut pair = Monitor::new(monitor);
    pair.expect_service();
    for round in 0..3 {
        if round == 2 {
            // A change that attaches the port anew leaves the socket that listens what it is.
            daemon.write_config(&config.replacen("fd = 3 }\n", "fd = 3 }\nqueue = 7\n", 1));
            assert!(daemon.cli(&["apply"]).success());
        }
        let mut monitor = Monitor::connect(&path);
        monitor.expect_service();
        wait_for_peer(&daemon);
        drop(monitor);
        wait_until("it to be alone", PATIENCE, || daemon.port("web").peer.is_none());
    }
    drop(pair);
    daemon.wait_state("pair", PortState::Down);
    assert!(daemon.port("pair").reason.is_some_and(|reason| reason.contains("inherited")));
    daemon.stop();
}

#[test]
fn a_monitor_that_breaks_the_rules_is_kept_away_for_a_moment() {
    let daemon = start("listen = \"web.sock\"");
    let mut events = daemon.events();
    let mut monitor = Monitor::connect(&daemon.path("web.sock"));
    monitor.send(2, GET_FEATURES, &[], None);
    monitor.expect_end();
    events.expect("a quarantine", |event| matches!(event, vmlan_api::EventKind::Quarantined { .. }));
    daemon.wait_state("web", PortState::Waiting);
    Monitor::connect(&daemon.path("web.sock")).expect_service();
    daemon.stop();
}

#[test]
fn a_path_that_is_swept_away_is_bound_again_and_still_takes_descriptors() {
    let daemon = start("listen = \"web.sock\"");
    let path = daemon.path("web.sock");
    std::fs::remove_file(&path).expect("the socket");
    wait_until("the path to be there again", PATIENCE, || path.exists());
    Monitor::connect(&path).expect_service();
    daemon.stop();
}

#[test]
fn monitors_that_come_and_go_leave_nothing_behind() {
    let daemon = start("listen = \"web.sock\"");
    let come_and_go = || {
        let mut monitor = Monitor::connect(&daemon.path("web.sock"));
        monitor.expect_service();
        // Half a message.
        monitor.0.write_all(&[0; 5]).expect("a connection");
        drop(monitor);
        wait_until("it to be alone", PATIENCE, || {
            let port = daemon.port("web");
            port.peer.is_none() && port.state == PortState::Waiting
        });
    };
    come_and_go();
    let before = daemon.descriptors();
    (0..3).for_each(|_| come_and_go());
    wait_until("descriptors to be closed", PATIENCE, || daemon.descriptors() <= before);
    daemon.stop();
}
