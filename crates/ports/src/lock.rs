//! Locks on files that nobody else can open, let alone lock: a lock that anybody can take keeps its owner away.
//!
//! The file has mode 0600, and is looked for in a directory where others cannot exchange it. The system gives the lock
//! up with the process, however that ends; a file that is left says nothing. It is removed by its holder, so that a
//! process which waited for the lock of a removed file has to look again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat, statat, unlinkat};
use rustix::io::Errno;

/// Digits of a process identifier, and more.
const LONGEST: u64 = 16;

/// How often a file is looked for again that was removed meanwhile.
const TRIES: usize = 10;

/// A lock that is held, on a file that goes with it.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    directory: OwnedFd,
    name: String,
}

/// Why a lock could not be taken.
#[derive(Debug)]
pub enum LockError {
    /// Another process has it; which one, if that is known.
    Taken(Option<u32>),
    /// The file with the name is not ours, or others can open it.
    Foreign,
    /// The system refused.
    System(io::Error),
}

impl From<Errno> for LockError {
    fn from(error: Errno) -> LockError {
        LockError::System(error.into())
    }
}

impl Lock {
    /// Takes the lock `name` in `directory`, which others cannot write to, or in which they cannot remove our files.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(directory: impl AsFd, name: &str) -> Result<Lock, LockError> {
        let directory = directory.as_fd().try_clone_to_owned().map_err(LockError::System)?;
        for _ in 0..TRIES {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let opened = openat(&directory, name, flags, Mode::RUSR | Mode::WUSR);
            let mut file = match opened {
                Ok(file) => File::from(file),
                Err(Errno::ACCESS | Errno::LOOP | Errno::NXIO | Errno::ISDIR) => {
                    return Err(LockError::Foreign);
                }
                Err(error) => return Err(error.into()),
            };
            if !is_private(&file)? {
                return Err(LockError::Foreign);
            }
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(LockError::Taken(holder(&file))),
                Err(error) => return Err(error.into()),
            }
            if !is_at(&file, &directory, name)? {
                continue;
            }
            let signed = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            signed.map_err(LockError::System)?;
            return Ok(Lock { _file: file, directory, name: name.to_owned() });
        }
        Err(LockError::Taken(None))
    }

    /// True if a process has the lock `name` in `directory`. The lock is not taken for that.
    ///
    /// # Errors
    /// The system's error.
    #[allow(dead_code, reason = "on macOS what was left says itself which process made it")]
    pub fn is_taken(directory: impl AsFd, name: &str) -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        // Shared: two that ask do not see each other.
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked, so it is ours; what is left is taken by the next.
        let _ = unlinkat(&self.directory, &self.name, AtFlags::empty());
    }
}

/// True if only we and root can have opened the file.
fn is_private(file: &File) -> Result<bool, Errno> {
    let stat = fstat(file)?;
    let others = Mode::RWXG | Mode::RWXO;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && stat.st_uid == rustix::process::geteuid().as_raw()
        && stat.st_nlink <= 1
        && !Mode::from_raw_mode(stat.st_mode).intersects(others))
}

/// True if `name` in `directory` is still the name of this file.
fn is_at(file: &File, directory: &OwnedFd, name: &str) -> Result<bool, Errno> {
    let ours = fstat(file)?;
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => Ok((there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The process that holds the file, as far as it says.
fn holder(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn directory() -> (tempfile::TempDir, File) {
        let directory = tempfile::tempdir().unwrap();
        let file = File::open(directory.path()).unwrap();
        (directory, file)
    }

    #[test]
    fn a_second_one_is_told_who_has_it_until_that_one_lets_go() {
        let (path, directory) = directory();
        let first = Lock::take(&directory, "a").unwrap();
        for _ in 0..2 {
            let Err(LockError::Taken(Some(process))) = Lock::take(&directory, "a") else {
                panic!("it is held")
            };
            assert_eq!(process, std::process::id());
            assert!(Lock::is_taken(&directory, "a").unwrap());
        }
        Lock::take(&directory, "b").unwrap();
        drop(first);
        assert!(!Lock::is_taken(&directory, "a").unwrap());
        assert_eq!(fs::read_dir(path.path()).unwrap().count(), 0);
        Lock::take(&directory, "a").unwrap();
    }

    #[test]
    fn a_file_that_was_left_is_taken() {
        let (path, directory) = directory();
        let file = path.path().join("a");
        for content in ["", "not a number", "\u{0}\u{0}", "99999999999999999999999"] {
            fs::write(&file, content).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            assert!(!Lock::is_taken(&directory, "a").unwrap());
            let _lock = Lock::take(&directory, "a").unwrap();
            fs::write(&file, content).unwrap();
            assert!(matches!(Lock::take(&directory, "a"), Err(LockError::Taken(None))));
        }
    }

    #[test]
    fn a_file_that_others_can_open_is_no_lock() {
        let (path, directory) = directory();
        let file = path.path().join("a");
        fs::write(&file, "content").unwrap();
        for mode in [0o644, 0o604, 0o620, 0o777] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            assert!(matches!(Lock::take(&directory, "a"), Err(LockError::Foreign)), "{mode:o}");
        }
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        symlink(&file, path.path().join("link")).unwrap();
        fs::hard_link(&file, path.path().join("again")).unwrap();
        fs::create_dir(path.path().join("directory")).unwrap();
        for name in ["link", "again", "directory"] {
            assert!(matches!(Lock::take(&directory, name), Err(LockError::Foreign)), "{name}");
        }
        assert_eq!(fs::read_to_string(file).unwrap(), "content");
    }

    #[test]
    fn the_lock_is_for_its_owner_alone() {
        let (path, directory) = directory();
        let _lock = Lock::take(&directory, "a").unwrap();
        assert_eq!(path.path().join("a").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
