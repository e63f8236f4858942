//! The file that keeps leases.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use vmlan_services::Leases;
use vmlan_services::leases::LONGEST_FILE;

/// The time between two writes.
const BETWEEN: Duration = Duration::from_millis(10);
/// Answers that wait for a write at most; a client that gets none asks again.
const MOST_WAITING: usize = 4096;

/// A frame of an answer, and the port that it is for.
pub(super) type Answer = (u16, Vec<u8>);

/// The file, and the answers that wait until it is written.
#[derive(Debug)]
pub(super) struct LeaseFile {
    path: Option<PathBuf>,
    is_changed: bool,
    waiting: Vec<Answer>,
    writing: Option<Writing>,
    next: Instant,
}

/// A write under way, and the answers that wait for its end.
#[derive(Debug)]
struct Writing {
    task: JoinHandle<io::Result<()>>,
    answers: Vec<Answer>,
}

impl LeaseFile {
    pub(super) fn new(path: Option<PathBuf>) -> LeaseFile {
        LeaseFile { path, is_changed: false, waiting: Vec::new(), writing: None, next: Instant::now() }
    }

    /// Notes that leases changed, and keeps an answer until that is written; gives it back if nothing is.
    pub(super) fn changed(&mut self, answer: Option<Answer>) -> Option<Answer> {
        if self.path.is_none() {
            return answer;
        }
        self.is_changed = true;
        if self.waiting.len() < MOST_WAITING {
            self.waiting.extend(answer);
        }
        None
    }

    /// The time at which [`LeaseFile::write`] has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.is_changed && self.writing.is_none()).then_some(self.next)
    }

    /// Begins to write, if it is time.
    pub(super) fn write(&mut self, leases: &Leases) {
        let Some(path) = self.path.clone().filter(|_| self.due().is_some_and(|due| due <= Instant::now()))
        else {
            return;
        };
        let octets = leases.to_json();
        let task = tokio::task::spawn_blocking(move || replace(&path, &octets));
        self.is_changed = false;
        self.next = Instant::now() + BETWEEN;
        self.writing = Some(Writing { task, answers: std::mem::take(&mut self.waiting) });
    }

    /// True while a write is under way.
    pub(super) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Waits for the end of a write, and returns the answers that waited for it. Safe to cancel.
    pub(super) async fn written(&mut self) -> (io::Result<()>, Vec<Answer>) {
        let Some(Writing { task, .. }) = &mut self.writing else { return std::future::pending().await };
        let result = task.await.unwrap_or_else(|_| Err(io::Error::other("the write was given up")));
        let answers = self.writing.take().map(|writing| writing.answers).unwrap_or_default();
        (result, answers)
    }
}

/// Writes a file whole, under another name first, so that there is always one of the two.
fn replace(path: &Path, octets: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let temporary = path.with_extension("json.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(octets).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&temporary, path)) {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    // The name is on disk when its directory is.
    File::open(directory)?.sync_all()
}

/// Reads the file. One that cannot be read is kept beside under the name `.bad`, and the text says why.
pub(super) fn load(path: &Path) -> (Leases, Option<String>) {
    let read = File::open(path).and_then(|file| {
        let mut octets = Vec::new();
        file.take(LONGEST_FILE + 1).read_to_end(&mut octets)?;
        Ok(octets)
    });
    let error = match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (Leases::default(), None),
        Err(error) => error.to_string(),
        Ok(octets) if octets.len() as u64 > LONGEST_FILE => "it is too long".to_owned(),
        Ok(octets) => match Leases::from_json(&octets) {
            Ok(leases) => return (leases, None),
            Err(error) => error.to_string(),
        },
    };
    let bad = path.with_extension("json.bad");
    let kept = match fs::rename(path, &bad) {
        Ok(()) => format!("{}: {error}; it is kept as {}", path.display(), bad.display()),
        Err(_) => format!("{}: {error}", path.display()),
    };
    (Leases::default(), Some(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_44_an_unreadable_file_is_kept_beside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/lab.json");
        assert!(load(&path).1.is_none(), "there is none");
        replace(&path, &Leases::default().to_json()).unwrap();
        assert!(load(&path).1.is_none());
        replace(&path, b"{\"version\": 1, \"lea").unwrap();
        let why = load(&path).1.unwrap();
        assert!(why.contains("lab.json.bad"), "{why}");
        assert!(!path.exists() && path.with_extension("json.bad").exists());
    }
}
