//! The socket of messages to the data path.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// Octets of the longest frame in either direction.
pub const LONGEST: usize = 2048;
/// Octets in front of a frame.
pub const HEADER: usize = 4;
/// Frames that wait for the data path at most; guests ask again for what is lost.
const MOST_WAITING: usize = 256;

/// The socket, with what waits to be sent.
#[derive(Debug)]
pub(super) struct Channel {
    /// Only its readiness is asked of this type, so it fits sockets of both types.
    socket: UnixDatagram,
    waiting: VecDeque<Vec<u8>>,
    /// Frames that were lost since the data path did not take them.
    pub lost: u64,
}

impl Channel {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Channel> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let socket = UnixDatagram::from_std(socket.into())?;
        Ok(Channel { socket, waiting: VecDeque::new(), lost: 0 })
    }

    /// Waits for messages, or for room if some wait to be sent. Safe to cancel.
    pub(super) async fn ready(&self) -> io::Result<()> {
        let interest = match self.waiting.is_empty() {
            true => Interest::READABLE,
            false => Interest::READABLE | Interest::WRITABLE,
        };
        // What is not ready after all is found out by the next call, which clears it.
        self.socket.ready(interest).await.map(drop)
    }

    /// A message that is there: the port and the frame. One that is no message is passed over.
    ///
    /// # Errors
    /// The other end is gone, or the socket fails.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<(u16, &'a [u8])>> {
        loop {
            let received = self.socket.try_io(Interest::READABLE, || {
                Ok(rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::empty())?.0)
            });
            let len = match received {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if (HEADER..=HEADER + LONGEST).contains(&len) {
                let ingress = u16::from_be_bytes([buffer[0], buffer[1]]);
                return Ok(Some((ingress, &buffer[HEADER..len])));
            }
        }
    }

    /// Sends a frame for a port, or to all with 0; what the data path does not take now waits.
    pub(super) fn send(&mut self, ingress: u16, frame: &[u8]) {
        if frame.len() > LONGEST || self.waiting.len() >= MOST_WAITING {
            self.lost += 1;
            return;
        }
        self.waiting.push_back([&ingress.to_be_bytes()[..], &[0, 0], frame].concat());
    }

    /// Sends what waits, as far as there is room.
    ///
    /// # Errors
    /// The other end is gone, or the socket fails.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let flags: SendFlags = vmlan_sys::socket::SEND_NOW;
        while let Some(message) = self.waiting.front() {
            let sent = self
                .socket
                .try_io(Interest::WRITABLE, || Ok(rustix::net::send(&self.socket, message, flags)?));
            match sent {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // macOS has no room for it, and does not tell when it has.
                Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => self.lost += 1,
                Err(error) => return Err(error),
            }
            self.waiting.pop_front();
        }
        Ok(())
    }
}
