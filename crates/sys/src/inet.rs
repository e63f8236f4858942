//! Datagram sockets of the internet protocols: UDP, and echo of ICMP.

use std::net::{IpAddr, SocketAddr};

pub use crate::platform::inet::{
    PING_HAS_HEADER, PING_HAS_IDENTIFIER, SEGMENTS, ping, prepare, raw, receive, receive_error, send,
    set_dont_fragment, udp,
};

/// A version of IP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Version {
    /// The version of an address.
    pub fn of(address: IpAddr) -> Version {
        if address.is_ipv4() { Version::V4 } else { Version::V6 }
    }
}

/// The header fields of one datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Headers {
    /// Time to live, or hop limit.
    pub hop_limit: u8,
    /// Type of service, or traffic class.
    pub class: u8,
    /// Octets of each datagram that the payload is cut into (UDP_SEGMENT); only where [`SEGMENTS`] is true.
    pub segment: Option<u16>,
}

/// A datagram that came, or a run of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrived {
    /// Octets in the buffer.
    pub len: usize,
    /// The sender.
    pub from: SocketAddr,
    /// Octets of each datagram that the payload is a run of (UDP_GRO).
    pub segment: Option<u16>,
    /// True if the rest did not fit the buffer.
    pub truncated: bool,
}

/// The origin of an error that a socket was told of (`SO_EE_ORIGIN_*` of linux/errqueue.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorOrigin {
    /// This host.
    Local,
    /// A message of ICMP.
    Icmpv4,
    /// A message of ICMPv6.
    Icmpv6,
    /// Another.
    Other,
}

/// An error of an error queue, with the datagram that it is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueuedError {
    /// The error's number.
    pub errno: i32,
    /// The teller of the error.
    pub origin: ErrorOrigin,
    /// The type of the message.
    pub kind: u8,
    /// The code of the message.
    pub code: u8,
    /// The MTU, of messages about it.
    pub info: u32,
    /// The sender of the message.
    pub offender: Option<IpAddr>,
    /// The destination of the datagram.
    pub destination: SocketAddr,
    /// Octets of its payload that came back, in the buffer.
    pub len: usize,
}
