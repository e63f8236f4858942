use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use rustix::io::fcntl_dupfd_cloexec;

/// A copy of the descriptor `number` that this process was started with, closed on exec.
///
/// # Errors
/// `InvalidInput` for the standard streams and negative numbers; `EBADF` when nothing is open under that number.
pub fn inherit(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: the borrow ends with this function, and its only use is fcntl(F_DUPFD_CLOEXEC), which answers EBADF
    // when the number is not open. The number is not -1.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    Ok(fcntl_dupfd_cloexec(borrowed, 3)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn copies_what_is_open_and_refuses_the_rest() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_ne!(inherit(file.as_raw_fd()).unwrap().as_raw_fd(), file.as_raw_fd());
        assert_eq!(inherit(1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(inherit(1 << 20).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
