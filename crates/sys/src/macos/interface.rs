//! Interfaces by name: flags, MTU and MAC address.

use std::io;

use super::control::interface;
use crate::darwin::InterfaceName;
use crate::darwin::number::*;
use crate::darwin::request::Interface;

/// The flag of an interface that has a carrier (IFF_RUNNING).
pub const RUNNING: i16 = libc::IFF_RUNNING as i16;

/// The flags of the interface `name` (IFF_UP and others).
///
/// # Errors
/// `ENXIO` when there is none.
pub fn flags(name: InterfaceName) -> io::Result<i16> {
    let mut request = Interface::new(name);
    interface(SIOCGIFFLAGS, &mut request)?;
    Ok(request.flags())
}

/// Brings the interface `name` up.
///
/// # Errors
/// `ENXIO` when there is none; `EPERM` without the right to it.
pub fn set_up(name: InterfaceName) -> io::Result<()> {
    let flags = flags(name)?;
    if flags & libc::IFF_UP as i16 != 0 {
        return Ok(());
    }
    interface(SIOCSIFFLAGS, &mut Interface::new(name).with_flags(flags | libc::IFF_UP as i16))
}

/// The MTU of the interface `name`, in octets without the Ethernet header.
///
/// # Errors
/// `ENXIO` when there is none.
pub fn mtu(name: InterfaceName) -> io::Result<u32> {
    let mut request = Interface::new(name);
    interface(SIOCGIFMTU, &mut request)?;
    // The kernel knows no negative MTU.
    Ok(request.number().max(0) as u32)
}

/// Sets the MTU of the interface `name`, in octets without the Ethernet header.
///
/// # Errors
/// `ENXIO` when there is none; `EINVAL` for an MTU that it cannot have; `EPERM` without the right to it.
pub fn set_mtu(name: InterfaceName, mtu: u32) -> io::Result<()> {
    let mtu = i32::try_from(mtu).map_err(|_| rustix::io::Errno::INVAL)?;
    interface(SIOCSIFMTU, &mut Interface::new(name).with_number(mtu))
}

/// Sets the MAC address of the interface `name`.
///
/// # Errors
/// `ENXIO` when there is none; `EPERM` without the right to it.
pub fn set_mac(name: InterfaceName, mac: [u8; 6]) -> io::Result<()> {
    interface(SIOCSIFLLADDR, &mut Interface::new(name).with_mac(mac))
}
