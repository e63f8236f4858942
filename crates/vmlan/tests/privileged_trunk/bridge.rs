//! A network that is a port of a bridge of the host's.

use testbed::{Interface, Iperf, iperf3, require, wait_until};
use vmlan_api::TrunkMode;

use crate::lab::{HOST, Lab, WIRE, v4, v6, wait_trunk};
use crate::support::{PATIENCE, assert_balanced, mac};

impl Lab {
    /// Puts the host's `eth0` into a bridge that has the host's addresses.
    #[track_caller]
    fn add_bridge(&self) {
        self.host.ip(["address", "flush", "dev", "eth0"]);
        self.host.ip(["link", "add", "br0", "type", "bridge"]);
        self.host.ip(["link", "set", "eth0", "master", "br0"]);
        let addresses = [format!("{}/24", v4(HOST)), format!("{}/64", v6(HOST))];
        self.host.configure("br0", &Interface::new().address(&addresses[0]).address(&addresses[1]));
    }

    fn bridge_config(&self) -> String {
        format!("[network.lab.trunk]\nbridge = \"br0\"\n{}", self.ports())
    }

    /// Returns the MTU and the address that the bridge has of its own.
    fn bridge_line(&self) -> [String; 2] {
        let shown = self.host.ip(["link", "show", "dev", "br0"]).stdout;
        let word = |before: &str| {
            let mut words = shown.split_whitespace().skip_while(|word| *word != before);
            words.nth(1).map(str::to_owned).expect("a value")
        };
        [word("mtu"), word("link/ether")]
    }
}

#[test]
fn case_12_a_bridge_that_drops_our_port_is_joined_again() {
    require!(namespaces(), tool("iperf3"));
    let lab = Lab::new();
    lab.add_bridge();
    let before = lab.bridge_line();
    let daemon = lab.start(&lab.bridge_config());
    assert_eq!(daemon.trunk().mode, TrunkMode::Bridge);
    lab.all_ping();
    for (from, to) in [(WIRE, 3), (3, HOST)] {
        let report = iperf3(lab.netns(from), lab.netns(to), v4(to), Iperf::tcp(1));
        assert!(report.received_octets > 1_000_000, "{from} to {to}: {report:?}");
    }
    assert_eq!(lab.bridge_line(), before, "the bridge keeps its MTU and address");

    let ports = lab.host.ip(["link", "show", "master", "br0"]).stdout;
    let device = ports.split_whitespace().find(|word| word.starts_with("vmlb")).expect("our port");
    let device = device.trim_end_matches(':');
    for _ in 0..10 {
        lab.host.ip(["link", "set", "dev", device, "nomaster"]);
        let is_back = || lab.host.ip(["link", "show", "master", "br0"]).stdout.contains(device);
        wait_until("our port to be back", PATIENCE, is_back);
    }
    lab.all_ping();
    assert_eq!(lab.bridge_line(), before);
    assert_balanced(&daemon);
    daemon.stop();
    assert!(!lab.host.has_interface(device));
}

/// The trunk is on a port of the bridge; the host's addresses are on that.
#[test]
fn the_hosts_addresses_on_the_bridge_above_are_its_own() {
    require!(namespaces());
    let lab = Lab::new();
    lab.add_bridge();
    let daemon = lab.start(&lab.config("mode = \"filter\""));
    for address in [v4(HOST), v6(HOST)] {
        wait_trunk(&daemon, "the address", |trunk| trunk.host_addresses.contains(&address.to_string()));
    }
    lab.host.ip(["address", "add", &format!("{}/24", v4(77)), "dev", "br0"]);
    wait_trunk(&daemon, "the new address", |trunk| trunk.host_addresses.contains(&v4(77).to_string()));
    lab.host.ip(["link", "set", "eth0", "nomaster"]);
    wait_trunk(&daemon, "no address", |trunk| !trunk.host_addresses.contains(&v4(77).to_string()));
    daemon.stop();
}

#[test]
fn guests_behind_a_bridge_are_counted() {
    require!(namespaces());
    let lab = Lab::new();
    lab.add_bridge();
    let raw = format!("[network.lab.port.raw]\nstream = {{ listen = \"raw.sock\" }}\nmac = \"{}\"\n", mac(9));
    let daemon = lab.start(&format!("{}{raw}", lab.bridge_config()));
    lab.all_ping();
    // One is set and two were heard, which may have spoken from other addresses before they were configured.
    wait_trunk(&daemon, "all guests", |trunk| trunk.stations >= 3);
    daemon.stop();
}

#[test]
fn a_bridge_keeps_what_it_has_of_its_ports() {
    require!(namespaces());
    let lab = Lab::new();
    lab.add_bridge();
    let daemon = lab.start(&lab.bridge_config());
    // A bridge has the MTU of the port that has the lowest: not ours.
    for mtu in ["1400", "1600"] {
        lab.host.ip(["link", "set", "eth0", "mtu", mtu]);
        wait_until("the bridge's MTU", PATIENCE, || lab.bridge_line()[0] == mtu);
    }
    daemon.stop();
}

/// Such a bridge loses its address with its last port, which is ours.
#[test]
fn a_bridge_without_other_ports_is_joined_again() {
    require!(namespaces());
    let lab = Lab::new();
    lab.host.ip(["link", "add", "br0", "type", "bridge"]);
    lab.host.configure("br0", &Interface::new());
    let daemon = lab.start(&lab.bridge_config());
    for mtu in [1400, 1500] {
        daemon.write_config(&format!("[network.lab]\nmtu = {mtu}\n{}", lab.bridge_config()));
        daemon.cli(&["apply"]).expect_success();
        daemon.wait_up(&["trunk"]);
        assert_ne!(lab.bridge_line()[1], "00:00:00:00:00:00");
    }
    daemon.stop();
}

#[test]
fn what_is_no_bridge_is_told() {
    require!(namespaces());
    let lab = Lab::new();
    let config = lab.bridge_config().replace("br0", "eth0");
    let daemon = crate::support::Daemon::start_within(&lab.host, crate::support::directory(), &config);
    daemon.wait_state("trunk", vmlan_api::PortState::Failed);
    let reason = daemon.port("trunk").reason.unwrap_or_default();
    assert!(reason.contains("eth0 is no bridge"), "{reason}");
    daemon.stop();
}

#[test]
fn the_bridge_forgets_a_guest_that_left_and_no_other() {
    require!(namespaces(), tool("bridge"));
    let lab = Lab::new();
    lab.add_bridge();
    let daemon = lab.start(&lab.bridge_config());
    lab.all_ping();
    let knows = |number| {
        let known = lab.host.exec("bridge", ["fdb", "show", "br", "br0"]).expect_success().stdout;
        known.lines().any(|line| line.starts_with(&mac(number).to_string()) && line.contains("dev vmlb"))
    };
    assert!(knows(3) && knows(4), "both were heard");

    daemon.remove_port("lab", "guest3");
    wait_until("the bridge to forget the guest", PATIENCE, || !knows(3));

    assert!(knows(4));
    lab.pings(WIRE, 4);
    daemon.stop();
}
