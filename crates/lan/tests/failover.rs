//! IP addresses that move between guests: who had one is asked, and gives it up by silence.

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use support::packets::*;
use support::{Lan, mac};
use vmlan_frame::wire::{ArpOperation, ArpPacket, Icmpv6Packet, Icmpv6Type, Ipv6Packet, NdpMessage};
use vmlan_frame::{Context, Counters, DropReason, MacAddr, VlanId, VlanTag};
use vmlan_lan::{Event, HostAddress, PortId, Prefix, TrunkPolicy, VlanRole};

const HOST: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0xaa]);
const HOST_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 200);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const ADDRESS_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 100);
const ALL: (MacAddr, Ipv6Addr) =
    (MacAddr([0x33, 0x33, 0, 0, 0, 1]), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));

/// Guests 1 to 3, and a trunk.
struct Net {
    lan: Lan,
    guests: Vec<(PortId, Arc<Counters>)>,
    trunk: PortId,
}

/// The frames that were delivered, each with the number of its guest, or 0 for the trunk.
type Got = Vec<(usize, Vec<u8>)>;

fn net_with(floating: Vec<Prefix>) -> Net {
    let lan = Lan::new();
    let policy = TrunkPolicy { macs: vec![HOST], ..TrunkPolicy::default() };
    let (trunk, _) = lan.trunk(policy);
    lan.network.add_host_address(HOST_IP.into());
    let mut guests = vec![lan.port(&[]), lan.port(&[])];
    guests.push(lan.port_with(|config| config.floating = floating));
    Net { lan, guests, trunk }
}

fn net() -> Net {
    net_with(Vec::new())
}

impl Net {
    fn say(&mut self, guest: usize, octets: &[u8]) -> Got {
        let frame = self.lan.pool.copy(octets).unwrap();
        let (id, counters) = self.guests[guest - 1].clone();
        self.lan.receive((id, &counters), [frame]);
        self.got()
    }

    fn got(&mut self) -> Got {
        let number = |port| self.guests.iter().position(|(id, _)| *id == port).map_or(0, |at| at + 1);
        let copies = self.lan.copies_beside().into_iter();
        let mut got: Got = copies.map(|(port, _, octets)| (number(port), octets)).collect();
        got.sort();
        got
    }

    /// Lets time go by, and the network decide what is due then.
    fn after(&mut self, time: Duration) -> Got {
        self.lan.now = self.lan.now + time;
        let cx = Context { worker: 0, now: self.lan.now, pool: &self.lan.pool };
        self.lan.forwarder.decide(&cx, &mut self.lan.egress);
        self.got()
    }

    fn conflicts(&self, guest: usize) -> u64 {
        self.guests[guest - 1].1.snapshot().dropped(DropReason::AddressConflict)
    }

    /// IP addresses that moved, by guests and their MAC addresses.
    fn moves(&self) -> Vec<(IpAddr, MacAddr, MacAddr)> {
        let events = self.lan.network.events().events.into_iter();
        let moves = events.filter_map(|event| match event {
            Event::AddressMoved { address, from, to } => Some((address, from.1, to.1)),
            _ => None,
        });
        moves.collect()
    }

    fn owner(&self, address: impl Into<IpAddr>) -> Option<MacAddr> {
        let address = address.into();
        let known = self.lan.network.shared_addresses();
        known.iter().find(|known| known.address == address).map(|known| known.mac)
    }

    /// All buffers came back, and what was sent is what was counted.
    fn finish(self) {
        assert_eq!((self.lan.pool.out(), self.lan.forwarder.due()), (0, None));
    }
}

fn who(got: &Got) -> Vec<usize> {
    got.iter().map(|(to, _)| *to).collect()
}

/// A gratuitous ARP request.
fn announces(guest: u8) -> Vec<u8> {
    arp_request((mac(guest), ADDRESS), ADDRESS)
}

/// An unsolicited neighbour advertisement.
fn advertises(guest: u8) -> Vec<u8> {
    advertisement(ALL, (mac(guest), ADDRESS_6), ADDRESS_6, mac(guest))
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn one_announcement_moves_an_address_whose_owner_says_nothing() {
    for (claim, address) in
        [(announces as fn(u8) -> _, IpAddr::from(ADDRESS)), (advertises, ADDRESS_6.into())]
    {
        let mut net = net();
        assert_eq!(who(&net.say(1, &claim(1))), [0, 2, 3]);
        net.after(SECOND * 3);
        // The owner alone is asked, and nobody hears the claim yet.
        assert_eq!(who(&net.say(2, &claim(2))), [1]);
        assert_eq!((net.owner(address), net.conflicts(2)), (Some(mac(1)), 0));
        assert_eq!(net.after(SECOND - Duration::from_nanos(1)), []);
        let heard = net.after(Duration::from_nanos(1));
        assert_eq!(who(&heard), [0, 1, 3]);
        assert!(heard.iter().all(|(_, octets)| octets.starts_with(&claim(2))));
        assert_eq!((net.owner(address), net.moves()), (Some(mac(2)), vec![(address, mac(1), mac(2))]));
        // From then on it is the new owner's.
        assert_eq!(who(&net.say(2, &claim(2))), [0, 1, 3]);
        assert_eq!(who(&net.say(1, &claim(1))), [2]);
        net.say(2, &claim(2));
        assert_eq!(net.after(SECOND), []);
        assert_eq!(net.conflicts(1), 1);
        net.finish();
    }
}

#[test]
fn an_owner_that_answers_keeps_its_address() {
    let answer = arp(mac(2), ArpOperation::REPLY, (mac(1), ADDRESS), (mac(2), Ipv4Addr::UNSPECIFIED));
    let other = arp_request((mac(1), ADDRESS), Ipv4Addr::new(10, 0, 0, 9));
    for sign in [&answer, &other] {
        let mut net = net();
        net.say(1, &announces(1));
        assert_eq!(who(&net.say(2, &announces(2))), [1]);
        net.say(1, sign);
        assert_eq!(net.after(SECOND), []);
        assert_eq!((net.owner(ADDRESS), net.conflicts(2), net.moves()), (Some(mac(1)), 1, vec![]));
        net.finish();
    }
}

#[test]
fn the_question_is_that_of_a_host_that_wants_the_address() {
    let mut net = net();
    net.say(1, &announces(1));
    net.say(1, &advertises(1));
    let asked = net.say(2, &announces(2));
    let question = ArpPacket::new_checked(&asked[0].1[14..]).unwrap();
    assert_eq!(asked[0].1[..12], [mac(1).0, mac(2).0].concat());
    assert_eq!((question.operation(), question.target_protocol()), (ArpOperation::REQUEST, ADDRESS));
    let sender = (question.sender_hardware(), question.sender_protocol());
    assert_eq!(sender, (mac(2), Ipv4Addr::UNSPECIFIED));

    let asked = net.say(2, &advertises(2));
    assert_eq!(asked[0].1[..12], [mac(1).0, mac(2).0].concat());
    let packet = Ipv6Packet::new_checked(&asked[0].1[14..]).unwrap();
    assert_eq!((packet.source(), packet.hop_limit()), (Ipv6Addr::UNSPECIFIED, 255));
    assert_eq!(packet.destination(), "ff02::1:ff00:64".parse::<Ipv6Addr>().unwrap());
    let message = Icmpv6Packet::new_checked(packet.payload()).unwrap();
    assert!(message.verify_checksum(&packet.addresses()));
    assert_eq!(message.message_type(), Icmpv6Type::NEIGHBOR_SOLICITATION);
    assert_eq!(NdpMessage::new_checked(packet.payload()).unwrap().target(), Some(ADDRESS_6));
    net.after(SECOND);
    net.finish();
}

#[test]
fn many_claims_make_one_question_a_second() {
    let mut net = net();
    net.say(1, &announces(1));
    let mut questions = 0;
    for _ in 0..10 {
        for _ in 0..100 {
            questions += net.say(2, &announces(2)).len();
            questions += net.say(3, &announces(3)).len();
        }
        net.say(1, &announces(1));
        assert_eq!(net.after(SECOND), []);
    }
    assert_eq!((questions, net.owner(ADDRESS)), (10, Some(mac(1))));
    assert_eq!(net.conflicts(2) + net.conflicts(3), 2000);
    assert_eq!(net.moves(), []);

    // Nor do many addresses.
    let address = |n| Ipv4Addr::new(10, 0, 1, n);
    (0..30).for_each(|n| drop(net.say(1, &arp_request((mac(1), address(n)), address(n)))));
    let asked: usize =
        (0..30).map(|n| net.say(2, &arp_request((mac(2), address(n)), address(n))).len()).sum();
    assert_eq!(asked, 4);
    let moved = net.after(SECOND);
    assert_eq!((moved.len(), net.moves().len()), (4 * 3, 4));
    net.finish();
}

#[test]
fn a_floating_address_moves_at_once() {
    let floating = vec![
        Prefix { address: ADDRESS.into(), len: 32 },
        Prefix { address: "2001:db8::".parse().unwrap(), len: 64 },
    ];
    let mut net = net_with(floating);
    for (claim, address) in
        [(announces as fn(u8) -> _, IpAddr::from(ADDRESS)), (advertises, ADDRESS_6.into())]
    {
        net.say(1, &claim(1));
        assert_eq!(who(&net.say(3, &claim(3))), [0, 1, 2]);
        assert_eq!(net.moves(), [(address, mac(1), mac(3))]);
    }
    // Others are asked about.
    let other = Ipv4Addr::new(10, 0, 0, 101);
    net.say(1, &arp_request((mac(1), other), other));
    assert_eq!(who(&net.say(3, &arp_request((mac(3), other), other))), [1]);
    // The host's address is the host's.
    assert_eq!(net.say(3, &arp_request((mac(3), HOST_IP), HOST_IP)), []);
    assert_eq!(net.conflicts(3), 1);
    net.after(SECOND);
    net.finish();
}

#[test]
fn what_is_held_back_goes_with_its_port_or_the_trunk() {
    for gone in 0..3 {
        let mut net = net();
        net.say(1, &announces(1));
        assert_eq!(who(&net.say(2, &announces(2))), [1]);
        let port = [net.guests[1].0, net.guests[0].0, net.trunk][gone];
        assert!(net.lan.network.remove_port(port));
        // Without its owner the address is free.
        let heard = net.after(SECOND);
        assert_eq!(who(&heard), [vec![], vec![0, 3], vec![]][gone], "{gone}");
        net.finish();
    }
}

#[test]
fn nobody_is_asked_whose_port_is_down() {
    let mut net = net();
    net.say(1, &announces(1));
    let owner = net.guests[0].0;
    net.lan.network.set_active(owner, false).unwrap();
    assert_eq!(who(&net.say(2, &announces(2))), [0, 3]);
    assert_eq!(net.moves(), [(ADDRESS.into(), mac(1), mac(2))]);
    net.finish();
}

/// The host has one address without a tag, one with tag 10, and one with a tag that the trunk does not carry.
#[test]
fn the_hosts_addresses_are_its_own_in_their_vlans_only() {
    let vlan = |vid| VlanId::new(vid).unwrap();
    let lan = Lan::new();
    let role = VlanRole::Trunk { allowed: [vlan(10)].into_iter().collect(), native: Some(vlan(1)) };
    let policy = TrunkPolicy { macs: vec![HOST], vlan: role, ..TrunkPolicy::default() };
    let (trunk, _) = lan.trunk(policy);
    let address = |n| Ipv4Addr::new(10, 0, 0, n);
    for (n, tag) in [(1, None), (2, Some(vlan(10))), (3, Some(vlan(20)))] {
        lan.network.add_host_address(HostAddress { address: address(n).into(), tag });
    }
    let member = |vid| lan.port_with(|config| config.vlan = VlanRole::Access(vlan(vid)));
    let guests = vec![member(1), member(10), member(20)];
    let mut net = Net { lan, guests, trunk };
    for guest in 1..=3 {
        for n in 1..=3 {
            let before = net.conflicts(guest);
            net.say(guest, &arp_request((mac(guest as u8), address(n)), address(9)));
            let is_refused = matches!((guest, n), (1, 1) | (2, 2));
            assert_eq!(net.conflicts(guest) - before, u64::from(is_refused), "guest {guest} claims {n}");
        }
    }
    net.finish();
}

/// In a network without VLANs a tag makes none, and still tells the host's interfaces apart.
#[test]
fn a_tag_tells_the_hosts_interfaces_apart_without_vlans() {
    let mut net = net();
    let tagged = Ipv4Addr::new(10, 0, 0, 2);
    let tag = VlanId::new(10).unwrap();
    net.lan.network.add_host_address(HostAddress { address: tagged.into(), tag: Some(tag) });
    for (address, vid, refused) in
        [(HOST_IP, None, 1), (HOST_IP, Some(tag), 0), (tagged, None, 0), (tagged, Some(tag), 1)]
    {
        let before = net.conflicts(1);
        let mut frame = net.lan.pool.copy(&arp_request((mac(1), address), address)).unwrap();
        frame.meta.tag = vid.map(|vid| VlanTag::default().with_vid(vid));
        let (id, counters) = net.guests[0].clone();
        net.lan.receive((id, &counters), [frame]);
        net.got();
        assert_eq!(net.conflicts(1) - before, refused, "{address} {vid:?}");
    }
    net.finish();
}

#[test]
fn prefixes_hold_what_begins_alike() {
    let prefix = |text: &str, len| Prefix { address: text.parse().unwrap(), len };
    let holds = |prefix: Prefix, text: &str| prefix.contains(text.parse().unwrap());
    assert!(holds(prefix("10.1.2.3", 32), "10.1.2.3") && !holds(prefix("10.1.2.3", 32), "10.1.2.2"));
    assert!(holds(prefix("10.1.2.3", 8), "10.9.9.9") && !holds(prefix("10.1.2.3", 8), "11.1.2.3"));
    assert!(holds(prefix("0.0.0.0", 0), "255.1.2.3") && !holds(prefix("0.0.0.0", 0), "::1"));
    assert!(holds(prefix("fd00::", 64), "fd00::ffff") && !holds(prefix("fd00::", 64), "fd00:0:0:1::"));
    assert!(holds(prefix("::", 0), "fd00::1") && !holds(prefix("::", 0), "1.2.3.4"));
}
