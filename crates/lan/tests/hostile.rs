//! Invariants that must hold whatever a port sends.

mod support;

use std::sync::Arc;

use proptest::prelude::*;
use support::{Lan, mac, network};
use vmlan_frame::{Counters, Direction, DropReason, MacAddr, VlanTag};
use vmlan_lan::{EntryKind, PortId, VlanRole};

const QUOTA: usize = 12;

/// Octets of any length, mostly with few different addresses so that they meet.
fn octets() -> impl Strategy<Value = Vec<u8>> {
    let address = || {
        prop_oneof![
            6 => any::<u8>().prop_map(mac),
            2 => (0u8..4).prop_map(mac),
            1 => Just(MacAddr::BROADCAST),
            1 => any::<[u8; 6]>().prop_map(MacAddr),
            1 => (0u8..17).prop_map(|n| MacAddr([1, 0x80, 0xc2, 0, 0, n])),
        ]
    };
    let ethertype = prop::sample::select(vec![0x0800u16, 0x8100, 0x88a8, 0x8808, 0x0026]);
    let len = prop_oneof![10 => Just(60usize), 1 => 0usize..20, 1 => 1510usize..1530];
    (address(), address(), ethertype, len).prop_map(|(destination, source, ethertype, len)| {
        let mut octets = [&destination.0[..], &source.0, &ethertype.to_be_bytes()].concat();
        octets.resize(len, 0x81);
        octets
    })
}

fn tag() -> impl Strategy<Value = Option<VlanTag>> {
    prop_oneof![2 => Just(None), 1 => any::<u16>().prop_map(|tci| Some(VlanTag { tci }))]
}

type Received = (usize, Vec<(Vec<u8>, Option<VlanTag>)>);

fn received() -> impl Strategy<Value = Received> {
    (0usize..4, prop::collection::vec((octets(), tag()), 1..30))
}

fn held(lan: &Lan, port: PortId) -> usize {
    let learnt = lan.network.fdb(lan.now).into_iter().filter(|entry| entry.kind == EntryKind::Learnt);
    learnt.filter(|entry| entry.port == port).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// The books balance, the FDB keeps its bounds, no frame comes back, every buffer returns to the pool.
    #[test]
    fn invariants(batches in prop::collection::vec(received(), 1..60), aware in any::<bool>(), room in 0usize..20) {
        let mut lan = Lan::of(network(32));
        let ports: [(PortId, Arc<Counters>); 4] = std::array::from_fn(|n| lan.port_with(|config| {
            config.quota = QUOTA;
            config.macs = if n == 3 { vec![mac(3)] } else { vec![] };
            config.vlan = if n == 2 && aware { VlanRole::Access(vmlan_frame::VlanId::new(10).unwrap()) } else { VlanRole::Unset };
        }));
        lan.egress.set_room(ports[0].0, room);
        let mut delivered = [0; 4];
        for (n, sent) in batches {
            lan.now = lan.now + std::time::Duration::from_millis(300);
            let frames = Vec::from_iter(sent.into_iter().map(|(octets, tag)| {
                let mut frame = lan.pool.copy(&octets).unwrap();
                frame.meta.tag = tag;
                frame
            }));
            let count = frames.len() as u64;
            let before = ports[n].1.snapshot();
            lan.receive((ports[n].0, &ports[n].1), frames);
            let after = ports[n].1.snapshot();
            let dropped = after.dropped_on(Direction::Ingress) - before.dropped_on(Direction::Ingress);
            let copies = after.copies - before.copies;
            prop_assert!(dropped <= count && copies >= count - dropped && copies <= 3 * (count - dropped));
            for (port, ..) in lan.copies() {
                prop_assert_ne!(port, ports[n].0);
                delivered[ports.iter().position(|(id, _)| *id == port).unwrap()] += 1;
            }
            prop_assert!(lan.network.fdb(lan.now).len() <= lan.network.fdb_capacity());
            prop_assert!(ports.iter().all(|(id, _)| held(&lan, *id) <= QUOTA));
            prop_assert_eq!(lan.pool.out(), 0);
        }
        let snapshots = ports.each_ref().map(|(_, counters)| counters.snapshot());
        let copies: u64 = snapshots.iter().map(|counters| counters.copies).sum();
        let dropped: u64 = snapshots.iter().map(|counters| counters.dropped(DropReason::QueueFull)).sum();
        prop_assert_eq!(copies, delivered.iter().sum::<u64>() + dropped);
    }

    /// However many addresses a port shows, what others hold stays, and their frames still reach them alone.
    #[test]
    fn a_mac_flood_costs_others_nothing(sources in prop::collection::vec(any::<[u8; 5]>(), 1000..2000)) {
        let mut lan = Lan::of(network(64));
        let (honest, c1) = lan.port(&[]);
        let (hostile, c2) = lan.port(&[]);
        let (third, c3) = lan.port(&[]);
        lan.receivers((honest, &c1), mac(9), mac(1));
        for octets in sources {
            let mut source = [2; 6];
            source[1..].copy_from_slice(&octets);
            lan.receivers((hostile, &c2), mac(9), MacAddr(source));
        }
        prop_assert_eq!(lan.receivers((third, &c3), mac(1), mac(3)), [honest]);
        prop_assert_eq!(lan.receivers((honest, &c1), mac(3), mac(1)), [third]);
    }
}
