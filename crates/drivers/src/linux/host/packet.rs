//! Packet sockets: the wire's side of an interface, beside the host's own stack.
//!
//! Theory of operation. The worker that receives has the socket's ring ([`vmlan_sys::packet::Ring`]), which the kernel
//! fills with the frames that a slot holds: they are copied to a buffer of the pool, and cost no system call. A larger
//! one, of segments as a rule, waits in the socket's receive queue, and one system call reads it into a large buffer.
//! All workers send, many frames a call. A tag that the kernel took off a frame is told by its slot and goes beside the
//! frame. Checksums and segmentation may be left open in both directions.
//!
//! An interface may have frames of TCP that are longer than an IP packet can tell ("BIG TCP"), as the other end of a
//! veth pair whose `gso_max_size` is larger than 65536. They are read into memory of the queue's own and divided at
//! once.
//!
//! A frame that finds no free slot, or no room in the receive queue, is lost. The kernel then marks the next slot that
//! it fills, and the worker counts the losses when it sees the mark.
//!
//! To make a ring takes the kernel milliseconds. So that is not the workers' business: the endpoint has it, and lends
//! it to the queue that receives.
//!
//! The socket tells once that the interface went down, and is ready until it was asked, which a ring does not do. So
//! some of the looks that find no frame ask it. That the interface is gone for ever is told to who sends.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use vmlan_frame::offload::{divide, parts as divided};
use vmlan_frame::{
    Batch, Context, DropReason, ETHERNET_HEADER, Entry, Frame, Mutex, Offload, SegmentError, Size, Takes,
    VLAN_TAG, VlanTag, WriteBuf,
};
use vmlan_sys::datagrams::{self, LIMIT};
use vmlan_sys::packet::{HEADER, Place, Ring, Slot};

use crate::parts::parts;
use crate::queue::{Endpoint, Fault, Outbox, Progress, Queue, Sent, Settings, Status};
use crate::tap::checked;

/// Octets of the header of a TAP, which has the number of buffers behind that of a packet socket.
const TAP_HEADER: usize = vmlan_sys::tap::HEADER;

/// Octets of one batch, more or less: they fit the cache that belongs to one processor, and to move them takes no
/// longer than to move a batch of small frames.
const BATCH_OCTETS: usize = 256 << 10;

/// Octets of the longest frame that is no longer than an IP packet.
const PACKET: usize = ETHERNET_HEADER + 65_535;

/// Octets of the longest frame that an interface may have (`GSO_MAX_SIZE` of Linux), with tags.
const LONG: usize = 8 * 65_536 + 64;

/// Octets in front of a tag.
const ADDRESSES: usize = 12;

/// Of so many looks that find no frame one asks the socket: a worker that polls is to make few system calls, and one
/// that is woken by an error few rounds.
const EMPTY_LOOKS: u32 = 8;

/// A packet socket, which gets copies of the frames of an interface: the host's stack gets them too.
pub struct PacketSocket {
    fd: Arc<OwnedFd>,
    /// There while no queue has it.
    ring: Arc<Mutex<Option<Ring>>>,
}

impl PacketSocket {
    /// Receives by this ring, and sends by its socket.
    pub fn new(ring: Ring) -> PacketSocket {
        PacketSocket { fd: ring.socket().clone(), ring: Arc::new(Mutex::new(Some(ring))) }
    }
}

impl Endpoint for PacketSocket {
    fn queue(&self, settings: Settings) -> io::Result<Box<dyn Queue>> {
        let mut ring = None;
        if settings.receives {
            // One worker takes from it: the order of frames is kept.
            ring = self.ring.lock().take();
            if ring.is_none() {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "another worker has the receive ring",
                ));
            }
        }
        let (fd, home) = (self.fd.clone(), self.ring.clone());
        let outbox = Outbox::new(&settings);
        Ok(Box::new(PacketQueue { fd, ring, home, long: Vec::new(), empty: 0, outbox }))
    }

    fn mechanism(&self) -> String {
        format!(
            "receive ring (TPACKET_V2) and sendmmsg on a packet socket, read for large frames, offloads: {}",
            takes()
        )
    }
}

fn takes() -> Takes {
    Takes::CHECKSUM | Takes::TSO4 | Takes::TSO6 | Takes::ECN
}

struct PacketQueue {
    fd: Arc<OwnedFd>,
    /// Where this worker receives.
    ring: Option<Ring>,
    /// Where it goes back to.
    home: Arc<Mutex<Option<Ring>>>,
    /// Where a frame that is longer than an IP packet is read to; made for the first one.
    long: Vec<u8>,
    /// Looks that found no frame since the socket was asked.
    empty: u32,
    outbox: Outbox,
}

impl Queue for PacketQueue {
    fn descriptor(&self, number: usize) -> Option<BorrowedFd<'_>> {
        // The socket, which is readable while a slot at the front has a frame.
        (number == 0).then(|| self.fd.as_fd())
    }

    fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault> {
        let Some(ring) = &mut self.ring else { return Ok(Progress::Done) };
        let (mut octets, mut found, mut losing) = (0, false, false);
        // What is refused counts as well.
        for _ in 0..batch.room() {
            if octets >= BATCH_OCTETS {
                break;
            }
            let Some(slot) = ring.front() else { break };
            found = true;
            let len = slot.len();
            let taken = if len > PACKET {
                take_long(&self.fd, &slot, cx, &mut self.long, batch)
            } else {
                take(&self.fd, &slot, cx).map(|frame| batch.push(frame))
            };
            match taken {
                Ok(()) => {}
                Err(Trouble::Wait) => break,
                Err(Trouble::Refused(reason)) => self.outbox.refuse(reason, 1, len),
                Err(Trouble::Fault(fault)) => return Err(fault),
            }
            losing |= slot.is_losing();
            octets += len;
            slot.give_back();
        }
        if losing {
            self.count_losses();
        }
        if !found {
            self.ask()?;
        }
        Ok(Progress::Done)
    }

    fn transmit(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        let fd = &self.fd;
        let result = self.outbox.send(cx, batch, |chunk| send(fd.as_fd(), chunk));
        result.map_err(|error| {
            self.outbox.abandon(cx, batch, DropReason::NoPeer);
            fault(Errno::from_io_error(&error).unwrap_or(Errno::IO))
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
    /// Counts what the kernel had no slot for.
    #[cold]
    fn count_losses(&self) {
        // An error: the socket is about to fail in a way that is told.
        let lost = self.ring.as_ref().map_or(Ok(0), Ring::take_losses).unwrap_or(0);
        if lost > 0 {
            self.outbox.refuse(DropReason::InputQueue, lost.into(), 0);
        }
    }

    /// Asks the socket, now and then, what it has to say.
    fn ask(&mut self) -> Result<(), Fault> {
        self.empty = (self.empty + 1) % EMPTY_LOOKS;
        if self.empty != 0 {
            return Ok(());
        }
        match socket_error(&self.fd).and_then(|told| told) {
            // Frames come again when the interface is up.
            Ok(()) | Err(Errno::NETDOWN) => Ok(()),
            Err(error) => Err(fault(error)),
        }
    }
}

impl Drop for PacketQueue {
    fn drop(&mut self) {
        if self.ring.is_some() {
            self.count_losses();
            *self.home.lock() = self.ring.take();
        }
    }
}

/// Why a slot gave no frame.
enum Trouble {
    /// Not now: the slot stays, and the descriptor is ready.
    Wait,
    Refused(DropReason),
    Fault(Fault),
}

impl Trouble {
    fn of(error: Errno) -> Trouble {
        match error {
            // The interface went down: the frame is still there.
            Errno::INTR | Errno::NETDOWN => Trouble::Wait,
            // It is not, though the slot says so.
            Errno::AGAIN => Trouble::Refused(DropReason::InputQueue),
            error => Trouble::Fault(fault(error)),
        }
    }
}

fn fault(error: Errno) -> Fault {
    match error {
        Errno::NXIO | Errno::NODEV => Fault::Gone,
        error => Fault::Io(error.into()),
    }
}

/// The tag that the kernel took off a frame: one that goes beside it, or one that goes back into it.
#[inline]
fn tags(slot: &Slot<'_>) -> (Option<VlanTag>, Option<(u16, u16)>) {
    match slot.tag() {
        Some((VlanTag::TPID, tci)) => (Some(VlanTag { tci }), None),
        // A service tag goes back to where it was: to the network it is payload.
        within => (None, within),
    }
}

/// Makes frames of one that is longer than an IP packet.
#[cold]
fn take_long(
    fd: &OwnedFd,
    slot: &Slot<'_>,
    cx: &Context<'_>,
    long: &mut Vec<u8>,
    batch: &mut Batch,
) -> Result<(), Trouble> {
    if slot.place() != Place::Queue {
        return Err(Trouble::Refused(DropReason::InputQueue));
    }
    if cx.pool.free(Size::Large) < divided(slot.len().min(LONG)) {
        return Err(Trouble::Wait);
    }
    long.resize(LONG, 0);
    let (beside, within) = tags(slot);
    let gap = if within.is_some() { VLAN_TAG } else { 0 };
    let mut header = [0; HEADER];
    let (addresses, rest) = long.split_at_mut(ADDRESSES);
    let slices = &mut [&mut header[..], addresses, &mut rest[gap..]].map(IoSliceMut::new);
    let read = rustix::io::readv(fd, slices).map_err(Trouble::of)?;
    let len = slot.len() + gap;
    if len > LONG {
        return Err(Trouble::Refused(DropReason::Oversize));
    }
    if read != HEADER + slot.len() {
        return Err(Trouble::Refused(DropReason::Malformed));
    }
    if let Some((protocol, tci)) = within {
        long[ADDRESSES..][..2].copy_from_slice(&protocol.to_be_bytes());
        long[ADDRESSES + 2..][..2].copy_from_slice(&tci.to_be_bytes());
    }
    let (start, tag) = match beside {
        None if gap == 0 => VlanTag::take(&mut long[..len]),
        beside => (0, beside),
    };
    let mut told = [0; TAP_HEADER];
    told[..HEADER].copy_from_slice(&header);
    let request = Offload::from_virtio(&told).shifted(gap as isize - start as isize);
    let request = request.ok_or(Trouble::Refused(DropReason::BadOffload))?;
    let before = batch.len();
    divide(&long[start..len], request, cx.pool, batch).map_err(|error| {
        Trouble::Refused(match error {
            SegmentError::NoBuffer => DropReason::NoBuffer,
            SegmentError::NotValid(_) => DropReason::BadOffload,
        })
    })?;
    batch.iter_mut().skip(before).for_each(|frame| frame.meta.tag = tag);
    Ok(())
}

/// Makes a frame of what is in a slot.
#[inline]
fn take(fd: &OwnedFd, slot: &Slot<'_>, cx: &Context<'_>) -> Result<Frame, Trouble> {
    let (beside, within) = tags(slot);
    if within.is_some() && slot.len() < ADDRESSES {
        return Err(Trouble::Refused(DropReason::Malformed));
    }
    let gap = if within.is_some() { VLAN_TAG } else { 0 };
    let mut header = [0; TAP_HEADER];
    let (ours, _) = header.split_first_chunk_mut::<HEADER>().expect("a TAP's header is longer");
    let mut buffer = match slot.place() {
        Place::Here(told, octets) => {
            let mut buffer = cx.pool.take(Size::Small).ok_or(Trouble::Wait)?;
            let (addresses, rest) = octets.split_at(octets.len().min(ADDRESSES));
            buffer[..addresses.len()].copy_from_slice(addresses);
            buffer[ADDRESSES + gap..][..rest.len()].copy_from_slice(rest);
            *ours = *told;
            buffer
        }
        Place::Queue => {
            let mut buffer = cx.pool.take(Size::Large).ok_or(Trouble::Wait)?;
            let (addresses, rest) = buffer.split_at_mut(ADDRESSES);
            let slices = &mut [ours, addresses, &mut rest[gap..]].map(IoSliceMut::new);
            let read = rustix::io::readv(fd, slices).map_err(Trouble::of)?;
            if slot.len() + gap > buffer.len() {
                return Err(Trouble::Refused(DropReason::Oversize));
            }
            if read != HEADER + slot.len() {
                return Err(Trouble::Refused(DropReason::Malformed));
            }
            buffer
        }
        Place::Lost => return Err(Trouble::Refused(DropReason::InputQueue)),
        Place::Nowhere => return Err(Trouble::Refused(DropReason::Malformed)),
    };
    if let Some((protocol, tci)) = within {
        buffer[ADDRESSES..][..2].copy_from_slice(&protocol.to_be_bytes());
        buffer[ADDRESSES + 2..][..2].copy_from_slice(&tci.to_be_bytes());
    }
    let request = Offload::from_virtio(&header);
    finish(buffer, slot.len() + gap, (gap, request), beside).map_err(Trouble::Refused)
}

/// Makes a frame of the first `len` octets of a buffer. The request is from before `gap` octets came into its headers.
#[inline]
fn finish(
    mut buffer: WriteBuf,
    len: usize,
    (gap, request): (usize, Offload),
    beside: Option<VlanTag>,
) -> Result<Frame, DropReason> {
    let (start, tag) = match beside {
        None if gap == 0 => VlanTag::take(&mut buffer[..len]),
        beside => (0, beside),
    };
    let by = gap as isize;
    let request = if request.is_none() { Some(request) } else { request.shifted(by) };
    let offload = request.and_then(|request| checked(request, start, &buffer[start..len]));
    let mut frame = buffer.into_frame(start..len);
    frame.meta.tag = tag;
    frame.meta.offload = offload.ok_or(DropReason::BadOffload)?;
    Ok(frame)
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
