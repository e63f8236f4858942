//! The benchmark itself, as short as it can be: figures come out, failures are told, nothing stays behind.

use std::fs;
use std::process::Command;
use std::time::Duration;

use testbed::{Output, require, run};

const LIMIT: Duration = Duration::from_secs(100);

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmlan-bench"));
    command.args(["--rounds", "1", "--seconds", "0.05", "--patience", "0"]).args(arguments);
    run(command, LIMIT)
}

#[test]
fn peers_are_measured_and_told() {
    require!(namespaces(), tool("iperf3"), tool("ethtool"), tool("vde_switch"), tool("vde_plug2tap"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let json = directory.path().join("figures.json");
    let peers = ["bridge", "bridge-plain", "vde-switch", "relay-epoll", "relay-uring"];
    let io_uring = sys::uring::probe().is_ok();

    let output = bench(&["--only", &peers.join(","), "--json", json.to_str().expect("UTF-8")]);

    assert_eq!(output.success(), io_uring, "{}", output.stderr);
    let json = fs::read_to_string(json).expect("figures");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    for (peer, run) in peers.iter().zip(json["runs"].as_array().expect("a list")) {
        assert_eq!(run["peer"], *peer);
        let figure = |of: &str, name: &str| run["figures"][of][name].as_f64();
        let figures = [
            figure("tcp", "gbit_per_s"),
            figure("rate", "received_mpps"),
            figure("round_trip", "p50_us"),
            figure("round_trip_one_cpu", "p99_us"),
        ];
        let wanted = io_uring || *peer != "relay-uring";
        assert_eq!(figures.map(|figure| figure.is_some_and(|figure| figure > 0.0)), [wanted; 4], "{run}");
        assert!(output.stdout.contains(peer), "{}", output.stdout);
    }
}

#[test]
fn one_that_fails_is_named_and_the_others_go_on() {
    require!(namespaces(), tool("iperf3"));

    let output = bench(&["--only", "vmlan,bridge", "--vmlan", "/bin/false"]);

    assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
    assert!(output.stderr.contains("error: vmlan failed in round 1: /bin/false run"), "{}", output.stderr);
    assert!(!output.stderr.contains("bridge failed"), "{}", output.stderr);
    let bridge = output.stdout.lines().find(|line| line.starts_with("bridge ")).expect("a row");
    assert!(bridge.ends_with(" 1") && !bridge.contains(" - "), "{bridge}");
}
