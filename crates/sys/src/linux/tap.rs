//! TAP devices through /dev/net/tun (Documentation/networking/tuntap.rst).

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};

use super::netdev::{Request, ethtool, ioctl};

/// Octets of the virtio-net header in front of every frame (virtio 1.3 5.1.6, with the number of buffers).
pub const HEADER: usize = 12;

/// The options that a TAP is opened with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Several queues, a descriptor each. It has to agree with how an existing device was made.
    pub multi_queue: bool,
    /// Only a device that is made by this: one that is there is busy.
    pub exclusive: bool,
}

const SEVERAL: Options = Options { multi_queue: true, exclusive: false };

/// Opens a queue of the TAP `name`, which is made when it is not there: a pattern such as `vm%d` lets the kernel number
/// it. Frames come without packet information and with a virtio-net header of [`HEADER`] octets; reads and writes do
/// not wait. Answers the descriptor and the device's name. Header and offloads belong to the device: a device with
/// several queues of which another program holds some ([`is_shared`]) takes [`open_another`].
///
/// # Errors
/// `InvalidInput` for a name that no interface can have; `InvalidData` when queues that others hold keep the device
/// from having what is needed; `ENOENT` without /dev/net/tun; `EPERM` without the right to it; `EBUSY` when the device
/// is in use; `EINVAL` when it is no TAP or its number of queues differs.
pub fn open(name: &str, options: Options) -> io::Result<(OwnedFd, String)> {
    let fd = open_device(c"/dev/net/tun")?;
    let name = become_queue(&fd, name, options.flags())?;
    check_flags(&fd)?;
    prepare(&fd)?;
    Ok((fd, name))
}

/// Opens one more queue of the TAP `name`, which has several and is set up already, by this process or by another.
/// Nothing is set; what the device has is read back.
///
/// # Errors
/// `InvalidData` when frames have packet information or no virtio-net header of [`HEADER`] octets; else as [`open`].
pub fn open_another(name: &str) -> io::Result<OwnedFd> {
    let fd = open_device(c"/dev/net/tun")?;
    become_queue(&fd, name, SEVERAL.flags())?;
    check_flags(&fd)?;
    let header = header_size(&fd)?;
    if header != HEADER {
        return Err(unfit(&format!(
            "another program holds queues of it, with a virtio-net header of {header} octets instead of {HEADER}"
        )));
    }
    Ok(fd)
}

/// True if a process holds queues of the TAP `name`, which has several; false when there is no such device. While it
/// holds them, the kernel leaves the device's flags as they are. The check takes a queue for a moment.
///
/// # Errors
/// As [`open`].
pub fn is_shared(name: &str) -> io::Result<bool> {
    if !super::netdev::exists(name) {
        return Ok(false);
    }
    /// `IFF_ONE_QUEUE`: it has no effect, but a device whose only queue this is has it from then on.
    const TRACE: libc::c_int = libc::IFF_ONE_QUEUE;
    let fd = open_device(c"/dev/net/tun")?;
    become_queue(&fd, name, SEVERAL.flags() | TRACE)?;
    Ok(i32::from(device(&fd)?.flags()) & TRACE == 0)
}

/// Opens a queue of the macvtap `name` with this index, through its device file. Otherwise as [`open`].
///
/// # Errors
/// `NotFound` where nothing makes device files; `EBUSY` when all its queues are in use; what open(2) says.
pub fn open_macvtap(index: u32, name: &str, options: Options) -> io::Result<OwnedFd> {
    let fd = open_device(format!("/dev/tap{index}"))?;
    become_queue(&fd, name, options.flags())?;
    prepare(&fd)?;
    Ok(fd)
}

impl Options {
    fn flags(self) -> libc::c_int {
        let several = if self.multi_queue { libc::IFF_MULTI_QUEUE } else { 0 };
        let exclusive = if self.exclusive { libc::IFF_TUN_EXCL } else { 0 };
        WANTED | several | exclusive
    }
}

/// The flags that frames need: no packet information, and the virtio-net header.
const WANTED: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

fn open_device(path: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?)
}

/// Makes an open device file a queue of the device `name`, and answers the device's name.
fn become_queue(fd: impl AsFd, name: &str, flags: libc::c_int) -> io::Result<String> {
    let mut request = Request::new(name)?;
    request.set_flags(flags as i16);
    // SAFETY: TUNSETIFF reads and writes one ifreq, which `request` is.
    unsafe { ioctl(&fd, libc::TUNSETIFF, request.as_ptr()) }?;
    Ok(request.name())
}

/// The name and the flags that the device of a queue has now.
fn device(fd: impl AsFd) -> io::Result<Request> {
    let mut request = Request::new("")?;
    // SAFETY: TUNGETIFF writes one ifreq, which `request` is.
    unsafe { ioctl(&fd, libc::TUNGETIFF, request.as_ptr()) }?;
    Ok(request)
}

/// Checks what TUNSETIFF made of the device: it changes nothing while others hold queues of it.
fn check_flags(fd: impl AsFd) -> io::Result<Request> {
    let request = device(fd)?;
    if i32::from(request.flags()) & (WANTED | libc::IFF_TUN) != WANTED {
        return Err(unfit("it was opened without IFF_NO_PI and IFF_VNET_HDR, by the program that holds it"));
    }
    Ok(request)
}

fn unfit(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

/// The name that the device of a queue has now. For a TUN too.
///
/// # Errors
/// `EBADFD` when the device is gone.
pub fn name(fd: impl AsFd) -> io::Result<String> {
    Ok(device(fd)?.name())
}

/// True if the device of a queue is up; works for a TUN too. The answer tells nothing of the namespace, so it costs one
/// system call.
pub fn is_up(fd: impl AsFd) -> bool {
    // A device takes packets while it is up; they are not waited for.
    let mut fds = [PollFd::new(&fd, PollFlags::OUT)];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..)) && fds[0].revents().contains(PollFlags::OUT)
}

/// The network namespace that the device of a queue is in now, which may be another one than it was opened in. For a
/// TUN too.
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN there; `EINVAL` or `ENOTTY` before Linux 5.2; `EBADFD` when the device is gone.
pub fn namespace(fd: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: TUNGETDEVNETNS has no argument.
    let namespace = unsafe { ioctl(&fd, libc::TUNGETDEVNETNS, std::ptr::null_mut()) }?;
    // SAFETY: the call answered a new descriptor, closed on exec, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(namespace) })
}

/// Checks that `fd`, from elsewhere, is a TAP without packet information, sets it up as [`open`] does, and answers
/// its device's name.
///
/// # Errors
/// `InvalidData` for a TUN or a device with packet information or without the virtio-net header; `EBADFD` and alike
/// when it is no TAP at all.
pub fn adopt(fd: impl AsFd) -> io::Result<String> {
    let request = device(&fd)?;
    if i32::from(request.flags()) & (WANTED | libc::IFF_TUN) != WANTED {
        return Err(unfit("not a TAP opened with IFF_NO_PI and IFF_VNET_HDR"));
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

/// Octets of the virtio-net header that the device has.
fn header_size(fd: impl AsFd) -> io::Result<usize> {
    let mut header: libc::c_int = 0;
    // SAFETY: TUNGETVNETHDRSZ writes one int.
    unsafe { ioctl(&fd, libc::TUNGETVNETHDRSZ, (&raw mut header).cast()) }?;
    Ok(usize::try_from(header).unwrap_or(0))
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

/// Which offloads the kernel leaves to the queues of the TAP `name`, whoever set them, as far as it tells: flags of
/// [`offload`], those of UDP never.
///
/// # Errors
/// `ENODEV` when there is none.
pub fn offloads(name: &str) -> io::Result<u32> {
    let checksum = ethtool::value(name, ethtool::GET_TX_CHECKSUM)? != 0;
    let segmentation = ethtool::value(name, ethtool::GET_TSO)? != 0;
    Ok(match (checksum, segmentation) {
        (false, _) => 0,
        (true, false) => offload::CHECKSUM,
        (true, true) => offload::CHECKSUM | offload::TSO4 | offload::TSO6 | offload::ECN,
    })
}

/// Keeps the device when its last descriptor is closed, or not.
///
/// # Errors
/// Errors of ioctl(2).
pub fn set_persistent(fd: impl AsFd, persistent: bool) -> io::Result<()> {
    // SAFETY: TUNSETPERSIST takes its argument by value and touches no memory.
    unsafe { ioctl(&fd, libc::TUNSETPERSIST, usize::from(persistent) as *mut libc::c_void) }.map(drop)
}

/// Gives the device a carrier, or takes it away. For a TUN too.
///
/// # Errors
/// Errors of ioctl(2).
pub fn set_carrier(fd: impl AsFd, carrier: bool) -> io::Result<()> {
    /// Of linux/if_tun.h; since Linux 5.0.
    const TUNSETCARRIER: libc::Ioctl = libc::_IOW::<libc::c_int>(b'T' as u32, 226);
    let mut carrier = libc::c_int::from(carrier);
    // SAFETY: TUNSETCARRIER reads one int.
    unsafe { ioctl(&fd, TUNSETCARRIER, (&raw mut carrier).cast()) }.map(drop)
}

/// Lets `uid` open the device too.
///
/// # Errors
/// Errors of ioctl(2).
pub fn set_owner(fd: impl AsFd, uid: u32) -> io::Result<()> {
    // SAFETY: TUNSETOWNER takes its argument by value and touches no memory.
    unsafe { ioctl(&fd, libc::TUNSETOWNER, uid as usize as *mut libc::c_void) }.map(drop)
}

/// The owner of a device that is to be nobody else's: the user of this process. A device that has neither an owner
/// nor a group lets everybody in who may open /dev/net/tun.
pub fn ours() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Lets only members of `gid` open the device; where it has an owner too, only the owner, and only as a member.
///
/// # Errors
/// Errors of ioctl(2).
pub fn set_group(fd: impl AsFd, gid: u32) -> io::Result<()> {
    // SAFETY: TUNSETGROUP takes its argument by value and touches no memory.
    unsafe { ioctl(&fd, libc::TUNSETGROUP, gid as usize as *mut libc::c_void) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_too_long_is_refused_before_anything_is_opened() {
        let error = open("sixteen-letters-", Options::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    /// Runs `test` in a network namespace of its own; skipped without the right to make one.
    fn in_a_namespace(test: impl FnOnce() + Send) {
        match crate::netns::create() {
            Ok(namespace) => crate::netns::enter(namespace, || {
                test();
                Ok(())
            })
            .unwrap(),
            Err(error) => eprintln!("SKIPPED: no network namespace can be made: {error}"),
        }
    }

    /// A queue of another program's.
    fn queue(flags: libc::c_int, header: Option<usize>) -> OwnedFd {
        let fd = open_device(c"/dev/net/tun").unwrap();
        let flags = flags | libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_MULTI_QUEUE;
        become_queue(&fd, "mq0", flags).unwrap();
        if let Some(header) = header {
            let mut header = header as libc::c_int;
            // SAFETY: TUNSETVNETHDRSZ reads one int.
            unsafe { ioctl(&fd, libc::TUNSETVNETHDRSZ, (&raw mut header).cast()) }.unwrap();
        }
        fd
    }

    #[test]
    fn what_another_program_holds_is_read_back_and_left_alone() {
        in_a_namespace(|| {
            assert!(!is_shared("mq0").unwrap());
            let plain = queue(0, None);
            assert!(is_shared("mq0").unwrap());
            assert_eq!(open_another("mq0").unwrap_err().kind(), io::ErrorKind::InvalidData);
            let several = SEVERAL;
            assert_eq!(open("mq0", several).unwrap_err().kind(), io::ErrorKind::InvalidData);
            drop(plain);

            let short = queue(libc::IFF_VNET_HDR, Some(10));
            let error = open_another("mq0").unwrap_err();
            assert!(error.to_string().contains("10 octets instead of 12"), "{error}");
            assert_eq!(header_size(&short).unwrap(), 10);
            drop(short);

            let held = queue(libc::IFF_VNET_HDR, Some(HEADER));
            set_offloads(&held, offload::CHECKSUM | offload::TSO4 | offload::TSO6).unwrap();
            let ours = open_another("mq0").unwrap();
            assert_eq!(name(&ours).unwrap(), "mq0");
            assert!(offloads("mq0").unwrap() & offload::TSO4 != 0);
            drop(held);
            assert!(is_shared("mq0").unwrap(), "our own queue counts as well");
        });
    }

    #[test]
    fn a_device_that_nobody_holds_is_not_shared() {
        in_a_namespace(|| {
            let several = SEVERAL;
            let (first, _) = open("mq0", several).unwrap();
            set_persistent(&first, true).unwrap();
            drop(first);
            assert!(!is_shared("mq0").unwrap());
            let (again, _) = open("mq0", several).unwrap();
            set_persistent(&again, false).unwrap();
            assert!(!is_up(&again));
            super::super::netdev::set_up("mq0").unwrap();
            assert!(is_up(&again));
        });
    }

    #[test]
    fn what_is_no_tap_is_not_adopted() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(adopt(&file).is_err());
    }
}
