//! The forwards of a running uplink: sockets of the host, and the guests that they are for.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, bind, listen, socket_with, sockopt};
use vmlan_api::{Error, ErrorCode};
use vmlan_drivers::unix::{self, BoundPath, Place};
use vmlan_drivers::uplink::{Command, ForwardId, Uplink};

use super::forward::{ForwardSpec, Listen, Transport};

/// Callers that wait to be accepted.
const BACKLOG: i32 = 512;

/// A forward that there is.
pub(super) struct Forward {
    id: u64,
    pub(super) spec: ForwardSpec,
    configured: bool,
    sockets: Vec<Socket>,
    /// Why it does not work.
    reason: Option<String>,
    calls: Arc<AtomicU64>,
}

/// One socket of a forward, which the data path has.
struct Socket {
    id: ForwardId,
    place: String,
    /// The address that it listens at, if it has one.
    at: Option<SocketAddr>,
    /// The guest's number.
    number: u16,
    is_v4: bool,
    /// The address that it leads to now.
    aim: Option<SocketAddr>,
    /// Removed with it.
    _path: Option<BoundPath>,
}

/// A forward that the kernel does: callers from outside keep their addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inward {
    /// The protocol.
    pub(super) transport: Transport,
    /// The host's place; the wildcard address stands for all of its family.
    pub(super) at: SocketAddr,
    /// The guest's, of the same family.
    pub(super) guest: SocketAddr,
}

/// The forwards of one uplink.
pub(super) struct Forwards {
    network: String,
    all: Vec<Forward>,
    next: u64,
    next_socket: ForwardId,
}

impl Forwards {
    pub(super) fn new(network: &str) -> Forwards {
        Forwards { network: network.to_owned(), all: Vec::new(), next: 1, next_socket: 1 }
    }

    pub(super) fn list(&self) -> Vec<vmlan_api::Forward> {
        self.all.iter().map(|forward| self.row(forward)).collect()
    }

    fn row(&self, forward: &Forward) -> vmlan_api::Forward {
        vmlan_api::Forward {
            network: self.network.clone(),
            id: forward.id,
            spec: forward.spec.to_string(),
            listen: forward.sockets.iter().map(|socket| socket.place.clone()).collect(),
            protocol: forward.spec.transport.as_str().to_owned(),
            port: forward.spec.port.clone(),
            configured: forward.configured,
            reason: forward.reason.clone(),
            calls: forward.calls.load(Relaxed),
        }
    }

    /// Adds a forward, all of it or none.
    ///
    /// # Errors
    /// A place is taken, or may not be listened at.
    pub(super) fn add(
        &mut self,
        uplink: &Uplink,
        spec: ForwardSpec,
        configured: bool,
    ) -> Result<vmlan_api::Forward, Error> {
        if let Some(other) =
            self.all.iter().find(|other| other.reason.is_none() && other.spec.overlaps(&spec))
        {
            let message = format!(
                "{spec} listens where forward {} ({}) does; remove that one, or choose another place",
                other.id, other.spec
            );
            return Err(Error::at(ErrorCode::Conflict, "forward", message));
        }
        let opened = open(&spec).map_err(|reason| Error::at(ErrorCode::Conflict, "forward", reason))?;
        let calls = Arc::default();
        let sockets = opened.into_iter().map(|open| self.hand_over(uplink, &spec, open, &calls)).collect();
        let forward = Forward { id: self.next, spec, configured, sockets, reason: None, calls };
        self.next += 1;
        let row = self.row(&forward);
        self.all.push(forward);
        Ok(row)
    }

    fn hand_over(
        &mut self,
        uplink: &Uplink,
        spec: &ForwardSpec,
        open: Open,
        calls: &Arc<AtomicU64>,
    ) -> Socket {
        let id = self.next_socket;
        self.next_socket += 1;
        uplink.tell(match spec.transport {
            Transport::Tcp => Command::Listen(id, open.socket, None, calls.clone()),
            Transport::Udp => Command::ListenUdp(id, open.socket, None),
        });
        let Open { place, at, number, is_v4, path, .. } = open;
        Socket { id, place, at, number, is_v4, aim: None, _path: path }
    }

    /// Removes a forward; its flows end.
    pub(super) fn remove(&mut self, uplink: &Uplink, id: u64) -> Option<vmlan_api::Forward> {
        let place = self.all.iter().position(|forward| forward.id == id)?;
        let forward = self.all.remove(place);
        let row = self.row(&forward);
        forward.sockets.iter().for_each(|socket| uplink.tell(Command::Unlisten(socket.id)));
        Some(row)
    }

    /// Makes the forwards those of the configuration. One that cannot be is listed with its reason.
    ///
    /// # Errors
    /// The first that cannot be.
    pub(super) fn configure(&mut self, uplink: &Uplink, wanted: &[ForwardSpec]) -> Result<(), String> {
        let gone: Vec<_> = self
            .all
            .iter()
            .filter(|forward| {
                !forward.configured || forward.reason.is_some() || !wanted.contains(&forward.spec)
            })
            .map(|forward| forward.id)
            .collect();
        for id in gone {
            self.remove(uplink, id);
        }
        let mut result = Ok(());
        for spec in wanted {
            if self.all.iter().any(|forward| forward.spec == *spec) {
                continue;
            }
            if let Err(error) = self.add(uplink, spec.clone(), true) {
                let reason = Some(error.message.clone());
                let (id, sockets, calls) = (self.next, Vec::new(), Arc::default());
                self.next += 1;
                self.all.push(Forward { id, spec: spec.clone(), configured: true, sockets, reason, calls });
                result = result.and(Err(error.message));
            }
        }
        result
    }

    /// The forwards that the host's kernel can do for callers from outside: to guests, by port's name, that `is_open`
    /// answers true for. Callers on this host have the sockets.
    pub(super) fn inward(&self, is_open: impl Fn(&str) -> bool) -> Vec<Inward> {
        let forwards = self.all.iter().filter(|forward| is_open(&forward.spec.port));
        let pairs =
            forwards.flat_map(|forward| forward.sockets.iter().map(|one| (forward.spec.transport, one)));
        let inward = |(transport, socket): (Transport, &Socket)| {
            let (at, guest) = (socket.at?, socket.aim?);
            let fits = !at.ip().is_loopback() && at.is_ipv4() == guest.is_ipv4();
            fits.then_some(Inward { transport, at, guest })
        };
        pairs.filter_map(inward).collect()
    }

    /// Has each forward lead to its guest, whose addresses `address` finds by the port's name and the family that the
    /// callers have.
    pub(super) fn aim(&mut self, uplink: &Uplink, address: impl Fn(&str, bool) -> Option<std::net::IpAddr>) {
        for forward in &mut self.all {
            for socket in &mut forward.sockets {
                let guest = address(&forward.spec.port, socket.is_v4);
                let aim = guest.map(|guest| SocketAddr::new(guest, socket.number));
                if socket.aim != aim {
                    socket.aim = aim;
                    uplink.tell(Command::Aim(socket.id, aim));
                }
            }
        }
    }
}

/// An open socket of a forward.
struct Open {
    socket: OwnedFd,
    place: String,
    at: Option<SocketAddr>,
    number: u16,
    is_v4: bool,
    path: Option<BoundPath>,
}

/// Opens every socket of a forward, or none.
fn open(spec: &ForwardSpec) -> Result<Vec<Open>, String> {
    if let Listen::Unix(path) = &spec.listen {
        let place = Place::of(path).map_err(|error| error.to_string())?;
        let (socket, bound) = unix::listen(&place, unix::PRIVATE).map_err(|error| error.to_string())?;
        let place = path.display().to_string();
        return Ok(vec![Open {
            socket,
            place,
            at: None,
            number: spec.number,
            is_v4: true,
            path: Some(bound),
        }]);
    }
    let mut sockets = Vec::new();
    let mut missing = None;
    for (address, number) in spec.sockets() {
        match listen_at(address, spec.transport) {
            Ok(socket) => {
                let (place, is_v4) = (address.to_string(), address.is_ipv4());
                sockets.push(Open { socket, place, at: Some(address), number, is_v4, path: None });
            }
            // A host without one of the families has no loopback of it.
            Err(error) if spec.is_default() && is_absent(&error) => {
                missing = Some(explain(address, spec, error))
            }
            Err(error) => return Err(explain(address, spec, error)),
        }
    }
    match missing {
        Some(reason) if sockets.is_empty() => Err(reason),
        _ => Ok(sockets),
    }
}

fn is_absent(error: &Errno) -> bool {
    matches!(*error, Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT)
}

fn explain(address: SocketAddr, spec: &ForwardSpec, error: Errno) -> String {
    let cure = match error {
        Errno::ADDRINUSE => {
            let who = if spec.transport == Transport::Tcp { "ss -ltnp" } else { "ss -lunp" };
            return format!(
                "{address} is in use by another program (`{who}` tells which); choose another number, or stop it"
            );
        }
        Errno::ACCESS | Errno::PERM => {
            "numbers below 1024 need CAP_NET_BIND_SERVICE or a lower net.ipv4.ip_unprivileged_port_start"
        }
        Errno::ADDRNOTAVAIL => "this host does not have that address",
        _ => "see `vmlan doctor`",
    };
    format!("cannot listen at {address}: {error}; {cure}")
}

fn listen_at(address: SocketAddr, transport: Transport) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match transport {
        Transport::Tcp => SocketType::STREAM,
        Transport::Udp => SocketType::DGRAM,
    };
    let socket = new_socket(family, kind)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if transport == Transport::Tcp {
        // Connections of an earlier daemon may be remembered still.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &address)?;
    if transport == Transport::Tcp {
        listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

fn new_socket(family: AddressFamily, kind: SocketType) -> Result<OwnedFd, Errno> {
    let socket = socket_with(family, kind, rustix::net::SocketFlags::empty(), None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}
