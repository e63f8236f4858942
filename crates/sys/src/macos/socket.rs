//! Socket options and states that rustix has no safe call for.

use std::io;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags};

/// Without waiting. macOS has no flag against the signal for a peer that is gone; Rust programs ignore it.
pub const SEND_NOW: SendFlags = SendFlags::DONTWAIT;

/// Nothing: macOS has no flag against the signal for a peer that is gone; Rust programs ignore it.
pub const NO_SIGNAL: SendFlags = SendFlags::empty();

/// Nothing: macOS has no flag for that.
pub const CLOSE_ON_EXEC: RecvFlags = RecvFlags::empty();

/// Whether the peer of a connected socket has closed it.
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

/// Dissolves the connection of a datagram socket, so that everybody can send to it again.
///
/// # Errors
/// What connect(2) says.
pub fn disconnect(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::connect_unspec(fd)?)
}
