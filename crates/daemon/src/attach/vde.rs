//! A VDE directory: every client becomes a port of its own.
//!
//! The directory's task accepts connections to `ctl`; each gets a task that reads the request, joins the network as a
//! port, and leaves when the client closes its control connection or its socket is gone. How many clients there are,
//! how fast they come and how long they may take to ask is bounded.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
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

use super::accept::Acceptor;
use super::stream::describe;
use super::{Pause, peers};
use crate::config::Vde;
use crate::supervisor::{Clients, Station};

/// Clients of one directory at a time.
const CLIENTS: usize = 1024;

/// How long a client may take to send its request.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a directory's task leaves to be ended in order.
#[derive(Default)]
pub(super) struct Directory {
    clients: JoinSet<()>,
    made: Option<Made>,
}

impl Directory {
    /// Ends every client's task, and removes the directory if we made it and nothing else is in it.
    pub(super) async fn close(mut self) {
        self.clients.shutdown().await;
    }
}

/// A directory that we made.
struct Made(PathBuf);

impl Drop for Made {
    fn drop(&mut self) {
        // Others may have put something there, which is theirs.
        let _ = fs::remove_dir(&self.0);
    }
}

pub(super) async fn keep(clients: &mut Clients, config: &Vde, directory: &mut Directory) {
    let mut pause = Pause::up_to(Duration::from_secs(1));
    let (listener, _path) = loop {
        match make(config, directory).and_then(|()| listen(config)) {
            Ok(listener) => break listener,
            Err(reason) => clients.failed(reason),
        }
        pause.wait().await;
    };
    sweep(&config.directory);
    clients.up(config.directory.join("ctl").display().to_string());
    let mut acceptor = Acceptor::new();
    let running = &mut directory.clients;
    loop {
        tokio::select! {
            client = acceptor.next(&listener), if running.len() < CLIENTS => {
                running.spawn(serve(clients.clone(), config.clone(), client));
            }
            Some(_) = running.join_next() => {}
        }
    }
}

/// Makes the directory, unless it is there.
fn make(config: &Vde, directory: &mut Directory) -> Result<(), String> {
    let path = &config.directory;
    // Who may use the sockets has to be able to enter the directory: x wherever there is r.
    let mode = config.mode | (config.mode & 0o444) >> 2;
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => directory.made = Some(Made(path.clone())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(cannot("make the directory", path, error)),
    }
    // The umask may have taken away what the configuration gives.
    let set = fs::set_permissions(path, Permissions::from_mode(mode));
    set.map_err(|error| cannot("set the permissions of", path, error))
}

fn cannot(what: &str, path: &Path, error: io::Error) -> String {
    format!("cannot {what} {}: {error}", path.display())
}

fn listen(config: &Vde) -> Result<(UnixListener, BoundPath), String> {
    let path = config.directory.join("ctl");
    let (socket, bound) = unix::listen(&path).map_err(|error| describe(&error))?;
    let set = fs::set_permissions(&path, Permissions::from_mode(config.mode));
    set.map_err(|error| cannot("set the permissions of", &path, error))?;
    let listener = UnixListener::from_std(socket.into()).map_err(|error| cannot("watch", &path, error))?;
    Ok((listener, bound))
}

/// Removes the sockets of clients (see [`attach`]) that a daemon left which was killed: nobody holds them.
fn sweep(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_digit());
        let parts = name.to_str().and_then(|name| name.split_once('.'));
        let is_ours = parts.is_some_and(|(number, process)| is_number(number) && is_number(process));
        let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
        if is_ours && is_socket && !peers::is_held(&entry.path()) {
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_file(entry.path());
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
    set.map_err(|error| cannot("set the permissions of", &path, error))?;
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
