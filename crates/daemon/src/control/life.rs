//! The phase of a connection, and its age.
//!
//! Theory of operation. A connection waits for its client (to ask, to send a body, to read an answer), is served, or
//! streams (events, a capture). A connection that waits longer than a turn gives its place to a connection that has
//! none ([`Life::turn_ends`]); one that is served or streams keeps its place. Beside that, a write that makes no
//! progress at all for some time ends the connection ([`Watched`]), so that a client which stopped reading holds
//! nothing for ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until};
use vmlan_frame::Mutex;

/// A connection's state, shared by its task, its requests and the server.
#[derive(Debug)]
pub(super) struct Life {
    state: Mutex<State>,
    leave: Notify,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// Requests that were answered.
    answered: u64,
    /// It was asked to leave.
    asked: bool,
    /// Since when a write makes no progress.
    stuck: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It is the client's turn.
    Waiting,
    Served,
    Streaming,
}

impl Life {
    pub(super) fn new() -> Arc<Life> {
        let now = Instant::now();
        let state = State { phase: Phase::Waiting, since: now, answered: 0, asked: false, stuck: None };
        Arc::new(Life { state: Mutex::new(state), leave: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn enter(&self, phase: Phase) {
        let mut state = self.lock();
        (state.phase, state.since) = (phase, Instant::now());
    }

    /// A request is there, and nothing more is wanted of the client.
    pub(super) fn served(&self) {
        self.enter(Phase::Served);
    }

    /// The client has to send something.
    pub(super) fn waiting(&self) {
        self.enter(Phase::Waiting);
    }

    /// The answer is made, and only has to be read, unless it streams.
    pub(super) fn answered(&self) {
        let mut state = self.lock();
        state.answered += 1;
        if state.phase != Phase::Streaming {
            (state.phase, state.since) = (Phase::Waiting, Instant::now());
        }
    }

    /// The answer goes on for as long as the client likes, which is until the guard is dropped.
    pub(super) fn streaming(self: &Arc<Self>) -> Streaming {
        self.enter(Phase::Streaming);
        Streaming(self.clone())
    }

    fn is_streaming(&self) -> bool {
        self.lock().phase == Phase::Streaming
    }

    /// When the turn of a client that keeps the connection waiting is over; a quarter of it is enough for one that does
    /// not read what is there. `None` when it keeps nothing waiting.
    pub(super) fn turn_ends(&self, turn: Duration) -> Option<Instant> {
        let state = self.lock();
        let end = state.since + turn;
        let end = state.stuck.map_or(end, |stuck| end.min(stuck + turn / 4));
        (state.phase == Phase::Waiting).then_some(end)
    }

    /// True if the client has not read, for `time`, what waits for it. Never true of a stream.
    pub(super) fn is_stuck(&self, time: Duration) -> bool {
        let state = self.lock();
        state.phase == Phase::Waiting && state.stuck.is_some_and(|since| since.elapsed() >= time)
    }

    /// Asks a connection that has had an answer to leave behind the next one, or at once when it is idle; false when
    /// it cannot be asked (again).
    pub(super) fn ask_to_leave(&self) -> bool {
        let mut state = self.lock();
        let can = state.answered > 0 && !state.asked && state.phase != Phase::Streaming;
        state.asked |= can;
        if can {
            self.leave.notify_one();
        }
        can
    }

    /// Waits until it is asked to leave.
    pub(super) async fn asked_to_leave(&self) {
        self.leave.notified().await;
    }
}

/// Held by the body of an answer that streams.
#[derive(Debug)]
pub(super) struct Streaming(Arc<Life>);

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.waiting();
    }
}

/// How long a write may make no progress.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) answer: Duration,
    pub(super) stream: Duration,
}

/// A connection whose writes fail when the peer reads nothing for too long.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    life: Arc<Life>,
    patience: Patience,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, life: Arc<Life>, patience: Patience) -> Watched<S> {
        Watched { stream, life, patience, deadline: None }
    }

    /// `result`, unless it has been pending for too long.
    fn watch(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            if self.deadline.take().is_some() {
                self.life.lock().stuck = None;
            }
            return result;
        }
        let (life, patience) = (&self.life, self.patience);
        let deadline = self.deadline.get_or_insert_with(|| {
            let now = Instant::now();
            life.lock().stuck = Some(now);
            let time = if life.is_streaming() { patience.stream } else { patience.answer };
            Box::pin(sleep_until(now + time))
        });
        ready!(deadline.as_mut().poll(context));
        let message = "the client reads nothing";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, octets);
        self.watch(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
