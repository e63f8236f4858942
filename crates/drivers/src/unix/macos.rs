//! Socket files by directory and name. macOS has no descriptors that only name a file, and sockets cannot be opened:
//! what is done is done by name, and that the name is the same file's is checked before.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Stat, Uid, chmodat, chownat, getpath, statat};
use rustix::io::{Errno, Result};
use rustix::net::SocketAddrUnix;

use super::Identity;

/// How a directory is opened whose names are to be used.
pub(super) const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

/// Octets of the longest path in a socket's address.
pub(super) const LONGEST: usize = 103;

/// A file, by the directory that it is in, its name there and its identity.
#[derive(Debug)]
pub struct Node {
    /// None for what was named by a path.
    directory: Option<OwnedFd>,
    name: OsString,
    path: SocketAddrUnix,
    stat: Stat,
}

impl Node {
    /// The file of this name, not followed where it is a symbolic link.
    pub(super) fn find(directory: impl AsFd, name: &OsStr) -> Result<Node> {
        let directory = directory.as_fd().try_clone_to_owned().map_err(|_| Errno::MFILE)?;
        let stat = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let parent = getpath(&directory)?;
        let path = Path::new(OsStr::from_bytes(parent.as_bytes())).join(name);
        Ok(Node { directory: Some(directory), name: name.into(), path: SocketAddrUnix::new(&path)?, stat })
    }

    /// The file at the end of `path`, links followed.
    pub(super) fn follow(path: &Path) -> Result<Node> {
        let stat = statat(CWD, path, AtFlags::empty())?;
        Ok(Node { directory: None, name: path.into(), path: SocketAddrUnix::new(path)?, stat })
    }

    /// The file that a socket made when it was bound to `name` in `directory`.
    pub(super) fn of_socket(_socket: &OwnedFd, directory: impl AsFd, name: &OsStr) -> Result<Node> {
        Node::find(directory, name)
    }

    pub(super) fn stat(&self) -> Result<Stat> {
        Ok(self.stat)
    }

    /// The address that connects to the file.
    pub fn address(&self) -> SocketAddrUnix {
        self.path.clone()
    }

    pub(super) fn set_mode(&self, mode: Mode) -> Result<()> {
        match &self.directory {
            Some(directory) => chmodat(directory, &self.name, mode, AtFlags::SYMLINK_NOFOLLOW),
            None => chmodat(CWD, &self.name, mode, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    /// Makes the file another user's or group's, where one is named.
    pub(super) fn give(&self, owner: Option<u32>, group: Option<u32>) -> Result<()> {
        if owner.is_none() && group.is_none() {
            return Ok(());
        }
        let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
        match &self.directory {
            Some(directory) => chownat(directory, &self.name, owner, group, AtFlags::SYMLINK_NOFOLLOW),
            None => chownat(CWD, &self.name, owner, group, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    /// True if the name still belongs to this file.
    pub fn is_there(&self) -> bool {
        let found = match &self.directory {
            Some(directory) => statat(directory, &self.name, AtFlags::SYMLINK_NOFOLLOW),
            None => statat(CWD, &self.name, AtFlags::empty()),
        };
        found.is_ok_and(|found| Identity::of(&found) == Identity::of(&self.stat))
    }
}

impl Identity {
    pub(super) fn of(stat: &Stat) -> Identity {
        Identity(stat.st_dev, stat.st_ino)
    }
}

/// Nothing: macOS gives no mode to a socket that is not bound. It gets its own after that, before it listens.
pub(super) fn limit_mode(_socket: &OwnedFd, _mode: Mode) -> Result<()> {
    Ok(())
}

/// The permissions that the octal digits of a configuration mean.
pub fn mode(bits: u32) -> Mode {
    Mode::from_bits_truncate(bits as rustix::fs::RawMode)
}

/// None: macOS has no user namespaces.
pub fn unmapped_user() -> Option<u32> {
    None
}
