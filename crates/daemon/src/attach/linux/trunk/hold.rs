//! How an interface is held: by a socket with an abstract name, which is known in the network namespace of the
//! interface, and goes with its process.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};

use crate::attach::claim::Hindrance;
use crate::kernel::Interface;

/// Holds the interface, if nobody else does.
pub(super) fn hold(interface: &Interface) -> Result<OwnedFd, Hindrance> {
    let name = format!("vmlan-trunk-{}", interface.index);
    let taken = || -> rustix::io::Result<OwnedFd> {
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes())?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &address)?;
        Ok(socket)
    };
    taken().map_err(|error| match error {
        Errno::ADDRINUSE => Hindrance::Taken(format!("`ss -xpl` shows which has @{name}")),
        error => Hindrance::Failed(error.into()),
    })
}

/// Whether a running vmlan holds the interface.
pub(super) fn is_held(interface: &Interface) -> bool {
    hold(interface).is_err()
}
