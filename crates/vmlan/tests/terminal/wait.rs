//! A daemon that does not answer, and work that takes its time: what a command says meanwhile.

use std::io::Read;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use testbed::wait_until;

use crate::pty::Pty;
use crate::support::{PATIENCE, VMLAN, directory};

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
        let mut child = Command::new(VMLAN)
            .args(arguments)
            .arg("--control")
            .arg(silent.control())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("vmlan can be started");
        let mut stderr = child.stderr.take().expect("a pipe");
        let told = Arc::new(Mutex::new(String::new()));
        let sink = told.clone();
        let reader = thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = stderr.read(&mut piece) {
                sink.lock().expect("no panic").push_str(&String::from_utf8_lossy(&piece[..length]));
            }
        });
        let said = || told.lock().expect("no panic").clone();
        wait_until("word that nothing answers", PATIENCE, || {
            said().contains(&format!("(process {pid}) has not answered for 3 seconds"))
        });
        assert_eq!(child.try_wait().expect("our own child"), None, "{arguments:?} waits on: {}", said());
        assert!(!said().contains('\x1b'), "{}", said());
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        reader.join().expect("no panic");
    }
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
