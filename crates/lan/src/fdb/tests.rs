use super::learning::{AGED_AT_ONCE, HOLD, MOVES_PER_SECOND};
use super::*;
use crate::Event;
use vmlan_frame::SlotKey;

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
        fdb.admit_port(port, quota, None);
        fdb.set_learning(port, true);
    }
    fdb
}

/// Lets a port be heard as the station of `key`: by a lookup, or by learning.
fn hear(fdb: &Fdb, key: Key, port: PortId, now: u32) -> Learning {
    match fdb.find(key) {
        Some(entry) if entry.port == port => {
            fdb.refresh(&entry, now);
            Learning::Refused
        }
        _ => fdb.learn(key, Claimant { port, proven: false }, now),
    }
}

const CONTESTED: Learning = Learning::Contested { moved: false };

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
    assert_eq!(hear(&fdb, key(1), A, 5), Learning::Changed);
    assert_ne!(fdb.version(), version);
    assert_eq!(hear(&fdb, key(1), A, 6), Learning::Refused);
    assert_eq!(port_of(&fdb, 1), Some(A));
    let events = fdb.events();
    assert_eq!(events.events, [event(|mac, vlan| Event::Learnt { mac, vlan, port: A }, 1)]);
}

#[test]
fn the_same_address_in_two_vlans_is_two_entries() {
    let fdb = fdb(64, 100);
    let other = Key::new(mac(1), VlanId::new(2).unwrap());
    hear(&fdb, key(1), A, 0);
    hear(&fdb, other, B, 0);
    assert_eq!(port_of(&fdb, 1), Some(A));
    assert_eq!(fdb.find(other).map(|entry| entry.port), Some(B));
}

#[test]
fn entries_and_moves_are_counted_as_they_come_and_go() {
    let fdb = fdb(64, 100);
    let tally = |fdb: &Fdb| (fdb.tally().entries, fdb.tally().moves);
    (0..3).for_each(|n| _ = hear(&fdb, key(n), A, 0));
    assert!(fdb.insert_fixed(key(9), EntryKind::Static, B));
    // An address that was learnt and is set by hand is one still.
    assert!(fdb.insert_fixed(key(2), EntryKind::Static, A));
    assert_eq!(tally(&fdb), (4, 0));
    assert_eq!(hear(&fdb, key(1), B, 1), Learning::Changed);
    assert_eq!(tally(&fdb), (4, 1));
    assert!(fdb.remove_fixed(key(9), EntryKind::Static));
    fdb.flush(None);
    assert_eq!(tally(&fdb), (1, 1));
    assert_eq!(fdb.entries(1).len(), fdb.tally().entries);
    fdb.dismiss_port(A);
    assert_eq!(tally(&fdb), (0, 1));
}

#[test]
fn a_locked_fdb_is_busy_and_still_read() {
    let fdb = fdb(64, 100);
    hear(&fdb, key(1), A, 0);
    let held = fdb.state.lock();
    assert_eq!(hear(&fdb, key(2), A, 0), Learning::Busy);
    assert_eq!(port_of(&fdb, 1), Some(A));
    drop(held);
    assert_eq!(hear(&fdb, key(2), A, 0), Learning::Changed);
}

#[test]
fn quota_is_told_once_until_there_is_room_again() {
    let fdb = fdb(64, 2);
    (0..5).for_each(|n| _ = hear(&fdb, key(n), A, 0));
    assert_eq!(held_by(&fdb, A), 2);
    let told = |fdb: &Fdb| fdb.events().events.contains(&Event::QuotaReached { port: A });
    assert!(told(&fdb));
    hear(&fdb, key(7), A, 0);
    assert!(!told(&fdb));
    fdb.age(300);
    (0..5).for_each(|n| _ = hear(&fdb, key(n), A, 300));
    assert!(told(&fdb));
}

#[test]
fn an_address_cannot_move_to_a_port_at_its_quota() {
    let fdb = fdb(64, 1);
    hear(&fdb, key(1), A, 0);
    hear(&fdb, key(2), B, 0);
    assert_eq!(hear(&fdb, key(1), B, 1), Learning::Refused);
    assert_eq!(port_of(&fdb, 1), Some(A));
}

#[test]
fn colliding_addresses_stay_within_bounds() {
    // Two buckets: every address collides with every other.
    let fdb = fdb(16, 1000);
    (0..200).for_each(|n| _ = hear(&fdb, key(n), A, n as u32));
    assert_eq!(held_by(&fdb, A), 16);
    assert!((184..200).all(|n| port_of(&fdb, n) == Some(A)), "the oldest of the same port go first");
}

#[test]
fn a_flooder_evicts_nobody_else() {
    let fdb = fdb(64, 1000);
    (0..4).for_each(|n| _ = hear(&fdb, key(n), B, 0));
    (100..10_000).for_each(|n| _ = hear(&fdb, key(n), A, 1));
    assert!((0..4).all(|n| port_of(&fdb, n) == Some(B)));
    assert!(held_by(&fdb, A) <= 60);
}

#[test]
fn room_is_taken_from_the_port_that_holds_most() {
    let fdb = fdb(16, 1000);
    (0..10).for_each(|n| _ = hear(&fdb, key(n), A, 1));
    (10..16).for_each(|n| _ = hear(&fdb, key(n), B, 0));
    fdb.events();
    assert_eq!(hear(&fdb, key(20), C, 2), Learning::Changed);
    assert_eq!([A, B, C].map(|port| held_by(&fdb, port)), [9, 6, 1]);
    assert!(matches!(fdb.events().events[0], Event::Evicted { port: A, .. }));
}

#[test]
fn equals_do_not_evict_each_other() {
    let fdb = fdb(16, 1000);
    (0..8).for_each(|n| _ = hear(&fdb, key(n), A, 1));
    (8..16).for_each(|n| _ = hear(&fdb, key(n), B, 0));
    (20..40).for_each(|n| _ = hear(&fdb, key(n), A, 1));
    assert_eq!([A, B].map(|port| held_by(&fdb, port)), [8, 8]);
}

#[test]
fn silent_addresses_age() {
    let fdb = fdb(64, 100);
    hear(&fdb, key(1), A, 10);
    hear(&fdb, key(2), A, 10);
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
    (0..1000).for_each(|n| _ = hear(&fdb, key(n), A, 0));
    fdb.age(300);
    assert!((1..1000).contains(&held_by(&fdb, A)));
    (0..3).for_each(|_| fdb.age(300));
    assert_eq!(held_by(&fdb, A), 0);
}

#[test]
fn an_address_moves_and_tells() {
    let fdb = fdb(64, 100);
    hear(&fdb, key(1), A, 0);
    fdb.events();
    assert_eq!(hear(&fdb, key(1), B, 1), Learning::Changed);
    assert_eq!(port_of(&fdb, 1), Some(B));
    assert_eq!(fdb.events().events, [event(|mac, vlan| Event::Moved { mac, vlan, from: A, to: B }, 1)]);
    assert_eq!([A, B].map(|port| fdb.state.lock().learnt(port)), [0, 1]);
}

#[test]
fn an_address_that_is_heard_at_home_again_stays_there() {
    let fdb = fdb(64, 100);
    hear(&fdb, key(1), A, 50);
    // A station may move, whenever its former port was heard.
    assert_eq!(hear(&fdb, key(1), B, 50), Learning::Changed);
    fdb.events();
    assert_eq!(hear(&fdb, key(1), A, 51), Learning::Changed);
    let contested = event(|mac, vlan| Event::Contested { mac, vlan, port: A, claimant: B }, 1);
    assert_eq!(fdb.events().events.last(), Some(&contested));
    assert_eq!(hear(&fdb, key(1), B, 51), CONTESTED);
    assert_eq!((port_of(&fdb, 1), fdb.events().events), (Some(A), vec![]), "told once a second");
    assert_eq!(hear(&fdb, key(1), C, 51 + HOLD - 1), CONTESTED);
    let contested = event(|mac, vlan| Event::Contested { mac, vlan, port: A, claimant: C }, 1);
    assert_eq!(fdb.events().events, [contested]);
    // The home fell silent.
    assert_eq!(hear(&fdb, key(1), B, 51 + HOLD), Learning::Changed);
    // And has to be silent for longer with every return.
    assert_eq!(hear(&fdb, key(1), A, 70), Learning::Changed);
    assert_eq!(hear(&fdb, key(1), B, 70 + 2 * HOLD - 1), CONTESTED);
    assert_eq!(hear(&fdb, key(1), B, 70 + 2 * HOLD), Learning::Changed);
}

#[test]
fn a_thief_below_the_rate_of_moves_gets_an_address_once() {
    let fdb = fdb(64, 100);
    hear(&fdb, key(1), A, 100);
    let mut stolen = 0;
    for tenth in 1_000..4_000_u32 {
        let now = tenth / 10;
        if tenth % 10 == 0 {
            hear(&fdb, key(1), A, now);
        }
        if tenth % 3 == 1 {
            hear(&fdb, key(1), B, now);
        }
        stolen += u32::from(port_of(&fdb, 1) == Some(B));
    }
    assert!(stolen <= 10, "{stolen} tenths of a second at the thief");
}

#[test]
fn a_thief_does_not_become_the_home_of_a_silent_address() {
    let fdb = fdb(64, 100);
    hear(&fdb, key(1), A, 0);
    (100..200).for_each(|now| _ = hear(&fdb, key(1), B, now));
    assert_eq!(port_of(&fdb, 1), Some(B));
    assert_eq!(hear(&fdb, key(1), A, 200), Learning::Changed);
    assert_eq!(hear(&fdb, key(1), B, 200), CONTESTED);
}

#[test]
fn a_station_that_moved_for_good_has_its_home_there() {
    let fdb = fdb(64, 100);
    hear(&fdb, key(1), A, 0);
    (10..=310).for_each(|now| _ = hear(&fdb, key(1), B, now));
    assert_eq!(hear(&fdb, key(1), A, 311), Learning::Changed);
    assert_eq!(hear(&fdb, key(1), B, 312), Learning::Changed, "it may come back to its home");
    assert_eq!(hear(&fdb, key(1), A, 313), CONTESTED);
}

#[test]
fn a_station_that_moves_back_to_a_port_after_long_is_not_contested() {
    let fdb = fdb(64, 100);
    hear(&fdb, key(1), A, 0);
    hear(&fdb, key(1), B, 1);
    assert_eq!(hear(&fdb, key(1), A, 1 + HOLD), Learning::Changed);
    assert!(!fdb.events().events.iter().any(|event| matches!(event, Event::Contested { .. })));
    assert_eq!(hear(&fdb, key(1), B, 1 + HOLD), Learning::Changed);
}

#[test]
fn a_contest_is_forgotten_after_the_ageing_time() {
    let fdb = fdb(64, 100);
    hear(&fdb, key(1), A, 0);
    hear(&fdb, key(1), B, 0);
    hear(&fdb, key(1), A, 0);
    assert_eq!(hear(&fdb, key(1), B, 1), CONTESTED);
    (2..=301).for_each(|now| _ = hear(&fdb, key(1), A, now));
    assert_eq!(hear(&fdb, key(1), B, 301), Learning::Changed);
}

#[test]
fn an_address_that_moves_too_often_between_others_goes_home() {
    let fdb = fdb(64, 100);
    hear(&fdb, key(1), A, 0);
    for n in 0..MOVES_PER_SECOND {
        assert_eq!(hear(&fdb, key(1), [B, C][usize::from(n % 2)], 50), Learning::Changed);
    }
    assert_eq!(hear(&fdb, key(1), B, 50), Learning::Contested { moved: true });
    assert_eq!(port_of(&fdb, 1), Some(A));
    assert_eq!(hear(&fdb, key(1), C, 50 + HOLD - 1), CONTESTED);
    assert_eq!(hear(&fdb, key(1), C, 50 + HOLD), Learning::Changed);
}

#[test]
fn a_hold_ends_with_its_entry_and_with_its_port() {
    let fdb = fdb(64, 100);
    let contest = || [A, B, A].map(|port| hear(&fdb, key(1), port, 1));
    contest();
    assert_eq!(hear(&fdb, key(1), B, 1), CONTESTED);
    fdb.flush(None);
    hear(&fdb, key(1), A, 1);
    assert_eq!(hear(&fdb, key(1), B, 1), Learning::Changed);

    fdb.flush(None);
    contest();
    fdb.flush(Some(A));
    assert_eq!(hear(&fdb, key(1), B, 1), Learning::Changed);

    fdb.flush(None);
    hear(&fdb, key(1), A, 1);
    hear(&fdb, key(1), B, 1);
    // A home that receives nothing is none.
    fdb.set_learning(A, false);
    assert_eq!(hear(&fdb, key(1), C, 1), Learning::Changed);
    fdb.set_learning(A, true);
    assert_eq!(hear(&fdb, key(1), B, 1), Learning::Changed, "the home of them that are left");
    assert_eq!(hear(&fdb, key(1), C, 1), CONTESTED);
}

#[test]
fn a_home_at_its_quota_takes_nothing_back() {
    let fdb = fdb(64, 1);
    hear(&fdb, key(1), A, 0);
    hear(&fdb, key(1), B, 0);
    hear(&fdb, key(2), A, 0);
    assert_eq!(hear(&fdb, key(1), A, 1), Learning::Refused);
    assert_eq!(port_of(&fdb, 1), Some(B));
}

/// The trunk is behind port C.
fn beside_the_wire() -> Fdb {
    let fdb = fdb(64, 100);
    fdb.watch(C, Some(std::sync::Arc::new(|_| {})));
    fdb
}

#[test]
fn an_address_on_the_wire_moves_to_a_guest_only_when_the_wire_is_silent() {
    let fdb = beside_the_wire();
    hear(&fdb, key(1), C, 100);
    fdb.events();
    assert_eq!(hear(&fdb, key(1), A, 100 + HOLD - 1), CONTESTED);
    let contested = event(|mac, vlan| Event::Contested { mac, vlan, port: C, claimant: A }, 1);
    assert_eq!(fdb.events().events, [contested]);
    assert_eq!(hear(&fdb, key(1), A, 100 + HOLD), Learning::Changed);
    // It was a theft: from now on the wire keeps the address as long as it would anyway.
    assert_eq!(hear(&fdb, key(1), C, 115), Learning::Changed);
    assert_eq!(hear(&fdb, key(1), A, 115 + 299), CONTESTED);
}

#[test]
fn a_guest_cannot_keep_an_address_of_the_wire_that_it_had_first() {
    let fdb = beside_the_wire();
    hear(&fdb, key(1), A, 100);
    let wire = |proven| fdb.learn(key(1), Claimant { port: C, proven }, 101);
    // What the wire reflects of a guest's is not on the wire.
    assert_eq!(wire(false), CONTESTED);
    assert_eq!(wire(true), Learning::Changed);
    assert_eq!(hear(&fdb, key(1), A, 102), CONTESTED);
}

#[test]
fn a_guest_that_migrates_to_the_wire_is_found_there() {
    let fdb = beside_the_wire();
    hear(&fdb, key(1), A, 100);
    assert_eq!(hear(&fdb, key(1), C, 100 + HOLD), Learning::Changed);
    assert_eq!(hear(&fdb, key(1), A, 100 + HOLD), CONTESTED);
}

#[test]
fn fixed_entries_are_neither_learnt_nor_aged_nor_evicted() {
    let fdb = fdb(16, 1000);
    hear(&fdb, key(1), A, 0);
    assert!(fdb.insert_fixed(key(1), EntryKind::Set, B));
    assert!(fdb.insert_fixed(key(2), EntryKind::Static, B));
    assert_eq!(hear(&fdb, key(1), A, 0), Learning::Refused);
    assert_eq!(hear(&fdb, key(2), A, 0), Learning::Refused);
    (10..100).for_each(|n| _ = hear(&fdb, key(n), A, 0));
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
    (100..116).for_each(|n| _ = hear(&fdb, key(n), A, 0));
    assert!((0..16).all(|n| fdb.insert_fixed(key(n), EntryKind::Set, B)));
    assert!(!fdb.insert_fixed(key(16), EntryKind::Set, B));
    assert_eq!([A, B].map(|port| held_by(&fdb, port)), [0, 16]);
    assert_eq!(hear(&fdb, key(200), C, 0), Learning::Refused);
}

#[test]
fn an_address_for_every_vlan() {
    let fdb = fdb(64, 100);
    let vlan = |vid| Key::new(mac(1), VlanId::new(vid).unwrap());
    hear(&fdb, vlan(7), A, 0);
    assert!(fdb.insert_fixed(Key::wildcard(mac(1)), EntryKind::Set, B));
    assert_eq!(fdb.find(vlan(7)).map(|entry| entry.port), Some(B));
    assert_eq!(hear(&fdb, vlan(8), A, 0), Learning::Refused);
    assert!(fdb.remove_fixed(Key::wildcard(mac(1)), EntryKind::Set));
    assert_eq!(fdb.find(vlan(7)), None);
    assert_eq!(hear(&fdb, vlan(8), A, 0), Learning::Changed);
}

#[test]
fn a_dismissed_port_is_forgotten_and_learns_nothing() {
    let fdb = fdb(64, 100);
    hear(&fdb, key(1), A, 0);
    hear(&fdb, key(2), B, 0);
    assert!(fdb.insert_fixed(key(3), EntryKind::Set, A));
    fdb.dismiss_port(A);
    assert_eq!(fdb.entries(0).len(), 1);
    assert_eq!(hear(&fdb, key(4), A, 0), Learning::Refused);
    assert_eq!(hear(&fdb, key(2), A, 0), Learning::Refused);
    fdb.admit_port(A.successor(), 100, None);
    assert_eq!(hear(&fdb, key(4), A, 0), Learning::Refused);
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
