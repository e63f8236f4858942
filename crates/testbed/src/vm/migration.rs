//! A guest moves from one QEMU to another while it runs (QEMU's migration.rst), by their monitors (QMP).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::Vm;
use crate::wait::{poll_for, wait_until};

/// Emulated guests of others take the processor meanwhile.
const LIMIT: Duration = Duration::from_secs(120);

/// Octets of memory that are copied in a second at most: at first, for the last [`TAIL`] of the first round, and from
/// then on, which is a page now and then.
const FAST: u64 = 32 << 20;
const SLOW: u64 = 2 << 20;
const STILL: u64 = 10;
const UNLIMITED: u64 = 1 << 40;
const TAIL: u64 = 8 << 20;

/// A connection to the monitor of a QEMU.
#[derive(Debug)]
struct Monitor {
    lines: BufReader<UnixStream>,
}

impl Monitor {
    #[track_caller]
    fn connect(vm: &Vm) -> Monitor {
        let path = vm.directory.path().join("monitor");
        let stream = poll_for(LIMIT, || UnixStream::connect(&path).ok()).expect("QEMU has a monitor");
        stream.set_read_timeout(Some(LIMIT)).expect("a connected socket takes a timeout");
        let mut monitor = Monitor { lines: BufReader::new(stream) };
        monitor.line();
        monitor.ask("qmp_capabilities", json!({}));
        monitor
    }

    #[track_caller]
    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the monitor answers");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("the monitor said {line:?}: {error}"))
    }

    /// Runs a command, and returns what it answers.
    #[track_caller]
    fn ask(&mut self, command: &str, arguments: Value) -> Value {
        let request = json!({"execute": command, "arguments": arguments});
        writeln!(self.lines.get_mut(), "{request}").expect("the monitor listens");
        loop {
            // Events come in between.
            let mut line = self.line();
            if line.get("error").is_some() {
                panic!("{request}: {line}");
            }
            if let Some(answer) = line.get_mut("return") {
                return answer.take();
            }
        }
    }
}

impl Monitor {
    /// Sets the octets that are copied in a second, and the milliseconds for which the guest may stand still.
    #[track_caller]
    fn limit(&mut self, bandwidth: u64, downtime: u32) {
        let limits = json!({"max-bandwidth": bandwidth, "downtime-limit": downtime});
        self.ask("migrate-set-parameters", limits);
    }
}

/// A guest that moves.
#[derive(Debug)]
pub struct Move {
    from: Vm,
    to: Vm,
    monitor: Monitor,
}

impl Vm {
    /// Begins to move the guest to `to`, which was started with [`super::VmBuilder::awaits_another`] and is the same
    /// otherwise. The guest runs meanwhile, and stays until [`Move::finish`] if it writes to more memory than can be
    /// copied while it stands still for a millisecond.
    #[track_caller]
    pub fn move_to(self, to: Vm) -> Move {
        let socket = to.directory.path().join("moves");
        let uri = json!({"uri": format!("unix:{}", socket.display())});
        Monitor::connect(&to).ask("migrate-incoming", uri.clone());
        let mut monitor = Monitor::connect(&self);
        monitor.limit(FAST, 1);
        monitor.ask("migrate", uri);
        Move { from: self, to, monitor }
    }
}

impl Move {
    /// The guest, where it still is.
    pub fn guest(&mut self) -> &mut Vm {
        &mut self.from
    }

    /// Waits until all memory was copied once; from then on next to nothing is copied.
    #[track_caller]
    pub fn copy_once(&mut self) {
        let mut is_slow = false;
        wait_until("a copy of all memory", LIMIT, || {
            let state = self.monitor.ask("query-migrate", json!({}));
            let number = |key: &str| state["ram"][key].as_u64().unwrap_or(0);
            if !is_slow && number("dirty-sync-count") == 1 && number("remaining") < TAIL {
                is_slow = true;
                self.monitor.limit(SLOW, 1);
            }
            number("dirty-sync-count") > 1
        });
        self.monitor.limit(STILL, 1);
    }

    /// Lets the guest arrive, and returns it. The QEMU where it was ends.
    ///
    /// # Panics
    /// When it does not arrive.
    #[track_caller]
    pub fn finish(mut self) -> Vm {
        self.monitor.limit(UNLIMITED, 10_000);
        let mut state = Value::Null;
        let ended = poll_for(LIMIT, || {
            state = self.monitor.ask("query-migrate", json!({}));
            let status = state["status"].as_str().unwrap_or_default();
            ["completed", "failed", "cancelled"].contains(&status).then(|| status.to_owned())
        });
        let texts = (self.from.log(), self.to.log());
        assert_eq!(ended.as_deref(), Some("completed"), "{state}: {texts:?}");
        self.to.console.resume(&self.from.console);
        self.to
    }
}
