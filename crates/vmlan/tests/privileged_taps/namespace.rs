//! Namespaces that end while a device of a port is in them.

use testbed::{Netns, require, wait_until};
use vmlan_api::PortState;

use crate::lab::{Guest, configure, with_guests};
use crate::support::{Daemon, PATIENCE, assert_balanced};

fn ip(arguments: &[&str]) {
    let mut command = std::process::Command::new("ip");
    command.args(arguments);
    testbed::run(command, PATIENCE).expect_success();
}

/// Removes the namespace's file. What tells that the namespace is gone as well is the other end of a veth.
#[track_caller]
fn end(netns: &Netns, witness: &Netns) {
    netns.veth("v0", witness, "v1");
    ip(&["netns", "delete", netns.name()]);
    wait_until("the namespace to end", PATIENCE, || !witness.has_interface("v1"));
}

#[track_caller]
fn comes_back(config: &str, prepare: impl Fn(&Guest)) {
    let (one, two, witness) = (Guest::new(1), Guest::new(2), Netns::new("witness"));
    prepare(&two);
    let daemon = Daemon::start(&format!("{config}{}{}", one.port(""), two.port("")));
    configure(&daemon, &[&one, &two]);
    one.pings(&two);
    for _ in 0..2 {
        end(&two.netns, &witness);
        daemon.wait_state("guest2", PortState::Failed);
        let reason = daemon.port("guest2").reason.expect("a reason");
        assert!(reason.contains(two.netns.name()), "{reason}");
        ip(&["netns", "add", two.netns.name()]);
        configure(&daemon, &[&two]);
        assert!(two.netns.reaches(crate::lab::v4(1), PATIENCE));
    }
    assert_balanced(&daemon);
    daemon.stop();
    assert!(!two.has_tap());
}

#[test]
fn a_namespace_ends_with_its_file_and_the_device_is_made_in_the_next_one() {
    require!(namespaces());
    comes_back("", |_| {});
    comes_back("workers = 2\n", |_| {});
}

#[test]
fn a_device_that_was_in_the_namespace_before_does_not_keep_it_alive() {
    require!(namespaces());
    comes_back("", |guest| {
        guest.netns.ip(["tuntap", "add", "t0", "mode", "tap", "vnet_hdr"]);
    });
}

#[test]
fn a_device_is_made_in_the_namespace_under_its_name_whatever_is_there() {
    require!(namespaces());
    let (one, two) = (Guest::new(1), Guest::new(2));
    // The name under which devices are made before they are moved.
    two.netns.veth("vmlt0", &one.netns, "v1");
    let daemon = with_guests("", &[&one, &two]);
    one.pings(&two);
    assert!(two.netns.has_interface("vmlt0"));
    daemon.stop();
}
