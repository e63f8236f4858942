//! Interfaces by name: flags, MTU and addresses (netdevice(7)), in the network namespace of the calling thread.

mod address;
pub(super) mod ethtool;

pub use address::{add_address, remove_address};
pub use ethtool::{queues, strips_tags};

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// The request that the interface calls take, with one interface's name in it (struct ifreq).
pub(super) struct Request(libc::ifreq);

impl Request {
    pub(super) fn new(name: &str) -> io::Result<Request> {
        let octets = name.as_bytes();
        if octets.len() >= libc::IFNAMSIZ || octets.iter().any(|octet| matches!(octet, 0 | b'/')) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{name}` is no interface name: at most 15 octets, without `/`"),
            ));
        }
        let mut ifr_name = [0; libc::IFNAMSIZ];
        for (to, from) in ifr_name.iter_mut().zip(octets) {
            *to = *from as libc::c_char;
        }
        // SAFETY: ifreq is plain octets, integers and pointers; zero is a valid value of each.
        let ifr_ifru = unsafe { std::mem::zeroed() };
        Ok(Request(libc::ifreq { ifr_name, ifr_ifru }))
    }

    pub(super) fn as_ptr(&mut self) -> *mut libc::c_void {
        (&raw mut self.0).cast()
    }

    pub(super) fn name(&self) -> String {
        let octets = self.0.ifr_name.iter().take_while(|octet| **octet != 0).map(|octet| *octet as u8);
        String::from_utf8_lossy(&octets.collect::<Vec<_>>()).into_owned()
    }

    pub(super) fn flags(&self) -> i16 {
        // SAFETY: every octet of the union was initialised by `new`, and any value is a valid short.
        unsafe { self.0.ifr_ifru.ifru_flags }
    }

    pub(super) fn set_flags(&mut self, flags: i16) {
        self.0.ifr_ifru.ifru_flags = flags;
    }
}

/// # Safety
/// `argument` has to be what `request` takes: a pointer to memory of the right size, or a value.
pub(super) unsafe fn ioctl(
    fd: impl AsFd,
    request: u64,
    argument: *mut libc::c_void,
) -> io::Result<libc::c_int> {
    // SAFETY: the descriptor is borrowed and open; the caller answers for the argument.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn control() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

/// Brings the interface `name` up.
///
/// # Errors
/// `ENODEV` when there is none; `EPERM` without CAP_NET_ADMIN.
pub fn set_up(name: &str) -> io::Result<()> {
    let socket = control()?;
    let mut request = Request::new(name)?;
    // SAFETY: SIOCGIFFLAGS reads and writes one ifreq, which `request` is.
    unsafe { ioctl(&socket, libc::SIOCGIFFLAGS, request.as_ptr()) }?;
    let flags = request.flags();
    if i32::from(flags) & libc::IFF_UP != 0 {
        return Ok(());
    }
    request.set_flags(flags | libc::IFF_UP as i16);
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which `request` is.
    unsafe { ioctl(&socket, libc::SIOCSIFFLAGS, request.as_ptr()) }.map(drop)
}

/// Sets the MTU of the interface `name`, in octets without the Ethernet header.
///
/// # Errors
/// `ENODEV` when there is none; `EINVAL` for an MTU it cannot have; `EPERM` without CAP_NET_ADMIN.
pub fn set_mtu(name: &str, mtu: u32) -> io::Result<()> {
    let socket = control()?;
    let mut request = Request::new(name)?;
    request.0.ifr_ifru.ifru_mtu = mtu as libc::c_int;
    // SAFETY: SIOCSIFMTU reads one ifreq, which `request` is.
    unsafe { ioctl(&socket, libc::SIOCSIFMTU, request.as_ptr()) }.map(drop)
}

/// Sets the link address of the interface `name`, which is one of Ethernet.
///
/// # Errors
/// `ENODEV` when there is none; `EBUSY` when it cannot change while the interface is up; `EADDRNOTAVAIL` for an address
/// of a group; `EPERM` without CAP_NET_ADMIN.
pub fn set_mac(name: &str, mac: [u8; 6]) -> io::Result<()> {
    let mut data = [0; 14];
    data.iter_mut().zip(mac).for_each(|(to, from)| *to = from as libc::c_char);
    let mut request = Request::new(name)?;
    request.0.ifr_ifru.ifru_hwaddr = libc::sockaddr { sa_family: libc::ARPHRD_ETHER, sa_data: data };
    // SAFETY: SIOCSIFHWADDR reads one ifreq, which `request` is.
    unsafe { ioctl(control()?, libc::SIOCSIFHWADDR, request.as_ptr()) }.map(drop)
}

/// The MTU of the interface `name`, in octets without the Ethernet header.
///
/// # Errors
/// `ENODEV` when there is none.
pub fn mtu(name: &str) -> io::Result<u32> {
    let socket = control()?;
    let mut request = Request::new(name)?;
    // SAFETY: SIOCGIFMTU reads and writes one ifreq, which `request` is.
    unsafe { ioctl(&socket, libc::SIOCGIFMTU, request.as_ptr()) }?;
    // SAFETY: the call filled this member, and any value is a valid int.
    Ok(unsafe { request.0.ifr_ifru.ifru_mtu } as u32)
}

/// How an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Brought up.
    pub up: bool,
    /// Up and with a carrier.
    pub carrier: bool,
    /// In octets, without the Ethernet header.
    pub mtu: u32,
}

/// How the interface `name` is now.
///
/// # Errors
/// `ENODEV` when there is none.
pub fn state(name: &str) -> io::Result<State> {
    let mut request = Request::new(name)?;
    // SAFETY: SIOCGIFFLAGS reads and writes one ifreq, which `request` is.
    unsafe { ioctl(control()?, libc::SIOCGIFFLAGS, request.as_ptr()) }?;
    let up = i32::from(request.flags()) & libc::IFF_UP != 0;
    Ok(State { up, carrier: ethtool::value(name, ethtool::GET_LINK)? != 0, mtu: mtu(name)? })
}

/// True if there is an interface `name`.
pub fn exists(name: &str) -> bool {
    mtu(name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_there_and_others_are_not() {
        assert!(mtu("lo").unwrap() >= 16_384);
        assert!(!exists("no-such-name"));
        assert_eq!(mtu("no-such-name").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert_eq!(set_mac("no-such-name", [2; 6]).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn names_that_no_interface_can_have() {
        assert!(Request::new("a/b").is_err());
        assert!(Request::new("0123456789abcdef").is_err());
        assert_eq!(Request::new("0123456789abcde").unwrap().name(), "0123456789abcde");
    }
}
