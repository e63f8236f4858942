//! Faults of ours: a task that panics begins anew, its port says why meanwhile, and others do not notice.

use testbed::{wait_for, wait_until};
use vmlan_api::{EventKind, PortState};
use vmlan_drivers::tunnel::client::{Client, Error};
use vmlan_drivers::tunnel::message::Refusal;
use vmlan_guest::Attachment;

use crate::arena::Arena;
use crate::support::{PATIENCE, Peer, meet};

/// Waits for the event that the port failed by the panic at `place`.
#[track_caller]
fn expect_failure(events: &mut crate::support::Events, name: &str, place: &str) {
    let failed = events
        .expect("the failure", |event| matches!(event, EventKind::PortFailed { port, .. } if port == name));
    let EventKind::PortFailed { reason, .. } = failed else { unreachable!("it was chosen") };
    assert!(
        reason.contains("a bug in vmlan") && reason.contains(&format!("injected into {place}")),
        "{reason}"
    );
}

#[test]
fn a_port_whose_task_panics_begins_anew() {
    let arena = Arena::start_injecting(
        &[],
        "[network.lab.port.bad]\nstream = { listen = \"bad.sock\" }\nmac = \"52:54:00:00:00:07\"\n\
         [network.lab.port.other]\ndatagram = { listen = \"other.sock\" }\nmac = \"52:54:00:00:00:08\"\n",
    );
    let mut events = arena.daemon.events();
    let other = || Attachment::Datagram { local: arena.path("guest"), remote: arena.path("other.sock") };
    for _ in 0..2 {
        let mut guest = arena.stream_guest();
        let mut datagram = Peer::attach(8, other());
        datagram.send(guest.mac);
        arena.daemon.wait_up(&["other"]);
        meet(&mut guest, &mut datagram);
        for (name, place) in [("bad", "port.bad"), ("other", "port.other")] {
            arena.daemon.inject_panic(place);
            expect_failure(&mut events, name, place);
        }
        guest.raw.wait_closed().expect("the connection's end");
        drop((guest, datagram));
        arena.daemon.wait_state("bad", PortState::Waiting);
        arena.daemon.wait_state("other", PortState::Waiting);
    }
    drop(events);
    arena.finish();
}

#[test]
fn a_vde_directory_whose_task_panics_keeps_its_clients() {
    let arena = Arena::start_injecting(&[], "[network.lab.port.bad]\nvde = { directory = \"bad.vde\" }\n");
    let mut events = arena.daemon.events();
    let attach = |number| Peer::attach(number, Attachment::Vde { directory: arena.path("bad.vde") });
    let (mut one, mut two) = (attach(7), attach(8));
    meet(&mut one, &mut two);

    arena.daemon.inject_panic("accept.bad");
    // Connects, and finds the connection closed.
    drop(std::os::unix::net::UnixStream::connect(arena.path("bad.vde/ctl")));
    expect_failure(&mut events, "bad", "accept.bad");
    meet(&mut one, &mut two);
    arena.daemon.wait_state("bad", PortState::Up);

    // The task of one client: the other one stays, and the number is free again.
    arena.daemon.departs("bad.1");
    arena.daemon.inject_panic("port.bad.1");
    wait_until("the client's port to go", PATIENCE, || arena.daemon.find_port("bad.1").is_none());
    drop(two);
    let mut three = attach(9);
    meet(&mut one, &mut three);
    assert!(arena.daemon.find_port("bad.1").is_some());
    arena.daemon.departs("bad.0");
    arena.daemon.departs("bad.1");
    drop((one, three));
    wait_until("the ports to go", PATIENCE, || arena.daemon.ports().len() == 3);
    drop(events);
    arena.finish();
}

#[test]
fn a_tunnel_socket_whose_task_panics_keeps_its_clients_and_their_addresses() {
    let config = "[network.other.port.bad]\ntunnel = { listen = \"bad.sock\", address = \"10.9.0.9/24\" }\n";
    let arena = Arena::start_injecting(&[], config);
    let mut events = arena.daemon.events();
    let path = arena.path("bad.sock");
    let client = Client::connect(&path, 0, &[]).expect("a tunnel");

    arena.daemon.inject_panic("accept.bad");
    assert!(Client::connect(&path, 0, &[]).is_err());
    expect_failure(&mut events, "bad", "accept.bad");
    arena.daemon.wait_state("bad", PortState::Up);
    client.name().expect("it is served on");
    assert!(matches!(Client::connect(&path, 0, &[]), Err(Error::Refused(Refusal::Busy))));

    arena.daemon.inject_panic("port.bad.0");
    wait_until("the client's port to go", PATIENCE, || arena.daemon.find_port("bad.0").is_none());
    assert!(client.name().is_err());
    let next = wait_for("a tunnel", PATIENCE, || Client::connect(&path, 0, &[]).ok());
    assert_eq!(next.name().expect("a name"), "tunnel0");
    arena.daemon.departs("bad.0");
    drop(next);
    wait_until("the port to go", PATIENCE, || arena.daemon.find_port("bad.0").is_none());
    drop(events);
    arena.finish();
}

#[test]
fn the_control_interface_and_the_supervisor_go_on_after_panics() {
    let arena = Arena::start_injecting(&[], "");
    let mut events = arena.daemon.events();
    for place in ["control-accept", "control-connection", "request", "tick"] {
        arena.daemon.inject_panic(place);
        // Whatever comes of this one.
        drop(arena.daemon.connect());
        if place == "request" {
            let answer = arena.daemon.request("GET", "/v1/status", None);
            assert_ne!(answer.status, 200, "{answer:?}");
        }
        arena.daemon.wait_panicked(place);
        assert_eq!(arena.daemon.status().networks, 1, "{place}");
    }
    // Events of before go on, and changes are made.
    let table = format!(r#"{{"stream":{{"listen":"{}"}}}}"#, arena.path("x.sock").display());
    assert_eq!(arena.daemon.add_port("lab", "x", &table).status, 200);
    events.expect("the port", |event| matches!(event, EventKind::PortAdded { port, .. } if port == "x"));
    assert_eq!(arena.daemon.remove_port("lab", "x").status, 200);
    drop(events);
    arena.finish();
}
