//! Network namespaces (network_namespaces(7)).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Makes a network namespace without a name, which lives as long as its descriptor or something in it. Its path is
/// `/proc/self/fd/N`.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN, `ENOSPC` when there may be no more, and what open(2) says when /proc is not there.
pub fn create() -> io::Result<OwnedFd> {
    let make = || {
        // SAFETY: only the network namespace of this thread changes, and the thread ends here. Descriptors, which are
        // what makes the call unsafe, stay shared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::open("/proc/thread-self/ns/net", flags, Mode::empty())?)
    };
    thread::scope(|scope| scope.spawn(make).join().expect("no panic"))
}

/// The identity of a network namespace: two files name the same namespace if their identities are equal. An identity is
/// reused once its namespace is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn new(stat: &rustix::fs::Stat) -> Identity {
        Identity { device: stat.st_dev, inode: stat.st_ino }
    }

    /// Of the namespace that the file at `path` names now.
    ///
    /// # Errors
    /// Errors of stat(2).
    pub fn at(path: &Path) -> io::Result<Identity> {
        Ok(Identity::new(&rustix::fs::stat(path)?))
    }

    /// Of an open namespace.
    ///
    /// # Errors
    /// Errors of fstat(2).
    pub fn of(namespace: impl AsFd) -> io::Result<Identity> {
        Ok(Identity::new(&rustix::fs::fstat(namespace)?))
    }

    /// Of the calling thread's own.
    ///
    /// # Errors
    /// Errors of stat(2) when /proc is not there.
    pub fn current() -> io::Result<Identity> {
        Identity::at(Path::new("/proc/thread-self/ns/net"))
    }
}

/// Opens the network namespace at `path`, which stays alive as long as the descriptor.
///
/// # Errors
/// Errors of open(2) for the path.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?)
}

/// Runs `work` in the network namespace at `path`, as [`enter`] does.
///
/// # Errors
/// Errors of open(2) for the path; otherwise as [`enter`].
pub fn within<T: Send>(path: &Path, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    enter(open(path)?, work)
}

/// Runs `work` in a network namespace, on a thread of its own, so that no other thread changes its namespace.
/// Descriptors of sockets and devices that are opened there belong to that namespace and keep it alive.
///
/// # Errors
/// `EINVAL` when it is no network namespace; `EPERM` without CAP_SYS_ADMIN; `EAGAIN` without a thread; and the error of
/// `work`.
pub fn enter<T: Send>(namespace: impl AsFd, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let namespace = namespace.as_fd();
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, || {
            move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
            work()
        })?;
        thread.join().expect("the work does not panic")
    })
}
