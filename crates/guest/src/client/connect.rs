//! Opening sockets whose other side may not be there yet.

use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// Between two attempts; there is no event that tells when a path starts to answer.
const PAUSE: Duration = Duration::from_millis(10);

/// Repeats `attempt` until it succeeds, fails for a reason that waiting does not cure, or `deadline` is over.
///
/// # Errors
/// What the last attempt failed with.
pub(super) fn retry<T>(deadline: Instant, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if not_yet(&error) && Instant::now() < deadline => std::thread::sleep(PAUSE),
            result => return result,
        }
    }
}

/// Whether the error is that of a listener which is not there, whose backlog is full, or of a datagram socket that is
/// connected to a former guest still.
fn not_yet(error: &io::Error) -> bool {
    if Errno::from_io_error(error) == Some(Errno::PERM) {
        return true;
    }
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, Interrupted, NotFound, WouldBlock};
    matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset | WouldBlock | Interrupted)
}
