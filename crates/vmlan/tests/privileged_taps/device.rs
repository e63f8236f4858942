//! Where the device comes from, and what is left of it.

use std::os::fd::OwnedFd;

use api::PortState;
use testbed::{Netns, require};

use crate::lab::{Guest, configure, v4, v6};
use crate::support::{Daemon, assert_balanced, mac};

#[test]
fn a_device_that_was_there_before_stays() {
    require!(namespaces());
    let (one, two) = (Guest::new(1), Guest::new(2));
    one.netns.ip(["tuntap", "add", "t0", "mode", "tap", "vnet_hdr"]);
    one.configure();
    let daemon = Daemon::start(&format!("{}{}", one.port(""), two.port("")));
    configure(&daemon, &[&two]);
    daemon.wait_up(&["guest1"]);
    one.pings(&two);
    assert_balanced(&daemon);
    daemon.stop();
    assert!(one.has_tap() && !two.has_tap());
}

#[test]
fn a_persistent_device_keeps_its_addresses_from_one_daemon_to_the_next() {
    require!(namespaces());
    let (one, two) = (Guest::new(1), Guest::new(2));
    let persistent = format!(
        "[network.lab.port.guest1]\n\
         tap = {{ name = \"t0\", netns = \"{}\", persistent = true, owner = \"nobody\" }}\n",
        one.netns.path().display()
    );
    let config = format!("{persistent}{}", two.port(""));
    let daemon = Daemon::start(&config);
    configure(&daemon, &[&one, &two]);
    one.pings(&two);
    let details = one.netns.ip(["-d", "tuntap", "show"]).stdout;
    assert!(details.contains("persist") && details.contains("65534"), "{details}");

    let directory = daemon.stop();
    assert!(one.has_tap());
    let daemon = Daemon::start_in(directory, &config);
    configure(&daemon, &[&two]);
    daemon.wait_up(&["guest1"]);
    one.pings(&two);
    assert_balanced(&daemon);
    daemon.stop();
}

/// A TAP in a namespace, as somebody else opens it to hand it over.
fn open_in(netns: &Netns) -> OwnedFd {
    let open = || sys::tap::open("t0", sys::tap::Options::default());
    sys::netns::within(&netns.path(), open).expect("a namespace and a TAP").0
}

#[test]
fn inherited_devices_are_ports() {
    require!(namespaces());
    let (one, two) = (Guest::new(1), Guest::new(2));
    let config = "[network.lab.port.guest1]\ntap = { fd = 3 }\n[network.lab.port.guest2]\ntap = { fd = 4 }\n";
    let daemon = Daemon::start_with_descriptors(config, open_in(&one.netns), open_in(&two.netns));
    configure(&daemon, &[&one, &two]);
    one.pings(&two);
    assert_eq!(daemon.port("guest1").peer.as_deref(), Some("t0"));
    assert_balanced(&daemon);
    daemon.stop();
    assert!(!one.has_tap() && !two.has_tap());
}

#[test]
fn a_device_that_somebody_else_holds_is_named_and_waited_for() {
    require!(namespaces());
    let (one, two) = (Guest::new(1), Guest::new(2));
    let held = open_in(&one.netns);
    let daemon = Daemon::start(&format!("{}{}", one.port(""), two.port("")));
    daemon.wait_state("guest1", PortState::Failed);
    let reason = daemon.port("guest1").reason.expect("a reason");
    assert!(reason.contains("t0") && reason.contains("another program has it open"), "{reason}");
    configure(&daemon, &[&two]);

    drop(held);
    configure(&daemon, &[&one]);
    one.pings(&two);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn an_interface_that_is_no_tap_is_not_taken() {
    require!(namespaces());
    let one = Guest::new(1);
    let config = one.port("").replace("\"t0\"", "\"lo\"");
    let daemon = Daemon::start(&config);
    daemon.wait_state("guest1", PortState::Failed);
    let reason = daemon.port("guest1").reason.expect("a reason");
    assert!(reason.contains("lo") && reason.contains("no TAP"), "{reason}");
    daemon.stop();
}

#[test]
fn the_kernel_numbers_a_pattern() {
    require!(namespaces());
    let one = Guest::new(1);
    let daemon = Daemon::start(&one.port("").replace("\"t0\"", "\"vm%d\""));
    daemon.wait_up(&["guest1"]);
    assert_eq!(daemon.port("guest1").peer.as_deref(), Some("vm0"));
    assert!(one.netns.has_interface("vm0"));
    daemon.stop();
    assert!(!one.netns.has_interface("vm0"));
}

#[test]
fn a_set_address_binds_the_guest() {
    require!(namespaces());
    let (one, two) = (Guest::new(1), Guest::new(2));
    let set = format!("mac = \"{}\"", mac(1));
    let daemon = Daemon::start(&format!("{}{}", one.port(&set), two.port("")));
    configure(&daemon, &[&one, &two]);
    one.pings(&two);
    one.netns.ip(["link", "set", "t0", "address", "52:54:00:00:00:99"]);
    assert!(!one.reaches(&two));
    assert!(daemon.drops("guest1", frame::DropReason::SourceGuard) > 0);
    one.netns.ip(["link", "set", "t0", "address", &mac(1).to_string()]);
    assert!(one.netns.reaches(v4(2), crate::support::PATIENCE));
    assert!(one.netns.reaches(v6(2), crate::support::PATIENCE));
    assert_balanced(&daemon);
    daemon.stop();
}
