//! The uplink as one host of its network: what guests send it, and what it has for them.
//!
//! Theory of operation. [`Nat::take`] looks at one frame of a guest and hands it to the part that it is for:
//! neighbours, TCP, datagrams, or the network's services, which live elsewhere and get the frame as it is. After a
//! batch, [`Nat::flush`] hands the data of all flows over. [`Nat::poll`] makes frames for guests, a bounded number at a
//! time. No part waits, and none keeps a frame of the batch.

use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use vmlan_frame::wire::{EtherType, Icmpv6Type, IpProtocol, UdpDatagram};
use vmlan_frame::{Batch, Frame, Instant, MacAddr, Pool, PoolSizes};

use crate::datagrams::{self, DatagramSockets, Datagrams};
use crate::drop::Drop;
use crate::guests::{Guests, Limits};
use crate::keyed::Keyed;
use crate::neighbour;
use crate::packet::Packet;
use crate::rate::Rates;
use crate::reach::{Plan, Reach, Verdict};
use crate::tcp::{self, FlowId, Sockets, Tcp, Turn};

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
    /// Octets a second of all guests together, each way; any number when 0.
    pub rate: u64,
    /// Datagram flows of all guests together.
    pub datagram_flows: usize,
    /// True if datagrams of every sender come in by a guest's open port.
    pub open_filter: bool,
    /// A random key.
    pub key: Keyed,
}

/// The sockets of an uplink, the time, and buffers: everything that a call needs besides the engine.
pub struct Io<'a, S, D> {
    /// The sockets of TCP flows.
    pub streams: &'a mut S,
    /// The sockets of UDP and echo.
    pub datagrams: &'a mut D,
    /// The time.
    pub now: Instant,
    /// Buffers for small frames, of the worker.
    pub pool: &'a Pool,
}

/// The fate of a guest's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It was dealt with.
    Done,
    /// It is for the network's DHCP, router advertisements or DNS.
    Service,
    /// It is for the other carrier, by [`Nat::with_other_carrier`].
    Outward,
    /// It was dealt with, and the other carrier has to see it too: a neighbour tells its link address.
    Both,
}

/// Something that people may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// A guest uses an address that it was not given.
    Heard(IpAddr, MacAddr, u16),
    /// The guest at a port was kept from there.
    Denied(u16, SocketAddr, IpProtocol),
    /// The guest at a port has as many flows as it may.
    FlowLimit(u16),
    /// A flow of the guest at a port could not be, since all descriptors are in use.
    NoDescriptor(u16),
}

/// Notices that wait at most.
const NOTICES: usize = 64;

/// Notices a second, for each guest, of what it was kept from, and that it has as much as it may. Whoever floods is not
/// to keep those busy who are told.
const DENIALS: u32 = 32;
pub(crate) const LIMITS: u32 = 1;

/// Messages of a guest to the network's services, a second.
const MESSAGES: u32 = 512;

/// An uplink's engine.
pub struct Nat {
    mac: MacAddr,
    pub(crate) other_carrier: bool,
    /// The guests.
    pub guests: Guests,
    /// The decisions about destinations.
    pub reach: Reach,
    pub(crate) tcp: Tcp,
    pub(crate) datagrams: Datagrams,
    rates: Rates,
    /// Slots whose sockets have more than a turn took.
    full: VecDeque<u32>,
    /// Whose turn is first this time.
    streams_first: bool,
    notices: Vec<Notice>,
    out: VecDeque<Frame>,
}

/// Frames for guests that wait at most; answers beyond are not made.
const WAITING: usize = 1024;

/// Echo identifiers of one guest.
const ECHOES: usize = 64;

/// The ports of DHCP, of DHCPv6 and of DNS (RFC 2131, RFC 8415 section 7.2, RFC 1035).
const DHCP_SERVER: u16 = 67;
const DHCP6_SERVER: u16 = 547;
pub(crate) const NAMES: u16 = 53;

impl Nat {
    /// An engine without guests.
    pub fn new(settings: Settings, now: Instant) -> Nat {
        let Settings { mac, mtu, plan, limits, memory, rate, datagram_flows, open_filter, key } = settings;
        // Large ones are used last in first out, so what is in flight to a few guests stays in cache. Memory that was
        // never used costs nothing.
        let pool = Pool::new(PoolSizes { small: 8192, large: 512, bulk: 0 });
        let tcp = Tcp::new(tcp::Settings { mac, mtu, key, memory }, pool, now);
        let datagrams = Datagrams::new(datagrams::Settings {
            gateway_mac: mac,
            subnet4: plan.subnet4,
            subnet6: plan.subnet6,
            mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
            flows: datagram_flows,
            udp_per_guest: limits.flows as usize,
            echo_per_guest: ECHOES,
            open_filter,
            key: key.0,
        });
        Nat {
            mac,
            other_carrier: false,
            datagrams,
            rates: Rates::new(rate),
            full: VecDeque::new(),
            streams_first: false,
            notices: Vec::new(),
            guests: Guests::new(plan.subnet4, plan.subnet6, limits),
            reach: Reach::new(plan, key.0),
            tcp,
            out: VecDeque::with_capacity(WAITING),
        }
    }

    fn tcp<'a, S, D>(&'a mut self, io: &'a mut Io<'_, S, D>) -> (&'a mut Tcp, Turn<'a, S>) {
        let Nat { guests, reach, rates, tcp, out, .. } = self;
        (tcp, Turn { sockets: io.streams, reach, guests, rates, now: io.now, pool: io.pool, out })
    }

    /// Has `work` done with the datagrams.
    fn with_datagrams<S, D, T>(
        &mut self,
        io: &mut Io<'_, S, D>,
        work: impl FnOnce(&mut Datagrams, &mut D, &mut datagrams::Turn<'_>) -> T,
    ) -> T {
        let Nat { guests, reach, rates, datagrams, out, .. } = self;
        let station = |address| guests.place(address).map(|place| (place.mac, place.ingress));
        let mut turn = datagrams::Turn { reach, rates, now: io.now, pool: io.pool, station: &station, out };
        work(datagrams, io.datagrams, &mut turn)
    }

    /// Takes a frame of a guest.
    ///
    /// # Errors
    /// Why it goes no further.
    pub fn take<S: Sockets, D: DatagramSockets>(
        &mut self,
        io: &mut Io<'_, S, D>,
        frame: &Frame,
    ) -> Result<Taken, Drop> {
        let taken = self.take_frame(io, frame);
        if let Err(reason) = taken {
            self.note(frame, reason, io.now);
        }
        taken
    }

    /// Takes what happened since the last call.
    pub fn take_notices(&mut self) -> impl Iterator<Item = Notice> + '_ {
        let heard = self.guests.take_news().into_iter();
        let heard = heard.map(|(address, place)| Notice::Heard(address, place.mac, place.ingress));
        let without = self.tcp.without_descriptor.take().map(Notice::NoDescriptor);
        heard.chain(self.notices.drain(..)).chain(without)
    }

    #[cold]
    pub(crate) fn note(&mut self, frame: &Frame, reason: Drop, now: Instant) {
        if self.notices.len() >= NOTICES {
            return;
        }
        let ingress = frame.meta.ingress;
        match reason {
            Drop::Denied | Drop::Datagram(datagrams::Drop::EgressDenied) => {
                if !self.guests.of(ingress).denials.take(DENIALS, now) {
                    return;
                }
                let Ok(packet) = Packet::parse(frame) else { return };
                let port = match packet.protocol {
                    IpProtocol::TCP | IpProtocol::UDP => packet.upper.get(2..4).and_then(<[u8]>::first_chunk),
                    _ => None,
                };
                let port = port.map_or(0, |octets| u16::from_be_bytes(*octets));
                let to = SocketAddr::new(packet.destination(), port);
                self.notices.push(Notice::Denied(ingress, to, packet.protocol));
            }
            Drop::FlowLimit | Drop::Datagram(datagrams::Drop::FlowLimit)
                if self.guests.of(ingress).limits.take(LIMITS, now) =>
            {
                self.notices.push(Notice::FlowLimit(ingress));
            }
            _ => {}
        }
    }

    /// A message for the network's services, which are others' too: more of a guest's than they would ever answer are
    /// not handed to them.
    pub(crate) fn service(&mut self, ingress: u16, now: Instant) -> Result<Taken, Drop> {
        match self.guests.of(ingress).services.take(MESSAGES, now) {
            true => Ok(Taken::Service),
            false => Err(Drop::Busy),
        }
    }

    fn take_frame<S: Sockets, D: DatagramSockets>(
        &mut self,
        io: &mut Io<'_, S, D>,
        frame: &Frame,
    ) -> Result<Taken, Drop> {
        let to = frame.destination().ok_or(Drop::BadHeader)?;
        if to != self.mac && !to.is_multicast() {
            return Err(Drop::NotForUplink);
        }
        match frame.ethertype().map(EtherType) {
            Some(EtherType::ARP) => {
                let heard = neighbour::arp(frame, &mut self.guests, self.mac, io.pool)?;
                let taken = self.told(&heard);
                self.heard(io, heard, frame.meta.ingress);
                return Ok(taken);
            }
            Some(EtherType::IPV4 | EtherType::IPV6) => {}
            _ => return Err(Drop::NotForUplink),
        }
        let packet = Packet::parse(frame)?;
        if packet.protocol == IpProtocol::UDP && self.is_service(&packet) {
            return self.service(packet.ingress, io.now);
        }
        // What begins a later fragment is no type, and nothing of this may come in fragments (RFC 6980 section 5).
        if packet.protocol == IpProtocol::ICMPV6 && packet.fragment.is_none() {
            if neighbour::is_ndp(&packet) {
                let heard = neighbour::ndp(&packet, &mut self.guests, self.mac, io.pool)?;
                let taken = self.told(&heard);
                self.heard(io, heard, frame.meta.ingress);
                return Ok(taken);
            }
            if packet.upper.first() == Some(&Icmpv6Type::ROUTER_SOLICITATION.0) {
                return self.service(packet.ingress, io.now);
            }
        }
        if to != self.mac {
            // Groups and broadcasts are the link's.
            return Err(Drop::NotForwarded);
        }
        if !self.guests.is_own(packet.source(), packet.mac, packet.ingress) && !self.is_local(&packet) {
            return Err(Drop::SpoofedSource);
        }
        if self.is_outward(&packet, io.now) {
            return Ok(Taken::Outward);
        }
        if packet.fragment.is_some() {
            return match self.datagrams.assemble(&packet, io.now) {
                None => Ok(Taken::Done),
                // No one sends them, and they would have to be copied once more.
                Some(whole) if whole.packet().protocol == IpProtocol::TCP => Err(Drop::NotForwarded),
                Some(whole) => self.take_datagram(io, &whole.packet()),
            };
        }
        if packet.protocol == IpProtocol::TCP {
            let (tcp, mut turn) = self.tcp(io);
            return tcp.take(&mut turn, &packet, frame).map(|()| Taken::Done);
        }
        self.take_datagram(io, &packet)
    }

    fn take_datagram<S, D: DatagramSockets>(
        &mut self,
        io: &mut Io<'_, S, D>,
        packet: &Packet<'_>,
    ) -> Result<Taken, Drop> {
        if self.out.len() >= WAITING {
            return Err(Drop::Busy);
        }
        self.with_datagrams(io, |datagrams, sockets, turn| datagrams.take(sockets, packet, turn))
            .map(|()| Taken::Done)
            .map_err(Drop::Datagram)
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

    fn heard<S: Sockets, D>(&mut self, io: &mut Io<'_, S, D>, heard: neighbour::Heard, ingress: u16) {
        if self.out.len() < WAITING {
            self.out.extend(heard.answer);
        }
        if heard.announces {
            self.guest_may_be_new(io, ingress);
        }
    }

    /// A guest may have been started anew: flows that it does not know any more are found and ended.
    pub fn guest_may_be_new<S: Sockets, D>(&mut self, io: &mut Io<'_, S, D>, ingress: u16) {
        let (tcp, mut turn) = self.tcp(io);
        tcp.question(&mut turn, ingress);
    }

    /// Sets the octets a second of all guests together, each way; any number when 0.
    pub fn set_rate(&mut self, rate: u64) {
        self.rates.set(rate);
    }

    /// Lets datagrams of strangers in to guests' ports, or not; flows that there are stay.
    pub fn set_open_filter(&mut self, open: bool) {
        self.datagrams.set_open_filter(open);
    }

    /// Hands over what a batch brought. To be called after each.
    pub fn flush<S: Sockets, D: DatagramSockets>(&mut self, io: &mut Io<'_, S, D>) {
        let (tcp, mut turn) = self.tcp(io);
        tcp.flush(&mut turn);
        self.with_datagrams(io, |datagrams, sockets, turn| datagrams.flush(sockets, turn));
    }

    /// A full queue lost a frame that [`Nat::poll`] gave.
    pub fn refused<S: Sockets, D>(&mut self, io: &mut Io<'_, S, D>, frame: &Frame) {
        let (tcp, mut turn) = self.tcp(io);
        tcp.refused(&mut turn, frame);
    }

    /// The socket of a TCP flow is ready, for reading and for writing.
    pub fn stream_ready<S: Sockets, D>(&mut self, io: &mut Io<'_, S, D>, flow: FlowId, ready: (bool, bool)) {
        let (tcp, mut turn) = self.tcp(io);
        tcp.ready(&mut turn, flow, ready);
    }

    /// The datagram socket in a slot has something.
    pub fn datagram_ready(&mut self, slot: u32) {
        if !self.full.contains(&slot) {
            self.full.push_back(slot);
        }
    }

    /// Adds frames for guests to `batch`, as far as it has room. True if there is more.
    pub fn poll<S: Sockets, D: DatagramSockets>(&mut self, io: &mut Io<'_, S, D>, batch: &mut Batch) -> bool {
        let room = batch.room();
        // By turns, so that neither has the other wait for long.
        self.streams_first = !self.streams_first;
        if self.streams_first {
            self.poll_streams(io, room);
        }
        self.poll_datagrams(io, room);
        if !self.streams_first {
            self.poll_streams(io, room);
        }
        let count = self.out.len().min(room);
        for mut frame in self.out.drain(..count) {
            frame.meta.tells_refusal = true;
            batch.push(frame);
        }
        self.has_work()
    }

    fn poll_streams<S: Sockets, D>(&mut self, io: &mut Io<'_, S, D>, room: usize) {
        if self.out.len() < room {
            let (tcp, mut turn) = self.tcp(io);
            tcp.poll(&mut turn, room);
        }
    }

    fn poll_datagrams<S, D: DatagramSockets>(&mut self, io: &mut Io<'_, S, D>, room: usize) {
        if self.datagrams.next_deadline().is_some_and(|deadline| deadline <= io.now) {
            self.datagrams.expire(io.datagrams, io.now);
        }
        for _ in 0..self.full.len() {
            let left = room.saturating_sub(self.out.len());
            if left == 0 {
                return;
            }
            let Some(slot) = self.full.pop_front() else { return };
            if self.with_datagrams(io, |datagrams, sockets, turn| datagrams.ready(sockets, slot, left, turn))
            {
                self.full.push_back(slot);
            }
        }
    }

    /// True if frames for guests wait.
    pub fn has_output(&self) -> bool {
        !self.out.is_empty() || !self.full.is_empty() || self.tcp.has_output()
    }

    /// True if [`Nat::poll`] has something to do, or to try again.
    pub fn has_work(&self) -> bool {
        !self.out.is_empty() || !self.full.is_empty() || self.tcp.has_work()
    }

    /// Returns when time brings something.
    pub fn deadline(&self) -> Option<Instant> {
        [self.tcp.deadline(), self.datagrams.next_deadline()].into_iter().flatten().min()
    }

    /// A caller from outside wants a guest, by TCP. The driver keeps its socket by the answered id and then calls
    /// [`Nat::begin_call`]. `None` when it is to be turned away.
    pub fn call<S: Sockets, D>(
        &mut self,
        io: &mut Io<'_, S, D>,
        guest: SocketAddr,
        from: SocketAddr,
    ) -> Option<FlowId> {
        let (tcp, mut turn) = self.tcp(io);
        tcp.call(&mut turn, guest, from)
    }

    /// Begins to call the guest.
    pub fn begin_call<S: Sockets, D>(&mut self, io: &mut Io<'_, S, D>, flow: FlowId) {
        let (tcp, mut turn) = self.tcp(io);
        tcp.begin_call(&mut turn, flow);
    }

    /// Adds a forward of UDP, and gives the slot for its listening socket. `None` when all slots are taken.
    pub fn add_forward(&mut self, guest: SocketAddr, listener: IpAddr, now: Instant) -> Option<u32> {
        self.datagrams.add_forward(guest, datagrams::Family::of(listener), now)
    }

    /// Removes a forward of UDP, and closes its listener.
    pub fn remove_forward<S, D: DatagramSockets>(&mut self, io: &mut Io<'_, S, D>, slot: u32) {
        self.datagrams.remove_forward(io.datagrams, slot);
    }

    /// Ends TCP flows at once, on both sides. Returns how many.
    pub fn close_where<S: Sockets, D>(
        &mut self,
        io: &mut Io<'_, S, D>,
        wanted: impl FnMut(&tcp::FlowReport) -> bool,
    ) -> usize {
        let (tcp, mut turn) = self.tcp(io);
        tcp.close_where(&mut turn, wanted)
    }

    /// Ends one flow of datagrams. False if there is none of that number.
    pub fn close_datagrams<S, D: DatagramSockets>(&mut self, io: &mut Io<'_, S, D>, number: u64) -> bool {
        self.datagrams.close(io.datagrams, number)
    }

    /// Ends what the rules do not open any more. To be called when they have changed.
    pub fn recheck<S: Sockets, D: DatagramSockets>(&mut self, io: &mut Io<'_, S, D>) {
        let reach = &self.reach;
        let is_denied = |flow: &tcp::FlowReport| {
            let verdict = reach.decide(flow.ingress, flow.other, IpProtocol::TCP, io.now);
            !flow.came_in && matches!(verdict, Verdict::Deny | Verdict::Closed | Verdict::Group)
        };
        let denied: HashSet<_> = self.tcp.reports().filter(is_denied).map(|flow| flow.id).collect();
        self.close_where(io, |flow| denied.contains(&flow.id));
        self.datagrams.recheck(io.datagrams, &self.reach, io.now);
    }

    /// Reports every TCP flow.
    pub fn flows(&self) -> impl Iterator<Item = tcp::FlowReport> + '_ {
        self.tcp.reports()
    }

    /// Reports every flow of datagrams, forwards included.
    pub fn datagram_flows(&self) -> impl Iterator<Item = datagrams::FlowEntry> + '_ {
        self.datagrams.flows()
    }

    /// Counts of what happened to TCP and to datagrams.
    pub fn statistics(&self) -> (tcp::Statistics, datagrams::Counts) {
        (self.tcp.statistics(), *self.datagrams.counts())
    }

    /// A frame for a guest, made by one of the network's services. False when too much waits.
    pub fn send(&mut self, frame: Frame) -> bool {
        let fits = self.out.len() < WAITING;
        if fits {
            self.out.push_back(frame);
        }
        fits
    }

    /// Nothing reaches the guest at a port for now. Its flows wait, for two minutes.
    pub fn port_away(&mut self, ingress: u16, now: Instant) {
        self.tcp.port_away(ingress, now);
    }

    /// The guest at a port is reached again.
    pub fn port_back<S: Sockets, D>(&mut self, io: &mut Io<'_, S, D>, ingress: u16) {
        let (tcp, mut turn) = self.tcp(io);
        tcp.port_back(&mut turn, ingress);
    }

    /// A port of the network is gone, and with it its guest.
    pub fn forget_port<S: Sockets, D: DatagramSockets>(&mut self, io: &mut Io<'_, S, D>, ingress: u16) {
        self.close_where(io, |flow| flow.ingress == ingress);
        self.datagrams.forget_guest(io.datagrams, ingress);
        self.guests.forget_port(ingress);
        self.reach.forget_port(ingress);
    }

    /// An address was given to a guest. Flows of another one that had it before end.
    pub fn bind<S: Sockets, D>(
        &mut self,
        io: &mut Io<'_, S, D>,
        address: IpAddr,
        mac: MacAddr,
        ingress: u16,
    ) {
        if self.guests.bind(address, mac, ingress).is_some() {
            self.close_where(io, |flow| flow.guest.ip() == address);
        }
    }

    /// These addresses are set, each for the guest at a port alone. Flows of others that have one end.
    pub fn set_addresses<S: Sockets, D>(&mut self, io: &mut Io<'_, S, D>, owners: Vec<(IpAddr, u16)>) {
        for address in self.guests.set(owners) {
            self.unbind(io, address);
        }
    }

    /// An address is nobody's any more.
    pub fn unbind<S: Sockets, D>(&mut self, io: &mut Io<'_, S, D>, address: IpAddr) {
        if self.guests.unbind(address).is_some() {
            self.close_where(io, |flow| flow.guest.ip() == address);
        }
    }
}
