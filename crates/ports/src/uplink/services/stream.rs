//! A guest's connection to the resolver.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use vmlan_services::Client;
use vmlan_services::names::Question;

use super::upstream::{ask_by_tcp, read, write};

/// The time for a guest to ask, and to take an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Octets of the longest question.
const LONGEST: usize = 4096;

/// A thing that a connection asks of the task, which has the state.
pub(super) enum Request {
    /// Decide on a question.
    Decide(Client, Vec<u8>, oneshot::Sender<Decision>),
    /// Make a resolver's answer fit for the guest.
    PassOn(Client, Question, Vec<u8>, oneshot::Sender<Vec<u8>>),
}

/// The consequence of a question.
pub(super) enum Decision {
    /// Close the connection.
    Close,
    /// Give this answer.
    Answer(Vec<u8>),
    /// Ask these servers, under this number.
    Ask(Question, Vec<SocketAddr>, u16),
}

/// Serves a connection to its end.
pub(super) async fn serve(
    stream: std::os::unix::net::UnixStream,
    client: Client,
    task: mpsc::Sender<Request>,
) {
    let taken = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
    let Ok(mut stream) = taken else { return };
    while let Ok(Ok(Some(octets))) = timeout(PATIENCE, read(&mut stream, LONGEST)).await {
        let Some(answer) = answer(client, octets, &task).await else { return };
        if !matches!(timeout(PATIENCE, write(&mut stream, &answer)).await, Ok(Ok(()))) {
            return;
        }
    }
}

async fn answer(client: Client, octets: Vec<u8>, task: &mpsc::Sender<Request>) -> Option<Vec<u8>> {
    let (reply, decision) = oneshot::channel();
    task.send(Request::Decide(client, octets.clone(), reply)).await.ok()?;
    match decision.await.ok()? {
        Decision::Close => None,
        Decision::Answer(answer) => Some(answer),
        Decision::Ask(question, servers, id) => {
            let answer = ask_by_tcp(&servers, &question, &octets, id).await;
            let (reply, passed) = oneshot::channel();
            task.send(Request::PassOn(client, question, answer, reply)).await.ok()?;
            passed.await.ok()
        }
    }
}
