//! The peers that guests sent to: whose datagrams come in, and where errors belong.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use vmlan_frame::Instant;
use vmlan_frame::wire::IpProtocol;

use crate::chain::{Chain, List};
use crate::keyed::Keyed;

/// The time that a peer has to answer. Every datagram begins it anew.
const LIFETIME: Duration = Duration::from_secs(300);

/// Most peers of one guest; with more, the one that was quiet longest is forgotten.
const PER_GUEST: usize = 8192;

/// Flow and outside address; the port where that counts.
type Key = (u32, IpAddr, u16);

/// A peer of a flow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// The flow's serial number.
    pub serial: u32,
    /// Its outside address and the port that was sent to last.
    pub outside: SocketAddr,
    /// The address and port that the guest sent to.
    pub inside: SocketAddr,
    pub ingress: u16,
    /// The protocol of the guest's packets.
    pub protocol: IpProtocol,
    /// The state of the rules when the destination was found open.
    pub generation: u64,
    /// Identification of the last packet, for errors that quote it.
    pub identification: u16,
    /// Octets of its payload.
    pub len: u16,
    pub last: Instant,
}

impl Peer {
    pub fn new(serial: u32, outside: SocketAddr, inside: SocketAddr, ingress: u16, generation: u64) -> Peer {
        let last = Instant::ZERO;
        let protocol = IpProtocol::UDP;
        Peer { serial, outside, inside, ingress, protocol, generation, identification: 0, len: 0, last }
    }

    /// The address and port that a datagram from `from` has towards the guest.
    pub fn seen_as(&self, from: SocketAddr) -> SocketAddr {
        let port = if from.port() == self.outside.port() { self.inside.port() } else { from.port() };
        SocketAddr::new(self.inside.ip(), port)
    }
}

/// Filtering depends on the address (RFC 4787 section 5), but for the host's own services: of those one was opened, and
/// others are at the same address.
fn key(serial: u32, outside: SocketAddr) -> Key {
    (serial, outside.ip(), if outside.ip().is_loopback() { outside.port() } else { 0 })
}

/// All peers.
#[derive(Debug)]
pub(super) struct Peers {
    slots: Vec<Option<Peer>>,
    free: Vec<u32>,
    keys: HashMap<Key, u32, Keyed>,
    ages: Chain,
    all: List,
    owners: Chain,
    /// By number of the port.
    guests: Vec<(List, usize)>,
}

impl Peers {
    pub fn new(keyed: Keyed) -> Peers {
        Peers {
            slots: Vec::new(),
            free: Vec::new(),
            keys: HashMap::with_hasher(keyed),
            ages: Chain::default(),
            all: List::default(),
            owners: Chain::default(),
            guests: Vec::new(),
        }
    }

    #[inline]
    pub fn find(&self, serial: u32, outside: SocketAddr) -> Option<&Peer> {
        let slot = *self.keys.get(&key(serial, outside))?;
        self.slots[slot as usize].as_ref()
    }

    /// Notes a datagram from or to a peer; of a new one too.
    pub fn note(&mut self, peer: Peer, now: Instant) {
        let key = key(peer.serial, peer.outside);
        if let Some(slot) = self.keys.get(&key).copied() {
            let known = self.slots[slot as usize].as_mut().expect("a key has its peer");
            *known = Peer { last: now, ..peer };
            self.ages.remove(&mut self.all, slot);
            self.ages.push(&mut self.all, slot);
            let (list, _) = &mut self.guests[usize::from(peer.ingress)];
            self.owners.remove(list, slot);
            self.owners.push(list, slot);
            return;
        }
        let ingress = usize::from(peer.ingress);
        if self.guests.len() <= ingress {
            self.guests.resize_with(ingress + 1, Default::default);
        }
        if self.guests[ingress].1 >= PER_GUEST
            && let Some(oldest) = self.guests[ingress].0.first()
        {
            self.remove(oldest);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.ages.grow(self.slots.len());
            self.owners.grow(self.slots.len());
            (self.slots.len() - 1) as u32
        });
        self.slots[slot as usize] = Some(Peer { last: now, ..peer });
        self.keys.insert(key, slot);
        self.ages.push(&mut self.all, slot);
        let (list, count) = &mut self.guests[ingress];
        self.owners.push(list, slot);
        *count += 1;
    }

    fn remove(&mut self, slot: u32) {
        let Some(peer) = self.slots[slot as usize].take() else { return };
        self.keys.remove(&key(peer.serial, peer.outside));
        self.ages.remove(&mut self.all, slot);
        let (list, count) = &mut self.guests[usize::from(peer.ingress)];
        self.owners.remove(list, slot);
        *count -= 1;
        self.free.push(slot);
    }

    pub fn forget_guest(&mut self, ingress: u16) {
        while let Some(slot) = self.guests.get(usize::from(ingress)).and_then(|(list, _)| list.first()) {
            self.remove(slot);
        }
    }

    /// Keeps only peers that `keep` wants.
    pub fn retain(&mut self, mut keep: impl FnMut(&mut Peer) -> bool) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_mut().is_some_and(|peer| !keep(peer)) {
                self.remove(slot as u32);
            }
        }
    }

    /// Forgets at most `most` peers whose time is over.
    pub fn expire(&mut self, now: Instant, most: usize) {
        for _ in 0..most {
            match self.next_end() {
                Some(end) if end <= now => self.all.first().into_iter().for_each(|slot| self.remove(slot)),
                _ => break,
            }
        }
    }

    /// The time at which the next one is over.
    pub fn next_end(&self) -> Option<Instant> {
        let peer = self.slots[self.all.first()? as usize].as_ref()?;
        Some(peer.last + LIFETIME)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn peer(number: u32, port: u16) -> Peer {
        let outside = SocketAddr::new(Ipv4Addr::from_bits(number).into(), port);
        Peer::new(1, outside, outside, 3, 0)
    }

    #[test]
    fn a_guest_has_so_many_peers_and_each_its_time() {
        let mut peers = Peers::new(Keyed([1, 2]));
        for number in 0..10_000 {
            peers.note(peer(0x0900_0000 + number, 9), Instant::from_secs(number.into()));
        }
        assert_eq!(peers.len(), PER_GUEST);
        assert_eq!(peers.next_end(), Some(Instant::from_secs(10_000 - 8192 + 300)));
        peers.expire(Instant::from_secs(10_000), usize::MAX);
        assert_eq!(peers.len(), 299);
        peers.forget_guest(3);
        assert_eq!((peers.len(), peers.next_end()), (0, None));
    }

    #[test]
    fn the_port_counts_for_the_hosts_services_only() {
        let mut peers = Peers::new(Keyed([1, 2]));
        for address in [0x7f00_0001, 0x0909_0909] {
            peers.note(peer(address, 53), Instant::ZERO);
        }
        assert!(peers.find(1, peer(0x7f00_0001, 53).outside).is_some());
        assert!(peers.find(1, peer(0x7f00_0001, 54).outside).is_none());
        assert!(peers.find(1, peer(0x0909_0909, 54).outside).is_some());
        assert!(peers.find(2, peer(0x0909_0909, 53).outside).is_none());
    }
}
