//! Where the device comes from, and what is left of it.

use testbed::{require, wait_until};
use vmlan_api::PortState;

use crate::lab::{Guest, configure, open_in, v4, v6};
use crate::support::{Daemon, PATIENCE, assert_balanced, mac};

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

#[test]
fn inherited_devices_are_ports() {
    require!(namespaces());
    let (one, two) = (Guest::new(1), Guest::new(2));
    let config = "[network.lab.port.guest1]\ntap = { fd = 3 }\n[network.lab.port.guest2]\ntap = { fd = 4 }\n";
    let daemon = Daemon::start_with_descriptors(config, open_in(&one.netns), open_in(&two.netns));
    // The daemon leaves an inherited device as it is, and says so.
    daemon.wait_state("guest1", PortState::Down);
    one.configure();
    two.configure();
    daemon.wait_up(&["guest1", "guest2"]);
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
fn the_state_of_a_port_follows_its_device() {
    require!(namespaces());
    let one = Guest::new(1);
    let daemon = Daemon::start(&one.port(""));
    daemon.wait_up(&["guest1"]);
    let set = |words: &[&str]| one.netns.ip(["link", "set", "t0"].iter().chain(words).copied());
    let says = |state: PortState, text: &str| {
        wait_until(text, PATIENCE, || {
            let port = daemon.port("guest1");
            port.state == state && port.reason.unwrap_or_default().contains(text)
        });
    };
    set(&["down"]);
    says(PortState::Down, "t0 is down");
    set(&["up"]);
    says(PortState::Up, "");
    set(&["carrier", "off"]);
    says(PortState::Down, "no carrier");
    set(&["carrier", "on"]);
    says(PortState::Up, "");
    set(&["mtu", "1400"]);
    says(PortState::Up, "an MTU of 1400 instead of 1500");
    set(&["mtu", "1500"]);
    wait_until("nothing to complain of", PATIENCE, || daemon.port("guest1").reason.is_none());
    set(&["down"]);
    set(&["name", "vm0"]);
    one.netns.ip(["link", "set", "vm0", "up"]);
    let is_renamed = || daemon.port("guest1").peer.as_deref() == Some("vm0");
    wait_until("the new name", PATIENCE, is_renamed);
    says(PortState::Up, "");
    daemon.stop();
}

#[test]
fn a_port_that_is_down_takes_the_carrier_of_its_device() {
    require!(namespaces());
    let (one, two) = (Guest::new(1), Guest::new(2));
    let daemon = Daemon::start(&format!("{}{}", one.port(""), two.port("")));
    configure(&daemon, &[&one, &two]);
    one.pings(&two);
    let carrier = |wanted: &str| {
        let link = || one.netns.ip(["-o", "link", "show", "dev", "t0"]).stdout.contains(wanted);
        wait_until(wanted, PATIENCE, link);
    };
    daemon.cli(&["port", "down", "lab", "guest1"]).expect_success();
    carrier("NO-CARRIER");
    assert!(!one.reaches(&two));
    daemon.cli(&["port", "up", "lab", "guest1"]).expect_success();
    carrier("LOWER_UP");
    daemon.wait_up(&["guest1"]);
    one.pings(&two);
    assert_balanced(&daemon);
    daemon.stop();
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
    assert!(daemon.drops("guest1", vmlan_frame::DropReason::SourceGuard) > 0);
    one.netns.ip(["link", "set", "t0", "address", &mac(1).to_string()]);
    assert!(one.netns.reaches(v4(2), PATIENCE));
    assert!(one.netns.reaches(v6(2), PATIENCE));
    assert_balanced(&daemon);
    daemon.stop();
}
