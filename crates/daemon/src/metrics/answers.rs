//! The answers to scrapes of the TCP socket of `[daemon] metrics`.
//!
//! Everybody who reaches the address may ask, so a client gets little: the header of one request, one answer, and its
//! connection is closed. Few connections are served at once; a further one takes the place of one that waits for its
//! client (`control::places`). What was gathered is the answer to all who ask within a moment, so that no number of
//! clients keeps control busy.

use std::time::Duration;

use axum::body::Bytes;
use tokio::time::Instant;
use vmlan_frame::Mutex;

use super::{Format, Scrape};

/// For how long an answer is good enough for others who ask.
const FRESH: Duration = Duration::from_millis(200);

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
