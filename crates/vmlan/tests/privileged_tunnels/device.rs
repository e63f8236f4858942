//! Tunnels whose other end is a TUN that the daemon makes.

use testbed::{Iperf, Netns, iperf3, require, wait_until};
use vmlan_api::PortState;

use crate::lab::{addresses, pings, v4, with_tap_guest};
use crate::support::{PATIENCE, assert_balanced};

fn device(netns: &Netns, number: u8, more: &str) -> String {
    format!(
        "[network.lab.port.tun{number}]\n\
         tunnel = {{ device = \"u0\", netns = \"{}\", address = {}{more} }}\n",
        netns.path().display(),
        addresses(number)
    )
}

#[test]
fn devices_with_and_without_packet_information_are_guests() {
    require!(namespaces(), tool("iperf3"));
    let (bare, with_header) = (Netns::new("bare"), Netns::new("pi"));
    let ports = format!(
        "{}{}",
        device(&bare, 3, ""),
        device(&with_header, 4, ", packet_information = true, mtu = 1400")
    );
    let (daemon, tap) = with_tap_guest("", &ports);
    daemon.wait_up(&["tun3", "tun4"]);
    assert_eq!(daemon.port("tun3").peer.as_deref(), Some("u0"));
    pings(&bare, 2);
    pings(&with_header, 2);
    pings(&bare, 4);
    pings(&tap, 3);
    for netns in [&bare, &with_header] {
        let report = iperf3(netns, &tap, v4(2), Iperf::tcp(1));
        let back = iperf3(netns, &tap, v4(2), Iperf::tcp(1).reversed());
        assert!(
            report.received_octets > 1_000_000 && back.received_octets > 1_000_000,
            "{report:?} {back:?}"
        );
    }
    let mtu = with_header.ip(["link", "show", "dev", "u0"]).stdout;
    assert!(mtu.contains("mtu 1400"), "{mtu}");
    assert_balanced(&daemon);
    daemon.stop();
    assert!(!bare.has_interface("u0") && !with_header.has_interface("u0"), "the devices go with the daemon");
}

#[test]
fn a_device_that_is_deleted_is_made_again() {
    require!(namespaces());
    let netns = Netns::new("tun");
    let (daemon, _tap) = with_tap_guest("", &device(&netns, 3, ""));
    daemon.wait_up(&["tun3"]);
    pings(&netns, 2);
    netns.ip(["link", "delete", "u0"]);
    wait_until("the device to come back", PATIENCE, || netns.has_interface("u0"));
    daemon.wait_up(&["tun3"]);
    pings(&netns, 2);
}

#[test]
fn what_is_in_the_way_is_named() {
    require!(namespaces());
    let netns = Netns::new("tun");
    netns.ip(["tuntap", "add", "u0", "mode", "tap"]);
    let (daemon, _tap) = with_tap_guest("", &device(&netns, 3, ""));
    daemon.wait_state("tun3", PortState::Failed);
    let reason = daemon.port("tun3").reason.expect("a reason");
    assert!(reason.contains("u0") && reason.contains("no such TUN"), "{reason}");
    netns.ip(["link", "delete", "u0"]);
    daemon.wait_up(&["tun3"]);
    pings(&netns, 2);
}

#[test]
fn a_namespace_ends_with_its_file_and_the_device_is_made_in_the_next_one() {
    require!(namespaces());
    let (netns, witness) = (Netns::new("tun"), Netns::new("witness"));
    let (daemon, _tap) = with_tap_guest("", &device(&netns, 3, ""));
    daemon.wait_up(&["tun3"]);
    pings(&netns, 2);
    netns.ip(["link", "set", "u0", "down"]);
    daemon.wait_state("tun3", PortState::Down);

    netns.veth("v0", &witness, "v1");
    let ip = |verb| {
        let mut command = std::process::Command::new("ip");
        command.args(["netns", verb, netns.name()]);
        testbed::run(command, PATIENCE).expect_success();
    };
    ip("delete");
    wait_until("the namespace to end", PATIENCE, || !witness.has_interface("v1"));
    daemon.wait_state("tun3", PortState::Failed);
    ip("add");
    daemon.wait_up(&["tun3"]);
    assert!(netns.reaches(v4(2), PATIENCE));
    daemon.stop();
}
