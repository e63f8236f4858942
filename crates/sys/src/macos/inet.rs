//! Datagram sockets of the internet protocols.
//!
//! The system has no control message for the time to live of IPv4, so header fields are options that are set before a
//! datagram is sent; it tells no errors to sockets that are not connected, and cuts no runs.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketType, bind, ipproto, recvfrom, sendto, socket,
    sockopt,
};

use crate::inet::{Arrived, Headers, QueuedError, Version};

/// True where the kernel gives every ping socket an identifier of its own, and delivers by it. Here every ping socket
/// gets all replies.
pub const PING_HAS_IDENTIFIER: bool = false;

/// True where a ping socket of IPv4 delivers the IP header too.
pub const PING_HAS_HEADER: bool = true;

/// True where the kernel cuts a run of datagrams.
pub const SEGMENTS: bool = false;

/// Bsd/netinet6/in6.h; the libc crate has no name for it.
const IPV6_DONTFRAG: libc::c_int = 62;

fn open(version: Version, kind: SocketType, protocol: Option<Protocol>) -> io::Result<OwnedFd> {
    let family = match version {
        Version::V4 => AddressFamily::INET,
        Version::V6 => AddressFamily::INET6,
    };
    let socket = socket(family, kind, protocol)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// Makes a UDP socket take long datagrams: as long as its buffer, which is 9,216 octets at first.
///
/// # Errors
/// Errors of setsockopt(2).
pub fn prepare(fd: impl AsFd, _version: Version) -> io::Result<()> {
    Ok(sockopt::set_socket_send_buffer_size(fd, 1 << 16)?)
}

/// Opens a UDP socket that does not wait, bound to all addresses and a port of the kernel's choice, and prepares it.
///
/// # Errors
/// Errors of socket(2), setsockopt(2) and bind(2).
pub fn udp(version: Version) -> io::Result<OwnedFd> {
    let socket = open(version, SocketType::DGRAM, None)?;
    let any = match version {
        Version::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Version::V6 => {
            sockopt::set_ipv6_v6only(&socket, true)?;
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        }
    };
    bind(&socket, &SocketAddr::new(any, 0))?;
    prepare(&socket, version)?;
    Ok(socket)
}

/// Opens an unprivileged socket for echo, which does not wait.
///
/// # Errors
/// Errors of socket(2).
pub fn ping(version: Version) -> io::Result<OwnedFd> {
    open(version, SocketType::DGRAM, Some(protocol(version)))
}

/// Opens a raw socket for echo, which does not wait. Of IPv4 it delivers the IP header too.
///
/// # Errors
/// `EPERM` for all but root.
pub fn raw(version: Version) -> io::Result<OwnedFd> {
    open(version, SocketType::RAW, Some(protocol(version)))
}

fn protocol(version: Version) -> Protocol {
    match version {
        Version::V4 => ipproto::ICMP,
        Version::V6 => ipproto::ICMPV6,
    }
}

/// Sets whether datagrams may be fragmented, here and on their way.
///
/// # Errors
/// Errors of setsockopt(2).
pub fn set_dont_fragment(fd: impl AsFd, version: Version, on: bool) -> io::Result<()> {
    match version {
        Version::V4 => set_option(fd, libc::IPPROTO_IP, libc::IP_DONTFRAG, libc::c_int::from(on)),
        Version::V6 => set_option(fd, libc::IPPROTO_IPV6, IPV6_DONTFRAG, libc::c_int::from(on)),
    }
}

fn set_option(fd: impl AsFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which lives through the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(&value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends a datagram without waiting.
///
/// # Errors
/// `Unsupported` for a run of datagrams; `WouldBlock` and ENOBUFS without room; `EMSGSIZE` when it is larger than the
/// path's MTU and may not be fragmented; and others of sendto(2).
pub fn send(fd: impl AsFd, to: SocketAddr, payload: &[u8], headers: Headers) -> io::Result<()> {
    if headers.segment.is_some() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let (hop_limit, class) = (libc::c_int::from(headers.hop_limit), libc::c_int::from(headers.class));
    if to.is_ipv4() {
        set_option(&fd, libc::IPPROTO_IP, libc::IP_TTL, hop_limit)?;
        set_option(&fd, libc::IPPROTO_IP, libc::IP_TOS, class)?;
    } else {
        set_option(&fd, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, hop_limit)?;
        set_option(&fd, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, class)?;
    }
    sendto(&fd, payload, SendFlags::DONTWAIT, &to)?;
    Ok(())
}

/// Receives a datagram without waiting. One that fills the buffer is taken for a longer one.
///
/// # Errors
/// `WouldBlock` when none is there; and others of recvfrom(2).
pub fn receive(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<Arrived> {
    let room = buffer.len();
    let (len, _, from) = recvfrom(fd, buffer, RecvFlags::DONTWAIT)?;
    let from =
        from.and_then(|from| SocketAddr::try_from(from).ok()).ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok(Arrived { len, from, segment: None, truncated: len == room })
}

/// Takes an error off a socket's queue: there are none here.
///
/// # Errors
/// `WouldBlock`.
pub fn receive_error(_fd: impl AsFd, _buffer: &mut [u8]) -> io::Result<QueuedError> {
    Err(io::ErrorKind::WouldBlock.into())
}
