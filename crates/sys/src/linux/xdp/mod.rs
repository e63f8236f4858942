//! Sockets that get frames from an XDP program and send through one queue of an interface (AF_XDP; Documentation/
//! networking/af_xdp.rst).
//!
//! Theory of operation. A socket has memory of its own, cut into chunks of one frame each. Every chunk is in one hand:
//! the kernel's, to receive into; ours, between a received frame and its return; free, to be sent from; or the
//! kernel's again, until it was sent. Four rings hand chunks over: *fill* and *received*, *to send* and *completed*.
//! The first chunks are for receiving and the others for sending, for good, so neither can take the other's.

mod ring;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use self::ring::{Consumer, Offsets, Producer};
use super::memory::Memory;
use super::socket::{Plain, check, option, set_option, set_option_with_addresses};

/// Octets that the kernel keeps for itself in front of every received frame (`XDP_PACKET_HEADROOM`).
pub const HEADROOM: usize = 256;

/// How a socket's memory is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Octets of a chunk: a power of two between 2048 and a page.
    pub chunk: usize,
    /// Chunks for receiving, a power of two.
    pub receive: u32,
    /// Chunks for sending, a power of two.
    pub send: u32,
}

/// A socket and its rings.
pub struct Socket {
    fd: OwnedFd,
    chunks: Memory,
    options: Options,
    fill: Producer<u64>,
    received: Consumer<libc::xdp_desc>,
    to_send: Producer<libc::xdp_desc>,
    completed: Consumer<u64>,
    /// Chunks to send from, which nobody has.
    free: Vec<u32>,
}

impl Socket {
    /// Opens a socket with its memory and rings; every chunk for receiving is the kernel's already.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` where the kernel has no such sockets; `EPERM` without CAP_NET_RAW; `ENOBUFS` beyond what may be
    /// locked in memory (RLIMIT_MEMLOCK), without CAP_IPC_LOCK.
    pub fn open(options: Options) -> io::Result<Socket> {
        let Options { chunk, receive, send } = options;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let family = AddressFamily::from_raw(libc::AF_XDP as _);
        let fd = socket_with(family, SocketType::RAW, flags, None)?;
        let chunks = Memory::zeroed(chunk * (receive as usize + send as usize))?;
        let region = libc::xdp_umem_reg {
            addr: chunks.place::<u8>(0, 1)?.as_ptr().expose_provenance() as u64,
            len: chunks.len() as u64,
            chunk_size: chunk as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        // SAFETY: the region is memory that the kernel writes to as well, and lives as long as the socket.
        unsafe { set_option_with_addresses(&fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &region) }?;
        set_option(&fd, libc::SOL_XDP, libc::XDP_UMEM_FILL_RING, &receive)?;
        set_option(&fd, libc::SOL_XDP, libc::XDP_UMEM_COMPLETION_RING, &send)?;
        set_option(&fd, libc::SOL_XDP, libc::XDP_RX_RING, &receive)?;
        set_option(&fd, libc::SOL_XDP, libc::XDP_TX_RING, &send)?;
        let told = offsets(&fd)?;
        let fill = (told.fr, receive, libc::XDP_UMEM_PGOFF_FILL_RING);
        let completed = (told.cr, send, libc::XDP_UMEM_PGOFF_COMPLETION_RING);
        let received = (told.rx, receive, libc::XDP_PGOFF_RX_RING as u64);
        let to_send = (told.tx, send, libc::XDP_PGOFF_TX_RING as u64);
        let mut socket = Socket {
            fill: map::<u64>(&fd, fill).and_then(|(memory, at)| Producer::new(&memory, at, receive))?,
            completed: map::<u64>(&fd, completed)
                .and_then(|(memory, at)| Consumer::new(&memory, at, send))?,
            received: map::<libc::xdp_desc>(&fd, received)
                .and_then(|(memory, at)| Consumer::new(&memory, at, receive))?,
            to_send: map::<libc::xdp_desc>(&fd, to_send)
                .and_then(|(memory, at)| Producer::new(&memory, at, send))?,
            fd,
            chunks,
            options,
            free: Vec::from_iter((receive..receive + send).rev()),
        };
        for number in 0..receive {
            socket.fill.put(u64::from(number) * chunk as u64);
        }
        socket.fill.submit();
        Ok(socket)
    }

    /// Binds it to a queue of the interface with this index; frames are not copied by the kernel where the interface
    /// can do that, unless `copy`.
    ///
    /// # Errors
    /// `EBUSY` when another socket has the queue; `EINVAL` when there is no such queue; `ENODEV`.
    pub fn bind(&self, index: u32, queue: u32, copy: bool) -> io::Result<()> {
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as _,
            sxdp_flags: libc::XDP_USE_NEED_WAKEUP | if copy { libc::XDP_COPY } else { 0 },
            sxdp_ifindex: index,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        let length = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the pointer and the length describe `address`, which lives through the call.
        check(unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), length) })
    }

    /// True if the interface reads and writes the chunks itself.
    ///
    /// # Errors
    /// Errors of getsockopt(2).
    pub fn is_zero_copy(&self) -> io::Result<bool> {
        let mut options = libc::xdp_options { flags: 0 };
        option(&self.fd, libc::SOL_XDP, libc::XDP_OPTIONS, &mut options)?;
        Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
    }

    /// Octets of the next received frame. 0 for an entry that is none.
    pub fn waiting(&mut self) -> Option<usize> {
        let entry = self.received.peek()?;
        Some(self.place(&entry).map_or(0, |(_, _, len)| len))
    }

    /// Takes the next received frame: copies what fits of it to `buffer`, and answers how many octets that are.
    pub fn receive(&mut self, buffer: &mut [u8]) -> usize {
        let Some(entry) = self.received.take() else { return 0 };
        let Some((number, place, len)) = self.place(&entry) else { return 0 };
        let len = len.min(buffer.len());
        // SAFETY: `place` leads to `len` octets of a chunk that the kernel has handed over, and `buffer` is elsewhere.
        unsafe { place.copy_to_nonoverlapping(NonNull::from(&mut *buffer).cast(), len) };
        // There is room for all of them.
        self.fill.put(u64::from(number) * self.options.chunk as u64);
        len
    }

    /// Hands the chunks of what was received back, for more.
    ///
    /// # Errors
    /// `ENETDOWN` while the interface is down; `ENXIO` when it is gone.
    pub fn release(&mut self) -> io::Result<()> {
        self.received.release();
        self.fill.submit();
        if !self.fill.wants_call() {
            return Ok(());
        }
        // SAFETY: the call gets no memory to write to.
        let result = unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
        check(result as libc::c_int)
    }

    /// Takes back the chunks of what was sent; answers how many frames can be sent now.
    pub fn room(&mut self) -> usize {
        let chunk = self.options.chunk as u64;
        while let Some(address) = self.completed.take() {
            let number = (address / chunk) as u32;
            // Each of them is out once.
            if self.is_for_sending(number) && self.free.len() < self.options.send as usize {
                self.free.push(number);
            }
        }
        self.completed.release();
        self.free.len().min(self.to_send.room())
    }

    /// Queues a frame of `len` octets, which `write` puts in its place. False, and nothing is queued, when it is
    /// longer than a chunk or there is no room: [`Socket::room`] makes some.
    pub fn send(&mut self, len: usize, write: impl FnOnce(&mut [u8])) -> bool {
        if len > self.options.chunk || self.to_send.room() == 0 {
            return false;
        }
        let Some(number) = self.free.pop() else { return false };
        let offset = u64::from(number) * self.options.chunk as u64;
        let Ok(place) = self.chunks.place::<u8>(offset, len) else { return false };
        // SAFETY: the octets lie within one chunk, which was free: nobody else has it, the kernel included.
        write(unsafe { NonNull::slice_from_raw_parts(place, len).as_mut() });
        self.to_send.put(libc::xdp_desc { addr: offset, len: len as u32, options: 0 })
    }

    /// How many queued frames the kernel has not taken yet. All of them are known to it from now on.
    pub fn unsent(&mut self) -> usize {
        self.to_send.submit();
        self.to_send.left()
    }

    /// Lets the kernel send what was queued, if it wants to be told.
    ///
    /// # Errors
    /// `EAGAIN` when there is more than it sends at once, or the interface takes no more now; `EBUSY` when the
    /// interface lost a frame; `ENETDOWN` while it is down; `ENXIO` when it is gone.
    pub fn wake(&mut self) -> io::Result<()> {
        if !self.to_send.wants_call() {
            return Ok(());
        }
        // SAFETY: the call gets no memory to read from.
        let result = unsafe {
            libc::sendto(self.fd.as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0)
        };
        check(result as libc::c_int)
    }

    /// The chunk that an entry names, where the frame is, and its length; `None` unless it lies within one chunk for
    /// receiving.
    fn place(&self, entry: &libc::xdp_desc) -> Option<(u32, NonNull<u8>, usize)> {
        let (chunk, len) = (self.options.chunk as u64, u64::from(entry.len));
        let number =
            u32::try_from(entry.addr / chunk).ok().filter(|number| *number < self.options.receive)?;
        if entry.addr % chunk + len > chunk {
            return None;
        }
        let place = self.chunks.place(entry.addr, len as usize).ok()?;
        Some((number, place, len as usize))
    }

    fn is_for_sending(&self, number: u32) -> bool {
        (self.options.receive..self.options.receive + self.options.send).contains(&number)
    }
}

/// Readable while a received frame is there.
impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Maps a ring of entries of this type: where the kernel says its parts are, how many places it has, and where it
/// begins for mmap(2).
fn map<T>(
    fd: &OwnedFd,
    (told, size, begin): (libc::xdp_ring_offset, u32, u64),
) -> io::Result<(Arc<Memory>, Offsets)> {
    let offsets =
        Offsets { producer: told.producer, consumer: told.consumer, flags: told.flags, entries: told.desc };
    let len = told.desc + u64::from(size) * size_of::<T>() as u64;
    Ok((Arc::new(Memory::of(fd, len as usize, begin)?), offsets))
}

// SAFETY: integers that are no addresses.
unsafe impl Plain for libc::xdp_options {}
// SAFETY: integers that are no addresses.
unsafe impl Plain for libc::xdp_mmap_offsets {}

fn offsets(fd: &OwnedFd) -> io::Result<libc::xdp_mmap_offsets> {
    let none = libc::xdp_ring_offset { producer: 0, consumer: 0, desc: 0, flags: 0 };
    let mut told = libc::xdp_mmap_offsets { rx: none, tx: none, fr: none, cr: none };
    option(fd, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, &mut told)?;
    Ok(told)
}

#[cfg(test)]
mod tests;
