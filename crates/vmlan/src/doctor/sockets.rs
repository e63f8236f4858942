//! Sockets that no process holds any more, in the directory of the control socket and those in it.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::net::SocketType;
use vmlan_drivers::unix::Directory;

use super::{Check, Subject};

const NAME: Subject = Subject::Sockets;

/// Names that are shown.
const MOST: usize = 8;

/// Looks for sockets beside the control socket, which has a check of its own.
pub fn check(control: &Path) -> Check {
    let Some(directory) = control.parent().filter(|directory| directory.is_dir()) else {
        return Check::ok(NAME, "none left behind");
    };
    let mut left = match left_in(directory) {
        Ok(left) => left,
        Err(reason) => {
            return Check::warn(
                NAME,
                format!("not known: {reason}"),
                "run this as the daemon's user or as root",
            );
        }
    };
    left.retain(|path| path != control);
    // VDE directories. One that others keep to themselves is none of ours.
    let inner = fs::read_dir(directory).into_iter().flatten().flatten();
    let inner = inner.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    left.extend(inner.filter_map(|entry| left_in(&entry.path()).ok()).flatten());
    if left.is_empty() {
        return Check::ok(NAME, "none left behind");
    }
    left.sort();
    let mut shown: Vec<_> = left.iter().take(MOST).map(|path| path.display().to_string()).collect();
    if left.len() > MOST {
        shown.push(format!("{} more", left.len() - MOST));
    }
    Check::warn(
        NAME,
        format!("nobody listens at {}", shown.join(", ")),
        "a killed vmlan or guest left them; ports replace theirs when vmlan is started again, and `rm` removes the rest",
    )
}

/// The sockets in a directory that no process holds.
fn left_in(path: &Path) -> Result<Vec<PathBuf>, String> {
    let directory = Directory::open(path).map_err(|error| error.to_string())?;
    let names = directory.names().map_err(|error| format!("{}: {error}", path.display()))?;
    let is_left = |name: &std::ffi::OsString| {
        // A socket that nobody holds says so whatever its type.
        directory.find(name).is_ok_and(|node| node.is_socket() && !node.is_held(SocketType::DGRAM))
    };
    Ok(names.into_iter().filter(is_left).map(|name| path.join(name)).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;
    use crate::doctor::Level;

    #[test]
    fn sockets_that_nobody_holds_are_named_and_others_are_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        assert_eq!(check(&path("control.sock")).status, Level::Ok);
        let _stream = UnixListener::bind(path("stream")).expect("a socket");
        let _datagram = UnixDatagram::bind(path("datagram")).expect("a socket");
        fs::write(path("file"), "").expect("a file");
        drop(UnixListener::bind(path("control.sock")).expect("a socket"));
        assert_eq!(check(&path("control.sock")).status, Level::Ok);

        fs::create_dir(path("lab.vde")).expect("a directory");
        drop(UnixListener::bind(path("lab.vde/ctl")).expect("a socket"));
        drop(UnixDatagram::bind(path("left")).expect("a socket"));
        let found = check(&path("control.sock"));
        let wanted =
            format!("nobody listens at {}, {}", path("lab.vde/ctl").display(), path("left").display());
        assert_eq!((found.status, found.value), (Level::Warn, wanted));
        assert!(found.hint.is_some_and(|hint| hint.contains("started again")));
        assert_eq!(check(Path::new("/no/such/directory/control.sock")).status, Level::Ok);
    }
}
