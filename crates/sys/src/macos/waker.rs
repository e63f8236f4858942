use std::io;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Wakes a thread that waits in a [`Poller`](crate::Poller) (a pair of sockets).
pub struct Waker {
    inside: UnixStream,
    outside: UnixStream,
}

impl Waker {
    /// # Errors
    /// No descriptors or no memory.
    pub fn new() -> io::Result<Waker> {
        let (inside, outside) = UnixStream::pair()?;
        inside.set_nonblocking(true)?;
        outside.set_nonblocking(true)?;
        Ok(Waker { inside, outside })
    }

    /// Makes the waker readable until it is cleared. Never blocks and never fails.
    pub fn wake(&self) {
        // WouldBlock means that it is readable already, which is all that is wanted.
        let _ = (&self.outside).write(&[1]);
    }

    /// Makes it unreadable again.
    pub fn clear(&self) {
        let mut octets = [0; 64];
        while matches!((&self.inside).read(&mut octets), Ok(64)) {}
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inside.as_fd()
    }
}
