use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The name that the kernel gives to eventfds (fs/eventfd.c).
const NAME: &str = "anon_inode:[eventfd]";

/// True if the descriptor is an eventfd: one that a peer sends can be anything else, and a read or write of it can
/// wait, or fail with a signal.
///
/// # Errors
/// `ENOENT` where /proc is not mounted.
pub fn is_eventfd(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let name = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    Ok(name.as_os_str() == NAME)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::event::{EventfdFlags, epoll, eventfd};
    use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create};
    use rustix::net::{AddressFamily, SocketType, socket};
    use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};

    use super::*;

    #[test]
    fn an_eventfd_is_one_with_all_flags() {
        let all = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE;
        for flags in [EventfdFlags::CLOEXEC, all] {
            assert!(is_eventfd(eventfd(0, flags).unwrap().as_fd()).unwrap());
        }
    }

    #[test]
    fn nothing_else_is_an_eventfd() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let create = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let others = [
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).unwrap(),
            socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap(),
            memfd_create(NAME, MemfdFlags::CLOEXEC).unwrap(),
            epoll::create(epoll::CreateFlags::CLOEXEC).unwrap(),
            rustix::pipe::pipe().unwrap().0,
            rustix::fs::open(&path, create, Mode::RUSR).unwrap(),
        ];
        for fd in others {
            assert!(!is_eventfd(fd.as_fd()).unwrap(), "{fd:?}");
        }
    }
}
