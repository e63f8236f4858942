//! A pseudo-terminal with the program at it.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use testbed::{poll_until, wait_for};

use crate::screen::Screen;
use crate::support::{PATIENCE, VMLAN};

/// The program in a session of its own, whose terminal this is. Killed by its id on drop.
pub struct Pty {
    master: File,
    /// Keeps the terminal when the program has ended.
    slave: File,
    modes: String,
    written: Arc<Mutex<Vec<u8>>>,
    size: (u16, u16),
    child: Child,
}

impl Pty {
    /// Starts `vmlan` at a terminal of so many columns and lines, with these variables.
    #[track_caller]
    pub fn start(size: (u16, u16), arguments: &[&str], control: &Path, variables: &[(&str, &str)]) -> Pty {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&master).expect("our own terminal");
        unlockpt(&master).expect("our own terminal");
        let name = ptsname(&master, Vec::new()).expect("our own terminal");
        let name = Path::new(OsStr::from_bytes(name.as_bytes())).to_owned();
        // The program alone has it as its controlling terminal.
        let slave = open(&name);
        tcsetwinsize(&slave, winsize(size)).expect("our own terminal");
        let modes = modes_of(&slave);
        let master = File::from(master);
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, sink) = (master.try_clone().expect("a descriptor"), written.clone());
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut piece) {
                sink.lock().expect("no panic").extend_from_slice(&piece[..length]);
            }
        });
        let end = || slave.try_clone().expect("a descriptor");
        let child = Command::new("setsid")
            .args(["--ctty", VMLAN])
            .args(arguments)
            .arg("--control")
            .arg(control)
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .envs(variables.iter().copied())
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("setsid can be started");
        Pty { master, slave, modes, written, size, child }
    }

    /// All that the program wrote.
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().expect("no panic")).into_owned()
    }

    /// The picture as it is now.
    pub fn screen(&self) -> Screen {
        Screen::of(&self.raw(), self.size)
    }

    /// Waits until the picture is so.
    #[track_caller]
    pub fn wait_for(&self, what: &str, condition: impl Fn(&str) -> bool) {
        let is_so = poll_until(PATIENCE, || condition(&self.screen().text()));
        assert!(is_so, "waited for {what}:\n{}", self.screen().text());
    }

    /// Types these keys.
    #[track_caller]
    pub fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("our own terminal");
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("our own child, not waited for yet, can be signalled");
    }

    /// Changes the size of the terminal, of which its program is told.
    #[track_caller]
    pub fn resize(&mut self, size: (u16, u16)) {
        self.size = size;
        tcsetwinsize(&self.master, winsize(size)).expect("our own terminal");
    }

    #[track_caller]
    pub fn wait_end(&mut self) -> ExitStatus {
        wait_for("the program's end", PATIENCE, || self.child.try_wait().expect("our own child"))
    }

    /// Waits for the end of the program, and checks that the terminal is as it was.
    #[track_caller]
    pub fn ends_well(mut self) {
        let status = self.wait_end();
        assert_eq!(status.code(), Some(0), "{}", self.raw());
        assert_eq!(modes_of(&self.slave), self.modes);
        let is_back = || {
            let screen = self.screen();
            !screen.is_alternate && screen.has_cursor && screen.was_alternate
        };
        assert!(poll_until(PATIENCE, is_back), "{:?}", self.raw());
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens a terminal that does not become ours.
#[track_caller]
fn open(name: &Path) -> File {
    let flags = i32::try_from(OFlags::NOCTTY.bits()).expect("a flag");
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(flags).open(name).expect("our own terminal")
}

fn winsize((columns, rows): (u16, u16)) -> Winsize {
    Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }
}

/// The modes of a terminal, to compare.
fn modes_of(terminal: &File) -> String {
    let modes = tcgetattr(terminal).expect("our own terminal");
    format!(
        "{:?} {:?} {:?} {:?}",
        modes.input_modes, modes.output_modes, modes.control_modes, modes.local_modes
    )
}
