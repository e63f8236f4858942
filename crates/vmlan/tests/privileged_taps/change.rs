//! Ports, devices and the daemon come and go.

use testbed::{PingReport, require};

use crate::lab::{Guest, configure, v4, with_guests};
use crate::support::{Daemon, PATIENCE, assert_balanced};

#[test]
fn a_port_that_is_removed_and_added_again_costs_others_nothing() {
    require!(namespaces());
    let (one, two, three) = (Guest::new(1), Guest::new(2), Guest::new(3));
    let daemon = with_guests("", &[&one, &two, &three]);
    three.pings(&one);
    let mut traffic =
        one.netns.spawn("ping", ["-q", "-i", "0.01", "-c", "250", "-W", "2", &v4(2).to_string()]);
    let table = format!(r#"{{"tap": {{"name": "t0", "netns": "{}"}}}}"#, three.netns.path().display());
    let mut rounds = 0;
    while traffic.is_running() {
        // Its interface is down before, so that its counters stand still.
        three.netns.ip(["link", "set", "t0", "down"]);
        let report: vmlan_api::ApplyReport = daemon.remove_port("lab", "guest3").json();
        assert_eq!(report.failed(), 0, "{report:?}");
        assert!(!three.has_tap());
        let report: vmlan_api::ApplyReport = daemon.add_port("lab", "guest3", &table).json();
        assert_eq!(report.failed(), 0, "{report:?}");
        three.configure();
        assert!(three.netns.reaches(v4(1), PATIENCE));
        rounds += 1;
    }
    let report = PingReport::parse(&traffic.log()).expect("a summary");
    assert!(report.all() && report.sent == 250, "{report:?} in {rounds} rounds");
    assert!(rounds > 1);
    assert_eq!(daemon.port("guest1").counters.drops.get("queue_full"), None);
    daemon.stop();
}

#[test]
fn a_device_that_is_deleted_comes_back() {
    require!(namespaces());
    let (one, two) = (Guest::new(1), Guest::new(2));
    let daemon = with_guests("", &[&one, &two]);
    one.pings(&two);
    for _ in 0..3 {
        two.netns.ip(["link", "del", "t0"]);
        two.configure();
        daemon.wait_up(&["guest2"]);
        assert!(one.netns.reaches(v4(2), PATIENCE));
        one.pings(&two);
    }
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_device_that_is_down_for_a_while_loses_only_its_own_frames() {
    require!(namespaces());
    let (one, two, three) = (Guest::new(1), Guest::new(2), Guest::new(3));
    let daemon = with_guests("", &[&one, &two, &three]);
    one.pings(&two);
    two.netns.ip(["link", "set", "t0", "down"]);
    assert!(!one.reaches(&two));
    one.pings(&three);
    two.netns.ip(["link", "set", "t0", "up"]);
    // The kernel has taken its IPv6 address away meanwhile.
    assert!(one.netns.reaches(v4(2), PATIENCE) && two.reaches(&three));
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_killed_daemon_leaves_nothing_in_the_way_of_the_next() {
    require!(namespaces());
    let (one, two) = (Guest::new(1), Guest::new(2));
    let config = format!("{}{}", one.port(""), two.port(""));
    let daemon = with_guests("", &[&one, &two]);
    one.pings(&two);
    let daemon = Daemon::start_in(daemon.kill(), &config);
    configure(&daemon, &[&one, &two]);
    one.pings(&two);
    assert_balanced(&daemon);
    daemon.stop();
    assert!(!one.has_tap() && !two.has_tap());
}

#[test]
fn a_namespace_that_is_not_there_is_named_and_waited_for() {
    require!(namespaces());
    let (one, two) = (Guest::new(1), Guest::new(2));
    // A name as `ip netns` lists it will do as well as a path.
    let name = format!("{}-late", two.netns.name());
    let daemon = Daemon::start(&format!(
        "{}[network.lab.port.guest2]\ntap = {{ name = \"t0\", netns = \"{name}\" }}\n",
        one.port("")
    ));
    daemon.wait_state("guest2", vmlan_api::PortState::Failed);
    let reason = daemon.port("guest2").reason.expect("a reason");
    assert!(reason.contains(&name) && reason.contains("ip netns list"), "{reason}");
    configure(&daemon, &[&one]);

    // Another name for the namespace of the second guest.
    let late = two.netns.path().with_file_name(&name);
    std::os::unix::fs::symlink(two.netns.path(), &late).expect("a free name");
    configure(&daemon, &[&two]);
    std::fs::remove_file(late).expect("our own link");
    one.pings(&two);
    assert_balanced(&daemon);
    daemon.stop();
}
