//! A line on the terminal about what takes its time.
//!
//! It appears after [`SOON`], is written anew each second, and goes when the work is done. It is on stderr and only on
//! a terminal, so that no pipe and no file has any of it; it has no colours.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Work that takes less is not told of.
const SOON: Duration = Duration::from_secs(2);
/// The time from one writing to the next.
const EACH: Duration = Duration::from_secs(1);

/// The line, until it is dropped.
pub struct Progress {
    shared: Arc<Shared>,
    /// None where there is no terminal.
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    detail: String,
    has_ended: bool,
}

impl Progress {
    /// Tells of `what` from now on.
    pub fn start(what: &str) -> Progress {
        let shared = Arc::new(Shared::default());
        let at_terminal = io::stderr().is_terminal();
        let (what, writes) = (vmlan_api::escaped(what).into_owned(), shared.clone());
        // Without a thread the work goes on unseen.
        let spawn = || thread::Builder::new().spawn(move || writes.write(&what)).ok();
        Progress { thread: at_terminal.then(spawn).flatten(), shared }
    }

    /// True if there is somebody to tell.
    pub fn is_seen(&self) -> bool {
        self.thread.is_some()
    }

    /// Tells this besides from now on.
    pub fn say(&self, detail: String) {
        if self.is_seen() {
            self.shared.state().detail = detail;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.shared.state().has_ended = true;
        self.shared.ended.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic there has told itself.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, for so long at most, for the end of the work; none when it has come.
    fn wait(&self, time: Duration) -> Option<MutexGuard<'_, State>> {
        let state = self.state();
        let waited = self.ended.wait_timeout_while(state, time, |state| !state.has_ended);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (!state.has_ended).then_some(state)
    }

    /// Writes the line until the work ends. A terminal that is gone misses nothing.
    fn write(&self, what: &str) {
        let begin = Instant::now();
        let mut pause = SOON;
        while let Some(state) = self.wait(pause) {
            let line = line(what, begin.elapsed(), &state.detail);
            drop(state);
            let _ = write!(io::stderr(), "\r\x1b[K{line}");
            pause = EACH;
        }
        if pause == EACH {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// `applying: 3 s, 212 ports`.
fn line(what: &str, time: Duration, detail: &str) -> String {
    let comma = if detail.is_empty() { "" } else { ", " };
    format!("{what}: {} s{comma}{}", time.as_secs(), vmlan_api::escaped(detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_is_known() {
        assert_eq!(line("applying", Duration::from_millis(3900), ""), "applying: 3 s");
        assert_eq!(line("applying", Duration::from_secs(4), "2 ports\n"), "applying: 4 s, 2 ports\\n");
    }

    #[test]
    fn work_ends_at_once_whoever_looks() {
        let shared = Shared::default();
        assert!(shared.wait(Duration::ZERO).is_some_and(|state| state.detail.is_empty()));
        shared.state().has_ended = true;
        assert!(shared.wait(Duration::MAX).is_none());
    }
}
