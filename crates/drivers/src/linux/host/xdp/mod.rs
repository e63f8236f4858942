//! The wire's side of an interface by AF_XDP, beside a packet socket.
//!
//! Theory of operation. A program of XDP on the interface ([`divert`]) hands frames for guests to the socket of the
//! queue that they came in by, before the host's stack has any work with them. What it does not take, groups and TCP
//! above all, comes by the packet socket as it would without the program, and no frame comes by both: what was handed
//! to a socket goes nowhere else. On the way out frames go by the sockets, but for TCP, what has to be cut, and what
//! finds no room or is too long: that goes by the packet socket, where the kernel or the interface does the work. So a
//! flow has one way, and its order stays.
//!
//! Each queue of the interface belongs to one worker, with its socket and all of that socket's memory. The packet
//! socket has one receiver. Octets are copied between chunks and the worker's buffers: a chunk goes back to the
//! interface at once, however long its frame waits elsewhere.

mod btf;
mod lane;
mod program;
mod queue;

use std::io;
use std::sync::Arc;

use vmlan_frame::Mutex;

pub use btf::function;
pub use program::{TAG_FUNCTION, Wanted, divert};

use vmlan_sys::xdp::Socket;

use self::lane::Lane;
use self::queue::XdpQueue;
use crate::queue::{Endpoint, Queue, Settings};

/// A socket of one queue of the interface.
pub struct Attached {
    /// Bound to its queue.
    pub socket: Socket,
    /// True if the interface sends through a queue of this number, too.
    pub sends: bool,
}

/// An interface's sockets, and the packet socket beside them.
pub struct XdpSockets {
    /// Those of each worker, until it takes them.
    sockets: Vec<Mutex<Vec<Attached>>>,
    queues: usize,
    zero_copy: bool,
    packet: Arc<dyn Endpoint>,
}

impl XdpSockets {
    /// Joins the sockets, in the order of their queues, to the endpoint that takes the rest.
    pub fn new(
        sockets: Vec<Attached>,
        zero_copy: bool,
        packet: Arc<dyn Endpoint>,
        workers: usize,
    ) -> XdpSockets {
        let queues = sockets.len();
        let workers = queues.min(workers).max(1);
        let mut shares: Vec<_> = (0..workers).map(|_| Vec::new()).collect();
        for (queue, socket) in sockets.into_iter().enumerate() {
            shares[queue % workers].push(socket);
        }
        XdpSockets { sockets: shares.into_iter().map(Mutex::new).collect(), queues, zero_copy, packet }
    }

    /// The sockets of a worker, which gets them once.
    fn share(&self, settings: &Settings) -> Vec<Attached> {
        // A single share is the receiver's, whoever that is.
        let share = match &self.sockets[..] {
            [single] => Some(single).filter(|_| settings.receives),
            several => several.get(settings.worker),
        };
        share.map_or_else(Vec::new, |share| std::mem::take(&mut *share.lock()))
    }
}

impl Endpoint for XdpSockets {
    fn queue(&self, settings: Settings) -> io::Result<Box<dyn Queue>> {
        let lanes = self.share(&settings).into_iter().map(|one| Lane::new(one, self.zero_copy)).collect();
        // With several receivers, the packet socket is the first one's.
        let receives = if self.sockets.len() > 1 { settings.worker == 0 } else { settings.receives };
        let packet = self.packet.queue(Settings { receives, ..settings.clone() })?;
        Ok(Box::new(XdpQueue::new(lanes, packet, receives, &settings)?))
    }

    fn has_queue_for(&self, worker: usize) -> bool {
        self.sockets.len() > 1 && worker < self.sockets.len()
    }

    fn mechanism(&self) -> String {
        let copies = if self.zero_copy { "without copies by the kernel" } else { "copied by the kernel" };
        format!("AF_XDP, {} queues, {copies}; rest: {}", self.queues, self.packet.mechanism())
    }
}

#[cfg(test)]
mod tests;
