//! What is on the interface besides ours, and what a killed daemon leaves on it.

use testbed::require;

use crate::lab::{CLSACT, HOST, Lab, WIRE};
use crate::support::{Daemon, VMLAN, assert_balanced, directory};

impl Lab {
    /// Foreign filters on each hook, which copy frames and let them go on. Answers how many are listed.
    #[track_caller]
    fn add_foreign(&self) -> usize {
        let tc = |arguments: &str| self.host.exec("tc", arguments.split_whitespace()).expect_success();
        tc("qdisc add dev eth0 clsact");
        for (hook, priority) in [("ingress", 7), ("egress", 7), ("ingress", 40), ("egress", 40)] {
            tc(&format!(
                "filter add dev eth0 {hook} prio {priority} protocol all u32 match u32 0 0 action mirred egress mirror dev lo continue"
            ));
        }
        let count = self.foreign_filters();
        assert!(count >= 4, "{}", self.filters());
        count
    }

    fn foreign_filters(&self) -> usize {
        self.filters().lines().filter(|line| line.contains(" u32 ") && line.contains(" terminal ")).count()
    }
}

#[test]
fn foreign_filters_and_their_qdisc_stay() {
    require!(namespaces());
    let lab = Lab::new();
    let foreign = lab.add_foreign();
    for hooks in ["", CLSACT] {
        let daemon = lab.start(&lab.config(hooks));
        lab.all_ping();
        assert_eq!(lab.foreign_filters(), foreign);
        assert_balanced(&daemon);
        daemon.stop();
        assert_eq!((lab.foreign_filters(), lab.own_filters()), (foreign, 0), "{}", lab.filters());
    }
}

#[test]
fn doctor_finds_what_a_killed_daemon_left_and_removes_exactly_that() {
    require!(namespaces());
    let lab = Lab::new();
    let foreign = lab.add_foreign();
    let doctor = |clean: &[&str]| {
        let control = directory();
        let mut arguments = vec!["doctor".to_owned(), "--json".to_owned(), "--control".to_owned()];
        arguments.push(control.path().join("none.sock").display().to_string());
        arguments.extend(clean.iter().map(|argument| (*argument).to_owned()));
        let checks: serde_json::Value =
            serde_json::from_str(&lab.host.exec(VMLAN, arguments).stdout).expect("JSON");
        let found =
            checks.as_array().expect("a list").iter().find(|check| check["check"] == "leftovers").cloned();
        let found = found.expect("the check");
        (
            found["status"].as_str().map(str::to_owned),
            found["value"].as_str().map(str::to_owned).unwrap_or_default(),
        )
    };
    let daemon = lab.start(&lab.config(CLSACT));
    assert_eq!(doctor(&[]).0.as_deref(), Some("ok"), "a running daemon's filters are no leftovers");
    daemon.kill();

    let (status, value) = doctor(&[]);
    assert_eq!(status.as_deref(), Some("warn"));
    assert!(value.contains("traffic filters on eth0"), "{value}");
    let (status, value) = doctor(&["--clean"]);
    assert_eq!(status.as_deref(), Some("ok"));
    assert!(value.contains("removed"), "{value}");
    assert_eq!((lab.own_filters(), lab.foreign_filters()), (0, foreign), "{}", lab.filters());
    assert_eq!(doctor(&[]).1, "none");
    lab.pings(HOST, WIRE);
}

#[test]
fn filters_that_somebody_removes_come_back() {
    require!(namespaces());
    let lab = Lab::new();
    let daemon = lab.start(&lab.config(CLSACT));
    lab.all_ping();
    let filters = lab.own_filters();
    lab.host.exec("tc", ["qdisc", "del", "dev", "eth0", "clsact"]).expect_success();
    testbed::wait_until("the filters", crate::support::PATIENCE, || lab.own_filters() == filters);
    lab.all_ping();
    assert_balanced(&daemon);
    daemon.stop();
}

/// The kernel's own hooks let go with the process, and `tc` has nothing to show.
#[test]
fn programs_on_own_hooks_leave_with_the_process() {
    require!(namespaces(), linux(6, 6));
    let lab = Lab::new();
    let config = lab.config("hooks = \"tcx\"");
    let daemon = lab.start(&config);
    lab.all_ping();
    assert_eq!((lab.links(&daemon).len(), lab.own_filters()), (2, 0), "{:?}", daemon.trunk());
    let directory = daemon.kill();
    lab.pings(HOST, WIRE);
    let daemon = Daemon::start_within(&lab.host, directory, &config);
    lab.configure(&daemon);
    lab.all_ping();
    assert_eq!(lab.links(&daemon).len(), 2);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn programs_that_somebody_takes_off_their_hooks_come_back() {
    require!(namespaces(), linux(6, 6), tool("bpftool"));
    let lab = Lab::new();
    let daemon = lab.start(&lab.config(""));
    lab.all_ping();
    let before = lab.links(&daemon);
    assert_eq!(before.len(), 2, "{:?}", daemon.trunk());
    for link in &before {
        lab.host.exec("bpftool", ["link", "detach", "id", &link.to_string()]).expect_success();
    }
    testbed::wait_until("the programs", crate::support::PATIENCE, || {
        let now = lab.links(&daemon);
        now.len() == 2 && now.iter().all(|link| !before.contains(link))
    });
    lab.all_ping();
    assert_balanced(&daemon);
    daemon.stop();
}
