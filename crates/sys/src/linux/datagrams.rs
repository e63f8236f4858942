//! Many datagrams in one call: recvmmsg(2) and sendmmsg(2).

use std::io;
use std::ops::DerefMut;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

/// How many datagrams one call moves at most.
pub const LIMIT: usize = 64;

/// The system calls that move them.
pub const CALLS: &str = "recvmmsg and sendmmsg";

/// A received datagram.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    /// Octets written to the buffer.
    pub len: usize,
    /// Whether the datagram was longer than its buffer; the rest is lost.
    pub truncated: bool,
}

const NO_IOVEC: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };

const NO_MESSAGE: libc::mmsghdr = libc::mmsghdr {
    msg_hdr: libc::msghdr {
        msg_name: ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: ptr::null_mut(),
        msg_iovlen: 0,
        msg_control: ptr::null_mut(),
        msg_controllen: 0,
        msg_flags: 0,
    },
    msg_len: 0,
};

/// Receives at most `buffers.len()` (and [`LIMIT`]) datagrams without waiting, one into each buffer, and describes
/// them in `received`. Answers how many came; descriptors sent along are not taken.
///
/// # Errors
/// `WouldBlock` when none is there; else what recvmmsg(2) says.
pub fn receive<B: DerefMut<Target = [u8]>>(
    fd: impl AsFd,
    buffers: &mut [B],
    received: &mut [Received; LIMIT],
) -> io::Result<usize> {
    let count = buffers.len().min(LIMIT);
    let mut iovecs = [NO_IOVEC; LIMIT];
    let mut messages = [NO_MESSAGE; LIMIT];
    for (i, buffer) in buffers.iter_mut().take(count).enumerate() {
        iovecs[i] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        messages[i].msg_hdr.msg_iov = &raw mut iovecs[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: the first `count` messages each point to one iovec, which describes a buffer that is borrowed mutably
    // for the whole call; the arrays outlive the call and have at least `count` elements.
    let result = unsafe {
        libc::recvmmsg(
            fd.as_fd().as_raw_fd(),
            messages.as_mut_ptr(),
            count as libc::c_uint,
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
        )
    };
    let Ok(came) = usize::try_from(result) else {
        return Err(io::Error::last_os_error());
    };
    for (message, received) in messages[..came].iter().zip(received.iter_mut()) {
        *received = Received {
            len: message.msg_len as usize,
            truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        };
    }
    Ok(came)
}

/// Sends `count` (at most [`LIMIT`]) datagrams without waiting; `parts(i)` gives the pieces that datagram `i` is
/// gathered from. Answers how many the socket took, at least one.
///
/// # Errors
/// Why it did not take even the first: `WouldBlock` when there is no room now, else what sendmmsg(2) says.
pub fn send<'a, const PARTS: usize>(
    fd: impl AsFd,
    count: usize,
    parts: impl Fn(usize) -> [&'a [u8]; PARTS],
) -> io::Result<usize> {
    let count = count.min(LIMIT);
    let mut iovecs = [[NO_IOVEC; PARTS]; LIMIT];
    let mut messages = [NO_MESSAGE; LIMIT];
    for i in 0..count {
        let mut used = 0;
        for part in parts(i).into_iter().filter(|part| !part.is_empty()) {
            iovecs[i][used] = libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
            used += 1;
        }
        messages[i].msg_hdr.msg_iov = iovecs[i].as_mut_ptr();
        messages[i].msg_hdr.msg_iovlen = used as _;
    }
    // SAFETY: the first `count` messages point to iovecs that describe octets borrowed for 'a, which outlives the
    // call; sendmmsg only reads them. The arrays outlive the call and have at least `count` elements.
    let result = unsafe {
        libc::sendmmsg(
            fd.as_fd().as_raw_fd(),
            messages.as_mut_ptr(),
            count as libc::c_uint,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn gathers_scatters_and_tells_truncation() {
        let (a, b) = UnixDatagram::pair().unwrap();
        let frames: [[&[u8]; 3]; 2] = [[b"ab", b"", b"cd"], [b"123456789", b"", b""]];
        assert_eq!(send(&a, 2, |i| frames[i]).unwrap(), 2);
        let mut buffers = [vec![0; 8], vec![0; 8], vec![0; 8]];
        let mut received = [Received::default(); LIMIT];
        assert_eq!(receive(&b, &mut buffers, &mut received).unwrap(), 2);
        assert_eq!(&buffers[0][..received[0].len], b"abcd");
        assert!(!received[0].truncated && received[1].truncated);
        assert_eq!(receive(&b, &mut buffers, &mut received).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
