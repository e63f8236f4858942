use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use super::{Client, MAX_FRAME, Transmit, prepare};

/// A descriptor that carries a frame per read and write: a TAP without virtio-net header, or an end of a datagram pair.
pub struct RawFdClient {
    fd: OwnedFd,
}

impl RawFdClient {
    /// Takes over `fd`.
    ///
    /// # Errors
    /// When the descriptor cannot be made non-blocking.
    pub fn new(fd: OwnedFd) -> io::Result<RawFdClient> {
        prepare(&fd)?;
        Ok(RawFdClient { fd })
    }
}

impl Client for RawFdClient {
    fn receive(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        frame.clear();
        frame.reserve(MAX_FRAME);
        loop {
            match rustix::io::read(&self.fd, spare_capacity(frame)) {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the descriptor's other side is closed",
                    ));
                }
                Ok(_) => return Ok(true),
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn transmit(&mut self, frame: &[u8]) -> io::Result<Transmit> {
        if frame.is_empty() || frame.len() > MAX_FRAME {
            return Ok(Transmit::Lost);
        }
        match rustix::io::write(&self.fd, frame) {
            Ok(_) => Ok(Transmit::Taken),
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => Ok(Transmit::Full),
            // The kernel's answers to a frame that its interface cannot take, and to an interface that is down.
            Err(Errno::MSGSIZE | Errno::INVAL | Errno::IO) => Ok(Transmit::Lost),
            Err(error) => Err(error.into()),
        }
    }

    fn flush(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn descriptors(&self) -> (BorrowedFd<'_>, Option<BorrowedFd<'_>>) {
        (self.fd.as_fd(), None)
    }
}
