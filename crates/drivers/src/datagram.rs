//! One frame a datagram: Unix and UDP sockets (QEMU `-netdev dgram`, vfkit, krunkit, VDE's data socket).
//!
//! The socket is connected to its peer: the kernel then refuses strangers, and on Linux a connected receiver queues
//! thousands of frames instead of the ten of `net.unix.max_dgram_qlen`. What strangers had queued before the
//! connection was made is told apart by its address and dropped. Nothing of length zero is ever sent, for QEMU stops
//! at it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketAddrAny};
use vmlan_frame::{Batch, Context, DropReason, Entry, Pool, Size, VlanTag, WriteBuf};
use vmlan_sys::datagrams::{self, LIMIT, Passed, Received};

use crate::parts::parts;
use crate::peer::{Message, PeerSocket};
use crate::queue::{Endpoint, Fault, Outbox, Progress, Queue, Sent, Settings, Status};

/// A socket that is connected to its peer.
pub struct Socket {
    fd: Arc<PeerSocket>,
    peer: Option<SocketAddrAny>,
    /// Readiness tells when a full peer has room again.
    tells_room: bool,
}

impl Socket {
    /// Takes a connected datagram socket. `peer` is its peer's address when others could have sent to the socket
    /// before it was connected.
    pub fn new(fd: PeerSocket, peer: Option<SocketAddrAny>) -> Socket {
        Socket { fd: Arc::new(fd), peer, tells_room: datagrams::TELLS_ROOM }
    }
}

impl Endpoint for Socket {
    fn queue(&self, settings: Settings) -> io::Result<Box<dyn Queue>> {
        let outbox = Outbox::new(&settings);
        Ok(Box::new(DatagramQueue {
            fd: self.fd.clone(),
            early: self.peer.clone().filter(|_| settings.receives),
            // One octet more than the longest, so that a longer one is told by its length on every system.
            size: Size::for_octets(settings.longest + 1).unwrap_or(Size::Large),
            receives: settings.receives,
            buffers: Vec::with_capacity(LIMIT),
            passed: Passed::default(),
            outbox: if self.tells_room { outbox } else { outbox.asking() },
        }))
    }

    fn mechanism(&self) -> String {
        datagrams::CALLS.to_owned()
    }
}

struct DatagramQueue {
    fd: Arc<PeerSocket>,
    /// The peer's address while datagrams from before the connection may be queued.
    early: Option<SocketAddrAny>,
    size: Size,
    receives: bool,
    /// Empty between calls; kept for its memory.
    buffers: Vec<WriteBuf>,
    passed: Passed,
    outbox: Outbox,
}

impl Queue for DatagramQueue {
    fn descriptor(&self, number: usize) -> Option<BorrowedFd<'_>> {
        (number == 0).then(|| self.fd.as_fd())
    }

    fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault> {
        if !self.receives {
            return Ok(Progress::Done);
        }
        if self.early.is_some() {
            return self.receive_early(cx.pool, batch);
        }
        let wanted = batch.room().min(LIMIT);
        self.buffers.extend((0..wanted).map_while(|_| cx.pool.take(self.size)));
        if self.buffers.is_empty() {
            return Ok(Progress::Done);
        }
        let mut received = [Received::default(); LIMIT];
        let result = self.fd.receive_many(&mut self.buffers, &mut received, &mut self.passed);
        let came = match &result {
            Ok(came) => *came,
            Err(_) => 0,
        };
        for (buffer, received) in self.buffers.drain(..came).zip(&received) {
            self.outbox.deliver(buffer, *received, batch);
        }
        self.buffers.clear();
        match result {
            Ok(_) => Ok(Progress::Done),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Progress::Done),
            Err(error) => Err(Fault::of_socket(error)),
        }
    }

    fn transmit(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        let (fd, tells_room) = (&self.fd, !self.outbox.asks());
        let result = self
            .outbox
            .send(cx, batch, |chunk| send(fd.as_fd(), chunk).or_else(|error| refused(error, tells_room)));
        result.map_err(|error| {
            self.outbox.abandon(cx, batch, DropReason::NoPeer);
            Fault::of_socket(error)
        })
    }

    fn status(&self) -> Status {
        self.outbox.status()
    }
}

impl DatagramQueue {
    /// Receives one by one, with addresses, until nothing from before the connection can be queued.
    fn receive_early(&mut self, pool: &Pool, batch: &mut Batch) -> Result<Progress, Fault> {
        // Strangers' datagrams count as well: nobody's queue makes a turn longer than a batch.
        for _ in 0..batch.room() {
            let Some(mut buffer) = pool.take(self.size) else {
                return Ok(Progress::Done);
            };
            match self.fd.receive(&mut buffer[..], RecvFlags::empty()) {
                Ok(Message { len, address }) if address == self.early => {
                    // The buffer is longer than any frame may be, so what fills it is too long in any case.
                    let truncated = len == buffer.len();
                    self.outbox.deliver(buffer, Received { len, truncated }, batch);
                }
                Ok(Message { len, .. }) => {
                    self.outbox.refuse(DropReason::Stranger, 1, len);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.early = None;
                    return Ok(Progress::Done);
                }
                Err(error) => return Err(Fault::of_socket(error)),
            }
        }
        Ok(Progress::Done)
    }
}

impl Outbox {
    /// Makes a frame of a received datagram.
    fn deliver(&self, mut buffer: WriteBuf, received: Received, batch: &mut Batch) {
        if received.truncated {
            return self.refuse(DropReason::Oversize, 1, received.len);
        }
        let (start, tag) = VlanTag::take(&mut buffer[..received.len]);
        let mut frame = buffer.into_frame(start..received.len);
        frame.meta.tag = tag;
        batch.push(frame);
    }
}

fn send(fd: BorrowedFd<'_>, chunk: &[Entry<'_>]) -> io::Result<Sent> {
    let mut tags = [[0; 4]; LIMIT];
    let mut pieces: [[&[u8]; 3]; LIMIT] = [[&[]; 3]; LIMIT];
    for ((entry, tag), pieces) in chunk.iter().zip(&mut tags).zip(&mut pieces) {
        *pieces = parts(entry, tag);
    }
    let taken = datagrams::send(fd, chunk.len(), |i| pieces[i])?;
    Ok(Sent { taken, ..Sent::default() })
}

/// The outcome of a call with which a socket took nothing, where full ones tell of room or where they do not.
fn refused(error: io::Error, tells_room: bool) -> io::Result<Sent> {
    match Errno::from_io_error(&error) {
        Some(Errno::AGAIN) => Ok(Sent { full: true, ..Sent::default() }),
        // The word for a full peer there; elsewhere the system has no memory.
        Some(Errno::NOBUFS) if !tells_room => Ok(Sent { full: true, ..Sent::default() }),
        Some(Errno::MSGSIZE) => Ok(Sent { refused: Some(DropReason::TooLong), ..Sent::default() }),
        Some(Errno::NOBUFS | Errno::NOMEM) => {
            Ok(Sent { refused: Some(DropReason::TransmitError), ..Sent::default() })
        }
        _ => Err(error),
    }
}

#[cfg(test)]
#[path = "datagram_tests.rs"]
mod tests;
