//! The socket file: made for our user alone, and taken over from a daemon that died.
//!
//! Nobody can connect before the socket has its mode, because it listens only then. Making it is done under a lock of
//! its directory, so that of two daemons that start at once one finds the other alive.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use tokio::net::{UnixListener, UnixStream};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Why the control socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon answers at it.
    #[error("another vmlan answers at {path}; stop it, or choose another socket with --control")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Another daemon is making a socket in the same directory.
    #[error("{path} is locked by another process; try again")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Something else has the name.
    #[error("{path} exists and is no socket; remove it, or choose another socket with --control")]
    NoSocket {
        /// The file.
        path: PathBuf,
    },
    /// The path has too many octets for a socket, or no directory.
    #[error("{path} cannot be the path of a socket; choose a shorter one with --control")]
    BadPath {
        /// The path.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("control socket {path}: cannot {call}")]
    System {
        /// The file concerned.
        path: PathBuf,
        /// What was tried.
        call: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// A control socket that listens; its file is removed when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and number of the file, so that no other's is removed.
    identity: (u64, u64),
}

impl ControlSocket {
    /// Makes the socket with mode 0600, and its directory with mode 0700 when there is none.
    ///
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// When another daemon has it, the path is not usable, or the system refuses.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let bad_path = || BindError::BadPath { path: path.to_owned() };
        let address = SocketAddrUnix::new(path).map_err(|_| bad_path())?;
        let absolute = std::path::absolute(path).map_err(|_| bad_path())?;
        let directory = absolute.parent().ok_or_else(bad_path)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| failed(directory, "make the directory", source))?;

        let _lock = lock(directory)?;
        remove_stale(path, &address)?;
        let socket = new_socket().map_err(|error| failed(path, "make a socket", error.into()))?;
        rustix::net::bind(&socket, &address).map_err(|error| failed(path, "bind", error.into()))?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600))
            .map_err(|source| failed(path, "set its mode", source))?;
        rustix::net::listen(&socket, BACKLOG).map_err(|error| failed(path, "listen", error.into()))?;
        let file = path.symlink_metadata().map_err(|source| failed(path, "read its status", source))?;
        let listener = UnixListener::from_std(std::os::unix::net::UnixListener::from(socket))
            .map_err(|source| failed(path, "wait for it", source))?;
        Ok(Self { listener, path: absolute, identity: (file.dev(), file.ino()) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let ours = |file: std::fs::Metadata| (file.dev(), file.ino()) == self.identity;
        if self.path.symlink_metadata().is_ok_and(ours)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the control socket stays behind");
        }
    }
}

fn failed(path: &Path, call: &'static str, source: io::Error) -> BindError {
    BindError::System { path: path.to_owned(), call, source }
}

/// Locks the directory until the file is dropped.
fn lock(directory: &Path) -> Result<File, BindError> {
    let file = File::open(directory).map_err(|source| failed(directory, "open the directory", source))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(BindError::Locked { path: directory.to_owned() }),
        Err(error) => Err(failed(directory, "lock the directory", error.into())),
    }
}

/// Removes a socket at which nobody listens.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), BindError> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed(path, "read its status", source)),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(BindError::NoSocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    let probe = new_socket().map_err(|error| failed(path, "make a socket", error.into()))?;
    match rustix::net::connect(&probe, address) {
        Err(Errno::CONNREFUSED) => {
            tracing::info!(path = %path.display(), "replacing the control socket of a daemon that is gone");
            std::fs::remove_file(path).map_err(|source| failed(path, "remove the stale file", source))
        }
        // A full backlog (EAGAIN), or a socket of another type (EPROTOTYPE), is somebody's all the same.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(BindError::InUse { path: path.to_owned() }),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(failed(path, "find out whether somebody answers at it", error.into())),
    }
}

/// A stream socket that neither blocks nor outlives an exec.
fn new_socket() -> rustix::io::Result<OwnedFd> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}
