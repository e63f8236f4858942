//! The demonstration as a user runs it: it works, says so, and leaves nothing but its capture.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use testbed::{Netns, Output, Process, Signal, require, run};

/// Many times what it takes.
const LIMIT: Duration = Duration::from_secs(120);

/// The demonstration with `directory` for all its files.
fn demo(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmlan"));
    command.arg("demo").env("TMPDIR", directory);
    command
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = directory.read_dir().expect("a directory");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// Runs it; its capture is all that is left.
fn run_to_its_end(directory: &Path) -> (Output, PathBuf) {
    let output = run(demo(directory), LIMIT).expect_success();
    let left = entries(directory);
    let [capture] = &left[..] else { panic!("more or less than the capture is left: {left:?}") };
    (output, capture.clone())
}

/// Everything that guests get from the uplink, without the rest of its lines.
const OF_UPLINK: [&str; 7] = [
    "app an address, by DHCP",
    "store an address, by DHCP",
    "app store.demo.internal, by DNS",
    "app host.demo.internal, by DNS",
    "app http://host.demo.internal",
    "app host IPv4",
    "host store IPv4",
];

/// Lists what the output shows of that.
fn of_uplink(output: &str) -> Vec<&'static str> {
    let lines: Vec<String> =
        output.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let is_shown = |row: &&str| lines.iter().any(|line| line.starts_with(*row));
    OF_UPLINK.into_iter().filter(is_shown).collect()
}

#[test]
fn leases_are_not_kept() {
    let (directory, state) = (tempfile::tempdir(), tempfile::tempdir());
    let (directory, state) = (directory.expect("a directory"), state.expect("a directory"));
    let mut command = demo(directory.path());
    command
        .env("STATE_DIRECTORY", state.path())
        .env("XDG_STATE_HOME", state.path())
        .env("HOME", state.path());

    run(command, LIMIT).expect_success();

    assert_eq!(entries(state.path()), Vec::<PathBuf>::new());
}

/// Runs it in a namespace without an interface but loopback.
fn run_within(namespace: &Netns) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = namespace.command(env!("CARGO_BIN_EXE_vmlan"));
    command.arg("demo").env("TMPDIR", directory.path());
    run(command, LIMIT).expect_success()
}

#[test]
fn without_a_network_and_without_ipv6_the_uplink_is_shown() {
    require!(namespaces());
    let namespace = Netns::new("bare");
    namespace.sysctl("net.ipv6.conf.all.disable_ipv6", "1");

    let output = run_within(&namespace);

    assert_eq!(of_uplink(&output.stdout), OF_UPLINK, "{}", output.stdout);
}

#[test]
fn without_loopback_the_ways_to_this_host_are_left_out() {
    require!(namespaces());
    let namespace = Netns::new("down");
    namespace.ip(["link", "set", "lo", "down"]);

    let output = run_within(&namespace);

    assert_eq!(of_uplink(&output.stdout), OF_UPLINK[..3], "{}", output.stdout);
    assert!(
        output.stdout.contains("Left out: what the uplink carries from and to this host"),
        "{}",
        output.stdout
    );
}

#[test]
fn everything_arrives_and_only_the_capture_stays() {
    let directory = tempfile::tempdir().expect("a directory");

    let (output, capture) = run_to_its_end(directory.path());

    for expected in ["web", "db", "cache.0", "Everything arrived", "The books balance", "shows them"] {
        assert!(output.stdout.contains(expected), "{expected:?} in {}", output.stdout);
    }
    assert_eq!(of_uplink(&output.stdout), OF_UPLINK, "{}", output.stdout);
    assert!(output.stdout.contains(&format!("tshark -r {}", capture.display())), "{}", output.stdout);
    assert!(!Path::new("/sys/class/net/vmlan-demo").exists(), "the TAP is left behind");
}

#[test]
fn a_signal_ends_it_and_nothing_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut process = Process::spawn(demo(directory.path()));
    process.wait_for_log("pinging", LIMIT);
    assert_eq!(entries(directory.path()).len(), 2, "a directory of sockets, and a capture");

    process.signal(Signal::INT);
    let (status, log) = process.terminate(LIMIT);

    assert_eq!(status.code(), Some(1), "{log}");
    assert_eq!(entries(directory.path()), Vec::<PathBuf>::new(), "{log}");
}

#[test]
fn what_cannot_be_set_up_is_told_and_nothing_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    let long = directory.path().join("x".repeat(108));
    std::fs::create_dir(&long).expect("a directory");

    let output = run(demo(&long), LIMIT);

    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.contains("set TMPDIR to a shorter one"), "{}", output.stderr);
    assert_eq!(entries(&long), Vec::<PathBuf>::new());
}

#[test]
fn as_root_the_kernel_takes_part() {
    require!(namespaces());
    let directory = tempfile::tempdir().expect("a directory");

    let (output, _) = run_to_its_end(directory.path());

    assert!(!output.stdout.contains("Left out"), "{}", output.stdout);
    assert!(output.stdout.contains("kernel   tap"), "{}", output.stdout);
}

#[test]
fn tshark_reads_the_capture_without_complaint() {
    require!(tool("tshark"));
    let directory = tempfile::tempdir().expect("a directory");
    let (_, capture) = run_to_its_end(directory.path());
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(&capture).args(["-T", "fields", "-e", "frame.interface_name"]);
    tshark.args([
        "-e",
        "frame.packet_flags_direction",
        "-e",
        "icmpv6.type",
        "-e",
        "frame.cap_len",
        "-e",
        "tcp.analysis.retransmission",
    ]);

    let read = run(tshark, LIMIT).expect_success();

    let complaints: Vec<&str> =
        read.stderr.lines().filter(|line| !line.starts_with("Running as user")).collect();
    assert_eq!(complaints, Vec::<&str>::new());
    let frames: Vec<Vec<&str>> = read.stdout.lines().map(|line| line.split('\t').collect()).collect();
    for (port, direction) in [("web", "1"), ("db", "1"), ("cache.0", "1")] {
        let direction = format!("0x0000000{direction}");
        let is_echo_request = |frame: &&Vec<&str>| {
            frame[0] == format!("demo/{port}") && frame[1] == direction && frame[2] == "128"
        };
        assert!(frames.iter().any(|frame| is_echo_request(&frame)), "{port} {direction}");
    }
    assert!(frames.iter().all(|frame| frame[1] == "0x00000001"), "a frame is there where it came in");
    // A guest may have to send something again on a busy machine; with each frame twice half of them would look so.
    let again = frames.iter().filter(|frame| !frame[4].is_empty()).count();
    assert!(again < frames.len() / 10, "{again} retransmissions of {} frames", frames.len());
    let longest = frames.iter().filter_map(|frame| frame[3].parse::<u32>().ok()).max();
    assert_eq!(longest, Some(128));
}
