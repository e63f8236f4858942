//! Requests to the daemon's control socket: a connection each, whose answer is passed on as it comes.

use std::path::Path;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// The most that the daemon may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Asks the daemon. The connection ends when the answer is dropped.
///
/// # Errors
/// A sentence for people.
pub(crate) async fn ask(
    control: &Path,
    method: Method,
    target: &str,
    body: Bytes,
) -> Result<Response<Incoming>, String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("no daemon answers at {}: {error}", control.display());
    let stream = tokio::time::timeout(CONNECT, UnixStream::connect(control)).await;
    let stream = stream.map_err(|_| failed(&"it takes too long"))?.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, "vmlan")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| failed(&error))?;
    sender.send_request(request).await.map_err(|error| failed(&error))
}
