//! Sockets that send frames through an interface as they are (net/ndrv.h).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketType, socket};

use super::control::{check, close_on_exec};
use crate::darwin::InterfaceName;
use crate::darwin::number::AF_NDRV;
use crate::darwin::request::RawAddress;

/// Opens a socket whose datagrams are frames for the interface `name` to send, with their Ethernet header. Writes do
/// not wait; nothing is received, since no kind of frame is asked for.
///
/// # Errors
/// `ENXIO` when there is no such interface; `EPERM` without the right to it.
pub fn sender(name: InterfaceName) -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::from_raw(u16::from(AF_NDRV) as _), SocketType::RAW, None)?;
    close_on_exec(&fd)?;
    rustix::io::ioctl_fionbio(&fd, true)?;
    let address = RawAddress::new(name);
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the pointer and the length describe `address`, which lives through the call; the descriptor is open.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) })?;
    // SAFETY: as above.
    check(unsafe { libc::connect(fd.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(fd)
}
