//! Socket options and states that rustix has no safe call for.

use std::io;
use std::os::fd::AsFd;

use rustix::net::SendFlags;

/// Without waiting. macOS has no flag against the signal for a peer that is gone; Rust programs ignore it.
pub const SEND_NOW: SendFlags = SendFlags::DONTWAIT;

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
