//! How an interface is held: by a lock on a file that is named by the interface and its network namespace, in a
//! directory that nobody else can write to. It goes with its process.
//!
//! That is root's directory; without the right to it, the user's own. In a user namespace without either, a socket with
//! an abstract name does: others cannot enter the network namespace there. Elsewhere anybody can take such a name.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use vmlan_drivers::unix::{Access, Directory, ENTERABLE, MadeDirectory, unmapped_user};

use crate::describe;
use crate::hold::Hindrance;
use crate::kernel::Interface;
use crate::lock::Lock;

/// Root's directory.
const ROOTS: &str = "/run/vmlan";

/// A hold on an interface.
pub(crate) enum Hold {
    /// A lock, and its directory if that was made for it: the lock goes first.
    Lock { _lock: Lock, _made: Option<MadeDirectory> },
    /// A name of this network namespace.
    Name { _socket: OwnedFd },
}

/// Holds the interface, if nobody else does.
pub(crate) fn hold(interface: &Interface) -> Result<Hold, Hindrance> {
    let name = name(interface).map_err(Hindrance::Failed)?;
    let why = match open(Path::new(ROOTS)) {
        Ok(opened) => return lock(opened, &name),
        Err(why) => why,
    };
    if unmapped_user().is_some() {
        return take_name(&name);
    }
    let users = users().ok_or_else(|| {
        format!(
            "{why}; run vmlan as root, give it {ROOTS} (`RuntimeDirectory=vmlan` in a unit of systemd), or set \
             XDG_RUNTIME_DIR"
        )
    });
    let opened = users.and_then(|users| open(&users));
    lock(opened.map_err(|why| Hindrance::Failed(io::Error::other(why)))?, &name)
}

/// True if a running vmlan holds the interface, or if that cannot be told.
pub(crate) fn is_held(interface: &Interface) -> bool {
    let Ok(name) = name(interface) else { return true };
    // Root's directory may be that of the host's root, who has nothing to do with a user namespace of ours.
    let unknown = unmapped_user().is_none();
    let is_locked = |path: &Path| match Directory::open(path) {
        Ok(directory) => Lock::is_taken(&directory, &name).unwrap_or(unknown),
        Err(vmlan_drivers::unix::Error::NoDirectory { .. }) => false,
        Err(_) => unknown,
    };
    is_locked(Path::new(ROOTS))
        || users().is_some_and(|directory| is_locked(&directory))
        || !unknown && take_name(&name).is_err()
}

/// Interfaces of different network namespaces have the same numbers.
fn name(interface: &Interface) -> io::Result<String> {
    Ok(format!("trunk-{}-{}.lock", namespace()?, interface.index))
}

/// The number of the calling thread's network namespace.
pub(crate) fn namespace() -> io::Result<u64> {
    Ok(std::fs::metadata("/proc/thread-self/ns/net")?.ino())
}

/// The user's own directory.
fn users() -> Option<PathBuf> {
    let directory = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?);
    directory.is_absolute().then(|| directory.join("vmlan"))
}

type Opened = (Arc<Directory>, Option<MadeDirectory>);

/// Opens or makes a directory in which only this user may write; else says why it is none. Sockets of ports may be in
/// it too.
fn open(path: &Path) -> Result<Opened, String> {
    let opened = Directory::open_or_make(path, Access::of(ENTERABLE));
    let (directory, made) = opened.map_err(|error| describe(&error))?;
    match directory.is_ours_alone() {
        true => Ok((directory, made)),
        false => Err(format!("{} is not this user's alone", path.display())),
    }
}

fn lock((directory, made): Opened, name: &str) -> Result<Hold, Hindrance> {
    match Lock::take(&*directory, name) {
        Ok(lock) => Ok(Hold::Lock { _lock: lock, _made: made }),
        Err(error) => Err(error.hinders(&directory.path().join(name))),
    }
}

fn take_name(name: &str) -> Result<Hold, Hindrance> {
    let name = format!("vmlan-{name}");
    let taken = || -> rustix::io::Result<OwnedFd> {
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes())?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &address)?;
        Ok(socket)
    };
    match taken() {
        Ok(socket) => Ok(Hold::Name { _socket: socket }),
        Err(Errno::ADDRINUSE) => Err(Hindrance::Taken(format!("`ss -xpl` shows which has @{name}"))),
        Err(error) => Err(Hindrance::Failed(error.into())),
    }
}
