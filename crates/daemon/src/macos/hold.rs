//! How an interface is held: by a lock on a file with its name, which the system gives up with the process. The file
//! stays, and says who had it last; to remove it would let two processes lock two files of one name.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use sys::darwin::InterfaceName;

use crate::attach::claim::Hindrance;

/// Digits of a process identifier, and more.
const LONGEST: u64 = 16;

/// Holds the interface by a file in `directory`, if nobody else does.
pub(crate) fn hold(directory: &Path, interface: InterfaceName) -> Result<OwnedFd, Hindrance> {
    let path = directory.join(format!("vmlan-trunk-{interface}.lock"));
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644));
    let told = |error: io::Error| Hindrance::Failed(io::Error::new(error.kind(), told(&path, &error)));
    let mut file = File::from(opened.map_err(io::Error::from).map_err(told)?);
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(Hindrance::Taken(holder(&file, &path))),
        Err(error) => return Err(told(error.into())),
    }
    let signed = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    signed.map_err(told)?;
    Ok(file.into())
}

/// Who holds the file, as far as it says.
fn holder(file: &File, path: &Path) -> String {
    let mut text = String::new();
    match file.take(LONGEST).read_to_string(&mut text).map(|_| text.trim().parse::<u32>()) {
        Ok(Ok(process)) => format!("process {process}"),
        // It has just been locked.
        _ => format!("`lsof {}` shows which", path.display()),
    }
}

fn told(path: &Path, error: &io::Error) -> String {
    let cure = match error.kind() {
        io::ErrorKind::PermissionDenied => "; run vmlan as root",
        _ => "",
    };
    format!("{}: {error}{cure}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> InterfaceName {
        InterfaceName::new(text).unwrap()
    }

    #[test]
    fn a_second_one_is_told_who_has_it_until_that_one_lets_go() {
        let directory = tempfile::tempdir().unwrap();
        let first = hold(directory.path(), name("en0")).unwrap();
        for _ in 0..2 {
            let Err(Hindrance::Taken(who)) = hold(directory.path(), name("en0")) else {
                panic!("it is held")
            };
            assert_eq!(who, format!("process {}", std::process::id()));
        }
        hold(directory.path(), name("en1")).unwrap();
        drop(first);
        hold(directory.path(), name("en0")).unwrap();
    }

    #[test]
    fn a_file_that_says_nothing_is_held_as_well() {
        let directory = tempfile::tempdir().unwrap();
        for content in ["", "not a number", "\u{0}\u{0}", "99999999999999999999999"] {
            let _first = hold(directory.path(), name("en0")).unwrap();
            std::fs::write(directory.path().join("vmlan-trunk-en0.lock"), content).unwrap();
            let Err(Hindrance::Taken(who)) = hold(directory.path(), name("en0")) else {
                panic!("it is held")
            };
            assert!(who.contains("lsof "), "{who}");
        }
    }

    #[test]
    fn what_is_no_file_of_ours_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let other = directory.path().join("other");
        std::fs::write(&other, "content").unwrap();
        std::os::unix::fs::symlink(&other, directory.path().join("vmlan-trunk-en0.lock")).unwrap();
        let Err(Hindrance::Failed(error)) = hold(directory.path(), name("en0")) else { panic!("a link") };
        assert!(error.to_string().contains("vmlan-trunk-en0.lock"), "{error}");
        assert_eq!(std::fs::read_to_string(other).unwrap(), "content");
    }
}
