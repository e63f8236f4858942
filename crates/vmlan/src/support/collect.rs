//! Collecting the files of the archive, each with a bound on its size and on the time that it takes.

use std::fs::OpenOptions;
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{fmt::Write as _, thread};

use serde_json::Value;

use super::platform;
use crate::client::{Bounds, Client, ClientError, Peer};
use crate::command::default_file;
use crate::{doctor, version};

/// The most that one answer of the daemon may take.
const ANSWER: Bounds = Bounds { time: Some(Duration::from_secs(3)), octets: 4 << 20 };
/// Octets of a configuration file: what the daemon takes.
const LARGEST_FILE: u64 = 1 << 20;
/// Octets of events.
const MOST_EVENTS: usize = 2 << 20;
/// Why it is not asked; the cause is told once for all.
const NO_DAEMON: &str = "no daemon answers";
/// Time and octets that a program that is run may take.
const PROGRAM: (Duration, u64) = (Duration::from_secs(3), 64 << 10);
/// Time for all checks of `doctor`, which run programs themselves.
const DOCTOR: Duration = Duration::from_secs(20);

/// How a file of the archive is written, which says how it is masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Text as it is.
    Text,
    /// A configuration in TOML.
    Configuration,
    /// An answer of the control interface in JSON.
    Answer,
    /// A JSON object a line.
    Lines,
}

/// A file of the archive, as it was found.
#[derive(Debug)]
pub struct Found {
    /// Its path in the archive.
    pub name: &'static str,
    /// One line for the table and `README.txt`.
    pub about: &'static str,
    pub form: Form,
    /// Its text, or why there is none.
    pub content: Result<String, String>,
}

/// Collects, and says on a terminal how far it is.
pub struct Collector {
    pub found: Vec<Found>,
    /// Names that the leases tell, which are not in the archive themselves.
    pub leases: Option<Value>,
    client: Result<Client, String>,
    peer: Option<Peer>,
    /// Why the daemon is not asked any more.
    silent: Option<String>,
    shows: bool,
}

impl Collector {
    pub fn new(control: &anyhow::Result<PathBuf>) -> Self {
        let client = match control {
            Ok(path) => {
                Client::new(path).map(|client| client.bounded(ANSWER)).map_err(|error| error.to_string())
            }
            Err(error) => Err(format!("{error:#}")),
        };
        let (mut peer, mut silent) = (None, None);
        match &client {
            Ok(client) => match client.peer() {
                Ok(found) => peer = found,
                Err(error) => silent = Some(error.to_string()),
            },
            Err(error) => silent = Some(error.clone()),
        }
        let shows = std::io::stderr().is_terminal();
        Self { found: Vec::new(), leases: None, client, peer, silent, shows }
    }

    /// Why no daemon answers, if none does.
    pub fn silence(&self) -> Option<&str> {
        self.silent.as_deref()
    }

    fn show(&self, what: &str) {
        if self.shows {
            // A terminal that is gone misses nothing.
            let _ = write!(std::io::stderr(), "\r\x1b[Kcollecting: {what}");
        }
    }

    /// Ends the line that shows how far it is.
    pub fn done(&self) {
        if self.shows {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    fn put(&mut self, name: &'static str, about: &'static str, form: Form, content: Result<String, String>) {
        self.found.push(Found { name, about, form, content });
    }

    /// Looks at everything; counters and threads twice, so many seconds apart.
    pub fn collect(&mut self, control: anyhow::Result<PathBuf>, apart: Duration) {
        self.show("versions");
        self.put(
            "versions.txt",
            "vmlan, its features and commit, the kernel, the system, QEMU",
            Form::Text,
            Ok(versions()),
        );
        self.answer("status.json", "the daemon: version, uptime, workers", "/v1/status");
        self.configuration();
        for (name, about, path) in [
            ("networks.json", "networks, with the size of each forwarding database", "/v1/networks"),
            ("ports.json", "ports, their state and why they are not up", "/v1/ports"),
            ("filters.json", "rules about frames, and what they matched", "/v1/filters"),
            ("trunks.json", "how networks are joined to the host's interfaces", "/v1/trunks"),
            ("uplinks.json", "uplinks, with the numbers of leases and flows", "/v1/uplinks"),
            ("forwards.json", "forwards to guests, and their callers", "/v1/forwards"),
        ] {
            self.answer(name, about, path);
        }
        let leases = self.ask("/v1/leases");
        self.leases = leases.as_ref().ok().and_then(|text| serde_json::from_str(text).ok());
        let counted = leases.map(|_| count_leases(self.leases.as_ref()));
        self.put("leases.txt", "the number of leases of each network, by source", Form::Text, counted);
        self.twice(apart);
        self.process();
        self.show("doctor");
        let checks = in_time(DOCTOR, move || doctor::report(control));
        let checks = checks.ok_or_else(|| format!("the checks took more than {} seconds", DOCTOR.as_secs()));
        self.put("doctor.txt", "what `vmlan doctor` finds on this machine", Form::Text, checks);
    }

    fn answer(&mut self, name: &'static str, about: &'static str, path: &str) {
        self.show(path);
        let content = self.ask(path).map(|text| indented(&text));
        self.put(name, about, Form::Answer, content);
    }

    /// Asks the daemon, unless it has stopped to answer.
    fn ask(&mut self, path: &str) -> Result<String, String> {
        if self.silent.is_some() {
            return Err(NO_DAEMON.to_owned());
        }
        let client = self.client.as_ref().map_err(Clone::clone)?;
        client.get_text(path).map_err(|error| {
            let text = error.to_string();
            // Every further question would cost as long.
            if matches!(
                error,
                ClientError::Slow { .. } | ClientError::Unreachable { .. } | ClientError::Closed { .. }
            ) {
                self.silent = Some(text.clone());
            }
            text
        })
    }

    fn configuration(&mut self) {
        let running = self.ask("/v1/config?format=toml");
        let about = "the configuration that runs";
        self.put("configuration/running.toml", about, Form::Configuration, running);
        let status = self.found.iter().find(|found| found.name == "status.json");
        let status = status.and_then(|found| found.content.as_ref().ok());
        let status = status.and_then(|text| serde_json::from_str::<vmlan_api::Status>(text).ok());
        let file = match status {
            Some(status) => {
                status.config.map(PathBuf::from).ok_or("the daemon was started without a file".to_owned())
            }
            None => {
                default_file().ok_or("no daemon names one, and there is none at the usual place".to_owned())
            }
        };
        let owner = self.peer.as_ref().map(|peer| peer.uid).filter(|uid| *uid != 0);
        let content = file.and_then(|file| configuration_file(&file, owner));
        let about = "the configuration file, as it is now";
        self.put("configuration/file.toml", about, Form::Configuration, content);
    }

    /// Looks at counters and threads, collects events for so long, and looks again.
    fn twice(&mut self, apart: Duration) {
        let pid = self.peer.as_ref().and_then(|peer| peer.pid);
        let threads = || match pid {
            Some(pid) => platform::threads(pid),
            None => Err("no process of a daemon is known".to_owned()),
        };
        let begin = Instant::now();
        self.answer("counters-1.json", "counters of every port", "/v1/counters");
        let first = threads();
        self.show("events");
        let events = self.events(apart.saturating_sub(begin.elapsed()));
        self.put(
            "events.jsonl",
            "events between the two looks; the daemon keeps none from before",
            Form::Lines,
            events,
        );
        self.answer("counters-2.json", "the same, some seconds later", "/v1/counters");
        let second = threads();
        let about = "the daemon's threads: state, where they wait, processor time";
        self.put("process/threads-1.txt", about, Form::Text, first);
        self.put("process/threads-2.txt", "the same, some seconds later", Form::Text, second);
    }

    fn events(&mut self, time: Duration) -> Result<String, String> {
        if self.silent.is_some() {
            return Err(NO_DAEMON.to_owned());
        }
        let client = self.client.as_ref().map_err(Clone::clone)?;
        let begin = Instant::now();
        let mut lines = String::new();
        let followed = client.follow_for(time, "/v1/events", |line| {
            if lines.len() + line.len() > MOST_EVENTS {
                return Err(());
            }
            let _ = writeln!(lines, "{line}");
            Ok(())
        });
        // Whatever ended it early, the second look is not too near to the first.
        thread::sleep(time.saturating_sub(begin.elapsed()));
        match followed {
            Ok(Ok(())) => Ok(lines),
            Ok(Err(())) => Ok(lines + "{\"event\": \"more events are left out\"}\n"),
            Err(error) => Err(error.to_string()),
        }
    }

    fn process(&mut self) {
        self.show("process");
        let Some(pid) = self.peer.as_ref().and_then(|peer| peer.pid) else { return };
        for (name, about, read) in platform::FACTS {
            self.put(name, about, Form::Text, read(pid));
        }
    }
}

/// Reads a file that may be another user's, and only if it belongs to that user: root is not led to files of others.
fn configuration_file(path: &Path, owner: Option<u32>) -> Result<String, String> {
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    // A pipe would wait for a writer.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(told)?;
    let metadata = file.metadata().map_err(told)?;
    if !metadata.is_file() || owner.is_some_and(|owner| metadata.uid() != owner) {
        return Err(format!("{} is no file of the daemon's user", path.display()));
    }
    let mut text = String::new();
    file.take(LARGEST_FILE + 1).read_to_string(&mut text).map_err(told)?;
    match text.len() as u64 > LARGEST_FILE {
        true => Err(format!("{} is larger than a configuration may be", path.display())),
        false => Ok(text),
    }
}

/// JSON for people; what is none stays as it is.
fn indented(text: &str) -> String {
    let value = serde_json::from_str::<Value>(text).ok();
    value.and_then(|value| serde_json::to_string_pretty(&value).ok()).unwrap_or_else(|| text.to_owned())
        + "\n"
}

fn count_leases(leases: Option<&Value>) -> String {
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    for lease in leases.and_then(Value::as_array).into_iter().flatten() {
        let word = |key: &str| lease[key].as_str().unwrap_or("?");
        *counts.entry(format!("{}  {}", word("network"), word("source"))).or_default() += 1;
    }
    counts.iter().map(|(of, count)| format!("{of}  {count}\n")).collect()
}

fn versions() -> String {
    let system = rustix::system::uname();
    let word = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let mut text = format!("vmlan     {}\n", version::long());
    let kernel = [system.sysname(), system.release(), system.version(), system.machine()].map(word).join(" ");
    let _ = writeln!(text, "kernel    {kernel}\nsystem    {}", platform::system());
    let qemu = format!("qemu-system-{}", std::env::consts::ARCH);
    let mut command = Command::new(&qemu);
    command.arg("--version");
    let said = match output_of(command) {
        Some(said) => said.lines().next().unwrap_or_default().to_owned(),
        None => "not there".to_owned(),
    };
    let _ = writeln!(text, "{qemu}  {said}");
    text
}

/// The output of a program that gets so much time and no more.
fn output_of(mut command: Command) -> Option<String> {
    let (time, octets) = PROGRAM;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let output = child.stdout.take()?;
    let read = in_time(time, move || {
        let mut text = Vec::new();
        output.take(octets).read_to_end(&mut text).map(|_| text)
    });
    // It may have ended; one that has not said all in time is not waited for.
    let _ = child.kill();
    let _ = child.wait();
    Some(String::from_utf8_lossy(&read?.ok()?).into_owned())
}

/// Does something on a thread of its own, which is left behind when it takes too long: this program ends soon.
fn in_time<T: Send + 'static>(time: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (tell, told) = mpsc::channel();
    thread::Builder::new().spawn(move || tell.send(work())).ok()?;
    told.recv_timeout(time).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_end_is_ended_and_one_that_is_not_there_says_nothing() {
        let mut endless = Command::new("sh");
        endless.args(["-c", "while :; do echo more; done"]);
        assert_eq!(output_of(endless).map(|text| text.len() as u64), Some(PROGRAM.1));
        assert_eq!(output_of(Command::new("/no/such/program")), None);
    }

    #[test]
    fn only_a_file_of_the_daemons_user_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("vmlan.toml");
        std::fs::write(&file, "workers = 1\n").expect("a file");
        let uid = file.metadata().expect("the file").uid();
        assert_eq!(configuration_file(&file, None).as_deref(), Ok("workers = 1\n"));
        assert_eq!(configuration_file(&file, Some(uid)).as_deref(), Ok("workers = 1\n"));
        assert!(configuration_file(&file, Some(uid + 1)).is_err());
        assert!(configuration_file(directory.path(), None).is_err());
        let large = "#".repeat(LARGEST_FILE as usize + 1);
        std::fs::write(&file, large).expect("a file");
        assert!(configuration_file(&file, None).is_err_and(|reason| reason.contains("larger")));
    }
}
