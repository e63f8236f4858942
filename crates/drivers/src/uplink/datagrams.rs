//! The host's sockets for guests' datagrams.
//!
//! Every socket is watched by the uplink's inner poller, edge-triggered, with [`token`]: a slot whose call of
//! [`Datagrams::ready`](vmlan_nat::Datagrams::ready) answered that there may be more is not told again, so the uplink
//! remembers it.
//!
//! Echo has a ping socket of its own, or a raw one where the host refuses that. Raw sockets, and macOS's ping sockets,
//! get the replies of all; those have an identifier by their slot, which their replies are told by.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use vmlan_frame::checksum::checksum;
use vmlan_nat::datagrams::{
    Control, DatagramSockets, Family, OpenError, Origin, QueuedError, Received, SendError, SocketKind,
};
use vmlan_sys::inet::{self, ErrorOrigin, Headers, Version};
use vmlan_sys::{Interest, Poller};

/// The mark of tokens that name a datagram socket: the two upper bits are 01. The lower 32 bits are its slot.
pub const MARK: u64 = 1 << 62;

/// The bits that tell tokens of one kind from another.
const MARKS: u64 = 0b11 << 62;

/// The token of the socket in a slot.
pub fn token(slot: u32) -> u64 {
    MARK | u64::from(slot)
}

/// The slot that a token names, if it names one.
pub fn slot(token: u64) -> Option<u32> {
    (token & MARKS == MARK).then_some(token as u32)
}

/// Readiness to read, told when it comes.
const ARRIVAL: Interest = Interest { read: true, write: false, edge: true };

/// Messages of others that one call passes over: more than a socket's buffer holds.
const OTHERS: usize = 1024;

/// Octets of an echo message's header.
const ECHO_HEADER: usize = 8;

/// Sockets by slot.
pub struct HostDatagrams {
    poller: Arc<Poller>,
    sockets: Vec<Option<Socket>>,
    /// The identifier of slot 0, of sockets that need one of ours.
    identifiers: u16,
    /// Room for an echo message with another identifier.
    scratch: Vec<u8>,
}

struct Socket {
    fd: OwnedFd,
    version: Version,
    dont_fragment: Option<bool>,
    /// The kernel cuts runs of datagrams.
    segments: bool,
    echo: Option<Echo>,
}

/// An echo socket that gets the replies of all.
#[derive(Clone, Copy)]
struct Echo {
    identifier: u16,
    /// It delivers the IP header too.
    has_header: bool,
}

impl HostDatagrams {
    /// No sockets yet, but for slots below `slots`; `poller` will watch them. `seed` is random.
    pub fn new(poller: Arc<Poller>, slots: usize, seed: u16) -> HostDatagrams {
        let sockets = std::iter::repeat_with(|| None).take(slots).collect();
        HostDatagrams { poller, sockets, identifiers: seed, scratch: Vec::new() }
    }

    /// Puts a bound UDP socket, a forward's listener, in the slot that [`vmlan_nat::Datagrams::add_forward`] gave. It
    /// must not wait.
    ///
    /// # Errors
    /// When it is no UDP socket of the family, or cannot be watched.
    pub fn adopt(&mut self, slot: u32, fd: OwnedFd, family: Family) -> io::Result<()> {
        let version = version(family);
        inet::prepare(&fd, version)?;
        self.put(slot, Socket::new(fd, version))
    }

    fn put(&mut self, slot: u32, socket: Socket) -> io::Result<()> {
        let place = self.sockets.get_mut(slot as usize).ok_or(io::ErrorKind::InvalidInput)?;
        self.poller.add(&socket.fd, token(slot), ARRIVAL)?;
        *place = Some(socket);
        Ok(())
    }

    fn open_echo(&self, slot: u32, version: Version) -> io::Result<Socket> {
        let identifier = self.identifiers.wrapping_add(slot as u16);
        let is_v4 = version == Version::V4;
        let (fd, echo) = match inet::ping(version) {
            Ok(fd) if inet::PING_HAS_IDENTIFIER => (fd, None),
            Ok(fd) => (fd, Some(Echo { identifier, has_header: is_v4 && inet::PING_HAS_HEADER })),
            Err(refused) => {
                let Ok(fd) = inet::raw(version) else { return Err(refused) };
                (fd, Some(Echo { identifier, has_header: is_v4 }))
            }
        };
        Ok(Socket { echo, ..Socket::new(fd, version) })
    }

    fn get(&mut self, slot: u32) -> Option<(&mut Socket, &mut Vec<u8>)> {
        Some((self.sockets.get_mut(slot as usize)?.as_mut()?, &mut self.scratch))
    }
}

fn version(family: Family) -> Version {
    match family {
        Family::V4 => Version::V4,
        Family::V6 => Version::V6,
    }
}

impl DatagramSockets for HostDatagrams {
    fn open(&mut self, slot: u32, kind: SocketKind, family: Family) -> Result<(), OpenError> {
        let version = version(family);
        let opened = match kind {
            SocketKind::Udp => inet::udp(version).map(|fd| Socket::new(fd, version)),
            SocketKind::Echo => self.open_echo(slot, version),
        };
        opened.and_then(|socket| self.put(slot, socket)).map_err(|error| match Errno::from_io_error(&error) {
            Some(
                Errno::ACCESS
                | Errno::PERM
                | Errno::AFNOSUPPORT
                | Errno::PROTONOSUPPORT
                | Errno::ADDRNOTAVAIL,
            ) => OpenError::Unavailable,
            _ => OpenError::Limit,
        })
    }

    fn send(&mut self, slot: u32, to: SocketAddr, payload: &[u8], control: Control) -> Result<(), SendError> {
        let (socket, scratch) = self.get(slot).ok_or(SendError::Other)?;
        if socket.dont_fragment != Some(control.dont_fragment) {
            // A kernel that cannot do it decides by itself.
            let _ = inet::set_dont_fragment(&socket.fd, socket.version, control.dont_fragment);
            socket.dont_fragment = Some(control.dont_fragment);
        }
        let payload = match socket.echo {
            Some(echo) => echo.mark(payload, scratch),
            None => payload,
        };
        socket.send(to, payload, control).map_err(|error| send_error(&error))
    }

    fn receive(&mut self, slot: u32, buffer: &mut [u8]) -> Option<Received> {
        let (socket, _) = self.get(slot)?;
        for _ in 0..OTHERS {
            let mut arrived = match inet::receive(&socket.fd, buffer) {
                Ok(arrived) => arrived,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // An error of an earlier datagram, which is in the queue too.
                Err(_) => continue,
            };
            if let Some(echo) = socket.echo {
                let Some(len) = echo.unpack(buffer, arrived.len, reply(socket.version)) else { continue };
                arrived.len = len;
            }
            return Some(Received {
                len: arrived.len,
                from: arrived.from,
                segment: arrived.segment,
                truncated: arrived.truncated,
            });
        }
        None
    }

    fn error(&mut self, slot: u32, buffer: &mut [u8]) -> Option<QueuedError> {
        let (socket, _) = self.get(slot)?;
        for _ in 0..OTHERS {
            let error = inet::receive_error(&socket.fd, buffer).ok()?;
            let origin = match error.origin {
                ErrorOrigin::Local => {
                    Origin::Local { mtu: if is_too_large(error.errno) { error.info } else { 0 } }
                }
                ErrorOrigin::Icmpv4 => Origin::Icmpv4 { kind: error.kind, code: error.code, mtu: error.info },
                ErrorOrigin::Icmpv6 => Origin::Icmpv6 { kind: error.kind, code: error.code, mtu: error.info },
                ErrorOrigin::Other => continue,
            };
            let is_own = |echo: Echo| {
                let identifier = buffer[..error.len.min(buffer.len())].get(4..6);
                identifier == Some(&echo.identifier.to_be_bytes()[..])
            };
            if error.origin == ErrorOrigin::Local || socket.echo.is_none_or(is_own) {
                let (offender, destination) = (error.offender, error.destination);
                return Some(QueuedError { origin, offender, destination, len: error.len });
            }
        }
        None
    }

    fn close(&mut self, slot: u32) {
        if let Some(socket) = self.sockets.get_mut(slot as usize).and_then(Option::take) {
            // It would be forgotten with its last descriptor anyhow.
            let _ = self.poller.remove(&socket.fd);
        }
    }
}

impl Socket {
    fn new(fd: OwnedFd, version: Version) -> Socket {
        Socket { fd, version, dont_fragment: None, segments: inet::SEGMENTS, echo: None }
    }

    /// Sends a datagram, or a run of them in one call where the kernel can.
    fn send(&mut self, to: SocketAddr, payload: &[u8], control: Control) -> io::Result<()> {
        let headers = Headers { hop_limit: control.hop_limit, class: control.class, segment: None };
        let Some(segment) = control.segment else { return inet::send(&self.fd, to, payload, headers) };
        if self.segments {
            let sent = inet::send(&self.fd, to, payload, Headers { segment: Some(segment), ..headers });
            let error = match sent {
                Err(error) => Errno::from_io_error(&error).ok_or(error)?,
                Ok(()) => return Ok(()),
            };
            match error {
                // Datagrams that are larger than the path's MTU, each of which is fragmented if it may be.
                Errno::MSGSIZE if !control.dont_fragment => {}
                // More than this kernel cuts at once, or with a path that it cannot cut for.
                Errno::INVAL | Errno::IO => {}
                Errno::NOPROTOOPT | Errno::OPNOTSUPP => self.segments = false,
                error => return Err(error.into()),
            }
        }
        let mut datagrams = payload.chunks(segment.max(1).into());
        inet::send(&self.fd, to, datagrams.next().unwrap_or_default(), headers)?;
        for datagram in datagrams {
            // The rest is lost as on any way that is full.
            if inet::send(&self.fd, to, datagram, headers).is_err() {
                break;
            }
        }
        Ok(())
    }
}

impl Echo {
    /// A copy of a request with the socket's identifier and a checksum, which the kernel makes for IPv6.
    fn mark<'s>(self, message: &[u8], scratch: &'s mut Vec<u8>) -> &'s [u8] {
        scratch.clear();
        scratch.extend_from_slice(message);
        if let Some(header) = scratch.first_chunk_mut::<ECHO_HEADER>() {
            header[2..4].fill(0);
            header[4..6].copy_from_slice(&self.identifier.to_be_bytes());
            let sum = checksum(scratch);
            scratch[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        scratch
    }

    /// Moves a reply to the front of the buffer, and answers its length; `None` if it is none, or another's.
    fn unpack(self, buffer: &mut [u8], len: usize, reply: u8) -> Option<usize> {
        let header = if self.has_header { 4 * usize::from(buffer.first()? & 0x0f) } else { 0 };
        let message = buffer[..len.min(buffer.len())].get(header..)?;
        let is_own = message.len() >= ECHO_HEADER
            && message[0] == reply
            && message[4..6] == self.identifier.to_be_bytes();
        let len = message.len();
        is_own.then(|| buffer.copy_within(header..header + len, 0)).map(|()| len)
    }
}

/// The type of an echo reply.
const fn reply(version: Version) -> u8 {
    match version {
        Version::V4 => 0,
        Version::V6 => 129,
    }
}

fn is_too_large(errno: i32) -> bool {
    Errno::from_raw_os_error(errno) == Errno::MSGSIZE
}

fn send_error(error: &io::Error) -> SendError {
    match Errno::from_io_error(error) {
        Some(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => SendError::Full,
        Some(Errno::MSGSIZE) => SendError::TooLarge,
        Some(Errno::NETUNREACH | Errno::NETDOWN | Errno::ADDRNOTAVAIL) => SendError::Network,
        Some(Errno::HOSTUNREACH | Errno::HOSTDOWN) => SendError::Host,
        Some(Errno::ACCESS | Errno::PERM) => SendError::Prohibited,
        _ => SendError::Other,
    }
}

#[cfg(test)]
mod tests;
