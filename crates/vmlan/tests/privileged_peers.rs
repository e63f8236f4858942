//! Other projects' programs as peers: VDE's plug, and passt as the way out.

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use testbed::peer::{Passt, VdePlug, vde_plug2tap};
use testbed::{Interface, Iperf, Netns, iperf3, ping, require, wait_until};

use support::{Daemon, PATIENCE, assert_balanced, mac, numbered};

fn v4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, number)
}

fn v6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, number.into())
}

fn interface(number: u8) -> Interface {
    Interface::new()
        .mac(&mac(number).to_string())
        .address(&format!("{}/24", v4(number)))
        .address(&format!("{}/64", v6(number)))
}

/// The configuration of a TAP in a namespace as the port `tap`.
fn tap(netns: &Netns) -> String {
    format!("[network.lab.port.tap]\ntap = {{ name = \"t0\", netns = \"{}\" }}\n", netns.path().display())
}

#[test]
fn vde_plugs_and_taps_reach_each_other() {
    require!(namespaces(), tool("vde_plug2tap"), tool("iperf3"));
    let (one, two, three) = (Netns::new("tap"), Netns::new("plug"), Netns::new("plug"));
    let daemon = Daemon::start(&format!(
        "{}[network.lab.port.guests]\nvde = {{ directory = \"lab.vde\" }}\n",
        tap(&one)
    ));
    daemon.wait_up(&["tap", "guests"]);
    one.configure("t0", &interface(1));
    let _plug = vde_plug2tap(&two, &daemon.path("lab.vde"), "p0");
    two.configure("p0", &interface(2));
    let second = vde_plug2tap(&three, &daemon.path("lab.vde"), "p0");
    three.configure("p0", &interface(3));
    daemon.wait_up(&["guests.0", "guests.1"]);

    for (from, to) in [(&one, 2), (&two, 1), (&two, 3), (&three, 1)] {
        assert!(from.reaches(v4(to), PATIENCE));
        let (in_v4, in_v6) = (ping(from, v4(to), 3), ping(from, v6(to), 3));
        assert!(in_v4.all() && in_v6.all(), "{} to {to}: {in_v4:?} {in_v6:?}", from.name());
    }
    let there = iperf3(&one, &two, v4(2), Iperf::tcp(1));
    let back = iperf3(&one, &two, v4(2), Iperf::tcp(1).reversed());
    assert!(there.received_octets > 100_000 && back.received_octets > 100_000, "{there:?} {back:?}");
    assert!(
        daemon
            .port("guests.0")
            .peer
            .is_some_and(|peer| peer.contains("vde_plug2tap") || peer.contains("pid"))
    );
    assert_balanced(&daemon);

    drop(second);
    wait_until("the second plug's port to go", PATIENCE, || daemon.find_port("guests.1").is_none());
    assert!(ping(&one, v4(2), 3).all());
    daemon.stop();
    assert!(!one.has_interface("t0"));
}

#[test]
fn vde_plug_sends_and_receives_frames() {
    require!(tool("vde_plug"));
    let daemon = Daemon::start("[network.lab.port.guests]\nvde = { directory = \"lab.vde\" }\n");
    let mut one = VdePlug::connect(&daemon.path("lab.vde"));
    daemon.wait_up(&["guests.0"]);
    let mut two = VdePlug::connect(&daemon.path("lab.vde"));
    daemon.wait_up(&["guests.1"]);
    for number in 0..100 {
        one.send(&numbered(mac(2), mac(1), number));
        assert_eq!(two.receive(PATIENCE), Some(numbered(mac(2), mac(1), number)));
        two.send(&numbered(mac(1), mac(2), number));
        assert_eq!(one.receive(PATIENCE), Some(numbered(mac(1), mac(2), number)));
    }
    assert_balanced(&daemon);
    drop((one, two));
    wait_until("the ports to go", PATIENCE, || daemon.ports().len() == 1);
    daemon.stop();
}

#[test]
fn a_tap_reaches_the_world_through_passt_and_again_when_passt_is_restarted() {
    require!(namespaces(), tool("passt"));
    let guest = Netns::new("guest");
    let directory = support::directory();
    let socket = directory.path().join("passt.sock");
    let daemon = Daemon::start(&format!(
        "{}[network.lab.port.out]\nstream = {{ connect = \"{}\" }}\n",
        tap(&guest),
        socket.display()
    ));
    daemon.wait_up(&["tap"]);
    guest.configure(
        "t0",
        &Interface::new()
            .mac(&mac(1).to_string())
            .address(&format!("{}/24", Passt::GUEST_V4))
            .address(&format!("{}/64", Passt::GUEST_V6)),
    );
    for round in 0..2 {
        let passt = Passt::listen(&socket);
        daemon.wait_up(&["out"]);
        for router in [IpAddr::from(Passt::ROUTER_V4), Passt::ROUTER_V6.into()] {
            assert!(guest.reaches(router, PATIENCE), "{router} in round {round}: {:#?}", daemon.ports());
            let report = ping(&guest, router, 5);
            assert!(report.all(), "{router} in round {round}: {report:?}");
        }
        drop(passt);
        daemon.wait_state("out", vmlan_api::PortState::Waiting);
        // Whoever listens there next would find its path taken.
        let _ = std::fs::remove_file(&socket);
    }
    assert_balanced(&daemon);
    daemon.stop();
}
