//! Sockets whose files are removed while the daemon runs: they are made again, and guests that are there stay.

use std::fs;

use testbed::wait_until;
use vmlan_api::PortState;
use vmlan_drivers::tunnel::client::Client;
use vmlan_guest::Attachment;

use crate::support::{Daemon, PATIENCE, Peer, exchange, meet};

const CONFIG: &str = "[network.lab.port.s]\nstream = { listen = \"s.sock\" }\n\
    [network.lab.port.d]\ndatagram = { listen = \"d.sock\" }\n\
    [network.lab.port.v]\nvde = { directory = \"v\" }\n\
    [network.lab.port.t]\ntunnel = { listen = \"t.sock\", address = \"10.9.0.9/24\" }\n";

const FILES: [&str; 4] = ["s.sock", "d.sock", "v/ctl", "t.sock"];

fn sweep(daemon: &Daemon) {
    for file in FILES {
        fs::remove_file(daemon.path(file)).expect("a socket that was there");
    }
    fs::remove_file(daemon.control()).expect("the control socket");
}

fn wait_for_files(daemon: &Daemon) {
    for file in FILES {
        wait_until(file, PATIENCE, || daemon.path(file).exists());
    }
    wait_until("the control socket", PATIENCE, || daemon.control().exists());
}

fn stream(daemon: &Daemon) -> Attachment {
    Attachment::Stream { path: daemon.path("s.sock") }
}

fn datagram(daemon: &Daemon, name: &str) -> Attachment {
    Attachment::Datagram { local: daemon.path(name), remote: daemon.path("d.sock") }
}

#[test]
fn sockets_that_wait_are_made_again_as_often_as_they_are_swept_away() {
    let daemon = Daemon::start(CONFIG);
    for round in 0..2 {
        sweep(&daemon);
        wait_for_files(&daemon);
        daemon.wait_state("s", PortState::Waiting);
        let mut guest = Peer::attach(7, stream(&daemon));
        let mut other = Peer::attach(8, datagram(&daemon, &format!("guest{round}")));
        other.send(guest.mac);
        daemon.wait_up(&["s", "d"]);
        meet(&mut guest, &mut other);
        let mut plug = Peer::attach(9, Attachment::Vde { directory: daemon.path("v") });
        meet(&mut guest, &mut plug);
        Client::connect(&daemon.path("t.sock"), 0, &[]).expect("a tunnel");
        drop((guest, other, plug));
        daemon.wait_state("s", PortState::Waiting);
        daemon.wait_state("d", PortState::Waiting);
    }
    daemon.wait_for_log("was removed or replaced");
    daemon.stop();
}

#[test]
fn guests_stay_when_the_files_are_swept_away() {
    let daemon = Daemon::start(CONFIG);
    let mut guest = Peer::attach(7, stream(&daemon));
    let mut other = Peer::attach(8, datagram(&daemon, "guest"));
    other.send(guest.mac);
    daemon.wait_up(&["s", "d"]);
    let mut plug = Peer::attach(9, Attachment::Vde { directory: daemon.path("v") });
    meet(&mut guest, &mut other);
    meet(&mut guest, &mut plug);
    sweep(&daemon);
    // A datagram socket with a guest is made again for the next one.
    for file in ["s.sock", "v/ctl", "t.sock"] {
        wait_until(file, PATIENCE, || daemon.path(file).exists());
    }
    wait_until("the control socket", PATIENCE, || daemon.control().exists());
    exchange(&mut guest, &mut other);
    exchange(&mut guest, &mut plug);
    drop(other);
    wait_until("d.sock", PATIENCE, || daemon.path("d.sock").exists());
    let mut next = Peer::attach(8, datagram(&daemon, "next"));
    next.send(guest.mac);
    meet(&mut guest, &mut next);
    daemon.stop();
}

#[test]
fn what_others_put_in_a_sockets_place_is_told_and_left_alone() {
    let daemon = Daemon::start(CONFIG);
    let file = daemon.path("s.sock");
    fs::remove_file(&file).expect("the socket");
    fs::write(&file, "something").expect("a file");
    daemon.wait_state("s", PortState::Failed);
    let reason = daemon.port("s").reason.expect("a reason");
    assert!(reason.contains("s.sock") && reason.contains("is no socket; move it away"), "{reason}");
    assert_eq!(fs::read_to_string(&file).expect("the file"), "something");
    fs::remove_file(&file).expect("the file");
    daemon.wait_state("s", PortState::Waiting);
    daemon.wait_for_log("is no socket; move it away");
    assert_eq!(daemon.log().matches("is no socket; move it away").count(), 1, "{}", daemon.log());

    // A directory goes with all that is in it.
    fs::remove_dir_all(daemon.path("v")).expect("the directory");
    wait_until("the directory", PATIENCE, || daemon.path("v/ctl").exists());
    Peer::attach(9, Attachment::Vde { directory: daemon.path("v") });
    daemon.stop();
}
