//! Signals to eventfds that never wait (Linux AIO: io_setup(2), io_submit(2)).
//!
//! Theory of operation. A write to an eventfd that a peer made blocking, and whose counter it filled, waits until the
//! peer reads. The kernel itself does not wait: it adds to the counter as far as there is room. So a [`Bell`] asks for
//! reads of 0 octets from /dev/null, one for each eventfd and all in one call, and each is done before the call is over
//! and signals its eventfd. The kernel also puts an event for each into a ring that it shares with this process. The
//! events are taken out without a call, by moving the ring's head to its tail; where the ring looks other than
//! expected, io_getevents(2) takes them out.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fs::{Mode, OFlags};

/// Reading (`IOCB_CMD_PREAD`); this and the following are of linux/aio_abi.h.
const READ: u16 = 0;

/// The field with an eventfd is meant (`IOCB_FLAG_RESFD`).
const SIGNALS: u32 = 1;

/// A request: struct iocb, whose fields `key` and `flags_of_read` stand in this order on little-endian machines.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Request {
    data: u64,
    key: u32,
    flags_of_read: u32,
    operation: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    octets: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    eventfd: u32,
}

/// An event of a request that is done: struct io_event.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    data: u64,
    request: u64,
    result: i64,
    result2: i64,
}

/// The head of the ring of events: struct aio_ring of the kernel's fs/aio.c, which programs have read since Linux 2.6.
/// Head and tail are numbers of entries, less than `entries`.
#[repr(C)]
struct Ring {
    id: u32,
    entries: u32,
    head: AtomicU32,
    tail: AtomicU32,
    magic: u32,
    compatible: u32,
    incompatible: u32,
    header: u32,
}

impl Ring {
    const MAGIC: u32 = 0xa10a_10a1;

    /// True if it is a ring as this file expects one.
    fn is_known(&self) -> bool {
        self.magic == Ring::MAGIC && self.incompatible == 0 && self.header as usize == size_of::<Ring>()
    }

    /// Takes all events out.
    fn clear(&self) {
        self.head.store(self.tail.load(Ordering::Acquire), Ordering::Release);
    }
}

/// The descriptor of /dev/null that all bells of the process have: those that are kept cost no other one.
static NULL: Mutex<Weak<OwnedFd>> = Mutex::new(Weak::new());

fn null() -> io::Result<Arc<OwnedFd>> {
    let mut kept = NULL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(null) = kept.upgrade() {
        return Ok(null);
    }
    let null = rustix::fs::open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let null = Arc::new(null);
    *kept = Arc::downgrade(&null);
    Ok(null)
}

/// A ringer of eventfds that never waits, whatever their owners did to them. Dropping it takes some milliseconds.
pub struct Bell {
    /// Number of the kernel's context: the address of its ring.
    context: usize,
    /// True if events are taken out in this process.
    is_known: bool,
    /// All the same but for the eventfd.
    requests: Box<[Request; Bell::LIMIT]>,
    _null: Arc<OwnedFd>,
}

impl Bell {
    /// Eventfds that one system call rings at most.
    pub const LIMIT: usize = 16;

    /// Makes a bell, which has a context of the kernel's AIO.
    ///
    /// # Errors
    /// `EAGAIN` when the contexts of all processes have more requests than fs.aio-max-nr; `ENOSYS` where the kernel has
    /// no AIO; what open(2) says of /dev/null.
    pub fn new() -> io::Result<Bell> {
        let null = null()?;
        let request =
            Request { operation: READ, fd: null.as_raw_fd() as u32, flags: SIGNALS, ..Request::default() };
        let requests = Box::new([request; Bell::LIMIT]);
        let mut bell = Bell { context: setup(Bell::LIMIT)?, is_known: false, requests, _null: null };
        bell.is_known = bell.events().is_known();
        Ok(bell)
    }

    /// Adds 1 to the counter of each of these eventfds, or as much as there is room for. Takes one system call for
    /// every [`Bell::LIMIT`] of them. A descriptor that cannot be rung keeps none of the others from being rung.
    ///
    /// # Errors
    /// `EINVAL` for a descriptor that is no eventfd; else what io_submit(2) says. Of several errors it is the first.
    pub fn ring(&mut self, eventfds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut result = Ok(());
        for eventfds in eventfds.chunks(Bell::LIMIT) {
            for (request, eventfd) in self.requests.iter_mut().zip(eventfds) {
                request.eventfd = eventfd.as_raw_fd() as u32;
            }
            let mut rung = 0;
            while rung < eventfds.len() {
                match self.submit(rung, eventfds.len()) {
                    // At least one, or the call had failed.
                    Ok(more) => rung += more.max(1),
                    Err(error) => {
                        result = result.and(Err(error));
                        rung += 1;
                    }
                }
            }
        }
        result
    }

    /// Submits the requests from `first` to `end`; answers how many the kernel took. All of them are done then.
    fn submit(&mut self, first: usize, end: usize) -> io::Result<usize> {
        let mut pointers = [std::ptr::null_mut(); Bell::LIMIT];
        let start = self.requests.as_mut_ptr();
        for (at, pointer) in pointers.iter_mut().enumerate() {
            // SAFETY: there are as many requests as pointers.
            *pointer = unsafe { start.add(at) };
        }
        let pointers = &mut pointers[first..end];
        // SAFETY: the pointers are of requests that live as long as the context and that nothing refers to. They read
        // nothing into memory, and the kernel is done with them when the call returns.
        let submitted = unsafe {
            libc::syscall(
                libc::SYS_io_submit,
                self.context,
                pointers.len() as libc::c_long,
                pointers.as_mut_ptr(),
            )
        };
        let submitted = usize::try_from(submitted).map_err(|_| io::Error::last_os_error());
        self.clear();
        submitted
    }

    /// Takes the events out of the ring, so that there is room for the next.
    fn clear(&self) {
        if self.is_known {
            self.events().clear();
            return;
        }
        let mut events = [Event::default(); Bell::LIMIT];
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: there is room for as many events as it may write, and the time lives through the call.
        unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.context,
                0 as libc::c_long,
                Bell::LIMIT as libc::c_long,
                events.as_mut_ptr(),
                &raw const now,
            )
        };
    }

    fn events(&self) -> &Ring {
        let ring = std::ptr::with_exposed_provenance::<Ring>(self.context);
        // SAFETY: the number of a context is the address of its ring, which is mapped until the context is destroyed,
        // and has more octets than this. Fields that are not atomic never change.
        unsafe { NonNull::new(ring.cast_mut()).expect("a context has a number").as_ref() }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        // SAFETY: the context is ours, and no reference to its ring is left.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

/// Makes a context for so many requests at a time.
fn setup(requests: usize) -> io::Result<usize> {
    // aio_context_t is an unsigned long.
    let mut context: usize = 0;
    // SAFETY: it writes the number of the new context, for which there is room.
    match unsafe { libc::syscall(libc::SYS_io_setup, requests as libc::c_long, &raw mut context) } {
        0 => Ok(context),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::event::{EventfdFlags, eventfd};
    use rustix::io::{read, write};

    use super::*;

    /// The highest count that a write makes: the next one waits.
    const FULL: u64 = 0xffff_ffff_ffff_fffe;

    fn count(fd: &OwnedFd) -> u64 {
        let mut octets = [0; 8];
        assert_eq!(read(fd, &mut octets).unwrap(), 8);
        u64::from_ne_bytes(octets)
    }

    fn eventfds(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()).collect()
    }

    #[test]
    fn every_eventfd_is_rung_once_also_more_than_one_call_takes() {
        let mut bell = Bell::new().unwrap();
        assert!(bell.is_known);
        for number in [0, 1, 2, Bell::LIMIT, Bell::LIMIT + 1, 3 * Bell::LIMIT] {
            let fds = eventfds(number);
            bell.ring(&fds.iter().map(AsFd::as_fd).collect::<Vec<_>>()).unwrap();
            assert!(fds.iter().all(|fd| count(fd) == 1), "{number}");
        }
    }

    #[test]
    fn one_that_is_named_twice_is_rung_twice() {
        let fd = eventfds(1).remove(0);
        Bell::new().unwrap().ring(&[fd.as_fd(), fd.as_fd()]).unwrap();
        assert_eq!(count(&fd), 2);
    }

    #[test]
    fn a_full_eventfd_that_blocks_is_rung_without_waiting() {
        let full = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        write(&full, &FULL.to_ne_bytes()).unwrap();
        let other = eventfds(1).remove(0);
        let mut bell = Bell::new().unwrap();
        for _ in 0..3 {
            bell.ring(&[full.as_fd(), other.as_fd()]).unwrap();
        }
        assert_eq!(count(&other), 3);
        assert_eq!(count(&full), u64::MAX);
    }

    #[test]
    fn there_is_no_end_of_rings() {
        for is_known in [true, false] {
            let fds = eventfds(2);
            let mut bell = Bell::new().unwrap();
            bell.is_known = is_known;
            for _ in 0..100_000 {
                bell.ring(&[fds[0].as_fd(), fds[1].as_fd()]).unwrap();
            }
            assert_eq!([count(&fds[0]), count(&fds[1])], [100_000; 2]);
        }
    }

    #[test]
    fn a_descriptor_that_is_no_eventfd_keeps_no_other_from_being_rung() {
        let fds = eventfds(3);
        let file = rustix::fs::open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let mut bell = Bell::new().unwrap();
        let error = bell.ring(&[fds[0].as_fd(), file.as_fd(), fds[1].as_fd(), file.as_fd(), fds[2].as_fd()]);
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert!(fds.iter().all(|fd| count(fd) == 1));
    }

    #[test]
    fn a_bell_that_is_dropped_gives_its_context_back() {
        let one = Bell::new().unwrap();
        let context = one.context;
        drop(one);
        // SAFETY: the context is none any more, and no requests are given.
        let result = unsafe { libc::syscall(libc::SYS_io_submit, context, 0, std::ptr::null_mut::<usize>()) };
        assert_eq!((result, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EINVAL)));
    }

    #[test]
    fn bells_have_one_descriptor_together() {
        let (one, other) = (Bell::new().unwrap(), Bell::new().unwrap());
        assert!(Arc::ptr_eq(&one._null, &other._null));
    }

    #[test]
    fn a_bell_can_go_to_another_thread() {
        let fd = eventfds(1).remove(0);
        let mut bell = Bell::new().unwrap();
        std::thread::scope(|scope| scope.spawn(|| bell.ring(&[fd.as_fd()])).join().unwrap()).unwrap();
        assert_eq!(count(&fd), 1);
    }
}
