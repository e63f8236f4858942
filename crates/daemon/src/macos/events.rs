//! What the kernel tells of interfaces, one event after the other.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use sys::darwin::event::{Event, LONGEST, parse};
use sys::kernel_events;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

/// How long a socket that cannot be read is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// The kernel's event socket.
pub(crate) struct Events {
    socket: AsyncFd<OwnedFd>,
}

impl Events {
    /// Listens from now on: what is asked of the system after this is not missed.
    ///
    /// # Errors
    /// No socket, or no memory.
    pub(crate) fn open() -> io::Result<Events> {
        Ok(Events { socket: AsyncFd::new(kernel_events::open()?)? })
    }

    /// Waits for the next event of an interface. Messages that are not understood are passed over. Safe to cancel.
    ///
    /// The kernel drops messages when they are not read in time, so nobody may rely on getting all of them.
    pub(crate) async fn next(&self) -> Event {
        let mut message = [0; LONGEST];
        loop {
            let Ok(mut ready) = self.socket.readable().await else {
                // Tokio is shutting down; whoever waits is about to be dropped.
                return std::future::pending().await;
            };
            match recv(self.socket.get_ref(), &mut message, RecvFlags::DONTWAIT) {
                Ok((len, _)) => match parse(&message[..len]) {
                    Ok(Some(event)) => return event,
                    Ok(None) => {}
                    Err(_) => tracing::debug!("a message of the kernel's event socket is malformed"),
                },
                Err(Errno::AGAIN) => ready.clear_ready(),
                // Messages were lost, or a signal came; the next one may be there.
                Err(Errno::NOBUFS | Errno::INTR) => {}
                Err(error) => {
                    tracing::debug!("the kernel's event socket cannot be read: {error}");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}
