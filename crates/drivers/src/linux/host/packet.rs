use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use frame::{Batch, DropReason, Entry, Offload, Size, Takes, VlanTag, WriteBuf};
use link::Context;
use rustix::io::Errno;
use sys::datagrams::{self, LIMIT};
use sys::packet::{self, HEADER};

use crate::parts::parts;
use crate::queue::{Endpoint, Fault, Outbox, Progress, Queue, Sent, Settings, Status};
use crate::tap::checked;

/// Octets of the header of a TAP, which has the number of buffers behind that of a packet socket.
const TAP_HEADER: usize = sys::tap::HEADER;

/// A packet socket: the wire's side of an interface, beside the host's own stack.
///
/// What comes are copies; the host's stack gets the frames too. A tag that the kernel took off is beside the frame, as
/// the kernel tells it. Checksums and segmentation may be left open in both directions.
pub struct PacketSocket {
    fd: Arc<OwnedFd>,
}

impl PacketSocket {
    /// Takes a descriptor from [`sys::packet::listener`]; its filter can be changed through another of the same
    /// socket.
    pub fn new(fd: Arc<OwnedFd>) -> PacketSocket {
        PacketSocket { fd }
    }
}

impl Endpoint for PacketSocket {
    fn queue(&self, settings: Settings) -> io::Result<Box<dyn Queue>> {
        Ok(Box::new(PacketQueue {
            fd: self.fd.clone(),
            receives: settings.receives,
            size: Size::for_octets(settings.longest + 1).unwrap_or(Size::Large),
            spill: None,
            outbox: Outbox::new(&settings),
        }))
    }

    fn mechanism(&self) -> String {
        format!("recvmsg and sendmmsg on a packet socket, offloads: {}", takes())
    }
}

fn takes() -> Takes {
    Takes::CHECKSUM | Takes::TSO4 | Takes::TSO6 | Takes::ECN
}

struct PacketQueue {
    fd: Arc<OwnedFd>,
    receives: bool,
    size: Size,
    /// The large buffer that the next frame may spill into.
    spill: Option<WriteBuf>,
    outbox: Outbox,
}

impl Queue for PacketQueue {
    fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault> {
        while self.receives && batch.room() > 0 {
            let Some(mut buffer) = cx.pool.take(self.size) else { break };
            if self.spill.is_none() {
                self.spill = cx.pool.take(Size::Large);
            }
            let Some(spill) = &mut self.spill else { break };
            let small = buffer.len().min(spill.len());
            let mut header = [0; TAP_HEADER];
            let (ours, _) = header.split_first_chunk_mut().expect("a TAP's header is longer");
            match packet::receive(&self.fd, ours, [&mut buffer[..small], &mut spill[small..]]) {
                Ok(arrived) if arrived.len < small => self.deliver(buffer, &header, arrived, batch),
                Ok(arrived) if arrived.len < spill.len() => {
                    spill[..small].copy_from_slice(&buffer[..small]);
                    if let Some(spill) = self.spill.take() {
                        self.deliver(spill, &header, arrived, batch);
                    }
                }
                Ok(arrived) => self.refuse(DropReason::Oversize, arrived.len),
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::AGAIN | Errno::INTR) => break,
                    // Told once when the interface goes down; frames come again when it is up.
                    Some(Errno::NETDOWN) => {}
                    Some(Errno::NXIO | Errno::NODEV) => return Err(Fault::Gone),
                    _ => return Err(Fault::Io(error)),
                },
            }
        }
        // It goes back: what nobody reads into is for others.
        self.spill = None;
        Ok(Progress::Done)
    }

    fn transmit(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        let fd = &self.fd;
        let result = self.outbox.send(cx, batch, |chunk| send(fd.as_fd(), chunk));
        result.map_err(|error| {
            self.outbox.abandon(cx, batch, DropReason::NoPeer);
            Fault::Io(error)
        })
    }

    fn status(&self) -> Status {
        self.outbox.status()
    }

    fn takes(&self) -> Takes {
        takes()
    }
}

impl PacketQueue {
    /// Makes a frame of what was received.
    fn deliver(
        &self,
        mut buffer: WriteBuf,
        header: &[u8; TAP_HEADER],
        arrived: packet::Arrived,
        batch: &mut Batch,
    ) {
        let (start, tag) = match arrived.tag {
            Some((VlanTag::TPID, tci)) => (0, Some(VlanTag { tci })),
            // A service tag belongs into the frame, where there is no room for it: kernels do not take those off.
            Some(_) => return self.refuse(DropReason::Malformed, arrived.len),
            None => VlanTag::take(&mut buffer[..arrived.len]),
        };
        let request = Offload::from_virtio(header);
        let Some(offload) = checked(request, start, &buffer[start..arrived.len]) else {
            return self.refuse(DropReason::BadOffload, arrived.len);
        };
        let mut frame = buffer.into_frame(start..arrived.len);
        frame.meta.tag = tag;
        frame.meta.offload = offload;
        batch.push(frame);
    }

    #[cold]
    fn refuse(&self, reason: DropReason, octets: usize) {
        self.outbox.counters.received_and_dropped(self.outbox.worker, reason, 1, octets as u64);
    }
}

fn send(fd: BorrowedFd<'_>, chunk: &[Entry<'_>]) -> io::Result<Sent> {
    let mut tags = [[0; 4]; LIMIT];
    let mut headers = [[0; TAP_HEADER]; LIMIT];
    let mut pieces: [[&[u8]; 4]; LIMIT] = [[&[]; 4]; LIMIT];
    let mut ready = 0;
    for (((entry, tag), header), pieces) in chunk.iter().zip(&mut tags).zip(&mut headers).zip(&mut pieces) {
        let [first, middle, last] = parts(entry, tag);
        let Some(request) = entry.meta.offload.shifted(middle.len() as isize) else { break };
        *header = request.to_virtio();
        *pieces = [&header[..HEADER], first, middle, last];
        ready += 1;
    }
    if ready == 0 {
        // Offsets that a tag pushed out of what the header can tell.
        return Ok(Sent { refused: Some(DropReason::TransmitError), ..Sent::default() });
    }
    match datagrams::send(fd, ready, |i| pieces[i]) {
        Ok(taken) => Ok(Sent { taken, ..Sent::default() }),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::AGAIN) => Ok(Sent { full: true, ..Sent::default() }),
            Some(Errno::MSGSIZE) => Ok(Sent { refused: Some(DropReason::TooLong), ..Sent::default() }),
            Some(Errno::NXIO | Errno::NODEV) => Err(error),
            // The interface is down, or its queue is full, or it refuses this frame.
            _ => Ok(Sent { refused: Some(DropReason::TransmitError), ..Sent::default() }),
        },
    }
}

impl AsFd for PacketQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
