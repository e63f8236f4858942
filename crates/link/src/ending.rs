//! Ends that workers leave to the control side.
//!
//! The end of a filter, a protocol or a link (`detached`, phase two of a detach) runs other people's code
//! and may block, so a worker must not run it between two frames. Whether a thread is on the way of frames it knows
//! itself ([`OnDataPath`]). An end that comes up there is put in a queue of the registry, and the next call of the
//! control side runs it ([`Registry::settle`](crate::Registry::settle)). Until then the end holds its link, so that
//! what is on a link ends before the link does.

use core::cell::Cell;
use core::marker::PhantomData;
use std::collections::VecDeque;

use vmlan_frame::Mutex;

use crate::Link;

thread_local! {
    /// How many calls this thread is in that move frames.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// A call that moves frames, in this thread, until it is dropped.
pub(crate) struct OnDataPath(PhantomData<*const ()>);

impl OnDataPath {
    #[inline]
    pub(crate) fn enter() -> OnDataPath {
        DEPTH.set(DEPTH.get() + 1);
        OnDataPath(PhantomData)
    }

    pub(crate) fn is_here() -> bool {
        DEPTH.get() > 0
    }
}

impl Drop for OnDataPath {
    #[inline]
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

type End = Box<dyn FnOnce() + Send>;

/// The ends that wait.
#[derive(Default)]
pub(crate) struct Endings {
    waiting: Mutex<VecDeque<End>>,
}

impl Endings {
    fn push(&self, end: End) {
        self.waiting.lock().push_back(end);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty()
    }

    /// Runs what waits, the oldest first.
    pub(crate) fn run(&self) {
        loop {
            let end = self.waiting.lock().pop_front();
            let Some(end) = end else { return };
            end();
        }
    }
}

/// An I/O reference that goes from one thread to another.
struct Held(Link);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.leave(false);
    }
}

impl Link {
    /// Runs the end of something on this link, or has the control side run it when this is a worker. The caller is
    /// inside the link, or ends it.
    pub(crate) fn run_end(&self, end: impl FnOnce(&Link) + Send + 'static) {
        match self.registry().filter(|_| OnDataPath::is_here()) {
            Some(registry) => {
                self.record().gate.enter_again();
                let held = Held(self.clone());
                registry.endings.push(Box::new(move || end(&held.0)));
                registry.subscribers.wake();
            }
            None => end(self),
        }
    }

    /// Goes out of the link. The last one out of a link that is being detached begins phase two, or, when that is a
    /// worker, leaves it to the control side.
    #[inline]
    pub(crate) fn leave(&self, is_worker: bool) {
        if self.record().gate.leave() {
            self.left(is_worker);
        }
    }

    #[cold]
    fn left(&self, is_worker: bool) {
        match self.registry().filter(|_| is_worker || OnDataPath::is_here()) {
            Some(registry) => {
                let link = self.clone();
                registry.endings.push(Box::new(move || link.finish()));
                registry.subscribers.wake();
            }
            // Without a registry there is no control side.
            None => self.finish(),
        }
    }
}
