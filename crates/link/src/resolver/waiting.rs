//! Packets that wait for a link address, and those whose wait is over.
//!
//! Packets are copied out of the worker's pool, so that one who waits pins no buffer and the resolver may be used from
//! any thread. They are bounded for each neighbour and together. When a neighbour's queue is full, its oldest packet
//! goes (RFC 4861 7.2.2); when there is no room at all, the newest.

use core::net::IpAddr;
use std::collections::{HashMap, VecDeque};

use vmlan_frame::{Frame, MacAddr, Meta};

/// A copied packet, without link header.
pub(super) struct Packet {
    pub(super) octets: Box<[u8]>,
    pub(super) meta: Meta,
}

/// The outcome for a packet that was to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pushed {
    /// It waits.
    Kept,
    /// It waits in the place of the oldest one, which is gone.
    Replaced,
    /// There is no room for it.
    Refused,
}

pub(super) struct Waiting {
    queues: HashMap<IpAddr, VecDeque<Packet>>,
    released: VecDeque<(MacAddr, Packet)>,
    /// How many there are, waiting and released.
    packets: usize,
    octets: usize,
    limit_each: usize,
    limit_packets: usize,
    limit_octets: usize,
}

impl Waiting {
    pub(super) fn new(each: usize, packets: usize, octets: usize) -> Waiting {
        Waiting {
            queues: HashMap::new(),
            released: VecDeque::new(),
            packets: 0,
            octets: 0,
            limit_each: each,
            limit_packets: packets,
            limit_octets: octets,
        }
    }

    /// Copies a packet behind those that wait for `neighbour`.
    pub(super) fn push(&mut self, neighbour: IpAddr, packet: &Frame) -> Pushed {
        let queue = self.queues.get(&neighbour);
        let full = queue.is_some_and(|queue| queue.len() >= self.limit_each);
        let oldest = queue.and_then(VecDeque::front).filter(|_| full).map_or(0, |oldest| oldest.octets.len());
        let packets = self.packets - usize::from(full) + 1;
        let octets = self.octets - oldest + packet.len();
        if self.limit_each == 0 || packets > self.limit_packets || octets > self.limit_octets {
            return Pushed::Refused;
        }
        let queue = self.queues.entry(neighbour).or_default();
        if full {
            queue.pop_front();
        }
        queue.push_back(Packet { octets: packet.octets().into(), meta: packet.meta });
        (self.packets, self.octets) = (packets, octets);
        if full { Pushed::Replaced } else { Pushed::Kept }
    }

    /// Lets the packets for `neighbour` go to `mac`; whether there are any.
    pub(super) fn release(&mut self, neighbour: IpAddr, mac: MacAddr) -> bool {
        let Some(queue) = self.queues.remove(&neighbour) else { return false };
        self.released.extend(queue.into_iter().map(|packet| (mac, packet)));
        true
    }

    /// Frees the packets for `neighbour`; how many there were.
    pub(super) fn discard(&mut self, neighbour: IpAddr) -> u64 {
        let queue = self.queues.remove(&neighbour).unwrap_or_default();
        self.packets -= queue.len();
        self.octets -= queue.iter().map(|packet| packet.octets.len()).sum::<usize>();
        queue.len() as u64
    }

    /// The oldest packet whose wait is over.
    pub(super) fn pop(&mut self) -> Option<(MacAddr, Packet)> {
        let (mac, packet) = self.released.pop_front()?;
        self.packets -= 1;
        self.octets -= packet.octets.len();
        Some((mac, packet))
    }

    /// True if a packet waits no longer.
    pub(super) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// How many packets there are, waiting and released, and their octets.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.packets, self.octets)
    }
}
