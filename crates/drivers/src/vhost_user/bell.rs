//! Bells that are kept.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use vmlan_frame::Mutex;
use vmlan_sys::bell::Bell;

/// A bell of the process: to end one takes the kernel tens of milliseconds, which no worker has, so they are used
/// again.
pub(crate) struct KeptBell(Option<Bell>);

/// Bells that nobody has.
static SPARE: Mutex<Vec<Bell>> = Mutex::new(Vec::new());

impl KeptBell {
    pub(crate) fn take() -> io::Result<KeptBell> {
        let spare = SPARE.lock().pop();
        let bell = spare.map_or_else(Bell::new, Ok).map_err(|error| {
            let hint = "it takes asynchronous I/O to ring guests; raise the sysctl fs.aio-max-nr";
            io::Error::new(error.kind(), format!("{error}; {hint}"))
        })?;
        Ok(KeptBell(Some(bell)))
    }

    /// Tells the other side of an eventfd, without waiting.
    ///
    /// # Errors
    /// Errors of io_submit(2).
    #[inline]
    pub(crate) fn ring(&mut self, eventfd: &OwnedFd) -> io::Result<()> {
        self.0.as_mut().map_or(Ok(()), |bell| bell.ring(&[eventfd.as_fd()]))
    }
}

impl Drop for KeptBell {
    fn drop(&mut self) {
        SPARE.lock().extend(self.0.take());
    }
}
