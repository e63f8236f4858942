//! TUN devices: packets instead of frames (Documentation/networking/tuntap.rst).

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::netdev::{Request, ioctl};

/// Opens the TUN `name`, which is made when it is not there: a pattern such as `tun%d` lets the kernel number it. With
/// `packet_information` each packet has flags and EtherType in front, two octets each; reads and writes do not wait.
/// Answers the descriptor and the device's name.
///
/// # Errors
/// `InvalidInput` for a name that no interface can have; `ENOENT` without /dev/net/tun; `EPERM` without the right to
/// it; `EBUSY` when the device is in use; `EINVAL` when it is no TUN or was made with several queues.
pub fn open(name: &str, packet_information: bool) -> io::Result<(OwnedFd, String)> {
    let fd =
        rustix::fs::open("/dev/net/tun", OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let plain = if packet_information { 0 } else { libc::IFF_NO_PI };
    let mut request = Request::new(name)?;
    request.set_flags((libc::IFF_TUN | plain) as i16);
    // SAFETY: TUNSETIFF reads and writes one ifreq, which `request` is.
    unsafe { ioctl(&fd, libc::TUNSETIFF, request.as_ptr()) }?;
    super::tap::set_offloads(&fd, 0)?;
    Ok((fd, request.name()))
}

/// True if an error of reading or writing says that the device was deleted.
pub fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::BADFD | Errno::NODEV)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_too_long_is_refused() {
        assert_eq!(open("sixteen-letters-", false).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
