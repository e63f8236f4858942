//! The packet filter's device, /dev/bpfN (bpf(4)): a step a function, in the order in which a device is set up.
//!
//! Nothing that arrives before the filter is set may be seen, so the filter comes before the interface.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::control::{request, request_with_address, tell};
use crate::darwin::InterfaceName;
use crate::darwin::bpf::Instruction;
use crate::darwin::number::*;
use crate::darwin::request::{Interface, Program};

/// How many devices are tried. The kernel makes another one whenever the last is opened, up to 256 by default.
const DEVICES: u32 = 1024;

/// Opens the first device that nobody has open, for reading and writing; neither waits.
///
/// # Errors
/// `EBUSY` when all are in use; of the first one that is not, what open(2) says: `EACCES` without the right to it.
pub fn open() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    for number in 0..DEVICES {
        match rustix::fs::open(format!("/dev/bpf{number}"), flags, Mode::empty()) {
            Err(Errno::BUSY) => {}
            Err(Errno::NOENT) if number > 0 => break,
            result => return Ok(result?),
        }
    }
    Err(Errno::BUSY.into())
}

/// Asks for buffers of `octets` and answers how many they have: a read has to be of exactly so many. Before [`bind`].
///
/// # Errors
/// `EINVAL` after [`bind`].
pub fn set_buffer(fd: impl AsFd, octets: u32) -> io::Result<usize> {
    request(&fd, BIOCSBLEN, &mut { octets })?;
    let mut granted = 0u32;
    request(&fd, BIOCGBLEN, &mut granted)?;
    Ok(granted as usize)
}

/// Sets the filter, and forgets what was received through another one.
///
/// # Errors
/// `EINVAL` for a program that the kernel does not take.
pub fn set_filter(fd: impl AsFd, program: &[Instruction]) -> io::Result<()> {
    filter(fd, BIOCSETF, program)
}

/// Sets another filter, and keeps what was received through the last one.
///
/// # Errors
/// `EINVAL` for a program that the kernel does not take.
pub fn replace_filter(fd: impl AsFd, program: &[Instruction]) -> io::Result<()> {
    filter(fd, BIOCSETFNR, program)
}

fn filter(fd: impl AsFd, number: u64, program: &[Instruction]) -> io::Result<()> {
    let len = u32::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let mut argument = Program { len, instructions: program.as_ptr() as u64 };
    // SAFETY: both requests take a Program and only read its `len` instructions, which `program` lends for the call.
    unsafe { request_with_address(fd, number, &mut argument) }
}

/// Shows only frames that the interface receives, none that it sends: ours do not come back.
///
/// # Errors
/// Errors of ioctl(2).
pub fn hide_sent(fd: impl AsFd) -> io::Result<()> {
    request(fd, BIOCSSEESENT, &mut 0u32)
}

/// Joins the device to the interface `name`.
///
/// # Errors
/// `ENXIO` when there is none; `ENOBUFS` without memory for the buffers.
pub fn bind(fd: impl AsFd, name: InterfaceName) -> io::Result<()> {
    request(fd, BIOCSETIF, &mut Interface::new(name))
}

/// True if frames begin with an Ethernet header. Call it after [`bind`].
///
/// # Errors
/// Errors of ioctl(2).
pub fn is_ethernet(fd: impl AsFd) -> io::Result<bool> {
    let mut kind = 0u32;
    request(fd, BIOCGDLT, &mut kind)?;
    Ok(kind == DLT_EN10MB)
}

/// Leaves the source address of frames that are written as it is.
///
/// # Errors
/// Errors of ioctl(2).
pub fn keep_source(fd: impl AsFd) -> io::Result<()> {
    request(fd, BIOCSHDRCMPLT, &mut 1u32)
}

/// Makes the interface receive frames to every address, until the device is closed. After [`bind`].
///
/// # Errors
/// Errors of ioctl(2).
pub fn set_promiscuous(fd: impl AsFd) -> io::Result<()> {
    tell(fd, BIOCPROMISC)
}

/// Makes the device readable as soon as there is a frame, not when its buffer is full.
///
/// # Errors
/// Errors of ioctl(2).
pub fn set_immediate(fd: impl AsFd) -> io::Result<()> {
    request(fd, BIOCIMMEDIATE, &mut 1u32)
}

/// Spares the kernel the time of each frame, which nobody reads; answers whether it knows the request.
///
/// # Errors
/// Errors of ioctl(2), except that the kernel does not know the request.
pub fn spare_timestamps(fd: impl AsFd) -> io::Result<bool> {
    match request(fd, BIOCSNOTSTAMP, &mut 1u32) {
        Ok(()) => Ok(true),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// True if the kernel's filter language is the one we speak: major version 1, any minor version.
///
/// # Errors
/// Errors of ioctl(2).
pub fn is_version_known(fd: impl AsFd) -> io::Result<bool> {
    // Two numbers of 16 bits, the major one first in memory.
    let mut version = 0u32;
    request(fd, BIOCVERSION, &mut version)?;
    Ok(version.to_ne_bytes()[..2] == 1u16.to_ne_bytes())
}

/// Frames since the device was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Frames that passed the filter.
    pub received: u32,
    /// Those among them for which the buffers had no room.
    pub dropped: u32,
}

/// How many frames came, and how many of them were lost.
///
/// # Errors
/// Errors of ioctl(2).
pub fn statistics(fd: impl AsFd) -> io::Result<Statistics> {
    let mut counts = [0u32; 2];
    request(fd, BIOCGSTATS, &mut counts)?;
    let [received, dropped] = counts;
    Ok(Statistics { received, dropped })
}
