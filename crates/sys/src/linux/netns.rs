//! Network namespaces (network_namespaces(7)).

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

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
