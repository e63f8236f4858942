//! TAP devices: the other end is an interface of the host's kernel, or a guest whose machine monitor opens it.
//!
//! Theory of operation. Each worker has a queue of the device to itself. Every frame has a virtio-net header of 12
//! octets in front. With offloads on, the kernel hands over frames whose checksum is still open and segmentation
//! frames of up to 64 KiB, and takes such; without, everything is complete. A TAP takes a frame or refuses it at once:
//! nothing waits for it. Frames are moved one a system call; docs/performance.md says why not by io_uring.
//!
//! A plain frame and a segmentation frame differ forty times in size, and which comes next is not known before it is
//! read. So a read fills a small buffer first and spills into a large one: small frames, most of them, take small
//! buffers and stay in cache, and one that spilt has its first 2 KiB copied in front of the rest.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use vmlan_frame::offload::validate;
use vmlan_frame::{
    Account, Batch, Context, DropReason, Entry, Offload, Pool, Size, Takes, Tally, VlanTag, WriteBuf,
};
use vmlan_sys::tap::HEADER;

use crate::parts::parts;
use crate::queue::{Endpoint, Fault, Progress, Queue, Settings, Status};

/// Octets of one batch, more or less: they fit the cache that belongs to one processor, and to move them takes no
/// longer than to move a batch of small frames.
const BATCH_OCTETS: usize = 256 << 10;

/// The queues of an open TAP, one for each worker.
pub struct Device {
    queues: Vec<Arc<OwnedFd>>,
    takes: Takes,
}

impl Device {
    /// Takes descriptors from [`vmlan_sys::tap::open`] or [`vmlan_sys::tap::adopt`], with the offloads that were set
    /// for them. With fewer queues than workers, the workers share them.
    ///
    /// # Panics
    /// Without any descriptor.
    pub fn new(queues: Vec<OwnedFd>, takes: Takes) -> Device {
        assert!(!queues.is_empty(), "a device has a queue");
        Device { queues: queues.into_iter().map(Arc::new).collect(), takes }
    }
}

/// Sets every offload that the kernel knows on a TAP, or none, and answers what the device takes then.
///
/// # Errors
/// Errors of ioctl(2).
pub fn set_offloads(fd: impl AsFd, on: bool) -> io::Result<Takes> {
    use vmlan_sys::tap::offload;
    let fd = fd.as_fd();
    if !on {
        return vmlan_sys::tap::set_offloads(fd, 0).map(|()| Takes::NONE);
    }
    let tcp = offload::CHECKSUM | offload::TSO4 | offload::TSO6 | offload::ECN;
    let takes = Takes::CHECKSUM | Takes::TSO4 | Takes::TSO6 | Takes::ECN;
    // Since Linux 6.2.
    if vmlan_sys::tap::set_offloads(fd, tcp | offload::USO4 | offload::USO6).is_ok() {
        return Ok(takes | Takes::USO);
    }
    vmlan_sys::tap::set_offloads(fd, tcp).map(|()| takes)
}

/// Returns the offloads of a TAP that another program set up.
///
/// # Errors
/// Errors of ioctl(2).
pub fn offloads_of(name: &str) -> io::Result<Takes> {
    use vmlan_sys::tap::offload;
    let flags = vmlan_sys::tap::offloads(name)?;
    let pairs = [
        (offload::CHECKSUM, Takes::CHECKSUM),
        (offload::TSO4, Takes::TSO4),
        (offload::TSO6, Takes::TSO6),
        (offload::ECN, Takes::ECN),
    ];
    let has = pairs.into_iter().filter(|(flag, _)| flags & flag != 0);
    Ok(has.fold(Takes::NONE, |takes, (_, one)| takes | one))
}

impl Endpoint for Device {
    fn queue(&self, settings: Settings) -> io::Result<Box<dyn Queue>> {
        let size = Size::for_octets(HEADER + settings.longest + 1).unwrap_or(Size::Large);
        Ok(Box::new(TapQueue {
            fd: self.queues[settings.worker % self.queues.len()].clone(),
            receives: settings.receives || self.has_queue_for(settings.worker),
            size,
            spills: !self.takes.is_none() && size == Size::Small,
            takes: self.takes,
            worker: settings.worker,
            account: settings.account,
        }))
    }

    fn has_queue_for(&self, worker: usize) -> bool {
        self.queues.len() > 1 && worker < self.queues.len()
    }

    fn mechanism(&self) -> String {
        let queues = match self.queues.len() {
            1 => "1 queue".to_owned(),
            several => format!("{several} queues"),
        };
        format!("readv and writev, {queues}, offloads: {}", self.takes)
    }

    fn set_carrier(&self, carrier: bool) -> io::Result<()> {
        vmlan_sys::tap::set_carrier(&*self.queues[0], carrier)
    }
}

struct TapQueue {
    fd: Arc<OwnedFd>,
    receives: bool,
    size: Size,
    /// True if frames may come that are longer than `size` holds.
    spills: bool,
    takes: Takes,
    worker: usize,
    account: Account,
}

impl Queue for TapQueue {
    fn descriptor(&self, number: usize) -> Option<BorrowedFd<'_>> {
        (number == 0).then(|| self.fd.as_fd())
    }

    fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault> {
        if !self.receives {
            return Ok(Progress::Done);
        }
        let mut reader = Reader { size: self.size, spills: self.spills, spill: None };
        let mut octets = 0;
        // What is refused counts as well.
        for _ in 0..batch.room() {
            if octets >= BATCH_OCTETS {
                break;
            }
            match reader.read(self.fd.as_fd(), cx.pool) {
                Ok(Some((buffer, len))) => {
                    octets += len;
                    self.deliver(buffer, len, batch);
                }
                Ok(None) | Err(Errno::AGAIN | Errno::INTR) => break,
                Err(Errno::BADFD | Errno::NODEV) => return Err(Fault::Gone),
                Err(error) => return Err(Fault::Io(error.into())),
            }
        }
        Ok(Progress::Done)
    }

    fn transmit(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
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
            self.account.lose(cx, &frame, reason);
        }
        self.account.counters().sent(self.worker, &sent);
        if gone { Err(Fault::Gone) } else { Ok(()) }
    }

    fn status(&self) -> Status {
        Status::default()
    }

    fn takes(&self) -> Takes {
        self.takes
    }
}

impl TapQueue {
    fn write(&self, entry: &Entry<'_>) -> Result<(), Errno> {
        let mut tag = [0; 4];
        let [first, middle, last] = parts(entry, &mut tag);
        let Some(request) = entry.meta.offload.shifted(middle.len() as isize) else {
            return Err(Errno::MSGSIZE);
        };
        let header = request.to_virtio();
        let slices = [&header, first, middle, last].map(IoSlice::new);
        let used = if middle.is_empty() { 2 } else { 4 };
        rustix::io::retry_on_intr(|| rustix::io::writev(&self.fd, &slices[..used])).map(drop)
    }

    /// Makes a frame of what was read.
    fn deliver(&self, mut buffer: WriteBuf, len: usize, batch: &mut Batch) {
        if len < HEADER {
            return self.refuse(DropReason::Malformed, 0);
        }
        let octets = len - HEADER;
        if len == buffer.len() {
            // The kernel cuts what is longer than the buffer, which is longer than any frame may be.
            return self.refuse(DropReason::Oversize, octets);
        }
        let header = buffer.first_chunk().expect("a buffer is longer than the header");
        let request = Offload::from_virtio(header);
        let (start, tag) = VlanTag::take(&mut buffer[HEADER..len]);
        let frame = HEADER + start..len;
        let Some(offload) = checked(request, start, &buffer[frame.clone()]) else {
            return self.refuse(DropReason::BadOffload, octets);
        };
        let mut frame = buffer.into_frame(frame);
        frame.meta.tag = tag;
        frame.meta.offload = offload;
        batch.push(frame);
    }

    #[cold]
    fn refuse(&self, reason: DropReason, octets: usize) {
        self.account.counters().received_and_dropped(self.worker, reason, 1, octets as u64);
    }
}

/// The request in the form that it has for `octets`, the frame without the `cut` octets of its tag.
#[inline]
pub(crate) fn checked(request: Offload, cut: usize, octets: &[u8]) -> Option<Offload> {
    if request.is_none() {
        // What another guest says of a checksum is no reason for the next one not to check it.
        return Some(Offload::NONE);
    }
    validate(octets, request.shifted(-(cut as isize))?).ok()
}

/// Reads frames of which some may be large.
struct Reader {
    size: Size,
    spills: bool,
    /// The large buffer that the next frame may spill into.
    spill: Option<WriteBuf>,
}

impl Reader {
    /// One frame, with its header, and its length; `None` without a buffer for it.
    #[inline]
    fn read(&mut self, fd: BorrowedFd<'_>, pool: &Pool) -> Result<Option<(WriteBuf, usize)>, Errno> {
        let Some(mut buffer) = pool.take(self.size) else { return Ok(None) };
        if !self.spills {
            let len = rustix::io::read(fd, &mut buffer[..])?;
            return Ok(Some((buffer, len)));
        }
        if self.spill.is_none() {
            self.spill = pool.take(Size::Large);
        }
        let Some(spill) = &mut self.spill else { return Ok(None) };
        let small = buffer.len();
        let mut slices = [IoSliceMut::new(&mut buffer), IoSliceMut::new(&mut spill[small..])];
        let len = rustix::io::readv(fd, &mut slices)?;
        if len < small {
            return Ok(Some((buffer, len)));
        }
        spill[..small].copy_from_slice(&buffer);
        Ok(self.spill.take().map(|spill| (spill, len)))
    }
}

#[cfg(test)]
#[path = "tap_tests.rs"]
mod tests;
