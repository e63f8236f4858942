//! Filters and other things on the interface besides ours, and the leftovers of a killed daemon on it.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use testbed::require;
use vmlan_api::PortState;

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

    /// Returns the status and the value that `vmlan doctor` reports for leftovers on the host.
    #[track_caller]
    fn doctor(&self, clean: &[&str]) -> (Option<String>, String) {
        let control = directory();
        let mut arguments = vec!["doctor".to_owned(), "--json".to_owned(), "--control".to_owned()];
        arguments.push(control.path().join("none.sock").display().to_string());
        arguments.extend(clean.iter().map(|argument| (*argument).to_owned()));
        let checks: serde_json::Value =
            serde_json::from_str(&self.host.exec(VMLAN, arguments).stdout).expect("JSON");
        let found =
            checks.as_array().expect("a list").iter().find(|check| check["check"] == "leftovers").cloned();
        let found = found.expect("the check");
        (
            found["status"].as_str().map(str::to_owned),
            found["value"].as_str().map(str::to_owned).unwrap_or_default(),
        )
    }

    /// The number of the host's `eth0`.
    fn index(&self) -> String {
        self.host.exec("cat", ["/sys/class/net/eth0/ifindex"]).stdout.trim().to_owned()
    }

    fn has_qdisc(&self) -> bool {
        self.host.exec("tc", ["qdisc", "show", "dev", "eth0"]).stdout.contains("clsact")
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
    let doctor = |clean: &[&str]| lab.doctor(clean);
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

/// A qdisc that was there is kept without filters too; one that was made for them goes with them.
#[test]
fn doctor_removes_the_qdisc_only_if_a_killed_daemon_made_it() {
    require!(namespaces());
    let lab = Lab::new();
    for foreign in [false, true] {
        if foreign {
            lab.host.exec("tc", ["qdisc", "add", "dev", "eth0", "clsact"]).expect_success();
        }
        for again in [false, true] {
            let daemon = lab.start(&lab.config(CLSACT));
            assert!(lab.own_filters() > 0 && lab.has_qdisc());
            daemon.kill();
            if again {
                assert!(lab.doctor(&["--clean"]).1.contains("removed"));
            }
        }
        assert_eq!((lab.own_filters(), lab.has_qdisc()), (0, foreign), "{}", lab.filters());
    }
}

#[test]
fn a_device_that_only_has_our_kind_of_name_is_left_alone() {
    require!(namespaces());
    let lab = Lab::new();
    let index = lab.index();
    let (macvtap, tap) = (format!("vmlm{index}"), format!("vmlh{index}"));
    let is_there = |name: &str| lab.host.exec("ip", ["link", "show", name]).success();
    lab.host.ip(["link", "add", "link", "eth0", "name", &macvtap, "type", "macvtap", "mode", "bridge"]);
    lab.host.ip(["tuntap", "add", &tap, "mode", "tap", "vnet_hdr"]);
    assert_eq!(lab.doctor(&["--clean"]).1, "none");
    assert!(is_there(&macvtap) && is_there(&tap));
    for (mode, name) in [("macvtap", &macvtap), ("filter", &tap)] {
        let config = lab.config(&format!("mode = \"{mode}\""));
        let daemon = Daemon::start_within(&lab.host, directory(), &config);
        daemon.wait_state("trunk", PortState::Failed);
        let reason = daemon.port("trunk").reason.unwrap_or_default();
        assert!(reason.contains(&format!("ip link delete {name}")), "{reason}");
        daemon.stop();
        assert!(is_there(name), "{name}");
    }
    // With the mark it is one that was left.
    lab.host.ip(["link", "set", &macvtap, "alias", "vmlan: part of a trunk"]);
    assert!(lab.doctor(&["--clean"]).1.contains(&macvtap));
    assert!(!is_there(&macvtap) && is_there(&tap));
}

/// Every user of the network namespace can take an abstract name: that holds no interface.
#[test]
fn a_name_that_anybody_can_take_keeps_no_trunk_away_and_deceives_no_doctor() {
    require!(namespaces());
    let lab = Lab::new();
    let name = format!("vmlan-trunk-{}", lab.index());
    let taken = vmlan_sys::netns::within(&lab.host.path(), || {
        UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)
    });
    let daemon = lab.start(&lab.config(CLSACT));
    assert_eq!(lab.doctor(&["--clean"]).1, "none");
    daemon.kill();
    assert!(lab.doctor(&["--clean"]).1.contains("removed"));
    drop(taken.expect("a free name"));
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
