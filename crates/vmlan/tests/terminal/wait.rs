//! A daemon that does not answer, and work that takes its time: what a command says meanwhile.

use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use testbed::wait_until;

use crate::pty::Pty;
use crate::support::{Daemon, PATIENCE, VMLAN, directory, program};

/// A control socket that accepts and never answers, until it is told to close.
struct Silent {
    directory: tempfile::TempDir,
    closes: Arc<AtomicBool>,
}

impl Silent {
    fn start() -> Silent {
        let directory = directory();
        let listener = UnixListener::bind(directory.path().join("control.sock")).expect("a socket");
        listener.set_nonblocking(true).expect("our own socket");
        let closes = Arc::new(AtomicBool::new(false));
        let closed = closes.clone();
        thread::spawn(move || {
            let mut open = Vec::new();
            while !closed.load(Ordering::Relaxed) {
                open.extend(listener.accept().ok());
                thread::yield_now();
                thread::park_timeout(std::time::Duration::from_millis(10));
            }
        });
        Silent { directory, closes }
    }

    fn control(&self) -> std::path::PathBuf {
        self.directory.path().join("control.sock")
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.closes.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_daemon_that_does_not_answer_is_told_and_waited_for() {
    let silent = Silent::start();
    let pid = std::process::id();
    for arguments in [&["ports"][..], &["network", "add", "lab"], &["events"]] {
        let mut command = Waiting::start(&silent.control(), arguments);
        command.wait_said(&format!("(process {pid}) has not answered for 3 seconds"));
        let said = command.said();
        assert_eq!(command.child.try_wait().expect("our own child"), None, "{arguments:?} waits on: {said}");
        assert!(!said.contains('\x1b'), "{said}");
    }
}

/// A command at a control socket, with what it says on stderr.
struct Waiting {
    child: std::process::Child,
    told: Arc<Mutex<String>>,
}

impl Waiting {
    fn start(control: &Path, arguments: &[&str]) -> Waiting {
        let mut command = Command::new(VMLAN);
        command.arg("--control").arg(control).args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("vmlan can be started");
        let mut stderr = child.stderr.take().expect("a pipe");
        let told = Arc::new(Mutex::new(String::new()));
        let sink = told.clone();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = stderr.read(&mut piece) {
                sink.lock().expect("no panic").push_str(&String::from_utf8_lossy(&piece[..length]));
            }
        });
        Waiting { child, told }
    }

    fn said(&self) -> String {
        self.told.lock().expect("no panic").clone()
    }

    fn wait_said(&self, what: &str) {
        wait_until(what, PATIENCE, || self.said().contains(what));
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("our own child");
    }

    fn wait_end(&mut self) {
        wait_until("the end of the command", PATIENCE, || {
            self.child.try_wait().expect("our own child").is_some()
        });
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Fails when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_signal_ends_the_wait_of_a_command_that_takes_signals() {
    let silent = Silent::start();
    let qemu = program(silent.directory.path(), "qemu-system-x86_64", "");
    let vm = ["vm", "lab", "--", &qemu, "-name", "web"];
    let host = ["host", "lab", "--address", "192.0.2.1/24"];
    let signals = [Signal::INT, Signal::TERM, Signal::HUP];
    let cases = [&vm[..], &host].into_iter().flat_map(|command| signals.map(|signal| (command, signal)));
    let mut commands: Vec<_> =
        cases.map(|(arguments, signal)| (Waiting::start(&silent.control(), arguments), signal)).collect();
    for (command, signal) in &mut commands {
        command.wait_said("Ctrl-C ends the wait");
        command.signal(*signal);
        command.wait_end();
        command.wait_said("ended by a signal while vmlan at");
    }
}

#[test]
fn a_machine_ends_though_the_daemon_does_not_remove_its_port() {
    let daemon = Daemon::start("[network.lab]\n");
    let qemu = program(&daemon.path(""), "qemu-system-x86_64", "exec sleep 1000");
    let control = daemon.path("control.sock");
    let arguments = ["vm", "lab", "--", &qemu, "-name", "web"];
    let mut command = Waiting::start(&control, &arguments);
    command.wait_said("web is on network lab");
    let process = Pid::from_raw(i32::try_from(daemon.pid()).expect("a pid")).expect("a pid");

    kill_process(process, Signal::STOP).expect("our own child");
    command.signal(Signal::TERM);
    command.wait_said("Ctrl-C ends the wait");
    command.signal(Signal::INT);
    command.wait_end();
    command.wait_said("port web of network lab is left behind");

    kill_process(process, Signal::CONT).expect("our own child");
}

#[test]
fn a_change_that_takes_its_time_is_shown_on_a_terminal_until_it_ends() {
    let silent = Silent::start();
    let mut pty = Pty::start((200, 10), &["network", "add", "lab"], &silent.control(), &[("NO_COLOR", "1")]);
    pty.wait_for("the line", |text| text.contains("waiting for vmlan: "));
    pty.wait_for("what is known of it", |text| text.contains(" s, it does not answer"));
    assert!(!pty.raw().contains("\x1b[3") && !pty.raw().contains("\x1b[0m"), "{:?}", pty.raw());
    drop(silent);
    assert_eq!(pty.wait_end().code(), Some(1));
    pty.wait_for("the end of the line", |text| {
        text.contains("closed the connection without an answer") && !text.contains("waiting for vmlan: ")
    });
}
