//! The kernel's variables that an uplink needs, and what they were before.
//!
//! Theory of operation. One file for each network namespace has a line for each variable and user: the path, the value
//! before, the value that was set, and the process and network that need it. A variable is put back when its last user
//! goes, unless it was changed meanwhile. A user whose process is gone (killed, so that it could not put anything back)
//! is found out by the next start of any uplink in kernel mode. The file is locked while it is read and written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use vmlan_drivers::unix::{Access, Directory, ENTERABLE, MadeDirectory};

/// Root's directory.
const ROOTS: &str = "/run/vmlan";

/// Octets of the file that are read.
const LONGEST: u64 = 1 << 20;

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// The path below /proc/sys.
    variable: String,
    before: String,
    set: String,
    user: User,
}

/// A process, by number and start, and its network.
#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    process: u32,
    started: u64,
    network: String,
}

impl Entry {
    fn parse(line: &str) -> Option<Entry> {
        let mut fields = line.split(' ');
        let mut next = || fields.next().map(str::to_owned);
        let (variable, before, set) = (next()?, next()?, next()?);
        // It becomes part of a path.
        if variable.split('/').any(|part| part.is_empty() || part == "..") {
            return None;
        }
        let user = User { process: next()?.parse().ok()?, started: next()?.parse().ok()?, network: next()? };
        Some(Entry { variable, before, set, user })
    }

    fn emit(&self) -> String {
        let Entry { variable, before, set, user } = self;
        format!("{variable} {before} {set} {} {} {}\n", user.process, user.started, user.network)
    }
}

impl User {
    fn is_alive(&self) -> bool {
        start_of(self.process) == Some(self.started)
    }
}

/// The time at which a process started, in the kernel's units (proc_pid_stat(5), field 22).
fn start_of(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in field 2 may have anything in it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The kernel's variables, below a directory.
trait Variables {
    fn get(&self, variable: &str) -> io::Result<String>;
    fn set(&self, variable: &str, value: &str) -> io::Result<()>;
}

struct Proc;

impl Variables for Proc {
    fn get(&self, variable: &str) -> io::Result<String> {
        fs::read_to_string(Path::new("/proc/sys").join(variable)).map(|value| value.trim().to_owned())
    }

    fn set(&self, variable: &str, value: &str) -> io::Result<()> {
        fs::write(Path::new("/proc/sys").join(variable), value)
    }
}

/// Reads a variable; `None` where the kernel does not have it.
pub(super) fn get(variable: &str) -> Option<String> {
    Proc.get(variable).ok()
}

/// Sets a variable of a device that is ours and goes with us.
pub(super) fn set_own(variable: &str, value: &str) -> io::Result<()> {
    Proc.set(variable, value)
}

/// Adds what `user` needs; the entries and the variables are in step afterwards, also after an error.
fn acquire(
    entries: &mut Vec<Entry>,
    kernel: &impl Variables,
    user: &User,
    wanted: &[(String, String)],
) -> Result<(), String> {
    for (variable, value) in wanted {
        if entries.iter().any(|entry| entry.user == *user && entry.variable == *variable) {
            continue;
        }
        let others = entries.iter().find(|entry| entry.variable == *variable);
        let before = others.map(|entry| entry.before.clone());
        let now = kernel.get(variable).map_err(|error| format!("cannot read {variable}: {error}"))?;
        if before.is_none() && now == *value {
            continue;
        }
        if now != *value {
            kernel.set(variable, value).map_err(|error| {
                let name = variable.replace('/', ".");
                format!("cannot set {name} to {value}: {error}; run `sysctl -w {name}={value}`")
            })?;
        }
        let (variable, set) = (variable.clone(), value.clone());
        entries.push(Entry { variable, before: before.unwrap_or(now), set, user: user.clone() });
    }
    Ok(())
}

/// Removes the entries of users that `is_gone` says, and puts back what nobody needs any more, last first.
fn release(entries: &mut Vec<Entry>, kernel: &impl Variables, is_gone: impl Fn(&User) -> bool) {
    let (gone, kept): (Vec<_>, Vec<_>) = entries.drain(..).partition(|entry| is_gone(&entry.user));
    *entries = kept;
    for entry in gone.iter().rev() {
        let is_needed = entries.iter().any(|other| other.variable == entry.variable);
        // A variable that another has changed meanwhile is that one's, and one of an interface that is gone is
        // nobody's.
        if !is_needed && kernel.get(&entry.variable).is_ok_and(|now| now == entry.set) {
            let _ = kernel.set(&entry.variable, &entry.before);
        }
    }
}

/// Variables that are set for an uplink until this is dropped.
pub(super) struct Held {
    user: User,
    path: PathBuf,
    _made: Option<MadeDirectory>,
}

impl Held {
    /// Puts back what killed daemons left, and begins with nothing.
    pub(super) fn begin(network: &str) -> Result<Held, String> {
        let (directory, made) = Directory::open_or_make(Path::new(ROOTS), Access::of(ENTERABLE))
            .map_err(|error| crate::describe(&error))?;
        if !directory.is_ours_alone() {
            return Err(format!("{ROOTS} is not this user's alone"));
        }
        let namespace = fs::metadata("/proc/thread-self/ns/net").map_err(|error| error.to_string())?;
        let namespace = std::os::unix::fs::MetadataExt::ino(&namespace);
        let process = std::process::id();
        let started = start_of(process).ok_or("/proc is not there")?;
        let user = User { process, started, network: network.to_owned() };
        let path = directory.path().join(format!("sysctl-{namespace}"));
        let held = Held { user, path, _made: made };
        held.change(|entries, user| {
            release(entries, &Proc, |other| other == user || !other.is_alive());
            Ok(())
        })?;
        Ok(held)
    }

    /// Sets what is not set yet.
    pub(super) fn need(&self, wanted: &[(String, String)]) -> Result<(), String> {
        self.change(|entries, user| acquire(entries, &Proc, user, wanted))
    }

    fn change(&self, work: impl FnOnce(&mut Vec<Entry>, &User) -> Result<(), String>) -> Result<(), String> {
        let explain = |error: io::Error| format!("{}: {error}", self.path.display());
        let (mut file, mut entries) = read(&self.path).map_err(explain)?;
        let before = entries.clone();
        let result = work(&mut entries, &self.user);
        if entries != before {
            write(&mut file, &entries).map_err(explain)?;
        }
        if entries.is_empty() {
            // Whoever waits for its lock has a file that is nowhere, and looks again.
            let _ = fs::remove_file(&self.path);
        }
        result
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let released = self.change(|entries, user| {
            release(entries, &Proc, |other| other == user);
            Ok(())
        });
        if let Err(error) = released {
            tracing::warn!(network = %self.user.network, "variables of the kernel are not put back: {error}");
        }
    }
}

/// Opens the file and locks it.
fn read(path: &Path) -> io::Result<(File, Vec<Entry>)> {
    use std::os::unix::fs::MetadataExt as _;
    loop {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        // The last user removes it.
        let is_there = fs::symlink_metadata(path)
            .is_ok_and(|there| file.metadata().is_ok_and(|ours| ours.ino() == there.ino()));
        if is_there {
            let mut text = String::new();
            (&mut file).take(LONGEST).read_to_string(&mut text)?;
            return Ok((file, text.lines().filter_map(Entry::parse).collect()));
        }
    }
}

fn write(file: &mut File, entries: &[Entry]) -> io::Result<()> {
    let text: String = entries.iter().map(Entry::emit).collect();
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
#[path = "sysctl_tests.rs"]
mod tests;
