//! The user's command as a child, with our signals passed on to it.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

/// Takes the signals that end a program in place of the system, from when it is made on.
pub struct Keeper {
    runtime: Runtime,
    signals: [Signals; 4],
}

impl Keeper {
    /// # Errors
    /// No descriptor or no memory.
    pub fn new() -> io::Result<Keeper> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = {
            let _on_it = runtime.enter();
            [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
                signal(SignalKind::quit())?,
            ]
        };
        Ok(Keeper { runtime, signals })
    }

    /// Runs the command until it ends, and tells how: its exit code, or 128 and the number of the signal that ended it,
    /// as shells do.
    ///
    /// # Errors
    /// The command cannot be started.
    pub fn run(&mut self, command: &[OsString]) -> io::Result<u8> {
        let Keeper { runtime, signals } = self;
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        runtime.block_on(async {
            let mut child = Command::new(program).args(arguments).spawn()?;
            // The terminal tells the whole group of a key.
            let by_key = io::stdin().is_terminal();
            let [interrupt, terminate, hang_up, quit] = signals;
            loop {
                tokio::select! {
                    status = child.wait() => return status.map(code),
                    _ = interrupt.recv() => if !by_key { pass_on(&child, Signal::INT) },
                    _ = terminate.recv() => pass_on(&child, Signal::TERM),
                    _ = hang_up.recv() => pass_on(&child, Signal::HUP),
                    _ = quit.recv() => if !by_key { pass_on(&child, Signal::QUIT) },
                }
            }
        })
    }
}

fn pass_on(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // Fails when it has ended, which its status tells.
        let _ = kill_process(pid, signal);
    }
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
