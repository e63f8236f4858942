//! The sockets below: a trait of five calls that a driver implements.

use std::net::{IpAddr, SocketAddr};

/// A version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[inline]
    pub fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// A kind of socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketKind {
    /// UDP, bound to a port of the kernel's choice on all addresses, not connected.
    Udp,
    /// Echo requests and their replies: an unprivileged ping socket, or one that behaves alike.
    ///
    /// A payload is a whole ICMP message. The socket puts an identifier of its own there, and the checksum.
    Echo,
}

/// The reason that a socket was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenError {
    /// There are no descriptors, ports or memory for another one.
    Limit,
    /// The host does not permit this kind, or has no such family.
    Unavailable,
}

/// The headers that a datagram goes out with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// Hops that it may go.
    pub hop_limit: u8,
    /// Differentiated services code point, with no ECN.
    pub class: u8,
    /// True if it must not be fragmented on its way.
    pub dont_fragment: bool,
    /// Octets of each of the datagrams that the payload is cut into; the last may be shorter.
    pub segment: Option<u16>,
}

/// The reason that a datagram was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// The socket has no room now.
    Full,
    /// It is larger than the path's MTU, and may not be fragmented; the error queue may tell the MTU.
    TooLarge,
    /// No route.
    Network,
    /// The station cannot be reached.
    Host,
    /// The host's own filters refuse it.
    Prohibited,
    /// Another error, as one that was pending: the error queue tells which.
    Other,
}

/// A datagram that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Octets of payload in the buffer, or of the whole ICMP message.
    pub len: usize,
    /// The sender; the port is 0 for echo.
    pub from: SocketAddr,
    /// Octets of each of the datagrams that the payload is a run of; the last may be shorter.
    pub segment: Option<u16>,
    /// True if the rest did not fit the buffer.
    pub truncated: bool,
}

/// The origin of an error in a socket's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This host, for the call that failed; the path's MTU if it is about that.
    Local {
        /// The path's MTU, in octets; 0 is unknown.
        mtu: u32,
    },
    /// A message of ICMP.
    Icmpv4 {
        /// The type of the message.
        kind: u8,
        /// The code of the message.
        code: u8,
        /// The MTU of "fragmentation needed".
        mtu: u32,
    },
    /// A message of ICMPv6.
    Icmpv6 {
        /// The type of the message.
        kind: u8,
        /// The code of the message.
        code: u8,
        /// The MTU of "packet too big".
        mtu: u32,
    },
}

/// An error that the host was told about a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuedError {
    /// The teller of the error.
    pub origin: Origin,
    /// The router or host that sent the message.
    pub offender: Option<IpAddr>,
    /// The destination of the datagram; the port is 0 for echo.
    pub destination: SocketAddr,
    /// Octets of the datagram's payload that came back, in the buffer; of echo, of the ICMP message.
    pub len: usize,
}

/// Datagram sockets without waiting. Each has a slot: a number below [`Settings::flows`](super::Settings::flows) that
/// is free again after it was closed.
pub trait DatagramSockets {
    /// Opens a socket in a free slot.
    ///
    /// # Errors
    /// [`OpenError`]; the slot is free then.
    fn open(&mut self, slot: u32, kind: SocketKind, family: Family) -> Result<(), OpenError>;

    /// Sends a datagram, or a run of them.
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent then.
    fn send(&mut self, slot: u32, to: SocketAddr, payload: &[u8], control: Control) -> Result<(), SendError>;

    /// Receives a datagram, or a run of them; `None` when none is there.
    fn receive(&mut self, slot: u32, buffer: &mut [u8]) -> Option<Received>;

    /// Takes an error off the socket's queue; `None` when none is there.
    fn error(&mut self, slot: u32, buffer: &mut [u8]) -> Option<QueuedError>;

    /// Closes the socket in the slot, if there is one.
    fn close(&mut self, slot: u32);
}
