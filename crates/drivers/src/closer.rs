//! Closing what strangers can make slow to close, in threads that nothing waits for.
//!
//! Closing a descriptor can take as long as its sender likes: a TCP connection with `SO_LINGER` and octets that nobody
//! takes, a file of a file system that its sender serves. So descriptors that peers send along, and sockets in whose
//! queues such ones may lie, are closed here. There are few threads, made when there is something to close; once all
//! hang and [`BACKLOG`] is exceeded, senders of more are told to be kept away.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, MutexGuard, PoisonError};
use std::thread;

use vmlan_frame::Mutex;

/// Descriptors that wait to be closed before their senders are kept away.
const BACKLOG: usize = 1024;

/// Threads at most.
const THREADS: usize = 8;

#[derive(Default)]
struct State {
    waiting: VecDeque<OwnedFd>,
    threads: usize,
    idle: usize,
}

static STATE: Mutex<State> = Mutex::new(State { waiting: VecDeque::new(), threads: 0, idle: 0 });
static CHANGED: Condvar = Condvar::new();

fn state() -> MutexGuard<'static, State> {
    STATE.lock()
}

/// Closes `descriptors` soon, in another thread. False when so many wait that no more should be taken.
pub(crate) fn close(descriptors: impl IntoIterator<Item = OwnedFd>) -> bool {
    let mut state = state();
    state.waiting.extend(descriptors);
    if state.waiting.len() > state.idle && state.threads < THREADS {
        // Without a thread they wait for the next call.
        let made = thread::Builder::new().name("vmlan-closer".into()).spawn(work);
        state.threads += usize::from(made.is_ok());
    }
    CHANGED.notify_one();
    state.waiting.len() <= BACKLOG
}

fn work() {
    vmlan_sys::priority::behind();
    let mut guard = state();
    loop {
        let Some(descriptor) = guard.waiting.pop_front() else {
            guard.idle += 1;
            guard = CHANGED.wait(guard).unwrap_or_else(PoisonError::into_inner);
            guard.idle -= 1;
            continue;
        };
        drop(guard);
        // Fails for what is no socket. Its sender may set it again, and then holds up only this thread.
        let _ = rustix::net::sockopt::set_socket_linger(&descriptor, None);
        drop(descriptor);
        guard = state();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn everything_is_closed_in_the_end() {
        let pairs: Vec<_> = (0..100).map(|_| UnixStream::pair().unwrap()).collect();
        let (ours, mut theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        assert!(close(ours.into_iter().map(OwnedFd::from)));
        for stream in &mut theirs {
            assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
        }
    }
}
