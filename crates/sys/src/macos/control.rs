//! Requests to the kernel: ioctl(2) with checked arguments.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketType, socket};

use crate::darwin::InterfaceName;
use crate::darwin::number::argument_octets;
use crate::darwin::request::{Driver, Interface};

/// An argument that the kernel may read and write as octets.
///
/// # Safety
/// Any octets are a value of the type, it has no padding, and it holds no address of other memory.
pub(super) unsafe trait Plain {}

// SAFETY: a number.
unsafe impl Plain for u32 {}
// SAFETY: numbers.
unsafe impl<const N: usize> Plain for [u32; N] {}
// SAFETY: `repr(C)`, of octets only; the requests that are made with it put no address into its value.
unsafe impl Plain for Interface {}

/// A request that takes no argument.
pub(super) fn tell(fd: impl AsFd, number: u64) -> io::Result<()> {
    assert_eq!(argument_octets(number), 0, "the request takes an argument");
    // SAFETY: the number says that the kernel copies nothing; the descriptor is borrowed and open.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), number as libc::c_ulong) })
}

/// A request that copies `argument` in, out, or both.
///
/// # Panics
/// When `number` is of a request with an argument of another size.
pub(super) fn request<T: Plain>(fd: impl AsFd, number: u64, argument: &mut T) -> io::Result<()> {
    assert_eq!(argument_octets(number), size_of::<T>(), "the request takes an argument of another size");
    // SAFETY: the kernel copies as many octets as the number says, which are those of `argument`; any octets that it
    // writes are a value of it, and none is an address. The descriptor is borrowed and open.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), number as libc::c_ulong, &raw mut *argument) })
}

/// A request whose argument holds an address.
///
/// # Safety
/// `argument` is what the request takes, and what it points to is memory that the kernel may read, and write where
/// the request does, for as long as the call lasts.
pub(super) unsafe fn request_with_address<T>(fd: impl AsFd, number: u64, argument: &mut T) -> io::Result<()> {
    assert_eq!(argument_octets(number), size_of::<T>(), "the request takes an argument of another size");
    // SAFETY: the kernel copies as many octets as the number says, which are those of `argument`; the caller answers
    // for what it points to. The descriptor is borrowed and open.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), number as libc::c_ulong, &raw mut *argument) })
}

/// A request about the interface `argument` names.
pub(super) fn interface(number: u64, argument: &mut Interface) -> io::Result<()> {
    request(any_socket()?, number, argument)
}

/// A command to the driver of the interface `name`, with `data` as its argument.
///
/// # Safety
/// `data` is what the command takes: any octets that the kernel writes are a value of it, and what it points to, if
/// anything, is memory that the kernel may read and write for as long as the call lasts.
pub(super) unsafe fn driver<T>(
    number: u64,
    name: InterfaceName,
    command: u64,
    data: &mut T,
) -> io::Result<()> {
    let len = size_of::<T>() as u64;
    let mut driver = Driver { name: *name.octets(), command, len, data: &raw mut *data as u64 };
    // SAFETY: the request takes a Driver, which points to `data` and tells its size; the caller answers for the rest.
    unsafe { request_with_address(any_socket()?, number, &mut driver) }
}

/// A socket for requests that are about no socket.
fn any_socket() -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    close_on_exec(&socket)?;
    Ok(socket)
}

/// Sockets are not made so: macOS has no flag for it.
pub(super) fn close_on_exec(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?)
}

pub(super) fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
