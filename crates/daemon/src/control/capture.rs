//! Captures over the control interface: `POST /v1/capture` answers with a pcapng file while it is made.
//!
//! Theory of operation. The thread of a capture ([`crate::capture`]) writes into a bounded channel, from which the
//! body of the response comes. A reader that is too slow makes the thread wait, then the capture's queue fills, and
//! then frames are lost and counted; nothing else waits. A task beside it lets ports join as they come, until the
//! capture has its frames, its reader leaves, a request ends it (`DELETE /v1/capture/{capture}`), or the daemon ends.
//! Unless the reader has left, it then gets what was captured until then, and the file is whole.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, Response, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use vmlan_api::ErrorCode;
use vmlan_frame::Mutex;

use super::capture_request::CaptureRequest;
use super::failure::Failure;
use super::life::{Life, Streaming};
use crate::capture::{self, Capture, Report};
use crate::handle::Handle;
use vmlan_ports::users;

/// Pieces of a file, of 64 KiB at most, that wait for the connection.
const PIECES: usize = 4;

/// The header with the capture's number.
const NUMBER: HeaderName = HeaderName::from_static("vmlan-capture");

/// The captures that there are.
#[derive(Debug, Clone)]
pub(super) struct Captures {
    places: Arc<Semaphore>,
    running: Arc<Mutex<Running>>,
}

#[derive(Debug, Default)]
struct Running {
    last: u64,
    /// By number: dropped to end it.
    captures: BTreeMap<u64, oneshot::Sender<()>>,
}

/// A capture's entry among those that there are; dropping it takes it out and gives its place back.
struct Entry {
    number: u64,
    running: Arc<Mutex<Running>>,
    _place: OwnedSemaphorePermit,
    _share: users::Place,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.running.lock().captures.remove(&self.number);
    }
}

impl Captures {
    /// At most so many at a time.
    pub(super) fn new(most: usize) -> Captures {
        Captures { places: Arc::new(Semaphore::new(most)), running: Arc::default() }
    }

    /// Starts a capture and answers with its file.
    pub(super) async fn start(
        &self,
        handle: Handle,
        request: CaptureRequest,
        stopped: watch::Receiver<bool>,
        share: users::Place,
        life: &Arc<Life>,
    ) -> Result<Response<Body>, Failure> {
        let (entry, asked_to_end) = self.enter(share)?;
        let CaptureRequest { selections, options } = request;
        let (sender, pieces) = mpsc::channel(PIECES);
        let mut capture = Capture::start(Pipe { sender }, options).map_err(|error| {
            Failure::new(ErrorCode::Internal, format!("the capture cannot be started: {error}"))
        })?;
        // Dropped before the capture, whose end would wait for somebody to read.
        let pieces = pieces;
        let events = handle.subscribe();
        capture::attach_all(&handle, &selections, &mut capture).await?;
        let (reading, reader_left) = oneshot::channel();
        let response = response(entry.number, pieces, (reading, life.streaming()));
        tokio::spawn(async move {
            let mut stopped = stopped;
            let is_read = tokio::select! {
                () = capture::follow(&handle, events, &selections, &mut capture) => true,
                // Errors, which say that the other side is gone, are what is waited for.
                _ = asked_to_end => true,
                _ = reader_left => false,
                _ = stopped.wait_for(|stopped| *stopped) => true,
            };
            // It takes as long as the reader does.
            let end = move || if is_read { capture.stop() } else { capture.abandon() };
            let report = spawn_blocking(end).await;
            if let Ok(Report { frames, lost, .. }) = report {
                tracing::info!("capture {} ended: {frames} frames, {lost} lost", entry.number);
            }
            drop(entry);
        });
        Ok(response)
    }

    /// Ends a capture in order; false when there is none of that number.
    pub(super) fn end(&self, number: u64) -> bool {
        self.running.lock().captures.remove(&number).is_some()
    }

    fn enter(&self, share: users::Place) -> Result<(Entry, oneshot::Receiver<()>), Failure> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            Failure::new(ErrorCode::Unavailable, "there are as many captures as there can be; end one")
        })?;
        let (sender, receiver) = oneshot::channel();
        let mut running = self.running.lock();
        running.last += 1;
        let number = running.last;
        running.captures.insert(number, sender);
        Ok((Entry { number, running: self.running.clone(), _place: place, _share: share }, receiver))
    }
}

/// `reading` is dropped with the body, at its end or when the reader leaves.
fn response(
    number: u64,
    pieces: mpsc::Receiver<Bytes>,
    reading: (oneshot::Sender<()>, Streaming),
) -> Response<Body> {
    let stream = futures_util::stream::unfold((pieces, reading), |(mut pieces, reading)| async {
        let piece = pieces.recv().await?;
        Some((Ok::<_, Infallible>(piece), (pieces, reading)))
    });
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-pcapng"));
    headers.insert(NUMBER, HeaderValue::from(number));
    response
}

/// The writing end of a body.
struct Pipe {
    sender: mpsc::Sender<Bytes>,
}

impl io::Write for Pipe {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        // It fails when the reader has left.
        self.sender.blocking_send(Bytes::copy_from_slice(octets)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
