//! The stream of events: one JSON object a line, for as long as the reader wants.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Response, header};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::life::Streaming;
use vmlan_ports::users;

/// Events from now on, until the reader leaves or the daemon ends. The places are given back at the end.
pub(super) fn response(
    events: Receiver<vmlan_api::Event>,
    stopped: watch::Receiver<bool>,
    place: (OwnedSemaphorePermit, users::Place, Streaming),
) -> Response<Body> {
    let stream =
        futures_util::stream::unfold((events, stopped, place), |(mut events, mut stopped, place)| async {
            let line = tokio::select! {
                line = next_line(&mut events) => line?,
                _ = stopped.wait_for(|stopped| *stopped) => return None,
            };
            Some((Ok::<_, Infallible>(line), (events, stopped, place)))
        });
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

async fn next_line(events: &mut Receiver<vmlan_api::Event>) -> Option<Bytes> {
    let event = match events.recv().await {
        Ok(event) => event,
        Err(RecvError::Lagged(count)) => {
            vmlan_api::Event { time: vmlan_api::Timestamp::now(), kind: vmlan_api::EventKind::Lost { count } }
        }
        Err(RecvError::Closed) => return None,
    };
    let mut line = serde_json::to_vec(&event).ok()?;
    line.push(b'\n');
    Some(Bytes::from(line))
}
