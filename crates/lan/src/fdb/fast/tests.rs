use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::Weak;

use vmlan_frame::{Mutex, VlanId};

use super::*;
use crate::FdbConfig;
use crate::fast::FastPort;
use crate::fdb::{Claimant, Learning};

/// Fast.
const A: PortId = PortId::new(0, 0);
/// Fast.
const B: PortId = PortId::new(1, 0);
/// Not fast.
const C: PortId = PortId::new(2, 0);

/// The calls that a fast way got, which finds every entry still in the table when it is withdrawn.
#[derive(Default)]
struct Calls {
    fdb: Mutex<Weak<Fdb>>,
    withdrawn: Mutex<Vec<(Key, PortId)>>,
    changed: AtomicUsize,
}

impl FastPath for Calls {
    fn withdraw(&self, mac: MacAddr, vlan: Option<VlanId>, port: PortId) {
        let key = vlan.map_or_else(|| Key::wildcard(mac), |vlan| Key::new(mac, vlan));
        let fdb = self.fdb.lock().upgrade().unwrap();
        assert_eq!(fdb.table.find(key).map(|entry| entry.port), Some(port), "the table comes later");
        self.withdrawn.lock().push((key, port));
    }

    fn changed(&self) {
        self.changed.fetch_add(1, Ordering::Relaxed);
    }

    fn ports(&self, _: &[FastPort]) {}
}

struct Lab {
    fdb: Arc<Fdb>,
    calls: Arc<Calls>,
}

impl Lab {
    fn new() -> Lab {
        let config = FdbConfig { size: 16, ageing: Duration::from_secs(300), seed: [3, 4] };
        let lab = Lab { fdb: Arc::new(Fdb::new(&config)), calls: Arc::default() };
        *lab.calls.fdb.lock() = Arc::downgrade(&lab.fdb);
        for port in [A, B, C] {
            lab.fdb.admit_port(port, 100, None);
            lab.fdb.set_learning(port, true);
        }
        [A, B].into_iter().for_each(|port| lab.fdb.set_fast_port(port, true));
        lab.fdb.set_fast_path(Some(Arc::clone(&lab.calls) as Arc<dyn FastPath>));
        lab.calls.changed.store(0, Ordering::Relaxed);
        lab
    }

    fn hear(&self, n: u64, port: PortId, now: u32) -> Learning {
        self.fdb.learn(key(n), Claimant { port, proven: false }, now)
    }

    fn withdrawn(&self) -> Vec<(Key, PortId)> {
        core::mem::take(&mut self.calls.withdrawn.lock())
    }

    fn changed(&self) -> usize {
        self.calls.changed.swap(0, Ordering::Relaxed)
    }

    fn listed(&self) -> Vec<(Key, PortId, EntryKind)> {
        let mut listed = Vec::new();
        self.fdb.list_fast(&mut |entry| {
            let key = entry.vlan.map_or_else(|| Key::wildcard(entry.mac), |vlan| Key::new(entry.mac, vlan));
            listed.push((key, entry.port, entry.kind));
        });
        listed
    }

    fn fix(&self, key: Key, kind: EntryKind, port: PortId) {
        assert!(self.fdb.insert_fixed(key, kind, port));
    }
}

fn mac(n: u64) -> MacAddr {
    MacAddr::from_u64(0x0200_0000_0000 + n)
}

fn key(n: u64) -> Key {
    Key::new(mac(n), VlanId::DEFAULT)
}

fn all_vlans(n: u64) -> Key {
    Key::wildcard(mac(n))
}

#[test]
fn every_way_out_of_the_table_withdraws_first() {
    type Act = fn(&Lab);
    type Withdrawn = Vec<(Key, PortId)>;
    let of_a: fn() -> Withdrawn = || vec![(key(1), A)];
    let cases: [(&str, Act, Withdrawn); 13] = [
        ("moves", |lab| _ = lab.hear(1, C, 0), of_a()),
        ("comes home", |lab| _ = [lab.hear(1, B, 0), lab.hear(1, A, 1)], vec![(key(1), A), (key(1), B)]),
        ("is flushed", |lab| lab.fdb.flush(None), of_a()),
        ("is flushed with its port", |lab| lab.fdb.flush(Some(A)), of_a()),
        ("ages", |lab| lab.fdb.age(300), of_a()),
        ("goes with its port", |lab| lab.fdb.dismiss_port(A), of_a()),
        ("is set for another port", |lab| lab.fix(key(1), EntryKind::Set, C), of_a()),
        ("is set for its port", |lab| lab.fix(key(1), EntryKind::Set, A), of_a()),
        ("is set for every VLAN", |lab| lab.fix(all_vlans(1), EntryKind::Static, C), of_a()),
        (
            "is evicted by a fixed one",
            |lab| (2..18).for_each(|n| lab.fix(key(n), EntryKind::Static, C)),
            of_a(),
        ),
        ("its port is fast no more", |lab| lab.fdb.set_fast_port(A, false), of_a()),
        ("the fast way goes", |lab| _ = lab.fdb.set_fast_path(None), of_a()),
        ("stays", |lab| (lab.fdb.flush(Some(B)), lab.fdb.age(299), lab.hear(1, A, 5)).0, vec![]),
    ];
    for (name, act, expected) in cases {
        let lab = Lab::new();
        assert_eq!(lab.hear(1, A, 0), Learning::Changed);
        act(&lab);
        assert_eq!(lab.withdrawn(), expected, "{name}");
    }
}

#[test]
fn an_address_that_moved_too_often_is_withdrawn_when_it_goes_home() {
    let lab = Lab::new();
    lab.hear(1, A, 0);
    let claims = [C, B, C, B, C].map(|port| lab.hear(1, port, 50));
    assert_eq!(claims[4], Learning::Contested { moved: true });
    assert_eq!(lab.withdrawn(), [(key(1), A), (key(1), B), (key(1), B)]);
    assert_eq!(lab.listed(), [(key(1), A, EntryKind::Learnt)]);
}

#[test]
fn an_address_that_is_evicted_for_another_is_withdrawn() {
    let lab = Lab::new();
    (0..16).for_each(|n| _ = lab.hear(n, A, n as u32));
    lab.hear(20, C, 20);
    assert_eq!(lab.withdrawn(), [(key(0), A)]);
}

#[test]
fn fixed_entries_are_withdrawn_when_they_are_removed_or_replaced() {
    let lab = Lab::new();
    lab.fix(key(1), EntryKind::Static, A);
    lab.fix(key(1), EntryKind::Static, B);
    assert!(lab.fdb.remove_fixed(key(1), EntryKind::Static));
    assert_eq!(lab.withdrawn(), [(key(1), A), (key(1), B)]);
}

#[test]
fn entries_at_other_ports_are_nothing_to_the_fast_way() {
    let lab = Lab::new();
    lab.hear(1, C, 0);
    lab.fix(key(2), EntryKind::Set, C);
    lab.fdb.flush(None);
    lab.fdb.dismiss_port(C);
    assert_eq!((lab.withdrawn(), lab.changed(), lab.listed()), (vec![], 0, vec![]));
}

#[test]
fn a_listing_is_due_for_every_entry_that_came_and_for_no_refresh() {
    let lab = Lab::new();
    lab.hear(1, A, 0);
    assert_eq!(lab.changed(), 1);
    lab.fdb.heard(key(1), A, 5);
    lab.hear(1, A, 6);
    assert_eq!(lab.changed(), 0);
    lab.hear(1, B, 7);
    assert_eq!(lab.changed(), 1);
    lab.fix(key(2), EntryKind::Set, B);
    assert_eq!(lab.changed(), 1);
    lab.fdb.set_fast_port(C, true);
    assert_eq!(lab.changed(), 1);
}

#[test]
fn an_address_that_is_only_heard_fast_does_not_age_while_it_is_at_that_port() {
    let lab = Lab::new();
    lab.hear(1, A, 0);
    lab.hear(2, A, 0);
    lab.fdb.heard(key(1), A, 200);
    lab.fdb.heard(key(2), B, 200);
    lab.fdb.heard(key(3), A, 200);
    lab.fdb.age(300);
    assert_eq!(lab.listed(), [(key(1), A, EntryKind::Learnt)]);
    lab.fdb.age(500);
    assert_eq!(lab.listed(), []);
}

#[test]
fn an_entry_for_every_vlan_that_one_vlan_contradicts_is_not_in_the_copy() {
    let lab = Lab::new();
    lab.fix(all_vlans(1), EntryKind::Static, A);
    assert_eq!(lab.listed(), [(all_vlans(1), A, EntryKind::Static)]);
    lab.fix(key(1), EntryKind::Static, C);
    assert_eq!((lab.withdrawn(), lab.listed()), (vec![(all_vlans(1), A)], vec![]));
    lab.changed();
    assert!(lab.fdb.remove_fixed(key(1), EntryKind::Static));
    assert_eq!((lab.changed(), lab.listed().len()), (1, 1));
    // It says the same.
    lab.fix(key(1), EntryKind::Static, A);
    assert_eq!(lab.listed().len(), 2);
}
