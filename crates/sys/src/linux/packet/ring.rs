//! A ring of slots that the kernel puts received frames into (Documentation/networking/packet_mmap.rst, TPACKET_V2).
//!
//! Theory of operation. The ring is memory that the kernel and this process share, cut into slots of [`SLOT`] octets.
//! A slot belongs to the kernel or to us, as its status word says: the kernel fills the next one of its own and hands
//! it over by writing the status, we hand it back the same way. Both go round in order. When the kernel comes to a slot
//! that is still ours it drops the frame and counts it.
//!
//! A frame that does not fit a slot has only its beginning there: the frame itself waits in the socket's receive queue,
//! in the order of the slots, and is read from there by one system call. So small frames cost no system call, and the
//! large ones are copied once, into a buffer that is in cache. When the receive queue is full the rest of such a frame
//! is lost.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{HEADER, Instruction, deaf, listen};
use crate::linux::memory::Memory;
use crate::linux::socket::{Plain, option, set_option};

/// Octets of a slot: its header, the virtio-net header, and a frame of MTU 1500 with all its tags.
pub const SLOT: usize = 2 << 10;

/// Slots of a ring.
pub const SLOTS: usize = 2048;

/// Octets that the kernel allocates at once; a slot does not cross from one to the next.
const BLOCK: usize = 64 << 10;

const OCTETS: usize = SLOT * SLOTS;

/// Octets that may wait in the receive queue: some dozens of frames of 64 KiB, with what the kernel needs for them.
const RECEIVE_BUFFER: usize = 8 << 20;

/// A packet socket's receive ring.
pub struct Ring {
    socket: Arc<OwnedFd>,
    base: NonNull<u8>,
    _memory: Memory,
    /// The slot that the next frame is in, or comes to.
    front: usize,
}

// SAFETY: the mapping belongs to the process and to no thread, and nothing else refers to it.
unsafe impl Send for Ring {}

impl Ring {
    /// Opens a socket like [`listener`](super::listener), with a ring for what it receives.
    ///
    /// # Errors
    /// As there; `ENOMEM`; `EINVAL` before Linux 4.6.
    pub fn listener(index: u32, filter: &[Instruction]) -> io::Result<Ring> {
        let socket = deaf(filter)?;
        let option = |name, value: libc::c_int| set_option(&socket, libc::SOL_PACKET, name, &value);
        option(libc::PACKET_VERSION, libc::tpacket_versions::TPACKET_V2 as libc::c_int)?;
        // Frames that do not fit a slot are to be had whole.
        option(libc::PACKET_COPY_THRESH, 1)?;
        // Beyond the system's limit only with CAP_NET_ADMIN.
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
        }
        // Before the socket is bound: while the kernel makes a ring, for milliseconds, a bound socket misses that its
        // interface comes up, and would hear nothing until that goes down and comes up again.
        request(&socket)?;
        let memory = Memory::of(&socket, OCTETS, 0)?;
        let ring =
            Ring { base: memory.place(0, OCTETS)?, _memory: memory, socket: Arc::new(socket), front: 0 };
        listen(&ring.socket, index)?;
        Ok(ring)
    }

    /// The socket: to send by it, to read large frames from its queue, to give it another filter.
    pub fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    /// The slot with the next frame, if one is there.
    #[inline]
    pub fn front(&mut self) -> Option<Slot<'_>> {
        // Written by the kernel last, after everything else of the slot.
        let status = self.status().load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the slot lies inside the mapping and begins, aligned, with this structure of plain integers. It
        // is ours until its status is written.
        let header = unsafe { self.slot().cast::<libc::tpacket2_hdr>().read() };
        Some(Slot { ring: self, status, header })
    }

    /// How many frames the kernel had no slot for since this was asked last.
    ///
    /// # Errors
    /// Errors of getsockopt(2).
    pub fn take_losses(&self) -> io::Result<u32> {
        let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        option(&self.socket, libc::SOL_PACKET, libc::PACKET_STATISTICS, &mut statistics)?;
        Ok(statistics.tp_drops)
    }

    fn slot(&self) -> NonNull<u8> {
        // SAFETY: `front` is below the number of slots that are mapped.
        unsafe { self.base.add(self.front * SLOT) }
    }

    fn status(&self) -> &AtomicU32 {
        // SAFETY: a slot begins with its status, an aligned word inside the mapping, which lives as long as `self`
        // and is written by the kernel and by us as a whole only.
        unsafe { self.slot().cast::<AtomicU32>().as_ref() }
    }
}

/// A slot with a frame at the front of a ring. It stays there until it is given back.
pub struct Slot<'a> {
    ring: &'a mut Ring,
    status: u32,
    header: libc::tpacket2_hdr,
}

/// Where the octets of a frame are.
#[derive(Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// In the slot, with their virtio-net header.
    Here(&'a [u8; HEADER], &'a [u8]),
    /// At the front of the socket's receive queue, with their virtio-net header.
    Queue,
    /// Lost: the receive queue was full.
    Lost,
    /// The slot's header makes no sense.
    Nowhere,
}

impl Slot<'_> {
    /// Octets of the frame.
    #[inline]
    pub fn len(&self) -> usize {
        self.header.tp_len as usize
    }

    /// True if the frame has no octets.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tag that the kernel had taken off it: protocol and control information.
    #[inline]
    pub fn tag(&self) -> Option<(u16, u16)> {
        let protocol = match self.status & libc::TP_STATUS_VLAN_TPID_VALID {
            0 => 0x8100,
            _ => self.header.tp_vlan_tpid,
        };
        (self.status & libc::TP_STATUS_VLAN_VALID != 0).then_some((protocol, self.header.tp_vlan_tci))
    }

    /// True if [`Ring::take_losses`] has losses to tell.
    #[inline]
    pub fn is_losing(&self) -> bool {
        self.status & libc::TP_STATUS_LOSING != 0
    }

    /// Where the frame is.
    #[inline]
    pub fn place(&self) -> Place<'_> {
        if self.header.tp_snaplen < self.header.tp_len {
            let is_queued = self.status & libc::TP_STATUS_COPY != 0;
            return if is_queued { Place::Queue } else { Place::Lost };
        }
        let Some(range) = within(&self.header) else { return Place::Nowhere };
        // SAFETY: the range lies inside the slot, behind its header. The kernel writes nothing to a slot that is ours,
        // and it is ours for as long as `self` is borrowed, since giving it back consumes `self`.
        let octets =
            unsafe { std::slice::from_raw_parts(self.ring.slot().add(range.start).as_ptr(), range.len()) };
        let Some((header, octets)) = octets.split_first_chunk() else { return Place::Nowhere };
        Place::Here(header, octets)
    }

    /// Hands the slot back to the kernel.
    #[inline]
    pub fn give_back(self) {
        // After this the kernel may write: whatever was read of the slot was read before.
        self.ring.status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.ring.front = (self.ring.front + 1) % SLOTS;
    }
}

/// Where in its slot a frame is that fits it, with its virtio-net header; `None` when that makes no sense.
#[inline]
fn within(header: &libc::tpacket2_hdr) -> Option<Range<usize>> {
    let start = usize::from(header.tp_mac).checked_sub(HEADER)?;
    let end = usize::from(header.tp_mac).checked_add(header.tp_snaplen as usize)?;
    let is_inside = start >= size_of::<libc::tpacket2_hdr>() && end <= SLOT;
    (is_inside && header.tp_snaplen == header.tp_len).then_some(start..end)
}

// SAFETY: integers that are no addresses.
unsafe impl Plain for libc::tpacket_stats {}
// SAFETY: integers that are no addresses.
unsafe impl Plain for libc::tpacket_req {}

/// Asks for a ring.
fn request(socket: impl AsFd) -> io::Result<()> {
    let request = libc::tpacket_req {
        tp_block_size: BLOCK as libc::c_uint,
        tp_block_nr: (OCTETS / BLOCK) as libc::c_uint,
        tp_frame_size: SLOT as libc::c_uint,
        tp_frame_nr: SLOTS as libc::c_uint,
    };
    set_option(socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_header_leads_out_of_its_slot() {
        let slot = SLOT as u32;
        let cases = [
            // Where the kernel puts a frame that fills the slot, and an empty one.
            ((76, slot - 76, slot - 76), Some(66..SLOT)),
            ((76, 0, 0), Some(66..76)),
            ((76, slot - 75, slot - 75), None),
            ((76, u32::MAX, u32::MAX), None),
            ((u16::MAX, 60, 60), None),
            // Into the slot's own header, or before it.
            ((42, 60, 60), Some(32..102)),
            ((41, 60, 60), None),
            ((9, 60, 60), None),
            ((0, 60, 60), None),
            // More than the frame has.
            ((76, 61, 60), None),
        ];
        for ((tp_mac, tp_snaplen, tp_len), wanted) in cases {
            // SAFETY: plain integers; zero is a valid value of each.
            let zero: libc::tpacket2_hdr = unsafe { std::mem::zeroed() };
            let header = libc::tpacket2_hdr { tp_mac, tp_snaplen, tp_len, ..zero };
            assert_eq!(within(&header), wanted, "{tp_mac} {tp_snaplen} {tp_len}");
        }
    }
}
