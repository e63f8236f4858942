//! The daemon under attack, seen from outside: its control interface, its process, its log.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, PipeReader, Read, Write, pipe};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::net::SocketType;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity};
use serde::de::DeserializeOwned;
use testbed::{Netns, poll_until};
use vmlan_api::{Port, PortState};

use crate::attack::Start;
use crate::peers::connect;
use crate::shape::stay_on;
use crate::vhost;

/// How long the start may take.
const START: Duration = Duration::from_secs(20);

/// The name of a thread that serves a connection which shares memory.
const SERVES: &str = "vmlan-vhost";

/// Octets of the smallest pipe, a page, and how many of them the log of a stopped reader finds free.
const PIPE: usize = 4096;
const ROOM: usize = 1024;

/// The configuration and arguments that the daemon is started with.
pub(crate) struct Launch<'a> {
    pub(crate) program: &'a Path,
    /// Its directory, for its configuration, its sockets and its log.
    pub(crate) directory: &'a Path,
    pub(crate) config: &'a str,
    pub(crate) netns: Option<&'a Netns>,
    pub(crate) start: Start,
    pub(crate) processors: Option<CpuSet>,
}

/// A running daemon, killed by its id on drop.
pub(crate) struct Daemon {
    child: Child,
    directory: PathBuf,
    /// The end of its log that is not read, where its log is a pipe.
    _stuck: Option<PipeReader>,
}

/// The state of the daemon that an attack may not change.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) descriptors: usize,
    /// Parts of attackers' memory files that are mapped.
    pub(crate) mappings: usize,
    /// Threads of connections that share memory.
    pub(crate) threads: usize,
    /// Resident memory in KiB.
    pub(crate) resident: u64,
    pub(crate) ports: BTreeMap<String, PortState>,
}

impl Daemon {
    pub(crate) fn start(launch: &Launch<'_>) -> anyhow::Result<Daemon> {
        let directory = launch.directory;
        fs::write(directory.join("vmlan.toml"), launch.config).context("the daemon's configuration")?;
        let mut command = match (launch.netns, launch.start) {
            (Some(netns), _) => netns.command(launch.program),
            (None, Start::Umask0) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "umask 0; exec \"$@\"", "sh"]).arg(launch.program);
                shell
            }
            (None, _) => Command::new(launch.program),
        };
        command.arg("run").arg("--config").arg(directory.join("vmlan.toml"));
        // Leases are nobody's afterwards.
        command.env("XDG_STATE_HOME", directory.join("state"));
        command.arg("--control").arg(control(directory)).stdin(Stdio::null()).stdout(Stdio::null());
        let stuck = if launch.start == Start::StoppedLog {
            let (reader, mut writer) = pipe().context("a pipe")?;
            // A few lines fill it.
            rustix::pipe::fcntl_setpipe_size(&writer, PIPE).context("a small pipe")?;
            writer.write_all(&[b'\n'; PIPE - ROOM]).context("a pipe")?;
            command.stderr(writer);
            Some(reader)
        } else {
            command.stderr(File::create(directory.join("log")).context("the daemon's log")?);
            None
        };
        // What a thread starts runs where the thread may.
        let own = sched_getaffinity(None).context("the processors")?;
        if let Some(processors) = &launch.processors {
            stay_on(processors).context("the daemon's processor")?;
        }
        let child = command.spawn();
        stay_on(&own).context("the processors")?;
        let child = child.with_context(|| format!("cannot start {}", launch.program.display()))?;
        drop(command);
        let mut daemon = Daemon { child, directory: directory.to_owned(), _stuck: stuck };
        let mut ended = None;
        let is_ready = poll_until(START, || {
            ended = daemon.child.try_wait().ok().flatten();
            ended.is_some() || request(&control(&daemon.directory), "GET", "/v1/status", None, START).is_ok()
        });
        ensure!(is_ready && ended.is_none(), "vmlan did not start:\n{}", daemon.log());
        Ok(daemon)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log so far; nothing where that is a pipe.
    pub(crate) fn log(&self) -> String {
        let octets = fs::read(self.directory.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&octets).into_owned()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub(crate) fn state(&self, limit: Duration) -> anyhow::Result<State> {
        let ports = ports(&control(&self.directory), limit)?;
        let process = PathBuf::from(format!("/proc/{}", self.pid()));
        let status = fs::read_to_string(process.join("status")).context("the daemon's memory")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        let maps = fs::read_to_string(process.join("maps")).context("the daemon's mappings")?;
        Ok(State {
            mappings: maps.lines().filter(|line| line.contains(vhost::MEMORY)).count(),
            threads: threads(&process).context("the daemon's threads")?,
            descriptors: fs::read_dir(process.join("fd")).context("the daemon's descriptors")?.count(),
            resident: resident.context("the daemon's memory")?,
            ports: ports
                .into_iter()
                .map(|port| (format!("{}/{}", port.network, port.port), port.state))
                .collect(),
        })
    }

    /// Asks it to end, and waits; kills it when it does not.
    pub(crate) fn stop(mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        if self.is_running() {
            kill_process(pid, Signal::TERM).context("SIGTERM")?;
        }
        let mut status = None;
        poll_until(limit, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        status.with_context(|| format!("it still runs {} s after SIGTERM", limit.as_secs()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number of a process's threads that serve a connection which shares memory.
fn threads(process: &Path) -> io::Result<usize> {
    let threads = fs::read_dir(process.join("task"))?;
    // One that has ended meanwhile has no name.
    let names = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    Ok(names.filter(|name| name.trim_end() == SERVES).count())
}

/// The control socket of the daemon in this directory.
pub(crate) fn control(directory: &Path) -> PathBuf {
    directory.join("control.sock")
}

/// Its ports, with their counters.
///
/// # Errors
/// As [`request`].
pub(crate) fn ports(control: &Path, limit: Duration) -> anyhow::Result<Vec<Port>> {
    get(control, "/v1/ports", limit)
}

/// Returns the answer of a path of the control interface.
///
/// # Errors
/// As [`request`].
pub(crate) fn get<T: DeserializeOwned>(control: &Path, path: &str, limit: Duration) -> anyhow::Result<T> {
    let body = request(control, "GET", path, None, limit)?;
    serde_json::from_str(&body).with_context(|| format!("the answer to {path}: {body}"))
}

/// The body of the answer to one request on a connection of its own.
///
/// # Errors
/// Without an answer within `limit`, and for any answer but 200.
pub(crate) fn request(
    control: &Path,
    method: &str,
    path: &str,
    body: Option<&str>,
    limit: Duration,
) -> anyhow::Result<String> {
    let stream = connect(control, SocketType::STREAM, limit).context("the control socket")?;
    let mut stream = UnixStream::from(stream);
    let body = body.unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: vmlan\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body.as_bytes()))
        .context("a request")?;
    let mut answer = String::new();
    match stream.read_to_string(&mut answer) {
        // One that is reset behind the answer has answered.
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !answer.is_empty() => {}
        Err(error) => return Err(error).with_context(|| format!("no answer to {method} {path}")),
    }
    let (head, body) =
        answer.split_once("\r\n\r\n").with_context(|| format!("no answer to {method} {path}"))?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("{method} {path}: {}: {body}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}
