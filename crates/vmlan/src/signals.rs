//! The signals that end a program: SIGINT, SIGTERM and SIGHUP.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Takes the signals in place of the system, which would end the process, from when it is made on.
#[derive(Debug)]
pub struct Endings {
    runtime: Runtime,
    signals: Mutex<[Signal; 3]>,
    have_come: AtomicBool,
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
        Ok(Endings { runtime, signals: Mutex::new(signals), have_come: AtomicBool::new(false) })
    }

    /// Waits for the next one; those that came since it was made count.
    pub fn wait(&self) {
        self.runtime.block_on(self.next());
    }

    /// Does `work` until it is done, or until the next one comes: then `None`.
    pub fn run_until_one<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.runtime.block_on(async {
            tokio::select! {
                () = self.next() => None,
                done = work => Some(done),
            }
        })
    }

    /// Waits for the next one, on any runtime that drives signals.
    pub async fn next(&self) {
        std::future::poll_fn(|context| self.poll(context)).await;
    }

    /// True if one came, as far as it was waited for.
    pub fn have_come(&self) -> bool {
        self.have_come.load(Ordering::Relaxed)
    }

    /// Takes those that came until now, which were for another program; the next one is the second.
    pub fn pass_over(&self) {
        let mut context = Context::from_waker(Waker::noop());
        while self.poll(&mut context).is_ready() {}
        self.have_come.store(true, Ordering::Relaxed);
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
        // As long as none is ready each of them is asked, so that each wakes the task.
        if !signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready()) {
            return Poll::Pending;
        }
        self.have_come.store(true, Ordering::Relaxed);
        Poll::Ready(())
    }
}
