//! What a port may send: floods, and all traffic.

mod support;

use std::sync::Arc;
use std::time::Duration;

use frame::{DropReason, MacAddr, Sides};
use lan::{Diversion, Limits, PortId, PortPolicy, Rate, TrunkPolicy};
use link::Counters;
use support::{Lan, mac};

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
    let limits = Limits { rate, storm: None };
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
    assert_eq!(passed(&mut lan, &a, MacAddr::BROADCAST, 5000), 4000);
    lan.now = lan.now + Duration::from_millis(100);
    assert_eq!(passed(&mut lan, &a, MacAddr::BROADCAST, 5000), 2000);
}

#[test]
fn beyond_the_budget_unknown_addresses_are_still_looked_for_on_the_wire() {
    let mut lan = Lan::new();
    let policy = TrunkPolicy { diversion: Diversion::Guests, ..TrunkPolicy::default() };
    let (trunk, _) = lan.trunk(policy);
    let a = lan.port_with(|config| (config.macs, config.limits) = (vec![mac(2)], storm(1, 1)));
    lan.port(&[]);
    lan.port(&[]);
    for expected in [3, 1] {
        let frame = lan.frame(UNKNOWN, mac(2));
        lan.receive((a.0, &a.1), [frame]);
        let copies = lan.copies_beside();
        assert_eq!(copies.len(), expected);
        assert!(copies.iter().any(|(port, sides, _)| (*port, *sides) == (trunk, Sides::WIRE)));
    }
    assert_eq!(a.1.snapshot().dropped(DropReason::Storm), 0);
}
