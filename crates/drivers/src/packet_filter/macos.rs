//! Opening the device.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use vmlan_bpf::ValidProgram;
use vmlan_frame::Sides;
use vmlan_sys::bpf as device;
use vmlan_sys::darwin::InterfaceName;
use vmlan_sys::darwin::bpf::Instruction;

use super::{BUFFER, Device, Parts, Stations};

/// A device and what was granted.
pub struct Opened {
    /// The device.
    pub device: Device,
    /// Octets of the kernel's buffer.
    pub buffer: usize,
}

/// Why a device could not be opened: which step failed, and how.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct OpenError {
    /// The step that failed, as a verb and its object.
    pub step: &'static str,
    /// The system's error.
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
    let fd = device::open().map_err(at("open a packet filter's device"))?;
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
    let (set_filter, losses) = (set_filter_of(&fd)?, losses_of(&fd)?);
    let parts = Parts { buffer, sides, stations, set_filter, losses, fd };
    Ok(Opened { device: Device::new(parts), buffer })
}

/// A function that replaces the filter, with a descriptor of its own.
fn set_filter_of(fd: &OwnedFd) -> Result<super::SetFilter, OpenError> {
    let copy = fd.try_clone().map_err(|source| OpenError { step: "copy the descriptor", source })?;
    Ok(Box::new(move |program| device::replace_filter(copy.as_fd(), &instructions(program))))
}

/// A function that counts losses, with a descriptor of its own.
fn losses_of(fd: &OwnedFd) -> Result<super::Losses, OpenError> {
    let copy = fd.try_clone().map_err(|source| OpenError { step: "copy the descriptor", source })?;
    Ok(Box::new(move || device::statistics(copy.as_fd()).map(|statistics| statistics.dropped)))
}

fn instructions(program: &ValidProgram) -> Vec<Instruction> {
    let convert = |&vmlan_bpf::Instruction { code, jt, jf, k }: &vmlan_bpf::Instruction| Instruction {
        code,
        jt,
        jf,
        k,
    };
    program.instructions().iter().map(convert).collect()
}
