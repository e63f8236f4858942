//! The limits on frames from a port: floods, and all traffic.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::{Lan, mac};
use vmlan_frame::{Counters, DropReason, MacAddr, Offload, Pool, PoolSizes, Sides, VlanId};
use vmlan_lan::{Diversion, Group, Limits, PortId, PortPolicy, Rate, TrunkPolicy, VlanRole};

const UNKNOWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x99]);

type Port = (PortId, Arc<Counters>);

fn storm(per_second: u64, burst: u64) -> Limits {
    Limits { storm: Some(Rate { per_second, burst }), ..Limits::NONE }
}

/// Three ports, the first of which may flood 10 frames a second and 5 at once.
fn limited() -> (Lan, [Port; 3]) {
    let lan = Lan::new();
    let limited = lan.port_with(|config| (config.macs, config.limits) = (vec![mac(1)], storm(10, 5)));
    let ports = [limited, lan.port(&[]), lan.port(&[])];
    (lan, ports)
}

/// How many of so many frames from `port` made copies.
fn passed(lan: &mut Lan, port: &Port, destination: MacAddr, count: usize) -> usize {
    let source = mac(port.0.slot() as u8 + 1);
    (0..count).filter(|_| !lan.receivers((port.0, &port.1), destination, source).is_empty()).count()
}

#[test]
fn floods_beyond_the_budget_are_dropped_and_counted() {
    for destination in [MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 0, 0, 0xfb]), UNKNOWN] {
        let (mut lan, [a, b, _]) = limited();
        assert_eq!(passed(&mut lan, &a, destination, 20), 5, "{destination}");
        assert_eq!(a.1.snapshot().dropped(DropReason::Storm), 15);
        lan.now = lan.now + Duration::from_millis(200);
        assert_eq!(passed(&mut lan, &a, destination, 20), 2, "{destination}");
        // Another port's floods, and what the port sends to one station, are not touched.
        assert_eq!(passed(&mut lan, &b, MacAddr::BROADCAST, 20), 20);
        assert_eq!(passed(&mut lan, &a, mac(2), 20), 20);
    }
}

#[test]
fn within_a_batch_the_budget_holds_too() {
    let (mut lan, [a, ..]) = limited();
    let frames = Vec::from_iter((0..20).map(|_| lan.frame(MacAddr::BROADCAST, mac(1))));
    lan.receive((a.0, &a.1), frames);
    assert_eq!(lan.copies().len(), 2 * 5);
    assert_eq!(a.1.snapshot().dropped(DropReason::Storm), 15);
}

#[test]
fn a_flood_to_a_single_port_is_no_flood() {
    let mut lan = Lan::new();
    let a = lan.port_with(|config| config.limits = storm(10, 5));
    lan.port(&[]);
    assert_eq!(passed(&mut lan, &a, MacAddr::BROADCAST, 50), 50);
    assert_eq!(passed(&mut lan, &a, UNKNOWN, 50), 50);
}

#[test]
fn all_traffic_is_limited_in_octets() {
    let mut lan = Lan::new();
    let rate = Some(Rate { per_second: 600, burst: 300 });
    let limits = Limits { rate, ..Limits::NONE };
    let a = lan.port_with(|config| (config.macs, config.limits) = (vec![mac(1)], limits));
    lan.port(&[mac(2)]);
    assert_eq!(passed(&mut lan, &a, mac(2), 10), 5);
    lan.now = lan.now + Duration::from_millis(250);
    assert_eq!(passed(&mut lan, &a, mac(2), 10), 2);
    assert_eq!(a.1.snapshot().dropped(DropReason::RateLimit), 5 + 8);
}

#[test]
fn a_new_limit_holds_at_once() {
    let (mut lan, [a, ..]) = limited();
    let policy = |limits| PortPolicy { macs: vec![mac(1)], limits, ..PortPolicy::default() };
    lan.network.update_port(a.0, policy(Limits::NONE)).unwrap();
    assert_eq!(passed(&mut lan, &a, MacAddr::BROADCAST, 50), 50);
    lan.network.update_port(a.0, policy(storm(1, 2))).unwrap();
    assert_eq!(passed(&mut lan, &a, MacAddr::BROADCAST, 50), 2);
}

#[test]
fn by_default_floods_have_a_generous_budget() {
    let mut lan = Lan::new();
    let a = lan.port(&[mac(1)]);
    (0..2).for_each(|_| drop(lan.port(&[])));
    assert_eq!(passed(&mut lan, &a, MacAddr::BROADCAST, 5000), 1000);
    lan.now = lan.now + Duration::from_millis(20);
    assert_eq!(passed(&mut lan, &a, MacAddr::BROADCAST, 5000), 400);
}

/// A frame of `payload` octets to be cut into segments of 512.
fn large(lan: &mut Lan, destination: MacAddr, payload: usize) -> vmlan_frame::Frame {
    lan.pool = Pool::new(PoolSizes { small: 2, large: 2, bulk: 0 });
    let mut octets = support::octets(destination, mac(1));
    octets.resize(54 + payload, 0);
    let mut frame = lan.pool.copy(&octets).unwrap();
    frame.meta.offload =
        Offload { gso_type: Offload::TCPV4, gso_size: 512, header_len: 54, ..Offload::default() };
    frame
}

#[test]
fn a_flood_counts_for_as_many_frames_as_it_is_cut_into() {
    let mut lan = Lan::new();
    let a = lan.port_with(|config| (config.macs, config.limits) = (vec![mac(1)], storm(10, 8)));
    (0..2).for_each(|_| drop(lan.port(&[])));
    for (payload, expected) in [(3 * 512, 2), (6 * 512, 0), (4 * 512 + 1, 2), (1, 0)] {
        let frame = large(&mut lan, MacAddr::BROADCAST, payload);
        lan.receive((a.0, &a.1), [frame]);
        assert_eq!(lan.copies().len(), expected, "{payload}");
    }
    assert_eq!(a.1.snapshot().dropped(DropReason::Storm), 2);
}

#[test]
fn all_traffic_counts_with_the_headers_of_every_segment() {
    let mut lan = Lan::new();
    let rate = Some(Rate { per_second: 600, burst: 3 * 54 + 1400 });
    let a = lan.port_with(|config| {
        (config.macs, config.limits) = (vec![mac(1)], Limits { rate, ..Limits::NONE });
    });
    lan.port(&[mac(2)]);
    for (payload, expected) in [(1401, 0), (1400, 1)] {
        let frame = large(&mut lan, mac(2), payload);
        lan.receive((a.0, &a.1), [frame]);
        assert_eq!(lan.copies().len(), expected, "{payload}");
    }
}

#[test]
fn the_copies_of_floods_are_limited_in_a_network_of_many_ports() {
    let mut lan = Lan::new();
    let copies = Some(Rate { per_second: 100, burst: 60 });
    let a = lan.port_with(|config| config.limits = Limits { copies, ..Limits::NONE });
    (0..20).for_each(|_| drop(lan.port(&[])));
    assert_eq!(passed(&mut lan, &a, MacAddr::BROADCAST, 10), 3);
    assert_eq!(a.1.snapshot().dropped(DropReason::Storm), 7);
    lan.now = lan.now + Duration::from_millis(400);
    assert_eq!(passed(&mut lan, &a, UNKNOWN, 10), 2);
    // To one port it is no flood.
    lan.port(&[mac(200)]);
    assert_eq!(passed(&mut lan, &a, mac(200), 10), 10);
}

#[test]
fn copies_that_other_vlans_would_get_are_not_charged() {
    let mut lan = Lan::new();
    let copies = Some(Rate { per_second: 1, burst: 40 });
    let vlan = |number| VlanRole::Access(VlanId::new(number).unwrap());
    let a = lan.port_with(|config| {
        (config.limits, config.vlan) = (Limits { copies, ..Limits::NONE }, vlan(7));
    });
    for number in [7, 7].into_iter().chain([9; 20]) {
        lan.port_with(|config| config.vlan = vlan(number));
    }
    // As long as there could be copies for all of them.
    assert_eq!(passed(&mut lan, &a, MacAddr::BROADCAST, 30), 10);
}

#[test]
fn the_ports_of_a_group_share_floods_copies_and_addresses() {
    let mut lan = Lan::new();
    let group = Arc::new(Group::new(3));
    let limits = Limits { storm: Some(Rate { per_second: 10, burst: 40 }), ..Limits::NONE };
    let join =
        |config: &mut vmlan_lan::PortConfig| (config.group, config.limits) = (Some(group.clone()), limits);
    let members = [lan.port_with(join), lan.port_with(join), lan.port_with(join)];
    let other = lan.port(&[mac(4)]);
    let granted: usize = members.iter().map(|port| passed(&mut lan, port, MacAddr::BROADCAST, 100)).sum();
    assert_eq!(granted, 40);
    assert_eq!(passed(&mut lan, &other, MacAddr::BROADCAST, 100), 100, "which is not of the group");

    assert_eq!(group.learnt(), 3, "one address of each");
    let learnt = |lan: &Lan| lan.network.fdb(lan.now).iter().filter(|entry| entry.port != other.0).count();
    assert!(!lan.receivers((members[0].0, &members[0].1), mac(4), mac(100)).is_empty());
    assert_eq!(learnt(&lan), 3, "another one has no place");
    // An address that moves within the group needs none.
    lan.receivers((members[1].0, &members[1].1), mac(4), mac(members[0].0.slot() as u8 + 1));
    assert_eq!((learnt(&lan), group.learnt()), (3, 3));
    // What a port leaves is free for the others.
    assert!(lan.network.remove_port(members[2].0));
    lan.receivers((members[0].0, &members[0].1), mac(4), mac(100));
    assert_eq!((learnt(&lan), group.learnt()), (3, 3));
    group.set_addresses(4);
    lan.receivers((members[0].0, &members[0].1), mac(4), mac(101));
    assert_eq!((learnt(&lan), group.learnt()), (4, 4));
}

#[test]
fn beyond_the_budget_unknown_addresses_are_still_looked_for_on_the_wire() {
    let mut lan = Lan::new();
    let policy = TrunkPolicy { diversion: Diversion::Guests, ..TrunkPolicy::default() };
    let (trunk, _) = lan.trunk(policy);
    let a = lan.port_with(|config| (config.macs, config.limits) = (vec![mac(2)], storm(1, 1)));
    lan.port(&[]);
    lan.port(&[]);
    // What the wire alone got is nothing to remember: with the next budget all get it again.
    for expected in [3, 1, 3, 1] {
        if expected == 3 {
            lan.now = lan.now + Duration::from_secs(1);
        }
        let frame = lan.frame(UNKNOWN, mac(2));
        lan.receive((a.0, &a.1), [frame]);
        let copies = lan.copies_beside();
        assert_eq!(copies.len(), expected);
        assert!(copies.iter().any(|(port, sides, _)| (*port, *sides) == (trunk, Sides::WIRE)));
    }
    assert_eq!(a.1.snapshot().dropped(DropReason::Storm), 0);
}
