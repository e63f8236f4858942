//! `vmlan host`: an interface on a network in one command.

use rustix::process::Signal;
use testbed::{Netns, require, wait_until};

use crate::lab::{pings, v4, v6, with_tap_guest};
use crate::support::{PATIENCE, VMLAN};

fn arguments(daemon: &crate::support::Daemon, more: &[&str]) -> Vec<String> {
    let addresses = [format!("{}/24", v4(1)), format!("{}/64", v6(1))];
    let control = daemon.control().display().to_string();
    let fixed =
        ["host", "lab", "--address", &addresses[0], "--address", &addresses[1], "--control", &control];
    fixed.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
}

#[test]
fn the_host_is_on_a_network_until_its_command_ends() {
    require!(namespaces());
    let (daemon, tap) = with_tap_guest("", "");
    let netns = Netns::new("host");
    for signal in [Signal::INT, Signal::TERM] {
        let mut command = netns.spawn(VMLAN, arguments(&daemon, &[]));
        command.wait_for_log("vmlan0 is on network lab", PATIENCE);
        pings(&netns, 2);
        pings(&tap, 1);
        command.signal(signal);
        wait_until("the command's end", PATIENCE, || !command.is_running());
        assert!(daemon.find_port("this-host").is_none() && !netns.has_interface("vmlan0"));
    }
    daemon.stop();
}

#[test]
fn a_host_that_is_kept_stays_until_its_port_is_removed() {
    require!(namespaces());
    let (daemon, _tap) = with_tap_guest("", "");
    let netns = Netns::new("host");
    let wanted = ["--keep", "--device", "lab0", "--port", "router"];
    netns.exec(VMLAN, arguments(&daemon, &wanted)).expect_success();
    pings(&netns, 2);
    let again = netns.exec(VMLAN, arguments(&daemon, &wanted));
    assert!(!again.success() && again.stderr.contains("--port"), "{}", again.stderr);
    daemon.cli(&["port", "remove", "lab", "router"]).expect_success();
    assert!(!netns.has_interface("lab0"));
    daemon.stop();
}

#[test]
fn an_address_that_cannot_be_leaves_no_port_behind() {
    require!(namespaces());
    let (daemon, _tap) = with_tap_guest("", "");
    let netns = Netns::new("host");
    let address = format!("{}/24", v4(1));
    let control = daemon.control().display().to_string();
    let twice = ["host", "lab", "-a", &address, "-a", &address, "--control", &control];
    let output = netns.exec(VMLAN, twice);
    assert!(!output.success() && output.stderr.contains("is there twice"), "{}", output.stderr);
    assert!(daemon.find_port("this-host").is_none() && !netns.has_interface("vmlan0"));
    daemon.stop();
}

#[test]
fn a_killed_command_is_replaced_by_the_next_and_a_running_one_is_not() {
    require!(namespaces());
    let (daemon, tap) = with_tap_guest("", "");
    let netns = Netns::new("host");
    let mut killed = netns.spawn(VMLAN, arguments(&daemon, &[]));
    killed.wait_for_log("vmlan0 is on network lab", PATIENCE);
    let other = netns.exec(VMLAN, arguments(&daemon, &[]));
    assert!(!other.success() && other.stderr.contains("runs `vmlan host`"), "{}", other.stderr);
    pings(&tap, 1);
    killed.signal(Signal::KILL);
    wait_until("the command's end", PATIENCE, || !killed.is_running());
    assert!(netns.has_interface("vmlan0"));

    let mut next = netns.spawn(VMLAN, arguments(&daemon, &[]));
    next.wait_for_log("vmlan0 is on network lab", PATIENCE);
    // It has another link address, which the guest learns from it.
    pings(&netns, 2);
    pings(&tap, 1);
    next.signal(Signal::TERM);
    wait_until("the command's end", PATIENCE, || !next.is_running());
    assert!(daemon.find_port("this-host").is_none() && !netns.has_interface("vmlan0"));

    // A port that no command has left is not touched.
    netns.exec(VMLAN, arguments(&daemon, &["--keep"])).expect_success();
    let again = netns.exec(VMLAN, arguments(&daemon, &[]));
    assert!(!again.success() && again.stderr.contains("--port"), "{}", again.stderr);
    pings(&netns, 2);
    daemon.stop();
}

#[test]
fn a_host_is_in_the_vlan_that_it_names() {
    require!(namespaces());
    let other = "[network.lab.port.db]\nstream = { listen = \"db.sock\" }\nvlan = { access = 10 }\n";
    let (daemon, tap) = with_tap_guest("", other);
    let netns = Netns::new("host");
    for (vlan, line) in [("1", "vmlan0 is on network lab"), ("20", "port this-host is alone in its VLAN, 20")]
    {
        let mut command = netns.spawn(VMLAN, arguments(&daemon, &["--vlan", vlan]));
        command.wait_for_log(line, PATIENCE);
        if vlan == "1" {
            pings(&netns, 2);
            pings(&tap, 1);
        }
        let access = daemon.find_port("this-host").and_then(|port| port.vlan?.access);
        assert_eq!(access.map(|vlan| vlan.to_string()).as_deref(), Some(vlan));
        // The TAP's port names none.
        let listing = daemon.cli(&["ports", "lab"]).expect_success().stdout;
        assert!(listing.contains(" 1 (default) "), "{listing}");
        command.signal(Signal::INT);
        wait_until("the command's end", PATIENCE, || !command.is_running());
    }
    daemon.stop();
}
