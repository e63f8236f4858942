//! Many datagrams in one call: recvmmsg(2) and sendmmsg(2).

use std::io;
use std::ops::DerefMut;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

/// How many datagrams one call moves at most.
pub const LIMIT: usize = 64;

/// True where readiness tells that a full peer has room again.
pub const TELLS_ROOM: bool = true;

/// The system calls that move them.
pub const CALLS: &str = "recvmmsg and sendmmsg";

/// A received datagram.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    /// Octets written to the buffer.
    pub len: usize,
    /// True if the datagram was longer than its buffer; the rest is lost.
    pub truncated: bool,
}

/// The most descriptors that come with one message (SCM_MAX_FD of include/net/scm.h).
const MOST_DESCRIPTORS: u32 = 253;

/// Room for control data that other options of an inherited socket ask for: credentials, times, a label.
const OTHER_CONTROL: usize = 512;

// SAFETY: CMSG_SPACE is arithmetic.
const CONTROL: usize =
    unsafe { libc::CMSG_SPACE(MOST_DESCRIPTORS * size_of::<libc::c_int>() as u32) } as usize + OTHER_CONTROL;

/// Room for the control data of one message, aligned as `cmsghdr` is.
type Control = [u64; CONTROL / size_of::<u64>()];

/// Descriptors that peers sent along with datagrams, and room to receive them: without it the kernel closes them in the
/// thread that receives, which can take as long as their sender likes.
#[derive(Default)]
pub struct Passed {
    control: Vec<Control>,
    /// Those that came.
    pub came: Vec<OwnedFd>,
}

impl Passed {
    /// Lets `messages` have room for control data.
    fn make_room(&mut self, messages: &mut [libc::mmsghdr]) {
        self.control.resize(LIMIT, [0; CONTROL / size_of::<u64>()]);
        for (message, control) in messages.iter_mut().zip(&mut self.control) {
            message.msg_hdr.msg_control = control.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = size_of::<Control>() as _;
        }
    }

    /// Takes the descriptors of a message.
    ///
    /// # Safety
    /// The kernel has filled `header`, which still points to the control data, and nothing has taken the descriptors.
    unsafe fn take(&mut self, header: &libc::msghdr) {
        // SAFETY: the caller's promise: `msg_control` and `msg_controllen` describe control messages that the kernel
        // wrote, whole ones and aligned; every number in a message of SCM_RIGHTS is an open descriptor that nothing
        // else owns.
        unsafe {
            let mut message = libc::CMSG_FIRSTHDR(header);
            while let Some(found) = message.as_ref() {
                if (found.cmsg_level, found.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                    let octets = found.cmsg_len - libc::CMSG_LEN(0) as usize;
                    let numbers = libc::CMSG_DATA(message).cast::<libc::c_int>();
                    let count = octets / size_of::<libc::c_int>();
                    let owned = (0..count).map(|i| OwnedFd::from_raw_fd(numbers.add(i).read_unaligned()));
                    self.came.extend(owned);
                }
                message = libc::CMSG_NXTHDR(header, message);
            }
        }
    }
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
/// them in `received`. Answers how many came. Descriptors that were sent along go to `passed`, or are closed by the
/// kernel before the call returns.
///
/// # Errors
/// `WouldBlock` when none is there; else what recvmmsg(2) says.
pub fn receive<B: DerefMut<Target = [u8]>>(
    fd: impl AsFd,
    buffers: &mut [B],
    received: &mut [Received; LIMIT],
    mut passed: Option<&mut Passed>,
) -> io::Result<usize> {
    let count = buffers.len().min(LIMIT);
    let mut iovecs = [NO_IOVEC; LIMIT];
    let mut messages = [NO_MESSAGE; LIMIT];
    for (i, buffer) in buffers.iter_mut().take(count).enumerate() {
        // Once: a type of the caller's may answer another slice each time.
        let buffer: &mut [u8] = buffer;
        iovecs[i] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        messages[i].msg_hdr.msg_iov = &raw mut iovecs[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    if let Some(passed) = &mut passed {
        passed.make_room(&mut messages[..count]);
    }
    // SAFETY: the first `count` messages each point to one iovec, which describes a slice that is borrowed mutably
    // for the whole call, and to no control data or room of their own in `passed`, which is borrowed as well; the
    // arrays outlive the call and have at least `count` elements.
    let result = unsafe {
        libc::recvmmsg(
            fd.as_fd().as_raw_fd(),
            messages.as_mut_ptr(),
            count as libc::c_uint,
            libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC,
            ptr::null_mut(),
        )
    };
    let Ok(came) = usize::try_from(result) else {
        return Err(io::Error::last_os_error());
    };
    if let Some(passed) = passed {
        for message in &messages[..came] {
            // SAFETY: recvmmsg filled the first `came` headers just now, and `passed` still holds their control data.
            unsafe { passed.take(&message.msg_hdr) };
        }
    }
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
        assert_eq!(receive(&b, &mut buffers, &mut received, None).unwrap(), 2);
        assert_eq!(&buffers[0][..received[0].len], b"abcd");
        assert!(!received[0].truncated && received[1].truncated);
        assert_eq!(
            receive(&b, &mut buffers, &mut received, None).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }

    #[test]
    fn takes_every_descriptor_that_comes_along() {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
        let (a, b) = UnixDatagram::pair().unwrap();
        let descriptors = [a.as_fd(); MOST_DESCRIPTORS as usize];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        for _ in 0..2 {
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
            let octets = [io::IoSlice::new(b"octets")];
            sendmsg(&a, &octets, &mut control, SendFlags::empty()).unwrap();
        }
        let mut received = [Received::default(); LIMIT];
        let mut passed = Passed::default();
        let came = receive(&b, &mut [vec![0; 8], vec![0; 8]], &mut received, Some(&mut passed));
        assert_eq!((came.unwrap(), passed.came.len()), (2, 2 * 253));
        assert!(passed.came.iter().all(|fd| rustix::io::fcntl_getfd(fd).unwrap().bits() != 0));
    }
}
