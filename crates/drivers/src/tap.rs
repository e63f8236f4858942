//! TAP devices: the other end is an interface of the host's kernel, or a guest whose machine monitor opens it.
//!
//! Each worker has a queue of the device to itself. Every frame has a virtio-net header of 12 octets in front; no
//! offloads are asked for, so what comes is complete and what goes must be. A TAP takes a frame or refuses it at once:
//! nothing waits for it. Frames are moved one a system call; docs/performance.md says why not by io_uring.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use frame::{Batch, DropReason, Entry, Size, VlanTag, WriteBuf};
use link::{Context, Counters, Tally};
use rustix::io::Errno;
use sys::tap::HEADER;

use crate::parts::parts;
use crate::queue::{Endpoint, Fault, Progress, Queue, Settings, Status};

/// The queues of an open TAP, one for each worker.
pub struct Device {
    queues: Vec<Arc<OwnedFd>>,
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
}

impl Endpoint for Device {
    fn queue(&self, settings: Settings) -> io::Result<Box<dyn Queue>> {
        Ok(Box::new(TapQueue {
            fd: self.queues[settings.worker % self.queues.len()].clone(),
            receives: settings.receives || self.has_queue_for(settings.worker),
            size: Size::for_octets(HEADER + settings.longest + 1).unwrap_or(Size::Large),
            worker: settings.worker,
            counters: settings.counters,
        }))
    }

    fn has_queue_for(&self, worker: usize) -> bool {
        self.queues.len() > 1 && worker < self.queues.len()
    }
}

struct TapQueue {
    fd: Arc<OwnedFd>,
    receives: bool,
    size: Size,
    worker: usize,
    counters: Arc<Counters>,
}

impl Queue for TapQueue {
    fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault> {
        while self.receives && batch.room() > 0 {
            let Some(mut buffer) = cx.pool.take(self.size) else { break };
            match rustix::io::read(&self.fd, &mut buffer[..]) {
                Ok(len) => self.deliver(buffer, len, batch),
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(Errno::BADFD | Errno::NODEV) => return Err(Fault::Gone),
                Err(error) => return Err(Fault::Io(error.into())),
            }
        }
        Ok(Progress::Done)
    }

    fn transmit(&mut self, _cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        let mut sent = Tally::default();
        let mut gone = false;
        for frame in batch.drain() {
            let entry = Entry { octets: frame.octets(), meta: frame.meta };
            let reason = match self.write(&entry) {
                Ok(()) => {
                    sent.add(&frame);
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
        if gone { Err(Fault::Gone) } else { Ok(()) }
    }

    fn status(&self) -> Status {
        Status::default()
    }
}

impl TapQueue {
    fn write(&self, entry: &Entry<'_>) -> Result<(), Errno> {
        let mut tag = [0; 4];
        let [first, middle, last] = parts(entry, &mut tag);
        let slices = [&NOTHING_TO_DO, first, middle, last].map(IoSlice::new);
        let used = if middle.is_empty() { 2 } else { 4 };
        rustix::io::retry_on_intr(|| rustix::io::writev(&self.fd, &slices[..used])).map(drop)
    }

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
}

impl AsFd for TapQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether the header asks for a checksum (flag 1) or for segmentation (any type).
fn asks_for_offload(header: &[u8]) -> bool {
    header[0] & 1 != 0 || header[1] != 0
}

/// The header of a frame to which nothing is left to be done.
const NOTHING_TO_DO: [u8; HEADER] = [0; HEADER];
