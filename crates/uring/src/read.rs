use std::alloc::{self, Layout};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, cqueue, opcode, register};

/// The only group of buffers.
const GROUP: u16 = 0;

/// Places for requests; the kernel wants at least as many for completions.
const REQUESTS: u32 = 4;

/// Marks the read; its cancellation has another mark.
const READ: u64 = 1;
const CANCEL: u64 = 2;

/// Reads from one descriptor into buffers that the kernel picks: one request, armed once, gives a completion for each
/// read for as long as there are buffers. Its own descriptor is readable when there may be completions.
pub struct Reader {
    ring: IoUring,
    entries: Entries,
    /// The buffers that the kernel has, by id.
    lent: Vec<Option<Box<[u8]>>>,
    free: Vec<u16>,
    /// The read is with the kernel.
    armed: bool,
}

impl Reader {
    /// A reader with places for `buffers` buffers (a power of two up to 32768).
    ///
    /// # Errors
    /// The errors of io_uring_setup(2) and io_uring_register(2); `EINVAL` on kernels without reads into picked buffers.
    pub fn new(buffers: u16) -> io::Result<Reader> {
        // The kernel does its part when this thread enters it, whatever for, so that waiting in a poller is enough: a
        // ring that defers its work until it is entered itself wakes no poller.
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize((u32::from(buffers) * 2).max(REQUESTS))
            .build(REQUESTS)?;
        let mut probe = register::Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::ReadMulti::CODE) {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
        let entries = Entries::new(buffers)?;
        // SAFETY: the entries are zeroed, page-aligned, of this number, and stay until the ring is gone (see `Drop`).
        unsafe { ring.submitter().register_buf_ring_with_flags(entries.address(), buffers, GROUP, 0) }?;
        let lent = Vec::from_iter((0..buffers).map(|_| None));
        Ok(Reader { ring, entries, lent, free: Vec::from_iter((0..buffers).rev()), armed: false })
    }

    /// How many more buffers the kernel takes.
    pub fn places(&self) -> usize {
        self.free.len()
    }

    /// Gives the kernel a buffer to read into.
    ///
    /// # Errors
    /// The buffer, when there is no place for it.
    pub fn provide(&mut self, mut buffer: Box<[u8]>) -> Result<(), Box<[u8]>> {
        let Some(id) = self.free.pop() else { return Err(buffer) };
        self.entries.push(buffer.as_mut_ptr(), buffer.len() as u32, id);
        self.lent[usize::from(id)] = Some(buffer);
        Ok(())
    }

    /// Hands at most `limit` reads to `take`, each with its buffer and how many octets are in it. Never waits.
    ///
    /// # Errors
    /// Why the last read failed; it has to be armed again then.
    pub fn reap(&mut self, limit: usize, mut take: impl FnMut(Box<[u8]>, usize)) -> io::Result<()> {
        if self.ring.submission().taskrun() {
            self.ring.submit()?;
        }
        let mut failure = None;
        for completion in self.ring.completion().take(limit) {
            if completion.user_data() == READ {
                self.armed = cqueue::more(completion.flags());
            }
            let lent = &mut self.lent;
            let id = cqueue::buffer_select(completion.flags());
            let buffer = id.and_then(|id| lent[usize::from(id)].take().inspect(|_| self.free.push(id)));
            match (usize::try_from(completion.result()), buffer) {
                (Ok(len), Some(buffer)) => take(buffer, len),
                (Ok(_), None) => {}
                (Err(_), _) => failure = Some(-completion.result()),
            }
        }
        match failure {
            // Armed again when there are buffers; interrupted and not ready are no failures.
            None | Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR) => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(code)),
        }
    }

    /// Takes every buffer back from the kernel, whose table still has their addresses: nothing is read any more.
    pub fn close(mut self) -> Vec<Box<[u8]>> {
        self.disarm();
        self.lent.iter_mut().filter_map(Option::take).collect()
    }

    /// True if the kernel is reading. It stops for want of buffers, among other reasons.
    pub fn is_armed(&self) -> bool {
        self.armed
    }

    /// Makes the kernel read `fd` from now on, unless it does or has no buffer to read into. A reader stays with one
    /// descriptor.
    ///
    /// # Errors
    /// No memory.
    pub fn arm(&mut self, fd: impl AsFd) -> io::Result<()> {
        if self.armed {
            // An earlier attempt may have left the request in the queue.
            return if self.ring.submission().is_empty() { Ok(()) } else { self.ring.submit().map(drop) };
        }
        if self.free.len() == self.lent.len() {
            return Ok(());
        }
        let fd = fd.as_fd();
        let read = opcode::ReadMulti::new(Fd(fd.as_raw_fd()), 0, GROUP).build().user_data(READ);
        // SAFETY: the request names no memory: the kernel picks among the buffers that it was lent. It takes its own
        // reference to the descriptor's file.
        if unsafe { self.ring.submission().push(&read) }.is_err() {
            return Err(io::Error::other("the submission queue is full"));
        }
        // From here on it may become the kernel's, whatever comes of handing it over now.
        self.armed = true;
        self.ring.submit().map(drop)
    }

    /// Ends the read, and waits until the kernel has let go of the buffers.
    fn disarm(&mut self) {
        if !self.armed {
            return;
        }
        let cancel = opcode::AsyncCancel::new(READ).build().user_data(CANCEL);
        // SAFETY: the request names no memory.
        let pushed = unsafe { self.ring.submission().push(&cancel) };
        pushed.expect("at most the read is queued beside it");
        while self.armed {
            // Only a signal interrupts this; the kernel answers a cancellation at once.
            let _ = self.ring.submit_and_wait(1);
            for completion in self.ring.completion() {
                if completion.user_data() == READ {
                    self.armed = cqueue::more(completion.flags());
                }
            }
        }
    }
}

impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring owns the descriptor and lives as long as the borrow of `self`.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.disarm();
        // Nothing is armed, so the kernel touches neither buffers nor entries any more, whatever this answers.
        let _ = self.ring.submitter().unregister_buf_ring(GROUP);
    }
}

/// The table through which buffers are lent to the kernel (struct io_uring_buf_ring).
struct Entries {
    base: NonNull<BufRingEntry>,
    layout: Layout,
    count: u16,
    tail: u16,
}

// SAFETY: the table belongs to the process and not to a thread, and only its owner touches it.
unsafe impl Send for Entries {}

impl Entries {
    fn new(count: u16) -> io::Result<Entries> {
        /// The kernel wants the table at the beginning of a page; no page is larger.
        const PAGE: usize = 64 << 10;
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        if !count.is_power_of_two() {
            return Err(invalid());
        }
        let layout = Layout::array::<BufRingEntry>(count.into()).and_then(|layout| layout.align_to(PAGE));
        let layout = layout.map_err(|_| invalid())?;
        // SAFETY: the layout has a size, as the count is not 0.
        let base = NonNull::new(unsafe { alloc::alloc_zeroed(layout) }).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Entries { base: base.cast(), layout, count, tail: 0 })
    }

    fn address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// Lends the kernel the memory at `address`, under `id`.
    fn push(&mut self, address: *mut u8, len: u32, id: u16) {
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: the index is below the number of entries, zero is a valid entry, and the kernel
        // reads this entry only once the tail has passed it.
        let entry = unsafe { self.base.add(index).as_mut() };
        entry.set_addr(address as u64);
        entry.set_len(len);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the base is the first entry of a zeroed table; the field is aligned and shared with the
        // kernel as an atomic.
        let tail = unsafe { &*BufRingEntry::tail(self.base.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; the ring that knew of it is gone, or has forgotten it.
        unsafe { alloc::dealloc(self.base.as_ptr().cast(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    fn reader() -> Option<Reader> {
        match Reader::new(4) {
            Ok(reader) => Some(reader),
            Err(error) => {
                eprintln!("SKIPPED: io_uring is not allowed here: {error}");
                None
            }
        }
    }

    fn reap(reader: &mut Reader, socket: &UnixDatagram, limit: usize) -> Vec<(Box<[u8]>, usize)> {
        let mut reads = Vec::new();
        reader.arm(socket).unwrap();
        reader.reap(limit, |buffer, len| reads.push((buffer, len))).unwrap();
        reads
    }

    #[test]
    fn where_rings_work_the_probe_says_so() {
        if reader().is_some() {
            crate::probe().unwrap();
        }
    }

    #[test]
    fn reads_come_in_order_and_buffers_come_back() {
        let Some(mut reader) = reader() else { return };
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        for _ in 0..4 {
            reader.provide(vec![0; 16].into()).unwrap();
        }
        assert!(reader.provide(vec![0; 16].into()).is_err());
        assert!(reap(&mut reader, &ours, 10).is_empty());
        for octet in 1..=6 {
            theirs.send(&[octet; 8]).unwrap();
        }
        let mut seen = Vec::new();
        while seen.len() < 6 {
            for (buffer, len) in reap(&mut reader, &ours, 2) {
                assert_eq!(len, 8);
                seen.push(buffer[0]);
                reader.provide(buffer).unwrap();
            }
        }
        assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
        assert_eq!(reader.close().len(), 4);
    }

    #[test]
    fn without_buffers_nothing_is_read_and_nothing_is_lost() {
        let Some(mut reader) = reader() else { return };
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        theirs.send(b"first").unwrap();
        assert!(reap(&mut reader, &ours, 10).is_empty());
        reader.provide(vec![0; 16].into()).unwrap();
        let mut reads = reap(&mut reader, &ours, 10);
        theirs.send(b"second").unwrap();
        assert!(reap(&mut reader, &ours, 10).is_empty());
        reader.provide(reads.remove(0).0).unwrap();
        let reads = reap(&mut reader, &ours, 10);
        assert_eq!(&reads[0].0[..reads[0].1], b"second");
    }

    #[test]
    fn readiness_is_told_by_its_own_descriptor() {
        let Some(mut reader) = reader() else { return };
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let poller = vmlan_sys::Poller::new().unwrap();
        poller.add(&reader, 7, vmlan_sys::Interest::READ).unwrap();
        reader.provide(vec![0; 16].into()).unwrap();
        assert!(reap(&mut reader, &ours, 10).is_empty());
        let mut ready = Vec::new();
        for _ in 0..3 {
            theirs.send(b"frame").unwrap();
            poller.wait(&mut ready, Some(std::time::Duration::from_secs(10))).unwrap();
            assert_eq!(ready.len(), 1);
            assert!(ready[0].read && ready[0].token == 7);
            let buffer = reap(&mut reader, &ours, 10).remove(0).0;
            reader.provide(buffer).unwrap();
            poller.wait(&mut ready, Some(std::time::Duration::ZERO)).unwrap();
            assert!(ready.is_empty());
        }
    }

    #[test]
    fn dropping_an_armed_reader_ends_the_read() {
        let Some(mut reader) = reader() else { return };
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        reader.provide(vec![0; 16].into()).unwrap();
        assert!(reap(&mut reader, &ours, 10).is_empty());
        drop(reader);
        theirs.send(b"frame").unwrap();
        assert_eq!(ours.recv(&mut [0; 16]).unwrap(), 5);
    }
}
