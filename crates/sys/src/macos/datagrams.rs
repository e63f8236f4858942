//! Many datagrams in one call. macOS offers no public call for that, so it is one system call a datagram.

use std::io;
use std::io::IoSlice;
use std::ops::DerefMut;
use std::os::fd::AsFd;

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

/// How many datagrams one call moves at most.
pub const LIMIT: usize = 64;

/// The system calls that move them.
pub const CALLS: &str = "recvfrom and sendmsg";

/// A received datagram.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    /// Octets written to the buffer.
    pub len: usize,
    /// Whether the datagram was longer than its buffer; the rest is lost.
    pub truncated: bool,
}

/// Receives at most `buffers.len()` (and [`LIMIT`]) datagrams without waiting, one into each buffer, and describes
/// them in `received`. Answers how many came; descriptors sent along are not taken.
///
/// # Errors
/// `WouldBlock` when none is there; else what recv(2) says.
pub fn receive<B: DerefMut<Target = [u8]>>(
    fd: impl AsFd,
    buffers: &mut [B],
    received: &mut [Received; LIMIT],
) -> io::Result<usize> {
    let mut came = 0;
    for (buffer, received) in buffers.iter_mut().zip(received.iter_mut()) {
        // recv(2) does not tell truncation here: a datagram that fills its buffer is taken for a longer one.
        match rustix::net::recv(&fd, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((len, _)) => *received = Received { len, truncated: len == buffer.len() },
            Err(error) if came == 0 => return Err(error.into()),
            Err(_) => break,
        }
        came += 1;
    }
    Ok(came)
}

/// Sends `count` (at most [`LIMIT`]) datagrams without waiting; `parts(i)` gives the pieces that datagram `i` is
/// gathered from. Answers how many the socket took, at least one.
///
/// # Errors
/// Why it did not take even the first: `WouldBlock` when there is no room now (ENOBUFS too, which macOS gives for a
/// full peer), else what sendmsg(2) says.
pub fn send<'a>(fd: impl AsFd, count: usize, parts: impl Fn(usize) -> [&'a [u8]; 3]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < count.min(LIMIT) {
        let slices = parts(sent).map(IoSlice::new);
        match rustix::net::sendmsg(&fd, &slices, &mut SendAncillaryBuffer::default(), SendFlags::DONTWAIT) {
            Ok(_) => sent += 1,
            Err(_) if sent > 0 => break,
            Err(rustix::io::Errno::NOBUFS) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sent)
}
