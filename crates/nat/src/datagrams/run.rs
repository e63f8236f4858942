//! Runs of datagrams on their way out.
//!
//! Theory of operation. A guest without segmentation offload sends a stream as so many frames of one size, one behind
//! the other. They are held until the batch of frames ends, and leave by one call, cut by the kernel (UDP_SEGMENT). A
//! datagram is held if it belongs to the run: same addresses, ports and header fields, same rules, no longer than those
//! before, which all have one length. Whatever else happens ends the run first, so no order changes.
//!
//! The first packet of a run is kept whole, headers and all, for the errors that quote it.

use std::net::SocketAddr;

use vmlan_frame::Offload;

use super::sockets::DatagramSockets;
use super::{Datagrams, Drop, LONGEST, Turn};
use crate::Packet;

/// Most datagrams of a run, as every kernel with UDP_SEGMENT takes (UDP_MAX_SEGMENTS of Linux 4.18).
const MOST: usize = 64;

/// Most octets of a run's payload, with some room below those of an IP packet.
const MOST_OCTETS: usize = 63 << 10;

/// The longest datagram that is held; larger ones gain nothing.
const LONGEST_HELD: usize = 9000;

/// A datagram of a run, beside its payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub slot: u32,
    /// The flow that the datagrams are counted for: a caller's is not the socket's.
    pub flow: u32,
    pub from: SocketAddr,
    pub inside: SocketAddr,
    pub outside: SocketAddr,
    pub generation: u64,
}

/// Datagrams that leave together.
pub(super) struct Run {
    held: Option<Held>,
    /// The first packet without its payload; its octets are in `octets`.
    first: Option<Packet<'static>>,
    /// Octets of the headers of the first packet.
    headers: usize,
    /// The place in it where the upper layer begins.
    upper: usize,
    /// Octets of the first payload, and of all but the last.
    segment: usize,
    count: usize,
    /// True if the last datagram is shorter: none follows it.
    is_closed: bool,
    /// The first packet, and behind it the payloads of the others.
    octets: Vec<u8>,
}

impl Run {
    pub fn new() -> Run {
        Run {
            held: None,
            first: None,
            headers: 0,
            upper: 0,
            segment: 0,
            count: 0,
            is_closed: false,
            octets: Vec::with_capacity(LONGEST),
        }
    }

    /// Appends a datagram of the run, if it is one; answers the flow.
    pub fn append(
        &mut self,
        packet: &Packet<'_>,
        (from, to): (SocketAddr, SocketAddr),
        payload: &[u8],
        generation: u64,
    ) -> Option<u32> {
        let (held, first) = (self.held.as_ref()?, self.first.as_ref()?);
        let is_same = (held.from, held.inside, held.generation) == (from, to, generation)
            && (first.mac, first.ingress) == (packet.mac, packet.ingress)
            && (first.hop_limit, first.class, first.dont_fragment)
                == (packet.hop_limit, packet.class, packet.dont_fragment);
        let fits = !self.is_closed
            && self.count < MOST
            && !payload.is_empty()
            && payload.len() <= self.segment
            && self.octets.len() + payload.len() <= MOST_OCTETS;
        if !is_same || !fits {
            return None;
        }
        self.octets.extend_from_slice(payload);
        self.count += 1;
        self.is_closed = payload.len() < self.segment;
        Some(held.flow)
    }

    /// Begins a run; false when the datagram is none to hold.
    pub fn begin(&mut self, held: Held, packet: &Packet<'_>, payload: &[u8]) -> bool {
        let headers = packet.ip.len() - payload.len().min(packet.ip.len());
        let is_plain = packet.offload.gso_type == 0 && packet.ip.get(headers..) == Some(payload);
        if !is_plain || payload.is_empty() || payload.len() > LONGEST_HELD {
            return false;
        }
        self.octets.clear();
        self.octets.extend_from_slice(packet.ip);
        self.held = Some(held);
        self.first = Some(Packet { ip: &[], upper: &[], offload: Offload::NONE, ..*packet });
        (self.headers, self.upper) = (headers, packet.ip.len() - packet.upper.len());
        (self.segment, self.count, self.is_closed) = (payload.len(), 1, false);
        true
    }

    /// True if the run is of a flow, or leaves by its socket.
    fn is_of(&self, slot: u32) -> bool {
        self.held.as_ref().is_some_and(|held| held.slot == slot || held.flow == slot)
    }
}

impl Datagrams {
    /// Sends what [`Datagrams::take`] holds back, so that datagrams that follow each other leave together. Call it
    /// after the last packet of a batch.
    pub fn flush(&mut self, sockets: &mut impl DatagramSockets, turn: &mut Turn<'_>) {
        let Some(held) = self.run.held.take() else { return };
        let Some(first) = self.run.first.take() else { return };
        let octets = std::mem::take(&mut self.run.octets);
        let (headers, segment, count) = (self.run.headers, self.run.segment, self.run.count);
        let ip = &octets[..headers + segment];
        let packet = Packet { ip, upper: &ip[self.run.upper..], ..first };
        let segment = u16::try_from(segment).ok().filter(|_| count > 1);
        let payload = &octets[headers..];
        if let Err(reason) =
            self.transmit(sockets, held.slot, &packet, (held.outside, payload, segment), count as u64, turn)
        {
            self.counts.drop_many(reason, count as u64);
        }
        self.run.octets = octets;
    }

    /// Drops what is held for a flow that is going away.
    pub(super) fn discard(&mut self, slot: u32) {
        if self.run.is_of(slot) {
            (self.run.held, self.run.first) = (None, None);
            self.counts.drop_many(Drop::FlowLimit, self.run.count as u64);
        }
    }
}
