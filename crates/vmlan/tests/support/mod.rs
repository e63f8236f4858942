//! Helpers that the tests of the running daemon share: the built program under a guard, its control interface, raw
//! guests, and the books that have to balance.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]

mod balance;
mod http;
#[cfg(target_os = "linux")]
mod monitor;
mod peer;
mod probe;
mod program;

use std::cell::RefCell;
use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use testbed::{poll_until, wait_for, wait_until};
use vmlan_api::{DaemonState, PortState};

pub use balance::assert_balanced;
pub use http::{Answer, Events};
#[cfg(target_os = "linux")]
pub use monitor::{FRAMES, GuestMemory, Monitor};
pub use peer::{Peer, TYPE, exchange, is_apart, mac, meet, numbered, reach};
pub use probe::Probe;
pub use program::program;

/// The most that any wait may take; other tests may have the machine to themselves meanwhile.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The built program.
pub const VMLAN: &str = env!("CARGO_BIN_EXE_vmlan");

/// A running `vmlan run` with a directory of its own, which holds its configuration, its control socket and whatever
/// the configuration names with a relative path. Killed by its id on drop.
pub struct Daemon {
    directory: TempDir,
    child: Child,
    /// Ports that left, as they were when they did.
    departed: RefCell<Vec<vmlan_api::Port>>,
    logs_elsewhere: bool,
}

impl Daemon {
    /// Starts with this configuration and waits until it is ready.
    #[track_caller]
    pub fn start(config: &str) -> Daemon {
        Daemon::start_in(directory(), config)
    }

    /// The same in a directory that may hold what an earlier daemon left.
    #[track_caller]
    pub fn start_in(directory: TempDir, config: &str) -> Daemon {
        Daemon::start_command(directory, config, Command::new(VMLAN), Stdio::null(), Stdio::null(), false)
    }

    /// The same with this umask, in octal digits.
    #[track_caller]
    pub fn start_with_umask(umask: &str, config: &str) -> Daemon {
        let mut shell = Command::new("sh");
        shell.args(["-c", "umask \"$0\" && exec \"$@\"", umask, VMLAN]);
        Daemon::start_command(directory(), config, shell, Stdio::null(), Stdio::null(), false)
    }

    /// The same, started by a program with these arguments, which gets our own behind them.
    #[track_caller]
    pub fn start_by(directory: TempDir, config: &str, program: &[&str]) -> Daemon {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(VMLAN);
        Daemon::start_command(directory, config, command, Stdio::null(), Stdio::null(), false)
    }

    /// The same in a network namespace, in a directory that may hold what an earlier daemon left.
    #[track_caller]
    pub fn start_within(netns: &testbed::Netns, directory: TempDir, config: &str) -> Daemon {
        Daemon::start_command(directory, config, netns.command(VMLAN), Stdio::null(), Stdio::null(), false)
    }

    /// The same with two sockets to inherit, which the daemon finds as descriptors 3 and 4.
    #[track_caller]
    pub fn start_with_descriptors(config: &str, third: OwnedFd, fourth: OwnedFd) -> Daemon {
        // They travel as standard input and output: nothing else that this process starts can inherit them.
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$@\" 3<&0 4<&1 0</dev/null 1>/dev/null", "sh", VMLAN]);
        Daemon::start_command(directory(), config, shell, third.into(), fourth.into(), false)
    }

    /// The same with its log going somewhere else than to the file that [`Daemon::log`] reads.
    #[track_caller]
    pub fn start_logging_to(log: OwnedFd, config: &str) -> Daemon {
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$@\" 2>&0 0</dev/null", "sh", VMLAN]);
        Daemon::start_command(directory(), config, shell, log.into(), Stdio::null(), true)
    }

    /// The same, with faults injected whose names are files in the directory `inject`, and may be added later. Only a
    /// daemon with debug assertions looks for them.
    #[track_caller]
    pub fn start_injecting(faults: &[&str], config: &str) -> Daemon {
        let directory = directory();
        let inject = directory.path().join("inject");
        fs::create_dir(&inject).expect("our own directory");
        for fault in faults {
            fs::write(inject.join(fault), "").expect("our own directory");
        }
        let mut command = Command::new(VMLAN);
        // A backtrace takes many times the memory that the daemon has.
        command.env("VMLAN_INJECT", &inject).env("RUST_BACKTRACE", "0");
        Daemon::start_command(directory, config, command, Stdio::null(), Stdio::null(), false)
    }

    /// Lets the daemon, which was started with [`Daemon::start_injecting`], panic once when it comes to `place`.
    #[track_caller]
    pub fn inject_panic(&self, place: &str) {
        fs::write(self.path("inject").join(format!("panic.{place}")), "").expect("our own directory");
    }

    /// Waits until the daemon has come to `place` and panicked there.
    #[track_caller]
    pub fn wait_panicked(&self, place: &str) {
        let file = self.path("inject").join(format!("panic.{place}"));
        wait_until(&format!("the panic at {place}"), PATIENCE, || !file.exists());
    }

    #[track_caller]
    fn start_command(
        directory: TempDir,
        config: &str,
        mut command: Command,
        stdin: Stdio,
        stdout: Stdio,
        logs_elsewhere: bool,
    ) -> Daemon {
        let path = directory.path();
        fs::write(path.join("vmlan.toml"), config).expect("a file in our own directory");
        let log = File::create(path.join("log")).expect("a file in our own directory");
        command.args(["run", "--config"]).arg(path.join("vmlan.toml"));
        command.arg("--control").arg(path.join("control.sock"));
        // Leases of an uplink are kept there.
        command.env("XDG_STATE_HOME", path.join("state"));
        // Positions of packed rings are, if it is in memory (`directory_in_memory`).
        command.env("RUNTIME_DIRECTORY", path.join("runtime"));
        let child = command.stdin(stdin).stdout(stdout).stderr(log).spawn().expect("vmlan can be started");
        let mut daemon = Daemon { directory, child, departed: RefCell::default(), logs_elsewhere };
        daemon.wait_ready();
        daemon
    }

    #[track_caller]
    fn wait_ready(&mut self) {
        let mut ended = None;
        poll_until(PATIENCE, || {
            ended = self.child.try_wait().expect("our own child");
            ended.is_some() || self.is_ready()
        });
        assert!(ended.is_none() && self.is_ready(), "vmlan is not ready:\n{}", self.log());
    }

    /// True if the daemon's log says that it is ready; where the log is elsewhere, if the daemon answers that it runs.
    fn is_ready(&self) -> bool {
        match self.logs_elsewhere {
            // Requests are answered only then.
            true => {
                UnixStream::connect(self.control()).is_ok() && self.status().state == DaemonState::Running
            }
            false => self.log().contains("ready: "),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where the configuration is, and everything that it names with a relative path.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn control(&self) -> PathBuf {
        self.path("control.sock")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).expect("our own log")
    }

    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        wait_until(&format!("{text:?} in the log"), PATIENCE, || self.log().contains(text));
    }

    /// Replaces the configuration file.
    pub fn write_config(&self, config: &str) {
        fs::write(self.path("vmlan.toml"), config).expect("a file in our own directory");
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("our own child, not waited for yet, can be signalled");
    }

    /// True if the process has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_none()
    }

    #[track_caller]
    pub fn wait_end(&mut self) -> ExitStatus {
        wait_for("the daemon's end", PATIENCE, || self.child.try_wait().expect("our own child"))
    }

    /// Ends the daemon with SIGTERM, checks that it ended well and left no socket behind, and gives its directory back.
    #[track_caller]
    pub fn stop(mut self) -> TempDir {
        self.signal(Signal::TERM);
        let status = self.wait_end();
        assert_eq!(status.code(), Some(0), "the daemon's exit status; its log:\n{}", self.log());
        let log = self.log();
        let panics = log.lines().filter(|line| line.contains("panicked at"));
        let own = panics.filter(|line| !line.contains(": injected into ")).count();
        assert_eq!(own, 0, "a panic:\n{log}");
        let left = left_behind(self.directory.path());
        assert!(left.is_empty(), "sockets left behind: {left:?}");
        self.take_directory()
    }

    /// Ends the daemon with SIGKILL, and gives its directory back.
    #[track_caller]
    pub fn kill(mut self) -> TempDir {
        self.child.kill().expect("our own child");
        self.wait_end();
        self.take_directory()
    }

    fn take_directory(mut self) -> TempDir {
        std::mem::replace(&mut self.directory, directory())
    }

    /// Runs `vmlan` with these arguments against this daemon, from the daemon's directory.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> testbed::Output {
        let mut command = Command::new(VMLAN);
        command.args(arguments).arg("--control").arg(self.control()).current_dir(self.directory.path());
        testbed::run(command, PATIENCE)
    }

    #[track_caller]
    pub fn status(&self) -> vmlan_api::Status {
        self.get("/v1/status")
    }

    /// The only network's trunk.
    #[track_caller]
    pub fn trunk(&self) -> vmlan_api::Trunk {
        self.get::<Vec<vmlan_api::Trunk>>("/v1/trunks").pop().expect("a network with a trunk")
    }

    #[track_caller]
    pub fn ports(&self) -> Vec<vmlan_api::Port> {
        self.get("/v1/ports")
    }

    pub fn find_port(&self, name: &str) -> Option<vmlan_api::Port> {
        self.ports().into_iter().find(|port| port.port == name)
    }

    #[track_caller]
    pub fn port(&self, name: &str) -> vmlan_api::Port {
        self.find_port(name).unwrap_or_else(|| panic!("there is no port {name}: {:#?}", self.ports()))
    }

    /// Frames that a port dropped for this reason.
    #[track_caller]
    pub fn drops(&self, port: &str, reason: vmlan_frame::DropReason) -> u64 {
        self.port(port).counters.drops.get(reason.name()).copied().unwrap_or(0)
    }

    #[track_caller]
    pub fn fdb(&self, network: &str) -> Vec<vmlan_api::FdbEntry> {
        self.get(&format!("/v1/networks/{network}/fdb"))
    }

    #[track_caller]
    pub fn wait_state(&self, port: &str, state: PortState) {
        let is_there = || self.find_port(port).is_some_and(|port| port.state == state);
        assert!(
            poll_until(PATIENCE, is_there),
            "port {port} is not {}: {:#?}\n{}",
            state.as_str(),
            self.ports(),
            self.log()
        );
    }

    #[track_caller]
    pub fn wait_up(&self, ports: &[&str]) {
        ports.iter().for_each(|port| self.wait_state(port, PortState::Up));
    }

    /// Adds a port over the control interface.
    #[track_caller]
    pub fn add_port(&self, network: &str, name: &str, table: &str) -> Answer {
        self.request("POST", &format!("/v1/networks/{network}/ports/{name}"), Some(table))
    }

    /// Removes a port that is quiet over the control interface.
    #[track_caller]
    pub fn remove_port(&self, network: &str, name: &str) -> Answer {
        self.departs(name);
        self.request("DELETE", &format!("/v1/networks/{network}/ports/{name}"), None)
    }

    /// Remembers the counters of a port that is about to leave, for the books: nothing may pass it any more.
    #[track_caller]
    pub fn departs(&self, port: &str) {
        // A frame is counted only after the guest can have it.
        let mut last = None;
        let settled = wait_for("the port's counters to stand still", PATIENCE, || {
            let now = self.port(port);
            let before = last.replace(now.counters.clone());
            (before.as_ref() == Some(&now.counters)).then_some(now)
        });
        self.departed.borrow_mut().push(settled);
    }

    /// The number of open descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("our own child").count()
    }

    /// Resident memory in KiB.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("our own child");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a running process");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Processor time used, in clock ticks of 10 ms.
    pub fn processor_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("our own child");
        // Fields 14 and 15 of proc(5), counted from the one behind the name, which may hold anything.
        let (_, fields) = stat.rsplit_once(") ").expect("the name's end");
        fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        if failing && let Ok(log) = fs::read_to_string(self.path("log")) {
            eprintln!("--- log of vmlan ---\n{log}--- end of the log ---");
        }
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory whose name leaves room for socket paths in it.
pub fn directory() -> TempDir {
    tempfile::Builder::new().prefix("vmlan-it-").tempdir().expect("a temporary directory")
}

/// The same on a file system in memory, for what has to be there.
pub fn directory_in_memory() -> TempDir {
    let shm = tempfile::Builder::new().prefix("vmlan-it-").tempdir_in("/dev/shm");
    shm.expect("a temporary directory in memory")
}

/// A TCP and UDP port of the loopback interface that is free, and that no other test is given: it is below those that
/// the kernel gives to whoever asks for none.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id() % 1200 * 10;
    loop {
        let number = first + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (number % 12_000) as u16;
        let address = ("127.0.0.1", port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
}

/// The sockets in a directory and the directories in it that nobody holds any more.
fn left_behind(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("our own directory").flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(left_behind(&entry.path())),
            Ok(kind) if kind.is_socket() && !is_held(&entry.path()) => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

/// True if a process holds the socket. A socket of another type than datagrams answers differently, but it answers.
fn is_held(path: &Path) -> bool {
    let probe = UnixDatagram::unbound().expect("a socket");
    !matches!(probe.connect(path), Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused)
}
