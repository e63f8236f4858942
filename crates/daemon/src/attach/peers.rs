//! What can be said of whoever is at the other end of a socket.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::net::{SocketAddrAny, SocketAddrUnix};
use tokio::net::UnixStream;

/// The peer of a Unix stream socket, for people.
pub(super) fn describe(stream: &UnixStream) -> String {
    match stream.peer_cred() {
        Ok(peer) => match peer.pid() {
            Some(pid) => format!("pid {pid}, uid {}", peer.uid()),
            None => format!("uid {}", peer.uid()),
        },
        Err(_) => "unknown".into(),
    }
}

/// The path of a Unix socket's address, if it has one.
pub(super) fn path_of(address: &SocketAddrAny) -> Option<PathBuf> {
    let address = SocketAddrUnix::try_from(address.clone()).ok()?;
    let path = std::str::from_utf8(address.path_bytes()?).ok()?;
    Some(PathBuf::from(path))
}

/// Tells whether the socket that a peer was known by is still the one at its path.
///
/// A datagram socket is not told when its peer goes, so somebody has to look.
pub(super) struct Watch {
    path: PathBuf,
    identity: Identity,
}

/// Which file it is: its device, its number, and when it was made where the system tells, for some file systems give
/// the number of a removed file to the next one.
type Identity = (u64, u64, Option<SystemTime>);

fn identity(file: &Metadata) -> Identity {
    (file.dev(), file.ino(), file.created().ok())
}

impl Watch {
    /// Watches the socket that is at `path` now.
    pub(super) fn new(path: &Path) -> Option<Watch> {
        let identity = identity(&fs::symlink_metadata(path).ok()?);
        Some(Watch { path: path.into(), identity })
    }

    /// Whether it is gone: its path was removed, another file is in its place, or nobody holds it.
    pub(super) fn is_gone(&self) -> bool {
        match fs::symlink_metadata(&self.path) {
            Ok(found) => identity(&found) != self.identity || !is_held(&self.path),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

/// Whether a process holds the datagram socket at `path`. Nothing is sent to it.
pub(super) fn is_held(path: &Path) -> bool {
    let Ok(probe) = UnixDatagram::unbound() else { return true };
    !matches!(probe.connect(path), Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}
