//! Descriptors that this process was started with.
//!
//! A descriptor that is closed on exec cannot have been inherited, and everything that Rust programs open is. So one
//! that is not is taken over, once: from then on it is closed on exec, and a table here owns it, until it is given up.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::fcntl_dupfd_cloexec;

static TAKEN: Mutex<BTreeMap<RawFd, OwnedFd>> = Mutex::new(BTreeMap::new());

fn taken() -> MutexGuard<'static, BTreeMap<RawFd, OwnedFd>> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes over every inherited descriptor but the standard streams, so that no program that this process starts inherits
/// it too.
///
/// # Errors
/// Errors of readdir(3) for /dev/fd.
pub fn inherit_all() -> io::Result<()> {
    let mut taken = taken();
    for entry in std::fs::read_dir("/dev/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        if let Some(number) = number.filter(|number| *number > 2 && !taken.contains_key(number))
            && let Ok(descriptor) = take(number)
        {
            taken.insert(number, descriptor);
        }
    }
    Ok(())
}

/// A copy of the descriptor `number` that this process was started with, closed on exec. The descriptor itself stays
/// open until [`disinherit`].
///
/// # Errors
/// `InvalidInput` for the standard streams, negative numbers and what this process opened itself; `EBADF` when nothing
/// is open under that number.
pub fn inherit(number: RawFd) -> io::Result<OwnedFd> {
    use std::collections::btree_map::Entry;
    let mut taken = taken();
    let descriptor = match taken.entry(number) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(take(number)?),
    };
    Ok(fcntl_dupfd_cloexec(&*descriptor, 3)?)
}

/// Closes the inherited descriptor `number`; copies stay open. It cannot be inherited again.
pub fn disinherit(number: RawFd) {
    let descriptor = taken().remove(&number);
    drop(descriptor);
}

/// Makes an inherited descriptor ours.
fn take(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: F_GETFD takes no memory, and answers EBADF for a number that is not open.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a descriptor of this process's own"));
    }
    // SAFETY: F_SETFD takes its argument by value and touches no memory.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open. It was not closed on exec, so it was handed over to this process or by this process, and
    // nothing else owns it; now that it is, it is taken once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::{AsRawFd, IntoRawFd};
    use std::os::unix::net::UnixStream;

    use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

    /// A descriptor as a parent process leaves it, and the other end of it.
    fn handed_over() -> (RawFd, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        fcntl_setfd(&ours, FdFlags::empty()).unwrap();
        (ours.into_raw_fd(), theirs)
    }

    #[test]
    fn the_other_end_sees_the_end_when_the_descriptor_and_its_copies_are_closed() {
        let (number, mut theirs) = handed_over();
        let (first, second) = (inherit(number).unwrap(), inherit(number).unwrap());
        assert_ne!(first.as_raw_fd(), number);
        assert!(fcntl_getfd(&first).unwrap().contains(FdFlags::CLOEXEC));
        theirs.set_nonblocking(true).unwrap();
        drop((first, second));
        assert_eq!(theirs.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        disinherit(number);
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn what_this_process_opened_itself_is_not_inherited() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(inherit(file.as_raw_fd()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(inherit(1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(inherit(-1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(inherit(1 << 20).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
