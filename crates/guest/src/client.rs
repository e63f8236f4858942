//! The client sides of the virtual machine attachments.
//!
//! A client never blocks: it takes and gives what its descriptor has room for and says when it has none. Whoever
//! drives it polls [`Client::descriptors`].

mod connect;
mod datagram;
mod raw_fd;
mod stream;
mod vde;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

pub use datagram::DatagramClient;
pub use raw_fd::RawFdClient;
pub use stream::StreamClient;
pub use vde::VdeClient;

/// Octets of the largest frame that a client takes or sends: QEMU's 68 KiB buffer less the length prefix.
pub const MAX_FRAME: usize = 69_632 - 4;

/// The outcome of [`Client::transmit`] for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transmit {
    /// It is on its way.
    Taken,
    /// There is no room now: give it again when the descriptor is writable.
    Full,
    /// The medium cannot carry it: the peer is away, or the frame is too large.
    Lost,
}

/// One attachment, as a virtual machine monitor holds it. Frames are Ethernet frames without FCS.
pub trait Client: Send {
    /// Replaces the content of `frame` by the next frame; false when there is none now.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other side closed, `InvalidData` when it broke the protocol, else what the system
    /// call failed with. The client is of no use afterwards.
    fn receive(&mut self, frame: &mut Vec<u8>) -> io::Result<bool>;

    /// Takes one frame.
    ///
    /// # Errors
    /// As [`Client::receive`].
    fn transmit(&mut self, frame: &[u8]) -> io::Result<Transmit>;

    /// Writes what [`Client::transmit`] took and still holds; true when nothing is left.
    ///
    /// # Errors
    /// As [`Client::receive`].
    fn flush(&mut self) -> io::Result<bool>;

    /// Returns the descriptors to poll: the one that frames pass through, and one that is readable only when the
    /// attachment ends.
    fn descriptors(&self) -> (BorrowedFd<'_>, Option<BorrowedFd<'_>>);
}

/// Octets asked for with SO_SNDBUF; the receive buffer is four times as large, as Apple advises for datagrams.
const SEND_BUFFER: usize = 1 << 20;

/// Makes `socket` non-blocking and its buffers large.
fn prepare(socket: impl AsFd) -> io::Result<()> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    // The kernel's limits decide; a smaller buffer costs throughput only.
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER);
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4 * SEND_BUFFER);
    Ok(())
}
