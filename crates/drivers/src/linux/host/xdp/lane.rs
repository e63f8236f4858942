use rustix::io::Errno;
use vmlan_frame::offload::{finish_checksum, open_checksum};
use vmlan_frame::wire::{EtherType, IpProtocol};
use vmlan_frame::{Batch, Entry, Frame, Offload, Pool, Size, VlanTag};
use vmlan_sys::xdp::Socket;

use super::Attached;
use crate::parts::parts;
use crate::queue::Fault;

/// Octets that an Ethernet frame has at least, without FCS (IEEE 802.3 3.2.8).
const SHORTEST: usize = 60;

/// Calls that one batch may take to be sent: a copying kernel sends 32 frames a call.
const CALLS: usize = 8;

/// One queue of the interface.
pub(super) struct Lane {
    pub(super) socket: Socket,
    sends: bool,
    /// Frames are filled up to this length.
    shortest: usize,
    /// How many more frames fit.
    room: usize,
    /// The interface was down at the last try.
    down: bool,
    /// The kernel has not taken everything, and wants to be told again.
    again: bool,
}

impl Lane {
    pub(super) fn new(attached: Attached, zero_copy: bool) -> Lane {
        // Where the kernel copies, drivers fill up what is too short; nobody does where they read for themselves.
        let shortest = if zero_copy { SHORTEST } else { 0 };
        let Attached { socket, sends } = attached;
        Lane { socket, sends, shortest, room: 0, down: false, again: false }
    }

    /// Adds received frames to `batch`, as long as there is room and buffers.
    pub(super) fn receive(&mut self, pool: &Pool, batch: &mut Batch) -> Result<(), Fault> {
        let before = batch.len();
        while batch.room() > 0 {
            let Some(len) = self.socket.waiting() else { break };
            let Some(mut buffer) = Size::for_octets(len).and_then(|size| pool.take(size)) else { break };
            let len = self.socket.receive(&mut buffer[..len]);
            let (start, tag) = VlanTag::take(&mut buffer[..len]);
            let offload = open_checksum(&buffer[start..len]).unwrap_or(Offload::NONE);
            let mut frame = buffer.into_frame(start..len);
            frame.meta.tag = tag;
            frame.meta.offload = offload;
            batch.push(frame);
        }
        if batch.len() == before {
            return Ok(());
        }
        of_interface(self.socket.release()).map(drop)
    }

    /// Fails if the interface is gone, which a socket with nothing to receive does not tell otherwise.
    pub(super) fn check(&self) -> Result<(), Fault> {
        match rustix::net::sockopt::socket_error(&self.socket) {
            Ok(Err(Errno::NETDOWN | Errno::NXIO | Errno::NODEV)) => Err(Fault::Gone),
            Ok(Err(error)) | Err(error) => Err(Fault::Io(error.into())),
            Ok(Ok(())) => Ok(()),
        }
    }

    /// Makes room before a batch is sent.
    pub(super) fn prepare(&mut self) -> Result<(), Fault> {
        if self.down || self.again {
            self.flush()?;
        }
        self.room = if self.sends && !self.down { self.socket.room() } else { 0 };
        Ok(())
    }

    /// Queues a frame; false when it is none for this way, or there is no room.
    pub(super) fn send(&mut self, frame: &Frame) -> bool {
        let request = frame.meta.offload;
        if self.room == 0 || request.is_segmentation() || is_left(frame) {
            return false;
        }
        let mut tag = [0; 4];
        let entry = Entry { octets: frame.octets(), meta: frame.meta };
        let [first, middle, last] = parts(&entry, &mut tag);
        let len = first.len() + middle.len() + last.len();
        let Some(request) = request.shifted(middle.len() as isize) else { return false };
        let queued = self.socket.send(len.max(self.shortest), |place| {
            let (frame, rest) = place.split_at_mut(len);
            let (addresses, behind) = frame.split_at_mut(first.len());
            let (between, end) = behind.split_at_mut(middle.len());
            addresses.copy_from_slice(first);
            between.copy_from_slice(middle);
            end.copy_from_slice(last);
            rest.fill(0);
            finish_checksum(frame, &request);
        });
        self.room -= usize::from(queued);
        queued
    }

    /// Lets the kernel send what was queued.
    pub(super) fn flush(&mut self) -> Result<(), Fault> {
        (self.down, self.again) = (false, false);
        for _ in 0..CALLS {
            if self.socket.unsent() == 0 {
                return Ok(());
            }
            match of_interface(self.socket.wake())? {
                Woken::Done => return Ok(()),
                Woken::More => {}
                Woken::Down => {
                    self.down = true;
                    return Ok(());
                }
            }
        }
        self.again = true;
        Ok(())
    }

    /// True if queued frames wait for another call to the kernel.
    pub(super) fn is_waiting(&self) -> bool {
        self.again
    }
}

/// The outcome of a call to the kernel.
enum Woken {
    Done,
    More,
    Down,
}

fn of_interface(result: std::io::Result<()>) -> Result<Woken, Fault> {
    let Err(error) = result else { return Ok(Woken::Done) };
    match Errno::from_io_error(&error) {
        // There is more than one call sends; or one frame was lost by the interface, which counts it.
        Some(Errno::AGAIN | Errno::BUSY | Errno::NOBUFS | Errno::INTR) => Ok(Woken::More),
        Some(Errno::NETDOWN) => Ok(Woken::Down),
        Some(Errno::NXIO | Errno::NODEV) => Err(Fault::Gone),
        _ => Err(Fault::Io(error)),
    }
}

/// True if the packet socket is better for `frame`: it takes TCP's segments merged, and keeps their order.
fn is_left(frame: &Frame) -> bool {
    let protocol = match frame.ethertype().map(EtherType) {
        Some(EtherType::IPV4) => frame.octets().get(23),
        Some(EtherType::IPV6) => frame.octets().get(20),
        _ => None,
    };
    protocol == Some(&IpProtocol::TCP.0)
}
