//! utun interfaces: packets through a kernel control socket (sys/kern_control.h, net/if_utun.h).

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::io::{Errno, FdFlags, fcntl_setfd, ioctl_fionbio};

use crate::darwin::number;

/// The name of the control.
const CONTROL: &[u8] = b"com.apple.net.utun_control";
/// _IOWR('N', 3, struct ctl_info).
const CTLIOCGINFO: libc::c_ulong = number::CTLIOCGINFO;
/// The option of a connected control that has the interface's name.
const UTUN_OPT_IFNAME: libc::c_int = number::UTUN_OPT_IFNAME as libc::c_int;
/// Octets of an interface's name with its NUL.
const IFNAMSIZ: usize = 16;

/// struct ctl_info: finds the id of a control by its name.
#[repr(C)]
struct Info {
    id: u32,
    name: [u8; 96],
}

/// struct sockaddr_ctl.
#[repr(C)]
struct Address {
    len: u8,
    family: u8,
    system: u16,
    id: u32,
    unit: u32,
    reserved: [u32; 5],
}

const _: () = {
    assert!(size_of::<Info>() == 100 && offset_of!(Info, name) == 4);
    assert!(size_of::<Address>() == 32 && offset_of!(Address, family) == 1);
    assert!(
        offset_of!(Address, system) == 2 && offset_of!(Address, id) == 4 && offset_of!(Address, unit) == 8
    );
    assert!(size_of::<Info>() == size_of::<libc::ctl_info>());
    assert!(size_of::<Address>() == size_of::<libc::sockaddr_ctl>());
    assert!(libc::PF_SYSTEM == 32 && libc::SYSPROTO_CONTROL == 2 && libc::AF_SYS_CONTROL == 2);
};

/// Makes the interface `utun` and `unit` less one; unit 0 is the lowest that is free. Each packet has its family in
/// front, four octets, most significant first; reads and writes do not wait. Answers the descriptor and the interface's
/// name. The interface goes with the descriptor.
///
/// # Errors
/// `EPERM` without root, `EBUSY` when the unit is taken, `ENOENT` when the kernel has no such control.
pub fn open(unit: u32) -> io::Result<(OwnedFd, String)> {
    // SAFETY: socket takes no pointers.
    let number = unsafe { libc::socket(libc::PF_SYSTEM, libc::SOCK_DGRAM, libc::SYSPROTO_CONTROL) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and has no other owner.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&fd, FdFlags::CLOEXEC)?;

    let mut info = Info { id: 0, name: [0; 96] };
    info.name[..CONTROL.len()].copy_from_slice(CONTROL);
    // SAFETY: CTLIOCGINFO reads and writes one ctl_info, which `info` is laid out as.
    if unsafe { libc::ioctl(fd.as_raw_fd(), CTLIOCGINFO, &raw mut info) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let address = Address {
        len: size_of::<Address>() as u8,
        family: libc::AF_SYSTEM as u8,
        system: libc::AF_SYS_CONTROL as u16,
        id: info.id,
        unit,
        reserved: [0; 5],
    };
    // SAFETY: the pointer and the length describe `address`, which lives through the call.
    let result = unsafe {
        libc::connect(fd.as_raw_fd(), (&raw const address).cast(), size_of::<Address>() as libc::socklen_t)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    ioctl_fionbio(&fd, true)?;
    let name = name(&fd)?;
    Ok((fd, name))
}

fn name(fd: &OwnedFd) -> io::Result<String> {
    let mut name = [0_u8; IFNAMSIZ];
    let mut len = IFNAMSIZ as libc::socklen_t;
    // SAFETY: the pointers describe `name` and its length, which live through the call.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SYSPROTO_CONTROL,
            UTUN_OPT_IFNAME,
            name.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let octets = name.iter().take(len as usize).take_while(|octet| **octet != 0).copied();
    Ok(String::from_utf8_lossy(&octets.collect::<Vec<_>>()).into_owned())
}

/// True if an error of reading or writing says that the interface was deleted.
pub fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NODEV | Errno::NXIO | Errno::NOTCONN)
}
