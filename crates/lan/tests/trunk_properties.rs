//! Invariants that must hold in a network with a trunk, whatever is configured and sent.

mod support;

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use support::{Lan, network};
use vmlan_frame::{Counters, Direction, DropReason, MacAddr, Sides};
use vmlan_lan::{Diversion, Limits, PortId, Rate, TrunkPolicy};

const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xaa]);

/// Guests 1 to 3, stations 4 and 5 on the wire, the host, a group.
fn address(n: u8) -> MacAddr {
    match n {
        0 => HOST,
        1..=5 => MacAddr([2, 0, 0, 0, 0, n]),
        6 => MacAddr([1, 0, 0x5e, 0, 0, 1]),
        _ => MacAddr::BROADCAST,
    }
}

#[derive(Clone, Debug)]
struct Sent {
    /// A guest from 0 to 2, the host or the wire.
    from: usize,
    source: u8,
    destination: u8,
    ethertype: u16,
    rest: Vec<u8>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let ethertype = prop::sample::select(vec![0x0800, 0x0806, 0x86dd, 0x88b5]);
    // Mostly ARP and IP headers in order, with something random after them.
    let start = prop::sample::select(vec![
        vec![],
        vec![0, 1, 8, 0, 6, 4, 0, 1],
        vec![0, 1, 8, 0, 6, 4, 0, 2],
        vec![0x45, 0, 0, 28],
        vec![0x60, 0, 0, 0, 0, 8, 58, 255],
    ]);
    let rest = (start, prop::collection::vec(0u8..3, 0..60)).prop_map(|(start, rest)| [start, rest].concat());
    (0usize..5, 0u8..6, 0u8..8, ethertype, rest).prop_map(|(from, source, destination, ethertype, rest)| {
        Sent { from, source, destination, ethertype, rest }
    })
}

fn sides() -> impl Strategy<Value = Sides> {
    prop::sample::select(vec![Sides::NONE, Sides::HOST, Sides::WIRE, Sides::BOTH])
}

fn policy() -> impl Strategy<Value = TrunkPolicy> {
    let diversion = prop::sample::select(vec![Diversion::Nothing, Diversion::Guests, Diversion::Everything]);
    let enabled = prop_oneof![3 => Just(Sides::BOTH), 1 => sides()];
    (diversion, enabled, sides(), any::<bool>()).prop_map(|(diversion, enabled, promiscuous, shared_mac)| {
        TrunkPolicy {
            macs: vec![HOST],
            enabled,
            promiscuous,
            diversion,
            shared_mac,
            ..TrunkPolicy::default()
        }
    })
}

struct Bench {
    lan: Lan,
    guests: [(PortId, Arc<Counters>); 3],
    trunk: (PortId, Arc<Counters>),
    policy: TrunkPolicy,
    delivered: [u64; 4],
}

impl Bench {
    /// The first guest has a set address, the others learn; the third is promiscuous and sees the trunk, if `spy`.
    fn new(policy: TrunkPolicy, spy: bool, room: usize) -> Bench {
        let mut lan = Lan::of(network(16));
        let trunk = lan.trunk(policy.clone());
        let guests = std::array::from_fn(|n| {
            lan.port_with(|config| {
                config.macs = if n == 0 { vec![address(1)] } else { vec![] };
                (config.promiscuous, config.sees_trunk) = (spy && n == 2, spy && n == 2);
                config.limits = Limits { storm: Some(Rate { per_second: 5, burst: 10 }), ..Limits::NONE };
            })
        });
        lan.egress.set_room(trunk.0, room);
        Bench { lan, guests, trunk, policy, delivered: [0; 4] }
    }

    fn counters(&self) -> [&Counters; 4] {
        [&self.guests[0].1, &self.guests[1].1, &self.guests[2].1, &self.trunk.1]
    }

    fn send(&mut self, sent: &Sent) {
        self.lan.now = self.lan.now + Duration::from_millis(100);
        let octets = [
            &address(sent.destination).0[..],
            &address(sent.source).0,
            &sent.ethertype.to_be_bytes(),
            &sent.rest,
        ]
        .concat();
        let mut frame = self.lan.pool.copy(&octets).unwrap();
        let side = [Sides::NONE, Sides::NONE, Sides::NONE, Sides::HOST, Sides::WIRE][sent.from];
        frame.meta.sides = side;
        let (id, counters) =
            if side.is_empty() { self.guests[sent.from].clone() } else { self.trunk.clone() };
        let before = counters.snapshot();
        self.lan.receive((id, &counters), [frame]);

        let mut to = Sides::NONE;
        for (port, sides, copy) in self.lan.copies_beside() {
            assert_eq!(copy.len(), octets.len());
            assert!(!sides.contains(side) || side.is_empty(), "never back to its side");
            assert!(port != id || !side.is_empty(), "never back to its port");
            assert!(self.policy.enabled.contains(sides), "never to a side that is not enabled");
            if sides == Sides::WIRE && self.policy.shared_mac && side.is_empty() {
                assert_eq!(MacAddr::from_slice(&copy[6..]), HOST);
            }
            to = to.with(sides);
            let place = self.guests.iter().position(|(guest, _)| *guest == port).unwrap_or(3);
            self.delivered[place] += 1;
        }
        assert_eq!(self.lan.pool.out(), 0, "every buffer comes back");

        let after = counters.snapshot();
        let dropped = after.dropped_on(Direction::Ingress) - before.dropped_on(Direction::Ingress);
        assert_eq!(dropped == 0, after.copies > before.copies, "copies or one reason");
        assert!(dropped <= 1);
        if !side.is_empty() && self.policy.diversion == Diversion::Nothing {
            assert!(to.is_empty(), "originals go on by themselves");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// No frame comes back, the books balance, the FDB keeps its bounds.
    #[test]
    fn invariants(
        policy in policy(),
        spy in any::<bool>(),
        room in 1usize..4,
        frames in prop::collection::vec(sent(), 1..200),
    ) {
        let mut bench = Bench::new(policy, spy, room);
        bench.lan.network.add_host_address(std::net::Ipv4Addr::new(10, 0, 0, 1).into());
        for sent in &frames {
            bench.send(sent);
            prop_assert!(bench.lan.network.fdb(bench.lan.now).len() <= bench.lan.network.fdb_capacity());
        }
        let snapshots = bench.counters().map(Counters::snapshot);
        let copies: u64 = snapshots.iter().map(|counters| counters.copies).sum();
        let refused: u64 = snapshots.iter().map(|counters| counters.dropped(DropReason::QueueFull)).sum();
        prop_assert_eq!(copies, bench.delivered.iter().sum::<u64>() + refused);
    }
}
