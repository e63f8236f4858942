//! Properties.

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Udp { guest: bool, port: u16, to: u8, len: usize, hop_limit: u8 },
    Echo { guest: bool, identifier: u16, to: u8 },
    Come { slot: u32, from: u8, len: usize, segment: Option<u16> },
    Fail { slot: u32, failed: u8 },
    Pass(u64),
    Forget(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), 0u16..12, 0u8..8, prop_oneof![Just(4usize), 0usize..3000], 1u8..4)
            .prop_map(|(guest, port, to, len, hop_limit)| Step::Udp { guest, port, to, len, hop_limit }),
        2 => (any::<bool>(), 0u16..8, 0u8..8).prop_map(|(guest, identifier, to)| Step::Echo { guest, identifier, to }),
        4 => (0u32..12, 0u8..8, 0usize..5000, prop::option::of(1u16..2000))
            .prop_map(|(slot, from, len, segment)| Step::Come { slot, from, len, segment }),
        2 => (0u32..12, 0u8..6).prop_map(|(slot, failed)| Step::Fail { slot, failed }),
        2 => (0u64..200).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever happens, every datagram is accounted for, every buffer comes back, and sockets are those of flows.
    #[test]
    fn books_balance(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new(Settings { flows: 24, udp_per_guest: 6, echo_per_guest: 3, ..settings() });
        let other = Guest { address: ip("10.213.5.17"), ingress: 4, ..Guest::V4 };
        let guest = |first: bool| if first { Guest::V4 } else { other };
        let targets = ["203.0.113.1", "203.0.113.2", "127.0.0.1", "10.213.5.1", "10.213.5.2", "224.0.0.1",
            "203.0.113.3", "198.51.100.1"];
        for step in steps {
            match step {
                Step::Udp { guest: which, port, to, len, hop_limit } => {
                    let guest = Guest { hop_limit, ..guest(which) };
                    let to = format!("{}:{}", targets[usize::from(to)], 1000 + 10 * port);
                    let frame = guest.udp(&world.pool, port, &to, &vec![7; len]);
                    world.take(&frame);
                }
                Step::Echo { guest: which, identifier, to } => {
                    let frame = guest(which).echo(&world.pool, identifier, 1, targets[usize::from(to)], b"ping");
                    world.take(&frame);
                }
                Step::Come { slot, from, len, segment } if world.sockets.open.contains_key(&slot) => {
                    world.come(slot, &format!("{}:1000", targets[usize::from(from)]), &vec![0; len], segment);
                }
                Step::Fail { slot, failed } => {
                    if let Some(socket) = world.sockets.open.get_mut(&slot) {
                        let failures = [SendError::Full, SendError::TooLarge, SendError::Network,
                            SendError::Host, SendError::Prohibited, SendError::Other];
                        socket.fails.push_back(failures[usize::from(failed)]);
                    }
                }
                Step::Pass(seconds) => world.pass(seconds),
                Step::Forget(which) => {
                    world.datagrams.forget_guest(&mut world.sockets, guest(which).ingress);
                }
                Step::Come { .. } => {}
            }
            prop_assert!(world.balances(), "{:?}", world.datagrams.counts());
            prop_assert_eq!(world.pool.out(), 0);
            prop_assert_eq!(world.datagrams.flows().count(), world.sockets.open.len());
            for ingress in [3, 4] {
                let of = |kind| {
                    world.datagrams.flows().filter(|flow| flow.ingress == ingress && flow.kind == kind).count()
                };
                prop_assert!(of(FlowKind::Udp) <= 6 && of(FlowKind::Echo) <= 3);
            }
        }
        world.pass(1000);
        prop_assert_eq!(world.sockets.open.len(), 0);
        prop_assert_eq!(world.datagrams.next_deadline(), None);
    }
}
