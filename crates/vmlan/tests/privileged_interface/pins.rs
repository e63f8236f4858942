//! Frames that the kernel goes on with when the daemon is killed, and the next daemon's part in them.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use testbed::{Output, require, run, wait_until};
use vmlan_api::PortState;

use crate::lab::{Lab, carried, v4};
use crate::support::{Daemon, PATIENCE, VMLAN, assert_balanced, directory, mac};

/// Runs the daemon in the host's network namespace alone: `ip netns exec` would give it a file system of its own at
/// /sys, which ends with it.
fn start(lab: &Lab, directory: TempDir, config: &str) -> Daemon {
    Daemon::start_by(directory, config, &["nsenter", &format!("--net={}", lab.host.path().display())])
}

fn doctor(lab: &Lab, arguments: &[&str]) -> Output {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", lab.host.path().display())).arg(VMLAN);
    let none = directory().path().join("none.sock").display().to_string();
    command.args(["doctor", "--json", "--control", &none]).args(arguments);
    run(command, PATIENCE)
}

/// The directories that daemons in the host's network namespace have in the BPF file system.
fn pins(lab: &Lab) -> Vec<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let inode = std::fs::metadata(lab.host.path()).expect("a namespace").ino();
    let Ok(listed) = std::fs::read_dir("/sys/fs/bpf/vmlan") else { return Vec::new() };
    let is_ours = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{inode}:")))
    };
    listed.flatten().map(|entry| entry.path()).filter(is_ours).collect()
}

/// Guests with a veth each that know each other, and a daemon that carries them fast.
fn running(guests: u8) -> (Lab, Daemon) {
    let lab = Lab::new(guests.into());
    let daemon = start(&lab, directory(), &lab.veths());
    (1..=guests).for_each(|number| daemon.wait_up(&[&format!("guest{number}")]));
    for other in 2..=guests {
        lab.acquaint(1, other);
        lab.wait_fast(&daemon, 1, other);
    }
    (lab, daemon)
}

/// Requests that guest 1 sends to guest 2 one after the other, beside the test.
struct Requests(std::thread::JoinHandle<Output>);

impl Requests {
    fn start(lab: &Lab, count: u32) -> Requests {
        let mut command = lab.guest(1).command("ping");
        command.args(["-n", "-q", "-i", "0.002", "-W", "1", "-c", &count.to_string(), &v4(2).to_string()]);
        Requests(std::thread::spawn(move || run(command, PATIENCE)))
    }

    /// Every one has to have one answer.
    #[track_caller]
    fn expect_all(self, count: u32, why: &str) {
        let output = self.0.join().expect("ping");
        let all = format!("{count} packets transmitted, {count} received, 0% packet loss");
        assert!(output.stdout.contains(&all), "{why}: {}", output.stdout);
    }
}

/// fast-path.md case 11.
#[test]
fn case_11_guests_that_know_each_other_lose_nothing_when_the_daemon_is_killed() {
    require!(namespaces());
    const REQUESTS: u32 = 500;
    let (lab, mut daemon) = running(2);
    for round in 1..=4_u32 {
        let requests = Requests::start(&lab, REQUESTS);
        let before = carried(&daemon, "guest1");
        wait_until("requests on their way", PATIENCE, || carried(&daemon, "guest1") > before);
        let left = daemon.kill();
        daemon = start(&lab, left, &lab.veths());
        daemon.wait_up(&["guest1", "guest2"]);
        requests.expect_all(REQUESTS, &format!("kill {round}"));
        let carried = carried(&daemon, "guest1");
        assert!(carried >= u64::from(round * REQUESTS), "counters go on: {carried} after {round} rounds");
        assert!(daemon.fdb("lab").iter().any(|entry| entry.mac == mac(1).to_string() && entry.fast));
    }
    // Who was not known finds its way as well.
    lab.pings(2, 1);
    assert_balanced(&daemon);
    daemon.stop();
    assert_eq!(pins(&lab), Vec::<PathBuf>::new(), "nothing is left");
}

#[test]
fn the_next_daemon_decides_by_its_own_configuration() {
    require!(namespaces());
    let (lab, daemon) = running(3);
    let left = daemon.kill();
    assert!(testbed::ping(lab.guest(1), v4(3), 3).all(), "without a daemon");
    let config =
        format!("{}{}", lab.veth(1, "vlan = { access = 10 }"), lab.veth(2, "vlan = { access = 20 }"));
    let daemon = start(&lab, left, &config);
    // From the moment that it is ready, the port that is not there any more is none.
    assert_eq!(testbed::ping(lab.guest(1), v4(3), 3).received, 0);
    daemon.wait_up(&["guest1", "guest2"]);
    assert_eq!(testbed::ping(lab.guest(1), v4(2), 3).received, 0, "they are in different VLANs");
    assert!(daemon.fdb("lab").iter().all(|entry| entry.mac != mac(3).to_string()));
    daemon.stop();
}

#[test]
fn a_port_whose_interface_is_another_takes_nothing_over() {
    require!(namespaces());
    let (lab, daemon) = running(2);
    let left = daemon.kill();
    lab.host.ip(["link", "delete", "ve1"]);
    let daemon = start(&lab, left, &lab.veths());
    daemon.wait_up(&["guest1", "guest2"]);
    lab.acquaint(1, 2);
    lab.wait_fast(&daemon, 1, 2);
    assert_balanced(&daemon);
    let left = daemon.kill();
    // This one waits: what the kernel had of it goes at once.
    let found = "[network.lab.port.guest1]\ninterface = { name = \"none\" }\n";
    let daemon = start(&lab, left, &format!("{found}{}", lab.veth(2, "")));
    daemon.wait_state("guest1", PortState::Waiting);
    daemon.wait_up(&["guest2"]);
    wait_until("nothing passes", PATIENCE, || testbed::ping(lab.guest(1), v4(2), 3).received == 0);
    daemon.stop();
    doctor(&lab, &["--clean"]);
    assert_eq!(pins(&lab), Vec::<PathBuf>::new());
}

/// fast-path.md case 12.
#[test]
fn case_12_what_a_killed_daemon_left_is_named_cleaned_and_in_nobodys_way() {
    require!(namespaces());
    let (lab, daemon) = running(2);
    let found = doctor(&lab, &[]).stdout;
    assert!(!found.contains("programs on interfaces"), "a running daemon's are no leftovers: {found}");
    let left = daemon.kill();
    let found = doctor(&lab, &[]).stdout;
    assert!(found.contains("4 programs on interfaces"), "{found}");
    // A daemon of another name does not take the place over, but the interfaces.
    let daemon = start(&lab, directory(), &lab.veths());
    daemon.wait_up(&["guest1", "guest2"]);
    lab.wait_fast(&daemon, 1, 2);
    daemon.stop();
    drop(left);
    doctor(&lab, &["--clean"]);
    assert_eq!(pins(&lab), Vec::<PathBuf>::new());
}
