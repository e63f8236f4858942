//! Forwards: sockets of the host on which callers from outside reach guests.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::{io, mem};

use rustix::io::Errno;
use socket2::{SockRef, Socket};
use vmlan_nat::datagrams::Family;
use vmlan_nat::{Io, Nat};
use vmlan_sys::{Interest, Poller};

use super::control::ForwardId;
use super::datagrams::HostDatagrams;
use super::streams::{HostStreams, set_reset};

/// Callers that are accepted in one turn.
const ACCEPTS: usize = 64;

/// Sockets of forwards.
pub(super) const LISTENER: u64 = 0b10 << 62;

pub(super) struct Listeners {
    poller: Arc<Poller>,
    all: Vec<Option<Listener>>,
    udp: Vec<UdpListener>,
    /// Given up for the moment in which a caller is turned away because no descriptor is left.
    spare: Option<OwnedFd>,
    /// The next port of the gateway for callers whose own address the guest cannot see.
    port: u16,
}

struct Listener {
    id: ForwardId,
    socket: Socket,
    guest: Option<SocketAddr>,
    calls: Arc<AtomicU64>,
}

struct UdpListener {
    id: ForwardId,
    socket: Socket,
    /// The engine's slot for it, while there is a guest.
    slot: Option<u32>,
}

/// The parts that the engine works with.
type HostIo<'a> = Io<'a, HostStreams, HostDatagrams>;

/// A caller, and the guest that it is for.
pub(super) struct Caller {
    pub(super) socket: Socket,
    /// The caller's address, if it has one.
    pub(super) from: Option<SocketAddr>,
    pub(super) guest: SocketAddr,
}

impl Listeners {
    pub(super) fn new(poller: Arc<Poller>) -> Listeners {
        Listeners { poller, all: Vec::new(), udp: Vec::new(), spare: spare(), port: FIRST }
    }

    /// Listens on a socket from now on. Several may have one id.
    pub(super) fn add(
        &mut self,
        (id, calls): (ForwardId, Arc<AtomicU64>),
        socket: OwnedFd,
        guest: Option<SocketAddr>,
    ) -> io::Result<()> {
        let socket = Socket::from(socket);
        socket.set_nonblocking(true)?;
        let place = self.all.iter().position(Option::is_none).unwrap_or_else(|| {
            self.all.push(None);
            self.all.len() - 1
        });
        self.poller.add(&socket, LISTENER | place as u64, Interest::READ)?;
        self.all[place] = Some(Listener { id, socket, guest, calls });
        Ok(())
    }

    /// The same for a bound socket of UDP, which the engine has while there is a guest.
    pub(super) fn add_udp(
        &mut self,
        engine: &mut Nat,
        io: &mut HostIo<'_>,
        id: ForwardId,
        socket: OwnedFd,
        guest: Option<SocketAddr>,
    ) {
        self.udp.push(UdpListener { id, socket: socket.into(), slot: None });
        self.aim(engine, io, id, guest);
    }

    /// The guest of a forward has this address now. Flows to another one end.
    pub(super) fn aim(
        &mut self,
        engine: &mut Nat,
        io: &mut HostIo<'_>,
        id: ForwardId,
        guest: Option<SocketAddr>,
    ) {
        for listener in self.all.iter_mut().flatten().filter(|listener| listener.id == id) {
            let before = mem::replace(&mut listener.guest, guest);
            if let Some(before) = before.filter(|_| before != guest) {
                engine.close_where(io, |flow| flow.came_in && flow.guest == before);
            }
        }
        for listener in self.udp.iter_mut().filter(|listener| listener.id == id) {
            if let Some(slot) = listener.slot.take() {
                engine.remove_forward(io, slot);
            }
            let Some(guest) = guest else { continue };
            let Some(address) = local_address(&listener.socket) else { continue };
            // The engine closes what it has; the forward stays.
            let Ok(socket) = listener.socket.try_clone() else { continue };
            let Some(slot) = engine.add_forward(guest, address.ip(), io.now) else { continue };
            match io.datagrams.adopt(slot, socket.into(), Family::of(address.ip())) {
                Ok(()) => listener.slot = Some(slot),
                Err(_) => engine.remove_forward(io, slot),
            }
        }
    }

    pub(super) fn remove(&mut self, engine: &mut Nat, io: &mut HostIo<'_>, id: ForwardId) {
        self.aim(engine, io, id, None);
        for place in &mut self.all {
            if place.as_ref().is_some_and(|listener| listener.id == id) {
                *place = None;
            }
        }
        self.udp.retain(|listener| listener.id != id);
    }

    /// Accepts callers of the listener with this token. Those whose guest is not there are reset.
    pub(super) fn accept(&mut self, token: u64, has_room: bool, mut take: impl FnMut(Caller)) {
        let Some(Some(listener)) = self.all.get((token & !super::streams::KIND) as usize) else { return };
        for _ in 0..ACCEPTS {
            let accepted = listener.socket.accept();
            listener.calls.fetch_add(u64::from(accepted.is_ok()), Relaxed);
            match accepted {
                Ok((socket, address)) => match listener.guest.filter(|_| has_room) {
                    Some(guest) => take(Caller { socket, from: address.as_socket(), guest }),
                    None => set_reset(&socket),
                },
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::MFILE | Errno::NFILE) => {
                        // One descriptor is kept for this: the caller hears of it instead of waiting for ever.
                        self.spare = None;
                        if let Ok((socket, _)) = listener.socket.accept() {
                            set_reset(&socket);
                        }
                        self.spare = spare();
                        return;
                    }
                    Some(Errno::CONNABORTED | Errno::INTR) => {}
                    _ => return,
                },
            }
        }
    }

    /// A port of the gateway's, for a caller that the guest sees as the gateway.
    pub(super) fn next_port(&mut self) -> u16 {
        self.port = if self.port == u16::MAX { FIRST } else { self.port + 1 };
        self.port
    }
}

/// The first of the gateway's ports for callers.
const FIRST: u16 = 32_768;

fn spare() -> Option<OwnedFd> {
    let socket = Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None).ok()?;
    Some(socket.into())
}

/// The address that a guest sees of a caller: its own, unless answers to it would not come back this way.
pub(super) fn seen(
    from: Option<SocketAddr>,
    guest: SocketAddr,
    is_inside: impl Fn(IpAddr) -> bool,
) -> Option<SocketAddr> {
    let from = from.map(|from| SocketAddr::new(from.ip().to_canonical(), from.port()))?;
    let is_foreign = from.is_ipv6() != guest.is_ipv6();
    let is_link_local = match from.ip() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    (!is_foreign && !is_link_local && !from.ip().is_loopback() && !is_inside(from.ip())).then_some(from)
}

/// The address that a listening socket has, for people.
fn local_address(socket: impl AsFd) -> Option<SocketAddr> {
    SockRef::from(&socket.as_fd()).local_addr().ok()?.as_socket()
}
