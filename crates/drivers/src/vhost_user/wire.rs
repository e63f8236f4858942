//! The socket of a connection, as its thread reads and writes it: whole messages, with the descriptors that come along,
//! and never longer than a front end may take.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, Shutdown, recvmsg, send, shutdown,
};
use vmlan_sys::Waker;

use super::message::{HEADER, Header, Violation, violation};
use crate::peer::PeerSocket;
use crate::queue::Fault;

/// Time from the first octet of a message to its last, and for the front end to take an answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Descriptors that come with one message at most (SCM_MAX_FD). There is room for all of them always, for the kernel
/// closes those that do not fit in the thread that receives, and does not say so.
const DESCRIPTORS: usize = 253;

/// Room for control data that other options of an inherited socket ask for.
const OTHER_CONTROL: usize = 512;

/// The end of a connection.
#[derive(Debug)]
pub(super) enum End {
    /// The port wants no more of it.
    Stopped,
    /// It broke.
    Fault(Fault),
}

impl From<Violation> for End {
    fn from(Violation(text): Violation) -> End {
        End::Fault(Fault::Violation(text))
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Fault(Fault::Io(error))
    }
}

impl From<Errno> for End {
    fn from(error: Errno) -> End {
        End::Fault(Fault::of_socket(error.into()))
    }
}

/// The reason to go on after waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Woken {
    /// The socket is ready.
    pub(super) socket: bool,
    /// The rings have something to tell.
    pub(super) rings: bool,
}

/// A socket, the waker that ends its thread, and the descriptors that came with the message in hand.
pub(super) struct Wire {
    socket: PeerSocket,
    stop: Arc<Waker>,
    /// Those of the last message that were not taken. They stay here when a message ends the connection: closing them
    /// may take long, and the end is to be told first.
    pub(super) descriptors: Vec<OwnedFd>,
}

impl Wire {
    pub(super) fn new(socket: OwnedFd, stop: Arc<Waker>) -> Wire {
        // Only if there is never a thread, its socket is closed by another.
        Wire { socket: PeerSocket::from_parts(socket, false), stop, descriptors: Vec::new() }
    }

    /// Waits for the socket, or for `rings`, for at most `timeout`.
    pub(super) fn wait(
        &self,
        socket: PollFlags,
        rings: Option<&Waker>,
        timeout: Option<Duration>,
    ) -> Result<Woken, End> {
        let mut fds = vec![PollFd::new(&self.stop, PollFlags::IN), PollFd::new(&self.socket, socket)];
        fds.extend(rings.map(|rings| PollFd::new(rings, PollFlags::IN)));
        let timeout =
            timeout.map(|timeout| Timespec::try_from(timeout).expect("a timeout is far below 2^63 s"));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Woken { socket: false, rings: false }),
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let is_ready = |place: usize| fds.get(place).is_some_and(|fd| !fd.revents().is_empty());
        if is_ready(0) {
            return Err(End::Stopped);
        }
        Ok(Woken { socket: is_ready(1), rings: is_ready(2) })
    }

    /// Does nothing for so long.
    pub(super) fn pause(&self, duration: Duration) -> Result<(), End> {
        let until = Instant::now() + duration;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let mut fds = [PollFd::new(&self.stop, PollFlags::IN)];
            let left = Timespec::try_from(left).expect("a pause is far below 2^63 s");
            if matches!(poll(&mut fds, Some(&left)), Ok(1..)) {
                return Err(End::Stopped);
            }
        }
    }

    /// Receives a message; `None` when none is there. Not an octet of the next one is read.
    pub(super) fn receive(&mut self) -> Result<Option<(Header, Vec<u8>)>, End> {
        let mut header = [0; HEADER];
        let mut deadline = None;
        if !self.fill(&mut header, &mut deadline)? {
            return Ok(None);
        }
        let header = Header::parse(&header)?;
        let mut body = vec![0; header.size];
        self.fill(&mut body, &mut deadline)?;
        Ok(Some((header, body)))
    }

    /// Fills `octets`. False when there are none and no message has begun, which the `deadline` says: that is when the
    /// message has to be there.
    fn fill(&mut self, octets: &mut [u8], deadline: &mut Option<Instant>) -> Result<bool, End> {
        let mut filled = 0;
        while filled < octets.len() {
            match self.read(&mut octets[filled..]) {
                Ok(0) => return Err(End::Fault(Fault::Closed)),
                Ok(count) => filled += count,
                Err(End::Fault(Fault::Io(error))) if error.kind() == io::ErrorKind::WouldBlock => {
                    let Some(deadline) = *deadline else { return Ok(false) };
                    let left = deadline.saturating_duration_since(Instant::now());
                    self.wait(PollFlags::IN, None, Some(left))?;
                }
                Err(end) => return Err(end),
            }
            let now = Instant::now();
            if now > *deadline.get_or_insert(now + PATIENCE) && filled < octets.len() {
                return Err(violation!("the front end left a message half sent for {PATIENCE:?}").into());
            }
        }
        Ok(true)
    }

    /// Receives once, and keeps the descriptors that came along.
    fn read(&mut self, octets: &mut [u8]) -> Result<usize, End> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS)) + OTHER_CONTROL];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | vmlan_sys::socket::CLOSE_ON_EXEC;
        let received = recvmsg(&self.socket, &mut [IoSliceMut::new(octets)], &mut control, flags);
        let received = match received {
            Ok(received) => received,
            Err(Errno::AGAIN | Errno::INTR) => return Err(io::Error::from(Errno::AGAIN).into()),
            Err(error) => return Err(error.into()),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other("a descriptor was lost; the limit of open files is too low").into());
        }
        if self.descriptors.len() > DESCRIPTORS {
            return Err(violation!("more than {DESCRIPTORS} descriptors came with a message").into());
        }
        Ok(received.bytes)
    }

    /// Sends all octets.
    pub(super) fn send(&self, octets: &[u8]) -> Result<(), End> {
        let deadline = Instant::now() + PATIENCE;
        let mut sent = 0;
        while sent < octets.len() {
            match send(&self.socket, &octets[sent..], vmlan_sys::socket::SEND_NOW) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(violation!("the front end took no answer for {PATIENCE:?}").into());
                    }
                    self.wait(PollFlags::OUT, None, Some(left))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Ends the connection for the front end, without closing anything.
    pub(super) fn end(&self) {
        // Fails when the front end has ended it already.
        let _ = shutdown(self.socket.as_fd(), Shutdown::Both);
    }

    /// Closes everything, in this thread, which may take long.
    pub(super) fn close(self) {
        drop(self.descriptors);
        drop(self.socket.into_parts());
    }
}

/// A bound on how often something is done: so many at once, and so many a second after that.
pub(super) struct Budget {
    /// The time at which nothing is owed any more.
    full: Instant,
    each: Duration,
    burst: Duration,
}

impl Budget {
    pub(super) fn new(per_second: u32, burst: u32) -> Budget {
        let each = Duration::from_secs(1) / per_second;
        Budget { full: Instant::now(), each, burst: each * burst }
    }

    /// Takes one. Returns how long to wait before it may be done.
    pub(super) fn take(&mut self, now: Instant) -> Duration {
        self.full = self.full.max(now) + self.each;
        (self.full - now).saturating_sub(self.burst)
    }

    /// Takes one if it may be done now.
    pub(super) fn try_take(&mut self, now: Instant) -> bool {
        let before = self.full;
        let is_there = self.take(now).is_zero();
        if !is_there {
            self.full = before;
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_burst_and_then_a_rate() {
        let mut budget = Budget::new(10, 5);
        let start = Instant::now();
        let millis = Duration::from_millis;
        assert!((0..5).all(|_| budget.take(start).is_zero()));
        let wait = budget.take(start);
        assert!(wait > millis(90) && wait <= millis(100), "{wait:?}");
        assert!(!budget.try_take(start) && !budget.try_take(start + millis(100)));
        assert!(budget.try_take(start + millis(210)));
        let later = start + Duration::from_secs(60);
        assert_eq!((0..9).filter(|_| budget.try_take(later)).count(), 5);
    }
}
