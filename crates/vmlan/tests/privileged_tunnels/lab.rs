use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use testbed::{Interface, Netns, Process, ping};

use crate::support::{Daemon, PATIENCE, VMLAN};

/// The IPv4 address of guest `number`.
pub fn v4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, number)
}

/// The IPv6 address of guest `number`.
pub fn v6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, number.into())
}

/// Both addresses as a list in TOML.
pub fn addresses(number: u8) -> String {
    format!("[\"{}/24\", \"{}/64\"]", v4(number), v6(number))
}

/// A daemon with a guest on a TAP, number 2, and these ports.
pub fn with_tap_guest(head: &str, ports: &str) -> (Daemon, Netns) {
    let netns = Netns::new("tap");
    let daemon = Daemon::start(&format!(
        "{head}{ports}[network.lab.port.tap]\ntap = {{ name = \"t0\", netns = \"{}\" }}\n",
        netns.path().display()
    ));
    daemon.wait_up(&["tap"]);
    let interface = Interface::new().address(&format!("{}/24", v4(2))).address(&format!("{}/64", v6(2)));
    netns.configure("t0", &interface);
    (daemon, netns)
}

/// `vmlan tunnel connect` in a namespace, joined.
#[track_caller]
pub fn join(netns: &Netns, daemon: &Daemon, socket: &str, arguments: &[&str]) -> Process {
    let socket = daemon.path(socket).display().to_string();
    let mut process =
        netns.spawn(VMLAN, ["tunnel", "connect", &socket, "--device", "u0"].iter().chain(arguments).copied());
    process.wait_for_log("is joined by", PATIENCE);
    process
}

/// Both families; every request has to be answered, once.
#[track_caller]
pub fn pings(from: &Netns, to: u8) {
    for address in [IpAddr::from(v4(to)), v6(to).into()] {
        let report = ping(from, address, 3);
        assert!(report.all(), "{address}: {report:?}");
    }
}
