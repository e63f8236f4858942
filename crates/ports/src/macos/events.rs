//! The kernel's events about interfaces, one after the other.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::time::sleep;
use vmlan_sys::darwin::event::{Event, LONGEST, parse};
use vmlan_sys::kernel_events;

/// How long a socket that cannot be read is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// The kernel's event socket.
pub(crate) struct Events {
    /// Only its readiness is asked of this type, and reads are by recv(2), so it fits a socket of another family.
    socket: UnixDatagram,
}

impl Events {
    /// Listens from now on: what is asked of the system after this is not missed.
    ///
    /// # Errors
    /// No socket, or no memory.
    pub(crate) fn open() -> io::Result<Events> {
        Ok(Events { socket: UnixDatagram::from_std(kernel_events::open()?.into())? })
    }

    /// Waits for the next event of an interface. Messages that are not understood are passed over. Safe to cancel.
    ///
    /// The kernel drops messages when they are not read in time, so nobody may rely on getting all of them.
    pub(crate) async fn next(&self) -> Event {
        let mut message = [0; LONGEST];
        loop {
            if self.socket.readable().await.is_err() {
                // Tokio is shutting down; whoever waits is about to be dropped.
                return std::future::pending().await;
            }
            let read = || Ok(recv(&self.socket, &mut message, RecvFlags::DONTWAIT)?);
            match self.socket.try_io(Interest::READABLE, read) {
                Ok((len, _)) => match parse(&message[..len]) {
                    Ok(Some(event)) => return event,
                    Ok(None) => {}
                    Err(_) => tracing::debug!("a message of the kernel's event socket is malformed"),
                },
                Err(error) => match Errno::from_io_error(&error) {
                    // Nothing is there, messages were lost, or a signal came.
                    Some(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => {}
                    _ => {
                        tracing::debug!("the kernel's event socket cannot be read: {error}");
                        sleep(PAUSE).await;
                    }
                },
            }
        }
    }
}
