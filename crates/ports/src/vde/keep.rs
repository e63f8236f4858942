//! A VDE directory: every client becomes a port of its own.
//!
//! The directory's task accepts connections to `ctl`; each gets a task that reads the request, joins the network as a
//! port, and leaves when the client closes its control connection or its socket is gone. How many clients there are, of
//! all users and of one, how fast they come and how long they may take to ask is bounded.

use std::sync::Arc;
use std::time::Duration;

use rustix::net::SocketType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;
use vmlan_drivers::datagram::Socket;
use vmlan_drivers::unix::{self, Access, BoundPath, MadeDirectory, Node, unguessable};
use vmlan_drivers::vde::{self, Request};
use vmlan_drivers::{Endpoint, Fault, PeerSocket};

use super::Vde;
use crate::accept::Acceptor;
use crate::connection::{Connection, Listener};
use crate::describe;
use crate::kind::{KeepClients, Work};
use crate::swept::{notice, swept};
use crate::users::{self, Places, Resource, User};
use crate::{Clients, Seat};
use crate::{Pause, peers, report_end};

/// Clients of one directory at a time.
const CLIENTS: usize = 1024;

/// How long a client may take to send its request.
const PATIENCE: Duration = Duration::from_secs(5);

/// The name of the control socket.
const CONTROL: &str = "ctl";

/// A directory and its clients.
pub(super) struct Directory {
    config: Vde,
    clients: JoinSet<()>,
    /// While we have made it: it is removed if nothing else is in it.
    made: Option<MadeDirectory>,
    places: Option<Arc<Places>>,
}

impl Directory {
    pub(super) fn new(config: Vde) -> Directory {
        Directory { config, clients: JoinSet::new(), made: None, places: None }
    }
}

impl KeepClients for Directory {
    fn keep<'a>(&'a mut self, clients: &'a mut Clients) -> Work<'a> {
        Box::pin(async {
            let mut acceptor = Acceptor::new(clients.place());
            loop {
                // Clients that are there stay when the directory's files are swept away: their sockets are connected.
                self.serve_listener(clients, &mut acceptor).await;
            }
        })
    }

    fn close(mut self: Box<Self>) -> Work<'static> {
        Box::pin(async move { self.clients.shutdown().await })
    }
}

impl Directory {
    /// Makes the control socket, and serves clients until its path leads elsewhere.
    async fn serve_listener(&mut self, clients: &mut Clients, acceptor: &mut Acceptor) {
        let config = &self.config;
        let mut pause = Pause::up_to(Duration::from_secs(1));
        let (opened, listener, path) = loop {
            match listen(clients.place(), config, &mut self.made) {
                Ok(listening) => break listening,
                Err(reason) => clients.failed(reason),
            }
            pause.wait().await;
        };
        sweep(&opened, config.access);
        clients.up(config.directory.join(CONTROL).display().to_string());
        let places = self.places.get_or_insert_with(|| clients.places(Resource::Ports, CLIENTS));
        let running = &mut self.clients;
        loop {
            tokio::select! {
                client = acceptor.next(&listener), if running.len() < CLIENTS => {
                    clients.inject("accept");
                    match places.take(User::of(&client)) {
                        Ok(place) => {
                            running.spawn(serve(clients.clone(), config.access, opened.clone(), client, place));
                        }
                        // The protocol has no answer that says so.
                        Err(full) => clients.refuse(&full),
                    }
                }
                Some(ended) = running.join_next() => report_end(clients, ended),
                () = swept(Some(&path)) => return clients.swept(&notice(&path)),
            }
        }
    }
}

/// Opens the directory, or makes it, and listens in it.
fn listen(
    port: &crate::Place,
    config: &Vde,
    made: &mut Option<MadeDirectory>,
) -> Result<(Arc<unix::Directory>, Listener, BoundPath), String> {
    let opened = unix::Directory::open_or_make(&config.directory, config.access);
    let (directory, newly_made) = opened.map_err(|error| describe(&error))?;
    if newly_made.is_some() {
        *made = newly_made;
    }
    let place = directory.place(CONTROL);
    let path = place.path();
    // The name is ours in a directory of ours, but while no daemon ran, everybody could take it.
    if directory.evict_strangers(CONTROL.as_ref(), config.access.owner) {
        tracing::warn!(%port, "{}: removed what another user had put in its place", path.display());
    }
    let (socket, bound) = unix::listen(&place, config.access).map_err(|error| describe(&error))?;
    let listener = Listener::new(PeerSocket::from_birth(socket));
    let listener = listener.map_err(|error| format!("cannot watch {}: {error}", path.display()))?;
    Ok((directory, listener, bound))
}

/// Removes the sockets of clients (see [`attach`]) that a daemon left which was killed: ours, or our owner's, and
/// nobody holds them.
fn sweep(directory: &unix::Directory, access: Access) {
    let Ok(names) = directory.names() else { return };
    let us = rustix::process::geteuid().as_raw();
    for name in names {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_digit());
        let parts = name.to_str().and_then(|name| name.split_once('.'));
        if !parts.is_some_and(|(number, process)| is_number(number) && is_number(process)) {
            continue;
        }
        let Ok(node) = directory.find(&name) else { continue };
        let is_ours = node.is_socket_of(us) || access.owner.is_some_and(|owner| node.is_socket_of(owner));
        if is_ours && !node.is_held(SocketType::DGRAM) {
            // What cannot be removed is in nobody's way.
            let _ = directory.remove(&name, &node);
        }
    }
}

/// One client from its request to its end.
async fn serve(
    clients: Clients,
    access: Access,
    directory: Arc<unix::Directory>,
    mut control: Connection,
    place: users::Place,
) {
    let (request, node) = match timeout(PATIENCE, ask(&mut control, &directory)).await {
        Ok(Ok(asked)) => asked,
        Ok(Err(reason)) => {
            return tracing::debug!(port = %clients.place(), "a client is refused: {reason}");
        }
        Err(_) => {
            let seconds = PATIENCE.as_secs();
            return tracing::debug!(
                port = %clients.place(),
                "a client is refused: it asked for nothing within {seconds} seconds"
            );
        }
    };
    let Some((number, mut seat)) = clients.join(place.user()) else { return };
    let peer = format!("{} ({})", peers::describe(&control), request.description);
    match attach(&directory, number.get(), access, &request, &node) {
        Ok((endpoint, path)) => {
            // Told only now that frames have somewhere to go.
            seat.up(endpoint, Some(peer)).await;
            if let Some(address) = vde::answer(&path.path())
                && control.write_all(&address).await.is_ok()
            {
                until_it_leaves(&mut seat, &mut control).await;
            }
        }
        Err(reason) => tracing::warn!(port = %seat.place(), "{reason}"),
    }
    seat.leave().await;
    drop(number);
}

/// Reads the request and checks it; answers it with the client's socket.
async fn ask(control: &mut Connection, directory: &unix::Directory) -> Result<(Request, Node), String> {
    let uid = control.peer_cred().map_err(|error| error.to_string())?.uid();
    let mut octets = Vec::with_capacity(vde::REQUEST);
    loop {
        let limit = (vde::REQUEST - octets.len()) as u64;
        let read = (&mut *control).take(limit).read_buf(&mut octets).await;
        if read.map_err(|error| error.to_string())? == 0 {
            return Err("it closed the connection in the middle of its request".into());
        }
        if let Some(request) = Request::parse(&octets).map_err(|error| error.to_string())? {
            let found = vde::find_socket(&request.socket, directory, uid);
            return Ok((request, found.map_err(|error| error.to_string())?));
        }
    }
}

/// A socket for the client, connected to the client's own.
fn attach(
    directory: &Arc<unix::Directory>,
    number: usize,
    access: Access,
    request: &Request,
    node: &Node,
) -> Result<(Arc<dyn Endpoint>, BoundPath), String> {
    let name = format!("{number:03}.{}", std::process::id());
    let bind = |name| unix::bind_connected(&directory.place(name), access, node);
    let bound = match bind(name.clone()) {
        // Clients that may write to the directory can take names that are foretold.
        Err(unix::Error::InUse { .. } | unix::Error::InTheWay { .. }) => {
            bind(format!("{name}{:020}", unguessable()))
        }
        bound => bound,
    };
    let (socket, bound) = bound.map_err(|error| match error {
        unix::Error::Peer(error) => {
            format!("the client's socket {} cannot be connected to: {error}", request.socket.display())
        }
        error => describe(&error),
    })?;
    // It was connected before it had a name, so there is nothing of others in it.
    Ok((Arc::new(Socket::new(PeerSocket::from_birth(socket), None)), bound))
}

/// Waits until the client closes its control connection, or its socket is gone.
async fn until_it_leaves(seat: &mut Seat, control: &mut Connection) {
    let mut ignored = [0; 256];
    loop {
        tokio::select! {
            fault = seat.fault() => {
                if let Fault::Violation(reason) = fault {
                    seat.quarantined(reason);
                }
                return;
            }
            // What a client says after its request has no meaning.
            read = control.read(&mut ignored) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            },
        }
    }
}
