//! The uplink as one host of its network: what guests send it, and what it has for them.
//!
//! Theory of operation. [`Nat::take`] looks at one frame of a guest and hands it to the part that it is for: neighbours,
//! TCP, datagrams, or the network's services, which live elsewhere and get the frame as it is. After a batch,
//! [`Nat::flush`] hands the data of all flows over. [`Nat::poll`] makes frames for guests, a bounded number at a time.
//! No part waits, and none keeps a frame of the batch.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use vmlan_frame::wire::{EtherType, Icmpv6Type, IpProtocol, UdpDatagram};
use vmlan_frame::{Batch, Frame, Instant, MacAddr, Pool, PoolSizes};

use crate::drop::Drop;
use crate::guests::{Guests, Limits};
use crate::keyed::Keyed;
use crate::neighbour;
use crate::packet::Packet;
use crate::reach::{Plan, Reach};
use crate::tcp::{self, FlowId, Sockets, Tcp, Turn};
use crate::unreachable::{self, Reporter, Unreachable};

/// The settings of an uplink's engine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The gateway's link address.
    pub mac: MacAddr,
    /// Octets of the network's largest packet.
    pub mtu: usize,
    /// Addresses and what may be reached.
    pub plan: Plan,
    /// Limits for each guest.
    pub limits: Limits,
    /// Octets that are kept for all guests together.
    pub memory: usize,
    /// A random key.
    pub key: Keyed,
}

/// The fate of a guest's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It was dealt with.
    Done,
    /// It is for the network's DHCP, router advertisements or DNS.
    Service,
}

/// An uplink's engine.
pub struct Nat {
    mac: MacAddr,
    /// The guests.
    pub guests: Guests,
    /// The decisions about destinations.
    pub reach: Reach,
    tcp: Tcp,
    out: VecDeque<Frame>,
}

/// Frames for guests that wait at most; answers beyond are not made.
const WAITING: usize = 1024;

/// The ports of DHCP, of DHCPv6 and of DNS (RFC 2131, RFC 8415 section 7.2, RFC 1035).
const DHCP_SERVER: u16 = 67;
const DHCP6_SERVER: u16 = 547;
const NAMES: u16 = 53;

impl Nat {
    /// An engine without guests.
    pub fn new(settings: Settings, now: Instant) -> Nat {
        let Settings { mac, mtu, plan, limits, memory, key } = settings;
        // Large ones are used last in first out, so what is in flight to a few guests stays in cache. Memory that was
        // never used costs nothing.
        let pool = Pool::new(PoolSizes { small: 8192, large: 512, bulk: 0 });
        let tcp = Tcp::new(tcp::Settings { mac, mtu, key, memory }, pool, now);
        Nat {
            mac,
            guests: Guests::new(plan.subnet4, plan.subnet6, limits),
            reach: Reach::new(plan, key.0),
            tcp,
            out: VecDeque::with_capacity(WAITING),
        }
    }

    fn turn<'a, S>(
        &'a mut self,
        sockets: &'a mut S,
        now: Instant,
        pool: &'a Pool,
    ) -> (&'a mut Tcp, Turn<'a, S>) {
        let Nat { guests, reach, tcp, out, .. } = self;
        (tcp, Turn { sockets, reach, guests, now, pool, out })
    }

    /// Takes a frame of a guest.
    ///
    /// # Errors
    /// Why it goes no further.
    pub fn take<S: Sockets>(
        &mut self,
        sockets: &mut S,
        frame: &Frame,
        now: Instant,
        pool: &Pool,
    ) -> Result<Taken, Drop> {
        let to = frame.destination().ok_or(Drop::BadHeader)?;
        if to != self.mac && !to.is_multicast() {
            return Err(Drop::NotForUplink);
        }
        match frame.ethertype().map(EtherType) {
            Some(EtherType::ARP) => {
                let heard = neighbour::arp(frame, &mut self.guests, self.mac, pool)?;
                self.heard(sockets, heard, frame.meta.ingress, now, pool);
                return Ok(Taken::Done);
            }
            Some(EtherType::IPV4 | EtherType::IPV6) => {}
            _ => return Err(Drop::NotForUplink),
        }
        let packet = Packet::parse(frame)?;
        if packet.protocol == IpProtocol::UDP && self.is_service(&packet) {
            return Ok(Taken::Service);
        }
        if packet.protocol == IpProtocol::ICMPV6 {
            if neighbour::is_ndp(&packet) {
                let heard = neighbour::ndp(&packet, &mut self.guests, self.mac, pool)?;
                self.heard(sockets, heard, frame.meta.ingress, now, pool);
                return Ok(Taken::Done);
            }
            if packet.upper.first() == Some(&Icmpv6Type::ROUTER_SOLICITATION.0) {
                return Ok(Taken::Service);
            }
        }
        if to != self.mac {
            // Groups and broadcasts are the link's.
            return Err(Drop::NotForwarded);
        }
        if !self.guests.is_own(packet.source(), packet.mac, packet.ingress) && !self.is_local(&packet) {
            return Err(Drop::SpoofedSource);
        }
        match packet.protocol {
            _ if packet.fragment.is_some() => Err(Drop::NotForwarded),
            IpProtocol::TCP => {
                let (tcp, mut turn) = self.turn(sockets, now, pool);
                tcp.take(&mut turn, &packet, frame).map(|()| Taken::Done)
            }
            _ => {
                let gateway = self.guests.gateway_for(packet.source());
                if let Some(address) = gateway.filter(|_| self.out.len() < WAITING) {
                    let from = Reporter { mac: self.mac, address };
                    self.out.extend(unreachable::error(&packet, from, Unreachable::Protocol, pool));
                }
                Err(Drop::NotForwarded)
            }
        }
    }

    /// True for a datagram that is for one of the network's services.
    fn is_service(&self, packet: &Packet<'_>) -> bool {
        let Ok(datagram) = UdpDatagram::new_checked(packet.upper) else { return false };
        if packet.fragment.is_some() {
            return false;
        }
        let to_gateway = self.guests.is_gateway(packet.destination());
        match (datagram.destination_port(), packet.destination()) {
            (DHCP_SERVER, IpAddr::V4(to)) => to_gateway || to.is_broadcast(),
            (DHCP6_SERVER, IpAddr::V6(to)) => to_gateway || to.is_multicast(),
            (NAMES, _) => to_gateway,
            _ => false,
        }
    }

    /// True for a packet that does not leave the link: from a link-local address to the gateway.
    fn is_local(&self, packet: &Packet<'_>) -> bool {
        let IpAddr::V6(source) = packet.source() else { return false };
        source.is_unicast_link_local() && self.guests.is_gateway(packet.destination())
    }

    fn heard<S: Sockets>(
        &mut self,
        sockets: &mut S,
        heard: neighbour::Heard,
        ingress: u16,
        now: Instant,
        pool: &Pool,
    ) {
        if self.out.len() < WAITING {
            self.out.extend(heard.answer);
        }
        if heard.announces {
            self.guest_may_be_new(sockets, ingress, now, pool);
        }
    }

    /// A guest may have been started anew: flows that it does not know any more are found and ended.
    pub fn guest_may_be_new<S: Sockets>(&mut self, sockets: &mut S, ingress: u16, now: Instant, pool: &Pool) {
        let (tcp, mut turn) = self.turn(sockets, now, pool);
        tcp.question(&mut turn, ingress);
    }

    /// Hands over what a batch brought. To be called after each.
    pub fn flush<S: Sockets>(&mut self, sockets: &mut S, now: Instant, pool: &Pool) {
        let (tcp, mut turn) = self.turn(sockets, now, pool);
        tcp.flush(&mut turn);
    }

    /// The socket of a flow is ready, for reading and for writing.
    pub fn ready<S: Sockets>(
        &mut self,
        sockets: &mut S,
        flow: FlowId,
        ready: (bool, bool),
        now: Instant,
        pool: &Pool,
    ) {
        let (tcp, mut turn) = self.turn(sockets, now, pool);
        tcp.ready(&mut turn, flow, ready);
    }

    /// Adds frames for guests to `batch`, as far as it has room. True if there is more.
    pub fn poll<S: Sockets>(
        &mut self,
        sockets: &mut S,
        batch: &mut Batch,
        now: Instant,
        pool: &Pool,
    ) -> bool {
        let room = batch.room();
        if self.out.len() < room {
            let (tcp, mut turn) = self.turn(sockets, now, pool);
            tcp.poll(&mut turn, room);
        }
        let count = self.out.len().min(room);
        self.out.drain(..count).for_each(|frame| batch.push(frame));
        self.has_work()
    }

    /// True if frames for guests wait.
    pub fn has_output(&self) -> bool {
        !self.out.is_empty() || self.tcp.has_output()
    }

    /// True if [`Nat::poll`] has something to do, or to try again.
    pub fn has_work(&self) -> bool {
        !self.out.is_empty() || self.tcp.has_work()
    }

    /// Returns when time brings something.
    pub fn deadline(&self) -> Option<Instant> {
        self.tcp.deadline()
    }

    /// A caller from outside wants a guest. The driver keeps its socket by the answered id and then calls
    /// [`Nat::begin_call`]. `None` when it is to be turned away.
    pub fn call<S: Sockets>(
        &mut self,
        sockets: &mut S,
        (guest, from): (SocketAddr, SocketAddr),
        now: Instant,
        pool: &Pool,
    ) -> Option<FlowId> {
        let (tcp, mut turn) = self.turn(sockets, now, pool);
        tcp.call(&mut turn, guest, from)
    }

    /// Begins to call the guest.
    pub fn begin_call<S: Sockets>(&mut self, sockets: &mut S, flow: FlowId, now: Instant, pool: &Pool) {
        let (tcp, mut turn) = self.turn(sockets, now, pool);
        tcp.begin_call(&mut turn, flow);
    }

    /// Ends flows at once, on both sides. Returns how many.
    pub fn close_where<S: Sockets>(
        &mut self,
        sockets: &mut S,
        wanted: impl FnMut(&tcp::FlowReport) -> bool,
        now: Instant,
        pool: &Pool,
    ) -> usize {
        let (tcp, mut turn) = self.turn(sockets, now, pool);
        tcp.close_where(&mut turn, wanted)
    }

    /// Reports every TCP flow.
    pub fn flows(&self) -> impl Iterator<Item = tcp::FlowReport> + '_ {
        self.tcp.reports()
    }

    /// Counts of what happened to TCP.
    pub fn statistics(&self) -> tcp::Statistics {
        self.tcp.statistics()
    }

    /// A frame for a guest, made by one of the network's services. False when too much waits.
    pub fn send(&mut self, frame: Frame) -> bool {
        let fits = self.out.len() < WAITING;
        if fits {
            self.out.push_back(frame);
        }
        fits
    }

    /// A port of the network is gone, and with it its guest.
    pub fn forget_port<S: Sockets>(&mut self, sockets: &mut S, ingress: u16, now: Instant, pool: &Pool) {
        self.close_where(sockets, |flow| flow.ingress == ingress, now, pool);
        self.guests.forget_port(ingress);
        self.reach.forget_port(ingress);
    }

    /// An address was given to a guest. Flows of whoever had it before end.
    pub fn bind<S: Sockets>(
        &mut self,
        sockets: &mut S,
        (address, mac, ingress): (IpAddr, MacAddr, u16),
        now: Instant,
        pool: &Pool,
    ) {
        if self.guests.bind(address, mac, ingress).is_some() {
            self.close_where(sockets, |flow| flow.guest.ip() == address, now, pool);
        }
    }

    /// An address is nobody's any more.
    pub fn unbind<S: Sockets>(&mut self, sockets: &mut S, address: IpAddr, now: Instant, pool: &Pool) {
        if self.guests.unbind(address).is_some() {
            self.close_where(sockets, |flow| flow.guest.ip() == address, now, pool);
        }
    }
}
