//! The guard of a network's services, in a network of guests, an uplink and a trunk.

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use support::packets::*;
use support::{Lan, access, mac};
use vmlan_frame::wire::{ArpOperation, IpProtocol};
use vmlan_frame::{Counters, DropReason, MacAddr};
use vmlan_lan::{Event, PortConfig, PortError, PortId, PortPolicy, ServiceGuard, TrunkPolicy};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 213, 5, 1);
const GATEWAY_6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 213, 5, 20);
const GUEST_6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7);

/// The uplink, port 0, and guests, each with `mac(n)`.
struct Net {
    lan: Lan,
    ports: Vec<(PortId, Arc<Counters>)>,
}

fn net(change: impl Fn(usize, &mut PortConfig)) -> Net {
    let lan = Lan::new();
    let ports = (0..=3).map(|port| lan.port_with(|config| change(port, config))).collect();
    Net { lan, ports }
}

impl Net {
    fn serve(&self, dhcp: bool) {
        let addresses = vec![GATEWAY.into(), GATEWAY_6.into()];
        let services = ServiceGuard { port: self.ports[0].0, addresses, dhcp };
        self.lan.network.set_services(Some(services)).unwrap();
    }

    /// The ports that get what this one says.
    fn say(&mut self, port: usize, octets: &[u8]) -> Vec<usize> {
        let frame = self.lan.pool.copy(octets).unwrap();
        let (id, counters) = self.ports[port].clone();
        self.lan.receive((id, &counters), [frame]);
        let number = |port| self.ports.iter().position(|(id, _)| *id == port);
        let copies = self.lan.copies_beside().into_iter();
        let mut got = Vec::from_iter(copies.filter_map(|(port, ..)| number(port)));
        got.sort_unstable();
        got
    }

    fn guarded(&self, port: usize) -> u64 {
        self.ports[port].1.snapshot().dropped(DropReason::ServiceGuard)
    }
}

fn offer(from: u8) -> Vec<u8> {
    let message = dhcp(2, mac(3), Ipv4Addr::UNSPECIFIED, GUEST);
    udp((MacAddr::BROADCAST, Ipv4Addr::BROADCAST, 68), (mac(from), GUEST, 67), &message)
}

fn advertises(from: u8) -> Vec<u8> {
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let to = (MacAddr([0x33, 0x33, 0, 0, 0, 1]), IpAddr::from(all));
    let mut message = vec![0; 16];
    message[0] = 134;
    packet(to, (mac(from), GUEST_6.into()), IpProtocol::ICMPV6, &message)
}

fn claims(from: u8, address: Ipv4Addr) -> Vec<u8> {
    arp_request((mac(from), address), address)
}

fn claims_6(from: u8, address: Ipv6Addr) -> Vec<u8> {
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    advertisement((MacAddr([0x33, 0x33, 0, 0, 0, 1]), all), (mac(from), address), address, mac(from))
}

/// Everything that only the uplink may say.
fn rogue(from: u8) -> [Vec<u8>; 4] {
    [offer(from), advertises(from), claims(from, GATEWAY), claims_6(from, GATEWAY_6)]
}

#[test]
fn case_51_a_second_dhcp_server_router_or_gateway_is_heard_by_nobody() {
    let mut net = net(|_, _| {});
    for message in rogue(1) {
        assert_eq!(net.say(1, &message), [0, 2, 3], "before there are services");
    }
    net.serve(true);
    for (message, count) in rogue(1).into_iter().zip(1..) {
        assert_eq!((net.say(1, &message), net.guarded(1)), (vec![], count));
    }
    // To one guest alone, too.
    let reply = arp(mac(3), ArpOperation::REPLY, (mac(1), GATEWAY), (mac(3), GUEST));
    assert_eq!((net.say(1, &reply), net.guarded(1)), (vec![], 5));
    for message in rogue(9) {
        assert_eq!(net.say(0, &message), [1, 2, 3], "the uplink's own");
    }
    for fine in [dhcp_request(1, mac(2), GUEST), claims(2, GUEST), claims_6(2, GUEST_6)] {
        assert_eq!(net.say(2, &fine), [0, 1, 3]);
    }
    assert_eq!(net.guarded(2), 0);
    let conflicts = net.lan.network.events().events.into_iter();
    let conflict = conflicts.filter_map(|event| match event {
        Event::Conflict { port, mac, address, owner } => Some((port, mac, address, owner)),
        _ => None,
    });
    let (guest, uplink) = (net.ports[1].0, net.ports[0].0);
    assert_eq!(
        conflict.collect::<Vec<_>>(),
        [(guest, mac(1), Some(GATEWAY.into()), uplink)],
        "told once in a while"
    );
    assert_eq!(net.lan.pool.out(), 0);
}

#[test]
fn a_trusted_dhcp_server_serves_where_the_uplink_does_not() {
    let mut net = net(|port, config| config.roles.dhcp = port == 1);
    net.serve(false);
    assert_eq!(net.say(1, &offer(1)), [0, 2, 3]);
    assert_eq!((net.say(2, &offer(2)), net.guarded(2)), (vec![], 1));
    for message in &rogue(1)[1..] {
        assert_eq!(net.say(1, message), [], "it is no router all the same");
    }
    net.serve(true);
    assert_eq!((net.say(1, &offer(1)), net.guarded(1)), (vec![], 4));
}

#[test]
fn the_guard_ends_with_the_uplink() {
    let mut net = net(|_, _| {});
    net.serve(true);
    assert_eq!(net.say(1, &offer(1)), []);
    net.lan.network.set_services(None).unwrap();
    assert_eq!(net.say(1, &offer(1)), [0, 2, 3]);
    net.serve(true);
    assert_eq!(net.say(1, &offer(1)), []);
    let (uplink, _) = net.ports[0];
    assert!(net.lan.network.remove_port(uplink));
    assert_eq!(net.say(1, &offer(1)), [2, 3]);
    let gone = ServiceGuard { port: uplink, addresses: vec![], dhcp: true };
    assert_eq!(net.lan.network.set_services(Some(gone)), Err(PortError::Gone(uplink)));
}

#[test]
fn a_port_that_comes_later_or_changes_is_guarded() {
    let mut net = net(|_, _| {});
    net.serve(true);
    net.ports.push(net.lan.port_with(|_| {}));
    assert_eq!((net.say(4, &offer(4)), net.guarded(4)), (vec![], 1));
    let policy = PortPolicy { isolated: true, ..PortPolicy::default() };
    net.lan.network.update_port(net.ports[4].0, policy).unwrap();
    assert_eq!((net.say(4, &offer(4)), net.guarded(4)), (vec![], 2));
}

#[test]
fn other_vlans_have_services_of_their_own() {
    let mut net = net(|port, config| config.vlan = access(if port < 2 { 10 } else { 20 }));
    net.serve(true);
    assert_eq!((net.say(1, &offer(1)), net.guarded(1)), (vec![], 1));
    assert_eq!((net.say(2, &offer(2)), net.guarded(2)), (vec![3], 0));
}

#[test]
fn beside_a_trunk_both_stages_are_asked_and_the_trunk_is_none_of_the_guests() {
    let mut net = net(|_, _| {});
    net.serve(true);
    let trunk = net.lan.trunk(TrunkPolicy::default());
    for (message, count) in rogue(1).into_iter().zip(1..) {
        assert_eq!((net.say(1, &message), net.guarded(1)), (vec![], count));
    }
    // The other stage has its say as before.
    let mut lie = claims(2, GUEST);
    lie[6..12].copy_from_slice(&mac(1).0);
    assert_eq!(net.say(1, &lie), []);
    assert_eq!(net.ports[1].1.snapshot().dropped(DropReason::UnclearClaim), 1);
    net.say(2, &claims(2, GUEST));
    assert_eq!(net.lan.network.shared_addresses().len(), 1);
    net.ports.push(trunk);
    assert_eq!(net.say(4, &offer(9)), [0, 1, 2, 3]);
    assert_eq!(net.guarded(4), 0);
}

#[test]
fn addresses_are_not_written_down_for_the_guard() {
    let mut net = net(|_, _| {});
    net.serve(true);
    net.say(2, &claims(2, GUEST));
    assert_eq!(net.say(1, &claims(1, GUEST)), [0, 2, 3], "no claim between guests is examined");
    assert_eq!(net.lan.network.shared_addresses(), []);
}
