//! The behaviour of a network, case by case.

mod support;

use std::sync::Arc;

use support::{Lan, access, mac, trunk, vlan};
use vmlan_frame::{Account, Context, DropReason, MacAddr, Witness};
use vmlan_lan::{EntryKind, Event, PortError, PortPolicy, VlanRole};

const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x99]);

#[test]
fn case_01_unicast_to_the_known_port_only() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[mac(1)]);
    let (g2, _) = lan.port(&[mac(2)]);
    lan.port(&[]);
    assert_eq!(lan.receivers((g1, &c1), mac(2), mac(1)), [g2]);
}

#[test]
fn case_02_unknown_unicast_to_the_ports_without_a_set_address() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[mac(1)]);
    lan.port(&[mac(2)]);
    let (g3, _) = lan.port(&[]);
    let (g4, _) = lan.port(&[]);
    assert_eq!(lan.receivers((g1, &c1), STRANGER, mac(1)), [g3, g4]);
}

#[test]
fn case_03_unicast_to_an_absent_host_reaches_no_port_with_a_set_address() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[mac(1)]);
    lan.port(&[mac(2)]);
    assert_eq!(lan.receivers((g1, &c1), STRANGER, mac(1)), []);
    assert_eq!(c1.snapshot().dropped(DropReason::NoReceiver), 1);
}

#[test]
fn a_lone_guest_is_learnt_and_what_it_says_to_all_has_no_receiver() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[]);
    for destination in [MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 0, 0, 0xfb]), STRANGER] {
        assert_eq!(lan.receivers((g1, &c1), destination, mac(1)), []);
    }
    let sum = c1.snapshot();
    assert_eq!((sum.dropped(DropReason::NoReceiver), sum.dropped(DropReason::NoDestination)), (3, 0));
    assert_eq!(lan.network.events().events, [Event::Learnt { mac: mac(1), vlan: None, port: g1 }]);
}

#[test]
fn case_04_broadcast_to_every_other_active_port() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[mac(1)]);
    let (g2, _) = lan.port(&[mac(2)]);
    let (g3, _) = lan.port(&[]);
    let (g4, _) = lan.port(&[]);
    lan.network.set_active(g4, false).unwrap();
    assert_eq!(lan.receivers((g1, &c1), MacAddr::BROADCAST, mac(1)), [g2, g3]);
    assert_eq!(lan.receivers((g1, &c1), MacAddr([1, 0, 0x5e, 0, 0, 0xfb]), mac(1)), [g2, g3]);
    assert_eq!(c1.snapshot().copies, 4);
}

#[test]
fn case_13_the_senders_own_address_goes_nowhere() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[mac(1), mac(11)]);
    let (g2, c2) = lan.port(&[]);
    lan.port_with(|config| config.promiscuous = true);
    assert_eq!(lan.receivers((g1, &c1), mac(1), mac(1)), []);
    assert_eq!(lan.receivers((g1, &c1), mac(11), mac(1)), []);
    assert_eq!(lan.receivers((g2, &c2), mac(22), mac(22)), []);
    assert_eq!(c1.snapshot().dropped(DropReason::NoDestination), 2);
    assert_eq!(c2.snapshot().dropped(DropReason::NoDestination), 1);
}

#[test]
fn case_14_thirteen_octets_are_no_frame() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[]);
    lan.port(&[]);
    let frames = [0, 13].map(|len| lan.pool.copy(&[2; 14][..len]).unwrap());
    lan.receive((g1, &c1), frames);
    assert_eq!(lan.copies(), []);
    assert_eq!(c1.snapshot().dropped(DropReason::Runt), 2);
}

#[test]
fn case_15_an_inactive_port_receives_nothing_and_still_sends() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[mac(1)]);
    let (g2, c2) = lan.port(&[]);
    let (g3, _) = lan.port(&[]);
    lan.network.set_active(g1, false).unwrap();
    assert_eq!(lan.receivers((g2, &c2), mac(1), mac(2)), []);
    assert_eq!(lan.receivers((g2, &c2), MacAddr::BROADCAST, mac(2)), [g3]);
    assert_eq!(lan.receivers((g1, &c1), mac(2), mac(1)), [g2]);
}

#[test]
fn case_16_a_port_without_a_set_address_gets_unknown_unicast_only() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[mac(1)]);
    let (g2, c2) = lan.port(&[mac(2)]);
    let (g3, c3) = lan.port(&[]);
    assert_eq!(lan.receivers((g1, &c1), mac(2), mac(1)), [g2]);
    assert_eq!(lan.receivers((g1, &c1), STRANGER, mac(1)), [g3]);
    assert_eq!(lan.receivers((g3, &c3), mac(1), mac(3)), [g1]);
    assert_eq!(lan.receivers((g2, &c2), mac(3), mac(2)), [g3]);
}

#[test]
fn case_17_a_full_queue_drops_for_that_port_alone() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[mac(1)]);
    let (g2, c2) = lan.port(&[mac(2)]);
    let (g3, c3) = lan.port(&[mac(3)]);
    lan.egress.set_room(g2, 1);
    let frames = [MacAddr::BROADCAST; 2].map(|to| lan.frame(to, mac(1)));
    lan.receive((g1, &c1), frames);
    let ports = Vec::from_iter(lan.copies().into_iter().map(|(port, ..)| port));
    assert_eq!(ports, [g2, g3, g3]);
    assert_eq!(c1.snapshot().copies, 4);
    assert_eq!(c2.snapshot().dropped(DropReason::QueueFull), 1);
    assert_eq!(c3.snapshot().dropped(DropReason::QueueFull), 0);
    assert_eq!(lan.pool.out(), 0);
}

#[test]
fn a_learnt_address_gets_its_frames_alone() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[]);
    let (g2, c2) = lan.port(&[]);
    let (g3, _) = lan.port(&[]);
    assert_eq!(lan.receivers((g1, &c1), mac(2), mac(1)), [g2, g3]);
    assert_eq!(lan.receivers((g2, &c2), mac(1), mac(2)), [g1]);
    assert_eq!(lan.receivers((g1, &c1), mac(2), mac(1)), [g2]);
    let expected = [(1, g1), (2, g2)].map(|(n, port)| Event::Learnt { mac: mac(n), vlan: None, port });
    assert_eq!(lan.network.events().events, expected);
}

#[test]
fn frames_of_one_batch_learn_from_each_other() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[]);
    let (g2, c2) = lan.port(&[]);
    lan.port(&[]);
    // The second frame goes to the first one's source: behind the same port, so nowhere.
    let frames = [lan.frame(mac(2), mac(1)), lan.frame(mac(1), mac(3)), lan.frame(mac(2), mac(1))];
    lan.receive((g1, &c1), frames);
    assert_eq!(lan.copies().len(), 4);
    assert_eq!(c1.snapshot().dropped(DropReason::NoDestination), 1);
    assert_eq!(lan.receivers((g2, &c2), mac(3), mac(2)), [g1]);
}

#[test]
fn a_guest_that_moves_is_found_at_once() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[]);
    let (g2, c2) = lan.port(&[]);
    let (g3, c3) = lan.port(&[]);
    lan.receivers((g1, &c1), mac(9), mac(1));
    assert_eq!(lan.receivers((g3, &c3), mac(1), mac(3)), [g1]);
    lan.receivers((g2, &c2), mac(3), mac(1));
    assert_eq!(lan.receivers((g3, &c3), mac(1), mac(3)), [g2]);
    let moved = Event::Moved { mac: mac(1), vlan: None, from: g1, to: g2 };
    assert_eq!(lan.network.events().events.last(), Some(&moved));
}

#[test]
fn addresses_age_unless_they_are_heard() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[]);
    let (g2, c2) = lan.port(&[]);
    let (g3, _) = lan.port(&[]);
    let start = lan.now;
    let later = |secs| start + std::time::Duration::from_secs(secs);
    lan.receivers((g1, &c1), mac(9), mac(1));
    lan.receivers((g2, &c2), mac(9), mac(2));
    lan.now = later(200);
    lan.receivers((g1, &c1), mac(9), mac(1));
    lan.network.age(later(300));
    assert_eq!(lan.receivers((g2, &c2), mac(1), mac(3)), [g1]);
    lan.network.age(later(600));
    assert_eq!(lan.receivers((g2, &c2), mac(1), mac(3)), [g1, g3]);
}

#[test]
fn a_port_with_a_set_address_sends_from_it_only() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[mac(1), mac(11)]);
    let (g2, _) = lan.port(&[mac(2)]);
    assert_eq!(lan.receivers((g1, &c1), mac(2), mac(11)), [g2]);
    assert_eq!(lan.receivers((g1, &c1), mac(2), STRANGER), []);
    assert_eq!(c1.snapshot().dropped(DropReason::SourceGuard), 1);
}

/// A witness that looks, and notes the sender of each frame with the reason.
#[derive(Default)]
struct Watcher(std::sync::Mutex<Vec<(Option<MacAddr>, DropReason)>>);

impl Witness for Watcher {
    fn is_present(&self) -> bool {
        true
    }

    fn lost(&self, _: &Context<'_>, frame: &vmlan_frame::Frame, reason: DropReason) {
        self.0.lock().unwrap().push((frame.source(), reason));
    }
}

fn watch(config: &mut vmlan_lan::PortConfig, watcher: &Arc<Watcher>) {
    let counters = Arc::clone(config.account.counters());
    config.account = Account::with_witness(counters, Arc::clone(watcher) as _);
}

#[test]
fn a_witness_sees_what_its_port_loses_on_either_way_and_why() {
    let mut lan = Lan::new();
    let (sender, receiver) = (Arc::<Watcher>::default(), Arc::<Watcher>::default());
    let (g1, c1) = lan.port_with(|config| {
        config.macs = vec![mac(1)];
        watch(config, &sender);
    });
    let (g2, c2) = lan.port_with(|config| {
        config.macs = vec![mac(2)];
        watch(config, &receiver);
    });
    lan.egress.set_room(g2, 1);
    let sent = [(2, STRANGER), (2, mac(1)), (1, mac(1)), (2, mac(1)), (2, MacAddr::ZERO), (2, mac(1))];
    let frames = sent.map(|(to, from)| lan.frame(mac(to), from));
    lan.receive((g1, &c1), frames);

    let expected = [
        (Some(STRANGER), DropReason::SourceGuard),
        (Some(mac(1)), DropReason::NoDestination),
        (Some(MacAddr::ZERO), DropReason::BadSource),
    ];
    assert_eq!(*sender.0.lock().unwrap(), expected);
    assert_eq!(*receiver.0.lock().unwrap(), [(Some(mac(1)), DropReason::QueueFull); 2]);
    assert_eq!(lan.copies().into_iter().map(|(port, ..)| port).collect::<Vec<_>>(), [g2]);
    assert_eq!(expected.map(|(_, reason)| c1.snapshot().dropped(reason)), [1, 1, 1]);
    assert_eq!(c2.snapshot().dropped(DropReason::QueueFull), 2);
    assert_eq!(lan.pool.out(), 0);
}

#[test]
fn without_the_guard_other_addresses_are_learnt() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port_with(|config| (config.macs, config.guard) = (vec![mac(1)], false));
    let (g2, c2) = lan.port(&[mac(2)]);
    assert_eq!(lan.receivers((g2, &c2), STRANGER, mac(2)), []);
    assert_eq!(lan.receivers((g1, &c1), mac(2), STRANGER), [g2]);
    assert_eq!(lan.receivers((g2, &c2), STRANGER, mac(2)), [g1]);
    assert_eq!(lan.receivers((g1, &c1), STRANGER, mac(2)), [], "the address of another port");
    assert_eq!(c1.snapshot().dropped(DropReason::SourceGuard), 1);
}

#[test]
fn a_set_address_cannot_be_taken_by_a_learning_port() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[]);
    let (g2, c2) = lan.port(&[]);
    assert_eq!(lan.receivers((g1, &c1), mac(2), mac(7)), [g2]);
    let (g3, _) = lan.port(&[mac(7)]);
    let entries = lan.network.fdb(lan.now);
    assert_eq!(
        entries.iter().map(|entry| (entry.port, entry.kind)).collect::<Vec<_>>(),
        [(g3, EntryKind::Set)]
    );
    assert_eq!(lan.receivers((g1, &c1), mac(2), mac(7)), []);
    assert_eq!(lan.receivers((g2, &c2), mac(7), mac(2)), [g3]);
    assert_eq!(c1.snapshot().dropped(DropReason::SourceGuard), 1);
}

#[test]
fn a_promiscuous_port_gets_a_copy_of_everything_once() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[mac(1)]);
    let (g2, c2) = lan.port(&[mac(2)]);
    let (g3, c3) = lan.port_with(|config| (config.macs, config.promiscuous) = (vec![mac(3)], true));
    assert_eq!(lan.receivers((g1, &c1), mac(2), mac(1)), [g2, g3]);
    assert_eq!(lan.receivers((g1, &c1), mac(3), mac(1)), [g3]);
    assert_eq!(lan.receivers((g1, &c1), STRANGER, mac(1)), [g3]);
    assert_eq!(lan.receivers((g1, &c1), MacAddr::BROADCAST, mac(1)), [g2, g3]);
    assert_eq!(lan.receivers((g3, &c3), mac(2), mac(3)), [g2]);
    lan.network.set_active(g2, false).unwrap();
    assert_eq!(lan.receivers((g1, &c1), mac(2), mac(1)), [g3]);
    lan.network.set_active(g3, false).unwrap();
    assert_eq!(lan.receivers((g2, &c2), mac(1), mac(2)), [g1]);
}

#[test]
fn isolated_ports_talk_to_others_only() {
    let mut lan = Lan::new();
    let isolated = |config: &mut vmlan_lan::PortConfig| config.isolated = true;
    let (g1, c1) = lan.port_with(isolated);
    let (g2, c2) = lan.port_with(isolated);
    let (g3, c3) = lan.port(&[]);
    assert_eq!(lan.receivers((g1, &c1), MacAddr::BROADCAST, mac(1)), [g3]);
    assert_eq!(lan.receivers((g2, &c2), mac(1), mac(2)), []);
    assert_eq!(lan.receivers((g3, &c3), mac(1), mac(3)), [g1]);
    assert_eq!(lan.receivers((g3, &c3), MacAddr::BROADCAST, mac(3)), [g1, g2]);
}

#[test]
fn nothing_passes_a_port_that_is_not_enabled() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[]);
    let (g2, c2) = lan.port(&[]);
    assert_eq!(lan.receivers((g1, &c1), mac(2), mac(1)), [g2]);
    let disabled = vmlan_lan::PortPolicy { enabled: false, ..vmlan_lan::PortPolicy::default() };
    lan.network.update_port(g1, disabled.clone()).unwrap();
    assert_eq!(lan.network.fdb(lan.now), [], "what was learnt behind it is forgotten");
    assert_eq!(lan.receivers((g2, &c2), mac(1), mac(2)), []);
    assert_eq!(lan.receivers((g1, &c1), mac(2), mac(1)), []);
    assert_eq!(c1.snapshot().dropped(DropReason::PortDown), 1);
    // It stays so when another guest comes.
    lan.network.set_active(g1, false).unwrap();
    lan.network.set_active(g1, true).unwrap();
    assert_eq!(lan.receivers((g1, &c1), mac(2), mac(1)), []);
    assert_eq!(lan.network.fdb(lan.now).len(), 1);
    lan.network.update_port(g1, vmlan_lan::PortPolicy::default()).unwrap();
    assert_eq!(lan.receivers((g1, &c1), mac(2), mac(1)), [g2]);
    assert_eq!(lan.receivers((g2, &c2), mac(1), mac(2)), [g1]);
}

#[test]
fn a_static_entry_stays_where_it_was_put() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[mac(1)]);
    let (g2, _) = lan.port(&[]);
    let (g3, c3) = lan.port(&[]);
    lan.network.add_static(mac(9), None, g2).unwrap();
    assert_eq!(lan.receivers((g1, &c1), mac(9), mac(1)), [g2]);
    assert_eq!(lan.receivers((g3, &c3), mac(1), mac(9)), [g1], "it may be sent from elsewhere");
    assert_eq!(lan.receivers((g1, &c1), mac(9), mac(1)), [g2]);
    assert!(lan.network.remove_static(mac(9), None));
    assert!(!lan.network.remove_static(mac(9), None));
    assert_eq!(lan.receivers((g1, &c1), mac(9), mac(1)), [g2, g3]);
    lan.network.add_static(mac(9), Some(vlan(1)), g2).unwrap();
    assert!(lan.network.remove_port(g2));
    assert_eq!(lan.receivers((g1, &c1), mac(9), mac(1)), [g3]);
}

#[test]
fn addresses_that_cannot_be_set_are_refused() {
    let lan = Lan::new();
    let counters = || Arc::new(vmlan_frame::Counters::new(1));
    let config = |name: &str, mac, vlan| {
        let config = vmlan_lan::PortConfig::new(name, counters());
        vmlan_lan::PortConfig { macs: vec![mac], vlan, ..config }
    };
    let web = lan.network.add_port(config("web", mac(1), VlanRole::Unset)).unwrap();
    let taken = PortError::MacTaken { port: "db".into(), mac: mac(1), owner: "web".into() };
    for role in [VlanRole::Unset, access(1), trunk(&[1], None), trunk(&[9], Some(1))] {
        assert_eq!(lan.network.add_port(config("db", mac(1), role)), Err(taken.clone()));
    }
    assert!(lan.network.add_static(mac(1), None, web).is_err());
    let group = MacAddr::BROADCAST;
    let refused = lan.network.add_port(config("db", group, VlanRole::Unset));
    assert_eq!(refused, Err(PortError::NotAStation { port: "db".into(), mac: group }));
    let db = lan.network.add_port(config("db", mac(1), access(2))).unwrap();
    let back = PortPolicy { macs: vec![mac(1)], ..PortPolicy::default() };
    assert_eq!(lan.network.update_port(db, back.clone()), Err(taken));
    assert!(lan.network.remove_port(web));
    assert_eq!(lan.network.update_port(db, back), Ok(()));
    assert_eq!(lan.network.fdb(lan.now).len(), 1);
}

#[test]
fn a_removed_ports_id_reaches_nobody() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[]);
    let (g2, c2) = lan.port(&[mac(2)]);
    lan.receivers((g1, &c1), mac(2), mac(1));
    assert!(lan.network.remove_port(g1));
    assert!(!lan.network.remove_port(g1));
    assert_eq!(lan.network.set_active(g1, true), Err(PortError::Gone(g1)));
    assert_eq!(lan.network.fdb(lan.now).len(), 1);
    let (g3, _) = lan.port(&[]);
    assert_eq!((g3.slot(), g3 == g1), (g1.slot(), false));
    assert_eq!(lan.receivers((g1, &c1), mac(2), mac(1)), []);
    assert_eq!(c1.snapshot().dropped(DropReason::NotAttached), 1);
    assert_eq!(lan.receivers((g2, &c2), mac(1), mac(2)), [g3]);
}

#[test]
fn the_longest_free_slot_is_used_next() {
    let lan = Lan::new();
    let ids = [lan.port(&[]).0, lan.port(&[]).0, lan.port(&[]).0];
    [1, 0].into_iter().for_each(|n| assert!(lan.network.remove_port(ids[n])));
    assert_eq!(lan.port(&[]).0.slot(), 1);
    assert_eq!(lan.port(&[]).0.slot(), 0);
    assert_eq!(lan.port(&[]).0.slot(), 3);
}

#[test]
fn what_was_learnt_behind_a_port_is_forgotten_when_its_peer_goes() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[]);
    lan.port(&[]);
    lan.receivers((g1, &c1), mac(9), mac(1));
    lan.network.set_active(g1, false).unwrap();
    assert_eq!(lan.network.fdb(lan.now), []);
    lan.receivers((g1, &c1), mac(9), mac(1));
    assert_eq!(lan.network.fdb(lan.now), [], "a port that receives nothing learns nothing");
    lan.network.set_active(g1, true).unwrap();
    lan.receivers((g1, &c1), mac(9), mac(1));
    assert_eq!(lan.network.fdb(lan.now).len(), 1);
    lan.network.flush();
    assert_eq!(lan.network.fdb(lan.now), []);
}

#[test]
fn the_mtu_can_change() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[]);
    let (g2, _) = lan.port(&[]);
    let mut long = support::octets(mac(2), mac(1));
    long.resize(1515, 0);
    let frame = lan.pool.copy(&long).unwrap();
    lan.receive((g1, &c1), [frame.clone()]);
    assert_eq!(c1.snapshot().dropped(DropReason::Oversize), 1);
    lan.network.set_mtu(1501);
    lan.receive((g1, &c1), [frame]);
    assert_eq!(lan.copies(), [(g2, long, None)]);
}

#[test]
fn a_new_policy_takes_the_place_of_the_old() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[mac(1)]);
    let (g2, c2) = lan.port(&[mac(2), mac(22)]);
    let policy = PortPolicy { macs: vec![mac(22), mac(23)], ..PortPolicy::default() };
    lan.network.update_port(g2, policy).unwrap();
    assert_eq!(lan.receivers((g1, &c1), mac(2), mac(1)), []);
    assert_eq!(lan.receivers((g1, &c1), mac(22), mac(1)), [g2]);
    assert_eq!(lan.receivers((g1, &c1), mac(23), mac(1)), [g2]);
    assert_eq!(lan.receivers((g2, &c2), mac(1), mac(2)), []);
    lan.network.update_port(g2, PortPolicy::default()).unwrap();
    assert_eq!(lan.receivers((g2, &c2), mac(1), mac(2)), [g1]);
    assert_eq!(lan.receivers((g1, &c1), mac(23), mac(1)), [g2], "unknown now");
}

#[test]
fn a_turn_ends_when_its_copies_weigh_enough_and_the_rest_is_left_in_order() {
    let mut lan = Lan::new();
    let (a, counters) = lan.port(&[mac(1)]);
    (0..4).for_each(|_| drop(lan.port(&[])));
    // A broadcast makes four copies, and what is dropped weighs nothing.
    let kinds = [MacAddr::BROADCAST, mac(1), MacAddr::BROADCAST];
    let mut frames = Vec::from_iter(kinds.iter().map(|destination| lan.frame(*destination, mac(1))));
    let mut batch = vmlan_frame::Batch::from_iter(frames.drain(..));
    for (copies, left) in [(4, 2), (4, 0), (0, 0)] {
        lan.egress.allow(vmlan_lan::Egress::COPY);
        let cx = Context { worker: 0, now: lan.now, pool: &lan.pool };
        assert!(lan.forwarder.forward(&cx, a, &mut batch, &mut lan.egress));
        assert!(batch.is_empty());
        batch = vmlan_frame::Batch::from_iter(lan.forwarder.left().drain());
        assert_eq!((lan.copies().len(), batch.len()), (copies, left));
    }
    let sum = counters.snapshot();
    assert_eq!((sum.copies, sum.dropped(DropReason::NoDestination)), (8, 1));
}
