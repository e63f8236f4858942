//! Socket files by descriptor: `O_PATH`, and `/proc/self/fd`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Stat, Uid, chownat, fstat, openat};
use rustix::io::Result;
use rustix::net::SocketAddrUnix;

use super::Identity;

/// How a directory is opened whose names are to be used.
pub(super) const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Octets of the longest path in a socket's address.
pub(super) const LONGEST: usize = 107;

/// A file, held by a descriptor: everything that is done with it is done with this very file, whatever has its name
/// meanwhile.
#[derive(Debug)]
pub struct Node {
    fd: OwnedFd,
}

impl Node {
    /// The file of this name, not followed where it is a symbolic link.
    pub(super) fn find(directory: impl AsFd, name: &OsStr) -> Result<Node> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Node { fd: openat(directory, name, flags, Mode::empty())? })
    }

    /// The file at the end of `path`, links followed.
    pub(super) fn follow(path: &Path) -> Result<Node> {
        Ok(Node { fd: openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())? })
    }

    /// The file that `socket` made when it was bound to `name` in `directory`.
    ///
    /// The kernel tells which where we may ask (CAP_NET_ADMIN); else it is the one of that name.
    pub(super) fn of_socket(socket: &OwnedFd, directory: impl AsFd, name: &OsStr) -> Result<Node> {
        match vmlan_sys::socket::file_of(socket) {
            Ok(fd) => Ok(Node { fd }),
            Err(_) => Node::find(directory, name),
        }
    }

    pub(super) fn stat(&self) -> Result<Stat> {
        fstat(&self.fd)
    }

    /// The address that connects to this very file.
    pub fn address(&self) -> SocketAddrUnix {
        SocketAddrUnix::new(self.magic()).expect("it is short")
    }

    pub(super) fn set_mode(&self, mode: Mode) -> Result<()> {
        // fchmod(2) refuses such descriptors; fchmodat2(2) takes them, but only since Linux 6.6.
        rustix::fs::chmod(self.magic(), mode)
    }

    /// Makes the file another user's or group's, where one is named.
    pub(super) fn give(&self, owner: Option<u32>, group: Option<u32>) -> Result<()> {
        if owner.is_none() && group.is_none() {
            return Ok(());
        }
        let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
        chownat(&self.fd, "", owner, group, AtFlags::EMPTY_PATH)
    }

    /// True if the file still has a name.
    pub fn is_there(&self) -> bool {
        self.stat().is_ok_and(|stat| stat.st_nlink > 0)
    }

    fn magic(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }
}

impl Identity {
    pub(super) fn of(stat: &Stat) -> Identity {
        Identity(stat.st_dev, stat.st_ino)
    }
}

/// Gives an unbound socket the mode that its file will have, less what the umask takes away: the file never has more.
pub(super) fn limit_mode(socket: &OwnedFd, mode: Mode) -> Result<()> {
    rustix::fs::fchmod(socket, mode)
}

/// The permissions that the octal digits of a configuration mean.
pub fn mode(bits: u32) -> Mode {
    Mode::from_bits_truncate(bits)
}

/// The number that stands for every user who is not known in our user namespace, root of the host among them; `None`
/// where all are known.
pub fn unmapped_user() -> Option<u32> {
    let map = std::fs::read_to_string("/proc/self/uid_map").ok()?;
    let everybody = map.split_whitespace().eq(["0", "0", "4294967295"]);
    let number = || std::fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?.trim().parse().ok();
    (!everybody).then(|| number().unwrap_or(65_534))
}
