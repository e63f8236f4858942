//! Socket options and states that rustix has no safe call for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with};

/// Linux 6.16, include/uapi/asm-generic/socket.h; the libc crate has no name for it yet.
const SO_PASSRIGHTS: libc::c_int = 83;

/// Without waiting, and without a signal when the peer is gone.
pub const SEND_NOW: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// Without a signal when the peer is gone.
pub const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;

/// Descriptors that come along are closed on exec.
pub const CLOSE_ON_EXEC: RecvFlags = RecvFlags::CMSG_CLOEXEC;

/// True if the peer of a connected socket has closed it, or sends nothing more.
pub fn is_over(fd: impl AsFd) -> bool {
    let ends = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR;
    let mut fds = [PollFd::new(&fd, PollFlags::RDHUP)];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..)) && fds[0].revents().intersects(ends)
}

/// Makes the kernel refuse file descriptors that a peer sends along (SCM_RIGHTS), where it can (Linux 6.16).
///
/// Without it a peer makes a plain receive close what it sent, and closing can take as long as the peer likes. What
/// comes before the call is not refused, so it belongs in front of bind(2); connections inherit it from their listener.
/// Answers whether the kernel has the option.
pub fn refuse_descriptors(fd: impl AsFd) -> bool {
    let off: libc::c_int = 0;
    set_option(fd, libc::SOL_SOCKET, SO_PASSRIGHTS, &off).is_ok()
}

/// linux/un.h; the libc crate has no name for it.
const SIOCUNIXFILE: u64 = 0x89e0;

/// The file that a bound Unix socket made, as a descriptor that names it (`O_PATH`): the very file, whatever is at its
/// path by now.
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN; `ENOENT` when the socket has no path; `ENOTTY` before Linux 4.15.
pub fn file_of(fd: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is borrowed and open; SIOCUNIXFILE takes no argument and touches no memory.
    let file = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), SIOCUNIXFILE) };
    check(file)?;
    // SAFETY: the call answered a new descriptor, which is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

/// Accepts a connection that neither waits nor outlives an exec, and looks at no address: decoders of addresses panic
/// at some that peers can have (see [`crate::address`]).
///
/// # Errors
/// Errors of accept4(2).
pub fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    Ok(accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?)
}

/// Ends a TCP connection when what was sent is not acknowledged for so long (TCP_USER_TIMEOUT).
///
/// # Errors
/// Errors of setsockopt(2); every socket that is not of TCP gives an error.
pub fn set_user_timeout(fd: impl AsFd, timeout: Duration) -> io::Result<()> {
    let millis = timeout.as_millis().try_into().unwrap_or(u32::MAX);
    Ok(rustix::net::sockopt::set_tcp_user_timeout(fd, millis)?)
}

/// Dissolves the connection of a datagram socket, so that everybody can send to it again.
///
/// # Errors
/// Errors of connect(2).
pub fn disconnect(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::connect_unspec(fd)?)
}

/// Values that the kernel may read and write octet by octet.
///
/// # Safety
/// Every pattern of bits is a value of the type, and nothing in it is an address or a length that the kernel follows.
pub(super) unsafe trait Plain {}

// SAFETY: an integer.
unsafe impl Plain for libc::c_int {}
// SAFETY: an integer.
unsafe impl Plain for u32 {}

/// Sets an option of the type that `level` and `name` take.
pub(super) fn set_option<T: Plain>(
    fd: impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: there are no addresses in a plain value.
    unsafe { set_option_with_addresses(fd, level, name, value) }
}

/// The same for an option whose value has addresses in it.
///
/// # Safety
/// They are good for what the option does with them, for as long as it does.
pub(super) unsafe fn set_option_with_addresses<T>(
    fd: impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let length = size_of_val(value) as libc::socklen_t;
    // SAFETY: the pointer and the length describe `value`, which lives through the call; the kernel checks the length
    // against the option; the caller answers for addresses in it.
    check(unsafe {
        libc::setsockopt(fd.as_fd().as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length)
    })
}

/// Asks for an option of the type that `level` and `name` have.
pub(super) fn option<T: Plain>(
    fd: impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &mut T,
) -> io::Result<()> {
    let mut length = size_of_val(value) as libc::socklen_t;
    // SAFETY: the pointer and the length describe `value`, which lives through the call; the kernel writes at most that
    // many octets of it, and whatever it writes is a value.
    check(unsafe {
        libc::getsockopt(
            fd.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_mut(value).cast(),
            &raw mut length,
        )
    })
}

/// The error of a system call that answered a negative number.
pub(super) fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
