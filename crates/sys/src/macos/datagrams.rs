//! Many datagrams in one call. macOS offers no public call for that, so it is one system call a datagram.

use std::io;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::ops::DerefMut;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags, recvmsg,
};

/// How many datagrams one call moves at most.
pub const LIMIT: usize = 64;

/// True where readiness tells that a full peer has room again: a socket is always writable here.
pub const TELLS_ROOM: bool = false;

/// The system calls that move them.
pub const CALLS: &str = "recvfrom and sendmsg";

/// A received datagram.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    /// Octets written to the buffer.
    pub len: usize,
    /// True if the datagram was longer than its buffer; the rest is lost.
    pub truncated: bool,
}

/// Descriptors that peers sent along with datagrams.
#[derive(Default)]
pub struct Passed {
    /// Those that came.
    pub came: Vec<OwnedFd>,
}

/// Receives at most `buffers.len()` (and [`LIMIT`]) datagrams without waiting, one into each buffer, and describes
/// them in `received`. Answers how many came. Descriptors that were sent along go to `passed`, or are closed by the
/// kernel before the call returns.
///
/// # Errors
/// `WouldBlock` when none is there; else what recv(2) says.
pub fn receive<B: DerefMut<Target = [u8]>>(
    fd: impl AsFd,
    buffers: &mut [B],
    received: &mut [Received; LIMIT],
    mut passed: Option<&mut Passed>,
) -> io::Result<usize> {
    let mut came = 0;
    for (buffer, received) in buffers.iter_mut().zip(received.iter_mut()) {
        // recv(2) does not tell truncation here: a datagram that fills its buffer is taken for a longer one.
        let result = match &mut passed {
            Some(passed) => receive_one(&fd, &mut buffer[..], passed),
            None => rustix::net::recv(&fd, &mut buffer[..], RecvFlags::DONTWAIT).map(|(len, _)| len),
        };
        match result {
            Ok(len) => *received = Received { len, truncated: len == buffer.len() },
            Err(error) if came == 0 => return Err(error.into()),
            Err(_) => break,
        }
        came += 1;
    }
    Ok(came)
}

fn receive_one(fd: impl AsFd, buffer: &mut [u8], passed: &mut Passed) -> rustix::io::Result<usize> {
    // The system takes one cluster of control data, less than 512 descriptors.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(512))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(fd, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::DONTWAIT)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            passed.came.extend(descriptors);
        }
    }
    Ok(received.bytes)
}

/// Sends `count` (at most [`LIMIT`]) datagrams without waiting; `parts(i)` gives the pieces that datagram `i` is
/// gathered from. Answers how many the socket took, at least one.
///
/// # Errors
/// Why it did not take even the first: ENOBUFS for a full peer, and nothing tells when it has room again; else what
/// sendmsg(2) says.
pub fn send<'a>(fd: impl AsFd, count: usize, parts: impl Fn(usize) -> [&'a [u8]; 3]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < count.min(LIMIT) {
        let slices = parts(sent).map(IoSlice::new);
        match rustix::net::sendmsg(&fd, &slices, &mut SendAncillaryBuffer::default(), SendFlags::DONTWAIT) {
            Ok(_) => sent += 1,
            Err(_) if sent > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sent)
}
