use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use io_uring::types::Fd;
use io_uring::{IoUring, opcode};

/// Where a write to something without positions goes.
const NO_OFFSET: u64 = u64::MAX;

/// Ends the process when it is dropped, by unwinding.
struct NoReturn;

impl Drop for NoReturn {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// Writes many messages to a descriptor with one system call.
pub struct Writer {
    ring: IoUring,
}

impl Writer {
    /// How many messages one call writes at most.
    pub const LIMIT: usize = 64;

    /// # Errors
    /// The errors of io_uring_setup(2).
    pub fn new() -> io::Result<Writer> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(2 * Writer::LIMIT as u32)
            .build(Writer::LIMIT as u32)?;
        Ok(Writer { ring })
    }

    /// Writes `count` messages (at most [`Writer::LIMIT`]) in order, each as a whole; `parts(i)` gives the pieces that
    /// message `i` is gathered from. What came of each is in `results`: octets, or the error's number negated.
    ///
    /// Nothing waits: a message for which there is no room now has `EAGAIN` for its result.
    ///
    /// # Errors
    /// The system took none of them.
    pub fn write<'a>(
        &mut self,
        fd: impl AsFd,
        count: usize,
        parts: impl Fn(usize) -> [&'a [u8]; 4],
        results: &mut [i32; Writer::LIMIT],
    ) -> io::Result<()> {
        let count = count.min(Writer::LIMIT);
        let mut iovecs = [[libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; 4]; Writer::LIMIT];
        let mut used = [0; Writer::LIMIT];
        for (i, (iovecs, used)) in iovecs.iter_mut().zip(&mut used).take(count).enumerate() {
            for part in parts(i).into_iter().filter(|part| !part.is_empty()) {
                iovecs[*used] =
                    libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
                *used += 1;
            }
        }
        let fd = fd.as_fd();
        // From here on nothing of the caller's is called, and the frame of this function does not go before the kernel
        // is done with what points into it.
        let no_return = NoReturn;
        {
            let mut queue = self.ring.submission();
            for (i, (iovecs, used)) in iovecs.iter().zip(used).take(count).enumerate() {
                let write = opcode::Writev::new(Fd(fd.as_raw_fd()), iovecs.as_ptr(), used as u32);
                let write = write.offset(NO_OFFSET).rw_flags(libc::RWF_NOWAIT).build().user_data(i as u64);
                // SAFETY: the iovecs and the octets that they describe, borrowed for 'a, outlive this call, and the
                // loop below does not end before the kernel has completed every write.
                unsafe { queue.push(&write) }.expect("the queue is empty and has room for the limit");
            }
        }
        let mut open = count;
        while open > 0 {
            match self.ring.submit_and_wait(open) {
                Ok(_) => {}
                Err(error) if is_passing(&error) => {}
                // The ring is ours and sound, and the kernel keeps what it was given: there is no going on without it.
                Err(error) => panic!("io_uring_enter failed in the middle of writes: {error}"),
            }
            for completion in self.ring.completion() {
                results[completion.user_data() as usize] = completion.result();
                open -= 1;
            }
        }
        std::mem::forget(no_return);
        Ok(())
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn messages_are_gathered_and_each_has_its_result() {
        let Ok(mut writer) = Writer::new() else {
            eprintln!("SKIPPED: io_uring is not allowed here");
            return;
        };
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let huge = vec![0; 10 << 20];
        let messages: [[&[u8]; 4]; 3] =
            [[b"a", b"", b"bc", b""], [&huge, b"", b"", b""], [b"d", b"", b"", b"e"]];
        let mut results = [0; Writer::LIMIT];
        writer.write(&ours, 3, |i| messages[i], &mut results).unwrap();
        assert_eq!(results[..3], [3, -libc::EMSGSIZE, 2]);
        let mut buffer = [0; 8];
        assert_eq!(theirs.recv(&mut buffer).unwrap(), 3);
        assert_eq!(&buffer[..3], b"abc");
        assert_eq!(theirs.recv(&mut buffer).unwrap(), 2);
    }

    #[test]
    fn a_panic_of_the_caller_leaves_nothing_with_the_kernel() {
        let Ok(mut writer) = Writer::new() else {
            eprintln!("SKIPPED: io_uring is not allowed here");
            return;
        };
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut results = [0; Writer::LIMIT];
        let writes = std::panic::AssertUnwindSafe(|| {
            let message = |i| if i == 0 { [b"a".as_slice(), b"", b"", b""] } else { panic!("no message") };
            writer.write(&ours, 2, message, &mut results)
        });
        std::panic::catch_unwind(writes).unwrap_err();
        writer.write(&ours, 1, |_| [b"b", b"", b"", b""], &mut results).unwrap();
        let mut buffer = [0; 8];
        assert_eq!((theirs.recv(&mut buffer).unwrap(), buffer[0]), (1, b'b'));
        assert!(theirs.recv(&mut buffer).is_err());
    }

    #[test]
    fn no_room_is_told_and_waits_for_nothing() {
        let Ok(mut writer) = Writer::new() else {
            eprintln!("SKIPPED: io_uring is not allowed here");
            return;
        };
        let (ours, _theirs) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let message = [1; 1000];
        let mut results = [0; Writer::LIMIT];
        while results[63] != -libc::EAGAIN {
            writer.write(&ours, 64, |_| [&message, b"", b"", b""], &mut results).unwrap();
        }
        assert!(results.iter().all(|result| [1000, -libc::EAGAIN].contains(result)));
    }
}
