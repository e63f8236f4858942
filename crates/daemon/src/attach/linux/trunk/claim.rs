use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};

use crate::kernel::Interface;

/// Keeps an interface to this process for as long as it is held: a socket with an abstract name, which is known in the
/// network namespace of the interface, and goes with its process however that ends.
pub(super) struct Claim {
    _socket: OwnedFd,
}

impl Claim {
    /// Takes the interface, or says who is in the way.
    pub(super) fn take(interface: &Interface) -> Result<Claim, String> {
        let taken = || -> rustix::io::Result<OwnedFd> {
            let address = SocketAddrUnix::new_abstract_name(name(interface).as_bytes())?;
            let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
            bind(&socket, &address)?;
            Ok(socket)
        };
        match taken() {
            Ok(socket) => Ok(Claim { _socket: socket }),
            Err(Errno::ADDRINUSE) => Err(format!(
                "interface {} is busy, used by another vmlan (`ss -xpl` shows which has @{}); stop that one, or choose \
                 another interface",
                interface.name,
                name(interface)
            )),
            Err(error) => Err(format!("cannot claim the interface {}: {error}", interface.name)),
        }
    }
}

/// Whether a running vmlan has the interface.
pub(super) fn is_taken(interface: &Interface) -> bool {
    Claim::take(interface).is_err()
}

fn name(interface: &Interface) -> String {
    format!("vmlan-trunk-{}", interface.index)
}
