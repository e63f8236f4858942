//! A tunnel's control socket: every client becomes a port of its own.
//!
//! The socket's task accepts connections; each gets a task ([`serve`]) that waits for the client's wish, joins the
//! network as a port, and leaves when the client closes its connection or its data socket. How many connections there
//! are, of all users and of one, how fast they come and how long they may take to ask is bounded.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Mode;
use tokio::task::JoinSet;
use vmlan_drivers::PeerSocket;
use vmlan_drivers::unix::{self, Access, BoundPath, Place};

use super::lease::Leases;
use super::serve::{refuse, serve};
use super::{Tunnel, TunnelAddresses};
use crate::Clients;
use crate::accept::Acceptor;
use crate::connection::Listener;
use crate::describe;
use crate::kind::{KeepClients, Work};
use crate::swept::{notice, swept};
use crate::users::{Places, Resource, User};
use crate::{Pause, report_end};

/// Connections of one socket at a time, those included that have no tunnel.
const CONNECTIONS: usize = 1280;

/// The clients of a socket, and which addresses they have.
pub(super) struct Tunnels {
    config: Tunnel,
    path: PathBuf,
    /// Clients' access to the socket.
    access: Access,
    addresses: TunnelAddresses,
    running: JoinSet<()>,
    leases: Option<Arc<Leases>>,
    places: Option<Arc<Places>>,
}

impl Tunnels {
    /// For a tunnel whose control socket is at `path`.
    pub(super) fn new(config: Tunnel, path: PathBuf, access: Access, addresses: TunnelAddresses) -> Tunnels {
        Tunnels { config, path, access, addresses, running: JoinSet::new(), leases: None, places: None }
    }
}

impl KeepClients for Tunnels {
    fn keep<'a>(&'a mut self, clients: &'a mut Clients) -> Work<'a> {
        Box::pin(async {
            let mut acceptor = Acceptor::new(clients.place());
            loop {
                // Clients that are there stay when the socket's file is swept away.
                self.serve_listener(clients, &mut acceptor).await;
            }
        })
    }

    fn close(mut self: Box<Self>) -> Work<'static> {
        Box::pin(async move { self.running.shutdown().await })
    }
}

impl Tunnels {
    /// Makes the control socket, and serves clients until its path leads elsewhere.
    async fn serve_listener(&mut self, clients: &mut Clients, acceptor: &mut Acceptor) {
        let Tunnels { config, path, access, addresses, running, leases, places } = self;
        let mut pause = Pause::up_to(Duration::from_secs(1));
        let (listener, bound) = loop {
            match listen(path, *access) {
                Ok(listener) => break listener,
                Err(reason) => clients.failed(reason),
            }
            pause.wait().await;
        };
        clients.up(path.display().to_string());
        let leases = leases.get_or_insert_with(|| {
            Leases::new(addresses.clone(), |total| clients.places(Resource::Ports, total))
        });
        let places = places.get_or_insert_with(|| clients.places(Resource::Clients, CONNECTIONS));
        loop {
            tokio::select! {
                client = acceptor.next(&listener), if running.len() < CONNECTIONS => {
                    clients.inject("accept");
                    match places.take(User::of(&client)) {
                        Ok(place) => {
                            running.spawn(serve(clients.clone(), config.clone(), leases.clone(), client, place));
                        }
                        Err(full) => {
                            clients.refuse(&full);
                            refuse(&client);
                        }
                    }
                }
                Some(ended) = running.join_next() => report_end(clients, ended),
                () = swept(Some(&bound)) => return clients.swept(&notice(&bound)),
            }
        }
    }
}

/// A listener for connections that keep records apart.
fn listen(path: &Path, access: Access) -> Result<(Listener, BoundPath), String> {
    let listen = || {
        let place = Place::of(path)?;
        place.directory().check_mode(Mode::WOTH)?;
        unix::listen_records(&place, access)
    };
    let (socket, bound) = listen().map_err(|error| describe(&error))?;
    let listener = Listener::new(PeerSocket::from_birth(socket));
    Ok((listener.map_err(|error| format!("cannot watch {}: {error}", path.display()))?, bound))
}
