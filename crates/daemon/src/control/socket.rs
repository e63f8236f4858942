//! The socket file: made for our user alone, and taken over from a daemon that died.
//!
//! The socket listens only once it has its mode, so no client can connect before. The daemon makes the socket under a
//! lock beside it, which only our user can open. So, of two daemons that start at once, one finds the other alive.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fchmod, open};
use tokio::time::sleep;
use vmlan_drivers::PeerSocket;
use vmlan_drivers::unix::{self, BoundPath, ENTERABLE, Place};

use vmlan_ports::connection::{Connection, Listener};
use vmlan_ports::lock::{Lock, LockError};
use vmlan_ports::swept::{LOOK, notice, swept};

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
    /// Another user has made the file that would be locked.
    #[error(
        "{path} is no lock of ours; remove it, or choose a socket in a directory of your own with --control"
    )]
    ForeignLock {
        /// The file.
        path: PathBuf,
    },
    /// Others could exchange the socket.
    #[error("control socket: {0}, or choose another socket with --control")]
    Unsafe(unix::Error),
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
        /// The call that failed.
        call: &'static str,
        /// The error of the system.
        source: io::Error,
    },
}

/// A control socket that listens; its file is removed when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: Listener,
    path: PathBuf,
    bound: BoundPath,
}

impl ControlSocket {
    /// Makes the socket with mode 0600, and its directory when there is none, with mode 0711: sockets of ports may be
    /// in it, and each says by its own mode who may use it.
    ///
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// When another daemon has it, the path is not usable, or the system refuses.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let bad_path = || BindError::BadPath { path: path.to_owned() };
        let absolute = std::path::absolute(path).map_err(|_| bad_path())?;
        unix::address(&absolute).map_err(|_| bad_path())?;
        let directory = absolute.parent().ok_or_else(bad_path)?;
        make_directory(directory).map_err(|source| failed(directory, "make the directory", source))?;

        let place = Place::of(&absolute)?;
        place.directory().check_owner()?;
        place.directory().check_mode(Mode::WOTH)?;
        let name = place.path().file_name().map(|name| name.to_string_lossy().into_owned());
        let lock = format!(".{}.lock", name.unwrap_or_default());
        let _lock = Lock::take(place.directory(), &lock)
            .map_err(|error| BindError::of_lock(directory.join(lock), error))?;
        let (socket, bound) = unix::listen(&place, unix::PRIVATE)?;
        let listener = Listener::new(PeerSocket::from_birth(socket))
            .map_err(|source| failed(path, "wait for it", source))?;
        Ok(Self { listener, path: absolute, bound })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection. A socket whose path does not lead to it any more is made again meanwhile.
    pub(super) async fn accept(&mut self) -> io::Result<Connection> {
        let mut said = None;
        loop {
            tokio::select! {
                connection = self.listener.accept() => return Connection::new(connection?),
                () = swept(Some(&self.bound)) => {}
            }
            // The old socket is held until then, so that its file's number is no other's.
            match ControlSocket::bind(&self.path) {
                Ok(renewed) => {
                    tracing::warn!(owner = true, "{}", notice(&self.bound));
                    *self = renewed;
                }
                Err(error) => {
                    let error = anyhow::Error::new(error);
                    let reason = format!("{}, which fails now: {error:#}", notice(&self.bound));
                    if said.as_ref() != Some(&reason) {
                        tracing::warn!(owner = true, "{reason}");
                        said = Some(reason);
                    }
                    sleep(LOOK).await;
                }
            }
        }
    }
}

/// Makes the directory and those above it, as far as they are missing. The umask takes nothing away from it.
fn make_directory(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    // Nobody else enters before the directory has what is wanted of it, whatever the umask.
    builder.mode(0o700);
    if let Some(parent) = directory.parent().filter(|parent| !parent.is_dir()) {
        make_directory(parent)?;
    }
    match builder.create(directory) {
        Ok(()) => {
            // Nothing is followed: the directory above may be one where others write.
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(fchmod(open(directory, flags, Mode::empty())?, ENTERABLE)?)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

fn failed(path: &Path, call: &'static str, source: io::Error) -> BindError {
    BindError::System { path: path.to_owned(), call, source }
}

impl BindError {
    fn of_lock(path: PathBuf, error: LockError) -> BindError {
        match error {
            LockError::Taken(_) => BindError::Locked { path },
            LockError::Foreign => BindError::ForeignLock { path },
            LockError::System(source) => failed(&path, "lock", source),
        }
    }
}

impl From<unix::Error> for BindError {
    fn from(error: unix::Error) -> BindError {
        match error {
            unix::Error::InUse { path } => BindError::InUse { path },
            unix::Error::InTheWay { path } => BindError::NoSocket { path },
            unix::Error::TooLong { path, .. } | unix::Error::NoDirectory { path } => {
                BindError::BadPath { path }
            }
            unix::Error::System { call, path, source } => BindError::System { path, call, source },
            error @ (unix::Error::Unsafe { .. }
            | unix::Error::NotGiven { .. }
            | unix::Error::Exchanged { .. }
            | unix::Error::Peer(_)) => BindError::Unsafe(error),
        }
    }
}
