//! Datagrams to guests.

use std::net::SocketAddr;

use vmlan_frame::wire::{IpProtocol, Ipv6Repr, UdpRepr};
use vmlan_frame::{ETHERNET_HEADER, Frame, MacAddr, Offload, Pool, Size, WriteBuf, offload};

use super::drops::Drop;
use super::flow::FlowKind;
use super::sockets::{DatagramSockets, Family, Received};
use super::{A_TURN, Datagrams, Turn};
use crate::Envelope;
use crate::fragments::fragment;
use crate::reach::Verdict;

/// Octets in front of a payload in its buffer: room for the longest headers.
pub(super) const HEADROOM: usize = ETHERNET_HEADER + Ipv6Repr::HEADER_LEN + UdpRepr::HEADER_LEN;

/// The checksum's place in a UDP header.
pub(super) const UDP_CHECKSUM: usize = 6;

/// The way of a datagram to its guest.
struct Way {
    mac: MacAddr,
    from: SocketAddr,
    to: SocketAddr,
}

impl Datagrams {
    /// Moves what came for the socket in a slot, and its errors, to the guest: at most `room` frames, though a datagram
    /// that is longer than a frame comes whole. True when there may be more, for which readiness need not be told
    /// again.
    pub fn ready(
        &mut self,
        sockets: &mut impl DatagramSockets,
        slot: u32,
        room: usize,
        turn: &mut Turn<'_>,
    ) -> bool {
        let Some(kind) = self.table.get(slot).map(|flow| flow.kind) else { return false };
        let more = self.drain_errors(sockets, slot, turn).more;
        let before = turn.out.len();
        for _ in 0..A_TURN {
            if turn.out.len() - before >= room {
                return true;
            }
            let Some(mut buffer) = turn.pool.take(Size::Large) else {
                // It stays in the socket, whose own limit drops what is too much.
                return true;
            };
            let Some(received) = sockets.receive(slot, &mut buffer[HEADROOM..]) else { return more };
            self.counts.received += 1;
            let delivered = match kind {
                _ if received.truncated => Err(Drop::BadAnswer),
                _ if !turn.rates.inward.admit(received.len, turn.now) => Err(Drop::RateLimit),
                FlowKind::Udp => self.receive_udp(slot, received, buffer, turn),
                FlowKind::Echo => self.receive_echo(slot, received, buffer, turn),
                FlowKind::Forward => self.receive_call(sockets, slot, received, buffer, turn),
                FlowKind::Caller => Err(Drop::BadAnswer),
            };
            match delivered {
                Ok(()) => self.counts.delivered += 1,
                Err(reason) => self.counts.drop(reason),
            }
        }
        true
    }

    fn receive_udp(
        &mut self,
        slot: u32,
        received: Received,
        buffer: WriteBuf,
        turn: &mut Turn<'_>,
    ) -> Result<(), Drop> {
        let flow = self.table.get(slot).ok_or(Drop::Stranger)?;
        let (guest, mac, ingress) = (flow.guest, flow.mac, flow.ingress);
        let from = match self.peers.find(flow.serial, received.from) {
            Some(peer) => {
                let (seen, known) = (peer.seen_as(received.from), *peer);
                self.peers.note(known, turn.now);
                seen
            }
            None if self.settings.open_filter => self.open_stranger(guest, ingress, received.from, turn)?,
            None => return Err(Drop::Stranger),
        };
        self.table.touch(slot, turn.now, |flow| {
            flow.answered = true;
            flow.peer = received.from;
            flow.octets_in += received.len as u64;
        });
        self.deliver(&Way { mac, from, to: guest }, received, buffer, turn)
    }

    /// The address of a stranger towards a guest, whose rules would let it answer.
    fn open_stranger(
        &self,
        guest: SocketAddr,
        ingress: u16,
        from: SocketAddr,
        turn: &Turn<'_>,
    ) -> Result<SocketAddr, Drop> {
        let seen = SocketAddr::new(self.inside(from.ip(), Family::of(guest.ip())), from.port());
        match turn.reach.decide(ingress, seen, IpProtocol::UDP, turn.now) {
            Verdict::Connect(_) => Ok(seen),
            _ => Err(Drop::Stranger),
        }
    }

    fn receive_call(
        &mut self,
        sockets: &mut impl DatagramSockets,
        listener: u32,
        received: Received,
        buffer: WriteBuf,
        turn: &mut Turn<'_>,
    ) -> Result<(), Drop> {
        let slot = self.caller(sockets, listener, received.from, turn)?;
        let flow = self.table.get(slot).ok_or(Drop::Stranger)?;
        let way = Way { mac: flow.mac, from: flow.inside, to: flow.guest };
        self.table.touch(slot, turn.now, |flow| flow.octets_in += received.len as u64);
        self.deliver(&way, received, buffer, turn)
    }

    /// Makes frames of a datagram, or a run of them, which is in `buffer` behind the headroom.
    fn deliver(
        &mut self,
        way: &Way,
        received: Received,
        mut buffer: WriteBuf,
        turn: &mut Turn<'_>,
    ) -> Result<(), Drop> {
        let addresses = (way.from.ip(), way.to.ip());
        let envelope = Envelope::new(way.mac, self.settings.gateway_mac, addresses, IpProtocol::UDP)
            .ok_or(Drop::BadAnswer)?;
        let ports = UdpRepr { source_port: way.from.port(), destination_port: way.to.port() };
        let headers = envelope.header_len() + UdpRepr::HEADER_LEN;
        // Octets of payload that fit a frame, and the longest datagram of the family.
        let fits = (usize::from(self.settings.mtu) + ETHERNET_HEADER).saturating_sub(headers);
        let longest = usize::from(u16::MAX) + ETHERNET_HEADER
            - match way.to {
                SocketAddr::V4(_) => headers,
                SocketAddr::V6(_) => headers - Ipv6Repr::HEADER_LEN,
            };
        let len = received.len;
        let segment = received.segment.map(usize::from).filter(|segment| *segment > 0 && *segment < len);
        let start = HEADROOM - headers;
        match segment {
            Some(segment)
                if segment <= fits && len <= longest && len.div_ceil(segment) <= offload::MAX_DATAGRAMS =>
            {
                let octets = &mut buffer[start..HEADROOM + len];
                let request = emit_open(octets, &envelope, ports);
                let mut frame = buffer.into_frame(start..HEADROOM + len);
                frame.meta.offload = Offload {
                    gso_type: Offload::UDP,
                    gso_size: segment as u16,
                    header_len: headers as u16,
                    ..request
                };
                turn.out.push_back(frame);
                Ok(())
            }
            Some(segment) => {
                // The headers of a piece overwrite the end of the one before, which has gone.
                for at in (0..len).step_by(segment) {
                    let piece = HEADROOM + at..HEADROOM + len.min(at + segment);
                    self.deliver_one(&envelope, ports, fits, &mut buffer, piece, turn)?;
                }
                Ok(())
            }
            None if len > longest => Err(Drop::TooBig),
            None if len <= fits && HEADROOM + len > Size::Small.octets() => {
                let request = emit_open(&mut buffer[start..HEADROOM + len], &envelope, ports);
                let mut frame = buffer.into_frame(start..HEADROOM + len);
                frame.meta.offload = request;
                turn.out.push_back(frame);
                Ok(())
            }
            None => self.deliver_one(&envelope, ports, fits, &mut buffer, HEADROOM..HEADROOM + len, turn),
        }
    }

    /// Makes a frame of its own, or fragments, of the datagram whose payload is in `range`.
    fn deliver_one(
        &mut self,
        envelope: &Envelope,
        ports: UdpRepr,
        fits: usize,
        buffer: &mut WriteBuf,
        range: std::ops::Range<usize>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Drop> {
        if range.len() > fits {
            let datagram = &mut buffer[range.start - UdpRepr::HEADER_LEN..range.end];
            ports.emit(datagram, &envelope.addresses);
            return self.deliver_fragments(envelope, datagram, turn);
        }
        let octets = &mut buffer[range.start - envelope.header_len() - UdpRepr::HEADER_LEN..range.end];
        let request = emit_open(octets, envelope, ports);
        let mut frame = turn.pool.copy(octets).ok_or(Drop::NoBuffer)?;
        frame.meta.offload = request;
        turn.out.push_back(frame);
        Ok(())
    }

    pub(super) fn deliver_fragments(
        &mut self,
        envelope: &Envelope,
        upper: &[u8],
        turn: &mut Turn<'_>,
    ) -> Result<(), Drop> {
        let number = self.random();
        let mtu = usize::from(self.settings.mtu);
        let made = fragment(envelope, upper, mtu, number, turn.pool, turn.out);
        if made { Ok(()) } else { Err(Drop::NoBuffer) }
    }
}

/// Writes all headers in front of a payload, with the checksum left to be finished.
fn emit_open(octets: &mut [u8], envelope: &Envelope, ports: UdpRepr) -> Offload {
    let upper = envelope.header_len();
    let len = octets.len() - upper;
    envelope.emit(octets, len);
    let datagram = &mut octets[upper..upper + UdpRepr::HEADER_LEN];
    let sum = envelope.addresses.pseudo_header(IpProtocol::UDP, len as u32).fold();
    let fields = [ports.source_port, ports.destination_port, len as u16, sum];
    for (place, field) in fields.into_iter().enumerate() {
        datagram[2 * place..2 * place + 2].copy_from_slice(&field.to_be_bytes());
    }
    Offload {
        flags: Offload::NEEDS_CHECKSUM,
        checksum_start: upper as u16,
        checksum_offset: UDP_CHECKSUM as u16,
        ..Offload::NONE
    }
}

/// Makes the frame of a datagram of the gateway's own services, as DNS: from one of its addresses to a guest. `None`
/// when it is larger than `mtu`, when no buffer is free, or for addresses of two families.
pub fn datagram(
    (mac, to): (MacAddr, SocketAddr),
    (gateway, from): (MacAddr, SocketAddr),
    payload: &[u8],
    mtu: u16,
    pool: &Pool,
) -> Option<Frame> {
    let envelope = Envelope::new(mac, gateway, (from.ip(), to.ip()), IpProtocol::UDP)?;
    let len = UdpRepr::HEADER_LEN + payload.len();
    if envelope.header_len() - ETHERNET_HEADER + len > usize::from(mtu) {
        return None;
    }
    envelope.frame(pool, len, |datagram, addresses| {
        datagram[UdpRepr::HEADER_LEN..].copy_from_slice(payload);
        UdpRepr { source_port: from.port(), destination_port: to.port() }.emit(datagram, addresses);
    })
}
