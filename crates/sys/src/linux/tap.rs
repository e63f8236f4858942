//! TAP devices through /dev/net/tun (Documentation/networking/tuntap.rst).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::netdev::{Request, ioctl};

/// Octets of the virtio-net header in front of every frame (virtio 1.3 5.1.6, with the number of buffers).
pub const HEADER: usize = 12;

/// What a TAP is opened with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Several queues, a descriptor each. It has to agree with how an existing device was made.
    pub multi_queue: bool,
    /// Only a device that is made by this: one that is there is busy.
    pub exclusive: bool,
}

/// Opens a queue of the TAP `name`, which is made when it is not there: a pattern such as `vm%d` lets the kernel number it. Frames
/// come without packet information and with a virtio-net header of [`HEADER`] octets; reads and writes do not wait.
/// Answers the descriptor and the device's name.
///
/// # Errors
/// `InvalidInput` for a name that no interface can have; `ENOENT` without /dev/net/tun; `EPERM` without the right to
/// it; `EBUSY` when the device is in use; `EINVAL` when it is no TAP or its number of queues differs.
pub fn open(name: &str, options: Options) -> io::Result<(OwnedFd, String)> {
    let fd =
        rustix::fs::open("/dev/net/tun", OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let name = become_queue(&fd, name, options)?;
    Ok((fd, name))
}

/// Opens a queue of the macvtap `name` with this index, through its device file. Otherwise as [`open`].
///
/// # Errors
/// `NotFound` where nothing makes device files; `EBUSY` when all its queues are in use; what open(2) says.
pub fn open_macvtap(index: u32, name: &str, options: Options) -> io::Result<OwnedFd> {
    let path = format!("/dev/tap{index}");
    let fd = rustix::fs::open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    become_queue(&fd, name, options)?;
    Ok(fd)
}

/// Makes an open device file a queue of the device `name`, and answers the device's name.
fn become_queue(fd: impl AsFd, name: &str, options: Options) -> io::Result<String> {
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if options.multi_queue {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    if options.exclusive {
        flags |= libc::IFF_TUN_EXCL;
    }
    let mut request = Request::new(name)?;
    request.set_flags(flags as i16);
    // SAFETY: TUNSETIFF reads and writes one ifreq, which `request` is.
    unsafe { ioctl(&fd, libc::TUNSETIFF, request.as_ptr()) }?;
    prepare(&fd)?;
    Ok(request.name())
}

/// Checks that `fd`, from elsewhere, is a TAP without packet information, sets it up as [`open`] does, and answers
/// its device's name.
///
/// # Errors
/// `InvalidData` for a TUN or a device with packet information or without the virtio-net header; `EBADFD` and alike
/// when it is no TAP at all.
pub fn adopt(fd: impl AsFd) -> io::Result<String> {
    let mut request = Request::new("")?;
    // SAFETY: TUNGETIFF writes one ifreq, which `request` is.
    unsafe { ioctl(&fd, libc::TUNGETIFF, request.as_ptr()) }?;
    let flags = i32::from(request.flags());
    let wanted = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if flags & (wanted | libc::IFF_TUN) != wanted {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not a TAP opened with IFF_NO_PI and IFF_VNET_HDR",
        ));
    }
    rustix::io::ioctl_fionbio(&fd, true)?;
    prepare(&fd)?;
    Ok(request.name())
}

/// Header size, and no offloads: the kernel finishes checksums and segments before we read.
fn prepare(fd: impl AsFd) -> io::Result<()> {
    let mut header = HEADER as libc::c_int;
    // SAFETY: TUNSETVNETHDRSZ reads one int.
    unsafe { ioctl(&fd, libc::TUNSETVNETHDRSZ, (&raw mut header).cast()) }?;
    set_offloads(fd, 0)
}

/// Offloads that a TAP may have: the `TUN_F_` flags of linux/if_tun.h.
pub mod offload {
    /// Frames whose checksum is still open; the others need it.
    pub const CHECKSUM: u32 = libc::TUN_F_CSUM;
    /// Segmentation of TCP over IPv4.
    pub const TSO4: u32 = libc::TUN_F_TSO4;
    /// Segmentation of TCP over IPv6.
    pub const TSO6: u32 = libc::TUN_F_TSO6;
    /// Segmentation of TCP with ECN bits.
    pub const ECN: u32 = libc::TUN_F_TSO_ECN;
    /// Segmentation of UDP over IPv4 into datagrams, since Linux 6.2.
    pub const USO4: u32 = libc::TUN_F_USO4;
    /// Segmentation of UDP over IPv6 into datagrams, since Linux 6.2.
    pub const USO6: u32 = libc::TUN_F_USO6;
}

/// Which offloads the kernel may leave to us: flags of [`offload`].
///
/// # Errors
/// `EINVAL` for a flag that the kernel does not know.
pub fn set_offloads(fd: impl AsFd, flags: u32) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value and touches no memory.
    unsafe { ioctl(&fd, libc::TUNSETOFFLOAD, flags as usize as *mut libc::c_void) }.map(drop)
}

/// Keeps the device when its last descriptor is closed, or not.
///
/// # Errors
/// What ioctl(2) says.
pub fn set_persistent(fd: impl AsFd, persistent: bool) -> io::Result<()> {
    // SAFETY: TUNSETPERSIST takes its argument by value and touches no memory.
    unsafe { ioctl(&fd, libc::TUNSETPERSIST, usize::from(persistent) as *mut libc::c_void) }.map(drop)
}

/// Lets `uid` open the device too.
///
/// # Errors
/// What ioctl(2) says.
pub fn set_owner(fd: impl AsFd, uid: u32) -> io::Result<()> {
    // SAFETY: TUNSETOWNER takes its argument by value and touches no memory.
    unsafe { ioctl(&fd, libc::TUNSETOWNER, uid as usize as *mut libc::c_void) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_too_long_is_refused_before_anything_is_opened() {
        let error = open("sixteen-letters-", Options::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn what_is_no_tap_is_not_adopted() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(adopt(&file).is_err());
    }
}
