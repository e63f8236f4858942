//! A VDE directory: every client becomes a port of its own.
//!
//! The directory's task accepts connections to `ctl`; each gets a task that reads the request, joins the network as a
//! port, and leaves when the client closes its control connection or its socket is gone. How many clients there are,
//! how fast they come and how long they may take to ask is bounded.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use drivers::datagram::Socket;
use drivers::unix::{self, BoundPath};
use drivers::vde::{self, Request};
use drivers::{Endpoint, Fault};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::stream::describe;
use super::throttle::Throttle;
use super::{Pause, peers};
use crate::config::Vde;
use crate::supervisor::{Clients, Station};

/// Clients of one directory at a time.
const CLIENTS: usize = 1024;

/// How long a client may take to send its request.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn keep(clients: &mut Clients, config: &Vde) {
    let mut pause = Pause::up_to(Duration::from_secs(1));
    let (listener, _path) = loop {
        match listen(config) {
            Ok(listener) => break listener,
            Err(reason) => clients.failed(reason),
        }
        pause.wait().await;
    };
    clients.up(config.directory.join("ctl").display().to_string());
    let mut throttle = Throttle::new();
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            client = next(&listener, &mut throttle), if running.len() < CLIENTS => {
                running.spawn(serve(clients.clone(), config.clone(), client));
            }
            Some(_) = running.join_next() => {}
        }
    }
}

fn listen(config: &Vde) -> Result<(UnixListener, BoundPath), String> {
    let directory = &config.directory;
    // Who may use the sockets has to be able to enter the directory: x wherever there is r.
    let mode = config.mode | (config.mode & 0o444) >> 2;
    let cannot = |what: &str, error: io::Error| format!("{what} {}: {error}", directory.display());
    match fs::DirBuilder::new().mode(mode).create(directory) {
        Ok(()) => {
            // The umask may have taken away what the configuration gives.
            fs::set_permissions(directory, Permissions::from_mode(mode))
                .map_err(|error| cannot("cannot set the permissions of", error))?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(cannot("cannot make the directory", error)),
    }
    let path = directory.join("ctl");
    let (socket, bound) = unix::listen(&path).map_err(|error| describe(&error))?;
    let set = fs::set_permissions(&path, Permissions::from_mode(config.mode));
    set.map_err(|error| cannot("cannot set the permissions of the control socket in", error))?;
    let listener = UnixListener::from_std(socket.into());
    Ok((listener.map_err(|error| cannot("cannot watch the control socket in", error))?, bound))
}

async fn next(listener: &UnixListener, throttle: &mut Throttle) -> UnixStream {
    let mut pause = Pause::up_to(Duration::from_secs(1));
    loop {
        throttle.pass().await;
        match listener.accept().await {
            Ok((client, _)) => return client,
            Err(error) => {
                tracing::warn!("a VDE client cannot be accepted now: {error}");
                pause.wait().await;
            }
        }
    }
}

/// One client from its request to its end.
async fn serve(clients: Clients, config: Vde, mut control: UnixStream) {
    let request = match timeout(PATIENCE, ask(&mut control, &config.directory)).await {
        Ok(Ok(request)) => request,
        Ok(Err(reason)) => return tracing::debug!("a VDE client is refused: {reason}"),
        Err(_) => {
            return tracing::debug!("a VDE client is refused: it asked for nothing within {PATIENCE:?}");
        }
    };
    let Some((number, mut station)) = clients.join() else { return };
    let peer = format!("{} ({})", peers::describe(&control), request.description);
    match attach(&config, number, &request).await {
        Ok((endpoint, path)) => {
            // Told only now that frames have somewhere to go.
            station.up(endpoint, Some(peer)).await;
            if let Some(address) = vde::answer(path.path())
                && control.write_all(&address).await.is_ok()
            {
                until_it_leaves(&mut station, &mut control).await;
            }
        }
        Err(reason) => tracing::warn!("port {}: {reason}", station.place().port),
    }
    station.leave().await;
    clients.left(number);
}

/// Reads the request and checks it.
async fn ask(control: &mut UnixStream, directory: &Path) -> Result<Request, String> {
    let uid = control.peer_cred().map_err(|error| error.to_string())?.uid();
    let mut octets = Vec::with_capacity(vde::REQUEST);
    loop {
        let limit = (vde::REQUEST - octets.len()) as u64;
        let read = (&mut *control).take(limit).read_buf(&mut octets).await;
        if read.map_err(|error| error.to_string())? == 0 {
            return Err("it closed the connection in the middle of its request".into());
        }
        if let Some(request) = Request::parse(&octets).map_err(|error| error.to_string())? {
            vde::check_path(&request.socket, directory, uid).map_err(|error| error.to_string())?;
            return Ok(request);
        }
    }
}

/// A socket for the client, connected to the client's own.
async fn attach(
    config: &Vde,
    number: usize,
    request: &Request,
) -> Result<(Arc<dyn Endpoint>, BoundPath), String> {
    let path: PathBuf = config.directory.join(format!("{number:03}.{}", std::process::id()));
    let (socket, bound) = unix::bind_datagram(&path).map_err(|error| describe(&error))?;
    let set = fs::set_permissions(&path, Permissions::from_mode(config.mode));
    set.map_err(|error| format!("cannot set the permissions of {}: {error}", path.display()))?;
    connect(&socket, &request.socket)?;
    Ok((Arc::new(Socket::new(socket, address(&request.socket))), bound))
}

fn connect(socket: &OwnedFd, path: &Path) -> Result<(), String> {
    let address = unix::address(path).map_err(|error| describe(&error))?;
    rustix::net::connect(socket, &address)
        .map_err(|error| format!("the client's socket {} cannot be connected to: {error}", path.display()))
}

fn address(path: &Path) -> Option<rustix::net::SocketAddrAny> {
    unix::address(path).ok().map(Into::into)
}

/// Waits until the client closes its control connection, or its socket is gone.
async fn until_it_leaves(station: &mut Station, control: &mut UnixStream) {
    let mut ignored = [0; 256];
    loop {
        tokio::select! {
            fault = station.fault() => {
                if let Fault::Violation(reason) = fault {
                    station.quarantined(reason);
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
