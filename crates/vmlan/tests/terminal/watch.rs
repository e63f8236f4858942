//! Listings with `--watch`, at a pseudo-terminal and in a pipe.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use testbed::require;
use vmlan_api::Timestamp;

use crate::CONFIG;
use crate::pty::Pty;
use crate::support::{Daemon, VMLAN};

/// The program with its output in a pipe. Killed by its id on drop.
struct Piped {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Piped {
    fn start(daemon: &Daemon, arguments: &[&str]) -> Piped {
        let mut command = Command::new(VMLAN);
        command.args(arguments).arg("--control").arg(daemon.control()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("vmlan can be started");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Piped { child, lines }
    }

    #[track_caller]
    fn line(&mut self) -> String {
        self.lines.next().expect("a line more").expect("text")
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn tables_in_a_pipe_follow_one_another_and_are_whole() {
    let daemon = Daemon::start(CONFIG);
    let once = daemon.cli(&["ports"]).stdout;
    let mut ports = Piped::start(&daemon, &["ports", "--watch=0.1"]);
    for _ in 0..3 {
        let time = ports.line();
        assert!(time.parse::<Timestamp>().is_ok(), "{time}");
        let table: String = (0..3).map(|_| ports.line() + "\n").collect();
        assert_eq!(table, once);
        assert_eq!(ports.line(), "");
    }
    daemon.stop();
}

#[test]
fn documents_in_a_pipe_are_a_line_each() {
    let daemon = Daemon::start(CONFIG);
    for listing in [
        &["ports"][..],
        &["counters"],
        &["networks"],
        &["status"],
        &["fdb", "lab"],
        &["leases"],
        &["flows"],
        &["trunk"],
        &["uplink"],
        &["forward", "list"],
        &["filter", "list"],
        &["status", "--fast"],
        &["port", "show", "lab/web"],
    ] {
        let mut lines = Piped::start(&daemon, &[listing, &["--json", "--watch=0.1"]].concat());
        for _ in 0..2 {
            let line = lines.line();
            let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(value.is_array() || value.is_object(), "{listing:?}: {line}");
        }
    }
    daemon.stop();
}

#[test]
fn a_terminal_shows_the_newest_table_in_its_width() {
    require!(tool("setsid"));
    let daemon = Daemon::start(CONFIG);
    let mut ports = Pty::start((60, 10), &["ports", "--watch=0.1"], &daemon.control(), &[]);
    ports.wait_for("both ports, cut", |picture| {
        picture.contains("web") && picture.contains("db") && picture.contains('…')
    });
    let added = daemon.cli(&["port", "add", "lab", "mail", "stream", "listen=mail.sock"]);
    assert!(added.status.success(), "{added:?}");
    ports.wait_for("the new port", |picture| picture.contains("mail"));
    let picture = ports.screen().text();
    assert!(picture.lines().next().expect("a line").parse::<Timestamp>().is_ok(), "{picture}");
    assert_eq!(picture.matches("NETWORK").count(), 1, "{picture}");
    assert!(!ports.screen().was_alternate && ports.screen().has_cursor);
    ports.signal(Signal::TERM);
    assert_eq!(ports.wait_end().code(), None);
    daemon.stop();
}

#[test]
fn a_table_fits_the_terminal_without_being_watched() {
    require!(tool("setsid"));
    let daemon = Daemon::start(CONFIG);
    let mut ports = Pty::start((60, 10), &["ports"], &daemon.control(), &[]);
    assert_eq!(ports.wait_end().code(), Some(0));
    ports.wait_for("three lines", |picture| picture.trim_end().lines().count() == 3 && picture.contains('…'));
    daemon.stop();
}

#[test]
fn a_daemon_that_went_is_waited_for() {
    let daemon = Daemon::start(CONFIG);
    let mut status = Piped::start(&daemon, &["status", "--json", "--watch=0.1"]);
    let pid = |line: String| serde_json::from_str::<Value>(&line).expect("JSON")["pid"].as_u64();
    let first = pid(status.line());
    let daemon = Daemon::start_in(daemon.stop(), CONFIG);
    while pid(status.line()) == first {}
    daemon.stop();
}
