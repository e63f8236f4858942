//! An interface of the host through the packet filter's device, as macOS has it (bpf(4)): a trunk, or our end of a feth
//! pair whose other end is a member of the host's bridge.
//!
//! Theory of operation. One read gives what the kernel has, as records of many frames; it has to be of exactly as many
//! octets as the kernel's buffer has. Records are checked, and frames are cut out where they lie and share the read. A
//! record that contradicts its read ends it: nothing behind it can be trusted. The kernel is asked how many frames it
//! lost for want of room after a read that was half full or more, for it loses none before both of its buffers are.
//! Sending is one write a frame to the same device; writes do not wait. The kernel takes the interface's MTU and 18
//! octets in one write, which is a frame with its header and a tag.
//!
//! A full interface queue is told by ENOBUFS, and nothing tells when there is room again: the device is always reported
//! writable. So what waits is tried again after a pause, for 20 ms without any success; then it is dropped, and so is
//! what follows, until the interface takes something again.
//!
//! The receive filter lets pass groups and the addresses of our [`Stations`]. A frame from an address that is not
//! among them widens the filter before it leaves, so that its answer is not lost; control gives the whole set now and
//! then, and so narrows it.
//!
//! Nothing here calls macOS by name, so it is tested with a socket in the device's place; `macos.rs` opens the device.

mod receive;
mod records;
mod stations;

#[cfg(target_os = "macos")]
mod macos;

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use vmlan_bpf::ValidProgram;
use vmlan_frame::{Batch, Context, DropReason, Entry, Instant, Sides, Size};

use crate::parts::parts;
use crate::queue::{Endpoint, Fault, Outbox, Progress, Queue, Sent, Settings, Status};
use receive::Receiver;
use stations::{Known, Shared as SharedStations};

#[cfg(target_os = "macos")]
pub use macos::{OpenError, Opened, open};
pub use records::{Found, Piece, split};
pub use stations::Stations;

/// How long frames wait for an interface that takes nothing.
const PATIENCE: Duration = Duration::from_millis(20);

/// Octets that are asked for as the kernel's buffer: one read fills a buffer of the pool.
pub const BUFFER: usize = Size::Bulk.octets();

/// Replaces the receive filter.
pub type SetFilter = Box<dyn Fn(&ValidProgram) -> io::Result<()> + Send + Sync>;

/// How many frames the kernel had no room for since the device was opened; it begins at 0 again after 2^32.
pub type Losses = Box<dyn Fn() -> io::Result<u32> + Send + Sync>;

/// The parts that a device is made of.
pub struct Parts {
    /// The device, bound to an interface, with the filter of `stations`; reads and writes do not wait.
    pub fd: OwnedFd,
    /// Octets of the kernel's buffer, at most [`BUFFER`].
    pub buffer: usize,
    /// Where received frames come from.
    pub sides: Sides,
    /// Whose frames pass the filter.
    pub stations: Stations,
    /// Replaces the filter.
    pub set_filter: SetFilter,
    /// Counts what the kernel lost.
    pub losses: Losses,
}

/// A packet filter's device that is bound to an interface.
pub struct Device {
    shared: Arc<Shared>,
}

struct Shared {
    fd: OwnedFd,
    losses: Losses,
    buffer: usize,
    sides: Sides,
    stations: SharedStations,
}

impl Device {
    /// Takes a device that is set up.
    ///
    /// # Panics
    /// When the kernel's buffer is longer than [`BUFFER`].
    pub fn new(parts: Parts) -> Device {
        let Parts { fd, buffer, sides, stations, set_filter, losses } = parts;
        assert!(buffer <= BUFFER, "a read fits a buffer of the pool");
        let stations = SharedStations::new(stations, set_filter);
        Device { shared: Arc::new(Shared { fd, losses, buffer, sides, stations }) }
    }

    /// Lets frames to `stations` pass, to groups, and to nobody else.
    ///
    /// # Errors
    /// When the filter cannot be replaced.
    pub fn set_stations(&self, stations: Stations) -> io::Result<()> {
        self.shared.stations.replace(stations)
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.fd.as_fd()
    }
}

impl Endpoint for Device {
    fn queue(&self, settings: Settings) -> io::Result<Box<dyn Queue>> {
        Ok(Box::new(DeviceQueue {
            receiver: settings.receives.then(Receiver::default),
            known: Known::default(),
            full_since: None,
            outbox: Outbox::new(&settings).asking(),
            shared: self.shared.clone(),
        }))
    }

    fn mechanism(&self) -> String {
        "packet filter, one read a batch, one write a frame".to_owned()
    }
}

struct DeviceQueue {
    shared: Arc<Shared>,
    receiver: Option<Receiver>,
    /// This worker's knowledge of the stations.
    known: Known,
    /// When the interface took something for the last time, while it takes nothing.
    full_since: Option<Instant>,
    outbox: Outbox,
}

impl Queue for DeviceQueue {
    fn descriptor(&self, number: usize) -> Option<BorrowedFd<'_>> {
        (number == 0).then(|| self.shared.fd.as_fd())
    }

    fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault> {
        match &mut self.receiver {
            Some(receiver) => receiver.receive(&self.shared, cx, &self.outbox, batch),
            None => Ok(Progress::Done),
        }
    }

    fn transmit(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        if let Err(error) = self.known.admit(&self.shared.stations, batch) {
            self.outbox.abandon(cx, batch, DropReason::TransmitError);
            return Err(Fault::Io(error));
        }
        let fd = self.shared.fd.as_fd();
        let mut progress = false;
        let result = self.outbox.send(cx, batch, |chunk| {
            let sent = send(fd, chunk)?;
            progress |= sent.taken > 0;
            Ok(sent)
        });
        if let Err(error) = result {
            self.outbox.abandon(cx, batch, DropReason::NoPeer);
            return Err(fault(error));
        }
        self.keep_patience(progress, cx.now);
        Ok(())
    }

    fn status(&self) -> Status {
        self.outbox.status()
    }
}

impl DeviceQueue {
    /// Gives up on what waits when the interface takes nothing for too long.
    fn keep_patience(&mut self, progress: bool, now: Instant) {
        if self.outbox.backlog.is_empty() {
            self.full_since = None;
            return;
        }
        if progress {
            self.full_since = Some(now);
        }
        if now.since(*self.full_since.get_or_insert(now)) > PATIENCE {
            let count = self.outbox.backlog.clear();
            self.outbox.dropped_unseen(DropReason::QueueFull, count);
        }
    }
}

/// Writes frames one by one, as far as the interface takes them.
fn send(fd: BorrowedFd<'_>, chunk: &[Entry<'_>]) -> io::Result<Sent> {
    for (taken, entry) in chunk.iter().enumerate() {
        let refused = match write(fd, entry) {
            Ok(()) => continue,
            Err(Errno::AGAIN | Errno::NOBUFS) => return Ok(Sent { taken, full: true, ..Sent::default() }),
            Err(error @ (Errno::NXIO | Errno::BADF)) => return Err(error.into()),
            Err(Errno::MSGSIZE) => DropReason::TooLong,
            // The interface is down (ENETDOWN), or it refuses this frame.
            Err(_) => DropReason::TransmitError,
        };
        return Ok(Sent { taken, refused: Some(refused), ..Sent::default() });
    }
    Ok(Sent { taken: chunk.len(), ..Sent::default() })
}

fn write(fd: BorrowedFd<'_>, entry: &Entry<'_>) -> Result<(), Errno> {
    let mut tag = [0; 4];
    let slices = parts(entry, &mut tag).map(IoSlice::new);
    let used = if entry.meta.tag.is_some() { 3 } else { 1 };
    rustix::io::retry_on_intr(|| rustix::io::writev(fd, &slices[..used])).map(drop)
}

/// Translates an error of the device to a fault of the attachment.
fn fault(error: io::Error) -> Fault {
    match Errno::from_io_error(&error) {
        // The interface was taken away, or is down and has nothing for us.
        Some(Errno::NXIO | Errno::NETDOWN) => Fault::Gone,
        _ => Fault::Io(error),
    }
}

#[cfg(test)]
mod tests;
