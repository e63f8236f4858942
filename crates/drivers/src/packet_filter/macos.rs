//! Opening the device.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bpf::ValidProgram;
use frame::Sides;
use rustix::io::Errno;
use sys::darwin::InterfaceName;
use sys::darwin::bpf::Instruction;
use sys::{bpf as device, ndrv};

use super::{BUFFER, Device, Parts, Stations};

/// A device and what was granted.
pub struct Opened {
    /// The device.
    pub device: Device,
    /// Octets of the kernel's buffer.
    pub buffer: usize,
    /// Whether frames are sent by an NDRV socket, since the device cannot be written.
    pub is_ndrv: bool,
}

/// Why a device could not be opened: which step failed, and how.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct OpenError {
    /// What was tried.
    pub step: &'static str,
    /// What the system says.
    pub source: io::Error,
}

/// Opens a device on the interface `name`. Only frames that pass the filter of `stations` are ever seen.
///
/// # Errors
/// Which step failed.
pub fn open(
    name: InterfaceName,
    stations: Stations,
    sides: Sides,
    promiscuous: bool,
) -> Result<Opened, OpenError> {
    let at = |step| move |source| OpenError { step, source };
    let (fd, sender) = open_both(name)?;
    if !device::is_version_known(&fd).map_err(at("ask for the filter language's version"))? {
        return Err(at("use this system's filter language")(Errno::INVAL.into()));
    }
    let buffer = device::set_buffer(&fd, BUFFER as u32).map_err(at("set the buffer's length"))?;
    if buffer > BUFFER {
        return Err(at("make the buffer short enough")(Errno::INVAL.into()));
    }
    device::set_filter(&fd, &instructions(&stations.program())).map_err(at("set the filter"))?;
    device::hide_sent(&fd).map_err(at("set the direction"))?;
    device::spare_timestamps(&fd).map_err(at("leave out timestamps"))?;
    device::set_immediate(&fd).map_err(at("make reads immediate"))?;
    device::keep_source(&fd).map_err(at("keep source addresses"))?;
    device::bind(&fd, name).map_err(at("join the interface"))?;
    if !device::is_ethernet(&fd).map_err(at("ask for the kind of link"))? {
        return Err(at("use an interface that is no Ethernet")(Errno::INVAL.into()));
    }
    if promiscuous {
        device::set_promiscuous(&fd).map_err(at("make the interface promiscuous"))?;
    }
    let is_ndrv = sender.is_some();
    let parts = Parts { buffer, sender, sides, stations, set_filter: set_filter_of(&fd)?, fd };
    Ok(Opened { device: Device::new(parts), buffer, is_ndrv })
}

/// A device to read and write, or one to read and a socket to write.
fn open_both(name: InterfaceName) -> Result<(OwnedFd, Option<OwnedFd>), OpenError> {
    let at = |step| move |source| OpenError { step, source };
    match device::open(true) {
        Ok(fd) => Ok((fd, None)),
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::ACCESS | Errno::PERM)) => {
            let fd = device::open(false).map_err(at("open a packet filter's device"))?;
            let sender = ndrv::sender(name).map_err(at("open an NDRV socket"))?;
            Ok((fd, Some(sender)))
        }
        Err(error) => Err(at("open a packet filter's device")(error)),
    }
}

/// A function that replaces the filter, with a descriptor of its own.
fn set_filter_of(fd: &OwnedFd) -> Result<super::SetFilter, OpenError> {
    let copy = fd.try_clone().map_err(|source| OpenError { step: "copy the descriptor", source })?;
    Ok(Box::new(move |program| device::replace_filter(copy.as_fd(), &instructions(program))))
}

fn instructions(program: &ValidProgram) -> Vec<Instruction> {
    let convert = |&bpf::Instruction { code, jt, jf, k }: &bpf::Instruction| Instruction { code, jt, jf, k };
    program.instructions().iter().map(convert).collect()
}
