//! Which guest has which IP address, in a network whose guests' claims are examined.
//!
//! Theory of operation. A guest's addresses are learnt from what it says about itself: its ARP and neighbour discovery,
//! and in shared-MAC mode every packet that it sends. Each port holds [`PER_FAMILY`] addresses of each family; one more
//! pushes out the one that was learnt first. Everything is allocated when a port is added, and the data path holds the
//! lock around the table for a batch at most.
//!
//! An address is one guest's. Another guest that claims it in ARP or neighbour discovery, or that a DHCP server leases
//! it to, gets it at once only when the first was silent for [`HOLD`] seconds, or when its port may have the address
//! (`PortPolicy::floating`). Otherwise the first is asked, once a second at most, and who does not answer loses it
//! (`challenge`). A packet's source is no ground to take an address from another guest. The host's own addresses are
//! nobody else's.

use core::fmt;
use core::hash::BuildHasher;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use siphasher::sip::SipHasher13;
use vmlan_frame::{MacAddr, SecondaryMap, VlanId};

use crate::PortId;
use crate::trunk::{Notify, TrunkNotice};
use crate::vlan::Membership;

/// How many IPv4 and how many IPv6 addresses a port holds.
pub(crate) const PER_FAMILY: usize = 32;

/// For how many seconds a silent guest keeps an address that another one claims.
pub(crate) const HOLD: u32 = 10;

/// An address in a VLAN; VLAN 1 in a network without VLANs.
pub(crate) type Key = (VlanId, IpAddr);

/// An IP address that the host has on the trunk's interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HostAddress {
    /// The address.
    pub address: IpAddr,
    /// The VLAN with whose tag the host speaks from it, as on a VLAN interface; `None` without a tag.
    pub tag: Option<VlanId>,
}

impl<A: Into<IpAddr>> From<A> for HostAddress {
    /// One that the host speaks from without a tag.
    fn from(address: A) -> HostAddress {
        HostAddress { address: address.into(), tag: None }
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        self.tag.map_or(Ok(()), |tag| write!(f, " (VLAN {})", tag.get()))
    }
}

/// The owner of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owner {
    pub(crate) port: PortId,
    pub(crate) mac: MacAddr,
    /// When it was heard from last, in seconds.
    seen: u32,
    /// When it was last asked whether it still has the address, in seconds.
    asked: Option<u32>,
    /// It has not said anything of the address since.
    owes: bool,
}

/// For how many seconds an answer may be due before the question counts as lost.
const FORGOTTEN: u32 = 3;

/// The guest that an address is claimed for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimant {
    pub(crate) port: PortId,
    pub(crate) mac: MacAddr,
    pub(crate) ground: Ground,
    /// True if the forwarding database has the MAC address behind the port.
    pub(crate) is_there: bool,
    /// True if the claim need not wait for the former owner's silence.
    pub(crate) at_once: bool,
}

/// The ground of a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ground {
    /// The guest's ARP or neighbour discovery.
    Said,
    /// The source of the guest's packet.
    Used,
    /// A DHCP server's word.
    Leased,
}

/// The ruling on a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ruling {
    /// The guest has the address.
    Granted,
    /// The guest has the address, which was that one's.
    Moved(Owner),
    /// Another guest has it.
    Taken(Owner),
    /// The host has it.
    Host,
    /// The port is not, or no longer, in the network.
    Gone,
}

pub(crate) struct Addresses {
    owners: HashMap<Key, Owner, Seed>,
    ports: SecondaryMap<PortId, Held>,
    /// The host's addresses.
    host: BTreeSet<HostAddress>,
    /// The same in the network's VLANs: nobody else's.
    blocked: BTreeSet<Key>,
    notify: Option<Notify>,
}

/// The addresses that a port holds, by family, in the order in which they were learnt.
struct Held {
    families: [Fifo; 2],
}

/// At most [`PER_FAMILY`] keys, oldest first.
struct Fifo(Vec<Key>);

/// Addresses come from guests, so the hash is keyed.
struct Seed([u64; 2]);

impl BuildHasher for Seed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0[0], self.0[1])
    }
}

impl Addresses {
    pub(crate) fn new(seed: [u64; 2]) -> Addresses {
        let owners = HashMap::with_hasher(Seed(seed));
        let (host, blocked) = (BTreeSet::new(), BTreeSet::new());
        Addresses { owners, ports: SecondaryMap::new(), host, blocked, notify: None }
    }

    /// Keeps the addresses of these ports only, makes room for theirs, and tells `notify` of changes.
    pub(crate) fn keep(&mut self, ports: impl Iterator<Item = PortId>, notify: Option<Notify>) {
        self.ports = ports.map(|port| (port, self.ports.remove(port).unwrap_or_else(Held::new))).collect();
        let ports = &self.ports;
        let before = self.owners.len();
        self.owners.retain(|_, owner| ports.get(owner.port).is_some());
        let limit = 2 * PER_FAMILY * ports.values().count();
        // Twice what can be in it: removed entries then never make the table grow.
        self.owners.reserve((2 * limit).saturating_sub(self.owners.len()));
        self.notify = notify;
        if self.owners.len() != before {
            self.tell();
        }
    }

    /// Returns the owner of the address.
    #[inline]
    pub(crate) fn owner(&self, key: Key) -> Option<Owner> {
        self.owners.get(&key).copied()
    }

    /// Every address, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, Owner)> {
        self.owners.iter().map(|(key, owner)| (*key, *owner))
    }

    /// Gives the address to the claimant, if nobody has a better claim.
    pub(crate) fn claim(&mut self, key: Key, claimant: Claimant, now: u32) -> Ruling {
        let Claimant { port, mac, ground, is_there, at_once } = claimant;
        let mut claimed = Owner { port, mac, seen: now, asked: None, owes: false };
        let mut former = None;
        if let Some(owner) = self.owners.get_mut(&key) {
            claimed.asked = owner.asked;
            if owner.port == port {
                let before = core::mem::replace(owner, claimed);
                if before.mac == mac {
                    return Ruling::Granted;
                }
                self.tell();
                return Ruling::Moved(before);
            }
            let takes_along = owner.mac == mac && is_there;
            let is_silent = now.saturating_sub(owner.seen) >= HOLD;
            if !takes_along && (ground == Ground::Used || !is_silent && !at_once) {
                return Ruling::Taken(*owner);
            }
            former = Some(*owner);
        }
        if self.blocked.contains(&key) {
            return Ruling::Host;
        }
        if self.ports.get(port).is_none() {
            return Ruling::Gone;
        }
        self.forget(key);
        let Some(held) = self.ports.get_mut(port) else { return Ruling::Gone };
        if let Some(oldest) = held.family(key.1).push(key) {
            self.owners.remove(&oldest);
        }
        self.owners.insert(key, claimed);
        self.tell();
        former.map_or(Ruling::Granted, Ruling::Moved)
    }

    /// Notes that the owner of the address is asked whether it still has it; false when it was asked just before.
    pub(crate) fn ask(&mut self, key: Key, now: u32) -> bool {
        let Some(owner) = self.owners.get_mut(&key) else { return false };
        let since = owner.asked.map(|asked| now.saturating_sub(asked));
        let wait = if owner.owes { FORGOTTEN } else { 1 };
        if since.is_some_and(|since| since < wait) {
            return false;
        }
        (owner.asked, owner.owes) = (Some(now), true);
        true
    }

    /// True if `owner` was asked and has said nothing of the address since. True as well when the address has no owner
    /// by now.
    pub(crate) fn is_given_up(&self, key: Key, owner: Owner) -> bool {
        self.owner(key).is_none_or(|now| now.owes && (now.port, now.mac) == (owner.port, owner.mac))
    }

    /// Forgets the owner of the address; false when it has none.
    pub(crate) fn forget(&mut self, key: Key) -> bool {
        let Some(owner) = self.owners.remove(&key) else { return false };
        if let Some(held) = self.ports.get_mut(owner.port) {
            held.family(key.1).remove(key);
        }
        self.tell();
        true
    }

    /// Forgets that `port` has the address.
    pub(crate) fn forget_at(&mut self, key: Key, port: PortId) {
        if self.owner(key).is_some_and(|owner| owner.port == port) {
            self.forget(key);
        }
    }

    /// Notes that the host has the address; false when that was known. [`Addresses::block`] makes it so.
    pub(crate) fn add_host(&mut self, address: HostAddress) -> bool {
        self.host.insert(address)
    }

    /// Notes that the host does not have the address; false when it did not.
    pub(crate) fn remove_host(&mut self, address: HostAddress) -> bool {
        self.host.remove(&address)
    }

    /// The host's addresses, in ascending order.
    pub(crate) fn host(&self) -> impl Iterator<Item = HostAddress> {
        self.host.iter().copied()
    }

    /// Keeps guests from the host's addresses, each in the VLAN that its tag stands for at the trunk, and returns
    /// these.
    pub(crate) fn block(&mut self, trunk: Option<&Membership>) -> Box<[Key]> {
        let key = |host: &HostAddress| Some((trunk?.vlan_of(host.tag)?, host.address));
        self.blocked = self.host.iter().filter_map(key).collect();
        self.blocked.iter().copied().collect()
    }

    /// Takes the host's addresses from the guests that have them, and returns these.
    pub(crate) fn evict(&mut self) -> Vec<(IpAddr, Owner)> {
        let blocked = core::mem::take(&mut self.blocked);
        let lost = blocked.iter().filter_map(|key| Some((*key, self.owner(*key)?)));
        let lost = Vec::from_iter(lost);
        self.blocked = blocked;
        for (key, _) in &lost {
            self.forget(*key);
        }
        lost.into_iter().map(|((_, address), owner)| (address, owner)).collect()
    }

    fn tell(&self) {
        if let Some(notify) = &self.notify {
            notify(TrunkNotice::SharedAddresses);
        }
    }
}

impl Held {
    fn new() -> Held {
        Held { families: [(); 2].map(|()| Fifo(Vec::with_capacity(PER_FAMILY))) }
    }

    fn family(&mut self, address: IpAddr) -> &mut Fifo {
        &mut self.families[usize::from(address.is_ipv6())]
    }
}

impl Fifo {
    /// Adds a key, and returns the one that it pushes out.
    fn push(&mut self, key: Key) -> Option<Key> {
        let oldest = (self.0.len() == PER_FAMILY).then(|| self.0.remove(0));
        self.0.push(key);
        oldest
    }

    fn remove(&mut self, key: Key) {
        self.0.retain(|held| *held != key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PortId = PortId::new(0, 0);
    const B: PortId = PortId::new(3, 1);
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn key(n: u8) -> Key {
        (VlanId::DEFAULT, IpAddr::from([10, 0, 0, n]))
    }

    fn says(port: PortId, mac: MacAddr) -> Claimant {
        Claimant { port, mac, ground: Ground::Said, is_there: true, at_once: false }
    }

    /// A claim's outcome without times: who has the address, or had it.
    fn short(ruling: Ruling) -> (&'static str, Option<PortId>) {
        match ruling {
            Ruling::Granted => ("granted", None),
            Ruling::Moved(owner) => ("moved", Some(owner.port)),
            Ruling::Taken(owner) => ("taken", Some(owner.port)),
            Ruling::Host => ("host", None),
            Ruling::Gone => ("gone", None),
        }
    }

    fn taken(port: PortId) -> (&'static str, Option<PortId>) {
        ("taken", Some(port))
    }

    fn moved(port: PortId) -> (&'static str, Option<PortId>) {
        ("moved", Some(port))
    }

    fn addresses() -> Addresses {
        let mut addresses = Addresses::new([1, 2]);
        addresses.keep([A, B].into_iter(), None);
        addresses
    }

    #[test]
    fn the_first_address_makes_room_for_the_33rd() {
        let mut addresses = addresses();
        (0..33).for_each(|n| {
            assert_eq!(short(addresses.claim(key(n), says(A, MAC), 0)), short(Ruling::Granted))
        });
        assert_eq!((addresses.owner(key(0)), addresses.iter().count()), (None, 32));
        let six = (VlanId::DEFAULT, "fe80::1".parse().unwrap());
        assert_eq!(short(addresses.claim(six, says(A, MAC), 0)), short(Ruling::Granted));
        assert!(addresses.owner(key(1)).is_some());
        // Being heard again does not make an address younger.
        addresses.claim(key(1), says(A, MAC), 5);
        addresses.claim(key(99), says(A, MAC), 5);
        assert!(addresses.owner(key(1)).is_none());
    }

    #[test]
    fn an_address_moves_when_its_guest_is_silent() {
        let mut addresses = addresses();
        addresses.claim(key(1), says(A, MAC), 100);
        assert_eq!(short(addresses.claim(key(1), says(B, OTHER), 109)), taken(A));
        addresses.claim(key(1), says(A, MAC), 105);
        assert_eq!(short(addresses.claim(key(1), says(B, OTHER), 114)), taken(A));
        assert_eq!(short(addresses.claim(key(1), says(B, OTHER), 115)), moved(A));
        assert_eq!(addresses.owner(key(1)).map(|owner| owner.port), Some(B));
        addresses.forget_at(key(1), A);
        assert!(addresses.owner(key(1)).is_some());
        addresses.forget_at(key(1), B);
        assert!(addresses.owner(key(1)).is_none());
    }

    #[test]
    fn an_owner_that_says_nothing_when_it_is_asked_gives_its_address_up() {
        let mut addresses = addresses();
        addresses.claim(key(1), says(A, MAC), 100);
        let Ruling::Taken(owner) = addresses.claim(key(1), says(B, OTHER), 100) else { panic!("it is A's") };
        assert!(!addresses.is_given_up(key(1), owner), "it was not asked");
        assert!(addresses.ask(key(1), 100));
        assert!(!addresses.ask(key(1), 102), "an answer may be due");
        assert!(addresses.is_given_up(key(1), owner));
        addresses.claim(key(1), says(A, MAC), 102);
        assert!(!addresses.is_given_up(key(1), owner), "it answered");
        assert!(!addresses.ask(key(1), 100), "once a second");
        assert!(addresses.ask(key(1), 103) && !addresses.ask(key(1), 105) && addresses.ask(key(1), 106));
        let at_once = Claimant { at_once: true, ..says(B, OTHER) };
        assert_eq!(short(addresses.claim(key(1), at_once, 106)), moved(A));
        assert!(!addresses.is_given_up(key(1), owner), "another one has it");
        addresses.forget(key(1));
        assert!(addresses.is_given_up(key(1), owner) && !addresses.ask(key(1), 200));
    }

    #[test]
    fn an_address_moves_with_its_guest() {
        let mut addresses = addresses();
        addresses.claim(key(1), says(A, MAC), 100);
        assert_eq!(short(addresses.claim(key(1), says(B, MAC), 101)), moved(A));
        assert_eq!(addresses.owner(key(1)).map(|owner| owner.port), Some(B));
    }

    #[test]
    fn an_address_does_not_move_to_a_port_that_its_guest_is_not_behind() {
        let mut addresses = addresses();
        addresses.claim(key(1), says(A, MAC), 100);
        let elsewhere = Claimant { is_there: false, ..says(B, MAC) };
        assert_eq!(short(addresses.claim(key(1), elsewhere, 101)), taken(A));
    }

    #[test]
    fn the_source_of_a_packet_takes_nothing_from_another_guest() {
        let mut addresses = addresses();
        let uses = |port, mac| Claimant { ground: Ground::Used, ..says(port, mac) };
        assert_eq!(short(addresses.claim(key(1), uses(A, MAC), 100)), short(Ruling::Granted));
        assert_eq!(short(addresses.claim(key(1), uses(B, OTHER), 999)), taken(A));
        assert_eq!(short(addresses.claim(key(1), uses(B, MAC), 999)), moved(A));
    }

    #[test]
    fn the_hosts_addresses_are_nobody_elses() {
        let mut addresses = addresses();
        addresses.claim(key(1), says(A, MAC), 0);
        let host = HostAddress::from(key(1).1);
        assert!(addresses.add_host(host) && !addresses.add_host(host));
        assert_eq!(*addresses.block(Some(&Membership::Transparent)), [key(1)]);
        assert_eq!(addresses.evict().iter().map(|(_, owner)| owner.port).collect::<Vec<_>>(), [A]);
        assert_eq!(short(addresses.claim(key(1), says(A, MAC), 100)), short(Ruling::Host));
        // In another VLAN it is anybody's.
        let vlan = VlanId::new(7).unwrap();
        assert_eq!(short(addresses.claim((vlan, key(1).1), says(A, MAC), 100)), short(Ruling::Granted));
        assert!(addresses.remove_host(host));
        addresses.block(Some(&Membership::Transparent));
        assert_eq!(short(addresses.claim(key(1), says(A, MAC), 100)), short(Ruling::Granted));
    }

    #[test]
    fn the_hosts_addresses_are_in_the_vlans_of_their_tags() {
        let mut addresses = addresses();
        let vlan = |vid| VlanId::new(vid).unwrap();
        let tagged = |n, vid| HostAddress { address: key(n).1, tag: Some(vlan(vid)) };
        for host in [key(1).1.into(), tagged(2, 10), tagged(3, 20)] {
            addresses.add_host(host);
        }
        let trunk = |native| Membership::Trunk { allowed: [vlan(10)].into_iter().collect(), native };
        let in_vlan = |vid, n| (vlan(vid), key(n).1);
        for (membership, expected) in [
            (Membership::Transparent, vec![in_vlan(1, 1), in_vlan(10, 2), in_vlan(20, 3)]),
            (Membership::Access(vlan(5)), vec![in_vlan(5, 1)]),
            (trunk(Some(vlan(7))), vec![in_vlan(7, 1), in_vlan(10, 2)]),
            (trunk(None), vec![in_vlan(10, 2)]),
        ] {
            assert_eq!(*addresses.block(Some(&membership)), expected, "{membership:?}");
        }
        assert!(addresses.block(None).is_empty());
    }

    #[test]
    fn a_removed_port_leaves_nothing() {
        let mut addresses = addresses();
        addresses.claim(key(1), says(A, MAC), 0);
        addresses.claim(key(2), says(B, MAC), 0);
        addresses.keep([A].into_iter(), None);
        assert_eq!(addresses.iter().map(|(key, _)| key).collect::<Vec<_>>(), [key(1)]);
        assert_eq!(short(addresses.claim(key(2), says(B, MAC), 0)), short(Ruling::Gone));
        assert_eq!(short(addresses.claim(key(1), says(B, MAC), 99)), short(Ruling::Gone));
        assert!(addresses.owner(key(1)).is_some());
    }

    #[test]
    fn nothing_is_allocated_once_the_ports_are_there() {
        let mut addresses = addresses();
        let capacity = addresses.owners.capacity();
        for n in 0..100_000u32 {
            let key = (VlanId::DEFAULT, IpAddr::from(n.to_be_bytes()));
            addresses.claim(key, says(if n % 2 == 0 { A } else { B }, MAC), 0);
        }
        assert_eq!((addresses.owners.capacity(), addresses.iter().count()), (capacity, 64));
    }
}
