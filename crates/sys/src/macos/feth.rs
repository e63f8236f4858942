//! Pairs of fake Ethernet interfaces: what one sends, the other receives.

use std::io;

use super::control::{driver, interface};
use crate::darwin::InterfaceName;
use crate::darwin::number::*;
use crate::darwin::request::{Fake, Interface};

/// Makes an interface, with the lowest number that is free, and answers its name.
///
/// # Errors
/// `EPERM` without the right to it; `InvalidData` when the kernel answers with no name.
pub fn create() -> io::Result<InterfaceName> {
    // Without a number the kernel gives one, so that two who make interfaces at once do not get the same.
    let mut request = Interface::new(InterfaceName::new("feth")?);
    interface(SIOCIFCREATE, &mut request)?;
    request.name().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Takes the interface `name` away.
///
/// # Errors
/// `ENXIO` when there is none; `EPERM` without the right to it.
pub fn destroy(name: InterfaceName) -> io::Result<()> {
    interface(SIOCIFDESTROY, &mut Interface::new(name))
}

/// Joins `name` and `peer` to a pair, or takes the pair of `name` apart.
///
/// # Errors
/// `ENXIO` when there is no such peer, `EINVAL` when it is no feth, `EBUSY` when one of them has another peer.
pub fn set_peer(name: InterfaceName, peer: Option<InterfaceName>) -> io::Result<()> {
    // SAFETY: the command takes a Fake, which is octets and numbers without any address, and only reads it.
    unsafe { driver(SIOCSDRVSPEC, name, IF_FAKE_S_CMD_SET_PEER, &mut Fake::peer(peer)) }
}
