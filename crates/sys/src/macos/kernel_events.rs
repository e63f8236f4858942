//! Events of interfaces that the kernel tells (sys/kern_event.h).

use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, Protocol, SocketType, socket};

use super::control::{close_on_exec, request};
use crate::darwin::number::*;

/// Opens a socket whose datagrams are messages of the network, for [`darwin::event`](crate::darwin::event) to parse.
/// Reads do not wait. When nobody reads for long the kernel drops messages.
///
/// # Errors
/// Errors of socket(2) and ioctl(2).
pub fn open() -> io::Result<OwnedFd> {
    let protocol = NonZeroU32::new(SYSPROTO_EVENT);
    let family = AddressFamily::from_raw(u16::from(PF_SYSTEM) as _);
    let fd = socket(family, SocketType::RAW, protocol.map(Protocol::from_raw))?;
    close_on_exec(&fd)?;
    rustix::io::ioctl_fionbio(&fd, true)?;
    // Vendor, class and subclass; 0 is any.
    request(&fd, SIOCSKEVFILT, &mut [KEV_VENDOR_APPLE, KEV_NETWORK_CLASS, 0u32])?;
    Ok(fd)
}
