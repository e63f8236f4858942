//! Accepting connections at a bounded rate, without descriptors left too.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::sleep;

use super::throttle::Throttle;

/// How long nothing is accepted after a failure.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections of one listener.
pub(super) struct Acceptor {
    throttle: Throttle,
    /// Given up for a moment when no descriptor is left, so that who waits can be sent away instead of left waiting.
    reserve: Option<OwnedFd>,
}

impl Acceptor {
    pub(super) fn new() -> Acceptor {
        Acceptor { throttle: Throttle::new(), reserve: reserve() }
    }

    /// The next connection, however long it takes. Safe to cancel.
    pub(super) async fn next(&mut self, listener: &UnixListener) -> UnixStream {
        loop {
            self.pass().await;
            match listener.accept().await {
                Ok((connection, _)) => return connection,
                Err(error) => self.failed(listener, error).await,
            }
        }
    }

    /// Waits until another connection may be accepted. Safe to cancel.
    pub(super) async fn pass(&mut self) {
        self.throttle.pass().await;
    }

    /// Says why `listener` could not accept one, and pauses, so that nothing spins.
    pub(super) async fn failed(&mut self, listener: impl AsFd, error: io::Error) {
        tracing::warn!("a connection cannot be accepted now: {error}");
        if matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE)) {
            self.send_away(&listener);
        }
        sleep(PAUSE).await;
    }

    /// Accepts one connection in place of the reserve and closes it.
    fn send_away(&mut self, listener: impl AsFd) {
        drop(self.reserve.take());
        // Whatever comes of it, the descriptor is free again for the reserve.
        drop(rustix::net::accept(listener));
        self.reserve = reserve();
    }
}

fn reserve() -> Option<OwnedFd> {
    File::open("/dev/null").ok().map(OwnedFd::from)
}
