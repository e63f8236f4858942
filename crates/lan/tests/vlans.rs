//! VLANs in a network, case by case.

mod support;

use support::{Lan, access, mac, trunk, vlan};
use vmlan_frame::{DropReason, MacAddr, VlanTag};
use vmlan_lan::{Event, PortPolicy, VlanRole};

#[test]
fn a_network_without_vlans_passes_tags_unchanged() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[]);
    let (g2, c2) = lan.port(&[]);
    lan.port(&[]);
    let tag = Some(VlanTag { tci: 0xe00a });
    let mut frame = lan.frame(mac(2), mac(1));
    frame.meta.tag = tag;
    lan.receive((g1, &c1), [frame]);
    assert!(lan.copies().iter().all(|(_, _, got)| *got == tag));
    assert_eq!(lan.receivers((g2, &c2), mac(1), mac(2)), [g1], "learnt without regard to the tag");
    assert!(!lan.network.is_vlan_aware());
}

/// Ports of every role, and for a frame with each tag at each of them: who gets it, with which tag.
#[test]
fn vlan_roles() {
    let mut lan = Lan::new();
    let roles = [
        VlanRole::Unset,
        access(10),
        access(10),
        trunk(&[10, 20], Some(1)),
        trunk(&[10, 20, 30], None),
        access(20),
    ];
    let ports = roles.map(|role| lan.port_with(|config| config.vlan = role));
    assert!(lan.network.is_vlan_aware());
    let untagged = None;
    let with = |tci| Some(VlanTag { tci });
    let cases = [
        (0, untagged, vec![(3, untagged)]),
        (0, with(0x2000), vec![(3, untagged)]),
        (0, with(1), vec![]),
        (0, with(10), vec![]),
        (1, untagged, vec![(2, untagged), (3, with(10)), (4, with(10))]),
        (1, with(0xe000), vec![(2, untagged), (3, with(0xe00a)), (4, with(0xe00a))]),
        (1, with(10), vec![]),
        (3, untagged, vec![(0, untagged)]),
        (3, with(0xe00a), vec![(1, untagged), (2, untagged), (4, with(0xe00a))]),
        (3, with(30), vec![]),
        (4, untagged, vec![]),
        (4, with(20), vec![(3, with(20)), (5, untagged)]),
        (4, with(4095), vec![]),
    ];
    for (n, (from, tag, expected)) in cases.into_iter().enumerate() {
        let (id, counters) = &ports[from];
        let mut frame = lan.frame(MacAddr::BROADCAST, mac(from as u8));
        frame.meta.tag = tag;
        lan.receive((*id, counters), [frame]);
        let got = Vec::from_iter(lan.copies().into_iter().map(|(port, _, tag)| (port, tag)));
        let expected = Vec::from_iter(expected.into_iter().map(|(to, tag)| (ports[to].0, tag)));
        assert_eq!(got, expected, "case {n}: {tag:?} from port {from}");
    }
    assert_eq!(ports[4].1.snapshot().dropped(DropReason::VlanNotAllowed), 2);
}

#[test]
fn a_tag_hidden_in_a_priority_tag_reaches_no_other_vlan() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port_with(|config| config.vlan = access(1));
    lan.port_with(|config| config.vlan = trunk(&[20], Some(1)));
    let mut octets = support::octets(MacAddr::BROADCAST, mac(1));
    octets[12..16].copy_from_slice(&VlanTag::new(vlan(20)).octets());
    let mut frame = lan.pool.copy(&octets).unwrap();
    frame.meta.tag = Some(VlanTag { tci: 0 });
    lan.receive((g1, &c1), [frame]);
    assert_eq!(lan.copies(), []);
    assert_eq!(c1.snapshot().dropped(DropReason::VlanNotAllowed), 1);
}

#[test]
fn a_tag_hidden_behind_priority_tags_passes_no_trunk_port() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port_with(|config| config.vlan = trunk(&[10, 20], Some(1)));
    let (g2, _) = lan.port_with(|config| config.vlan = trunk(&[20], Some(1)));
    let (g3, _) = lan.port_with(|config| config.vlan = access(1));
    let hidden = VlanTag::new(vlan(20)).octets();
    let priority: [&[u8]; 4] =
        [&[0x88, 0xa8, 0, 0], &[0x91, 0, 0, 0], &[0x88, 0xa8, 0xe0, 0, 0x88, 0xa8, 0, 0], &[]];
    for (n, tags) in priority.into_iter().enumerate() {
        let plain = support::octets(MacAddr::BROADCAST, mac(1));
        let octets = [&plain[..12], tags, &hidden, &plain[12..]].concat();
        let mut frame = lan.pool.copy(&octets).unwrap();
        // The last with its priority tag beside it.
        frame.meta.tag = tags.is_empty().then_some(VlanTag { tci: 0 });
        lan.receive((g1, &c1), [frame]);
        assert_eq!(lan.copies(), [], "case {n}");
        assert_eq!(c1.snapshot().dropped(DropReason::VlanNotAllowed), n as u64 + 1);
    }
    // A service tag is payload.
    let plain = support::octets(MacAddr::BROADCAST, mac(1));
    let octets = [&plain[..12], &[0x88, 0xa8, 0, 7], &hidden, &plain[12..]].concat();
    let frame = lan.pool.copy(&octets).unwrap();
    lan.receive((g1, &c1), [frame]);
    assert_eq!(lan.copies().into_iter().map(|(port, ..)| port).collect::<Vec<_>>(), [g2, g3]);
}

/// A thief that keeps below the rate at which moves are damped: the victim speaks once a second.
#[test]
fn a_slow_thief_gets_an_address_once() {
    let mut lan = Lan::new();
    let [(probe, probes), (victim, victims), (thief, thiefs)] = [lan.port(&[]), lan.port(&[]), lan.port(&[])];
    lan.receivers((victim, &victims), MacAddr::BROADCAST, mac(2));
    let (mut sent, mut got) = (0, 0);
    for _ in 0..12 {
        for _ in 0..3 {
            lan.receivers((thief, &thiefs), MacAddr::BROADCAST, mac(2));
            sent += 1;
            got += usize::from(lan.receivers((probe, &probes), mac(2), mac(1)) == [victim]);
        }
        lan.now = lan.now + std::time::Duration::from_secs(1);
        lan.receivers((victim, &victims), mac(1), mac(2));
    }
    assert!(got >= sent * 9 / 10, "{got} of {sent}");
    assert_eq!(thiefs.snapshot().dropped(DropReason::Contested), 33);
    let contested = Event::Contested { mac: mac(2), vlan: None, port: victim, claimant: thief };
    let events = lan.network.events().events;
    let told = events.iter().filter(|event| **event == contested).count();
    assert!((1..=12).contains(&told), "once a second: {events:?}");
    // A victim that is gone is none any more.
    lan.network.set_active(victim, false).unwrap();
    lan.receivers((thief, &thiefs), MacAddr::BROADCAST, mac(2));
    assert_eq!(lan.receivers((probe, &probes), mac(2), mac(1)), [thief]);
}

#[test]
fn the_same_address_lives_in_two_vlans() {
    let mut lan = Lan::new();
    let of = |vid| move |config: &mut vmlan_lan::PortConfig| config.vlan = access(vid);
    let [(g1, c1), (g2, c2)] = [lan.port_with(of(10)), lan.port_with(of(10))];
    let [(g3, c3), (g4, c4)] = [lan.port_with(of(20)), lan.port_with(of(20))];
    lan.receivers((g1, &c1), mac(9), mac(1));
    lan.receivers((g3, &c3), mac(9), mac(1));
    assert_eq!(lan.receivers((g2, &c2), mac(1), mac(2)), [g1]);
    assert_eq!(lan.receivers((g4, &c4), mac(1), mac(4)), [g3]);
    assert_eq!(lan.network.fdb(lan.now).len(), 4);
}

#[test]
fn an_address_set_for_a_trunk_holds_in_its_vlans_only() {
    let mut lan = Lan::new();
    let (g1, c1) =
        lan.port_with(|config| (config.macs, config.vlan) = (vec![mac(1)], trunk(&[10, 20], None)));
    let (g2, c2) = lan.port_with(|config| config.vlan = access(10));
    let (g3, c3) = lan.port_with(|config| config.vlan = access(30));
    let (g4, c4) = lan.port_with(|config| config.vlan = access(30));
    let mut frame = lan.frame(MacAddr::BROADCAST, mac(1));
    frame.meta.tag = Some(VlanTag::new(vlan(10)));
    lan.receive((g1, &c1), [frame]);
    assert_eq!(lan.copies().len(), 1);
    assert_eq!(lan.receivers((g2, &c2), mac(1), mac(2)), [g1]);
    assert_eq!(lan.receivers((g2, &c2), mac(7), mac(1)), []);
    assert_eq!(c2.snapshot().dropped(DropReason::SourceGuard), 1);
    assert_eq!(lan.receivers((g3, &c3), mac(9), mac(1)), [g4], "VLAN 30 is another matter");
    assert_eq!(lan.receivers((g4, &c4), mac(1), mac(4)), [g3]);
    assert_eq!(c3.snapshot().dropped(DropReason::SourceGuard), 0);
}

#[test]
fn the_first_and_the_last_vlan_role_make_the_difference() {
    let mut lan = Lan::new();
    let (g1, c1) = lan.port(&[]);
    let (g2, _) = lan.port(&[mac(2)]);
    let (g3, _) = lan.port(&[]);
    lan.receivers((g1, &c1), mac(9), mac(1));
    let policy = PortPolicy { vlan: access(10), ..PortPolicy::default() };
    lan.network.update_port(g3, policy).unwrap();
    assert!(lan.network.is_vlan_aware());
    assert_eq!(lan.receivers((g1, &c1), MacAddr::BROADCAST, mac(1)), [g2]);
    assert_eq!(lan.receivers((g1, &c1), mac(2), mac(1)), [g2]);
    assert!(lan.network.fdb(lan.now).iter().all(|entry| entry.vlan == Some(vlan(1))));
    assert!(lan.network.remove_port(g3));
    assert!(!lan.network.is_vlan_aware());
    assert!(lan.network.fdb(lan.now).iter().all(|entry| entry.vlan.is_none()));
    assert_eq!(lan.receivers((g1, &c1), mac(2), mac(1)), [g2]);
}
