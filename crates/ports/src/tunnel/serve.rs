//! One client of a tunnel's control socket, from its first request to its end.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use vmlan_drivers::tunnel::message::{LONGEST, Opened, Prefixed, Refusal, Request, answer};
use vmlan_drivers::tunnel::{self, Interface, options};
use vmlan_drivers::{PeerSocket, unix};

use super::lease::{Lease, Leases, Refused};
use super::{Tunnel, host, interface, until_fault};
use crate::connection::Connection;
use crate::peers;
use crate::throttle::Throttle;
use crate::users::{Place, User};
use crate::{Clients, Seat};

/// How long a client may take to ask for its tunnel.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn serve(
    clients: Clients,
    config: Tunnel,
    leases: Arc<Leases>,
    control: Connection,
    place: Place,
) {
    let mut client = Client { control, throttle: Throttle::new(), octets: [0; LONGEST + 1] };
    let asked = timeout(PATIENCE, client.wish(&clients, &leases, place.user())).await;
    let Ok(Some((unit, lease))) = asked else {
        return tracing::debug!(port = %clients.place(), "a client asked for nothing that it can have");
    };
    let open = |unit, addresses| Request::Open { unit, addresses };
    let request = open(unit, lease.addresses.clone());
    let Some((number, mut seat)) = clients.join(place.user()) else {
        client.answer(Some(&request), Err(Refusal::NoRoom));
        return;
    };
    match open_tunnel(&seat, &config, unit, &lease.addresses) {
        Ok((tunnel, interface, opened, data)) => {
            let peer = peers::describe(&client.control);
            let (tunnel, name) = (Arc::new(tunnel), interface.link().name());
            let interface = Open(interface);
            // Told only now that packets have somewhere to go.
            seat.up(tunnel.clone(), Some(format!("{peer} ({name})"))).await;
            if client.send(&answer(Some(&request), Ok(&opened.emit())), Some(&data)) {
                drop(data);
                client.until_it_leaves(&mut seat, &tunnel, &interface.0).await;
            }
        }
        Err(refusal) => {
            client.answer(Some(&request), Err(refusal));
        }
    }
    // Before the port's name and number are free for the next.
    drop(lease);
    seat.leave().await;
    drop(number);
}

/// A tunnel's link, closed when dropped.
struct Open(Arc<Interface>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

type Parts = (tunnel::Tunnel, Arc<Interface>, Opened, OwnedFd);

/// Everything that a tunnel has; the last is the client's end of the data socket.
fn open_tunnel(seat: &Seat, config: &Tunnel, unit: u32, addresses: &[Prefixed]) -> Result<Parts, Refusal> {
    let interface = interface(seat, config, NonZeroU32::new(unit), addresses).map_err(Refusal::of_link)?;
    let (ours, theirs) = data_sockets().map_err(|error| {
        tracing::warn!(port = %seat.place(), "its data socket cannot be made: {error}");
        Refusal::NoRoom
    })?;
    let host = host(seat, config, addresses);
    let tunnel = tunnel::Tunnel::to_client(PeerSocket::from_birth(ours), &host, interface.clone())
        .map_err(Refusal::of_link)?;
    let opened = Opened {
        unit: interface.unit(),
        mtu: interface.link().mtu().get(),
        mac: host.mac,
        addresses: host.addresses,
        gateways: host.gateways,
    };
    Ok((tunnel, interface, opened, theirs))
}

/// Ours does not wait; theirs is as they want it.
fn data_sockets() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::empty(), None)?;
    for socket in [&ours, &theirs] {
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)?;
        unix::enlarge(socket);
    }
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}

/// A client's control connection. Reading it is safe to cancel.
struct Client {
    control: Connection,
    throttle: Throttle,
    octets: [u8; LONGEST + 1],
}

impl Client {
    /// The unit and addresses of the client's tunnel; `None` when it left. Whatever it cannot have it is told.
    async fn wish(&mut self, clients: &Clients, leases: &Arc<Leases>, user: User) -> Option<(u32, Lease)> {
        loop {
            let octets = self.read().await?.to_vec();
            let request = Request::parse(&octets).ok();
            let refusal = match &request {
                Some(Request::Open { unit, addresses }) => match leases.take(addresses, user) {
                    Ok(lease) => return Some((*unit, lease)),
                    Err(Refused { refusal, full }) => {
                        full.inspect(|full| clients.refuse(full));
                        refusal
                    }
                },
                Some(_) => Refusal::NotOpen,
                None => Refusal::Invalid,
            };
            if !self.answer(request.as_ref(), Err(refusal)) {
                return None;
            }
        }
    }

    /// Serves options until the client closes a socket, or reads no answers.
    async fn until_it_leaves(&mut self, seat: &mut Seat, tunnel: &tunnel::Tunnel, interface: &Interface) {
        let privileged = self.is_privileged();
        let most = seat.mtu() as u32;
        loop {
            let octets = tokio::select! {
                _ = until_fault(seat, tunnel) => return,
                read = self.read() => match read {
                    Some(octets) => octets.to_vec(),
                    None => return,
                },
            };
            let request = Request::parse(&octets).ok();
            let result = match &request {
                Some(request) => options::serve(interface, request, privileged, most),
                None => Err(Refusal::Invalid),
            };
            let result = result.as_ref().map(Vec::as_slice).map_err(|refusal| *refusal);
            if !self.answer(request.as_ref(), result) {
                return;
            }
        }
    }

    /// Root and our own user may do everything.
    fn is_privileged(&self) -> bool {
        let ours = rustix::process::geteuid().as_raw();
        self.control.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == ours)
    }

    /// The next request; one that is too long is cut, and none for that. `None` at the end.
    async fn read(&mut self) -> Option<&[u8]> {
        self.throttle.pass().await;
        match self.control.read(&mut self.octets).await {
            Ok(0) | Err(_) => None,
            Ok(len) => Some(&self.octets[..len]),
        }
    }

    fn answer(&self, request: Option<&Request<'_>>, result: Result<&[u8], Refusal>) -> bool {
        self.send(&answer(request, result), None)
    }

    fn send(&self, octets: &[u8], descriptor: Option<&OwnedFd>) -> bool {
        send(&self.control, octets, descriptor)
    }
}

/// Tells a client for which there is no place why its connection is closed.
pub(super) fn refuse(control: &Connection) {
    // One that is gone, or does not read, needs no answer.
    let _ = send(control, &answer(None, Err(Refusal::NoRoom)), None);
}

/// False when the client is gone, or does not read.
fn send(control: &Connection, octets: &[u8], descriptor: Option<&OwnedFd>) -> bool {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.map(|descriptor| [descriptor.as_fd()]);
    if let Some(descriptors) = &descriptors {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)), "there is room for one");
    }
    let flags: SendFlags = vmlan_sys::socket::SEND_NOW;
    sendmsg(control, &[IoSlice::new(octets)], &mut ancillary, flags).is_ok()
}
