//! TAP devices: the other end is an interface of the host's kernel, or a guest whose machine monitor opens it.
//!
//! Each worker has a queue of the device to itself. Every frame has a virtio-net header of 12 octets in front; no
//! offloads are asked for, so what comes is complete and what goes must be. A TAP takes a frame or refuses it at once:
//! nothing waits for it.
//!
//! Frames are moved by io_uring, many with one system call, or one by one where the system does not allow that
//! ([`Device::mechanism`]).

mod plain;
mod ring;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use frame::{Batch, DropReason, Entry, Instant, Pool, Size, VlanTag, WriteBuf};
use link::{Context, Counters, Tally};
use rustix::io::Errno;
use sys::tap::HEADER;

use crate::parts::parts;
use crate::queue::{Endpoint, Fault, Progress, Queue, Settings, Status};
use plain::Plain;
use ring::Ring;

/// The queues of an open TAP, one for each worker.
pub struct Device {
    queues: Vec<Arc<OwnedFd>>,
}

/// How frames are moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mechanism {
    /// io_uring: reads that are armed once, and many writes with one call.
    Ring,
    /// One system call a frame.
    Plain,
}

impl Device {
    /// Takes descriptors from [`sys::tap::open`] or [`sys::tap::adopt`]. With fewer queues than workers, the workers
    /// share them.
    ///
    /// # Panics
    /// Without any descriptor.
    pub fn new(queues: Vec<OwnedFd>) -> Device {
        assert!(!queues.is_empty(), "a device has a queue");
        Device { queues: queues.into_iter().map(Arc::new).collect() }
    }

    /// How frames will be moved on this system.
    pub fn mechanism() -> Mechanism {
        if sys::uring::probe().is_ok() { Mechanism::Ring } else { Mechanism::Plain }
    }
}

impl Endpoint for Device {
    fn queue(&self, settings: Settings) -> io::Result<Box<dyn Queue>> {
        let fd = self.queues[settings.worker % self.queues.len()].clone();
        let size = Size::for_octets(HEADER + settings.longest + 1).unwrap_or(Size::Large);
        let port = Port { worker: settings.worker, counters: settings.counters, size };
        let receives = settings.receives || self.has_queue_for(settings.worker);
        Ok(match Ring::new(fd.clone(), receives) {
            Ok(ring) => Box::new(TapQueue { port, mover: ring }),
            Err(_) => Box::new(TapQueue { port, mover: Plain::new(fd, receives) }),
        })
    }

    fn has_queue_for(&self, worker: usize) -> bool {
        self.queues.len() > 1 && worker < self.queues.len()
    }
}

/// Moves frames in one of the two ways.
trait Mover: AsFd {
    /// Hands at most `limit` reads to `deliver`: a buffer, and how many octets are in it.
    fn receive(
        &mut self,
        pool: &Pool,
        size: Size,
        limit: usize,
        deliver: impl FnMut(WriteBuf, usize),
    ) -> io::Result<()>;

    /// Whether `receive` has to be called although nothing tells readiness.
    fn wants_attention(&self) -> bool;

    /// Writes the frames of `chunk`, and puts what came of each into `results`.
    fn transmit(&mut self, chunk: &[Entry<'_>], results: &mut [Result<(), Errno>; Batch::LIMIT]);
}

struct TapQueue<M> {
    port: Port,
    mover: M,
}

struct Port {
    worker: usize,
    counters: Arc<Counters>,
    size: Size,
}

impl<M: Mover> Queue for TapQueue<M> {
    fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault> {
        let TapQueue { port, mover } = self;
        let room = batch.room();
        let result = mover.receive(cx.pool, port.size, room, |buffer, len| port.deliver(buffer, len, batch));
        match result {
            Ok(()) => Ok(Progress::Done),
            Err(error) => Err(match Errno::from_io_error(&error) {
                Some(Errno::BADFD | Errno::NODEV) => Fault::Gone,
                _ => Fault::Io(error),
            }),
        }
    }

    fn transmit(&mut self, _cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        let mut gone = false;
        while !batch.is_empty() {
            let mut chunk = [Entry::default(); Batch::LIMIT];
            let mut count = 0;
            for (entry, frame) in chunk.iter_mut().zip(&*batch) {
                *entry = Entry { octets: frame.octets(), meta: frame.meta };
                count += 1;
            }
            let mut results = [Ok(()); Batch::LIMIT];
            self.mover.transmit(&chunk[..count], &mut results);
            gone |= self.port.count(&chunk[..count], &results);
            batch.drain_front(count);
        }
        if gone { Err(Fault::Gone) } else { Ok(()) }
    }

    fn status(&self) -> Status {
        Status { deadline: self.mover.wants_attention().then_some(Instant::ZERO), ..Status::default() }
    }
}

impl Port {
    /// Makes a frame of what was read.
    fn deliver(&self, mut buffer: WriteBuf, len: usize, batch: &mut Batch) {
        let refused = if len < HEADER {
            Some(DropReason::Malformed)
        } else if asks_for_offload(&buffer) {
            Some(DropReason::BadOffload)
        } else if len == buffer.len() {
            // The kernel cuts what is longer than the buffer, which is longer than any frame may be.
            Some(DropReason::Oversize)
        } else {
            None
        };
        if let Some(reason) = refused {
            let octets = len.saturating_sub(HEADER) as u64;
            return self.counters.received_and_dropped(self.worker, reason, 1, octets);
        }
        let (start, tag) = VlanTag::take(&mut buffer[HEADER..len]);
        let mut frame = buffer.into_frame(HEADER + start..len);
        frame.meta.tag = tag;
        batch.push(frame);
    }

    /// Counts what came of each frame; answers whether the device is gone.
    fn count(&self, chunk: &[Entry<'_>], results: &[Result<(), Errno>; Batch::LIMIT]) -> bool {
        let mut sent = Tally::default();
        let mut gone = false;
        for (entry, result) in chunk.iter().zip(results) {
            let reason = match *result {
                Ok(()) => {
                    sent.add_parts(entry.octets, &entry.meta);
                    continue;
                }
                Err(Errno::AGAIN | Errno::NOBUFS) => DropReason::QueueFull,
                Err(Errno::BADFD | Errno::NODEV) => {
                    gone = true;
                    DropReason::NoPeer
                }
                // The device is down (EIO), or it refuses this frame.
                Err(_) => DropReason::TransmitError,
            };
            self.counters.dropped(self.worker, reason, 1);
        }
        self.counters.sent(self.worker, &sent);
        gone
    }
}

impl<M: Mover> AsFd for TapQueue<M> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mover.as_fd()
    }
}

/// Whether the header asks for a checksum (flag 1) or for segmentation (any type).
fn asks_for_offload(header: &[u8]) -> bool {
    header[0] & 1 != 0 || header[1] != 0
}

/// The header of a frame to which nothing is left to be done.
const NOTHING_TO_DO: [u8; HEADER] = [0; HEADER];
