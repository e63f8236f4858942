//! The TCP socket of `[daemon] metrics`, which takes `GET /metrics` and nothing else.
//!
//! Theory of operation. Whoever reaches the address may ask, so a client gets little: the header of one request, one
//! answer, and its connection is closed. Few connections are served at once; a further one takes the place of one that
//! waits for its client (`control::places`). What was gathered is the answer to all who ask within a moment, so that
//! no number of clients keeps control busy. An address that cannot be had is tried again until it can.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use vmlan_frame::Mutex;

use super::Format;
use crate::control::metrics;

/// How long to wait before an address is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// For how long an answer is good enough for others who ask.
const FRESH: Duration = Duration::from_millis(200);

/// Gathers and writes the metrics.
pub(crate) type Scrape = Arc<dyn Fn(Format) -> String + Send + Sync>;

/// The socket that is listened at, if there is one.
#[derive(Default)]
pub(crate) struct Listener {
    task: Option<JoinHandle<()>>,
}

impl Listener {
    /// Listens at `address` from now on instead of where it did; with none, nowhere.
    ///
    /// # Errors
    /// Cause and cure in words when the address cannot be had, which is tried again meanwhile.
    pub(crate) async fn set(&mut self, address: Option<SocketAddr>, scrape: Scrape) -> Result<(), String> {
        self.stop().await;
        let Some(address) = address else { return Ok(()) };
        let bound = bind(address).await;
        let failure = bound.as_ref().err().cloned();
        let answers = Arc::new(Answers::new(scrape));
        self.task = Some(tokio::spawn(async move {
            let listener = match bound {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::error!(owner = true, "{error}");
                    bind_some_time(address).await
                }
            };
            metrics::serve(listener, answers).await;
        }));
        failure.map_or(Ok(()), Err)
    }

    /// Listens nowhere any more; the socket is closed when it answers.
    pub(crate) async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // That it was aborted is no news.
            let _ = task.await;
        }
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        format!(
            "daemon.metrics: cannot listen at {address}: {error}; name an address of this host with a free port \
             (`ss -ltnp` shows who has it), or remove the key"
        )
    })
}

async fn bind_some_time(address: SocketAddr) -> TcpListener {
    loop {
        sleep(AGAIN).await;
        if let Ok(listener) = bind(address).await {
            tracing::info!(owner = true, "metrics are served at {address} now");
            return listener;
        }
    }
}

/// The answers to scrapes, each good for a moment.
pub(crate) struct Answers {
    scrape: Scrape,
    fresh: Mutex<[Option<(Instant, Bytes)>; 2]>,
}

impl Answers {
    pub(crate) fn new(scrape: Scrape) -> Answers {
        Answers { scrape, fresh: Mutex::default() }
    }

    /// The metrics of this moment, or of one that has just passed.
    pub(crate) fn get(&self, format: Format) -> Bytes {
        let mut fresh = self.fresh.lock();
        let place = &mut fresh[format as usize];
        match place {
            Some((at, text)) if at.elapsed() < FRESH => text.clone(),
            _ => {
                let text = Bytes::from((self.scrape)(format));
                *place = Some((Instant::now(), text.clone()));
                text
            }
        }
    }
}
