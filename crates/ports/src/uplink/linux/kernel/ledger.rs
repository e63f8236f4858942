//! Files of what was changed on the host for uplinks, and for whom.
//!
//! Theory of operation. There is one file of each kind for each network namespace, with a line for each change and its
//! user, a process and its network. A change is undone when its user goes. A user whose process is gone (killed, so
//! that it could not undo anything) is found out by the next start of any uplink in kernel mode. The file is locked
//! while it is read and written.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use vmlan_drivers::unix::{Access, Directory, ENTERABLE, MadeDirectory};

/// Root's directory.
const ROOTS: &str = "/run/vmlan";

/// Octets of a file that are read.
const LONGEST: u64 = 1 << 20;

/// A line of a ledger.
pub(super) trait Entry: Clone + PartialEq {
    /// Reads a line without its end; `None` for one that is none of these.
    fn parse(line: &str) -> Option<Self>;

    /// Writes the line without its end.
    fn emit(&self) -> String;
}

/// A process, by number and start, and its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) process: u32,
    pub(super) started: u64,
    pub(super) network: String,
}

impl User {
    /// Reads the fields of a line that a user is written in.
    pub(super) fn parse<'a>(mut fields: impl Iterator<Item = &'a str>) -> Option<User> {
        let process = fields.next()?.parse().ok()?;
        let started = fields.next()?.parse().ok()?;
        Some(User { process, started, network: fields.next()?.to_owned() })
    }

    pub(super) fn is_alive(&self) -> bool {
        start_of(self.process) == Some(self.started)
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.process, self.started, self.network)
    }
}

/// The time at which a process started, in the kernel's units (proc_pid_stat(5), field 22).
fn start_of(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in field 2 may have anything in it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The file of one kind of changes in this network namespace, and the user that makes them here.
pub(super) struct Ledger {
    pub(super) user: User,
    path: PathBuf,
    _made: Option<MadeDirectory>,
}

impl Ledger {
    /// Finds the place of the file of a kind, for a network of this process.
    pub(super) fn new(kind: &str, network: &str) -> Result<Ledger, String> {
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
        let path = directory.path().join(format!("{kind}-{namespace}"));
        Ok(Ledger { user, path, _made: made })
    }

    /// Has `work` change the entries; they are written also after an error.
    pub(super) fn change<E: Entry>(
        &self,
        work: impl FnOnce(&mut Vec<E>, &User) -> Result<(), String>,
    ) -> Result<(), String> {
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

/// Opens the file and locks it.
fn read<E: Entry>(path: &Path) -> io::Result<(File, Vec<E>)> {
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
            return Ok((file, text.lines().filter_map(E::parse).collect()));
        }
    }
}

fn write<E: Entry>(file: &mut File, entries: &[E]) -> io::Result<()> {
    let text: String = entries.iter().map(|entry| entry.emit() + "\n").collect();
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Word(String);

    impl Entry for Word {
        fn parse(line: &str) -> Option<Word> {
            (!line.is_empty()).then(|| Word(line.to_owned()))
        }

        fn emit(&self) -> String {
            self.0.clone()
        }
    }

    #[test]
    fn a_file_outlives_its_readers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("words-1");
        let words = ["one", "two"].map(|word| Word(word.to_owned()));
        let (mut file, none) = read::<Word>(&path).unwrap();
        assert!(none.is_empty());
        write(&mut file, &words).unwrap();
        drop(file);
        assert_eq!(read::<Word>(&path).unwrap().1, words);
    }

    #[test]
    fn this_process_is_alive_and_started_once() {
        let process = std::process::id();
        let us = User { process, started: start_of(process).unwrap(), network: "lab".to_owned() };
        assert!(us.is_alive());
        assert_eq!(User::parse(us.to_string().split(' ')), Some(us.clone()));
        assert!(!User { started: us.started + 1, ..us }.is_alive());
    }
}
