use super::learning::{AGED_AT_ONCE, HOLD, MOVES_PER_SECOND};
use super::*;
use crate::Event;

const A: PortId = PortId::new(0, 0);
const B: PortId = PortId::new(1, 0);
const C: PortId = PortId::new(2, 0);

fn key(n: u64) -> Key {
    Key::new(mac(n), VlanId::DEFAULT)
}

fn mac(n: u64) -> MacAddr {
    MacAddr::from_u64(0x0200_0000_0000 + n)
}

/// Three learning ports and room for `size` entries.
fn fdb(size: usize, quota: usize) -> Fdb {
    let fdb = Fdb::new(&FdbConfig { size, ageing: Duration::from_secs(300), seed: [3, 4] });
    for port in [A, B, C] {
        fdb.admit_port(port, quota);
        fdb.set_learning(port, true);
    }
    fdb
}

fn port_of(fdb: &Fdb, n: u64) -> Option<PortId> {
    fdb.find(key(n)).map(|entry| entry.port)
}

fn held_by(fdb: &Fdb, port: PortId) -> usize {
    fdb.entries(0).iter().filter(|entry| entry.port == port).count()
}

fn event(event: fn(MacAddr, Option<VlanId>) -> Event, n: u64) -> Event {
    event(mac(n), Some(VlanId::DEFAULT))
}

#[test]
fn learns_and_tells_once() {
    let fdb = fdb(64, 100);
    let version = fdb.version();
    assert_eq!(fdb.learn(key(1), A, 5), Learning::Changed);
    assert_ne!(fdb.version(), version);
    assert_eq!(fdb.learn(key(1), A, 6), Learning::Refused);
    assert_eq!(port_of(&fdb, 1), Some(A));
    let events = fdb.events();
    assert_eq!(events.events, [event(|mac, vlan| Event::Learnt { mac, vlan, port: A }, 1)]);
}

#[test]
fn the_same_address_in_two_vlans_is_two_entries() {
    let fdb = fdb(64, 100);
    let other = Key::new(mac(1), VlanId::new(2).unwrap());
    fdb.learn(key(1), A, 0);
    fdb.learn(other, B, 0);
    assert_eq!(port_of(&fdb, 1), Some(A));
    assert_eq!(fdb.find(other).map(|entry| entry.port), Some(B));
}

#[test]
fn a_locked_fdb_is_busy_and_still_read() {
    let fdb = fdb(64, 100);
    fdb.learn(key(1), A, 0);
    let held = lock(&fdb.state);
    assert_eq!(fdb.learn(key(2), A, 0), Learning::Busy);
    assert_eq!(port_of(&fdb, 1), Some(A));
    drop(held);
    assert_eq!(fdb.learn(key(2), A, 0), Learning::Changed);
}

#[test]
fn quota_is_told_once_until_there_is_room_again() {
    let fdb = fdb(64, 2);
    (0..5).for_each(|n| _ = fdb.learn(key(n), A, 0));
    assert_eq!(held_by(&fdb, A), 2);
    let told = |fdb: &Fdb| fdb.events().events.contains(&Event::QuotaReached { port: A });
    assert!(told(&fdb));
    fdb.learn(key(7), A, 0);
    assert!(!told(&fdb));
    fdb.age(300);
    (0..5).for_each(|n| _ = fdb.learn(key(n), A, 300));
    assert!(told(&fdb));
}

#[test]
fn an_address_cannot_move_to_a_port_at_its_quota() {
    let fdb = fdb(64, 1);
    fdb.learn(key(1), A, 0);
    fdb.learn(key(2), B, 0);
    assert_eq!(fdb.learn(key(1), B, 1), Learning::Refused);
    assert_eq!(port_of(&fdb, 1), Some(A));
}

#[test]
fn colliding_addresses_stay_within_bounds() {
    // Two buckets: every address collides with every other.
    let fdb = fdb(16, 1000);
    (0..200).for_each(|n| _ = fdb.learn(key(n), A, n as u32));
    assert_eq!(held_by(&fdb, A), 16);
    assert!((184..200).all(|n| port_of(&fdb, n) == Some(A)), "the oldest of the same port go first");
}

#[test]
fn a_flooder_evicts_nobody_else() {
    let fdb = fdb(64, 1000);
    (0..4).for_each(|n| _ = fdb.learn(key(n), B, 0));
    (100..10_000).for_each(|n| _ = fdb.learn(key(n), A, 1));
    assert!((0..4).all(|n| port_of(&fdb, n) == Some(B)));
    assert!(held_by(&fdb, A) <= 60);
}

#[test]
fn room_is_taken_from_the_port_that_holds_most() {
    let fdb = fdb(16, 1000);
    (0..10).for_each(|n| _ = fdb.learn(key(n), A, 1));
    (10..16).for_each(|n| _ = fdb.learn(key(n), B, 0));
    fdb.events();
    assert_eq!(fdb.learn(key(20), C, 2), Learning::Changed);
    assert_eq!([A, B, C].map(|port| held_by(&fdb, port)), [9, 6, 1]);
    assert!(matches!(fdb.events().events[0], Event::Evicted { port: A, .. }));
}

#[test]
fn equals_do_not_evict_each_other() {
    let fdb = fdb(16, 1000);
    (0..8).for_each(|n| _ = fdb.learn(key(n), A, 1));
    (8..16).for_each(|n| _ = fdb.learn(key(n), B, 0));
    (20..40).for_each(|n| _ = fdb.learn(key(n), A, 1));
    assert_eq!([A, B].map(|port| held_by(&fdb, port)), [8, 8]);
}

#[test]
fn silent_addresses_age() {
    let fdb = fdb(64, 100);
    fdb.learn(key(1), A, 10);
    fdb.learn(key(2), A, 10);
    fdb.refresh(&fdb.find(key(2)).unwrap(), 20);
    fdb.age(309);
    assert_eq!(fdb.entries(309).len(), 2);
    fdb.events();
    fdb.age(310);
    assert_eq!((port_of(&fdb, 1), port_of(&fdb, 2)), (None, Some(A)));
    assert_eq!(fdb.entries(315)[0].age, Some(Duration::from_secs(295)));
    assert_eq!(fdb.events().events, [event(|mac, vlan| Event::Expired { mac, vlan, port: A }, 1)]);
}

#[test]
fn a_large_fdb_ages_in_parts() {
    let fdb = fdb(4 * AGED_AT_ONCE, 100_000);
    (0..1000).for_each(|n| _ = fdb.learn(key(n), A, 0));
    fdb.age(300);
    assert!((1..1000).contains(&held_by(&fdb, A)));
    (0..3).for_each(|_| fdb.age(300));
    assert_eq!(held_by(&fdb, A), 0);
}

#[test]
fn an_address_moves_and_tells() {
    let fdb = fdb(64, 100);
    fdb.learn(key(1), A, 0);
    fdb.events();
    assert_eq!(fdb.learn(key(1), B, 1), Learning::Changed);
    assert_eq!(port_of(&fdb, 1), Some(B));
    assert_eq!(fdb.events().events, [event(|mac, vlan| Event::Moved { mac, vlan, from: A, to: B }, 1)]);
    assert_eq!([A, B].map(|port| lock(&fdb.state).learnt(port)), [0, 1]);
}

#[test]
fn an_address_that_flaps_is_held_at_home() {
    let fdb = fdb(64, 100);
    fdb.learn(key(1), A, 0);
    let flap =
        |now| (0..=MOVES_PER_SECOND).for_each(|n| _ = fdb.learn(key(1), [B, A][usize::from(n % 2)], now));
    flap(50);
    assert_eq!(port_of(&fdb, 1), Some(A));
    let damped = event(|mac, vlan| Event::MoveDamped { mac, vlan, port: A, claimant: B }, 1);
    assert_eq!(fdb.events().events.last(), Some(&damped));
    assert_eq!(fdb.learn(key(1), B, 50 + HOLD - 1), Learning::Refused);
    assert_eq!(fdb.learn(key(1), B, 50 + HOLD), Learning::Changed);
    // Who kept trying did not become the home.
    flap(50 + HOLD);
    assert_eq!(port_of(&fdb, 1), Some(A));
}

#[test]
fn a_hold_ends_with_its_entry() {
    let fdb = fdb(64, 100);
    fdb.learn(key(1), A, 0);
    for port in [B, A, B, A, B] {
        fdb.learn(key(1), port, 1);
    }
    assert_eq!(fdb.learn(key(1), B, 1), Learning::Refused);
    fdb.flush(None);
    fdb.learn(key(1), A, 1);
    assert_eq!(fdb.learn(key(1), B, 1), Learning::Changed);
}

#[test]
fn a_flapping_address_whose_home_is_gone_stays_where_it_is() {
    let fdb = fdb(64, 100);
    fdb.learn(key(1), C, 0);
    fdb.learn(key(1), A, 1);
    fdb.dismiss_port(C);
    for port in [B, A, B, A, B] {
        fdb.learn(key(1), port, 1);
    }
    assert_eq!(port_of(&fdb, 1), Some(B));
    assert_eq!(fdb.learn(key(1), A, 2), Learning::Refused);
}

#[test]
fn fixed_entries_are_neither_learnt_nor_aged_nor_evicted() {
    let fdb = fdb(16, 1000);
    fdb.learn(key(1), A, 0);
    assert!(fdb.insert_fixed(key(1), EntryKind::Set, B));
    assert!(fdb.insert_fixed(key(2), EntryKind::Static, B));
    assert_eq!(fdb.learn(key(1), A, 0), Learning::Refused);
    assert_eq!(fdb.learn(key(2), A, 0), Learning::Refused);
    (10..100).for_each(|n| _ = fdb.learn(key(n), A, 0));
    fdb.age(1000);
    fdb.flush(None);
    assert_eq!(fdb.entries(0).len(), 2);
    assert_eq!((port_of(&fdb, 1), port_of(&fdb, 2)), (Some(B), Some(B)));
    assert!(!fdb.remove_fixed(key(1), EntryKind::Static));
    assert!(fdb.remove_fixed(key(1), EntryKind::Set));
    assert_eq!(port_of(&fdb, 1), None);
}

#[test]
fn fixed_entries_take_the_place_of_learnt_ones_and_no_other() {
    let fdb = fdb(16, 1000);
    (100..116).for_each(|n| _ = fdb.learn(key(n), A, 0));
    assert!((0..16).all(|n| fdb.insert_fixed(key(n), EntryKind::Set, B)));
    assert!(!fdb.insert_fixed(key(16), EntryKind::Set, B));
    assert_eq!([A, B].map(|port| held_by(&fdb, port)), [0, 16]);
    assert_eq!(fdb.learn(key(200), C, 0), Learning::Refused);
}

#[test]
fn an_address_for_every_vlan() {
    let fdb = fdb(64, 100);
    let vlan = |vid| Key::new(mac(1), VlanId::new(vid).unwrap());
    fdb.learn(vlan(7), A, 0);
    assert!(fdb.insert_fixed(Key::wildcard(mac(1)), EntryKind::Set, B));
    assert_eq!(fdb.find(vlan(7)).map(|entry| entry.port), Some(B));
    assert_eq!(fdb.learn(vlan(8), A, 0), Learning::Refused);
    assert!(fdb.remove_fixed(Key::wildcard(mac(1)), EntryKind::Set));
    assert_eq!(fdb.find(vlan(7)), None);
    assert_eq!(fdb.learn(vlan(8), A, 0), Learning::Changed);
}

#[test]
fn a_dismissed_port_is_forgotten_and_learns_nothing() {
    let fdb = fdb(64, 100);
    fdb.learn(key(1), A, 0);
    fdb.learn(key(2), B, 0);
    assert!(fdb.insert_fixed(key(3), EntryKind::Set, A));
    fdb.dismiss_port(A);
    assert_eq!(fdb.entries(0).len(), 1);
    assert_eq!(fdb.learn(key(4), A, 0), Learning::Refused);
    assert_eq!(fdb.learn(key(2), A, 0), Learning::Refused);
    fdb.admit_port(A.successor(), 100);
    assert_eq!(fdb.learn(key(4), A, 0), Learning::Refused);
}

#[test]
fn another_seed_puts_addresses_elsewhere() {
    let places = |seed| {
        let table = Table::new(4096, seed);
        Vec::from_iter((0..64).map(|n| table.places(key(n)).next().unwrap()))
    };
    assert_eq!(places([1, 2]), places([1, 2]));
    assert_ne!(places([1, 2]), places([1, 3]));
}
