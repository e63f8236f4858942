//! Programs that set a device up and clean up after it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use testbed::{require, wait_until};
use vmlan_api::PortState;

use crate::lab::{Guest, configure, open_in};
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

/// A program that writes down what it is called with, waits for the file `go` in the directory, and writes its end.
fn slow(directory: &Path, name: &str) -> String {
    let at = |name: &str| directory.join(name).display().to_string();
    let text = format!(
        "echo \"{name} $1\" >> {0}\nwhile ! [ -e {1} ]; do sleep 0.02; done\necho \"end {name} $1\" >> {0}",
        at("journal"),
        at("go")
    );
    script(&directory.join(name), &text);
    at(name)
}

fn journal(directory: &Path) -> Vec<String> {
    let text = fs::read_to_string(directory.join("journal")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[track_caller]
fn wait_for_journal(directory: &Path, lines: &[&str]) {
    wait_until(&format!("{lines:?}"), PATIENCE, || journal(directory) == lines);
}

/// The table of a port in JSON, with further members.
fn table(guest: &Guest, members: &str) -> String {
    format!(r#"{{"tap": {{"name": "t0", "netns": "{}", {members}}}}}"#, guest.netns.path().display())
}

#[test]
fn a_slow_terminate_holds_up_nothing_but_what_needs_the_device() {
    require!(namespaces());
    let (one, two) = (Guest::new(1), Guest::new(2));
    let directory = directory();
    let port = table(&one, &format!("\"terminate\": \"{}\"", slow(directory.path(), "terminate")));
    let daemon = Daemon::start(&two.port(""));
    let added: vmlan_api::ApplyReport = daemon.add_port("lab", "guest1", &port).json();
    assert_eq!(added.failed(), 0);
    configure(&daemon, &[&one, &two]);
    one.pings(&two);

    daemon.remove_port("lab", "guest1");
    wait_for_journal(directory.path(), &["terminate t0"]);
    assert!(!one.has_tap() && daemon.find_port("guest1").is_none());
    let other = Guest::new(3);
    let added: vmlan_api::ApplyReport =
        daemon.add_port("lab", "guest3", &table(&other, "\"persistent\": false")).json();
    assert_eq!(added.failed(), 0);
    configure(&daemon, &[&other]);
    other.pings(&two);

    // The next port on the same device waits, by whatever name.
    daemon.add_port("lab", "guest4", &port);
    daemon.wait_state("guest4", PortState::Waiting);
    assert!(daemon.port("guest4").reason.is_some_and(|reason| reason.contains("terminate program")));
    assert!(!one.has_tap());
    fs::write(directory.path().join("go"), "").expect("a file");
    daemon.wait_up(&["guest4"]);
    assert_eq!(journal(directory.path()), ["terminate t0", "end terminate t0"]);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn programs_that_run_are_not_cut_short_by_a_change() {
    require!(namespaces());
    let (one, directory) = (Guest::new(1), directory());
    let setup = slow(directory.path(), "setup");
    let terminate = slow(directory.path(), "terminate");
    let port = table(&one, &format!("\"setup\": \"{setup}\", \"terminate\": \"{terminate}\""));
    let daemon = Daemon::start("[network.lab]\n");
    daemon.add_port("lab", "guest1", &port);
    wait_for_journal(directory.path(), &["setup t0"]);
    let removed: vmlan_api::ApplyReport =
        daemon.request("DELETE", "/v1/networks/lab/ports/guest1", None).json();
    assert_eq!(removed.failed(), 0);
    fs::write(directory.path().join("go"), "").expect("a file");
    let whole = ["setup t0", "end setup t0", "terminate t0", "end terminate t0"];
    wait_for_journal(directory.path(), &whole);

    // The same with a terminate program that a device's end started.
    fs::remove_file(directory.path().join("journal")).expect("the journal");
    daemon.add_port("lab", "guest1", &port);
    daemon.wait_up(&["guest1"]);
    fs::remove_file(directory.path().join("go")).expect("the file");
    one.netns.ip(["link", "delete", "t0"]);
    wait_for_journal(directory.path(), &["setup t0", "end setup t0", "terminate t0"]);
    let removed: vmlan_api::ApplyReport =
        daemon.request("DELETE", "/v1/networks/lab/ports/guest1", None).json();
    assert_eq!(removed.failed(), 0);
    fs::write(directory.path().join("go"), "").expect("a file");
    wait_for_journal(directory.path(), &whole);
    daemon.stop();
    assert_eq!(journal(directory.path()), whole);
}

#[test]
fn terminate_programs_run_side_by_side_when_the_daemon_ends() {
    require!(namespaces());
    let (one, two, directory) = (Guest::new(1), Guest::new(2), directory());
    // Each ends when the other one runs.
    let at = |name: &str| directory.path().join(name).display().to_string();
    let program = |own: &str, other: &str| {
        let text = format!("touch {}\nwhile ! [ -e {} ]; do sleep 0.02; done", at(own), at(other));
        script(&directory.path().join(format!("terminate-{own}")), &text);
        format!("name = \"t0\", terminate = \"{}\"", at(&format!("terminate-{own}")))
    };
    let port = |guest: &Guest, program: &str| guest.port("").replace("name = \"t0\"", program);
    let config = port(&one, &program("a", "b")) + &port(&two, &program("b", "a"));
    let daemon = Daemon::start(&config);
    daemon.wait_up(&["guest1", "guest2"]);
    daemon.stop();
}

#[test]
fn terminate_is_told_the_name_that_the_device_has() {
    require!(namespaces());
    let (one, directory) = (Guest::new(1), directory());
    let terminate = slow(directory.path(), "terminate");
    fs::write(directory.path().join("go"), "").expect("a file");
    let pattern = format!("name = \"vm%d\", terminate = \"{terminate}\"");
    let daemon = Daemon::start(&one.port("").replace("name = \"t0\"", &pattern));
    daemon.wait_up(&["guest1"]);
    daemon.stop();
    assert_eq!(journal(directory.path()), ["terminate vm0", "end terminate vm0"]);
}

#[test]
fn terminate_runs_for_inherited_devices() {
    require!(namespaces());
    let (one, two, directory) = (Guest::new(1), Guest::new(2), directory());
    let terminate = slow(directory.path(), "terminate");
    fs::write(directory.path().join("go"), "").expect("a file");
    let config = format!(
        "[network.lab.port.guest1]\ntap = {{ fd = 3, terminate = \"{terminate}\" }}\n\
         [network.lab.port.guest2]\ntap = {{ fd = 4 }}\n"
    );
    let daemon = Daemon::start_with_descriptors(&config, open_in(&one.netns), open_in(&two.netns));
    daemon.remove_port("lab", "guest1");
    wait_for_journal(directory.path(), &["terminate t0", "end terminate t0"]);
    assert!(!one.has_tap(), "the device went with its last descriptor");
    daemon.stop();
}

#[test]
fn a_setup_program_that_leaves_a_child_behind_has_ended() {
    require!(namespaces());
    let (one, directory) = (Guest::new(1), directory());
    let program = directory.path().join("setup");
    let go = directory.path().join("go");
    script(&program, &format!("while ! [ -e {} ]; do sleep 0.02; done &\necho t0", go.display()));
    let port = one.port("").replace("name = \"t0\"", &format!("setup = \"{}\"", program.display()));
    let daemon = Daemon::start(&port);
    daemon.wait_up(&["guest1"]);
    fs::write(go, "").expect("a file");
    daemon.stop();
}
