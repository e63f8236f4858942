use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::kqueue::{Event, EventFilter, EventFlags, kevent_timespec, kqueue};

use crate::poll::{Interest, Ready};

/// How many events one wait tells; the others come with the next. So many that a descriptor among hundreds that are
/// always ready is told of by one of the next few.
const EVENTS: usize = 256;

/// Watches descriptors (kqueue).
pub struct Poller {
    queue: OwnedFd,
}

impl Poller {
    /// # Errors
    /// No descriptor or no memory.
    pub fn new() -> io::Result<Poller> {
        Ok(Poller { queue: kqueue()? })
    }

    /// Watches `fd` from now on; its readiness comes with `token`.
    ///
    /// # Errors
    /// Errors of kevent(2) for a descriptor that cannot be watched.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.modify(fd, token, interest)
    }

    /// Changes what `fd` is watched for.
    ///
    /// # Errors
    /// Errors of kevent(2).
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        let number = fd.as_fd().as_raw_fd();
        let add = |watch| if watch { flags(interest) } else { EventFlags::DELETE };
        self.change(EventFilter::Read(number), token, add(interest.read))?;
        self.change(EventFilter::Write(number), token, add(interest.write))
    }

    /// Stops watching `fd`.
    ///
    /// # Errors
    /// Errors of kevent(2).
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        self.modify(fd, 0, Interest { read: false, write: false, edge: false })
    }

    fn change(&self, filter: EventFilter, token: u64, flags: EventFlags) -> io::Result<()> {
        let change = Event::new(filter, flags, token as usize as *mut _);
        // SAFETY: the descriptor in the filter is open: the caller borrows it through the call.
        let result = unsafe { kevent_timespec(&self.queue, &[change], &mut [] as &mut [Event; 0], None) };
        match result {
            Ok(_) => Ok(()),
            // Taking off what was not there is what was wanted.
            Err(rustix::io::Errno::NOENT) if flags == EventFlags::DELETE => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Fills `ready` with what is ready, after waiting for it for at most `timeout` (`None`: as long as it takes).
    /// A signal ends the wait with nothing ready. Reading and writing of one descriptor come apart.
    ///
    /// # Errors
    /// Only for our own bugs.
    pub fn wait(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        ready.clear();
        let timeout =
            timeout.map(|timeout| Timespec::try_from(timeout).expect("a timeout is far below 2^63 s"));
        let mut events = [const { MaybeUninit::uninit() }; EVENTS];
        // SAFETY: no change is asked for, so no descriptor is named.
        let result = unsafe { kevent_timespec(&self.queue, &[], &mut events[..], timeout.as_ref()) };
        let events = match result {
            Ok((events, _)) => events,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        ready.extend(events.iter().map(|event| Ready {
            token: event.udata() as usize as u64,
            read: matches!(event.filter(), EventFilter::Read(_)),
            write: matches!(event.filter(), EventFilter::Write(_)),
            failed: event.flags().contains(EventFlags::EOF),
        }));
        Ok(())
    }
}

/// Ready for reading while something that is watched is ready, so that another poller can watch this one.
impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

fn flags(interest: Interest) -> EventFlags {
    if interest.edge { EventFlags::ADD | EventFlags::CLEAR } else { EventFlags::ADD }
}
