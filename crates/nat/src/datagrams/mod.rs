//! UDP, echo and errors of guests, by sockets of the host.
//!
//! Theory of operation. A guest's UDP address and port has one socket, whatever its peers (endpoint-independent
//! mapping, RFC 4787 section 4.1), so that what peers tell each other about their outside ports is true. The socket is
//! never connected: which datagrams come in is decided by the peers that the guest sent to (address-dependent
//! filtering, section 5), unless the network is open. Echo is alike, with the identifier for a port. A forward is a
//! listener that the daemon bound; each of its callers is a flow of its own, whose answers leave by the listener.
//!
//! [`Datagrams::take`] gets the packets of guests, one by one, and [`Datagrams::flush`] ends a batch of them;
//! [`Datagrams::ready`] is called for a slot whose socket is readable or has an error; [`Datagrams::expire`] when
//! [`Datagrams::next_deadline`] has come. Nothing waits inside: a datagram is sent or dropped, and a dropped one is
//! counted. Fragments come whole, by [`Datagrams::assemble`].
//!
//! Errors of the host come back as ICMP. A failed call is about the packet in hand, which is quoted. The error queue of
//! a socket tells of earlier datagrams, whose headers are written anew as the guest sent them.

mod drops;
mod echo;
mod errors;
mod flow;
mod forward;
mod inbound;
mod outbound;
mod peers;
mod run;
mod sockets;

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};

use vmlan_frame::wire::{IpProtocol, UdpDatagram};
use vmlan_frame::{Frame, Instant, MacAddr, Pool};

pub use drops::{Counts, Drop};
pub use flow::FlowKind;
pub use inbound::datagram;
pub use sockets::{
    Control, DatagramSockets, Family, OpenError, Origin, QueuedError, Received, SendError, SocketKind,
};

use crate::envelope::{Subnet4, Subnet6};
use crate::fragments::{Assembly, Fragments, Whole};
use crate::keyed::Keyed;
use crate::reach::{NAT64, Verdict, canonical};
use crate::unreachable::{Reporter, Unreachable, error};
use crate::{Packet, Rates, Reach};
use flow::{Flow, Table};
use forward::Callers;
use peers::Peers;
use run::Run;

/// The settings of an uplink's datagrams.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The gateway's link address.
    pub gateway_mac: MacAddr,
    /// The guests' IPv4 addresses.
    pub subnet4: Option<Subnet4>,
    /// The guests' IPv6 addresses.
    pub subnet6: Option<Subnet6>,
    /// The MTU of the network: octets of an IP packet.
    pub mtu: u16,
    /// Most flows together, and the bound of slots.
    pub flows: usize,
    /// Most UDP flows of one guest; and most callers of its forwards.
    pub udp_per_guest: usize,
    /// Most echo identifiers of one guest.
    pub echo_per_guest: usize,
    /// True if datagrams of every sender come in by a guest's open port ("full cone").
    pub open_filter: bool,
    /// Random octets, for tables and for numbers that others should not guess.
    pub key: [u64; 2],
}

/// The surroundings of one call.
pub struct Turn<'a> {
    /// The rules.
    pub reach: &'a Reach,
    /// The allowances of each way.
    pub rates: &'a mut Rates,
    /// The time.
    pub now: Instant,
    /// The worker's buffers.
    pub pool: &'a Pool,
    /// Finds the link address and the port of the network of a guest's address.
    pub station: &'a dyn Fn(IpAddr) -> Option<(MacAddr, u16)>,
    /// The frames for guests.
    pub out: &'a mut VecDeque<Frame>,
}

/// A destination that was not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// The port of the network that the guest is at.
    pub ingress: u16,
    /// The destination as the guest wrote it; the port is 0 for protocols without.
    pub to: SocketAddr,
    /// The protocol.
    pub protocol: IpProtocol,
}

/// A flow, as it is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowEntry {
    /// Names the flow in [`Datagrams::close`].
    pub id: u64,
    /// The kind of the flow.
    pub kind: FlowKind,
    /// The port of the network that the guest is at.
    pub ingress: u16,
    /// The guest's address and port, or echo identifier.
    pub guest: SocketAddr,
    /// The latest other side, as the host sees it.
    pub peer: SocketAddr,
    /// True if there was traffic both ways.
    pub answered: bool,
    /// Octets of payload from the guest.
    pub octets_out: u64,
    /// Octets of payload to the guest.
    pub octets_in: u64,
    /// The time of the first datagram.
    pub since: Instant,
    /// The time of the latest datagram.
    pub last: Instant,
}

/// The datagrams of one uplink.
pub struct Datagrams {
    settings: Settings,
    table: Table,
    peers: Peers,
    callers: Callers,
    fragments: Fragments,
    run: Run,
    counts: Counts,
    denied: Option<Denied>,
    /// Room for what is not sent or received in place.
    scratch: Box<[u8]>,
    numbers: u64,
}

/// Octets of the longest payload, and of a run of datagrams.
const LONGEST: usize = 1 << 16;

/// Most datagrams, or runs of them, that one call takes from a socket.
const A_TURN: usize = 64;

/// Most errors that one call takes from a socket's queue.
const ERRORS_A_TURN: usize = 16;

/// Most flows that one call closes.
const EXPIRED_A_TURN: usize = 256;

impl Datagrams {
    /// No flows.
    pub fn new(settings: Settings) -> Datagrams {
        Datagrams {
            table: Table::new(&settings),
            peers: Peers::new(Keyed(settings.key)),
            callers: Callers::new(Keyed(settings.key)),
            fragments: Fragments::new(),
            run: Run::new(),
            counts: Counts::default(),
            denied: None,
            scratch: vec![0; LONGEST].into(),
            numbers: 0,
            settings,
        }
    }

    /// Lets datagrams of strangers in, or not.
    pub fn set_open_filter(&mut self, open: bool) {
        self.settings.open_filter = open;
    }

    /// The counts so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The latest destination that was not open, since it was asked for the last time.
    pub fn take_denied(&mut self) -> Option<Denied> {
        self.denied.take()
    }

    /// Takes a fragment of a guest, of any protocol, and gives the whole packet when it is the last one missing.
    ///
    /// The whole packet goes on as any other: to [`Datagrams::take`] unless it is TCP's.
    pub fn assemble(&mut self, packet: &Packet<'_>, now: Instant) -> Option<Whole> {
        self.counts.fragments += 1;
        match self.fragments.take(packet, now) {
            Assembly::Waiting { given_up } => {
                self.counts.drop_many(Drop::FragmentLimit, given_up);
                None
            }
            Assembly::Whole { whole, fragments } => {
                self.counts.assembled += fragments;
                Some(whole)
            }
            Assembly::Dropped { reason, fragments } => {
                self.counts.drop_many(reason, fragments);
                None
            }
        }
    }

    /// Takes a guest's packet that is neither TCP nor a fragment nor for a service of the gateway's own.
    ///
    /// A request whose checksum is to be finished, or a run of datagrams, is taken as it is. What is held back for a
    /// run leaves with [`Datagrams::flush`].
    ///
    /// # Errors
    /// Why it went no further, which is counted here too.
    pub fn take(
        &mut self,
        sockets: &mut impl DatagramSockets,
        packet: &Packet<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Drop> {
        self.counts.taken += 1;
        let taken = match packet.protocol {
            _ if packet.fragment.is_some() => Err(Drop::BadHeader),
            IpProtocol::UDP => self.take_udp(sockets, packet, turn),
            IpProtocol::ICMP if packet.source().is_ipv4() => self.take_icmp(sockets, packet, turn),
            IpProtocol::ICMPV6 if packet.source().is_ipv6() => self.take_icmp(sockets, packet, turn),
            _ => self.refuse_protocol(packet, turn),
        };
        taken.inspect_err(|reason| self.counts.drop(*reason))
    }

    /// True if a datagram between these ends answers a caller of a forward.
    pub(crate) fn is_for_caller(&self, guest: SocketAddr, to: SocketAddr) -> bool {
        self.callers.slot(guest, to).is_some()
    }

    /// Tells the guest that a protocol is not carried, unless it is for a group.
    fn refuse_protocol(&mut self, packet: &Packet<'_>, turn: &mut Turn<'_>) -> Result<(), Drop> {
        let to = SocketAddr::new(packet.destination(), 0);
        match turn.reach.decide(packet.ingress, to, packet.protocol, turn.now) {
            Verdict::Group => return Err(Drop::NotForwarded),
            Verdict::Deny => self.deny(packet, turn)?,
            _ => self.tell(packet, Unreachable::Protocol, turn),
        }
        Err(Drop::BadProtocol)
    }

    /// Drops a packet whose destination is not open, and tells the guest unless that is to be silent.
    fn deny(&mut self, packet: &Packet<'_>, turn: &mut Turn<'_>) -> Result<(), Drop> {
        let port = match packet.protocol {
            IpProtocol::UDP => UdpDatagram::new_checked(packet.upper).map_or(0, |it| it.destination_port()),
            _ => 0,
        };
        let to = SocketAddr::new(packet.destination(), port);
        self.denied = Some(Denied { ingress: packet.ingress, to, protocol: packet.protocol });
        if !turn.reach.denies_silently() {
            self.tell(packet, Unreachable::Prohibited, turn);
        }
        Err(Drop::EgressDenied)
    }

    /// Tells a guest of an error about its packet, from the gateway.
    fn tell(&mut self, packet: &Packet<'_>, kind: Unreachable, turn: &mut Turn<'_>) {
        let Some(address) = self.gateway(Family::of(packet.source())) else { return };
        if !self.table.guest(packet.ingress).errors.take(turn.now) {
            return;
        }
        let from = Reporter { mac: self.settings.gateway_mac, address };
        if let Some(frame) = error(packet, from, kind, turn.pool) {
            self.counts.told += 1;
            turn.out.push_back(frame);
        }
    }

    /// The gateway's address of a family, if the guests have the family.
    fn gateway(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => Some(self.settings.subnet4?.host(1).into()),
            Family::V6 => Some(self.settings.subnet6?.host(1).into()),
        }
    }

    /// The address that a guest of a family sees for an outside one.
    fn inside(&self, outside: IpAddr, family: Family) -> IpAddr {
        match (outside, family) {
            (IpAddr::V4(address), Family::V6) => {
                let mut octets = [0; 16];
                octets[..12].copy_from_slice(&NAT64);
                octets[12..].copy_from_slice(&address.octets());
                octets.into()
            }
            (address, _) => address,
        }
    }

    fn is_in_subnet(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.settings.subnet4.is_some_and(|subnet| subnet.contains(address)),
            IpAddr::V6(address) => self.settings.subnet6.is_some_and(|subnet| subnet.contains(address)),
        }
    }

    /// A number that others cannot guess.
    fn random(&mut self) -> u32 {
        self.numbers += 1;
        Keyed(self.settings.key).hash_one(self.numbers) as u32
    }

    /// Makes room for a guest's new flow, and adds it.
    fn begin(&mut self, sockets: &mut impl DatagramSockets, flow: Flow, now: Instant) -> Result<u32, Drop> {
        if let Some(given_up) = self.table.admit(flow.kind, flow.ingress, now)? {
            self.end(sockets, given_up);
        }
        self.table.insert(flow).ok_or(Drop::FlowLimit)
    }

    /// Ends a flow. Its peers are found no more; they go when their time is over.
    fn end(&mut self, sockets: &mut impl DatagramSockets, slot: u32) {
        let Some(flow) = self.table.remove(slot) else { return };
        self.discard(slot);
        match flow.kind {
            FlowKind::Udp | FlowKind::Echo | FlowKind::Forward => sockets.close(slot),
            FlowKind::Caller => self.callers.remove(&flow),
        }
    }

    /// Ends what is over, as much as one turn may. With more left the next deadline is in the past.
    pub fn expire(&mut self, sockets: &mut impl DatagramSockets, now: Instant) {
        for _ in 0..EXPIRED_A_TURN {
            let Some(slot) = self.table.over(now) else { break };
            self.end(sockets, slot);
        }
        self.peers.expire(now, EXPIRED_A_TURN);
        let lost = self.fragments.expire(now);
        self.counts.drop_many(Drop::FragmentTimeout, lost);
    }

    /// The time at which [`Datagrams::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        [self.table.next_end(), self.peers.next_end(), self.fragments.next_end()].into_iter().flatten().min()
    }

    /// Lists the flows, forwards included.
    pub fn flows(&self) -> impl Iterator<Item = FlowEntry> {
        self.table.iter().map(|(slot, flow)| FlowEntry {
            id: id(slot, flow),
            kind: flow.kind,
            ingress: flow.ingress,
            guest: flow.guest,
            peer: flow.peer,
            answered: flow.answered,
            octets_out: flow.octets_out,
            octets_in: flow.octets_in,
            since: flow.since,
            last: flow.last,
        })
    }

    /// Closes a flow; false when there is none of that number.
    pub fn close(&mut self, sockets: &mut impl DatagramSockets, number: u64) -> bool {
        let slot = number as u32;
        let is_there = self.table.get(slot).is_some_and(|flow| id(slot, flow) == number);
        if is_there {
            self.end(sockets, slot);
        }
        is_there
    }

    /// Forgets all of the guest at a port of the network: its flows, its peers, its fragments, its callers.
    pub fn forget_guest(&mut self, sockets: &mut impl DatagramSockets, ingress: u16) {
        self.end_where(sockets, |flow| flow.ingress == ingress && flow.kind != FlowKind::Forward);
        self.peers.forget_guest(ingress);
        let lost = self.fragments.forget_guest(ingress);
        self.counts.drop_many(Drop::FragmentTimeout, lost);
        self.table.forget_guest(ingress);
    }

    /// Ends the flows that the rules do not open any more. Call it when [`Reach::generation`] has changed.
    pub fn recheck(&mut self, sockets: &mut impl DatagramSockets, reach: &Reach, now: Instant) {
        let mut open = std::collections::HashSet::new();
        self.peers.retain(|peer| {
            let inside = SocketAddr::new(peer.inside.ip(), peer.inside.port());
            let is_open = matches!(
                reach.decide(peer.ingress, inside, peer.protocol, now),
                Verdict::Connect(_) | Verdict::Host(_)
            );
            if is_open {
                peer.generation = reach.generation();
                open.insert(peer.serial);
            }
            is_open
        });
        self.end_where(sockets, |flow| {
            matches!(flow.kind, FlowKind::Udp | FlowKind::Echo) && !open.contains(&flow.serial)
        });
    }

    fn end_where(&mut self, sockets: &mut impl DatagramSockets, which: impl Fn(&Flow) -> bool) {
        let slots = self.table.iter().filter(|(_, flow)| which(flow)).map(|(slot, _)| slot);
        for slot in Vec::from_iter(slots) {
            self.end(sockets, slot);
        }
    }
}

fn id(slot: u32, flow: &Flow) -> u64 {
    u64::from(flow.serial) << 32 | u64::from(slot)
}

/// The socket's family for a destination.
fn family_to(destination: IpAddr) -> Family {
    Family::of(canonical(destination))
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
