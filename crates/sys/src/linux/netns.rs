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

/// Runs `work` in the network namespace at `path`, on a thread of its own, so that no other thread changes its
/// namespace. Descriptors made there keep belonging to that namespace.
///
/// # Errors
/// What open(2) says of the path; `EINVAL` when it is no network namespace; `EPERM` without CAP_SYS_ADMIN; and the
/// error of `work`.
pub fn within<T: Send>(path: &Path, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let namespace = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        });
        thread.join().expect("the work does not panic")
    })
}
