//! Unix sockets by path: left-overs replaced, what is in use left alone.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketType, bind, connect, listen as start_listening, socket, sockopt,
};

/// Octets of send buffer that are asked for: a burst of a thousand large frames.
const SEND_BUFFER: usize = 1 << 20;

/// Octets of receive buffer: four times the send buffer, as the macOS machine monitors recommend.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody listens there.
    #[error("{path} is in use by another program; choose another path or stop that program")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something that is no socket is in the way.
    #[error("{path} exists and is no socket; move it away or choose another path")]
    InTheWay {
        /// The path.
        path: PathBuf,
    },
    /// The directory does not exist.
    #[error("{path}: the directory does not exist; create it, or choose another path")]
    NoDirectory {
        /// The path.
        path: PathBuf,
    },
    /// The path is longer than a socket's address can be.
    #[error("{path} is too long for a socket; at most {limit} octets are possible")]
    TooLong {
        /// The path.
        path: PathBuf,
        /// How long it may be.
        limit: usize,
    },
    /// The system refused.
    #[error("{call} failed for {path}")]
    System {
        /// What was tried.
        call: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A bound socket's path, removed when dropped unless another file has taken its place.
#[derive(Debug)]
pub struct BoundPath {
    path: PathBuf,
    inode: u64,
}

impl BoundPath {
    /// Where the socket is bound.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            // Nobody is left to tell of a failure, and the next start replaces the left-over.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A stream socket that listens at `path`, and does not wait.
///
/// # Errors
/// [`Error`]; a socket that nobody listens at any more is replaced without one.
pub fn listen(path: &Path) -> Result<(OwnedFd, BoundPath), Error> {
    let (socket, bound) = bind_at(path, SocketType::STREAM)?;
    let system = |source: rustix::io::Errno| system("listen", path, source);
    start_listening(&socket, 64).map_err(system)?;
    Ok((socket, bound))
}

/// A socket that listens at `path` for connections that keep records apart (`SOCK_SEQPACKET`), and does not wait.
///
/// # Errors
/// [`Error`]; a socket that nobody listens at any more is replaced without one. macOS has no such sockets.
pub fn listen_records(path: &Path) -> Result<(OwnedFd, BoundPath), Error> {
    let (socket, bound) = bind_at(path, SocketType::SEQPACKET)?;
    start_listening(&socket, 64).map_err(|source| system("listen", path, source))?;
    Ok((socket, bound))
}

/// A datagram socket bound at `path`, with large buffers, that does not wait.
///
/// # Errors
/// [`Error`]; a socket that nobody holds any more is replaced without one.
pub fn bind_datagram(path: &Path) -> Result<(OwnedFd, BoundPath), Error> {
    let (socket, bound) = bind_at(path, SocketType::DGRAM)?;
    enlarge(&socket);
    Ok((socket, bound))
}

/// Asks for large buffers; the system gives what its limits allow.
pub fn enlarge(socket: &OwnedFd) {
    let _ = sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER);
    let _ = sockopt::set_socket_recv_buffer_size(socket, RECEIVE_BUFFER);
}

fn bind_at(path: &Path, kind: SocketType) -> Result<(OwnedFd, BoundPath), Error> {
    let address = address(path)?;
    clear_left_over(path, &address, kind)?;
    let socket = socket(AddressFamily::UNIX, kind, None).map_err(|source| system("socket", path, source))?;
    prepare(&socket).map_err(|source| system("fcntl", path, source))?;
    bind(&socket, &address).map_err(|source| match source {
        rustix::io::Errno::NOENT => Error::NoDirectory { path: path.into() },
        rustix::io::Errno::ADDRINUSE => Error::InUse { path: path.into() },
        source => system("bind", path, source),
    })?;
    let found = fs::symlink_metadata(path);
    let inode = found.map_err(|source| Error::System { call: "stat", path: path.into(), source })?.ino();
    Ok((socket, BoundPath { path: path.into(), inode }))
}

/// The address of the socket at `path`.
///
/// # Errors
/// [`Error::TooLong`].
pub fn address(path: &Path) -> Result<SocketAddrUnix, Error> {
    let limit = if cfg!(target_os = "macos") { 103 } else { 107 };
    SocketAddrUnix::new(path).map_err(|_| Error::TooLong { path: path.into(), limit })
}

/// Closed on exec, and not waiting.
fn prepare(socket: &OwnedFd) -> rustix::io::Result<()> {
    rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(socket, true)
}

/// Removes a socket that nobody holds any more.
fn clear_left_over(path: &Path, address: &SocketAddrUnix, kind: SocketType) -> Result<(), Error> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(Error::InTheWay { path: path.into() });
    }
    let probe = socket(AddressFamily::UNIX, kind, None).map_err(|source| system("socket", path, source))?;
    prepare(&probe).map_err(|source| system("fcntl", path, source))?;
    match connect(&probe, address) {
        Err(rustix::io::Errno::CONNREFUSED) => {}
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        _ => return Err(Error::InUse { path: path.into() }),
    }
    fs::remove_file(path).map_err(|source| Error::System { call: "unlink", path: path.into(), source })
}

fn system(call: &'static str, path: &Path, source: rustix::io::Errno) -> Error {
    Error::System { call, path: path.into(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_left_over_is_replaced_and_what_is_in_use_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (_socket, bound) = listen(&path).unwrap();
        assert!(matches!(listen(&path), Err(Error::InUse { .. })));
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn the_same_for_datagrams() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        drop(std::os::unix::net::UnixDatagram::bind(&path).unwrap());
        let _held = bind_datagram(&path).unwrap();
        assert!(matches!(bind_datagram(&path), Err(Error::InUse { .. })));
    }

    #[test]
    fn other_files_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "contents").unwrap();
        assert!(matches!(listen(&path), Err(Error::InTheWay { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "contents");
        assert!(matches!(listen(&path.with_file_name("x".repeat(120))), Err(Error::TooLong { .. })));
        assert!(matches!(listen(&directory.path().join("none/a")), Err(Error::NoDirectory { .. })));
    }

    #[test]
    fn a_path_that_was_taken_over_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let (_socket, bound) = listen(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "somebody else's").unwrap();
        drop(bound);
        assert!(path.exists());
    }
}
