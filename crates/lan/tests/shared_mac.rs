//! Guests that share the host's MAC address on the wire, case by case.

mod support;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use support::packets::*;
use support::{Lan, mac};
use vmlan_frame::wire::{
    ArpOperation, ArpPacket, Icmpv6Packet, IpProtocol, Ipv6Packet, NdpMessage, UdpDatagram,
};
use vmlan_frame::{Counters, DropReason, Frame, MacAddr, Sides};
use vmlan_lan::{Diversion, Event, PortConfig, PortId, TrunkConfig, TrunkNotice, TrunkPolicy};

const HOST: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0xaa]);
const ROUTER: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0xbb]);
const HOST_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 200);
const ROUTER_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
const ROUTER_6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xbb);

/// Where the addresses are in an Ethernet header.
const TO: std::ops::Range<usize> = 0..6;
const FROM: std::ops::Range<usize> = 6..12;

fn ip4(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, n)
}

fn ip6(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n)
}

/// A receiver or sender of a frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Who {
    /// A guest, counted from 1.
    G(usize),
    /// The host.
    H,
    /// The wire.
    W,
}
use Who::{G, H, W};

/// Guests 1 and 2, and a spy that is promiscuous and sees the trunk as the third where a test adds it.
struct Shared {
    lan: Lan,
    guests: Vec<(PortId, Arc<Counters>)>,
    trunk: (PortId, Arc<Counters>),
    notices: Arc<AtomicUsize>,
}

fn shared() -> Shared {
    let lan = Lan::new();
    let notices = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&notices);
    let counters = Arc::new(Counters::new(1));
    let config = TrunkConfig {
        name: "trunk".into(),
        policy: TrunkPolicy {
            macs: vec![HOST],
            diversion: Diversion::Everything,
            shared_mac: true,
            ..TrunkPolicy::default()
        },
        notify: Arc::new(move |notice| {
            count.fetch_add(usize::from(notice == TrunkNotice::SharedAddresses), SeqCst);
        }),
        account: Arc::clone(&counters).into(),
    };
    let id = lan.network.add_trunk(config).unwrap();
    lan.network.set_active(id, true).unwrap();
    lan.network.add_host_address(HOST_IP.into());
    let guests = vec![lan.port(&[mac(1)]), lan.port(&[mac(2)])];
    Shared { lan, guests, trunk: (id, counters), notices }
}

impl Shared {
    fn spy(mut self) -> Shared {
        let spy = |config: &mut PortConfig| {
            (config.macs, config.promiscuous, config.sees_trunk) = (vec![mac(3)], true, true);
        };
        self.guests.push(self.lan.port_with(spy));
        self
    }

    /// Sends a frame, and returns its receivers with the octets that each of them gets.
    fn send(&mut self, from: Who, octets: &[u8]) -> BTreeMap<Who, Vec<u8>> {
        let frame = self.lan.pool.copy(octets).unwrap();
        self.send_frame(from, frame)
    }

    fn send_frame(&mut self, from: Who, mut frame: Frame) -> BTreeMap<Who, Vec<u8>> {
        let (id, counters) = match from {
            G(n) => self.guests[n - 1].clone(),
            H | W => self.trunk.clone(),
        };
        frame.meta.sides = match from {
            G(_) => Sides::NONE,
            H => Sides::HOST,
            W => Sides::WIRE,
        };
        self.lan.receive((id, &counters), [frame]);
        let mut got = BTreeMap::new();
        let mut add = |who, octets| assert!(got.insert(who, octets).is_none(), "{who:?} gets it once");
        for (port, sides, octets) in self.lan.copies_beside() {
            if sides.contains(Sides::HOST) {
                add(H, octets.clone());
            }
            if sides.contains(Sides::WIRE) {
                add(W, octets.clone());
            }
            if sides.is_empty() {
                let n = self.guests.iter().position(|(id, _)| *id == port).unwrap();
                add(G(n + 1), octets);
            }
        }
        // One claim may be held back.
        let held = usize::from(self.lan.forwarder.due().is_some());
        assert_eq!(self.lan.pool.out(), held, "every buffer comes back");
        got
    }

    /// Lets guest 1 show that it has these addresses.
    fn knowing(mut self) -> Shared {
        self.send(G(1), &ip((ROUTER, ROUTER_IP.into()), (mac(1), ip4(1).into())));
        self.send(G(1), &ip((ROUTER, ROUTER_6.into()), (mac(1), ip6(1).into())));
        self
    }

    fn known(&self) -> Vec<(IpAddr, PortId)> {
        let known = self.lan.network.shared_addresses();
        known.iter().map(|shared| (shared.address, shared.port)).collect()
    }

    fn dropped(&self, guest: usize, reason: DropReason) -> u64 {
        self.guests[guest - 1].1.snapshot().dropped(reason)
    }
}

fn source(octets: &[u8]) -> MacAddr {
    MacAddr::from_slice(&octets[6..])
}

fn destination(octets: &[u8]) -> MacAddr {
    MacAddr::from_slice(octets)
}

fn arp_of(octets: &[u8]) -> ArpPacket<&[u8]> {
    ArpPacket::new_checked(&octets[14..]).unwrap()
}

/// Asserts that the frame differs from `other` in these octets only.
fn assert_differs_in(octets: &[u8], other: &[u8], ranges: &[std::ops::Range<usize>]) {
    assert_eq!(octets.len(), other.len());
    let differing = (0..octets.len()).filter(|at| octets[*at] != other[*at]);
    let stray = Vec::from_iter(differing.filter(|at| !ranges.iter().any(|range| range.contains(at))));
    assert_eq!(stray, []);
}

fn who(got: &BTreeMap<Who, Vec<u8>>) -> Vec<Who> {
    got.keys().copied().collect()
}

#[test]
fn case_18_an_arp_request_leaves_with_the_hosts_address() {
    let mut net = shared();
    let request = arp_request((mac(1), ip4(1)), ROUTER_IP);
    let got = net.send(G(1), &request);
    assert_eq!(who(&got), [G(2), H, W]);
    assert_eq!((&got[&G(2)], &got[&H]), (&request, &request));
    let wire = &got[&W];
    assert_eq!((source(wire), arp_of(wire).sender_hardware()), (HOST, HOST));
    assert_differs_in(wire, &request, &[FROM, 22..28]);
    // An answer of a guest, and one that names it as the target too.
    let announce = arp(MacAddr::BROADCAST, ArpOperation::REPLY, (mac(1), ip4(1)), (mac(1), ip4(1)));
    let wire = &net.send(G(1), &announce)[&W];
    assert_eq!((arp_of(wire).sender_hardware(), arp_of(wire).target_hardware()), (HOST, HOST));
}

#[test]
fn case_19_an_arp_reply_to_the_host_is_rewritten_to_the_guest() {
    let mut net = shared().knowing().spy();
    let reply = arp(HOST, ArpOperation::REPLY, (ROUTER, ROUTER_IP), (HOST, ip4(1)));
    let got = net.send(W, &reply);
    assert_eq!(who(&got), [G(1), G(3)]);
    assert_eq!((destination(&got[&G(1)]), arp_of(&got[&G(1)]).target_hardware()), (mac(1), mac(1)));
    assert_differs_in(&got[&G(1)], &reply, &[TO, 32..38]);
    assert_eq!(got[&G(3)], reply);
    // The host's own.
    let reply = arp(HOST, ArpOperation::REPLY, (ROUTER, ROUTER_IP), (HOST, HOST_IP));
    assert_eq!(who(&net.send(W, &reply)), [G(3), H]);
}

#[test]
fn case_20_ip_for_the_guest_is_rewritten_and_consumed() {
    let mut net = shared().knowing().spy();
    for (to, from) in [(ip4(1).into(), ROUTER_IP.into()), (IpAddr::from(ip6(1)), IpAddr::from(ROUTER_6))] {
        let frame = ip((HOST, to), (ROUTER, from));
        let got = net.send(W, &frame);
        assert_eq!(who(&got), [G(1), G(3)]);
        assert_eq!(destination(&got[&G(1)]), mac(1));
        assert_differs_in(&got[&G(1)], &frame, &[TO]);
        assert_eq!(got[&G(3)], frame);
    }
    let other = ip((HOST, ip4(77).into()), (ROUTER, ROUTER_IP.into()));
    assert_eq!(who(&net.send(W, &other)), [G(3), H]);
}

#[test]
fn case_21_of_33_source_addresses_the_first_is_forgotten() {
    let mut net = shared();
    for n in 1..=33 {
        net.send(G(1), &ip((ROUTER, ROUTER_IP.into()), (mac(1), ip4(n).into())));
    }
    let known = Vec::from_iter(net.known().into_iter().map(|(address, _)| address));
    assert_eq!(known, (2..=33).map(|n| IpAddr::from(ip4(n))).collect::<Vec<_>>());
    assert_eq!(who(&net.send(W, &ip((HOST, ip4(1).into()), (ROUTER, ROUTER_IP.into())))), [H]);
    assert_eq!(who(&net.send(W, &ip((HOST, ip4(2).into()), (ROUTER, ROUTER_IP.into())))), [G(1)]);
}

#[test]
fn case_22_what_the_host_gains_is_forgotten_and_not_relearnt() {
    let net = shared().knowing();
    assert!(net.lan.network.add_host_address(ip4(1).into()));
    assert_eq!(net.known(), [(ip6(1).into(), net.guests[0].0)]);
    let (port, owner) = (net.guests[0].0, net.trunk.0);
    let conflict = Event::Conflict { port, mac: mac(1), address: Some(ip4(1).into()), owner };
    assert_eq!(net.lan.network.events().events, [conflict]);
    let mut net = net.knowing();
    assert_eq!(net.known(), [(ip6(1).into(), net.guests[0].0)]);
    assert_eq!(who(&net.send(W, &ip((HOST, ip4(1).into()), (ROUTER, ROUTER_IP.into())))), [H]);
    assert!(net.lan.network.remove_host_address(ip4(1).into()));
    assert_eq!(net.knowing().known().len(), 2);
}

/// The ICMPv6 message in a frame, and whether its checksum is right.
fn icmpv6(octets: &[u8]) -> (Vec<u8>, bool) {
    let packet = Ipv6Packet::new_checked(&octets[14..]).unwrap();
    let message = Icmpv6Packet::new_checked(packet.payload()).unwrap();
    (packet.payload().to_vec(), message.verify_checksum(&packet.addresses()))
}

fn link_layer(octets: &[u8]) -> Option<MacAddr> {
    let (message, valid) = icmpv6(octets);
    assert!(valid, "the checksum is right");
    NdpMessage::new_checked(&message[..])
        .unwrap()
        .options()
        .flatten()
        .find_map(|option| option.link_layer_address())
}

#[test]
fn case_23_a_solicitation_leaves_with_the_hosts_address_and_a_valid_checksum() {
    let mut net = shared();
    let frame = solicitation((mac(1), ip6(1)), ip6(9));
    let got = net.send(G(1), &frame);
    assert_eq!((&got[&G(2)], &got[&H]), (&frame, &frame));
    assert_eq!((source(&got[&W]), link_layer(&got[&W])), (HOST, Some(HOST)));
    assert_eq!(net.known(), [(ip6(1).into(), net.guests[0].0)]);
    let frame = advertisement((ROUTER, ROUTER_6), (mac(1), ip6(1)), ip6(1), mac(1));
    assert_eq!(link_layer(&net.send(G(1), &frame)[&W]), Some(HOST));
    // Another's address in the option is nothing that the guest may say.
    let frame = advertisement((ROUTER, ROUTER_6), (mac(1), ip6(1)), ip6(1), mac(7));
    assert!(net.send(G(1), &frame).is_empty());
    assert_eq!(net.dropped(1, DropReason::UnclearClaim), 1);
}

#[test]
fn case_24_an_option_of_length_0_is_not_edited() {
    let mut net = shared();
    let mut frame = solicitation((mac(1), ip6(1)), ip6(9));
    let option = 14 + 40 + 24;
    frame.splice(option..option, [14, 1, 0, 0, 0, 0, 0, 0]);
    frame[18..20].copy_from_slice(&40u16.to_be_bytes());
    frame[option + 9] = 0;
    let wire = &net.send(G(1), &frame)[&W];
    assert_differs_in(wire, &frame, &[FROM]);
    assert_eq!(source(wire), HOST);
}

#[test]
fn case_25_a_dhcp_discover_asks_for_a_broadcast() {
    let mut net = shared();
    for kind in [1, 3] {
        let frame = dhcp_request(kind, mac(1), Ipv4Addr::UNSPECIFIED);
        let got = net.send(G(1), &frame);
        let wire = &got[&W];
        let packet = ipv4(wire);
        let datagram = UdpDatagram::new_checked(packet.payload()).unwrap();
        assert_eq!(datagram.payload()[10..12], [0x80, 0]);
        assert!(datagram.checksum() != 0 && datagram.verify_checksum(&packet.addresses()));
        assert_differs_in(wire, &frame, &[FROM, 40..42, 52..54]);
        assert_eq!(got[&H], frame);
    }
    // Without a checksum there is none to patch, and an inform asks for no address.
    let mut frame = dhcp_request(1, mac(1), Ipv4Addr::UNSPECIFIED);
    frame[40..42].fill(0);
    assert_differs_in(&net.send(G(1), &frame)[&W], &frame, &[FROM, 52..54]);
    let frame = dhcp_request(8, mac(1), ip4(1));
    assert_differs_in(&net.send(G(1), &frame)[&W], &frame, &[FROM]);
}

#[test]
fn a_checksum_that_is_yet_to_be_filled_in_is_left_alone() {
    let mut net = shared();
    let octets = dhcp_request(1, mac(1), Ipv4Addr::UNSPECIFIED);
    let mut frame = net.lan.pool.copy(&octets).unwrap();
    frame.meta.offload =
        vmlan_frame::Offload { flags: 1, checksum_start: 34, checksum_offset: 6, ..Default::default() };
    let got = net.send_frame(G(1), frame);
    assert_differs_in(&got[&W], &octets, &[FROM, 52..54]);
}

#[test]
fn case_26_a_wrapped_arp_request_gets_its_group_back() {
    let mut net = shared().spy();
    let wrapped = arp(HOST, ArpOperation::REQUEST, (ROUTER, ROUTER_IP), (MacAddr::ZERO, ip4(1)));
    let got = net.send(W, &wrapped);
    assert_eq!(who(&got), [G(1), G(2), G(3), H]);
    assert_eq!(got[&H], wrapped);
    for n in 1..=3 {
        assert_eq!(destination(&got[&G(n)]), MacAddr::BROADCAST);
        assert_differs_in(&got[&G(n)], &wrapped, &[TO]);
    }
    let groups = [
        (IpAddr::from(Ipv4Addr::BROADCAST), ROUTER_IP.into(), MacAddr::BROADCAST),
        (Ipv4Addr::new(239, 255, 1, 2).into(), ROUTER_IP.into(), MacAddr([1, 0, 0x5e, 0x7f, 1, 2])),
        ("ff02::1:ff00:1".parse().unwrap(), ROUTER_6.into(), MacAddr([0x33, 0x33, 0xff, 0, 0, 1])),
    ];
    for (to, from, group) in groups {
        let got = net.send(W, &ip((HOST, to), (ROUTER, from)));
        assert_eq!((who(&got), destination(&got[&G(2)])), (vec![G(1), G(2), G(3), H], group));
    }
}

#[test]
fn case_27_an_address_that_the_wire_claims_is_forgotten() {
    let mut net = shared().knowing();
    net.send(W, &arp_request((ROUTER, ip4(1)), ROUTER_IP));
    assert_eq!(net.known(), [(ip6(1).into(), net.guests[0].0)]);
    net.send(W, &solicitation((ROUTER, Ipv6Addr::UNSPECIFIED), ip6(1)));
    assert_eq!(net.known(), []);
}

#[test]
fn what_is_learnt_and_forgotten() {
    let mut net = shared();
    let g1 = net.guests[0].0;
    let mut knows = |from: Who, octets: Vec<u8>| {
        net.send(from, &octets);
        Vec::from_iter(net.known().into_iter().map(|(address, port)| {
            assert_eq!(port, g1);
            address.to_string()
        }))
    };
    let use4 = |source: [u8; 4]| ip((ROUTER, ROUTER_IP.into()), (mac(1), Ipv4Addr::from(source).into()));
    for source in [[0, 1, 2, 3], [127, 0, 0, 1], [224, 0, 0, 5], [255; 4], HOST_IP.octets()] {
        assert!(knows(G(1), use4(source)).is_empty(), "{source:?}");
    }
    let use6 = |source: &str| ip((ROUTER, ROUTER_6.into()), (mac(1), source.parse::<IpAddr>().unwrap()));
    for source in ["::", "::1", "ff02::1"] {
        assert!(knows(G(1), use6(source)).is_empty(), "{source}");
    }
    // Neighbour discovery from behind a router.
    let mut far = solicitation((mac(1), ip6(1)), ip6(9));
    far[21] = 254;
    assert!(knows(G(1), far).is_empty());
    // A header that its checksum contradicts, and ARP about somebody else.
    let mut broken = use4([10, 0, 0, 9]);
    broken[24] ^= 1;
    assert!(knows(G(1), broken).is_empty());
    let mut other = arp_request((mac(1), ip4(9)), ROUTER_IP);
    other[22..28].copy_from_slice(&mac(7).0);
    assert!(knows(G(1), other).is_empty());

    assert_eq!(knows(G(1), arp_request((mac(1), ip4(1)), ROUTER_IP)), ["10.0.0.1"]);
    // An answer to a station says that the station has its address.
    let _ = knows(G(1), arp_request((mac(1), ip4(5)), ROUTER_IP));
    let reply = arp(ROUTER, ArpOperation::REPLY, (mac(1), ip4(1)), (ROUTER, ip4(5)));
    assert_eq!(knows(G(1), reply), ["10.0.0.1"]);
    // A lease: the old address goes, the new one comes.
    let server = |kind, client, yours| {
        let message = dhcp(kind, mac(1), client, yours);
        udp((MacAddr::BROADCAST, Ipv4Addr::BROADCAST, 68), (ROUTER, ROUTER_IP, 67), &message)
    };
    assert_eq!(knows(W, server(5, ip4(1), ip4(2))), ["10.0.0.2"]);
    assert_eq!(knows(W, server(2, ip4(2), ip4(3))), ["10.0.0.2"], "an offer is no lease");
    let release = dhcp(7, mac(1), ip4(2), Ipv4Addr::UNSPECIFIED);
    assert!(knows(G(1), udp((ROUTER, ROUTER_IP, 67), (mac(1), ip4(2), 68), &release)).is_empty());
}

#[test]
fn the_driver_is_told_of_addresses() {
    let net = shared();
    assert_eq!(net.notices.swap(0, SeqCst), 0);
    let net = net.knowing();
    assert_eq!(net.notices.swap(0, SeqCst), 2);
    let net = net.knowing();
    assert_eq!(net.notices.swap(0, SeqCst), 0);
    net.lan.network.remove_port(net.guests[0].0);
    assert_eq!(net.notices.swap(0, SeqCst), 1);
    assert_eq!(net.known(), []);
}

#[test]
fn what_comes_back_from_the_wire_is_not_switched_again() {
    let mut net = shared();
    let wire = net.send(G(1), &arp_request((mac(1), ip4(1)), ROUTER_IP)).remove(&W).unwrap();
    assert!(net.send(H, &wire).is_empty());
    let trunk = net.trunk.1.snapshot();
    assert_eq!(trunk.dropped(DropReason::Echo), 1);
    // Once; what the host says itself is not ours.
    assert_eq!(who(&net.send(H, &wire)), [G(1), G(2), W]);
    assert_eq!(who(&net.send(H, &arp_request((HOST, HOST_IP), ROUTER_IP))), [G(1), G(2), W]);
    // Marked as from the wire, its source gives it away.
    assert!(net.send(W, &wire).is_empty());
}

#[test]
fn without_a_buffer_the_wires_copy_is_counted_as_lost() {
    let mut net = shared();
    let frame = net.lan.pool.copy(&arp_request((mac(1), ip4(1)), ROUTER_IP)).unwrap();
    let held = Vec::from_iter(std::iter::from_fn(|| net.lan.pool.take(vmlan_frame::Size::Small)));
    let (g1, counters) = net.guests[0].clone();
    net.lan.receive((g1, &counters), [frame]);
    let copies = net.lan.copies_beside();
    assert_eq!(
        Vec::from_iter(copies.iter().map(|(port, sides, _)| (*port, *sides))),
        [(net.guests[1].0, Sides::NONE), (net.trunk.0, Sides::HOST)]
    );
    assert_eq!(counters.snapshot().copies, 3);
    assert_eq!(net.trunk.1.snapshot().dropped(DropReason::QueueFull), 1);
    drop(held);
    assert_eq!(net.lan.pool.out(), 0);
}

#[test]
fn guests_and_host_keep_their_own_addresses() {
    let mut net = shared();
    let to_guest = ip((mac(2), ip4(2).into()), (mac(1), ip4(1).into()));
    assert_eq!(net.send(G(1), &to_guest), [(G(2), to_guest.clone())].into());
    let to_host = ip((HOST, HOST_IP.into()), (mac(1), ip4(1).into()));
    assert_eq!(net.send(G(1), &to_host), [(H, to_host.clone())].into());
    let from_host = ip((mac(1), ip4(1).into()), (HOST, HOST_IP.into()));
    assert_eq!(net.send(H, &from_host), [(G(1), from_host.clone())].into());
    let to_wire = packet((ROUTER, ROUTER_IP.into()), (mac(1), ip4(1).into()), IpProtocol(253), &[1; 30]);
    assert_differs_in(&net.send(G(1), &to_wire)[&W], &to_wire, &[FROM]);
}

#[test]
fn a_claim_on_the_hosts_address_is_dropped_and_reported_once_a_second() {
    let mut net = shared();
    net.lan.network.add_host_address(ip6(200).into());
    let port = net.guests[0].0;
    let conflict = |address: IpAddr| {
        let (mac, owner) = (mac(1), net.trunk.0);
        Event::Conflict { port, mac, address: Some(address), owner }
    };
    let (v4, v6) = (conflict(HOST_IP.into()), conflict(ip6(200).into()));
    for _ in 0..3 {
        assert!(net.send(G(1), &arp_request((mac(1), HOST_IP), ROUTER_IP)).is_empty());
    }
    assert_eq!(net.lan.network.events().events, [v4]);
    net.lan.now = net.lan.now + std::time::Duration::from_secs(1);
    let claim = advertisement((ROUTER, ROUTER_6), (mac(1), ip6(1)), ip6(200), mac(1));
    assert!(net.send(G(1), &claim).is_empty());
    assert_eq!(net.lan.network.events().events, [v6]);
    assert_eq!(net.dropped(1, DropReason::AddressConflict), 4);
    // A probe asks whether the address is taken, and the host is to answer.
    assert_eq!(who(&net.send(G(1), &arp_request((mac(1), Ipv4Addr::UNSPECIFIED), HOST_IP))), [G(2), H, W]);
    let probe = solicitation((mac(1), Ipv6Addr::UNSPECIFIED), ip6(200));
    assert_eq!(who(&net.send(G(1), &probe)), [G(2), H, W]);
}

#[test]
fn an_address_of_another_guest_stays_with_it_and_the_claim_is_dropped_and_reported() {
    let mut net = shared().knowing();
    assert_eq!(who(&net.send(G(2), &arp_request((mac(2), ip4(1)), ROUTER_IP))), [G(1)]);
    assert_eq!(net.dropped(2, DropReason::AddressConflict), 0);
    // It still has the address.
    let mut net = net.knowing();
    net.lan.decide();
    assert_eq!(net.dropped(2, DropReason::AddressConflict), 1);
    let (owner, port) = (net.guests[0].0, net.guests[1].0);
    let conflict = Event::Conflict { port, mac: mac(2), address: Some(ip4(1).into()), owner };
    assert_eq!(net.lan.network.events().events, [conflict]);
    assert_eq!(who(&net.send(W, &ip((HOST, ip4(1).into()), (ROUTER, ROUTER_IP.into())))), [G(1)]);
    // Once the first is silent for long, the address has moved.
    net.lan.now = net.lan.now + std::time::Duration::from_secs(11);
    assert!(!net.send(G(2), &arp_request((mac(2), ip4(1)), ROUTER_IP)).is_empty());
    assert_eq!(who(&net.send(W, &ip((HOST, ip4(1).into()), (ROUTER, ROUTER_IP.into())))), [G(2)]);
}

/// A neighbour discovery message of guest 1 to all nodes, behind `headers`, whose checksum is right.
fn discovery(first: IpProtocol, headers: &[u8], message: &[u8]) -> Vec<u8> {
    let (source, group) = (ip6(1), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
    let addresses = vmlan_frame::checksum::Addresses::V6 { source, destination: group };
    let mut message = message.to_vec();
    Icmpv6Packet::new_checked(&mut message[..]).unwrap().fill_checksum(&addresses);
    let to = (MacAddr([0x33, 0x33, 0, 0, 0, 1]), group.into());
    packet(to, (mac(1), source.into()), first, &[headers, &message].concat())
}

#[test]
fn every_message_with_the_guests_address_is_edited_and_no_other() {
    const ICMP: IpProtocol = IpProtocol::ICMPV6;
    let option = |kind: u8| [&[kind, 1][..], &mac(1).0].concat();
    let message = |kind: u8, fixed: usize, options: &[Vec<u8>]| {
        let mut message = vec![0; fixed];
        message[0] = kind;
        message.extend(options.concat());
        message
    };
    let padding = [58, 0, 1, 4, 0, 0, 0, 0];
    let atomic = [58, 0, 0, 0, 0, 0, 0, 7];
    let (solicit, advertise) =
        (message(133, 8, &[option(1)]), message(134, 16, &[option(5), option(1), option(1)]));
    let edited = [
        discovery(ICMP, &[], &solicit),
        discovery(ICMP, &[], &advertise),
        discovery(IpProtocol::DESTINATION_OPTIONS, &padding, &solicit),
        discovery(ICMP, &[], &message(136, 24, &[option(2)])),
    ];
    let mut net = shared();
    for frame in &edited {
        let wire = net.send(G(1), frame).remove(&W).unwrap();
        let options =
            |octets: &[u8], mac: MacAddr| octets[14..].windows(6).filter(|six| *six == mac.0).count();
        let expected = options(frame, mac(1)) - usize::from(frame[54] == 134);
        assert_eq!(options(&wire, HOST), expected, "{frame:02x?}");
        let packet = Ipv6Packet::new_checked(&wire[14..]).unwrap();
        let at = if packet.next_header() == ICMP { 0 } else { 8 };
        let message = Icmpv6Packet::new_checked(&packet.payload()[at..]).unwrap();
        assert!(message.verify_checksum(&packet.addresses()), "{frame:02x?}");
    }

    let mut coded = solicit.clone();
    coded[1] = 1;
    let mut far = discovery(ICMP, &[], &solicit);
    far[21] = 254;
    let mut long = discovery(ICMP, &[], &solicit);
    long[18..20].copy_from_slice(&1000u16.to_be_bytes());
    let mut beyond = message(133, 8, &[option(1), option(1)]);
    beyond[17] = 2;
    let unedited = [
        far,
        discovery(ICMP, &[], &message(133, 8, &[option(2)])),
        discovery(ICMP, &[], &message(136, 24, &[option(1)])),
        discovery(ICMP, &[], &message(137, 40, &[option(2)])),
        discovery(ICMP, &[], &beyond),
    ];
    for frame in &unedited {
        assert_differs_in(&net.send(G(1), frame)[&W], frame, &[FROM]);
    }
    let unclear = [
        long,
        discovery(ICMP, &[], &coded),
        discovery(IpProtocol::FRAGMENT, &atomic, &solicit),
        discovery(ICMP, &[], &solicit[..4]),
    ];
    for frame in &unclear {
        assert!(net.send(G(1), frame).is_empty(), "{frame:02x?}");
    }
    assert_eq!(net.dropped(1, DropReason::UnclearClaim), unclear.len() as u64);
}

#[test]
fn one_guests_acknowledgement_leases_nothing_to_another() {
    let mut net = shared().knowing();
    let known = net.known();
    let lease = |server: MacAddr, client, yours| {
        let message = dhcp(5, mac(1), client, yours);
        udp((MacAddr::BROADCAST, Ipv4Addr::BROADCAST, 68), (server, ip4(2), 67), &message)
    };
    let server = Vec::from_iter([(IpAddr::from(ip4(2)), net.guests[1].0)]);
    net.send(G(2), &lease(mac(2), ip4(1), ip4(9)));
    assert_eq!(net.known(), [&known[..1], &server, &known[1..]].concat(), "what it sent from is learnt");
    for n in 10..100 {
        net.send(G(2), &lease(mac(2), ip4(n), ip4(n + 100)));
    }
    assert_eq!(net.known(), [&known[..1], &server, &known[1..]].concat());
    assert_eq!(who(&net.send(W, &ip((HOST, ip4(1).into()), (ROUTER, ROUTER_IP.into())))), [G(1)]);
    // Nor does a release, or an answer, of another's.
    let release = dhcp(7, mac(1), ip4(1), Ipv4Addr::UNSPECIFIED);
    net.send(G(2), &udp((ROUTER, ROUTER_IP, 67), (mac(2), ip4(2), 68), &release));
    net.send(G(2), &arp(ROUTER, ArpOperation::REPLY, (mac(2), ip4(2)), (ROUTER, ip4(1))));
    // Nor packets from its address, however long it is silent.
    net.lan.now = net.lan.now + std::time::Duration::from_secs(100);
    net.send(G(2), &ip((ROUTER, ROUTER_IP.into()), (mac(2), ip4(1).into())));
    assert_eq!(who(&net.send(W, &ip((HOST, ip4(1).into()), (ROUTER, ROUTER_IP.into())))), [G(1)]);
}

#[test]
fn leases_come_from_the_host_and_from_a_port_that_is_a_server() {
    let mut net = shared();
    let lease = |server: MacAddr, client, yours| {
        let message = dhcp(5, mac(1), client, yours);
        udp((MacAddr::BROADCAST, Ipv4Addr::BROADCAST, 68), (server, ip4(2), 67), &message)
    };
    net.send(H, &lease(HOST, Ipv4Addr::UNSPECIFIED, ip4(1)));
    assert_eq!(net.known(), [(ip4(1).into(), net.guests[0].0)]);
    let policy = vmlan_lan::PortPolicy {
        macs: vec![mac(2)],
        roles: vmlan_lan::Roles { dhcp: true },
        ..vmlan_lan::PortPolicy::default()
    };
    net.lan.network.update_port(net.guests[1].0, policy).unwrap();
    net.send(G(2), &lease(mac(2), ip4(1), ip4(9)));
    let (client, server) = (net.guests[0].0, net.guests[1].0);
    assert_eq!(net.known(), [(ip4(2).into(), server), (ip4(9).into(), client)]);
}
