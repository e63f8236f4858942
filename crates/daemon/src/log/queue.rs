//! The way of a line to its reader, who may have stopped reading.
//!
//! Theory of operation. Lines go into a bounded queue, whose lock is held for moments only; a thread of its own writes
//! them and alone waits for the reader. When the queue is full the newest lines are lost and counted, and a line in
//! their place says how many. At the end the queue is written out for as long as the patience of the caller lasts; what
//! is left then stays unwritten, and the process ends all the same.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use tracing::Level;
use vmlan_frame::Mutex;

use super::line::{Style, line};
use super::rate::{Held, Key, Rates};

/// Lines that may wait.
const LINES: usize = 1024;
/// Octets that may wait.
const OCTETS: usize = 256 << 10;

/// A queue of lines; clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Something came, or was written.
    changed: Condvar,
    style: Style,
}

#[derive(Debug, Default)]
struct State {
    rates: Rates,
    lines: VecDeque<String>,
    octets: usize,
    lost: u64,
    /// A line has left the queue and is not written yet.
    writing: bool,
    closed: bool,
}

impl Queue {
    pub(super) fn new(style: Style) -> Queue {
        Queue(Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), style }))
    }

    /// Starts the thread that writes to `sink`.
    pub(super) fn start(&self, sink: impl Write + AsFd + Send + 'static) -> io::Result<()> {
        let queue = self.clone();
        let run = move || {
            vmlan_sys::priority::behind();
            queue.write(sink);
        };
        thread::Builder::new().name("vmlan-log".into()).spawn(run)?;
        Ok(())
    }

    /// Takes a line in, unless there were too many that are alike or nobody reads. Without a key it is not compared.
    pub(super) fn push(&self, key: Option<Key>, level: Level, text: &str) {
        let now = Instant::now();
        let mut state = self.lock();
        state.tell(now, self.0.style);
        if key.is_none_or(|key| state.rates.admit(key, level, text, now)) {
            state.push(line(level, text, self.0.style));
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits until all lines are written, but no longer than `patience`. Says what was held back before.
    pub(super) fn flush(&self, patience: Duration) {
        let mut state = self.lock();
        let held = state.rates.rest();
        state.summarise(held, self.0.style);
        self.0.changed.notify_all();
        let unwritten = |state: &mut State| !state.lines.is_empty() || state.lost > 0 || state.writing;
        // Whether they were written cannot be told to anybody but their reader.
        drop(self.0.changed.wait_timeout_while(state, patience, unwritten));
    }

    /// Lets the thread end when it has written everything.
    #[cfg(test)]
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.0.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    /// Writes lines for ever.
    fn write(&self, mut sink: impl Write + AsFd) {
        let mut state = self.lock();
        loop {
            state.tell(Instant::now(), self.0.style);
            if let Some(text) = state.pop(self.0.style) {
                state.writing = true;
                drop(state);
                // A sink that takes nothing any more is no reason to end: it may be a pipe that is opened again.
                let failed = write_all(&mut sink, text.as_bytes()).is_err();
                state = self.lock();
                state.writing = false;
                // Without an end: the line that says so would fail as well.
                if failed && !state.lines.is_empty() {
                    state.lost += 1;
                }
                self.0.changed.notify_all();
                continue;
            }
            if state.closed {
                return;
            }
            let until = state.rates.next();
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(time) => {
                    self.0.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl State {
    /// Puts a line at the end, or counts it.
    fn push(&mut self, line: String) {
        // Behind a gap nothing is taken in until the gap is told, so that it is told where it is.
        if self.lost > 0 || self.lines.len() >= LINES || self.octets + line.len() > OCTETS {
            self.lost += 1;
            return;
        }
        self.octets += line.len();
        self.lines.push_back(line);
    }

    /// The next line to write.
    fn pop(&mut self, style: Style) -> Option<String> {
        if let Some(line) = self.lines.pop_front() {
            self.octets -= line.len();
            return Some(line);
        }
        let lost = std::mem::take(&mut self.lost);
        let text = match lost {
            0 => return None,
            1 => "1 line of the log was lost: its reader was too slow".to_owned(),
            lost => format!("{lost} lines of the log were lost: their reader was too slow"),
        };
        Some(line(Level::WARN, &text, style))
    }

    /// Says what was held back and is due.
    fn tell(&mut self, now: Instant, style: Style) {
        let due = self.rates.due(now);
        self.summarise(due, style);
    }

    fn summarise(&mut self, held: Vec<Held>, style: Style) {
        for Held { count, level, sample } in held {
            let text = format!("{count} more like this in the last seconds: {sample}");
            self.push(line(level, &text, style));
        }
    }
}

/// Writes all of it, however long the reader takes; a descriptor that others made nonblocking is waited for.
fn write_all(sink: &mut (impl Write + AsFd), mut octets: &[u8]) -> io::Result<()> {
    while !octets.is_empty() {
        match sink.write(octets) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => octets = &octets[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(sink, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn plain() -> Queue {
        Queue::new(Style { time: false, colour: false })
    }

    #[test]
    fn lines_reach_their_reader_in_order() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let queue = plain();
        queue.start(writer).expect("a thread");
        for number in 0..500 {
            queue.push(None, Level::INFO, &number.to_string());
        }
        queue.flush(PATIENCE);
        queue.close();
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        let expected: String = (0..500).map(|number| format!(" INFO {number}\n")).collect();
        assert_eq!(text, expected);
    }

    #[test]
    fn a_reader_that_stopped_holds_up_nobody_and_is_told_how_much_it_lost() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let queue = plain();
        queue.start(writer).expect("a thread");
        let total: u64 = 20_000;
        for number in 0..total {
            queue.push(None, Level::INFO, &format!("{number:050}"));
        }
        queue.flush(Duration::from_millis(10));
        queue.close();
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        // It is told whenever there is room for the word, so perhaps twice.
        let lost = text.lines().filter_map(|line| line.strip_prefix(" WARN ")?.split(' ').next());
        let lost: u64 = lost.map(|count| count.parse::<u64>().expect("a number")).sum();
        assert!(lost > 0, "a word about it");
        let told = text.lines().filter(|line| line.starts_with(" INFO ")).count() as u64;
        assert_eq!(told + lost, total);
        assert!(told >= LINES as u64, "{told}");
    }

    #[test]
    fn a_reader_that_left_holds_up_nobody() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let queue = plain();
        queue.start(writer).expect("a thread");
        for number in 0..5_000 {
            queue.push(None, Level::INFO, &number.to_string());
        }
        queue.flush(PATIENCE);
        let state = queue.lock();
        assert!(state.lines.is_empty() && !state.writing);
    }

    #[test]
    fn what_was_held_back_is_said_at_the_end() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let queue = plain();
        queue.start(writer).expect("a thread");
        let key = Key { source: super::super::rate::Source::Others, place: "lab/a".into() };
        for _ in 0..100 {
            queue.push(Some(key.clone()), Level::WARN, "port lab/a: again");
        }
        queue.flush(PATIENCE);
        queue.close();
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.ends_with(" WARN 97 more like this in the last seconds: port lab/a: again\n"), "{text}");
    }
}
