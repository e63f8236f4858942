use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrAny};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use vmlan_drivers::stream::Socket;
use vmlan_drivers::unix::{self, Access, Place};
use vmlan_drivers::{Fault, PeerSocket};

use super::{Address, Allow, Stream};
use crate::accept::Acceptor;
use crate::connection::{Connection, Listener};
use crate::swept::{LOOK, notice, swept};
use crate::{Pause, describe, is_absent, peers, recover};
use crate::{Seat, Strangers};

/// How long an attempt to connect may be off while the guest is not there.
const RETRY: Duration = Duration::from_millis(250);

/// How long a guest at another machine may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the word of a guest's end may take to come after its successor's connection.
const SUCCESSION: Duration = Duration::from_millis(100);

pub(super) async fn keep(seat: &mut Seat, config: &Stream) {
    match config {
        Stream::Listen(address, allow, access) => listen(seat, address, allow, *access).await,
        Stream::Connect(address) => connect(seat, address).await,
        Stream::Fd(number) => inherited(seat, *number).await,
    }
}

/// A connected guest.
struct Guest {
    socket: PeerSocket,
    peer: String,
    address: Option<IpAddr>,
}

impl Guest {
    /// The guest at the other end of a connection of ours or of an inherited listener, of whatever family.
    fn new(socket: PeerSocket) -> io::Result<Guest> {
        let address = rustix::net::getpeername(&socket)?;
        let family = address.as_ref().map(SocketAddrAny::address_family);
        if matches!(family, None | Some(AddressFamily::UNIX)) {
            let connection = Connection::new(socket)?;
            let peer = peers::describe(&connection);
            return Ok(Guest { socket: connection.into_socket()?, peer, address: None });
        }
        let address = address.and_then(|address| SocketAddr::try_from(address).ok());
        let peer = address.map_or_else(|| "unnamed".into(), |address| address.to_string());
        Ok(Guest { socket, peer, address: address.map(|address| address.ip()) })
    }
}

/// Where guests connect to.
struct Entrance {
    listener: Listener,
    allow: Allow,
    access: Access,
    /// The path that goes with it.
    path: Option<unix::BoundPath>,
}

/// An event at an entrance.
enum Arrival {
    Guest(Guest),
    /// Nobody, for its path does not lead to it any more.
    Swept,
}

impl Entrance {
    async fn bind(address: &Address, allow: &Allow, access: Access) -> Result<Entrance, String> {
        let allow = allow.clone();
        match address {
            Address::Unix(path) => {
                let listened = Place::of(path).and_then(|place| unix::listen(&place, access));
                let (socket, bound) = listened.map_err(|error| describe(&error))?;
                let listener = Listener::new(PeerSocket::from_birth(socket));
                let listener = listener.map_err(|error| format!("{}: {error}", path.display()))?;
                Ok(Entrance { listener, allow, access, path: Some(bound) })
            }
            Address::Inet(address) => {
                let listener = async {
                    let socket = TcpListener::bind(address).await?.into_std()?;
                    Listener::new(PeerSocket::without_descriptors(socket.into()))
                };
                let listener = listener.await.map_err(|error| {
                    format!("cannot listen at {address}: {error}; choose another address or end who uses it")
                })?;
                Ok(Entrance { listener, allow, access, path: None })
            }
        }
    }

    /// The next guest, however long it takes. Safe to cancel.
    async fn next(&self, acceptor: &mut Acceptor, strangers: &mut Strangers) -> Arrival {
        loop {
            let socket = tokio::select! {
                socket = acceptor.next_socket(&self.listener) => socket,
                () = swept(self.path.as_ref()) => return Arrival::Swept,
            };
            // An error: it is gone already.
            match Guest::new(socket) {
                Ok(Guest { peer, address: Some(address), .. }) if !self.allow.admits(address) => {
                    strangers.count(0);
                    if let Some(count) = strangers.worth_a_word() {
                        tracing::warn!(
                            port = %strangers.place(),
                            "a connection of {peer} is refused, which `allow` does not name ({count} so far)"
                        );
                    }
                }
                Ok(guest) => return Arrival::Guest(guest),
                Err(error) => {
                    tracing::debug!(port = %strangers.place(), "a connection has ended before it was served: {error}")
                }
            }
        }
    }

    /// Binds the path of this entrance again, which does not lead to it any more.
    ///
    /// # Errors
    /// Why that is not possible now; the old entrance stays.
    async fn renew(&mut self, port: &str) -> Result<(), String> {
        let Some(path) = &self.path else { return Ok(()) };
        let notice = notice(path);
        let address = Address::Unix(path.path());
        // The old socket is held until then, so that its file's number is no other's.
        let renewed = Entrance::bind(&address, &self.allow, self.access).await;
        *self = renewed.map_err(|error| format!("{notice}, which fails now: {error}"))?;
        tracing::warn!(%port, "{notice}");
        Ok(())
    }
}

async fn listen(seat: &mut Seat, address: &Address, allow: &Allow, access: Access) {
    let mut pause = Pause::up_to(Duration::from_secs(1));
    let place = loop {
        match Entrance::bind(address, allow, access).await {
            Ok(place) => break place,
            Err(reason) => seat.failed(reason),
        }
        pause.wait().await;
    };
    serve(seat, place).await;
}

/// One guest after the other.
async fn serve(seat: &mut Seat, mut place: Entrance) {
    let mut acceptor = Acceptor::new(seat.place());
    let mut strangers = seat.strangers();
    let mut successor = None;
    seat.waiting(None);
    loop {
        let guest = match successor.take() {
            Some(guest) => guest,
            None => match place.next(&mut acceptor, &mut strangers).await {
                Arrival::Guest(guest) => guest,
                Arrival::Swept => {
                    while let Err(reason) = place.renew(&seat.place().to_string()).await {
                        seat.failed(reason);
                        sleep(LOOK).await;
                    }
                    seat.waiting(None);
                    continue;
                }
            },
        };
        seat.up(Arc::new(Socket::new(guest.socket)), Some(guest.peer)).await;
        let fault;
        (fault, successor) = until_the_end(seat, &mut place, (&mut acceptor, &mut strangers)).await;
        recover(seat, fault).await;
        seat.waiting(None);
    }
}

/// Waits for the guest's end. A port is one guest's: who else connects meanwhile is sent away, so that it can tell,
/// unless the guest has just left and the word of it was still on its way.
async fn until_the_end(
    seat: &mut Seat,
    place: &mut Entrance,
    (acceptor, strangers): (&mut Acceptor, &mut Strangers),
) -> (Fault, Option<Guest>) {
    loop {
        let other = tokio::select! {
            fault = seat.fault() => return (fault, None),
            other = place.next(acceptor, strangers) => other,
        };
        let Arrival::Guest(other) = other else {
            // The guest stays. Why it fails is said when it has left.
            if place.renew(&seat.place().to_string()).await.is_err()
                && let Ok(fault) = timeout(LOOK, seat.fault()).await
            {
                return (fault, None);
            }
            continue;
        };
        if let Ok(fault) = timeout(SUCCESSION, seat.fault()).await {
            return (fault, Some(other));
        }
        // The log has a rate for who connects again and again.
        tracing::warn!(
            port = %seat.place(),
            "a second connection, of {}, is refused: a stream port is one guest's; give each guest a port of its own",
            other.peer
        );
    }
}

async fn connect(seat: &mut Seat, address: &Address) {
    let mut pause = Pause::up_to(RETRY);
    seat.waiting(Some(format!("nobody listens at {address} yet")));
    loop {
        match connect_once(address).await {
            Ok(guest) => {
                pause.reset();
                seat.up(Arc::new(Socket::new(guest.socket)), Some(guest.peer)).await;
                let fault = seat.fault().await;
                recover(seat, fault).await;
                seat.waiting(Some(format!("nobody listens at {address} any more")));
            }
            Err(error) if is_absent(&error) => {}
            Err(error) => seat.failed(format!("cannot connect to {address}: {error}; it is tried again")),
        }
        pause.wait().await;
    }
}

async fn connect_once(address: &Address) -> io::Result<Guest> {
    match address {
        Address::Unix(path) => {
            let socket = unix::connect_stream(path)?;
            Ok(Guest {
                socket: PeerSocket::from_birth(socket),
                peer: path.display().to_string(),
                address: None,
            })
        }
        Address::Inet(address) => {
            // The system would wait for minutes.
            let stream = timeout(PATIENCE, TcpStream::connect(address)).await??;
            let socket = PeerSocket::without_descriptors(stream.into_std()?.into());
            Ok(Guest { socket, peer: address.to_string(), address: Some(address.ip()) })
        }
    }
}

async fn inherited(seat: &mut Seat, number: RawFd) {
    match adopt(number) {
        Ok(Adopted::Connected(socket)) => {
            seat.up(Arc::new(Socket::new(socket)), Some(format!("descriptor {number}"))).await;
            let fault = seat.fault().await;
            vmlan_sys::disinherit(number);
            recover(seat, fault).await;
            seat.is_down(format!(
                "the guest on descriptor {number} is gone, and an inherited connection cannot be made again; \
                 start vmlan and the guest again"
            ));
        }
        Ok(Adopted::Listening(place)) => serve(seat, place).await,
        Err(error) => seat.failed(format!(
            "descriptor {number} is no stream socket that this process was started with: {error}"
        )),
    }
    std::future::pending().await
}

enum Adopted {
    Connected(PeerSocket),
    Listening(Entrance),
}

fn adopt(number: RawFd) -> io::Result<Adopted> {
    use rustix::net::{SocketType, sockopt};
    let socket = vmlan_sys::inherit(number)?;
    if sockopt::socket_type(&socket)? != SocketType::STREAM {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a socket of another type"));
    }
    if rustix::net::getpeername(&socket).is_ok() {
        return Ok(Adopted::Connected(PeerSocket::inherited(socket)));
    }
    // No system but Linux tells whether a socket listens; asking a listening one to listen changes nothing.
    rustix::net::listen(&socket, 64)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    let unix = rustix::net::getsockname(&socket)?.address_family() == AddressFamily::UNIX;
    let socket = if unix { PeerSocket::inherited(socket) } else { PeerSocket::without_descriptors(socket) };
    let listener = Listener::new(socket)?;
    Ok(Adopted::Listening(Entrance { listener, allow: Allow::default(), access: unix::PRIVATE, path: None }))
}
