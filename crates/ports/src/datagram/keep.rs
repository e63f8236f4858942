//! Datagram sockets: the guest sends first, or its address is known.
//!
//! The socket is connected to the guest as soon as that is known. A connected datagram socket is not told when its peer
//! goes and nobody else can send to it, so the peer's socket is looked at once a second; when the guest is gone the
//! connection is dissolved and the next guest is taken. A guest may exchange what its path leads to, so the socket is
//! looked for once ([`Node`]), and connected to and looked at as the file that was found. A guest over UDP leaves no
//! trace when it goes; one that is silent yields to another ([`Silence`]).

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{RecvFlags, SocketAddrAny};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use vmlan_drivers::datagram::Socket;
use vmlan_drivers::peer::Message;
use vmlan_drivers::unix::{self, Access, Node, Place};
use vmlan_drivers::{Fault, PeerSocket};

use super::silence::Silence;
use super::{Address, Allow, Datagram};
use crate::swept::{notice, swept};
use crate::throttle::Throttle;
use crate::{Pause, describe, is_absent, peers, recover};
use crate::{Seat, Strangers};

/// How long an attempt to connect may be off while the guest is not there.
const RETRY: Duration = Duration::from_millis(250);

/// Datagrams of strangers that are dropped one after the other, and how long nothing is done after them.
const BATCH: usize = 64;
const BREATH: Duration = Duration::from_millis(10);

pub(super) async fn keep(seat: &mut Seat, config: &Datagram) {
    match config {
        Datagram::Listen(address, allow, access) => {
            let local = bind(seat, address, *access).await;
            learn(seat, local, (Some(address), allow)).await
        }
        Datagram::Pair { local, remote, access } => {
            let bound = bind(seat, local, *access).await;
            pair(seat, bound, (local, remote)).await
        }
        Datagram::Fd(number) => inherited(seat, *number).await,
    }
}

/// Our end, and its path while it has one.
struct Local {
    socket: PeerSocket,
    access: Access,
    path: Option<unix::BoundPath>,
}

impl Local {
    /// Binds the socket again where its path does not lead to it any more.
    async fn renew(&mut self, seat: &mut Seat, address: &Address) {
        let Some(path) = self.path.as_ref().filter(|path| !path.leads_to_it()) else { return };
        tracing::warn!(port = %seat.place(), "{}", notice(path));
        // The old socket is held until then, so that its file's number is no other's.
        *self = bind(seat, address, self.access).await;
        seat.waiting(None);
    }
}

async fn bind(seat: &mut Seat, address: &Address, access: Access) -> Local {
    let mut pause = Pause::up_to(Duration::from_secs(1));
    loop {
        let bound = match address {
            Address::Unix(path) => Place::of(path)
                .and_then(|place| unix::bind_datagram(&place, access))
                .map(|(socket, path)| Local {
                    socket: PeerSocket::from_birth(socket),
                    access,
                    path: Some(path),
                })
                .map_err(|error| describe(&error)),
            Address::Inet(address) => bind_udp(*address)
                .map(|socket| Local { socket, access, path: None })
                .map_err(|error| format!("cannot use {address}: {error}; choose another address")),
        };
        match bound {
            Ok(local) => return local,
            Err(reason) => seat.failed(reason),
        }
        pause.wait().await;
    }
}

fn bind_udp(address: SocketAddr) -> io::Result<PeerSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    let socket = socket.into();
    unix::enlarge(&socket);
    Ok(PeerSocket::without_descriptors(socket))
}

/// Takes whoever sends first, then the next when that one is gone, or is silent while another one sends.
async fn learn(seat: &mut Seat, mut local: Local, (bound, allow): (Option<&Address>, &Allow)) {
    let mut pace = Throttle::new();
    let mut strangers = seat.strangers();
    seat.waiting(None);
    loop {
        let first = tokio::select! {
            first = first_sender(&local.socket, allow, &mut strangers) => first,
            () = swept(local.path.as_ref()) => {
                if let Some(address) = bound {
                    local.renew(seat, address).await;
                }
                continue;
            }
        };
        let address = match first {
            Ok(address) => address,
            Err(error) => {
                seat.failed(format!("the socket cannot be read: {error}; it is tried again"));
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        // Guests that come and go keep no thread busy.
        pace.pass().await;
        match answer(&local.socket, &address) {
            Ok(node) => {
                let silence = Silence::of(&local.socket, allow);
                if let Some(successor) = carry(seat, &local.socket, (address, node), silence).await {
                    local.socket = successor;
                }
            }
            Err(error) => {
                tracing::debug!(port = %seat.place(), "a sender is gone or cannot be answered: {error}");
                skip(&local.socket);
                strangers.count(0);
            }
        }
    }
}

/// Connects the socket to its first sender, and answers the sender's socket where it has a path.
fn answer(socket: &PeerSocket, address: &SocketAddrAny) -> io::Result<Option<Node>> {
    let Some(path) = peers::path_of(address) else {
        rustix::net::connect(socket, address)?;
        return Ok(None);
    };
    let node = Place::of(&path).map_err(io::Error::other)?.find()?;
    if !node.is_socket() {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "another file is in its place"));
    }
    node.connect(socket)?;
    Ok(Some(node))
}

/// Waits for a datagram of a sender that can be answered, and leaves it in the socket unless it is only a greeting.
/// Others are dropped and counted, so many at a time.
async fn first_sender(
    socket: &PeerSocket,
    allow: &Allow,
    strangers: &mut Strangers,
) -> io::Result<SocketAddrAny> {
    // Watched only while nobody is connected: the workers watch it afterwards, and this thread shall sleep then. Only
    // readiness is asked of the copy, so its type fits UDP as well.
    let watched = UnixDatagram::from_std(socket.as_fd().try_clone_to_owned()?.into())?;
    let mut dropped = 0;
    loop {
        watched.readable().await?;
        let mut header = [0; vmlan_frame::ETHERNET_HEADER];
        let peek = || socket.receive(&mut header, RecvFlags::PEEK);
        match watched.try_io(Interest::READABLE, peek) {
            Ok(Message { len, address: Some(address) }) if is_guest(&address, len, allow) => {
                if len < vmlan_frame::ETHERNET_HEADER {
                    // No frame: it only names the client, as vfkit's "VFKT" does.
                    skip(socket);
                }
                return Ok(address);
            }
            Ok(Message { len, .. }) => {
                skip(socket);
                strangers.count(len);
                if let Some(count) = strangers.worth_a_word() {
                    tracing::debug!(port = %strangers.place(), "a datagram is dropped that is of no guest's ({count} so far)");
                }
                dropped += 1;
                if dropped % BATCH == 0 {
                    tokio::time::sleep(BREATH).await;
                }
            }
            // Refused and reset are late answers to something that was sent to a guest that is gone.
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// True if a datagram of `len` octets makes its sender the guest. To a UDP port anybody can send, so it takes a frame
/// there; a path is a matter of permissions.
fn is_guest(address: &SocketAddrAny, len: usize, allow: &Allow) -> bool {
    match SocketAddr::try_from(address.clone()) {
        Ok(inet) => len >= vmlan_frame::ETHERNET_HEADER && allow.admits(inet.ip()),
        Err(_) => peers::path_of(address).is_some(),
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(error.kind(), WouldBlock | Interrupted | ConnectionRefused | ConnectionReset)
}

/// Drops one datagram.
fn skip(socket: &PeerSocket) {
    // Nothing there is as good as something dropped.
    let _ = socket.receive(&mut [0], RecvFlags::empty());
}

/// Keeps the port up while the guest at `address` is there, and dissolves the connection. Answers the socket to go on
/// with where the guest was silent and another one sent.
async fn carry(
    seat: &mut Seat,
    socket: &PeerSocket,
    (address, node): (SocketAddrAny, Option<Node>),
    silence: Option<Silence<'_>>,
) -> Option<PeerSocket> {
    let peer = peers::path_of(&address).map_or_else(|| inet(&address), |path| path.display().to_string());
    let end = match socket.try_clone() {
        Ok(copy) => {
            seat.up(Arc::new(Socket::new(copy, Some(address))), Some(peer)).await;
            wait_for_the_end(seat, node, silence).await
        }
        Err(error) => End::Fault(Fault::Io(error)),
    };
    let fault = match end {
        End::Fault(fault) => fault,
        End::Yields(successor) => {
            seat.down().await;
            seat.waiting(Some("the last guest was silent, and another one sends".into()));
            return Some(successor);
        }
    };
    recover(seat, fault).await;
    if let Err(error) = vmlan_sys::socket::disconnect(socket) {
        tracing::warn!(port = %seat.place(), "the connection cannot be dissolved: {error}");
    }
    seat.waiting(Some("the last guest is gone".into()));
    None
}

/// Why a guest's time is over.
enum End {
    Fault(Fault),
    Yields(PeerSocket),
}

async fn wait_for_the_end(seat: &mut Seat, node: Option<Node>, mut silence: Option<Silence<'_>>) -> End {
    let mut strangers = seat.strangers();
    loop {
        match seat.fault_or_tick().await {
            Some(fault) => return End::Fault(fault),
            None if node.as_ref().is_some_and(peers::is_gone) => return End::Fault(Fault::Closed),
            None => {
                let successor = silence.as_mut().and_then(|silence| silence.tick(seat, &mut strangers));
                if let Some(successor) = successor {
                    return End::Yields(successor);
                }
            }
        }
    }
}

/// Connects to a guest whose address is known, whenever it is there.
async fn pair(seat: &mut Seat, mut local: Local, (bound, remote): (&Address, &Address)) {
    let address = match remote {
        Address::Unix(path) => match unix::address(path) {
            Ok(address) => SocketAddrAny::from(address),
            Err(error) => {
                seat.failed(describe(&error));
                return std::future::pending().await;
            }
        },
        Address::Inet(address) => (*address).into(),
    };
    let mut pause = Pause::up_to(RETRY);
    seat.waiting(Some(format!("nobody is at {remote} yet")));
    loop {
        local.renew(seat, bound).await;
        match reach(&local.socket, remote) {
            Ok(node) => {
                pause.reset();
                carry(seat, &local.socket, (address.clone(), node), None).await;
            }
            Err(error) if is_absent(&error) => {}
            Err(error) => seat.failed(format!("cannot connect to {remote}: {error}; it is tried again")),
        }
        pause.wait().await;
    }
}

/// Connects the socket to where the configuration says that the guest is, and answers the guest's socket where it has
/// a path.
fn reach(socket: &PeerSocket, remote: &Address) -> io::Result<Option<Node>> {
    match remote {
        Address::Unix(path) => {
            let node = Node::open(path)?;
            node.connect(socket)?;
            Ok(Some(node))
        }
        Address::Inet(address) => {
            rustix::net::connect(socket, address)?;
            Ok(None)
        }
    }
}

async fn inherited(seat: &mut Seat, number: RawFd) {
    let socket = match adopt(number) {
        Ok(socket) => socket,
        Err(error) => {
            seat.failed(format!(
                "descriptor {number} is no datagram socket that this process was started with: {error}"
            ));
            return std::future::pending().await;
        }
    };
    if rustix::net::getpeername(&socket).is_err() {
        let local = Local { socket, access: unix::PRIVATE, path: None };
        return learn(seat, local, (None, &Allow::default())).await;
    }
    seat.up(Arc::new(Socket::new(socket, None)), Some(format!("descriptor {number}"))).await;
    let fault = seat.fault().await;
    vmlan_sys::disinherit(number);
    recover(seat, fault).await;
    seat.is_down(format!(
        "the guest on descriptor {number} is gone, and an inherited connection cannot be made again; start vmlan and \
         the guest again"
    ));
    std::future::pending().await
}

fn adopt(number: RawFd) -> io::Result<PeerSocket> {
    let socket = vmlan_sys::inherit(number)?;
    if rustix::net::sockopt::socket_type(&socket)? != rustix::net::SocketType::DGRAM {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a socket of another type"));
    }
    rustix::io::ioctl_fionbio(&socket, true)?;
    unix::enlarge(&socket);
    Ok(socket.into())
}

fn inet(address: &SocketAddrAny) -> String {
    SocketAddr::try_from(address.clone()).map_or_else(|_| "unnamed".into(), |address| address.to_string())
}
