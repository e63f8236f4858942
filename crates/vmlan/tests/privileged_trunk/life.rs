//! Changes of the interface, and of the daemon, while a network is joined to it.

use std::time::Duration;

use testbed::{require, wait_until};
use vmlan_api::{EventKind, PortState, TrunkState};

use crate::lab::{CLSACT, HOST, Lab, WIRE, interface, v4, wait_trunk};
use crate::support::{Daemon, PATIENCE, assert_balanced, directory};
use crate::traffic::check;

#[test]
fn case_5_an_interface_that_is_deleted_and_made_a_hundred_times_is_back_each_time() {
    require!(namespaces());
    let lab = Lab::new();
    let daemon = lab.start(&lab.config(""));
    lab.all_ping();
    // Traffic goes on meanwhile.
    let mut flood = lab.guests[1].spawn("ping", ["-q", "-i", "0.01", &v4(WIRE).to_string()]);
    for round in 0..100 {
        lab.host.ip(["link", "del", "eth0"]);
        lab.plug();
        assert!(lab.guests[0].reaches(v4(WIRE), PATIENCE), "round {round}: {:?}", daemon.trunk());
    }
    assert!(flood.is_running(), "{}", flood.log());
    drop(flood);
    wait_trunk(&daemon, "the trunk", |trunk| trunk.state == TrunkState::Connected && trunk.active);
    lab.all_ping();
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn case_6_promiscuity_is_given_back_and_that_of_others_stays() {
    require!(namespaces(), tool("tcpdump"));
    let lab = Lab::new();
    assert_eq!(lab.promiscuity(), 0);
    let daemon = lab.start(&lab.config(""));
    wait_until("the interface to be promiscuous", PATIENCE, || lab.promiscuity() == 1);
    // Of another user it would give the file, which is everybody's, to that user.
    let mut foreign = lab.host.spawn("tcpdump", ["-Z", "root", "-i", "eth0", "-n", "-w", "/dev/null"]);
    foreign.wait_for_log("listening on", PATIENCE);
    assert_eq!(lab.promiscuity(), 2);
    daemon.stop();
    assert_eq!(lab.promiscuity(), 1);
    assert!(foreign.is_running());
    drop(foreign);
    wait_until("the end of the capture", PATIENCE, || lab.promiscuity() == 0);
}

#[test]
fn the_interface_is_promiscuous_and_up_only_while_a_guest_is_there() {
    require!(namespaces());
    let lab = Lab::new();
    lab.host.ip(["link", "set", "eth0", "down"]);
    let is_up = || lab.host.ip(["link", "show", "dev", "eth0"]).stdout.contains(",UP");
    let config = "[network.lab.trunk]\ninterface = \"eth0\"\n\
                  [network.lab.port.raw]\nstream = { listen = \"raw.sock\" }\n";
    let daemon = Daemon::start_within(&lab.host, directory(), config);
    daemon.wait_up(&["trunk"]);
    assert!(!daemon.trunk().active && !is_up());
    assert_eq!(lab.promiscuity(), 0);

    let path = daemon.path("raw.sock");
    let guest = crate::support::Peer::attach(9, vmlan_guest::Attachment::Stream { path });
    wait_trunk(&daemon, "the trunk to be active", |trunk| trunk.active);
    wait_until("the interface", PATIENCE, || is_up() && lab.promiscuity() == 1);

    drop(guest);
    wait_trunk(&daemon, "the trunk to be inactive", |trunk| !trunk.active);
    wait_until("the interface as it was", PATIENCE, || !is_up() && lab.promiscuity() == 0);
    daemon.stop();
}

#[test]
fn an_interface_that_the_host_uses_since_stays_up() {
    require!(namespaces());
    let lab = Lab::new();
    lab.host.ip(["address", "flush", "dev", "eth0"]);
    lab.host.ip(["link", "set", "eth0", "down"]);
    let is_up = || lab.host.ip(["link", "show", "dev", "eth0"]).stdout.contains(",UP");
    let port = "[network.lab.port.raw]\nstream = { listen = \"raw.sock\" }\n";
    let config = format!("[network.lab.trunk]\ninterface = \"eth0\"\n{port}");
    let daemon = Daemon::start_within(&lab.host, directory(), &config);
    daemon.wait_up(&["trunk"]);
    let guest =
        crate::support::Peer::attach(9, vmlan_guest::Attachment::Stream { path: daemon.path("raw.sock") });
    wait_until("the interface", PATIENCE, || is_up() && lab.promiscuity() == 1);
    lab.host.ip(["address", "add", &format!("{}/24", v4(HOST)), "dev", "eth0"]);
    drop(guest);
    wait_trunk(&daemon, "the trunk to be inactive", |trunk| !trunk.active);
    wait_until("the interface to be left alone", PATIENCE, || lab.promiscuity() == 0);
    daemon.stop();
    assert!(is_up());
    assert!(lab.host.reaches(v4(WIRE), PATIENCE));
}

/// Frames for guests go to the host's address then, or to groups.
#[test]
fn with_a_shared_address_the_interface_takes_every_group_and_is_not_promiscuous() {
    require!(namespaces());
    for mode in ["filter", "packet"] {
        let lab = Lab::new();
        let daemon = lab.start(&lab.config(&format!("mode = \"{mode}\"\nshared_mac = \"on\"")));
        wait_trunk(&daemon, "every group", |trunk| {
            trunk.installed.iter().any(|what| what == "eth0 takes every group")
        });
        assert_eq!(lab.promiscuity(), 0);
        lab.pings(3, WIRE);
        daemon.stop();
        assert_eq!(lab.promiscuity(), 0);
    }
}

/// Our TAPs are set down, and their programs are taken off them.
#[test]
fn devices_that_somebody_disturbs_are_put_right() {
    require!(namespaces());
    let lab = Lab::new();
    let daemon = lab.start(&lab.config(CLSACT));
    lab.all_ping();
    let index = lab.host.exec("cat", ["/sys/class/net/eth0/ifindex"]).stdout;
    for device in ["vmlh", "vmlw"].map(|prefix| format!("{prefix}{}", index.trim())) {
        lab.host.ip(["link", "set", "dev", &device, "down"]);
        wait_until("the device to be up again", PATIENCE, || {
            lab.host.ip(["link", "show", "dev", &device]).stdout.contains(",UP")
        });
        lab.all_ping();
        lab.host.exec("tc", ["qdisc", "del", "dev", &device, "clsact"]).expect_success();
        wait_until("the program to be back", PATIENCE, || {
            lab.host.exec("tc", ["filter", "show", "dev", &device, "ingress"]).stdout.contains("vmlan_inject")
        });
        lab.all_ping();
    }
    daemon.stop();
}

#[test]
fn case_7_after_a_kill_the_next_daemon_takes_over_and_leaves_nothing_twice() {
    require!(namespaces());
    let lab = Lab::new();
    let config = lab.config(CLSACT);
    let daemon = lab.start(&config);
    lab.all_ping();
    let filters = lab.own_filters();
    assert_eq!(filters, 2, "{}", lab.filters());

    let directory = daemon.kill();
    assert_eq!(lab.own_filters(), filters, "what a killed daemon leaves");
    // Nobody else is any the worse for it.
    lab.pings(HOST, WIRE);

    let daemon = Daemon::start_within(&lab.host, directory, &config);
    lab.configure(&daemon);
    assert_eq!(lab.own_filters(), filters, "{}", lab.filters());
    lab.all_ping();
    assert_balanced(&daemon);
    daemon.stop();
    assert_eq!(lab.own_filters(), 0, "{}", lab.filters());
    let qdiscs = lab.host.exec("tc", ["qdisc", "show", "dev", "eth0"]).stdout;
    assert!(!qdiscs.contains("clsact"), "{qdiscs}");
}

#[test]
fn case_8_a_second_trunk_on_an_interface_is_told_who_has_it() {
    require!(namespaces());
    let lab = Lab::new();
    let daemon = lab.start(&lab.config(""));
    let twice = format!("{}[network.other.trunk]\ninterface = \"eth0\"\n", lab.config(""));
    let refused = check(&daemon, &twice);
    assert!(!refused.success());
    assert!(refused.stderr.contains("eth0 is busy, used by network lab"), "{}", refused.stderr);

    // In another process it shows when it is tried.
    let alone = "[network.other.trunk]\ninterface = \"eth0\"\n";
    let second = Daemon::start_within(&lab.host, directory(), alone);
    second.wait_state("trunk", PortState::Failed);
    let reason = second.port("trunk").reason.unwrap_or_default();
    assert!(reason.contains("eth0 is busy, used by another vmlan"), "{reason}");
    second.stop();
    lab.all_ping();
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn case_9_a_host_that_gains_a_guests_address_is_a_conflict() {
    require!(namespaces());
    let lab = Lab::new();
    let daemon = lab.start(&lab.config(""));
    lab.all_ping();
    let mut events = daemon.events();
    lab.host.ip(["address", "add", &format!("{}/24", v4(3)), "dev", "eth0"]);
    wait_trunk(&daemon, "the new address", |trunk| trunk.host_addresses.contains(&v4(3).to_string()));
    // The guest goes on to use it.
    let _ = testbed::ping(&lab.guests[0], v4(77), 1);
    let event = events.expect(
        "a conflict",
        |event| matches!(event, EventKind::AddressConflict { port, .. } if port == "guest3"),
    );
    let EventKind::AddressConflict { address, owner, .. } = event else { unreachable!("expected") };
    assert_eq!((address, owner.as_str()), (Some(v4(3).to_string()), "trunk"));
    daemon.stop();
}

#[test]
fn case_10_a_link_that_flaps_comes_back() {
    require!(namespaces());
    let lab = Lab::new();
    let daemon = lab.start(&lab.config(""));
    lab.all_ping();
    for _ in 0..10 {
        lab.wire.ip(["link", "set", "eth0", "down"]);
        wait_trunk(&daemon, "no carrier", |trunk| !trunk.carrier);
        // Guests still have each other; the kernel gives nothing to an interface without a carrier.
        assert!(lab.guests[0].reaches(v4(4), PATIENCE));
        lab.wire.ip(["link", "set", "eth0", "up"]);
        wait_trunk(&daemon, "a carrier", |trunk| trunk.carrier);
        assert!(lab.guests[0].reaches(v4(WIRE), PATIENCE));
    }
    assert_eq!(lab.promiscuity(), 1);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn case_11_mtu_and_address_of_the_interface_are_followed() {
    require!(namespaces());
    let lab = Lab::new();
    let daemon = lab.start(&lab.config(""));
    let device = |word: &str| {
        let links = lab.host.ip(["link"]).stdout;
        links.lines().filter(|line| line.contains(word)).count()
    };
    lab.host.ip(["link", "set", "eth0", "mtu", "1400"]);
    wait_trunk(&daemon, "the MTU", |trunk| trunk.mtu == Some(1400));
    wait_until("the devices' MTU", PATIENCE, || device("mtu 1400") == 3);
    lab.host.ip(["link", "set", "eth0", "mtu", "1500"]);
    wait_trunk(&daemon, "the MTU", |trunk| trunk.mtu == Some(1500));

    let other = "52:54:00:00:00:aa";
    lab.host.ip(["link", "set", "eth0", "address", other]);
    wait_trunk(&daemon, "the address", |trunk| trunk.host_mac.as_deref() == Some(other));
    wait_until("the devices' address", PATIENCE, || device(other) == 3);
    for guest in &lab.guests {
        guest.ip(["neigh", "flush", "all"]);
    }
    assert!(lab.guests[0].reaches(v4(HOST), PATIENCE));
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn case_14_an_unknown_interface_names_those_that_exist_and_is_joined_when_it_comes() {
    require!(namespaces());
    let lab = Lab::new();
    let config = lab.config("").replace("eth0", "lan7");
    let daemon = Daemon::start_within(&lab.host, directory(), &config);
    daemon.wait_state("trunk", PortState::Failed);
    let reason = daemon.port("trunk").reason.unwrap_or_default();
    assert!(reason.contains("lan7 does not exist; there are: eth0"), "{reason}");

    daemon.write_config(&config.replace("lan7\"", "lan7\"\nwait = true"));
    daemon.cli(&["apply"]).expect_success();
    daemon.wait_state("trunk", PortState::Waiting);
    assert_eq!(daemon.trunk().state, TrunkState::Gone);
    lab.host.veth("lan7", &lab.wire, "lan7");
    daemon.wait_up(&["trunk"]);
    lab.host.configure("lan7", &interface(7));
    wait_trunk(&daemon, "its address", |trunk| trunk.host_addresses.contains(&v4(7).to_string()));

    // And again, after it was there.
    lab.host.ip(["link", "del", "lan7"]);
    daemon.wait_state("trunk", PortState::Waiting);
    assert!(daemon.trunk().host_addresses.is_empty());
    daemon.stop();
}

#[test]
fn a_trunk_comes_and_goes_with_the_configuration() {
    require!(namespaces());
    let lab = Lab::new();
    let daemon = Daemon::start_within(&lab.host, directory(), &lab.ports());
    daemon.wait_up(&["guest3", "guest4"]);
    for (number, netns) in (3..).zip(&lab.guests) {
        netns.configure("t0", &interface(number));
    }
    assert!(lab.guests[0].reaches(v4(4), PATIENCE));
    assert!(!lab.guests[0].reaches(v4(WIRE), Duration::from_secs(1)));

    daemon.write_config(&lab.config(""));
    let applied = daemon.cli(&["apply"]).expect_success().stdout;
    assert!(applied.contains("add_trunk"), "{applied}");
    daemon.wait_up(&["trunk"]);
    lab.all_ping();

    daemon.departs("trunk");
    daemon.write_config(&lab.ports());
    daemon.cli(&["apply"]).expect_success();
    assert_eq!(lab.own_filters(), 0);
    assert!(!lab.guests[0].reaches(v4(WIRE), Duration::from_secs(1)));
    lab.pings(3, 4);
    daemon.stop();
}
