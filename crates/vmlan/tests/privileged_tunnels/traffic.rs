//! Traffic between a tunnel and other guests.

use std::net::IpAddr;

use testbed::{Iperf, Netns, Ping, iperf3, ping, require, wait_until};

use crate::lab::{addresses, join, pings, v4, v6, with_tap_guest};
use crate::support::{PATIENCE, assert_balanced};

fn socket() -> String {
    format!("[network.lab.port.vpn]\ntunnel = {{ listen = \"vpn.sock\", address = {} }}\n", addresses(9))
}

#[test]
fn tunnel_case_9_ping_and_tcp_between_a_tunnel_and_a_tap_in_both_families() {
    require!(namespaces(), tool("iperf3"));
    for head in ["", "workers = 2\n"] {
        let (daemon, tap) = with_tap_guest(head, &socket());
        let netns = Netns::new("tunnel");
        let client = join(&netns, &daemon, "vpn.sock", &[]);
        pings(&netns, 2);
        pings(&tap, 9);
        for (address, wanted) in [
            (IpAddr::from(v4(2)), Iperf::tcp(1)),
            (v4(2).into(), Iperf::tcp(1).reversed()),
            (v6(2).into(), Iperf::tcp(1)),
            (v6(2).into(), Iperf::tcp(1).reversed()),
        ] {
            let report = iperf3(&netns, &tap, address, wanted);
            assert!(report.received_octets > 1_000_000, "{report:?}");
        }
        let report = iperf3(&netns, &tap, v4(2), Iperf::udp(1, 10_000_000));
        assert!(report.datagrams > 100 && report.lost * 10 <= report.datagrams, "{report:?}");
        let filling = Ping::filling(v4(2).into(), 3, 1500).run(&netns);
        assert!(filling.all(), "{filling:?}");
        daemon.departs("vpn.0");
        drop(client);
        wait_until("the port to go", PATIENCE, || daemon.find_port("vpn.0").is_none());
        assert!(!netns.has_interface("u0"), "the device goes with the client");
        assert_balanced(&daemon);
        daemon.stop();
    }
}

/// Guests with an MTU of 1500 find out about a tunnel with 1280.
#[test]
fn guests_find_out_that_a_tunnel_takes_shorter_packets() {
    require!(namespaces(), tool("iperf3"));
    let socket = socket().replace("tunnel = { ", "tunnel = { mtu = 1280, ");
    let (daemon, tap) = with_tap_guest("", &socket);
    let netns = Netns::new("tunnel");
    let client = join(&netns, &daemon, "vpn.sock", &[]);
    pings(&tap, 9);
    // What may be cut is cut, and put together again by the kernel.
    tap.exec("ping", ["-c", "3", "-M", "dont", "-s", "1400", &v4(9).to_string()]).expect_success();
    for address in [IpAddr::from(v4(9)), v6(9).into()] {
        for wanted in [Iperf::tcp(1), Iperf::tcp(1).reversed()] {
            let report = iperf3(&tap, &netns, address, wanted);
            assert!(report.received_octets > 1_000_000, "{report:?}");
        }
        // The first datagrams are lost, and tell how long the others may be.
        let path = |guest: &Netns| guest.ip(["route", "get", &address.to_string()]).stdout;
        let filling = Ping::filling(address, 5, 1500).run(&tap);
        assert!(filling.received < 5 && path(&tap).contains("mtu 1280"), "{filling:?} {}", path(&tap));
    }
    daemon.departs("vpn.0");
    drop(client);
    wait_until("the port to go", PATIENCE, || daemon.find_port("vpn.0").is_none());
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn clients_of_one_socket_reach_each_other_and_the_others() {
    require!(namespaces());
    let ports = "[network.lab.port.many]\ntunnel = { listen = \"many.sock\", allow = [\"10.9.0.0/24\", \"fd09::/64\"] }\n";
    let (daemon, tap) = with_tap_guest("", ports);
    let (one, other) = (Netns::new("one"), Netns::new("other"));
    let wanted = |number| [format!("{}/24", v4(number)), format!("{}/64", v6(number))];
    let clients = [(&one, 11), (&other, 12)].map(|(netns, number)| {
        let [first, second] = wanted(number);
        join(netns, &daemon, "many.sock", &["--address", &first, "--address", &second])
    });
    pings(&one, 12);
    pings(&other, 2);
    pings(&tap, 11);
    assert_eq!(ping(&one, v4(13), 1).received, 0);
    drop(clients);
    wait_until("the ports to go", PATIENCE, || daemon.ports().len() == 2);
    daemon.stop();
}

/// The next hop outside the network of the addresses is a guest that forwards.
#[test]
fn packets_leave_the_network_by_the_gateway() {
    require!(namespaces());
    let ports = format!(
        "[network.lab.port.vpn]\n\
         tunnel = {{ listen = \"vpn.sock\", address = {}, gateway = [\"{}\", \"{}\"] }}\n",
        addresses(9),
        v4(2),
        v6(2)
    );
    let (daemon, tap) = with_tap_guest("", &ports);
    tap.ip(["address", "add", "192.0.2.1/32", "dev", "lo"]);
    tap.ip(["address", "add", "2001:db8::1/128", "dev", "lo"]);
    let netns = Netns::new("tunnel");
    let _client = join(&netns, &daemon, "vpn.sock", &[]);
    netns.ip(["route", "add", "192.0.2.0/24", "dev", "u0"]);
    netns.ip(["-6", "route", "add", "2001:db8::/64", "dev", "u0"]);
    for address in ["192.0.2.1", "2001:db8::1"] {
        let report = ping(&netns, address.parse::<IpAddr>().expect("an address"), 3);
        assert!(report.all(), "{address}: {report:?}");
    }
}

#[test]
fn a_client_that_is_killed_under_load_takes_its_device_along() {
    require!(namespaces());
    let (daemon, tap) = with_tap_guest("", &socket());
    let netns = Netns::new("tunnel");
    for _ in 0..5 {
        let mut client = join(&netns, &daemon, "vpn.sock", &[]);
        assert!(ping(&netns, v4(2), 1).all());
        let flood = netns.spawn("ping", ["-f", "-q", &v4(2).to_string()]);
        let back = tap.spawn("ping", ["-f", "-q", &v4(9).to_string()]);
        let counted = || daemon.find_port("vpn.0").is_some_and(|port| port.counters.tx_frames > 500);
        wait_until("the load", PATIENCE, counted);
        client.signal(rustix::process::Signal::KILL);
        wait_until("the port to go", PATIENCE, || daemon.find_port("vpn.0").is_none());
        wait_until("the device to go", PATIENCE, || !netns.has_interface("u0"));
        drop((flood, back));
    }
    // The others are unhurt.
    let _client = join(&netns, &daemon, "vpn.sock", &[]);
    pings(&netns, 2);
}
