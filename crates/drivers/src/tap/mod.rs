//! TAP devices: the other end is an interface of the host's kernel, or a guest whose machine monitor opens it.
//!
//! Each worker has a queue of the device to itself. Every frame has a virtio-net header of 12 octets in front; no
//! offloads are asked for, so what comes is complete and what goes must be.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use frame::{Batch, DropReason, Entry, Size, VlanTag};
use link::Context;
use rustix::io::Errno;
use sys::tap::HEADER;

use crate::parts::parts;
use crate::queue::{Endpoint, Fault, Outbox, Progress, Queue, Sent, Settings, Status};

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
        let own = settings.worker < self.queues.len() && self.queues.len() > 1;
        Ok(Box::new(TapQueue {
            fd: self.queues[settings.worker % self.queues.len()].clone(),
            receives: own || settings.receives,
            size: Size::for_octets(HEADER + settings.longest + 1).unwrap_or(Size::Large),
            outbox: Outbox::new(&settings),
        }))
    }
}

struct TapQueue {
    fd: Arc<OwnedFd>,
    receives: bool,
    size: Size,
    outbox: Outbox,
}

impl Queue for TapQueue {
    fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault> {
        while self.receives && batch.room() > 0 {
            let Some(mut buffer) = cx.pool.take(self.size) else {
                return Ok(Progress::Done);
            };
            let len = match rustix::io::read(&self.fd, &mut buffer[..]) {
                Ok(len) => len,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(Progress::Done),
                Err(Errno::BADFD | Errno::NODEV) => return Err(Fault::Gone),
                Err(error) => return Err(Fault::Io(error.into())),
            };
            let drop = |reason| {
                let octets = len.saturating_sub(HEADER) as u64;
                self.outbox.counters.received_and_dropped(self.outbox.worker, reason, 1, octets);
            };
            if len < HEADER {
                drop(DropReason::Malformed);
            } else if asks_for_offload(&buffer) {
                drop(DropReason::BadOffload);
            } else if len == buffer.len() {
                // The kernel cuts what is longer than the buffer.
                drop(DropReason::Oversize);
            } else {
                let (start, tag) = VlanTag::take(&mut buffer[HEADER..len]);
                let mut frame = buffer.into_frame(HEADER + start..len);
                frame.meta.tag = tag;
                batch.push(frame);
            }
        }
        Ok(Progress::Done)
    }

    fn transmit(&mut self, _cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        let fd = &self.fd;
        let result = self.outbox.send(batch, |chunk| send(fd.as_fd(), chunk));
        result.map_err(|error| {
            self.outbox.abandon(batch, DropReason::NoPeer);
            match Errno::from_io_error(&error) {
                Some(Errno::BADFD | Errno::NODEV) => Fault::Gone,
                _ => Fault::Io(error),
            }
        })
    }

    fn status(&self) -> Status {
        self.outbox.status()
    }
}

/// Whether the header asks for a checksum (flag 1) or for segmentation (any type).
fn asks_for_offload(header: &[u8]) -> bool {
    header[0] & 1 != 0 || header[1] != 0
}

fn send(fd: BorrowedFd<'_>, chunk: &[Entry<'_>]) -> io::Result<Sent> {
    const NOTHING_TO_DO: [u8; HEADER] = [0; HEADER];
    for (taken, entry) in chunk.iter().enumerate() {
        let mut tag = [0; 4];
        let [first, middle, last] = parts(entry, &mut tag);
        let slices = [&NOTHING_TO_DO, first, middle, last].map(IoSlice::new);
        let used = if middle.is_empty() { 2 } else { 4 };
        match rustix::io::writev(fd, &slices[..used]) {
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => {
                return Ok(Sent { taken, refused: None, full: true });
            }
            // The device is down (EIO), or it refuses this frame.
            Err(Errno::IO | Errno::INVAL | Errno::MSGSIZE | Errno::NOMEM) => {
                return Ok(Sent { taken, refused: Some(DropReason::TransmitError), full: false });
            }
            // Told again at the next call, when what was taken has been counted.
            Err(_) if taken > 0 => return Ok(Sent { taken, ..Sent::default() }),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Sent { taken: chunk.len(), ..Sent::default() })
}

impl AsFd for TapQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
