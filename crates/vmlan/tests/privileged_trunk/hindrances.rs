//! Hindrances that keep a trunk from being joined, and that go away.

use std::process::Command;
use std::time::Duration;

use testbed::{poll_until, require, wait_until};
use vmlan_api::{PortState, TrunkMode};

use crate::lab::{CLSACT, HOST, Lab, WIRE, v4, v6};
use crate::support::{Daemon, PATIENCE, directory, mac};

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// For how long attempts are watched: some of them, for the first few are less than a second apart.
const SOME_ATTEMPTS: Duration = Duration::from_secs(4);

/// Waits until the trunk says why it is not joined, and looks at the next attempts: another reason would be said too.
#[track_caller]
fn always_fails_with(daemon: &Daemon, words: &str) {
    daemon.wait_state("trunk", PortState::Failed);
    let warnings = || daemon.log().matches("WARN port lab/trunk").count();
    assert!(!poll_until(SOME_ATTEMPTS, || warnings() > 1), "{}", daemon.log());
    let reason = daemon.port("trunk").reason.unwrap_or_default();
    assert!(reason.contains(words) && warnings() == 1, "{reason}\n{}", daemon.log());
}

#[test]
fn a_qdisc_in_the_way_is_named_until_it_is_gone() {
    require!(namespaces());
    let lab = Lab::new();
    lab.host.exec("tc", ["qdisc", "add", "dev", "eth0", "ingress"]).expect_success();
    let config = lab.config(&format!("mode = \"filter\"\n{CLSACT}"));
    let daemon = Daemon::start_within(&lab.host, directory(), &config);
    always_fails_with(&daemon, "has an `ingress` qdisc");
    assert!(daemon.port("trunk").reason.unwrap_or_default().contains("ingress"));
    lab.host.exec("tc", ["qdisc", "del", "dev", "eth0", "ingress"]).expect_success();
    lab.configure(&daemon);
    lab.all_ping();
    daemon.stop();
}

#[test]
fn auto_makes_do_with_packet_when_the_programs_cannot_be_placed() {
    require!(namespaces());
    let lab = Lab::new();
    lab.host.exec("tc", ["qdisc", "add", "dev", "eth0", "ingress"]).expect_success();
    let daemon = lab.start(&lab.config(CLSACT));
    let trunk = daemon.trunk();
    assert_eq!(trunk.mode, TrunkMode::Packet);
    assert!(
        trunk.reason.as_deref().is_some_and(|reason| reason.contains("has an `ingress` qdisc")),
        "{trunk:?}"
    );
    assert!(!lab.host.ip(["link"]).stdout.contains("vmlw"), "what filter had made is gone");
    lab.pings(3, WIRE);
    daemon.stop();
}

#[test]
fn a_vlan_interface_is_joined_once_its_parent_is_up() {
    require!(namespaces());
    let lab = Lab::new();
    lab.host.ip(["link", "set", "eth0", "down"]);
    let vlan =
        ["-n", lab.host.name(), "link", "add", "link", "eth0", "name", "eth0.10", "type", "vlan", "id", "10"];
    if !testbed::run(command("ip", &vlan), PATIENCE).success() {
        // A kernel without VLAN interfaces.
        return;
    }
    let config = format!("[network.lab.trunk]\ninterface = \"eth0.10\"\nmode = \"filter\"\n{}", lab.ports());
    let daemon = Daemon::start_within(&lab.host, directory(), &config);
    always_fails_with(&daemon, "bring eth0.10 up");
    lab.host.ip(["link", "set", "eth0", "up"]);
    lab.configure(&daemon);
    daemon.stop();
    assert!(!lab.host.ip(["link"]).stdout.contains("vmlw"));
}

#[test]
fn a_macvtap_is_not_left_behind_when_the_address_is_a_guests() {
    require!(namespaces());
    let lab = Lab::new();
    let port =
        format!("[network.lab.port.raw]\nstream = {{ listen = \"raw.sock\" }}\nmac = \"{}\"\n", mac(HOST));
    let config = format!("[network.lab.trunk]\ninterface = \"eth0\"\nmode = \"macvtap\"\n{port}");
    let daemon = Daemon::start_within(&lab.host, directory(), &config);
    always_fails_with(&daemon, "trunk");
    let attempts = daemon.log();
    daemon.stop();
    assert!(!lab.host.ip(["link"]).stdout.contains("vmlm"), "{attempts}");
}

/// A guest that has an address which the host wants too says so, and the host gives it up.
#[test]
fn a_guest_defends_its_address_while_the_host_asks_for_it() {
    require!(namespaces());
    let lab = Lab::new();
    let daemon = lab.start(&lab.config(""));
    lab.all_ping();
    for (variable, value) in [("accept_dad", "1"), ("dad_transmits", "1")] {
        lab.host.sysctl(&format!("net.ipv6.conf.eth0.{variable}"), value);
    }
    lab.host.ip(["address", "add", &format!("{}/64", v6(3)), "dev", "eth0"]);
    let shown = || lab.host.ip(["-6", "address", "show", "dev", "eth0"]).stdout;
    wait_until("the host to find its address taken", PATIENCE, || shown().contains("dadfailed"));
    assert!(!daemon.trunk().host_addresses.contains(&v6(3).to_string()), "{:?}", daemon.trunk());
    // It is spoken for further on: by what the wire asks, and the guest answers.
    lab.wire.ip(["neigh", "flush", "all"]);
    assert!(lab.wire.reaches(v6(3), PATIENCE));
    assert_eq!(daemon.drops("guest3", vmlan_frame::DropReason::AddressConflict), 0);

    // An address that nobody has is the host's when that is sure of it.
    lab.host.ip(["address", "add", &format!("{}/64", v6(77)), "dev", "eth0"]);
    wait_until("the host's address", PATIENCE, || {
        daemon.trunk().host_addresses.contains(&v6(77).to_string())
    });
    assert!(daemon.trunk().host_addresses.contains(&v4(HOST).to_string()));
    daemon.stop();
}
