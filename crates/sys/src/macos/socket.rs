//! Socket options and states that rustix has no safe call for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

/// Without waiting. macOS has no flag against the signal for a peer that is gone; Rust programs ignore it.
pub const SEND_NOW: SendFlags = SendFlags::DONTWAIT;

/// Nothing: macOS has no flag against the signal for a peer that is gone; Rust programs ignore it.
pub const NO_SIGNAL: SendFlags = SendFlags::empty();

/// Nothing: macOS has no flag for that.
pub const CLOSE_ON_EXEC: RecvFlags = RecvFlags::empty();

/// True if the peer of a connected socket has closed it.
pub fn is_over(fd: impl AsFd) -> bool {
    let ends = PollFlags::HUP | PollFlags::ERR;
    let mut fds = [PollFd::new(&fd, PollFlags::empty())];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
        && fds[0].revents().intersects(ends)
}

/// Makes the kernel refuse file descriptors that a peer sends along. macOS has no such option: answers false.
pub fn refuse_descriptors(_fd: impl AsFd) -> bool {
    false
}

/// Accepts a connection that neither waits nor outlives an exec, and looks at no address: decoders of addresses panic
/// at some that peers can have (see [`crate::address`]).
///
/// # Errors
/// Errors of accept(2) and fcntl(2).
pub fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    let socket = rustix::net::accept(listener)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// Bsd/netinet/tcp.h; the libc crate has no name for it.
const TCP_RXT_CONNDROPTIME: libc::c_int = 0x80;

/// Ends a TCP connection when what was sent is not acknowledged for so long, in whole seconds.
///
/// # Errors
/// Errors of setsockopt(2); every socket that is not of TCP gives an error.
pub fn set_user_timeout(fd: impl AsFd, timeout: Duration) -> io::Result<()> {
    let seconds = libc::c_int::try_from(timeout.as_secs()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the pointer and the length describe `seconds`, which lives through the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_RXT_CONNDROPTIME,
            std::ptr::from_ref(&seconds).cast(),
            size_of_val(&seconds) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Dissolves the connection of a datagram socket, so that everybody can send to it again.
///
/// # Errors
/// Errors of connect(2).
pub fn disconnect(fd: impl AsFd) -> io::Result<()> {
    match rustix::net::connect_unspec(fd) {
        // The connection is dissolved, and the address is none all the same (connect(2)).
        Ok(()) | Err(Errno::AFNOSUPPORT | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
