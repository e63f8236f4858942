//! `vmlan vm` after one that was killed.

use std::process::{Command, Stdio};

use testbed::wait_until;
use vmlan_guest::Attachment;

use super::support::{Daemon, PATIENCE, Peer, VMLAN, program};

#[test]
fn the_port_of_a_killed_command_goes_when_its_machine_is_gone() {
    let daemon = Daemon::start("[network.lab]\n");
    // It waits for the end of its input.
    let machine = program(&daemon.path(""), "qemu-system-x86_64", "cat >/dev/null");
    let arguments = ["vm", "lab", "--control", daemon.control().to_str().expect("text"), "--", &machine]
        .map(str::to_owned);
    let command = || {
        let mut command = Command::new(VMLAN);
        command.args(&arguments).args(["-m", "1G", "-name", "db"]);
        command
    };
    let mut killed = command().stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("vmlan can be run");
    // Its end is the end of the machine.
    let input = killed.stdin.take().expect("a pipe");
    wait_until("the port", PATIENCE, || daemon.find_port("db").is_some());
    let first = daemon.port("db").mac;
    killed.kill().expect("our own child");
    killed.wait().expect("our own child");
    let guest = Peer::attach(1, Attachment::Stream { path: daemon.path("lab-db.sock") });
    daemon.wait_up(&["db"]);
    let again = |expected: &str| {
        let mut command = command();
        command.stdin(Stdio::null());
        let output = testbed::run(command, PATIENCE).expect_success();
        assert!(output.stdout.contains(expected), "{}", output.stdout);
    };

    // A machine that still runs keeps its port.
    again("/lab-db-2.sock ");
    assert_eq!(daemon.port("db").mac, first);

    drop((guest, input));
    daemon.wait_state("db", vmlan_api::PortState::Waiting);
    again("/lab-db.sock ");
    assert!(daemon.ports().is_empty(), "{:?}", daemon.ports());
    daemon.stop();
}
