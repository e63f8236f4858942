//! How an interface is held: by a lock on a file with its name, which the system gives up with the process.

use std::io;
use std::path::Path;

use vmlan_drivers::unix::Directory;
use vmlan_sys::darwin::InterfaceName;

use crate::hold::Hindrance;
use crate::lock::Lock;

/// Holds the interface by a file in `directory`, which only root can write to, if nobody else does.
pub(crate) fn hold(directory: &Path, interface: InterfaceName) -> Result<Lock, Hindrance> {
    let name = format!("vmlan-trunk-{interface}.lock");
    let opened = Directory::open(directory);
    let opened = opened.map_err(|error| Hindrance::Failed(io::Error::other(error)))?;
    Lock::take(&opened, &name).map_err(|error| error.hinders(&directory.join(&name)))
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
        for content in ["", "not a number"] {
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
