//! The signals that end a program: SIGINT, SIGTERM and SIGHUP.

use std::io;

use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Takes the signals in place of the system, which would end the process, from when it is made on.
pub struct Endings {
    runtime: Runtime,
    signals: [Signal; 3],
}

impl Endings {
    /// # Errors
    /// No descriptor or no memory.
    pub fn new() -> io::Result<Endings> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = {
            let _on_it = runtime.enter();
            [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            ]
        };
        Ok(Endings { runtime, signals })
    }

    /// Waits for the next one; those that came since it was made count.
    pub fn wait(&mut self) {
        // Nothing else ends this.
        let _: Option<()> = self.run_until_one(std::future::pending());
    }

    /// Does `work` until it is done, or until the next one comes: then `None`.
    pub fn run_until_one<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let [interrupt, terminate, hang_up] = &mut self.signals;
        self.runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => None,
                _ = terminate.recv() => None,
                _ = hang_up.recv() => None,
                done = work => Some(done),
            }
        })
    }
}
