//! Changes of what runs: ports come and go, configurations are applied, and nobody else notices.

use rustix::process::Signal;
use vmlan_api::{ActionKind, ApplyReport, EventKind, Outcome, PortState};
use vmlan_frame::{DropReason, MacAddr};
use vmlan_guest::Attachment;

use crate::support::{Daemon, Peer, Probe, assert_balanced, exchange, is_apart, meet};

const PAIR: &str = "[network.lab.port.one]\nstream = { listen = \"one.sock\" }\n\
                    [network.lab.port.two]\ndatagram = { listen = \"two.sock\" }\n";
const THIRD: &str = "[network.lab.port.three]\nstream = { listen = \"three.sock\" }\n";

fn stream(daemon: &Daemon, number: u8, name: &str) -> Peer {
    Peer::attach(number, Attachment::Stream { path: daemon.path(name) })
}

/// Guests on both ports of [`PAIR`].
fn pair(daemon: &Daemon) -> (Peer, Peer) {
    let mut one = stream(daemon, 1, "one.sock");
    let attachment = Attachment::Datagram { local: daemon.path("local"), remote: daemon.path("two.sock") };
    let mut two = Peer::attach(2, attachment);
    meet(&mut two, &mut one);
    (one, two)
}

fn probe(daemon: &Daemon) -> Probe {
    let (one, two) = pair(daemon);
    Probe::start(one, two)
}

#[test]
fn ports_come_and_go_under_traffic_and_others_lose_nothing() {
    let daemon = Daemon::start(PAIR);
    let probe = probe(&daemon);
    let directory = daemon.path("").display().to_string();
    for round in 0..10 {
        // In turns by the control interface and the command line.
        if round % 2 == 0 {
            let table = format!(r#"{{"stream": {{"listen": "{directory}three.sock"}}}}"#);
            let report: ApplyReport = daemon.add_port("lab", "three", &table).json();
            assert_eq!(report.actions[0].outcome, Outcome::Done, "{report:?}");
        } else {
            daemon.cli(&["port", "add", "lab", "three", "stream", "listen=three.sock"]).expect_success();
        }
        let mut three = stream(&daemon, 3, "three.sock");
        daemon.wait_up(&["three"]);
        three.send(MacAddr::BROADCAST);
        probe.wait(20);
        testbed::wait_until("the third guest's frame", crate::support::PATIENCE, || {
            daemon.port("three").counters.rx_frames == 1
        });
        daemon.departs("three");
        if round % 2 == 0 {
            let report: ApplyReport = daemon.request("DELETE", "/v1/networks/lab/ports/three", None).json();
            assert_eq!(report.actions[0].outcome, Outcome::Done, "{report:?}");
        } else {
            daemon.cli(&["port", "remove", "lab", "three"]).expect_success();
        }
        three.raw.wait_closed().expect("the port's end");
        assert!(daemon.find_port("three").is_none() && !daemon.path("three.sock").exists());
    }
    assert!(probe.finish() >= 200);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_policy_changes_under_traffic_without_the_guests_notice() {
    let daemon = Daemon::start(&format!("{PAIR}{THIRD}"));
    let probe = probe(&daemon);
    let mut three = stream(&daemon, 3, "three.sock");
    daemon.wait_up(&["three"]);
    for policy in ["mac = \"52:54:00:00:00:09\"\n", "vlan = { access = 10 }\n", "quota = 3\n", ""] {
        daemon.write_config(&format!("{PAIR}{THIRD}{policy}"));
        let report: ApplyReport = daemon.request("POST", "/v1/reload", None).json();
        let kinds: Vec<_> = report.actions.iter().map(|action| (action.action, action.outcome)).collect();
        assert_eq!(kinds, [(ActionKind::ChangePort, Outcome::Done)], "{policy}");
        probe.wait(10);
    }
    assert_eq!(daemon.port("three").state, PortState::Up);
    three.send(MacAddr::BROADCAST);
    probe.finish();
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_ports_link_keeps_its_number_when_the_port_comes_back() {
    let daemon = Daemon::start(PAIR);
    let index = |port: &str| daemon.port(port).index.expect("a link");
    let before = (index("one"), index("two"));
    for _ in 0..3 {
        daemon.write_config(THIRD);
        let _: ApplyReport = daemon.request("POST", "/v1/reload", None).json();
        assert!(![before.0, before.1].contains(&index("three")));
        daemon.write_config(PAIR);
        let _: ApplyReport = daemon.request("POST", "/v1/reload", None).json();
        assert_eq!((index("one"), index("two")), before);
        assert_eq!(daemon.port("one").counters, vmlan_api::Counters::default());
    }
    pair(&daemon);
    daemon.stop();
}

#[test]
fn a_hang_up_applies_what_changed_in_the_file_and_nothing_else() {
    let daemon = Daemon::start(PAIR);
    let probe = probe(&daemon);

    daemon.write_config(&format!("{PAIR}{THIRD}"));
    daemon.signal(Signal::HUP);
    daemon.wait_state("three", PortState::Waiting);
    daemon.wait_for_log("read the configuration again: 1 changes, 0 failed");

    daemon.write_config(PAIR);
    daemon.departs("three");
    daemon.signal(Signal::HUP);
    testbed::wait_until("the port to go", crate::support::PATIENCE, || daemon.find_port("three").is_none());
    probe.finish();
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_broken_file_changes_nothing_and_says_where_it_is_wrong() {
    let daemon = Daemon::start(PAIR);
    let probe = probe(&daemon);
    let file = daemon.path("vmlan.toml");
    let before: Vec<_> = daemon.ports().into_iter().map(|port| (port.port, port.state)).collect();

    // Good ports beside the bad one do not come either.
    daemon.write_config(&format!("{THIRD}{PAIR}quota = 0\n[network.lab.port.bad]\nsteam = {{}}\n"));
    daemon.signal(Signal::HUP);
    daemon.wait_for_log(&format!("{}:7:", file.display()));
    daemon.wait_for_log(&format!("{}:9:1", file.display()));
    daemon.wait_for_log("did you mean `stream`?");

    for arguments in [&["apply"][..], &["apply", "vmlan.toml"], &["apply", "--dry-run"]] {
        let output = daemon.cli(arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stderr.contains("did you mean `stream`?"), "{output:?}");
        assert!(output.stderr.contains("vmlan.toml:9:1"), "{output:?}");
    }
    daemon.write_config("[network.lab\n");
    let error = daemon.request("POST", "/v1/reload", None).error();
    assert_eq!(error.code, vmlan_api::ErrorCode::Syntax, "{error:?}");
    assert!(error.message.contains("vmlan.toml:1:"), "{error:?}");

    let after: Vec<_> = daemon.ports().into_iter().map(|port| (port.port, port.state)).collect();
    assert_eq!(before, after);
    probe.finish();
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_dry_run_tells_and_does_nothing() {
    let daemon = Daemon::start(PAIR);
    std::fs::write(daemon.path("other.toml"), THIRD).expect("a file");
    let plan =
        [(ActionKind::RemovePort, "one"), (ActionKind::RemovePort, "two"), (ActionKind::AddPort, "three")];

    let output = daemon.cli(&["apply", "other.toml", "--dry-run", "--json"]).expect_success();
    let report: ApplyReport = serde_json::from_str(&output.stdout).expect("a report");
    let told: Vec<_> =
        report.actions.iter().map(|a| (a.action, a.port.as_deref().expect("a port"))).collect();
    assert!(report.dry_run && told == plan, "{report:?}");
    assert!(report.actions.iter().all(|action| action.outcome == Outcome::Planned), "{report:?}");
    assert!(daemon.find_port("three").is_none() && daemon.find_port("one").is_some());

    let output = daemon.cli(&["apply", "other.toml"]).expect_success();
    assert!(output.stdout.contains("add_port"), "{output:?}");
    let names: Vec<_> = daemon.ports().into_iter().map(|port| port.port).collect();
    assert_eq!(names, ["three"]);
    let output = daemon.cli(&["apply", "other.toml"]).expect_success();
    assert!(output.stdout.contains("nothing to do"), "{output:?}");
    daemon.stop();
}

#[test]
fn a_port_whose_attachment_changes_reconnects_and_a_network_that_changes_keeps_its_ports() {
    let daemon = Daemon::start(PAIR);
    let (mut one, mut two) = pair(&daemon);
    ["one", "two"].iter().for_each(|port| daemon.departs(port));

    daemon.write_config(&format!("[network.lab]\nmtu = 9000\n{}", PAIR.replace("one.sock", "uno.sock")));
    let report: ApplyReport = daemon.request("POST", "/v1/reload", None).json();
    assert!(report.actions.iter().all(|action| action.outcome == Outcome::Done), "{report:?}");

    one.raw.wait_closed().expect("the end of the old port");
    let mut one = stream(&daemon, 1, "uno.sock");
    assert!(!daemon.path("one.sock").exists());
    meet(&mut two, &mut one);
    meet(&mut one, &mut two);
    assert_eq!(daemon.ports().iter().map(|port| port.mtu).collect::<Vec<_>>(), [9000, 9000]);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn networks_are_apart_and_come_and_go() {
    let second = "[network.other.port.three]\nstream = { listen = \"three.sock\" }\n";
    let daemon = Daemon::start(&format!("{PAIR}{second}"));
    let (mut one, mut two) = pair(&daemon);
    let mut three = stream(&daemon, 3, "three.sock");
    daemon.wait_up(&["three"]);
    assert!(is_apart(&mut one, &mut three));
    let networks: Vec<vmlan_api::Network> = daemon.get("/v1/networks");
    let told: Vec<_> = networks.iter().map(|n| (n.network.as_str(), n.ports, n.ports_up)).collect();
    assert_eq!(told, [("lab", 2, 2), ("other", 1, 1)]);
    assert_balanced(&daemon);

    daemon.write_config(PAIR);
    daemon.cli(&["apply"]).expect_success();
    three.raw.wait_closed().expect("the end of the port");
    let networks: Vec<vmlan_api::Network> = daemon.get("/v1/networks");
    assert_eq!(networks.len(), 1);
    exchange(&mut one, &mut two);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn what_happens_is_told_as_it_happens() {
    let daemon = Daemon::start(PAIR);
    let mut events = daemon.events();

    let mut one = stream(&daemon, 1, "one.sock");
    events.expect("the guest's connection", |event| {
        matches!(event, EventKind::PeerConnected { network, port, peer: Some(_) } if network == "lab" && port == "one")
    });
    events.expect("the port up", |event| matches!(event, EventKind::PortUp { port, .. } if port == "one"));
    one.send(MacAddr::BROADCAST);
    events.expect("the address", |event| {
        matches!(event, EventKind::MacLearnt { port, mac, vlan: None, .. } if port == "one" && *mac == one.mac.to_string())
    });
    one.raw.send_octets(&[0; 4]).expect("a connection");
    let event = events.expect("the quarantine", |event| matches!(event, EventKind::Quarantined { .. }));
    assert!(
        matches!(event, EventKind::Quarantined { port, reason, .. } if port == "one" && reason.contains("0 octets"))
    );
    events
        .expect("the failure", |event| matches!(event, EventKind::PortFailed { port, .. } if port == "one"));
    events.expect("the wait", |event| matches!(event, EventKind::PortWaiting { port, .. } if port == "one"));

    daemon.write_config(THIRD);
    daemon.cli(&["apply"]).expect_success();
    for gone in ["one", "two"] {
        events.expect(
            "the port's end",
            |event| matches!(event, EventKind::PortRemoved { port, .. } if port == gone),
        );
    }
    events.expect(
        "the new port",
        |event| matches!(event, EventKind::PortAdded { port, .. } if port == "three"),
    );
    events.expect("the summary", |event| matches!(event, EventKind::Applied { actions: 3, failed: 0 }));

    daemon.stop();
    while events.next().is_some() {}
}

#[test]
fn an_address_that_moves_is_told_and_followed() {
    let daemon = Daemon::start(PAIR);
    let (mut one, mut two) = pair(&daemon);
    let mut events = daemon.events();

    // The second guest speaks with the first one's address, as after a migration.
    let frame = vmlan_guest::ethernet(MacAddr::BROADCAST, one.mac, crate::support::TYPE, b"moved");
    testbed::wait_until("the address to move", crate::support::PATIENCE, || {
        two.raw.send_frame(&frame).expect("room for a frame");
        daemon.fdb("lab").iter().any(|entry| entry.mac == one.mac.to_string() && entry.port == "two")
    });
    events.expect("the move", |event| {
        matches!(event, EventKind::MacMoved { from, port, mac, .. } if from == "one" && port == "two" && *mac == one.mac.to_string())
    });
    exchange(&mut one, &mut two);
    assert_eq!(daemon.drops("two", DropReason::SourceGuard), 0);
    assert_balanced(&daemon);
    daemon.stop();
}
