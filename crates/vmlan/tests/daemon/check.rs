//! `vmlan check --here` beside a daemon that runs.

use std::process::Command;

use vmlan_api::{EventKind, PortState};

use crate::support::{Daemon, PATIENCE, VMLAN, free_port};

#[test]
fn a_check_leaves_alone_what_the_daemon_has() {
    let (guest, metrics) = (free_port(), free_port());
    let config = format!(
        "[daemon]\nmetrics = \"127.0.0.1:{metrics}\"\n\
         [network.lab.port.path]\nstream = {{ listen = \"path.sock\" }}\n\
         [network.lab.port.tcp]\nstream = {{ listen = \"127.0.0.1:{guest}\" }}\n\
         [network.lab.port.datagram]\ndatagram = {{ listen = \"datagram.sock\" }}\n\
         [network.lab.port.vde]\nvde = {{ directory = \"vde\" }}\n"
    );
    let daemon = Daemon::start(&config);
    for port in ["path", "tcp", "datagram"] {
        daemon.wait_state(port, PortState::Waiting);
    }
    daemon.wait_up(&["vde"]);
    let file = daemon.path("next.toml");
    let more = format!("{config}[network.lab.port.more]\nstream = {{ listen = \"more.sock\" }}\n");
    std::fs::write(&file, more).expect("a file");
    let file = file.to_str().expect("text");
    let mut events = daemon.events();

    daemon.cli(&["check", file, "--here"]).expect_success();

    // Nothing happened before this change.
    daemon.cli(&["apply", file]).expect_success();
    let first = events.next().expect("an event");
    assert!(matches!(&first, EventKind::PortAdded { port, .. } if port == "more"), "{first:?}");

    // Of a vmlan that is not asked, all of it is somebody else's.
    let elsewhere = daemon.path("elsewhere.sock");
    let arguments = ["check", file, "--here", "--json", "--control", elsewhere.to_str().expect("text")];
    let mut command = Command::new(VMLAN);
    command.args(arguments);
    let output = testbed::run(command, PATIENCE);
    let told: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(told["errors"].as_array().map(Vec::len), Some(6), "{told:#}");
}
