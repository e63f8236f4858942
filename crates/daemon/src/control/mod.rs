//! The control interface: HTTP/1.1 with JSON over a Unix socket, version 1 (docs/api.md).
//!
//! A connection is kept only when its peer runs as our user or as root. Everything that it can make us hold is bounded
//! ([`Limits`]): connections, event streams, captures, octets and depth of a body, the time for a header, for a body
//! and for reading an answer. Where all places are taken, one that waits for its client is given to the connection that
//! comes (`places`). A reader of events that is too slow loses the oldest and is told how many. On the other side is
//! the [`Handle`]: this module only translates.

mod body;
mod capture;
mod capture_request;
mod events;
mod failure;
mod json;
mod life;
pub(crate) mod metrics;
mod places;
mod query;
mod routes;
mod socket;
mod uplink;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use vmlan_drivers::inject;

pub use socket::{BindError, ControlSocket};

use crate::handle::Handle;
use life::{Life, Patience, Watched};
use places::Places;
use vmlan_ports::connection::Connection;
use vmlan_ports::panics::{Relapses, caught};
use vmlan_ports::users::{self, Full, User};

/// Octets of the header of a request, and of what is read at once.
const HEADER: usize = 16 * 1024;
/// How long open requests may take when the daemon ends.
const GRACE: Duration = Duration::from_secs(1);
/// Connections that are told at a time why they are closed; further ones are only closed.
const FAREWELLS: usize = 16;
/// A client that has read nothing for so long when the daemon ends is not waited for.
const STUCK: Duration = Duration::from_millis(100);
/// How long to wait when no connection can be accepted, for want of descriptors for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Limits on what a client can make the daemon hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; a further one takes the place of one that keeps us waiting, or waits for a place itself.
    pub connections: usize,
    /// Of those, how many may be event streams.
    pub event_streams: usize,
    /// Of those, how many may be captures; each holds up to 16 MiB.
    pub captures: usize,
    /// Time for the header of a request, and between requests.
    pub header: Duration,
    /// Time for the body of a request.
    pub body: Duration,
    /// Time in which a client has to read something of an answer.
    pub answer: Duration,
    /// The same for event streams and captures, which people stop to look at.
    pub stream: Duration,
    /// How long a connection may keep its place while it waits for its client and others wait for a place.
    pub turn: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            event_streams: 32,
            captures: 8,
            header: Duration::from_secs(10),
            body: Duration::from_secs(10),
            answer: Duration::from_secs(5),
            stream: Duration::from_secs(60),
            turn: Duration::from_secs(1),
        }
    }
}

/// Serves the interface until `stop` is ready; then open requests get a second to end, and the socket is removed.
pub async fn serve(
    mut socket: ControlSocket,
    handle: Handle,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let (stopping, stopped) = watch::channel(false);
    let state = routes::Shared {
        shares: routes::Shares::new(handle.users(), &limits),
        peer: None,
        handle,
        body_time: limits.body,
        event_streams: Arc::new(Semaphore::new(limits.event_streams)),
        captures: capture::Captures::new(limits.captures),
        stopped,
        life: Life::new(),
    };
    let places = Places::new(limits.connections, limits.turn);
    let mut server = Server { limits, state, places, farewells: JoinSet::new(), refused: 0 };
    tokio::select! {
        () = server.persist(&mut socket) => {}
        () = stop => {}
    }
    drop(socket);
    // Nobody may be left to hear it.
    let _ = stopping.send(true);
    server.places.end(GRACE).await;
}

struct Server {
    limits: Limits,
    state: routes::Shared,
    places: Places,
    /// Connections that are told why they are closed.
    farewells: JoinSet<()>,
    /// Connections closed because of who their peer is.
    refused: u64,
}

impl Server {
    /// Accepts connections for ever, and begins anew after a panic; open ones do not notice.
    async fn persist(&mut self, socket: &mut ControlSocket) {
        let mut relapses = Relapses::default();
        while let Err(panic) = caught(self.accept(socket)).await {
            relapses.begin_anew("the control interface", panic).await;
        }
    }

    /// Accepts connections for ever.
    async fn accept(&mut self, socket: &mut ControlSocket) {
        loop {
            match socket.accept().await {
                Ok(stream) => {
                    inject::panic_at(|| "control-accept".to_owned());
                    if !self.is_welcome(&stream) {
                        continue;
                    }
                    self.places.make_room().await;
                    let user = User::of(&stream);
                    let share = match self.share(user).await {
                        Ok(share) => share,
                        Err(full) => {
                            self.refuse(stream, full);
                            continue;
                        }
                    };
                    let life = Life::new();
                    let state = self.state.of_connection(share, life.clone());
                    self.places.add(user, life, serve_connection(stream, self.limits, state));
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket accepts no connection for now");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// The peer's place among those of its user, of whose connections one has to go if need be.
    async fn share(&mut self, user: User) -> Result<users::Place, Full> {
        loop {
            match self.state.shares.connections.take(user) {
                Err(full) if !self.places.make_room_of(user).await => return Err(full),
                Err(_) => {}
                Ok(place) => return Ok(place),
            }
        }
    }

    /// Tells the peer why it is closed.
    fn refuse(&mut self, stream: Connection, full: Full) {
        if full.tell {
            tracing::warn!("a control connection is refused: {full}");
        }
        while self.farewells.try_join_next().is_some() {}
        if self.farewells.len() < FAREWELLS {
            self.farewells.spawn(say_farewell(stream, failure::refusal(&full.to_string())));
        }
    }

    /// Checks that the peer runs as our user or as root; counts and logs refusals.
    fn is_welcome(&mut self, stream: &Connection) -> bool {
        let ours = rustix::process::geteuid().as_raw();
        let peer = stream.peer_cred().map(|peer| peer.uid());
        let welcome = matches!(peer, Ok(uid) if uid_may_connect(uid, ours));
        if !welcome {
            self.refused += 1;
            // The first, and then ever fewer: a stubborn peer must not fill the log.
            if self.refused.is_power_of_two() {
                let whose = peer
                    .map_or("a user that the system does not name".to_owned(), |uid| format!("uid {uid}"));
                tracing::warn!(
                    "refused a control connection of {whose} ({} so far); only the daemon's user and root may have one",
                    self.refused
                );
            }
        }
        welcome
    }
}

fn uid_may_connect(peer: u32, ours: u32) -> bool {
    peer == ours || peer == 0
}

/// Sends `answer` and closes, behind what the peer still sends: else it would find the connection reset, and no answer.
async fn say_farewell(mut stream: Connection, answer: Vec<u8>) {
    let farewell = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await?;
        while stream.read(&mut [0; 1024]).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Whatever comes of it, the connection is closed.
    let _ = tokio::time::timeout(GRACE, farewell).await;
}

async fn serve_connection(stream: Connection, limits: Limits, state: routes::Shared) {
    inject::panic_at(|| "control-connection".to_owned());
    let (mut stopped, life) = (state.stopped.clone(), state.life.clone());
    let patience = Patience { answer: limits.answer, stream: limits.stream };
    let stream = Watched::new(stream, life.clone(), patience);
    let router = TowerToHyperService::new(routes::router(state));
    let service = service_fn(|request| {
        let (router, life) = (router.clone(), life.clone());
        // Begins when the answer before it has gone out: requests that are sent ahead wait for their reader.
        async move {
            life.served();
            let answer = router.call(request).await;
            life.answered();
            answer
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(HEADER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => {
            if let Err(error) = result {
                tracing::debug!(%error, "a control connection ended");
            }
            return;
        }
        // An error means that the sender is gone, which is the same news.
        _ = stopped.wait_for(|stopped| *stopped) => {
            if life.is_stuck(STUCK) {
                return;
            }
        }
        () = life.asked_to_leave() => {}
    }
    connection.as_mut().graceful_shutdown();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a control connection ended");
    }
}
