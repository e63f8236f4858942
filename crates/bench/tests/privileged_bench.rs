//! The benchmark itself, as short as it can be: figures come out, failures are told, nothing stays behind.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testbed::{Output, require, run};

const LIMIT: Duration = Duration::from_secs(200);

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmlan-bench"));
    command.args(["--rounds", "1", "--seconds", "0.05", "--patience", "0"]).args(arguments);
    run(command, LIMIT)
}

fn json(file: &Path) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(file).expect("figures")).expect("JSON")
}

/// With no vmlan to measure, everything else is measured nevertheless.
#[test]
fn peers_are_measured_and_told() {
    require!(namespaces(), tool("iperf3"), tool("ethtool"), tool("vde_switch"), tool("vde_plug2tap"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name);
    let text = |name: &str| at(name).to_str().expect("UTF-8").to_owned();
    let rows = "tap-tcp-plain,tap-rtt-one-cpu,dgram-64,stream-64,fair";

    let output = bench(&[
        "--vmlan",
        "/bin/false",
        "--only",
        rows,
        "--json",
        &text("json"),
        "--markdown",
        &text("markdown"),
        "--charts",
        &text("charts"),
    ]);

    assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
    let failed = "error: dgram-64: vmlan failed in round 1: /bin/false run";
    assert!(output.stderr.contains(failed), "{}", output.stderr);
    let json = json(&at("json"));
    let uring = if uring::probe().is_ok() { "relay-uring" } else { "relay-epoll" };
    for (row, contestant) in [
        ("tap-tcp-plain", "bridge-plain"),
        ("tap-tcp-plain", "relay-epoll"),
        ("tap-tcp-plain", uring),
        ("tap-tcp-plain", "vde-switch"),
        ("tap-rtt-one-cpu", "bridge-plain"),
        ("dgram-64", "relay-mmsg"),
        ("dgram-64", "vde-switch"),
        ("stream-64", "relay-stream"),
    ] {
        let runs = json["runs"].as_array().expect("a list");
        let run =
            runs.iter().find(|run| run["row"] == row && run["contestant"] == contestant).expect(contestant);
        let figures = run["figures"].as_array().unwrap_or_else(|| panic!("{run}"));
        assert!(figures.iter().all(|figure| figure.as_f64().is_some_and(|figure| figure > 0.0)), "{run}");
        assert!(output.stdout.contains(contestant), "{}", output.stdout);
    }
    let markdown = fs::read_to_string(at("markdown")).expect("tables");
    assert!(markdown.contains("](charts/dgram-64.svg)"), "{markdown}");
    assert!(at("charts").join("dgram-64.svg").exists() && !at("charts").join("fair-flood-tcp.svg").exists());
}

#[test]
fn guests_on_vhost_user_sockets_are_measured() {
    require!(namespaces(), testpmd(), tool("iperf3"), tool("ethtool"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("json");

    let output =
        bench(&["--vmlan", "/bin/false", "--only", "vhost-2q", "--json", file.to_str().expect("UTF-8")]);

    let json = json(&file);
    let runs = json["runs"].as_array().expect("a list");
    let run = runs.iter().find(|run| run["contestant"] == "testpmd-io").expect("a relay");
    assert!(run["figures"][0].as_f64().is_some_and(|figure| figure > 0.0), "{run}: {}", output.stderr);
}

#[test]
fn what_is_missing_is_told_and_is_no_failure() {
    require!(namespaces(), tool("iperf3"), tool("ethtool"));
    // Everything that is needed, and no peer.
    let directory = tempfile::tempdir().expect("a temporary directory");
    for program in ["ip", "ping", "iperf3", "ethtool"] {
        let found = std::env::split_paths(&std::env::var_os("PATH").expect("a path"))
            .map(|at| at.join(program))
            .find(|file| file.exists())
            .expect(program);
        std::os::unix::fs::symlink(found, directory.path().join(program)).expect("a link");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmlan-bench"));
    command.args(["--rounds", "2", "--seconds", "0.05", "--patience", "0", "--only", "scale-ports-vde"]);
    command.args(["--vmlan", "/bin/false"]).env("PATH", directory.path());

    let output = run(command, LIMIT);

    assert!(output.success(), "{}", output.stderr);
    assert!(
        output.stderr.contains("MISSING: scale-ports-vde: vde, 2 ports: no vde_switch"),
        "{}",
        output.stderr
    );
    assert!(output.stdout.contains("MISSING"), "{}", output.stdout);
}

#[test]
fn rows_are_listed_without_measuring_and_unknown_ones_refused() {
    let listed = bench(&["--list", "--only", "scale"]);
    let unknown = bench(&["--only", "tap,tpa"]);

    assert!(listed.success() && listed.stdout.contains("100,000 MACs"), "{}", listed.stdout);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(unknown.stderr.contains("no group or row tpa"), "{}", unknown.stderr);
}
