//! `vmlan top` at a pseudo-terminal.

use std::process::Command;

use rustix::process::Signal;
use testbed::require;

use crate::CONFIG;
use crate::pty::Pty;
use crate::support::{Daemon, PATIENCE, VMLAN};

const SIZE: (u16, u16) = (80, 24);

fn has_both(picture: &str) -> bool {
    picture.contains("lab/web") && picture.contains("lab/db")
}

#[test]
fn ports_are_seen_filtered_and_the_terminal_is_as_before() {
    require!(tool("setsid"));
    let daemon = Daemon::start(CONFIG);
    let mut top = Pty::start(SIZE, &["top", "lab"], &daemon.control(), &[]);
    top.wait_for("both ports", has_both);
    top.press("/WEB");
    top.wait_for("one of them", |picture| {
        picture.contains("lab/web") && !picture.contains("lab/db") && picture.contains("filter: WEB_")
    });
    top.press("\r?");
    top.wait_for("the help", |picture| picture.contains("Any other key goes back."));
    top.press("x");
    top.wait_for("the port", |picture| picture.contains("lab/web"));
    top.resize((40, 10));
    top.wait_for("narrow titles", |picture| picture.contains("TX  DROPS/S") && !picture.contains("STATE"));
    top.press("q");
    top.ends_well();
    daemon.stop();
}

#[test]
fn signals_and_keys_give_the_terminal_back() {
    require!(tool("setsid"));
    let daemon = Daemon::start(CONFIG);
    let start = || {
        let top = Pty::start(SIZE, &["top"], &daemon.control(), &[]);
        top.wait_for("both ports", has_both);
        top
    };
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let top = start();
        top.signal(signal);
        top.ends_well();
    }
    for keys in ["\u{3}", "\u{1b}", "/web\u{3}"] {
        let mut top = start();
        top.press(keys);
        top.ends_well();
    }
    daemon.stop();
}

#[test]
fn a_daemon_that_went_is_named_and_found_again() {
    require!(tool("setsid"));
    let daemon = Daemon::start(CONFIG);
    let mut top = Pty::start(SIZE, &["top"], &daemon.control(), &[]);
    top.wait_for("both ports", has_both);
    let directory = daemon.stop();
    top.wait_for("the trouble", |picture| picture.starts_with("trying again: ") && has_both(picture));
    let daemon = Daemon::start_in(directory, CONFIG);
    // It has another control socket, of the same name.
    top.wait_for("the daemon", |picture| picture.starts_with("2 ports, ") && has_both(picture));
    top.press("q");
    top.ends_well();
    daemon.stop();
}

#[test]
fn colours_are_left_out_on_demand() {
    require!(tool("setsid"));
    let daemon = Daemon::start(CONFIG);
    for (variables, has_colours) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let mut top = Pty::start(SIZE, &["top"], &daemon.control(), variables);
        top.wait_for("both ports", has_both);
        assert_eq!(top.raw().contains("\u{1b}[38;5;"), has_colours, "{:?}", top.raw());
        top.press("q");
        top.ends_well();
    }
    daemon.stop();
}

#[test]
fn without_a_terminal_the_message_says_what_to_do() {
    let mut command = Command::new(VMLAN);
    command.args(["top", "--control", "/nonexistent"]);
    let output = testbed::run(command, PATIENCE);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stderr.contains("needs a terminal"), "{output:?}");
}

#[test]
fn an_unknown_network_is_an_error_as_ever() {
    require!(tool("setsid"));
    let daemon = Daemon::start(CONFIG);
    let mut top = Pty::start(SIZE, &["top", "lob"], &daemon.control(), &[]);
    assert_eq!(top.wait_end().code(), Some(1), "{}", top.raw());
    top.wait_for("the error", |picture| picture.contains("error: ") && picture.contains("lob"));
    assert!(!top.screen().was_alternate);
    daemon.stop();
}
