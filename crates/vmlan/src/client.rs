//! The client of the control interface: one connection a request.
//!
//! A daemon that hangs still accepts connections, for its kernel does. So a client for people ([`Client::telling`])
//! says after a moment that no answer comes, and gives up on a question after [`QUESTION`]. A change may take long,
//! with many ports for instance: that has no limit, and a line on the terminal shows how far it is.
//!
//! A command that takes the signals itself, because it has to undo what it did, lends them to its client
//! ([`Client::ended_by`]). A first signal ends a question at once, and leaves a change [`GRACE`] to be answered, so
//! that it can be undone; a further one ends either at once.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use vmlan_api::{Error, ErrorCode};

use crate::command::others;
use crate::output::tell;
use crate::progress::Progress;
use crate::signals::Endings;

/// Octets of an answer that is still read.
const LARGEST_ANSWER: usize = 256 << 20;
/// Octets of a line of an event stream.
const LONGEST_LINE: usize = 1 << 20;
/// How long the daemon may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// The time without an answer after which a client for people says so.
const QUIET: Duration = Duration::from_secs(3);
/// The time from one look at how far a change is to the next.
const LOOK: Duration = Duration::from_secs(1);
/// The most that the answer to a question may take, for a client for people.
const QUESTION: Duration = Duration::from_secs(60);
/// The time in which a change may still be answered after a first signal.
const GRACE: Duration = Duration::from_secs(2);

/// The most that an answer may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Time from the connection to the last octet; forever without one.
    pub time: Option<Duration>,
    /// Octets of the body.
    pub octets: usize,
}

/// The process that listens, as the kernel knows it.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// None where the system does not tell.
    pub pid: Option<i32>,
    /// Its user.
    pub uid: u32,
}

/// Why a request got no answer, or not the one hoped for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon answers at the socket.
    #[error("cannot reach vmlan at {}: {}", .path.display(), .source)]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The daemon answered with an error.
    #[error("{0}")]
    Refused(Box<Error>),
    /// The connection ended before the answer.
    #[error("vmlan at {} closed the connection without an answer; it serves its own user and root only", .path.display())]
    Closed {
        /// The socket.
        path: PathBuf,
    },
    /// The connection ended within the answer.
    #[error("vmlan at {} broke off the connection", .path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
    },
    /// The answer was not there in time.
    #[error("vmlan at {} did not answer in {} seconds", .path.display(), .time.as_secs())]
    Slow {
        /// The socket.
        path: PathBuf,
        /// The time that it had.
        time: Duration,
    },
    /// A signal came before the answer.
    #[error("ended by a signal while vmlan at {} did not answer", .path.display())]
    Ended {
        /// The socket.
        path: PathBuf,
    },
    /// The program that answers does not speak the interface.
    #[error("what answers at {} is not vmlan, or of another version: {what}", .path.display())]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// The part that was not understood.
        what: String,
    },
}

impl ClientError {
    /// Returns advice for the user, where there is any.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("the socket belongs to another user: run this as that user or as root".to_owned())
            }
            Self::Unreachable { path, .. } => {
                let others = others(path);
                let seen = others.iter().map(|socket| format!("\n  --control {}", socket.display()));
                let seen: String = seen.collect();
                Some(match others.is_empty() {
                    true => "is `vmlan run` running? Name another socket with --control or VMLAN_CONTROL"
                        .to_owned(),
                    false => format!("root's own daemon does not run; other users' daemons do:{seen}"),
                })
            }
            Self::Slow { .. } => Some(
                "it is busy or hangs; `vmlan support` collects what a bug report needs, its threads too"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// The error for a program that reads JSON.
    pub fn to_api(&self) -> Error {
        match self {
            Self::Refused(error) => Error::clone(error),
            other => Error::new(ErrorCode::Unavailable, other.to_string()),
        }
    }
}

/// Speaks to the daemon at one socket.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    path: PathBuf,
    bounds: Bounds,
    tells: bool,
    /// Of a command that takes the signals in place of the system.
    endings: Option<Arc<Endings>>,
    /// The process that listens, since the last connection.
    pid: Cell<Option<i32>>,
}

impl Client {
    /// A client of the daemon at `path`; connects with each request.
    ///
    /// # Errors
    /// When the system gives no event queue.
    pub fn new(path: &Path) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let bounds = Bounds { time: None, octets: LARGEST_ANSWER };
        Ok(Self { runtime, path: path.to_owned(), bounds, tells: false, endings: None, pid: Cell::new(None) })
    }

    /// The same client for a command at which somebody waits.
    pub fn telling(self) -> Self {
        Self { tells: true, ..self }
    }

    /// The same client for a command that has the terminal to itself.
    pub fn silent(self) -> Self {
        Self { tells: false, ..self }
    }

    /// The same client for a command that takes these signals: they end the wait for an answer.
    pub fn ended_by(self, endings: Arc<Endings>) -> Self {
        Self { endings: Some(endings), ..self }
    }

    /// The same client with other bounds for each answer, but for streams.
    pub fn bounded(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// Connects, and asks the kernel which process listens; it needs not answer.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`].
    pub fn peer(&self) -> Result<Option<Peer>, ClientError> {
        self.runtime.block_on(async {
            let peer = self.connect().await?.peer_cred().ok();
            Ok(peer.map(|peer| Peer { pid: peer.pid(), uid: peer.uid() }))
        })
    }

    /// Asks for `path`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request(Method::GET, path, Bytes::new())
    }

    /// Asks for `path`, whose answer is text.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn get_text(&self, path: &str) -> Result<String, ClientError> {
        let octets = self.fetch(Method::GET, path, Bytes::new())?;
        String::from_utf8(octets.into()).map_err(|error| self.foreign(error.to_string()))
    }

    /// Sends `body` in JSON to `path`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.foreign(error.to_string()))?;
        self.request(Method::POST, path, Bytes::from(body))
    }

    /// Changes what `body` names in JSON at `path`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.foreign(error.to_string()))?;
        self.request(Method::PATCH, path, Bytes::from(body))
    }

    /// Deletes `path`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request(Method::DELETE, path, Bytes::new())
    }

    /// Hands each line of a stream to `take` until the stream ends or `take` fails.
    ///
    /// # Errors
    /// See [`ClientError`]; the inner result is what `take` said.
    pub fn follow<E>(
        &self,
        path: &str,
        take: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<Result<(), E>, ClientError> {
        self.runtime.block_on(self.stream(path, take))
    }

    /// The same, for so long at most.
    ///
    /// # Errors
    /// See [`ClientError`]; the inner result is what `take` said.
    pub fn follow_for<E>(
        &self,
        time: Duration,
        path: &str,
        take: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<Result<(), E>, ClientError> {
        let stream = async { tokio::time::timeout(time, self.stream(path, take)).await };
        self.runtime.block_on(stream).unwrap_or(Ok(Ok(())))
    }

    async fn stream<E>(
        &self,
        path: &str,
        mut take: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<Result<(), E>, ClientError> {
        let response = self.watched(self.send(Method::GET, path, Bytes::new())).await?;
        if !response.status().is_success() {
            return Err(self.refused(self.body_of(response).await?));
        }
        let mut body = response.into_body();
        let mut pending = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { break };
            pending.extend_from_slice(frame.data_ref().map_or(&[][..], Bytes::as_ref));
            while let Some(end) = pending.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                if let Err(error) = take(String::from_utf8_lossy(&line).trim_end()) {
                    return Ok(Err(error));
                }
            }
            if pending.len() > LONGEST_LINE {
                return Err(self.foreign("an endless line".to_owned()));
            }
        }
        Ok(Ok(()))
    }

    /// Sends `body` in JSON to `path`, and gives the answer piece by piece as it comes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn post_for_stream(&self, path: &str, body: &impl Serialize) -> Result<Pieces<'_>, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.foreign(error.to_string()))?;
        let response = self.runtime.block_on(async {
            let response = self.watched(self.send(Method::POST, path, Bytes::from(body))).await?;
            match response.status().is_success() {
                true => Ok(response),
                false => Err(self.refused(self.body_of(response).await?)),
            }
        })?;
        Ok(Pieces { client: self, response })
    }

    /// The daemon's socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let octets = self.fetch(method, path, body)?;
        serde_json::from_slice(&octets).map_err(|error| self.foreign(error.to_string()))
    }

    /// The body of an answer that is none of an error.
    fn fetch(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let is_question = method == Method::GET;
        let answer = self.ask(method, path, body);
        let answer = async {
            let time = self.bounds.time.or((self.tells && is_question).then_some(QUESTION));
            let answer = async {
                match is_question {
                    true => self.watched(answer).await,
                    false => self.shown(answer).await,
                }
            };
            let Some(time) = time else { return answer.await };
            let slow = |_| Err(ClientError::Slow { path: self.path.clone(), time });
            tokio::time::timeout(time, answer).await.unwrap_or_else(slow)
        };
        self.runtime.block_on(self.until_signal(is_question, answer))
    }

    /// Waits for an answer until a signal ends the wait.
    async fn until_signal<T>(
        &self,
        is_question: bool,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let Some(endings) = &self.endings else { return answer.await };
        let mut answer = std::pin::pin!(answer);
        let is_first = !endings.have_come();
        tokio::select! {
            answer = &mut answer => return answer,
            () = endings.next() => {}
        }
        let ended = ClientError::Ended { path: self.path.clone() };
        if is_question || !is_first {
            return Err(ended);
        }
        tokio::select! {
            answer = tokio::time::timeout(GRACE, answer) => answer.unwrap_or(Err(ended)),
            () = endings.next() => Err(ended),
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let response = self.send(method, path, body).await?;
        let success = response.status().is_success();
        let octets = self.body_of(response).await?;
        if success { Ok(octets) } else { Err(self.refused(octets)) }
    }

    /// Waits for an answer, and says when none comes.
    async fn watched<T>(&self, answer: impl Future<Output = T>) -> T {
        let mut answer = std::pin::pin!(answer);
        if !self.tells {
            return answer.await;
        }
        match tokio::time::timeout(QUIET, &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                let process = self.pid.get().map(|pid| format!(" (process {pid})")).unwrap_or_default();
                tell(&format!(
                    "vmlan at {}{process} has not answered for {} seconds: it is busy or hangs; Ctrl-C ends the wait, \
                     and `vmlan support` collects what a bug report needs",
                    self.path.display(),
                    QUIET.as_secs()
                ));
                answer.await
            }
        }
    }

    /// Waits until a change is made, and shows on a terminal how far it is; elsewhere says when no answer comes.
    async fn shown<T>(&self, answer: impl Future<Output = T>) -> T {
        let progress = self.tells.then(|| Progress::start("waiting for vmlan")).filter(Progress::is_seen);
        let Some(progress) = progress else { return self.watched(answer).await };
        let look = async {
            loop {
                tokio::time::sleep(LOOK).await;
                let status = self.ask(Method::GET, "/v1/status", Bytes::new());
                let status = tokio::time::timeout(LOOK, status).await.ok().and_then(Result::ok);
                let status =
                    status.and_then(|octets| serde_json::from_slice::<vmlan_api::Status>(&octets).ok());
                progress.say(match status {
                    Some(status) => format!("{} ports", status.ports),
                    None => "it does not answer".to_owned(),
                });
            }
        };
        tokio::select! {
            answer = answer => answer,
            () = look => unreachable!("it never ends"),
        }
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let unreachable = |source| ClientError::Unreachable { path: self.path.clone(), source };
        let stream = tokio::time::timeout(CONNECT, UnixStream::connect(&self.path))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(unreachable)?;
        self.pid.set(stream.peer_cred().ok().and_then(|peer| peer.pid()));
        Ok(stream)
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, ClientError> {
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.foreign(error.to_string()))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "vmlan")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.foreign(error.to_string()))?;
        sender.send_request(request).await.map_err(|error| match error.is_parse() {
            true => self.foreign(error.to_string()),
            false => ClientError::Closed { path: self.path.clone() },
        })
    }

    async fn body_of(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = Limited::new(response.into_body(), self.bounds.octets).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| self.foreign(error.to_string()))
    }

    fn refused(&self, body: Bytes) -> ClientError {
        match serde_json::from_slice(&body) {
            Ok(error) => ClientError::Refused(Box::new(error)),
            Err(error) => self.foreign(error.to_string()),
        }
    }

    fn foreign(&self, what: String) -> ClientError {
        ClientError::Foreign { path: self.path.clone(), what }
    }
}

/// An answer that comes in pieces. What is not asked for makes the daemon wait.
#[derive(Debug)]
pub struct Pieces<'a> {
    client: &'a Client,
    response: Response<Incoming>,
}

impl Pieces<'_> {
    /// A header of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Waits for the next piece; `None` at the end.
    ///
    /// # Errors
    /// [`ClientError::Broken`].
    pub fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let body = self.response.body_mut();
        self.client.runtime.block_on(async {
            while let Some(frame) = body.frame().await {
                let broken = |_| ClientError::Broken { path: self.client.path.clone() };
                // Trailers say nothing.
                if let Ok(octets) = frame.map_err(broken)?.into_data() {
                    return Ok(Some(octets));
                }
            }
            Ok(None)
        })
    }
}

/// `text` as one segment of a path, or as a value in a query (RFC 3986 2.1).
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(octet.into()),
            _ => encoded.push_str(&format!("%{octet:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn whatever_is_no_plain_character_is_encoded() {
        assert_eq!(encode("guests.0"), "guests.0");
        assert_eq!(encode("lab/../x y?é"), "lab%2F..%2Fx%20y%3F%C3%A9");
    }
}
