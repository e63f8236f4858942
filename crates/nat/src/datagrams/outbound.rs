//! UDP from guests.

use std::net::SocketAddr;

use vmlan_frame::wire::{IpProtocol, Ipv4Packet, UdpDatagram, UdpRepr};
use vmlan_frame::{ETHERNET_HEADER, Offload, checksum};

use super::drops::Drop;
use super::flow::{Flow, FlowKind};
use super::peers::Peer;
use super::run::Held;
use super::sockets::{Control, DatagramSockets, Family, OpenError, SendError, SocketKind};
use super::{Datagrams, Turn};
use crate::Packet;
use crate::reach::{HostTarget, Verdict, canonical};
use crate::unreachable::Unreachable;

/// Ports below are of services that answer at once, or not at all.
const WELL_KNOWN: u16 = 1024;

/// The bits of a traffic class without ECN, which belongs to the host's own path (RFC 3168).
const NO_ECN: u8 = 0xfc;

/// A datagram, on its way out.
pub(super) struct Outgoing<'p> {
    pub kind: FlowKind,
    /// The guest's address and port, or identifier.
    pub from: SocketAddr,
    /// The destination as the guest wrote it.
    pub inside: SocketAddr,
    pub outside: SocketAddr,
    pub payload: &'p [u8],
    pub segment: Option<u16>,
    pub protocol: IpProtocol,
}

impl Datagrams {
    pub(super) fn take_udp(
        &mut self,
        sockets: &mut impl DatagramSockets,
        packet: &Packet<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Drop> {
        let datagram = UdpDatagram::new_checked(packet.upper).map_err(|_| Drop::BadHeader)?;
        if datagram.source_port() == 0 || datagram.destination_port() == 0 {
            return Err(Drop::BadHeader);
        }
        let finish = place_to_finish(packet)?;
        if !packet.is_checksum_open() && !datagram.verify_checksum(&packet.addresses) {
            return Err(Drop::BadChecksum);
        }
        let segment = segment(packet.offload, &datagram)?;
        let from = SocketAddr::new(packet.source(), datagram.source_port());
        let to = SocketAddr::new(packet.destination(), datagram.destination_port());
        if segment.is_none() && finish.is_none() && !turn.rates.out.is_limited() {
            let payload = datagram.payload();
            if let Some(flow) = self.run.append(packet, (from, to), payload, turn.reach.generation()) {
                self.table.count_out(flow, payload.len());
                return Ok(());
            }
        }
        self.flush(sockets, turn);
        if let Some(slot) = self.callers.slot(from, to) {
            return self.answer_caller(sockets, slot, packet, (datagram.payload(), segment), turn);
        }
        let outside = self.open_destination(packet, from, to, turn)?;
        // The checksum of a packet in a tunnel, which nobody below does.
        if let Some((start, offset)) = finish {
            let mut scratch = std::mem::take(&mut self.scratch);
            let payload = finished(&mut scratch, datagram.payload(), start, offset);
            let out = Outgoing {
                kind: FlowKind::Udp,
                from,
                inside: to,
                outside,
                payload,
                segment,
                protocol: IpProtocol::UDP,
            };
            let sent = self.send_out(sockets, packet, &out, turn);
            self.scratch = scratch;
            return sent;
        }
        let out = Outgoing {
            kind: FlowKind::Udp,
            from,
            inside: to,
            outside,
            payload: datagram.payload(),
            segment,
            protocol: IpProtocol::UDP,
        };
        self.send_out(sockets, packet, &out, turn)
    }

    /// The address and port to send to; tells the guest when there is none.
    fn open_destination(
        &mut self,
        packet: &Packet<'_>,
        from: SocketAddr,
        to: SocketAddr,
        turn: &mut Turn<'_>,
    ) -> Result<SocketAddr, Drop> {
        let outside = SocketAddr::new(canonical(to.ip()), to.port());
        if self.is_known_open(packet, from, outside, turn.reach.generation()) {
            return self.check_hops(packet, turn).map(|()| outside);
        }
        match turn.reach.decide(packet.ingress, to, IpProtocol::UDP, turn.now) {
            Verdict::Connect(outside) => self.check_hops(packet, turn).map(|()| outside),
            Verdict::Host(HostTarget::Address(service)) => Ok(service),
            // The socket of a path has no datagrams for guests.
            Verdict::Host(HostTarget::Path(_)) | Verdict::Gateway | Verdict::Closed => {
                self.tell(packet, Unreachable::Port, turn);
                Err(Drop::Closed)
            }
            Verdict::Group => Err(Drop::NotForwarded),
            Verdict::Deny => Err(self.deny(packet, turn).expect_err("it is denied")),
        }
    }

    /// True if the very destination was found open by the rules as they are.
    fn is_known_open(&self, packet: &Packet<'_>, from: SocketAddr, to: SocketAddr, generation: u64) -> bool {
        let slot = self.table.find(FlowKind::Udp, from, Family::of(to.ip()));
        let flow = slot.and_then(|slot| self.table.get(slot));
        let peer = flow.and_then(|flow| self.peers.find(flow.serial, to));
        !to.ip().is_loopback()
            && peer.is_some_and(|peer| {
                peer.generation == generation && peer.outside == to && peer.ingress == packet.ingress
            })
    }

    /// Tells the guest when the gateway is where the packet's last hop ends (RFC 1812 section 5.3.1).
    pub(super) fn check_hops(&mut self, packet: &Packet<'_>, turn: &mut Turn<'_>) -> Result<(), Drop> {
        if packet.hop_limit > 1 {
            return Ok(());
        }
        self.tell(packet, Unreachable::HopLimit, turn);
        Err(Drop::HopLimit)
    }

    /// Sends a guest's datagram by the socket of its address and port, which is opened where there is none.
    pub(super) fn send_out(
        &mut self,
        sockets: &mut impl DatagramSockets,
        packet: &Packet<'_>,
        out: &Outgoing<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Drop> {
        if !turn.rates.out.admit(out.payload.len(), turn.now) {
            return Err(Drop::RateLimit);
        }
        let slot = self.slot_for(sockets, packet, out, turn)?;
        let serial = self.table.get(slot).map_or(0, |flow| flow.serial);
        self.peers.note(
            Peer {
                identification: identification(packet),
                len: u16::try_from(packet.upper.len()).unwrap_or(u16::MAX),
                protocol: out.protocol,
                ..Peer::new(serial, out.outside, out.inside, packet.ingress, turn.reach.generation())
            },
            turn.now,
        );
        self.table.touch(slot, turn.now, |flow| {
            flow.short &= out.outside.port() < WELL_KNOWN;
            flow.peer = out.outside;
            flow.octets_out += out.payload.len() as u64;
        });
        let held = Held {
            slot,
            flow: slot,
            from: out.from,
            inside: out.inside,
            outside: out.outside,
            generation: turn.reach.generation(),
        };
        self.hold(sockets, held, packet, (out.payload, out.segment), turn)
    }

    /// Begins a run with a datagram, or sends it at once if it is none to hold.
    pub(super) fn hold(
        &mut self,
        sockets: &mut impl DatagramSockets,
        held: Held,
        packet: &Packet<'_>,
        (payload, segment): (&[u8], Option<u16>),
        turn: &mut Turn<'_>,
    ) -> Result<(), Drop> {
        if packet.protocol == IpProtocol::UDP && segment.is_none() && self.run.begin(held, packet, payload) {
            return Ok(());
        }
        self.transmit(sockets, held.slot, packet, (held.outside, payload, segment), 1, turn)
    }

    fn slot_for(
        &mut self,
        sockets: &mut impl DatagramSockets,
        packet: &Packet<'_>,
        out: &Outgoing<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<u32, Drop> {
        let family = Family::of(out.outside.ip());
        if let Some(slot) = self.table.find(out.kind, out.from, family) {
            let flow = self.table.get(slot).expect("a key has its flow");
            if (flow.ingress, flow.mac) == (packet.ingress, packet.mac) {
                return Ok(slot);
            }
            // The address is another guest's now, which gets no answers of the former one.
            self.end(sockets, slot);
        }
        let flow = Flow {
            mac: packet.mac,
            ingress: packet.ingress,
            peer: out.outside,
            ..Flow::new(out.kind, out.from, family, turn.now)
        };
        let slot = self.begin(sockets, flow, turn.now)?;
        let kind = if out.kind == FlowKind::Echo { SocketKind::Echo } else { SocketKind::Udp };
        match sockets.open(slot, kind, family) {
            Ok(()) => Ok(slot),
            Err(failed) => {
                self.table.remove(slot);
                Err(match (failed, kind) {
                    (OpenError::Unavailable, SocketKind::Echo) => Drop::EchoUnavailable,
                    (OpenError::Unavailable, SocketKind::Udp) => {
                        self.tell(packet, Unreachable::Network, turn);
                        Drop::Unreachable
                    }
                    (OpenError::Limit, _) => Drop::NoSocket,
                })
            }
        }
    }

    /// Hands `count` datagrams to a socket, once more when an earlier one's error came instead.
    pub(super) fn transmit(
        &mut self,
        sockets: &mut impl DatagramSockets,
        slot: u32,
        packet: &Packet<'_>,
        (to, payload, segment): (SocketAddr, &[u8], Option<u16>),
        count: u64,
        turn: &mut Turn<'_>,
    ) -> Result<(), Drop> {
        let control = Control {
            // A host service is no hop further.
            hop_limit: packet.hop_limit.saturating_sub(1).max(1),
            class: packet.class & NO_ECN,
            dont_fragment: packet.dont_fragment,
            segment,
        };
        let mut is_first = true;
        loop {
            let failed = match sockets.send(slot, to, payload, control) {
                Ok(()) => {
                    self.counts.sent += count;
                    return Ok(());
                }
                Err(SendError::Full) => return Err(Drop::SocketFull),
                Err(failed) => failed,
            };
            let drained = self.drain_errors(sockets, slot, turn);
            if is_first && (drained.earlier || failed == SendError::Other) {
                is_first = false;
                continue;
            }
            return Err(self.failed(packet, to, failed, drained.mtu, turn));
        }
    }

    fn failed(
        &mut self,
        packet: &Packet<'_>,
        to: SocketAddr,
        failed: SendError,
        mtu: u32,
        turn: &mut Turn<'_>,
    ) -> Drop {
        let kind = match failed {
            SendError::TooLarge => {
                // Of an IPv6 packet that leaves as IPv4 the header shrinks by 20 octets (RFC 7915 section 5.1).
                let shrinks = packet.source().is_ipv6() && to.is_ipv4();
                let mtu = if mtu == 0 { LEAST_MTU } else { mtu } + if shrinks { 20 } else { 0 };
                if packet.dont_fragment && packet.ip.len() as u64 > u64::from(mtu) {
                    self.tell(packet, Unreachable::TooBig(mtu), turn);
                }
                return Drop::TooBig;
            }
            SendError::Network => Unreachable::Network,
            SendError::Host => Unreachable::Host,
            SendError::Prohibited => Unreachable::Prohibited,
            SendError::Full | SendError::Other => return Drop::Unreachable,
        };
        self.tell(packet, kind, turn);
        Drop::Unreachable
    }
}

/// The MTU that is told when the host does not know better: the least of IPv6, which every path has nowadays.
const LEAST_MTU: u32 = 1280;

/// The number of an IPv4 packet among its sender's.
fn identification(packet: &Packet<'_>) -> u16 {
    Ipv4Packet::new_checked(packet.ip).map_or(0, |ip| ip.identification())
}

/// Octets of each datagram of a run, if the packet is one.
fn segment(offload: Offload, datagram: &UdpDatagram<&[u8]>) -> Result<Option<u16>, Drop> {
    match offload.gso_type {
        // A datagram that is to be cut into fragments is whole here.
        0 | Offload::UDP_FRAGMENTS => Ok(None),
        Offload::UDP if offload.gso_size == 0 => Err(Drop::BadHeader),
        Offload::UDP => {
            let size = offload.gso_size;
            Ok((usize::from(size) < datagram.payload().len()).then_some(size))
        }
        _ => Err(Drop::BadHeader),
    }
}

/// Finds the place in a datagram's payload from which a checksum is to be finished, and where it goes. `None` when it
/// is the datagram's own, which the host makes anew.
fn place_to_finish(packet: &Packet<'_>) -> Result<Option<(usize, usize)>, Drop> {
    if !packet.offload.needs_checksum() {
        return Ok(None);
    }
    let upper = ETHERNET_HEADER + packet.ip.len() - packet.upper.len();
    let start = usize::from(packet.offload.checksum_start).checked_sub(upper).ok_or(Drop::BadHeader)?;
    if start == 0 {
        return Ok(None);
    }
    let start = start.checked_sub(UdpRepr::HEADER_LEN).ok_or(Drop::BadHeader)?;
    Ok(Some((start, usize::from(packet.offload.checksum_offset))))
}

/// A copy of the payload whose sum from `start` on is complete.
fn finished<'s>(scratch: &'s mut [u8], payload: &[u8], start: usize, offset: usize) -> &'s [u8] {
    let copy = &mut scratch[..payload.len()];
    copy.copy_from_slice(payload);
    if let Some(covered) = copy.get_mut(start..)
        && covered.len() >= offset + 2
    {
        // 0 would be "none" in a UDP header; elsewhere ones are the same as 0.
        let sum = checksum::Sum::new().add_octets(covered).udp_checksum();
        covered[offset..offset + 2].copy_from_slice(&sum.to_be_bytes());
    }
    copy
}
