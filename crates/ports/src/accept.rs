//! Accepting connections at a bounded rate, without descriptors left too.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::sleep;
use vmlan_drivers::PeerSocket;

use super::throttle::Throttle;
use crate::Place;
use crate::connection::{Connection, Listener};

/// How long nothing is accepted after a failure.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections of one listener.
pub(super) struct Acceptor {
    /// The port of the listener, for the log.
    port: Place,
    throttle: Throttle,
    /// Given up for a moment when no descriptor is left, so that who waits can be sent away instead of left waiting.
    reserve: Option<OwnedFd>,
}

impl Acceptor {
    pub(super) fn new(port: &Place) -> Acceptor {
        Acceptor { port: port.clone(), throttle: Throttle::new(), reserve: reserve() }
    }

    /// The next connection of a Unix socket, however long it takes. Safe to cancel.
    pub(super) async fn next(&mut self, listener: &Listener) -> Connection {
        loop {
            match Connection::new(self.next_socket(listener).await) {
                Ok(connection) => return connection,
                Err(error) => self.failed(listener, error).await,
            }
        }
    }

    /// The next connection, however long it takes. Safe to cancel.
    pub(super) async fn next_socket(&mut self, listener: &Listener) -> PeerSocket {
        loop {
            self.throttle.pass().await;
            match listener.accept().await {
                Ok(connection) => return connection,
                Err(error) => self.failed(listener, error).await,
            }
        }
    }

    /// Says why `listener` could not accept one, and pauses, so that nothing spins.
    async fn failed(&mut self, listener: &Listener, error: io::Error) {
        tracing::warn!(port = %self.port, "a connection cannot be accepted now: {error}");
        if matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE)) {
            self.send_away(listener);
        }
        sleep(PAUSE).await;
    }

    /// Accepts one connection in place of the reserve and closes it.
    fn send_away(&mut self, listener: &Listener) {
        drop(self.reserve.take());
        drop(listener.accept_now());
        // It may have been closed elsewhere, and the descriptor not be free yet; the next time will tell.
        self.reserve = reserve();
    }
}

fn reserve() -> Option<OwnedFd> {
    File::open("/dev/null").ok().map(OwnedFd::from)
}
