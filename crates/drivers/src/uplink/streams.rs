//! The host's sockets of TCP flows.

use std::io::{self, IoSlice, Read as _};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use vmlan_nat::tcp::{Failure, FlowId, GuestEnd, Read, Sockets, Target};
use vmlan_sys::{Interest, Poller};

/// The taker of a guest's connection to the network's DNS; false when it takes no more. It must not wait.
pub type StreamTaker = Arc<dyn Fn(UnixStream, GuestEnd) -> bool + Send + Sync>;

/// Stream sockets by flow.
pub(super) struct HostStreams {
    poller: Arc<Poller>,
    slots: Vec<Option<(u32, Socket)>>,
    open: usize,
    /// Sockets that may be open.
    most: usize,
    /// The taker of connections to the network's DNS.
    names: StreamTaker,
}

/// Bits of a token that tell whose it is; the rest is its owner's.
pub(super) const KIND: u64 = 0b11 << 62;
/// Sockets of flows: generation and slot.
pub(super) const FLOW: u64 = 0;

fn token(flow: FlowId) -> u64 {
    FLOW | u64::from(flow.generation & (u32::MAX >> 2)) << 32 | u64::from(flow.slot)
}

impl HostStreams {
    pub(super) fn new(poller: Arc<Poller>, most: usize, names: StreamTaker) -> HostStreams {
        HostStreams { poller, slots: Vec::new(), open: 0, most, names }
    }

    /// The flow of a token of this kind, if its socket is still there.
    pub(super) fn flow_of(&self, token: u64) -> Option<FlowId> {
        let slot = token as u32;
        let (generation, _) = self.slots.get(slot as usize)?.as_ref()?;
        let flow = FlowId { slot, generation: *generation };
        (self::token(flow) == token).then_some(flow)
    }

    /// True if there is room for one more.
    pub(super) fn has_room(&self) -> bool {
        self.open < self.most
    }

    /// Takes a socket that was accepted.
    pub(super) fn adopt(&mut self, flow: FlowId, socket: Socket) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        // What is refused here is a Unix socket, which has no such thing.
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_keepalive(true);
        self.keep(flow, socket)
    }

    fn keep(&mut self, flow: FlowId, socket: Socket) -> io::Result<()> {
        self.poller.add(&socket, token(flow), Interest { read: true, write: true, edge: true })?;
        let slot = flow.slot as usize;
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        self.slots[slot] = Some((flow.generation, socket));
        self.open += 1;
        Ok(())
    }

    fn socket(&self, flow: FlowId) -> Option<&Socket> {
        let (generation, socket) = self.slots.get(flow.slot as usize)?.as_ref()?;
        (*generation == flow.generation).then_some(socket)
    }

    fn connect_to(&mut self, flow: FlowId, to: SocketAddr) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_keepalive(true)?;
        // Urgent data stays where it is in the stream.
        socket.set_out_of_band_inline(true)?;
        begin(socket.connect(&SockAddr::from(to)))?;
        self.keep(flow, socket)
    }

    fn connect_unix(&mut self, flow: FlowId, path: &Path) -> io::Result<()> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        begin(socket.connect(&SockAddr::unix(path)?))?;
        self.keep(flow, socket)
    }

    fn connect_names(&mut self, flow: FlowId, guest: GuestEnd) -> io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        if !(self.names)(theirs, guest) {
            return Err(Errno::CONNREFUSED.into());
        }
        self.keep(flow, Socket::from(OwnedFd::from(ours)))
    }
}

/// A connection that goes on is no failure.
fn begin(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => Ok(()),
        result => result,
    }
}

fn failure(error: &io::Error) -> Failure {
    match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED | Errno::NOENT | Errno::AGAIN) => Failure::Refused,
        Some(Errno::NETUNREACH | Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT) => Failure::NetworkUnreachable,
        Some(Errno::HOSTUNREACH | Errno::TIMEDOUT | Errno::HOSTDOWN) => Failure::HostUnreachable,
        Some(Errno::ACCESS | Errno::PERM) => Failure::Denied,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::NOSPC) => {
            Failure::NoDescriptor
        }
        _ => Failure::Reset,
    }
}

impl Sockets for HostStreams {
    fn connect(&mut self, flow: FlowId, guest: GuestEnd, to: &Target<'_>) -> Result<(), Failure> {
        if !self.has_room() {
            return Err(Failure::NoDescriptor);
        }
        let result = match *to {
            Target::Address(to) => self.connect_to(flow, to),
            Target::Unix(path) => self.connect_unix(flow, path),
            Target::Names => self.connect_names(flow, guest),
        };
        result.map_err(|error| failure(&error))
    }

    fn send(&mut self, flow: FlowId, slices: &[IoSlice<'_>]) -> Result<usize, Failure> {
        let Some(socket) = self.socket(flow) else { return Err(Failure::Reset) };
        // SIGPIPE is ignored by the runtime.
        loop {
            match socket.send_vectored(slices) {
                Ok(sent) => return Ok(sent),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(0),
                    // No readiness would follow.
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(failure(&error)),
                },
            }
        }
    }

    fn receive(&mut self, flow: FlowId, buffer: &mut [u8]) -> Read {
        let Some(mut socket) = self.socket(flow) else { return Read::Nothing };
        loop {
            match socket.read(buffer) {
                Ok(0) => return Read::End,
                Ok(len) => return Read::Octets(len),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Read::Nothing,
                    io::ErrorKind::Interrupted => {}
                    _ => return Read::Failed(failure(&error)),
                },
            }
        }
    }

    fn shutdown(&mut self, flow: FlowId) {
        if let Some(socket) = self.socket(flow) {
            // Fails only when the other side is gone, which reading tells.
            let _ = socket.shutdown(Shutdown::Write);
        }
    }

    fn close(&mut self, flow: FlowId, reset: bool) {
        let Some(slot) = self.slots.get_mut(flow.slot as usize) else { return };
        if slot.as_ref().is_none_or(|(generation, _)| *generation != flow.generation) {
            return;
        }
        if let Some((_, socket)) = slot.take() {
            self.open -= 1;
            if reset {
                set_reset(&socket);
            }
        }
    }

    fn error(&mut self, flow: FlowId) -> Option<Failure> {
        match self.socket(flow)?.take_error() {
            Ok(None) => None,
            Ok(Some(error)) | Err(error) => Some(failure(&error)),
        }
    }
}

/// Has the other side see a reset when the socket is closed.
pub(super) fn set_reset(socket: &Socket) {
    let _ = socket.set_linger(Some(Duration::ZERO));
}
