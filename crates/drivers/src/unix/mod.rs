//! Unix sockets by path: left-overs replaced, what is in use left alone.
//!
//! Theory of operation. Whoever may write to a directory may exchange what a name in it stands for between two uses of
//! the name. So a directory is opened once, and names are looked up in it; a file is looked at by a descriptor that
//! names it, and is connected to and changed by the same descriptor ([`Node`]). A socket has the permissions that were
//! asked for, whatever the umask: they are set on the socket before it is bound, so its file never has more, and what
//! the umask took is given to the very file that bind(2) made, before anybody is listened to. The umask itself is the
//! whole process's, and is not touched. A socket for another user or group is ours alone when it is bound; it gets its
//! group, then its permissions, then its owner, so that none but those ever have a right to it. A name is given up only
//! while it still is our socket's.

mod directory;
#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod platform;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod platform;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Dev, FileType, Mode};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketType, bind, connect, listen as start_listening, socket, sockopt,
};

use crate::PeerSocket;

pub use directory::{Directory, MadeDirectory, Place, unguessable};
pub use platform::{Node, mode, unmapped_user};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// For us alone.
pub const PRIVATE: Access = Access::of(Mode::RUSR.union(Mode::WUSR));

/// Permissions of a directory in which each socket decides for itself who may use it: others enter, and see no names.
pub const ENTERABLE: Mode = Mode::RWXU.union(Mode::XGRP).union(Mode::XOTH);

/// The permissions and the owners of a socket's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Its permissions.
    pub mode: Mode,
    /// The user that it belongs to; ours without one.
    pub owner: Option<u32>,
    /// The group that it belongs to; ours without one.
    pub group: Option<u32>,
}

impl Access {
    /// Returns these permissions, for a file of our own user and group.
    pub const fn of(mode: Mode) -> Access {
        Access { mode, owner: None, group: None }
    }

    /// The permissions while the file is still ours.
    fn at_first(self) -> Mode {
        match self {
            Access { owner: None, group: None, mode } => mode,
            Access { mode, .. } => mode.intersection(Mode::RWXU),
        }
    }
}

/// Octets of send buffer that are asked for: a burst of a thousand large frames.
const SEND_BUFFER: usize = 1 << 20;

/// Octets of receive buffer: four times the send buffer, as the macOS machine monitors recommend.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another program listens at the path.
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
    /// Others could exchange or remove what is made in the directory.
    #[error("{path} is not safe for sockets: {reason}; {cure}")]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: String,
        /// Advice on how to make the directory safe.
        cure: String,
    },
    /// The socket cannot belong to another user or group.
    #[error("{path} cannot be given to {to}: that takes {right}")]
    NotGiven {
        /// The path.
        path: PathBuf,
        /// The user or group, in words.
        to: String,
        /// The missing right, and the cure.
        right: &'static str,
    },
    /// The path led to another directory at once.
    #[error(
        "{path} was exchanged while a socket was made there; see who may write to the directories above it"
    )]
    Exchanged {
        /// The path.
        path: PathBuf,
    },
    /// The peer cannot be connected to.
    #[error("the peer's socket cannot be connected to")]
    Peer(#[source] io::Error),
    /// The system refused.
    #[error("{call} failed for {path}")]
    System {
        /// The call that failed.
        call: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A file by its device and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity(Dev, u64);

impl Node {
    /// Looks at the file at the end of `path`, links followed.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn open(path: &Path) -> io::Result<Node> {
        Ok(Node::follow(path)?)
    }

    fn identity(&self) -> rustix::io::Result<Identity> {
        Ok(Identity::of(&self.stat()?))
    }

    /// True if the file is a socket.
    pub fn is_socket(&self) -> bool {
        self.stat().is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket)
    }

    /// True if the file is a socket that belongs to `user` and has no other name.
    pub fn is_socket_of(&self, user: u32) -> bool {
        self.is_socket() && self.stat().is_ok_and(|stat| stat.st_uid == user && stat.st_nlink == 1)
    }

    /// True if a process holds this socket, which is of type `kind`. Nothing is sent to it.
    pub fn is_held(&self, kind: SocketType) -> bool {
        let Ok(probe) = socket(AddressFamily::UNIX, kind, None) else { return true };
        if prepare(&probe).is_err() {
            return true;
        }
        // Whoever listens there may have sent something by the time that it is closed.
        let probe = PeerSocket::from_birth(probe);
        !matches!(connect(&probe, &self.address()), Err(rustix::io::Errno::CONNREFUSED))
    }

    /// Connects `socket` to it.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn connect(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(connect(socket, &self.address())?)
    }
}

/// A bound socket's path, removed when dropped unless another file has taken its place.
#[derive(Debug)]
pub struct BoundPath {
    place: Place,
    identity: Identity,
}

impl BoundPath {
    /// Where the socket is bound.
    pub fn path(&self) -> PathBuf {
        self.place.path()
    }

    /// True if the path still leads to the socket. True as well when the system does not say.
    pub fn leads_to_it(&self) -> bool {
        use rustix::io::Errno;
        match rustix::fs::stat(self.path()) {
            // As long as the socket is bound, no other file has its number.
            Ok(found) => Identity::of(&found) == self.identity,
            Err(error) => !matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP),
        }
    }
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        // Nobody is left to tell of a failure, and the next start replaces the left-over.
        let _ = self.place.directory.remove_if(&self.place.name, self.identity);
    }
}

/// A stream socket that listens at `place` for those with `access`, and does not wait.
///
/// # Errors
/// [`Error`]; a socket that nobody listens at any more is replaced without one.
pub fn listen(place: &Place, access: Access) -> Result<(OwnedFd, BoundPath), Error> {
    listen_by(place, unbound(place, SocketType::STREAM)?, SocketType::STREAM, access)
}

/// The same for a protocol whose peers send descriptors along: its connections take them, and who receives has to close
/// them ([`crate::peer`]).
///
/// # Errors
/// The same.
pub fn listen_for_descriptors(place: &Place, access: Access) -> Result<(OwnedFd, BoundPath), Error> {
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None);
    let socket = socket.map_err(|source| system("socket", &place.path(), source))?;
    prepare_taking(&socket).map_err(|source| system("fcntl", &place.path(), source))?;
    listen_by(place, socket, SocketType::STREAM, access)
}

/// A socket that listens at `place` for connections that keep records apart (`SOCK_SEQPACKET`), and does not wait.
///
/// # Errors
/// [`Error`]; a socket that nobody listens at any more is replaced without one. macOS has no such sockets.
pub fn listen_records(place: &Place, access: Access) -> Result<(OwnedFd, BoundPath), Error> {
    listen_by(place, unbound(place, SocketType::SEQPACKET)?, SocketType::SEQPACKET, access)
}

fn listen_by(
    place: &Place,
    socket: OwnedFd,
    kind: SocketType,
    access: Access,
) -> Result<(OwnedFd, BoundPath), Error> {
    let (socket, bound) = bind_at(place, socket, kind, access)?;
    start_listening(&socket, BACKLOG).map_err(|source| system("listen", &place.path(), source))?;
    Ok((socket, bound))
}

/// A datagram socket bound at `place` for those with `access`, with large buffers, that does not wait.
///
/// # Errors
/// [`Error`]; a socket that nobody holds any more is replaced without one.
pub fn bind_datagram(place: &Place, access: Access) -> Result<(OwnedFd, BoundPath), Error> {
    let (socket, bound) = bind_at(place, unbound(place, SocketType::DGRAM)?, SocketType::DGRAM, access)?;
    enlarge(&socket);
    Ok((socket, bound))
}

/// The same, connected to `peer` before it has a name: no other peer's datagrams are ever
/// queued.
///
/// # Errors
/// [`Error`]; [`Error::Peer`] when the peer cannot be connected to.
pub fn bind_connected(place: &Place, access: Access, peer: &Node) -> Result<(OwnedFd, BoundPath), Error> {
    let socket = unbound(place, SocketType::DGRAM)?;
    peer.connect(&socket).map_err(Error::Peer)?;
    let (socket, bound) = bind_at(place, socket, SocketType::DGRAM, access)?;
    enlarge(&socket);
    Ok((socket, bound))
}

/// A stream socket that is connected to the one at `path`, and does not wait.
///
/// # Errors
/// Errors of the system; `WouldBlock` when the listener's queue is full.
pub fn connect_stream(path: &Path) -> io::Result<OwnedFd> {
    connect_prepared(path, prepare)
}

/// The same for a protocol whose peers send descriptors along, as [`listen_for_descriptors`].
///
/// # Errors
/// The same.
pub fn connect_for_descriptors(path: &Path) -> io::Result<OwnedFd> {
    connect_prepared(path, prepare_taking)
}

fn connect_prepared(
    path: &Path,
    prepare: impl Fn(&OwnedFd) -> rustix::io::Result<()>,
) -> io::Result<OwnedFd> {
    let address = address(path).map_err(io::Error::other)?;
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    prepare(&socket)?;
    connect(&socket, &address)?;
    Ok(socket)
}

/// Asks for large buffers; the system gives what its limits allow.
pub fn enlarge(socket: &OwnedFd) {
    let _ = sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER);
    let _ = sockopt::set_socket_recv_buffer_size(socket, RECEIVE_BUFFER);
}

/// A new socket for `place`.
fn unbound(place: &Place, kind: SocketType) -> Result<OwnedFd, Error> {
    let system = |call| move |source| system(call, &place.path(), source);
    let socket = socket(AddressFamily::UNIX, kind, None).map_err(system("socket"))?;
    prepare(&socket).map_err(system("fcntl"))?;
    Ok(socket)
}

fn bind_at(
    place: &Place,
    socket: OwnedFd,
    kind: SocketType,
    access: Access,
) -> Result<(OwnedFd, BoundPath), Error> {
    let path = place.path();
    let system = |call| {
        let path = &path;
        move |source| system(call, path, source)
    };
    let address = address(&path)?;
    clear_left_over(place, kind)?;
    platform::limit_mode(&socket, access.at_first()).map_err(system("set the mode of the socket"))?;
    bind(&socket, &address).map_err(|source| match source {
        rustix::io::Errno::NOENT => Error::NoDirectory { path: path.clone() },
        rustix::io::Errno::ADDRINUSE => Error::InUse { path: path.clone() },
        source => system("bind")(source),
    })?;
    let node = Node::of_socket(&socket, &place.directory, &place.name).map_err(system("stat"))?;
    let found = node.stat().map_err(system("stat"))?;
    let bound = BoundPath { place: place.clone(), identity: Identity::of(&found) };
    // bind(2) takes no directory but a path, which may lead elsewhere by now.
    let is_there = place.directory.identity_of(&place.name).is_ok_and(|there| there == bound.identity);
    if !is_there || !node.is_socket() {
        return Err(Error::Exchanged { path });
    }
    // The permissions come between the two: its owner to be cannot be told from others yet, and setting them afterwards
    // would take one right more.
    node.give(None, access.group).map_err(|error| not_given(&path, None, access.group, error))?;
    if Mode::from_raw_mode(found.st_mode) != access.mode {
        node.set_mode(access.mode).map_err(system("set the permissions"))?;
    }
    node.give(access.owner, None).map_err(|error| not_given(&path, access.owner, None, error))?;
    Ok((socket, bound))
}

/// Explains why the file at `path` cannot be given to one of the two.
fn not_given(path: &Path, owner: Option<u32>, group: Option<u32>, error: rustix::io::Errno) -> Error {
    let (to, right) = match (owner, group) {
        (Some(owner), _) => {
            (format!("user {owner}"), "root's rights (CAP_CHOWN); run vmlan as root, or remove `owner`")
        }
        (None, group) => (
            format!("group {}", group.unwrap_or_default()),
            "root's rights (CAP_CHOWN), or a user who is in that group; run vmlan as such a user, or remove `group`",
        ),
    };
    match error {
        rustix::io::Errno::PERM => Error::NotGiven { path: path.into(), to, right },
        error => system("set the owner", path, error),
    }
}

/// The address of the socket at `path`.
///
/// # Errors
/// [`Error::TooLong`].
pub fn address(path: &Path) -> Result<SocketAddrUnix, Error> {
    SocketAddrUnix::new(path).map_err(|_| Error::TooLong { path: path.into(), limit: platform::LONGEST })
}

/// Closed on exec, not waiting, and taking no descriptors from its first moment on.
fn prepare(socket: &OwnedFd) -> rustix::io::Result<()> {
    crate::peer::refuse_descriptors(socket);
    prepare_taking(socket)
}

/// Closed on exec and not waiting.
fn prepare_taking(socket: &OwnedFd) -> rustix::io::Result<()> {
    rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(socket, true)
}

/// Removes a socket that nobody holds any more.
fn clear_left_over(place: &Place, kind: SocketType) -> Result<(), Error> {
    let path = place.path();
    let failed = |call| {
        let path = path.clone();
        move |source| Error::System { call, path, source }
    };
    let node = match place.directory.find(&place.name) {
        Ok(node) => node,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("stat")(error)),
    };
    if !node.is_socket() {
        return Err(Error::InTheWay { path });
    }
    if node.is_held(kind) {
        return Err(Error::InUse { path });
    }
    place.directory.remove(&place.name, &node).map_err(failed("unlink"))
}

fn system(call: &'static str, path: &Path, source: rustix::io::Errno) -> Error {
    Error::System { call, path: path.into(), source: source.into() }
}

#[cfg(test)]
mod tests;
