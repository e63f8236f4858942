//! Frames over a stream socket, each behind its length (QEMU `-netdev stream`, socket_vmnet, passt, libkrun).
//!
//! Receiving: one large read, and frames are cut out of it where they lie; only the beginning of a frame at the end
//! of a read is carried over. Sending: small frames are copied together, large ones gathered, and one write takes
//! them all. A frame that a write cut in two is finished before anything else is written, so frames never mix. With
//! several workers the sending half is locked for the time of a write; who finds it locked lets its frames wait.

pub mod framing;
mod gather;
mod receive;
mod send;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use rustix::net::sockopt;
use vmlan_frame::{Batch, Context, DropReason};

use crate::peer::PeerSocket;
use crate::queue::{Endpoint, Fault, Outbox, Progress, Queue, Sent, Settings, Status};
use crate::waits::Waits;
use receive::Receiver;
use send::Sender;

/// How long a connection of TCP may be quiet before its peer is asked whether it is there.
const IDLE: Duration = Duration::from_secs(15);

/// How long it is waited between such questions.
const PROBES_APART: Duration = Duration::from_secs(5);

/// Questions without an answer that end the connection.
const PROBES: u32 = 3;

/// How long the peer may leave octets, or those questions, unacknowledged, or take none at all.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// A connected stream socket.
pub struct Socket {
    shared: Arc<Shared>,
}

struct Shared {
    fd: PeerSocket,
    sender: Mutex<Sender>,
}

impl Socket {
    /// Takes a connected stream socket, Unix or TCP.
    pub fn new(fd: PeerSocket) -> Socket {
        // Fails for what is not TCP, where nothing has to be done.
        if sockopt::set_tcp_nodelay(&fd, true).is_ok() {
            notice_vanishing(&fd);
        }
        Socket { shared: Arc::new(Shared { fd, sender: Mutex::default() }) }
    }
}

/// Lets a connection of TCP end when its peer has vanished without a word.
fn notice_vanishing(fd: &PeerSocket) {
    // Every system that we run on has these. Without them a vanished guest keeps its port, as it did before.
    let _ = sockopt::set_tcp_keepidle(fd, IDLE);
    let _ = sockopt::set_tcp_keepintvl(fd, PROBES_APART);
    let _ = sockopt::set_tcp_keepcnt(fd, PROBES);
    let _ = vmlan_sys::socket::set_user_timeout(fd, UNACKNOWLEDGED);
    let _ = sockopt::set_socket_keepalive(fd, true);
}

impl Endpoint for Socket {
    fn queue(&self, settings: Settings) -> io::Result<Box<dyn Queue>> {
        Ok(Box::new(StreamQueue {
            shared: self.shared.clone(),
            receiver: settings.receives.then(Receiver::default),
            outbox: Outbox::new(&settings),
        }))
    }

    fn mechanism(&self) -> String {
        "one read, one write a batch".to_owned()
    }
}

struct StreamQueue {
    shared: Arc<Shared>,
    receiver: Option<Receiver>,
    outbox: Outbox,
}

impl Queue for StreamQueue {
    fn descriptor(&self, number: usize) -> Option<BorrowedFd<'_>> {
        (number == 0).then(|| self.shared.fd.as_fd())
    }

    fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault> {
        match &mut self.receiver {
            Some(receiver) => receiver.receive(&self.shared.fd, cx, batch),
            None => Ok(Progress::Done),
        }
    }

    fn transmit(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        let mut sender = match self.shared.sender.try_lock() {
            Ok(sender) => sender,
            Err(TryLockError::WouldBlock) => {
                self.outbox.retry(cx, batch.drain());
                return Ok(());
            }
            Err(TryLockError::Poisoned(_)) => {
                self.outbox.abandon(cx, batch, DropReason::TransmitError);
                return Err(Fault::Io(io::Error::other("a worker failed while it was sending")));
            }
        };
        let fd = self.shared.fd.as_fd();
        // What an earlier write cut in two goes first, whoever wrote it.
        let result = match sender.finish(fd) {
            Ok(true) => self.outbox.send(cx, batch, |chunk| sender.send(fd, chunk)),
            Ok(false) => self.outbox.send(cx, batch, |_| Ok(Sent { full: true, ..Sent::default() })),
            Err(error) => Err(error),
        };
        result.map_err(|error| {
            self.outbox.abandon(cx, batch, DropReason::NoPeer);
            Fault::of_socket(error)
        })
    }

    fn status(&self) -> Status {
        // The rest of a frame that was cut in two has to go out even when nothing waits behind it.
        let unfinished = self.shared.sender.try_lock().is_ok_and(|sender| !sender.is_finished());
        let status = self.outbox.status();
        let for_room = (status.waits.is_for_room() || unfinished) && !status.retry;
        Status {
            waits: Waits::of_one(for_room),
            deadline: self.receiver.as_ref().and_then(Receiver::deadline),
            ..status
        }
    }
}

#[cfg(test)]
mod tests;
