//! Opening sockets whose other side may not be there yet.

use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// Between two attempts; there is no event that tells when a path starts to answer.
const PAUSE: Duration = Duration::from_millis(10);

/// Repeats `attempt` until it succeeds, fails for a reason that waiting does not cure, or `deadline` is over.
///
/// # Errors
/// The error of the last attempt.
pub(super) fn retry<T>(deadline: Instant, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if not_yet(&error) && Instant::now() < deadline => std::thread::sleep(PAUSE),
            result => return result,
        }
    }
}

/// True if waiting may cure the error: a listener is not there or its backlog is full, or a datagram socket is still
/// connected to a former guest.
fn not_yet(error: &io::Error) -> bool {
    if Errno::from_io_error(error) == Some(Errno::PERM) {
        return true;
    }
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, Interrupted, NotFound, WouldBlock};
    matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset | WouldBlock | Interrupted)
}
