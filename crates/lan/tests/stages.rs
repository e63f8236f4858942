//! The stages of ports: the same in a network with a trunk and in one without, and there where a key asks for them.

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use support::packets::*;
use support::{Lan, mac};
use vmlan_frame::wire::ArpOperation;
use vmlan_frame::{Counters, DropReason, MacAddr, VlanId};
use vmlan_lan::{Event, PortConfig, PortId, PortPolicy, Prefix, TrunkPolicy, VlanRole};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const FLOATING: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 200);

/// Active guests, each with `mac(n)`; the trunk is none of them.
struct Net {
    lan: Lan,
    guests: Vec<(PortId, Arc<Counters>)>,
    /// Copies that guests got.
    got: u64,
}

fn floating() -> Vec<Prefix> {
    vec![Prefix { address: FLOATING.into(), len: 32 }]
}

/// Four guests without a trunk, and what is changed about each.
fn net_with(change: impl Fn(usize, &mut PortConfig)) -> Net {
    let lan = Lan::new();
    let guests = (1..=4).map(|guest| lan.port_with(|config| change(guest, config))).collect();
    Net { lan, guests, got: 0 }
}

/// Four guests, of which the fourth has a floating address.
fn net() -> Net {
    net_with(|guest, config| config.floating = if guest == 4 { floating() } else { Vec::new() })
}

impl Net {
    /// The guests that get what this one says.
    fn say(&mut self, guest: usize, octets: &[u8]) -> Vec<usize> {
        let frame = self.lan.pool.copy(octets).unwrap();
        let (id, counters) = self.guests[guest - 1].clone();
        self.lan.receive((id, &counters), [frame]);
        self.got()
    }

    fn got(&mut self) -> Vec<usize> {
        let number = |port| self.guests.iter().position(|(id, _)| *id == port).map(|at| at + 1);
        let copies = self.lan.copies_beside().into_iter();
        let mut got = Vec::from_iter(copies.filter_map(|(port, ..)| number(port)));
        got.sort_unstable();
        self.got += got.len() as u64;
        got
    }

    /// The guests that get something when a second has gone by and what is due then is decided.
    fn decided(&mut self) -> Vec<usize> {
        self.lan.decide();
        self.got()
    }

    fn dropped(&self, guest: usize, reason: DropReason) -> u64 {
        self.guests[guest - 1].1.snapshot().dropped(reason)
    }

    fn owner(&self, address: impl Into<IpAddr>) -> Option<MacAddr> {
        let address = address.into();
        let known = self.lan.network.shared_addresses();
        known.iter().find(|known| known.address == address).map(|known| known.mac)
    }

    /// Returns the events about IP addresses.
    fn events(&self) -> Vec<Event> {
        let is_of_address =
            |event: &Event| matches!(event, Event::AddressMoved { .. } | Event::Conflict { .. });
        self.lan.network.events().events.into_iter().filter(is_of_address).collect()
    }

    /// Nothing is held back, every buffer came back, and the copies that were counted were made.
    fn finish(self) {
        assert_eq!((self.lan.pool.out(), self.lan.forwarder.due()), (0, None));
        let counted: u64 = self.guests.iter().map(|(_, counters)| counters.snapshot().copies).sum();
        assert_eq!(counted, self.got);
    }
}

/// A gratuitous ARP request.
fn announces(guest: u8, address: Ipv4Addr) -> Vec<u8> {
    arp_request((mac(guest), address), address)
}

/// An ARP request of `sender` in a frame of `source`.
fn lies(source: u8, sender: u8) -> Vec<u8> {
    let mut octets = announces(sender, ADDRESS);
    octets[6..12].copy_from_slice(&mac(source).0);
    octets
}

#[test]
fn without_a_trunk_and_floating_addresses_claims_are_not_examined() {
    let mut net = net_with(|_, _| {});
    for guest in [1, 2, 1] {
        let others = Vec::from_iter((1..=4).filter(|other| *other != guest));
        assert_eq!(net.say(guest, &announces(guest as u8, ADDRESS)), others);
    }
    assert_eq!(net.say(2, &lies(2, 1)), [1, 3, 4]);
    assert_eq!((net.owner(ADDRESS), net.events()), (None, vec![]));
    net.finish();
}

#[test]
fn a_floating_address_has_all_claims_of_a_network_examined_without_a_trunk() {
    let mut net = net();
    assert_eq!(net.say(1, &announces(1, ADDRESS)), [2, 3, 4]);
    assert_eq!(net.owner(ADDRESS), Some(mac(1)));
    // The owner alone is asked, and answers.
    assert_eq!(net.say(2, &announces(2, ADDRESS)), [1]);
    let answer = arp(mac(2), ArpOperation::REPLY, (mac(1), ADDRESS), (mac(2), Ipv4Addr::UNSPECIFIED));
    assert_eq!(net.say(1, &answer), [2]);
    assert_eq!(net.decided(), []);
    assert_eq!((net.owner(ADDRESS), net.dropped(2, DropReason::AddressConflict)), (Some(mac(1)), 1));
    let (port, owner) = (net.guests[1].0, net.guests[0].0);
    let conflict = Event::Conflict { port, mac: mac(2), address: Some(ADDRESS.into()), owner };
    assert_eq!(net.events(), [conflict]);
    // The next time it is silent.
    assert_eq!(net.say(2, &announces(2, ADDRESS)), [1]);
    assert_eq!(net.decided(), [1, 3, 4]);
    assert_eq!(net.owner(ADDRESS), Some(mac(2)));
    let moved = Event::AddressMoved { address: ADDRESS.into(), from: (owner, mac(1)), to: (port, mac(2)) };
    assert_eq!(net.events(), [moved]);
    net.finish();
}

#[test]
fn a_floating_address_moves_at_once_to_its_port_only_without_a_trunk() {
    let mut net = net();
    net.say(1, &announces(1, FLOATING));
    assert_eq!(net.say(4, &announces(4, FLOATING)), [1, 2, 3]);
    assert_eq!(net.owner(FLOATING), Some(mac(4)));
    // Back it does not move so.
    assert_eq!(net.say(1, &announces(1, FLOATING)), [4]);
    net.say(4, &announces(4, FLOATING));
    assert_eq!(net.decided(), []);
    assert_eq!((net.owner(FLOATING), net.dropped(1, DropReason::AddressConflict)), (Some(mac(4)), 1));
    net.finish();
}

#[test]
fn an_unclear_claim_is_dropped_without_a_trunk() {
    let mut net = net();
    assert_eq!(net.say(2, &lies(2, 1)), []);
    assert_eq!((net.dropped(2, DropReason::UnclearClaim), net.owner(ADDRESS)), (1, None));
    net.finish();
}

#[test]
fn the_same_address_in_another_vlan_is_another_one_without_a_trunk() {
    let vlan = |vid| VlanId::new(vid).unwrap();
    let mut net = net_with(|guest, config| {
        config.vlan = VlanRole::Access(vlan(if guest <= 2 { 10 } else { 20 }));
        config.floating = floating();
    });
    assert_eq!(net.say(1, &announces(1, ADDRESS)), [2]);
    assert_eq!(net.say(3, &announces(3, ADDRESS)), [4]);
    assert_eq!(net.say(2, &announces(2, ADDRESS)), [1]);
    assert_eq!(net.decided(), [1]);
    let known = net.lan.network.shared_addresses();
    let owners = Vec::from_iter(known.iter().map(|known| (known.vlan, known.mac)));
    assert_eq!(owners, [(Some(vlan(10)), mac(2)), (Some(vlan(20)), mac(3))]);
    net.finish();
}

#[test]
fn what_is_not_a_claim_passes_the_stage() {
    let mut net = net();
    net.say(1, &announces(1, ADDRESS));
    // A packet from another's address takes nothing and is not dropped: only ARP and neighbour discovery are asked.
    let packet = ip((mac(1), ADDRESS.into()), (mac(2), ADDRESS.into()));
    assert_eq!(net.say(2, &packet), [1]);
    let probe = arp_request((mac(2), Ipv4Addr::UNSPECIFIED), ADDRESS);
    assert_eq!(net.say(2, &probe), [1, 3, 4]);
    assert_eq!(net.owner(ADDRESS), Some(mac(1)));
    net.finish();
}

#[test]
fn the_stage_comes_and_goes_with_the_key() {
    let mut net = net_with(|_, _| {});
    let change = |net: &Net, floating| {
        let policy = PortPolicy { floating, ..PortPolicy::default() };
        net.lan.network.update_port(net.guests[3].0, policy).unwrap();
    };
    net.say(1, &announces(1, ADDRESS));
    assert_eq!(net.owner(ADDRESS), None);
    change(&net, floating());
    net.say(1, &announces(1, ADDRESS));
    assert_eq!(net.say(2, &announces(2, ADDRESS)), [1]);
    // What is held back goes with the stage, and so does what was learnt.
    change(&net, Vec::new());
    assert_eq!((net.decided(), net.owner(ADDRESS)), (vec![], None));
    assert_eq!(net.say(2, &announces(2, ADDRESS)), [1, 3, 4]);
    // A port that leaves takes its key along.
    change(&net, floating());
    net.say(1, &announces(1, ADDRESS));
    assert!(net.lan.network.remove_port(net.guests[3].0));
    assert_eq!((net.say(2, &announces(2, ADDRESS)), net.owner(ADDRESS)), (vec![1, 3], None));
    net.finish();
}

#[test]
fn the_stage_stays_when_the_trunk_leaves_a_network_with_a_floating_address() {
    let mut net = net();
    let (trunk, counters) = net.lan.trunk(TrunkPolicy::default());
    net.say(1, &announces(1, ADDRESS));
    assert!(net.lan.network.remove_port(trunk));
    assert_eq!(net.owner(ADDRESS), Some(mac(1)));
    assert_eq!(net.say(2, &announces(2, ADDRESS)), [1]);
    assert_eq!(net.decided(), [1, 3, 4]);
    assert_eq!((net.owner(ADDRESS), counters.snapshot().copies), (Some(mac(2)), 0));
}

/// Everything that the stages made of one story: the guests that got each frame, drops by guest, events, the owners.
type Fate = (Vec<Vec<usize>>, Vec<[u64; 3]>, Vec<Event>, Vec<Option<MacAddr>>);

/// Tells one story, of claims that are granted, denied, given up, unclear, at once, too many, and of a guest that
/// moves.
fn fate(mut net: Net) -> Fate {
    let third = Ipv4Addr::new(10, 0, 0, 3);
    let answer = arp(mac(2), ArpOperation::REPLY, (mac(1), ADDRESS), (mac(2), Ipv4Addr::UNSPECIFIED));
    let story = [
        (1, announces(1, ADDRESS)),
        (2, announces(2, ADDRESS)),
        (3, announces(3, ADDRESS)),
        (1, answer),
        (0, vec![]),
        (2, announces(2, ADDRESS)),
        (0, vec![]),
        (2, lies(2, 1)),
        (1, announces(1, FLOATING)),
        (4, announces(4, FLOATING)),
        (3, announces(3, third)),
        (1, announces(3, third)),
        (0, vec![]),
    ];
    let mut receivers = Vec::new();
    for (guest, octets) in story {
        receivers.push(if guest == 0 { net.decided() } else { net.say(guest, &octets) });
    }
    for n in 0..12 {
        let address = Ipv4Addr::new(10, 0, 1, n);
        net.say(1, &announces(1, address));
        receivers.push(net.say(2, &announces(2, address)));
    }
    net.lan.now = net.lan.now + Duration::from_secs(60);
    receivers.push(net.decided());
    let reasons = [DropReason::AddressConflict, DropReason::UnclearClaim, DropReason::SourceGuard];
    let drops = (1..=4).map(|guest| reasons.map(|reason| net.dropped(guest, reason))).collect();
    let owners = [ADDRESS, FLOATING, third].map(|address| net.owner(address)).into();
    (receivers, drops, net.events(), owners)
}

#[test]
fn networks_with_and_without_a_trunk_ask_the_same_stage() {
    let without = fate(net());
    let with = net();
    // After the guests, which so have the same numbers in both.
    with.lan.trunk(TrunkPolicy::default());
    let with = fate(with);
    assert_eq!(without, with);
    let (receivers, drops, events, owners) = without;
    assert_eq!(receivers[..3], [vec![2, 3, 4], vec![1], vec![]]);
    assert!(drops[1][0] > 0 && drops[1][1] == 1 && drops[2][0] == 1, "{drops:?}");
    assert!(
        events.len() > 4 && owners == [Some(mac(2)), Some(mac(4)), Some(mac(3))],
        "{events:?} {owners:?}"
    );
}
