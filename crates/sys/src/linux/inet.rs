//! Datagram sockets of the internet protocols (udp(7), ip(7), ipv6(7), icmp(7)).

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;

use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};

use super::socket::set_option;
use crate::inet::{Arrived, ErrorOrigin, Headers, QueuedError, Version};

/// True where the kernel gives every ping socket an identifier of its own, and delivers by it.
pub const PING_HAS_IDENTIFIER: bool = true;

/// True where a ping socket of IPv4 delivers the IP header too.
pub const PING_HAS_HEADER: bool = false;

/// True where the kernel cuts a run of datagrams.
pub const SEGMENTS: bool = true;

/// linux/icmp.h; a set bit of the mask is a type that is not delivered.
const ICMP_FILTER: libc::c_int = 1;
const ICMPV6_FILTER: libc::c_int = 1;
const SOL_RAW: libc::c_int = 255;
const ECHO_REPLY_V4: u32 = 0;
const ECHO_REPLY_V6: usize = 129;

// SAFETY: integers.
unsafe impl super::socket::Plain for [u32; 8] {}

fn family(version: Version) -> AddressFamily {
    match version {
        Version::V4 => AddressFamily::INET,
        Version::V6 => AddressFamily::INET6,
    }
}

fn open(version: Version, kind: SocketType, protocol: Option<Protocol>) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family(version), kind, flags, protocol)?;
    if version == Version::V6 && kind != SocketType::RAW {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    keep_errors(&socket, version)?;
    Ok(socket)
}

fn keep_errors(fd: impl AsFd, version: Version) -> io::Result<()> {
    let on: libc::c_int = 1;
    match version {
        Version::V4 => set_option(fd, libc::SOL_IP, libc::IP_RECVERR, &on),
        Version::V6 => set_option(fd, libc::SOL_IPV6, libc::IPV6_RECVERR, &on),
    }
}

/// Makes a UDP socket keep what errors tell it, and take runs of datagrams as one where the kernel can (UDP_GRO,
/// Linux 5.0).
///
/// # Errors
/// Errors of setsockopt(2).
pub fn prepare(fd: impl AsFd, version: Version) -> io::Result<()> {
    keep_errors(&fd, version)?;
    let on: libc::c_int = 1;
    // An older kernel gives datagrams one by one.
    let _ = set_option(&fd, libc::SOL_UDP, libc::UDP_GRO, &on);
    Ok(())
}

/// Opens a UDP socket that does not wait, bound to all addresses and a port of the kernel's choice, and prepares it.
///
/// # Errors
/// Errors of socket(2), setsockopt(2) and bind(2).
pub fn udp(version: Version) -> io::Result<OwnedFd> {
    let socket = open(version, SocketType::DGRAM, None)?;
    let any = match version {
        Version::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Version::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    bind(&socket, &SocketAddr::new(any, 0))?;
    prepare(&socket, version)?;
    Ok(socket)
}

/// Opens an unprivileged socket for echo, which does not wait and keeps what errors tell it.
///
/// # Errors
/// `EACCES` for groups outside of the sysctl `net.ipv4.ping_group_range`, which counts for both families.
pub fn ping(version: Version) -> io::Result<OwnedFd> {
    open(version, SocketType::DGRAM, Some(protocol(version)))
}

/// Opens a raw socket for echo, which does not wait, keeps what errors tell it, and gets replies only. Of IPv4 it
/// delivers the IP header too.
///
/// # Errors
/// `EPERM` without CAP_NET_RAW.
pub fn raw(version: Version) -> io::Result<OwnedFd> {
    let socket = open(version, SocketType::RAW, Some(protocol(version)))?;
    match version {
        Version::V4 => set_option(&socket, SOL_RAW, ICMP_FILTER, &!(1u32 << ECHO_REPLY_V4))?,
        Version::V6 => {
            let mut blocked = [u32::MAX; 8];
            blocked[ECHO_REPLY_V6 / 32] &= !(1 << (ECHO_REPLY_V6 % 32));
            set_option(&socket, libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &blocked)?;
        }
    }
    Ok(socket)
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
        Version::V4 => {
            let how = if on { libc::IP_PMTUDISC_DO } else { libc::IP_PMTUDISC_DONT };
            set_option(fd, libc::SOL_IP, libc::IP_MTU_DISCOVER, &how)
        }
        Version::V6 => {
            let how = if on { libc::IPV6_PMTUDISC_DO } else { libc::IPV6_PMTUDISC_WANT };
            set_option(&fd, libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, &how)?;
            set_option(&fd, libc::SOL_IPV6, libc::IPV6_DONTFRAG, &libc::c_int::from(on))
        }
    }
}

/// Room for control messages, aligned as `cmsghdr` is.
type Control = [u64; 32];

/// Room for an address of either family.
#[repr(C)]
union Address {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Address {
    fn none() -> Address {
        // SAFETY: an address is integers only, for which zero is a value.
        Address { v6: unsafe { mem::zeroed() } }
    }

    fn of(address: SocketAddr) -> (Address, libc::socklen_t) {
        match address {
            SocketAddr::V4(address) => (Address { v4: v4(&address) }, size_of::<libc::sockaddr_in>() as _),
            SocketAddr::V6(address) => (Address { v6: v6(&address) }, size_of::<libc::sockaddr_in6>() as _),
        }
    }

    /// The address, if the kernel wrote one of a family that is known.
    fn get(&self, len: usize) -> Option<SocketAddr> {
        // SAFETY: every variant is integers only, all of which are initialized: [`Address::none`] has zeroed them.
        let (family, v4, v6) = unsafe { (self.family, self.v4, self.v6) };
        match libc::c_int::from(family) {
            libc::AF_INET if len >= size_of::<libc::sockaddr_in>() => Some(from_v4(&v4)),
            libc::AF_INET6 if len >= size_of::<libc::sockaddr_in6>() => Some(from_v6(&v6)),
            _ => None,
        }
    }
}

fn v4(address: &SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}

fn v6(address: &SocketAddrV6) -> libc::sockaddr_in6 {
    libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as libc::sa_family_t,
        sin6_port: address.port().to_be(),
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
        sin6_scope_id: address.scope_id(),
    }
}

fn from_v4(address: &libc::sockaddr_in) -> SocketAddr {
    let ip = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
    SocketAddr::new(ip.into(), u16::from_be(address.sin_port))
}

fn from_v6(address: &libc::sockaddr_in6) -> SocketAddr {
    let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
    SocketAddrV6::new(ip, u16::from_be(address.sin6_port), 0, address.sin6_scope_id).into()
}

fn header(name: &mut Address, iovec: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: integers and pointers, for which zero is a value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_name = ptr::from_mut(name).cast();
    header.msg_namelen = size_of::<Address>() as _;
    header.msg_iov = iovec;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of::<Control>() as _;
    header
}

/// Appends a control message of plain integers at `at`, and moves `at` on.
fn push<T: Copy>(control: &mut Control, at: &mut usize, (level, kind): (libc::c_int, libc::c_int), value: T) {
    // SAFETY: arithmetic.
    let (len, space, data) = unsafe {
        let size = size_of::<T>() as u32;
        (libc::CMSG_LEN(size), libc::CMSG_SPACE(size) as usize, libc::CMSG_LEN(0) as usize)
    };
    assert!(*at + space <= size_of::<Control>(), "there is room for all control messages");
    // SAFETY: the message's header and value lie within `control`, as was just checked; `at` is a multiple of the
    // alignment, as sums of CMSG_SPACE are, and the value is written unaligned.
    unsafe {
        let message = control.as_mut_ptr().cast::<u8>().add(*at);
        let header = message.cast::<libc::cmsghdr>();
        (*header).cmsg_len = len as _;
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        message.add(data).cast::<T>().write_unaligned(value);
    }
    *at += space;
}

/// Sends a datagram, or a run of them, without waiting.
///
/// # Errors
/// `WouldBlock` without room; `EMSGSIZE` when it is larger than the path's MTU and may not be fragmented; an error that
/// an earlier datagram had; and others of sendmsg(2).
pub fn send(fd: impl AsFd, to: SocketAddr, payload: &[u8], headers: Headers) -> io::Result<()> {
    let (mut name, name_len) = Address::of(to);
    let mut iovec = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    let mut control: Control = [0; 32];
    let mut used = 0;
    let (hop_limit, class) = (libc::c_int::from(headers.hop_limit), libc::c_int::from(headers.class));
    if to.is_ipv4() {
        push(&mut control, &mut used, (libc::SOL_IP, libc::IP_TTL), hop_limit);
        push(&mut control, &mut used, (libc::SOL_IP, libc::IP_TOS), class);
    } else {
        push(&mut control, &mut used, (libc::SOL_IPV6, libc::IPV6_HOPLIMIT), hop_limit);
        push(&mut control, &mut used, (libc::SOL_IPV6, libc::IPV6_TCLASS), class);
    }
    if let Some(segment) = headers.segment {
        push(&mut control, &mut used, (libc::SOL_UDP, libc::UDP_SEGMENT), segment);
    }
    let mut header = header(&mut name, &mut iovec, &mut control);
    header.msg_namelen = name_len;
    header.msg_controllen = used as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the header points to an address, an iovec over `payload` and control messages, all of which live through
    // the call, with their lengths; sendmsg only reads them.
    let sent = unsafe { libc::sendmsg(fd.as_fd().as_raw_fd(), &raw const header, flags) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives a datagram, or a run of them, without waiting.
///
/// # Errors
/// `WouldBlock` when none is there; an error that an earlier datagram had; and others of recvmsg(2).
pub fn receive(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<Arrived> {
    let mut name = Address::none();
    let mut segment = None;
    let (len, flags, name_len) = receive_message(fd, buffer, &mut name, 0, |level, kind, value| {
        if (level, kind) == (libc::SOL_UDP, libc::UDP_GRO) {
            let size = value.first_chunk().map(|octets| libc::c_int::from_ne_bytes(*octets));
            segment = size.and_then(|size| u16::try_from(size).ok());
        }
    })?;
    let from = name.get(name_len).ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok(Arrived { len, from, segment, truncated: flags & libc::MSG_TRUNC != 0 })
}

/// Takes an error off a socket's queue, without waiting; what came back of the datagram goes to `buffer`.
///
/// # Errors
/// `WouldBlock` when none is there; and others of recvmsg(2).
pub fn receive_error(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<QueuedError> {
    let mut name = Address::none();
    let mut found = None;
    let (len, _, name_len) =
        receive_message(fd, buffer, &mut name, libc::MSG_ERRQUEUE, |level, kind, value| {
            if matches!(
                (level, kind),
                (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)
            ) {
                found = extended_error(value);
            }
        })?;
    let destination = name.get(name_len).ok_or(io::ErrorKind::AddrNotAvailable)?;
    let (error, offender) = found.ok_or(io::ErrorKind::InvalidData)?;
    let origin = match error.ee_origin {
        libc::SO_EE_ORIGIN_LOCAL => ErrorOrigin::Local,
        libc::SO_EE_ORIGIN_ICMP => ErrorOrigin::Icmpv4,
        libc::SO_EE_ORIGIN_ICMP6 => ErrorOrigin::Icmpv6,
        _ => ErrorOrigin::Other,
    };
    Ok(QueuedError {
        errno: error.ee_errno as i32,
        origin,
        kind: error.ee_type,
        code: error.ee_code,
        info: error.ee_info,
        offender,
        destination,
        len,
    })
}

/// Reads a `sock_extended_err` and the address behind it (`SO_EE_OFFENDER`).
fn extended_error(value: &[u8]) -> Option<(libc::sock_extended_err, Option<IpAddr>)> {
    let (error, offender) = value.split_at_checked(size_of::<libc::sock_extended_err>())?;
    // SAFETY: the slice is as long as the struct, which is integers only, and is read unaligned.
    let error = unsafe { error.as_ptr().cast::<libc::sock_extended_err>().read_unaligned() };
    let mut address = Address::none();
    let len = offender.len().min(size_of::<Address>());
    // SAFETY: both sides are at least `len` octets long and do not overlap; every pattern of bits is an address.
    unsafe { ptr::copy_nonoverlapping(offender.as_ptr(), ptr::from_mut(&mut address).cast::<u8>(), len) };
    Some((error, address.get(len).map(|address| address.ip())))
}

/// Receives into `buffer`, and shows `look` every control message: level, type and value. Answers the octets, the flags
/// of the message and the length of its address.
fn receive_message(
    fd: impl AsFd,
    buffer: &mut [u8],
    name: &mut Address,
    flags: libc::c_int,
    mut look: impl FnMut(libc::c_int, libc::c_int, &[u8]),
) -> io::Result<(usize, libc::c_int, usize)> {
    let mut iovec = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control: Control = [0; 32];
    let mut header = header(name, &mut iovec, &mut control);
    let flags = flags | libc::MSG_DONTWAIT;
    // SAFETY: the header points to room for an address, an iovec over `buffer` and room for control messages, all of
    // which live through the call, with their lengths; the kernel writes no more than fits.
    let received = unsafe { libc::recvmsg(fd.as_fd().as_raw_fd(), &raw mut header, flags) };
    let Ok(len) = usize::try_from(received) else { return Err(io::Error::last_os_error()) };
    // SAFETY: the kernel has filled the header just now: `msg_control` and `msg_controllen` describe whole control
    // messages in `control`, aligned as they have to be; each one's value is `cmsg_len` less its header's octets long.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&raw const header);
        while let Some(found) = message.as_ref() {
            let len = found.cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
            let value = std::slice::from_raw_parts(libc::CMSG_DATA(message), len);
            look(found.cmsg_level, found.cmsg_type, value);
            message = libc::CMSG_NXTHDR(&raw const header, message);
        }
    }
    Ok((len, header.msg_flags, header.msg_namelen as usize))
}

#[cfg(test)]
mod tests;
