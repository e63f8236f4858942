//! Guests that come by a stream socket, one at a time: to a path or an address of TCP, to an inherited socket, or by a
//! connection of ours.
//!
//! Theory of operation. A kind of port says what to do with a connection ([`AttachGuest`]); who comes, who may, and
//! what follows the end of a guest is decided here. A guest is attached until its attachment is of no more use. While
//! one is there, another connection is closed at once, unless the first guest's end is heard of within [`SUCCESSION`]:
//! then the other one is its successor. A path that is swept away is bound again, and a guest that is attached stays
//! meanwhile.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrAny};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use vmlan_drivers::unix::{self, Access, BoundPath, Place};
use vmlan_drivers::{Fault, PeerSocket};

use crate::accept::Acceptor;
use crate::connection::{Connection, Listener};
use crate::swept::{LOOK, notice, swept};
use crate::{Address, Allow, Pause, Seat, Strangers, describe, is_absent, peers, recover};

/// How long an attempt to connect may be off while the guest is not there.
const RETRY: Duration = Duration::from_millis(250);

/// How long a guest at another machine may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the word of a guest's end may take to come after its successor's connection.
const SUCCESSION: Duration = Duration::from_millis(100);

/// Attaches guests of a kind of port.
pub(crate) trait AttachGuest: Sync {
    /// The parts of a guest that the port holds while it is attached.
    type Attached: Send;

    /// A port of the kind, in messages.
    const PORT: &'static str;
    /// The treatment of descriptors that guests send along.
    const DESCRIPTORS: Descriptors;

    /// Attaches the port to a guest.
    ///
    /// # Errors
    /// The cause, and the cure where there is one; the guest's connection is closed then.
    fn attach(
        &self,
        seat: &mut Seat,
        guest: Guest,
    ) -> impl Future<Output = Result<Self::Attached, String>> + Send;

    /// Waits until the attachment is of no more use, and follows the guest meanwhile. Safe to cancel.
    fn end(&self, seat: &mut Seat, attached: &mut Self::Attached) -> impl Future<Output = Fault> + Send;
}

/// The treatment of descriptors that guests send along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Descriptors {
    /// They are of no use, and refused where the kernel can.
    Refused,
    /// They are received by the reader of the connection, so it is a Unix socket.
    Taken,
}

impl Descriptors {
    /// A socket of ours that nobody has spoken to yet.
    fn of_ours(self, socket: OwnedFd) -> PeerSocket {
        match self {
            Self::Refused => PeerSocket::from_birth(socket),
            Self::Taken => PeerSocket::from_parts(socket, false),
        }
    }

    /// A copy of an inherited socket.
    fn of_inherited(self, socket: OwnedFd) -> PeerSocket {
        match self {
            Self::Refused => PeerSocket::inherited(socket),
            Self::Taken => PeerSocket::from_parts(socket, false).sharing(true),
        }
    }
}

/// A guest that has connected.
pub(crate) struct Guest {
    pub(crate) socket: PeerSocket,
    /// Its name for people.
    pub(crate) peer: String,
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
    descriptors: Descriptors,
    /// The path that goes with it.
    path: Option<BoundPath>,
}

/// An event at an entrance.
enum Arrival {
    Guest(Guest),
    /// Nobody, for its path does not lead to it any more.
    Swept,
}

impl Entrance {
    async fn bind(
        address: &Address,
        allow: &Allow,
        access: Access,
        descriptors: Descriptors,
    ) -> Result<Entrance, String> {
        let (listener, path) = match address {
            Address::Unix(path) => {
                let (listener, bound) = listen_at(path, access, descriptors)?;
                (listener, Some(bound))
            }
            Address::Inet(address) => {
                let listener = async {
                    let socket = TcpListener::bind(address).await?.into_std()?;
                    Listener::new(PeerSocket::without_descriptors(socket.into()))
                };
                let listener = listener.await.map_err(|error| {
                    format!("cannot listen at {address}: {error}; choose another address or end who uses it")
                })?;
                (listener, None)
            }
        };
        Ok(Entrance { listener, allow: allow.clone(), access, descriptors, path })
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
        let renewed = Entrance::bind(&address, &self.allow, self.access, self.descriptors).await;
        *self = renewed.map_err(|error| format!("{notice}, which fails now: {error}"))?;
        tracing::warn!(%port, "{notice}");
        Ok(())
    }
}

fn listen_at(path: &Path, access: Access, descriptors: Descriptors) -> Result<(Listener, BoundPath), String> {
    let listened = Place::of(path).and_then(|place| match descriptors {
        Descriptors::Refused => unix::listen(&place, access),
        Descriptors::Taken => unix::listen_for_descriptors(&place, access),
    });
    let (socket, bound) = listened.map_err(|error| describe(&error))?;
    let listener = Listener::new(descriptors.of_ours(socket));
    Ok((listener.map_err(|error| format!("{}: {error}", path.display()))?, bound))
}

/// Listens at `address`, and serves one guest after the other, for ever.
pub(crate) async fn listen<A: AttachGuest>(
    seat: &mut Seat,
    kind: &A,
    (address, allow, access): (&Address, &Allow, Access),
) {
    let mut pause = Pause::up_to(Duration::from_secs(1));
    let place = loop {
        match Entrance::bind(address, allow, access, A::DESCRIPTORS).await {
            Ok(place) => break place,
            Err(reason) => seat.failed(reason),
        }
        pause.wait().await;
    };
    serve(seat, kind, place).await;
}

/// One guest after the other.
async fn serve<A: AttachGuest>(seat: &mut Seat, kind: &A, mut place: Entrance) {
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
        let mut attached = match kind.attach(seat, guest).await {
            Ok(attached) => attached,
            Err(reason) => {
                seat.failed(reason);
                continue;
            }
        };
        let fault;
        (fault, successor) =
            until_the_end(seat, (kind, &mut attached), &mut place, (&mut acceptor, &mut strangers)).await;
        drop(attached);
        recover(seat, fault).await;
        seat.waiting(None);
    }
}

/// Waits for the guest's end. A port is one guest's: who else connects meanwhile is sent away, so that it can tell,
/// unless the guest has just left and the word of it was still on its way.
async fn until_the_end<A: AttachGuest>(
    seat: &mut Seat,
    (kind, attached): (&A, &mut A::Attached),
    place: &mut Entrance,
    (acceptor, strangers): (&mut Acceptor, &mut Strangers),
) -> (Fault, Option<Guest>) {
    loop {
        let other = tokio::select! {
            fault = kind.end(seat, attached) => return (fault, None),
            other = place.next(acceptor, strangers) => other,
        };
        let Arrival::Guest(other) = other else {
            // The guest stays. Why it fails is said when it has left.
            if place.renew(&seat.place().to_string()).await.is_err()
                && let Ok(fault) = timeout(LOOK, kind.end(seat, attached)).await
            {
                return (fault, None);
            }
            continue;
        };
        if let Ok(fault) = timeout(SUCCESSION, kind.end(seat, attached)).await {
            return (fault, Some(other));
        }
        // The log has a rate for who connects again and again.
        tracing::warn!(
            port = %seat.place(),
            "a second connection, of {}, is refused: {} is one guest's; give each guest a port of its own",
            other.peer,
            A::PORT
        );
    }
}

/// Connects to `address` again and again, and serves the guest that listens there, for ever.
pub(crate) async fn connect<A: AttachGuest>(seat: &mut Seat, kind: &A, address: &Address) {
    let mut pause = Pause::up_to(RETRY);
    seat.waiting(Some(format!("nobody listens at {address} yet")));
    loop {
        match connect_once(address, A::DESCRIPTORS).await {
            Ok(guest) => match kind.attach(seat, guest).await {
                Ok(mut attached) => {
                    pause.reset();
                    let fault = kind.end(seat, &mut attached).await;
                    drop(attached);
                    recover(seat, fault).await;
                    seat.waiting(Some(format!("nobody listens at {address} any more")));
                }
                Err(reason) => seat.failed(reason),
            },
            Err(error) if is_absent(&error) => {}
            Err(error) => seat.failed(format!("cannot connect to {address}: {error}; it is tried again")),
        }
        pause.wait().await;
    }
}

async fn connect_once(address: &Address, descriptors: Descriptors) -> io::Result<Guest> {
    match address {
        Address::Unix(path) => {
            let socket = match descriptors {
                Descriptors::Refused => unix::connect_stream(path)?,
                Descriptors::Taken => unix::connect_for_descriptors(path)?,
            };
            Ok(Guest { socket: descriptors.of_ours(socket), peer: path.display().to_string(), address: None })
        }
        Address::Inet(address) => {
            // The system would wait for minutes.
            let stream = timeout(PATIENCE, TcpStream::connect(address)).await??;
            let socket = PeerSocket::without_descriptors(stream.into_std()?.into());
            Ok(Guest { socket, peer: address.to_string(), address: Some(address.ip()) })
        }
    }
}

/// Serves the guest that is connected to the inherited socket `number`, or one after the other where that listens.
pub(crate) async fn inherited<A: AttachGuest>(seat: &mut Seat, kind: &A, number: RawFd) {
    match adopt(number, A::DESCRIPTORS) {
        Ok(Adopted::Connected(socket)) => {
            let guest = Guest { socket, peer: format!("descriptor {number}"), address: None };
            match kind.attach(seat, guest).await {
                Ok(mut attached) => {
                    let fault = kind.end(seat, &mut attached).await;
                    vmlan_sys::disinherit(number);
                    drop(attached);
                    recover(seat, fault).await;
                    seat.is_down(format!(
                        "the guest on descriptor {number} is gone, and an inherited connection cannot be made \
                         again; start vmlan and the guest again"
                    ));
                }
                Err(reason) => seat.failed(reason),
            }
        }
        Ok(Adopted::Listening(place)) => serve(seat, kind, place).await,
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

fn adopt(number: RawFd, descriptors: Descriptors) -> io::Result<Adopted> {
    use rustix::net::{SocketType, sockopt};
    let invalid = |message: &str| io::Error::new(io::ErrorKind::InvalidInput, message);
    let socket = vmlan_sys::inherit(number)?;
    if sockopt::socket_type(&socket)? != SocketType::STREAM {
        return Err(invalid("it is a socket of another type"));
    }
    let unix = rustix::net::getsockname(&socket)?.address_family() == AddressFamily::UNIX;
    if !unix && descriptors == Descriptors::Taken {
        return Err(invalid("it is no Unix socket, by which alone memory can be shared"));
    }
    if rustix::net::getpeername(&socket).is_ok() {
        return Ok(Adopted::Connected(descriptors.of_inherited(socket)));
    }
    // No system but Linux tells whether a socket listens; asking a listening one to listen changes nothing.
    rustix::net::listen(&socket, 64)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    let socket =
        if unix { descriptors.of_inherited(socket) } else { PeerSocket::without_descriptors(socket) };
    let (listener, allow) = (Listener::new(socket)?, Allow::default());
    Ok(Adopted::Listening(Entrance { listener, allow, access: unix::PRIVATE, descriptors, path: None }))
}
