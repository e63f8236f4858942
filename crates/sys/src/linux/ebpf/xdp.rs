//! Programs that see frames before the host's stack does (XDP), and the sockets that they hand frames to.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::{Create, Element, MAP_UPDATE, Program, bpf, create, link, load};

/// `BPF_MAP_TYPE_XSKMAP`.
const SOCKETS: u32 = 17;
/// `BPF_PROG_TYPE_XDP` and `BPF_XDP`, the place where such a program is put.
const XDP: u32 = 6;
const PLACE: u32 = 37;
/// `BPF_F_XDP_HAS_FRAGS`: frames may be in several buffers, of which the program sees the first.
const SEVERAL_BUFFERS: u32 = 1 << 5;
/// `BPF_F_XDP_DEV_BOUND_ONLY`: for one interface, whose driver tells what it knows of a frame.
const BOUND: u32 = 1 << 6;
/// `XDP_FLAGS_DRV_MODE`: in the interface's driver.
const IN_DRIVER: u32 = 1 << 2;

/// A table of AF_XDP sockets by the number of their queue, which a program redirects frames to.
#[derive(Debug)]
pub struct Sockets(OwnedFd);

impl Sockets {
    /// An empty table for so many queues; the kernel shows it under `name`.
    ///
    /// # Errors
    /// `EPERM` without CAP_BPF; `EINVAL` where the kernel has no such sockets.
    pub fn new(name: &str, queues: u32) -> io::Result<Sockets> {
        create(&Create::new(SOCKETS, [4, 4], queues, name)).map(Sockets)
    }

    /// Puts a socket, bound to the queue, in its place.
    ///
    /// # Errors
    /// `E2BIG` for a queue beyond the table; `EOPNOTSUPP` for a socket that is not one.
    pub fn set(&self, queue: u32, socket: impl AsFd) -> io::Result<()> {
        let socket = socket.as_fd().as_raw_fd() as u32;
        let request = Element::new(&self.0, &raw const queue, &raw const socket);
        // SAFETY: MAP_UPDATE reads four octets at `key` and four at `value`, which live through the call.
        unsafe { bpf(MAP_UPDATE, &request) }.map(drop)
    }
}

impl AsFd for Sockets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Loads a program for the interface with this index, which may ask the interface's driver what it knows of a frame;
/// instructions and name as for [`load_classifier`](super::load_classifier).
///
/// # Errors
/// `EPERM` without CAP_BPF and CAP_NET_ADMIN; `EOPNOTSUPP` when the interface's driver runs none; `EACCES` for a
/// program that the kernel does not trust, or trusts with CAP_PERFMON only; `EINVAL` for one that is none, on a kernel
/// before Linux 6.3, or without such an interface.
pub fn load_xdp(name: &str, index: u32, instructions: &[u64]) -> io::Result<OwnedFd> {
    let program = Program { prog_type: XDP, prog_flags: SEVERAL_BUFFERS | BOUND, prog_ifindex: index };
    load(name, program, instructions)
}

/// Puts a program into the driver of the interface with this index, for as long as the descriptor is open.
///
/// # Errors
/// `EBUSY` or `EEXIST` when the interface has a program; `EOPNOTSUPP` when its driver takes none; `ERANGE`, `EINVAL` or
/// what else the driver says when it cannot while the interface is set as it is.
pub fn attach_xdp(program: impl AsFd, index: u32) -> io::Result<OwnedFd> {
    link(program.as_fd(), index, PLACE, IN_DRIVER)
}
