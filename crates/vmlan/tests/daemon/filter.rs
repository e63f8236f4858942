//! Rules about frames, and ports that are taken down.

use std::collections::BTreeSet;

use testbed::{require, wait_until};
use vmlan_api::{ActionKind, ApplyReport, EventKind, Outcome, PortState};
use vmlan_frame::{DropReason, MacAddr};
use vmlan_guest::Attachment;

use crate::support::{Daemon, PATIENCE, Peer, Probe, TYPE, assert_balanced, exchange, is_apart, meet};

const PAIR: &str = "workers = 2\n\
                    [network.lab.port.one]\nstream = { listen = \"one.sock\" }\n\
                    [network.lab.port.two]\nstream = { listen = \"two.sock\" }\n";

/// `tcpdump -ddd` of `ether proto 0x88b5`, the frames of these tests.
const OURS: &str = "4\n40 0 0 12\n21 0 1 34997\n6 0 0 262144\n6 0 0 0\n";

fn pair(daemon: &Daemon) -> (Peer, Peer) {
    let [mut one, mut two] = [(1, "one.sock"), (2, "two.sock")]
        .map(|(number, name)| Peer::attach(number, Attachment::Stream { path: daemon.path(name) }));
    meet(&mut one, &mut two);
    (one, two)
}

fn filters(daemon: &Daemon) -> Vec<vmlan_api::Filter> {
    daemon.get("/v1/filters?network=lab")
}

/// The rules as they are listed, without what they count.
fn listed(daemon: &Daemon) -> Vec<(String, u64, &'static str, &'static str)> {
    let row = |filter: vmlan_api::Filter| {
        (filter.port, filter.number, filter.direction.as_str(), filter.action.as_str())
    };
    filters(daemon).into_iter().map(row).collect()
}

#[test]
fn what_a_rule_matches_is_dropped_and_counted_by_rule() {
    let daemon = Daemon::start(PAIR);
    std::fs::write(daemon.path("ours"), OURS).expect("room");
    let (mut one, mut two) = pair(&daemon);
    let program = daemon.path("ours").display().to_string();
    let add = |port: &str, action: &str, options: &[&str]| {
        let words = ["filter", "add", "lab", port, action, "--program", &program];
        daemon.cli(&[&words[..], options].concat()).expect_success();
    };

    add("one", "drop", &["--direction", "in"]);
    assert!(is_apart(&mut one, &mut two));
    let back = two.send(one.mac);
    assert!(one.hears(back, PATIENCE), "the other way is open");
    assert_eq!(daemon.drops("one", DropReason::InputFilter), 1);
    let [rule] = &filters(&daemon)[..] else { panic!("one rule") };
    assert_eq!((rule.frames, rule.octets, rule.program.as_deref()), (1, 60, Some(&*program)));

    add("one", "drop", &["--direction", "out"]);
    assert!(is_apart(&mut two, &mut one));
    assert_eq!(daemon.drops("one", DropReason::OutputFilter), 1);

    // The first rule that matches decides, and a rule that stays goes on counting.
    add("one", "pass", &["--at", "1"]);
    exchange(&mut one, &mut two);
    let expected = [("one", 1, "both", "pass"), ("one", 2, "in", "drop"), ("one", 3, "out", "drop")];
    let expected = expected.map(|(port, number, way, action)| (port.to_owned(), number, way, action));
    assert_eq!(listed(&daemon), expected);
    assert_eq!(filters(&daemon)[1].frames, 1);

    let table = daemon.cli(&["filter", "list"]).expect_success().stdout.clone();
    assert!(table.contains("DIRECTION") && table.contains(&format!("program {program}")), "{table}");
    for _ in 0..3 {
        daemon.cli(&["filter", "remove", "lab", "one", "1"]).expect_success();
    }
    exchange(&mut one, &mut two);
    assert_eq!(listed(&daemon), []);
    let answer = daemon.cli(&["filter", "remove", "lab", "one", "1"]);
    assert!(!answer.success() && answer.stderr.contains("none is number 1"), "{}", answer.stderr);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn an_expression_is_compiled_and_a_wrong_one_told() {
    require!(tool("tcpdump"));
    let daemon = Daemon::start(PAIR);
    let (mut one, mut two) = pair(&daemon);
    let expression = format!("ether proto {TYPE} and ether src {}", one.mac);
    daemon.cli(&["filter", "add", "lab", "two", "drop", &expression]).expect_success();
    assert!(is_apart(&mut one, &mut two));
    let there = two.send(one.mac);
    assert!(one.hears(there, PATIENCE), "another source");
    assert_eq!(filters(&daemon)[0].expression, Some(expression));
    let answer = daemon.cli(&["filter", "add", "lab", "two", "drop", "udp prot 67"]);
    assert!(!answer.success() && answer.stderr.contains("`udp prot 67`"), "{}", answer.stderr);
    // Nothing changed.
    assert_eq!(listed(&daemon).len(), 1);
    daemon.stop();
}

#[test]
fn rules_come_and_go_under_traffic_of_several_workers_and_nobody_loses_a_frame() {
    let daemon = Daemon::start(PAIR);
    std::fs::write(daemon.path("other"), OURS.replace("34997", "34999")).expect("room");
    let (one, two) = pair(&daemon);
    let probe = Probe::start(one, two);
    let rule = format!(r#"{{"action": "drop", "program": "{}"}}"#, daemon.path("other").display());
    for round in 0..20 {
        let port = ["one", "two"][round % 2];
        let path = format!("/v1/networks/lab/ports/{port}/filters");
        let report: ApplyReport = daemon.request("POST", &path, Some(&rule)).json();
        let [action] = &report.actions[..] else { panic!("{report:?}") };
        assert_eq!((action.action, action.outcome), (ActionKind::ChangePort, Outcome::Done));
        probe.wait(10);
        if round >= 4 {
            let path = format!("/v1/networks/lab/ports/{port}/filters/1");
            let _: ApplyReport = daemon.request("DELETE", &path, None).json();
        }
    }
    assert!(probe.finish() >= 200);
    assert_eq!(listed(&daemon).len(), 4);
    assert!(filters(&daemon).iter().all(|rule| rule.frames == 0));
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn clients_have_the_rules_of_their_port() {
    let config = "[network.lab.port.guests]\nvde = { directory = \"lab.vde\" }\n\
                  [[network.lab.port.guests.filter]]\naction = \"drop\"\ndirection = \"in\"\nprogram = \"ours\"\n";
    let directory = crate::support::directory();
    std::fs::write(directory.path().join("ours"), OURS).expect("room");
    let daemon = Daemon::start_in(directory, config);
    let [mut one, mut two] =
        [1, 2].map(|number| Peer::attach(number, Attachment::Vde { directory: daemon.path("lab.vde") }));
    daemon.wait_up(&["guests.0", "guests.1"]);
    assert!(is_apart(&mut one, &mut two));
    wait_until("the count", PATIENCE, || filters(&daemon).iter().map(|rule| rule.frames).sum::<u64>() == 1);
    daemon.write_config("[network.lab.port.guests]\nvde = { directory = \"lab.vde\" }\n");
    let _: ApplyReport = daemon.request("POST", "/v1/reload", None).json();
    meet(&mut one, &mut two);
    daemon.stop();
}

#[test]
fn nothing_passes_a_port_that_is_down_and_its_guest_stays() {
    let daemon = Daemon::start(PAIR);
    let (mut one, mut two) = pair(&daemon);
    let mut events = daemon.events();
    daemon.cli(&["port", "down", "lab", "one"]).expect_success();
    events.expect("the end", |event| {
        matches!(event, EventKind::PortDown { port, reason: Some(reason), .. }
            if port == "one" && reason.contains("vmlan port up"))
    });
    assert_eq!(daemon.port("one").state, PortState::Down);
    assert!(is_apart(&mut one, &mut two) && is_apart(&mut two, &mut one));
    assert_eq!(daemon.drops("one", DropReason::PortDown), 1);
    assert!(daemon.fdb("lab").iter().all(|entry| entry.port != "one"));

    daemon.cli(&["port", "up", "lab", "one"]).expect_success();
    let mut wanted = BTreeSet::from(["port", "link"]);
    events.expect("the return of port and link", |event| {
        match event {
            EventKind::PortUp { port, .. } if port == "one" => wanted.remove("port"),
            EventKind::LinkChanged { port, change, .. } if port == "one" && change == "link_on" => {
                wanted.remove("link")
            }
            _ => false,
        };
        wanted.is_empty()
    });
    exchange(&mut one, &mut two);

    // By the file, where it lasts.
    daemon.write_config(&PAIR.replace("two.sock\" }\n", "two.sock\" }\nenabled = false\n"));
    let report: ApplyReport = daemon.request("POST", "/v1/reload", None).json();
    assert_eq!(report.actions.len(), 1, "{report:?}");
    assert!(is_apart(&mut one, &mut two) && is_apart(&mut two, &mut one));
    drop(two);
    let mut two = Peer::attach(2, Attachment::Stream { path: daemon.path("two.sock") });
    wait_until("the guest", PATIENCE, || daemon.port("two").peer.is_some());
    assert_eq!(daemon.port("two").state, PortState::Down);
    two.send(MacAddr::BROADCAST);
    wait_until("the drop", PATIENCE, || daemon.drops("two", DropReason::PortDown) >= 2);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn isolated_ports_talk_to_others_only() {
    let isolated = PAIR.replace("sock\" }\n", "sock\" }\nisolation = \"isolated\"\n");
    let three = "[network.lab.port.three]\nstream = { listen = \"three.sock\" }\n";
    let daemon = Daemon::start(&format!("{isolated}{three}"));
    let [mut one, mut two, mut three] = [(1, "one.sock"), (2, "two.sock"), (3, "three.sock")]
        .map(|(number, name)| Peer::attach(number, Attachment::Stream { path: daemon.path(name) }));
    meet(&mut one, &mut three);
    meet(&mut two, &mut three);
    assert!(is_apart(&mut one, &mut two) && is_apart(&mut two, &mut one));
    daemon.stop();
}

#[test]
fn a_change_of_a_port_can_be_tried_and_faults_are_told() {
    let daemon = Daemon::start(PAIR);
    let patch = |path: &str, body: &str| {
        daemon.request("PATCH", &format!("/v1/networks/lab/ports/{path}"), Some(body))
    };
    let report: ApplyReport = patch("one?dry_run=true", r#"{"enabled": false}"#).json();
    assert!(report.dry_run && report.actions[0].outcome == Outcome::Planned, "{report:?}");
    assert_eq!(daemon.port("one").state, PortState::Waiting);
    let report: ApplyReport =
        daemon.request("DELETE", "/v1/networks/lab/ports/one?dry_run=true", None).json();
    assert!(report.dry_run && daemon.find_port("one").is_some());

    let report: ApplyReport = patch("one", r#"{"mac": "52:54:00:00:00:01", "quota": 7}"#).json();
    assert_eq!(report.actions[0].action, ActionKind::ChangePort);
    assert!(daemon.port("one").mac.is_some());
    let _: ApplyReport = patch("one", r#"{"mac": null}"#).json();
    assert_eq!(daemon.port("one").mac, None);
    for (path, body, complaint) in [
        ("one", r#"{"enabeld": false}"#, "did you mean `enabled`?"),
        ("one", r#"{"enabled": 1}"#, "true or false"),
        ("one", "[]", "must be an object"),
        ("four", "{}", "no port four"),
    ] {
        let error = patch(path, body).error();
        assert!(error.message.contains(complaint), "{body}: {error}");
    }
    daemon.stop();
}
