//! Programs that set a device up and clean up after it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use api::PortState;
use testbed::require;

use crate::lab::{Guest, configure};
use crate::support::{Daemon, PATIENCE, assert_balanced, directory};

/// An executable script.
fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("a file");
    fs::set_permissions(path, Permissions::from_mode(0o755)).expect("our own file");
}

#[test]
fn setup_runs_before_the_device_is_opened_and_terminate_after_it_is_closed() {
    require!(namespaces());
    let (one, two) = (Guest::new(1), Guest::new(2));
    let directory = directory();
    let at = |name: &str| directory.path().join(name);
    let (journal, netns) = (at("journal").display().to_string(), one.netns.name());
    // Each says what it was given, and whether somebody has the device open (its carrier tells).
    let look = format!("open=$(ip netns exec {netns} cat /sys/class/net/t0/carrier 2>/dev/null)");
    script(
        &at("setup"),
        &format!(
            "{look}\necho \"setup $1 $open\" >> {journal}\nip -n {netns} tuntap add $1 mode tap vnet_hdr"
        ),
    );
    script(
        &at("terminate"),
        &format!("{look}\necho \"terminate $1 $open\" >> {journal}\nip -n {netns} link del $1"),
    );
    let port = one.port("").replace(
        "name = \"t0\"",
        &format!(
            "name = \"t0\", setup = \"{}\", terminate = \"{}\"",
            at("setup").display(),
            at("terminate").display()
        ),
    );
    let daemon = Daemon::start(&format!("{port}{}", two.port("")));
    configure(&daemon, &[&one, &two]);
    one.pings(&two);
    assert_balanced(&daemon);
    daemon.stop();

    assert!(!one.has_tap());
    let journal = fs::read_to_string(journal).expect("the journal");
    assert_eq!(journal, "setup t0 \nterminate t0 0\n");
}

#[test]
fn a_setup_program_may_name_the_device() {
    require!(namespaces());
    let one = Guest::new(1);
    let directory = directory();
    let program = directory.path().join("setup");
    script(&program, "echo t0\necho and more");
    let port = one.port("").replace("name = \"t0\"", &format!("setup = \"{}\"", program.display()));
    let daemon = Daemon::start(&port);
    daemon.wait_up(&["guest1"]);
    assert!(one.has_tap());
    assert_eq!(daemon.port("guest1").peer.as_deref(), Some("t0"));
    daemon.stop();
}

#[test]
fn a_setup_program_that_fails_is_named_with_its_status_and_last_line() {
    require!(namespaces());
    let (one, two) = (Guest::new(1), Guest::new(2));
    let directory = directory();
    let program = directory.path().join("setup");
    let sentinel = directory.path().join("sentinel");
    script(&program, &format!("test -e {} || {{ echo no bridge br7 >&2; exit 3; }}", sentinel.display()));
    let port =
        one.port("").replace("name = \"t0\"", &format!("name = \"t0\", setup = \"{}\"", program.display()));
    let daemon = Daemon::start(&format!("{port}{}", two.port("")));
    daemon.wait_state("guest1", PortState::Failed);
    let reason = daemon.port("guest1").reason.expect("a reason");
    for part in [program.to_str().expect("text"), "exit status: 3", "no bridge br7"] {
        assert!(reason.contains(part), "{reason}");
    }
    assert!(!one.has_tap());

    // It is tried again.
    fs::write(sentinel, "").expect("a file");
    configure(&daemon, &[&one, &two]);
    assert!(one.netns.reaches(crate::lab::v4(2), PATIENCE));
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_program_that_is_missing_is_an_error_before_anything_starts() {
    let directory = directory();
    let config = directory.path().join("vmlan.toml");
    fs::write(&config, "[network.lab.port.one]\ntap = { name = \"t0\", setup = \"/no/such/program\" }\n")
        .expect("a file");
    let mut command = std::process::Command::new(crate::support::VMLAN);
    command
        .args(["run", "--config"])
        .arg(&config)
        .arg("--control")
        .arg(directory.path().join("control.sock"));
    let output = testbed::run(command, PATIENCE);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        output.stderr.contains("/no/such/program") && output.stderr.contains("vmlan.toml:2:"),
        "{output:?}"
    );
}
