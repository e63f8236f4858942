//! Two namespaces, joined by whoever joins them.

use crate::measure::{self, Placement};
use crate::peer::{Ends, Join};
use crate::relay::Mechanism;
use crate::row::{Contestant, Figure, Group, Row, Setting, Target};
use crate::world::World;

const VMLAN: &str = "vmlan";

const EPOLL: Join = Join::Relay { mechanism: Mechanism::Epoll, offloads: false };
const EPOLL_OFFLOADS: Join = Join::Relay { mechanism: Mechanism::Epoll, offloads: true };
const URING: Join = Join::Relay { mechanism: Mechanism::Uring, offloads: false };
const URING_OFFLOADS: Join = Join::Relay { mechanism: Mechanism::Uring, offloads: true };
const BUSY: Join = Join::Relay { mechanism: Mechanism::Busy, offloads: false };

/// A joined and quiet pair of namespaces.
pub(super) fn joined(setting: &Setting, join: Join, ends: Ends) -> anyhow::Result<World> {
    let mut world = World::new()?;
    join.join(&mut world, &setting.programs)?;
    ends.prepare(&world);
    world.settle()?;
    setting.wait_for_quiet()?;
    Ok(world)
}

fn contestant(
    join: Join,
    measure: impl Fn(&Setting, &mut World) -> anyhow::Result<Vec<f64>> + 'static,
    ends: Ends,
) -> Contestant {
    Contestant::new(join.name(), join.programs(), move |setting| {
        let mut world = joined(setting, join, ends)?;
        let figures = measure(setting, &mut world)?;
        world.check()?;
        Ok(figures)
    })
}

/// TCP from A to B.
pub(super) fn tcp(joins: &[Join], ends: Ends) -> Vec<Contestant> {
    let measure =
        |setting: &Setting, world: &mut World| Ok(vec![measure::tcp(world, setting.duration)?.gbit_per_s]);
    joins.iter().map(|join| contestant(*join, measure, ends)).collect()
}

/// Frames of 64 octets from A to B.
pub(super) fn rate(joins: &[Join]) -> Vec<Contestant> {
    let measure = |setting: &Setting, world: &mut World| {
        Ok(vec![measure::packet_rate(world, setting.duration)?.received_mpps])
    };
    joins.iter().map(|join| contestant(*join, measure, Ends::AsTheyCome)).collect()
}

/// Frames of 64 octets from A to B and back.
pub(super) fn round_trip(joins: &[Join], placement: Placement) -> Vec<Contestant> {
    let measure = move |_: &Setting, world: &mut World| {
        let times = measure::round_trip(world, placement)?;
        Ok(vec![times.p50_us, times.p99_us])
    };
    joins.iter().map(|join| contestant(*join, measure, Ends::AsTheyCome)).collect()
}

pub(super) fn rows() -> Vec<Row> {
    let row = |name, title, figures, contestants, targets| {
        Row::new(Group::Tap, name, title, figures, contestants, targets)
    };
    vec![
        row(
            "tap-tcp-offloads",
            "TCP, both ends with offloads",
            &[Figure::TCP],
            tcp(
                &[
                    Join::VMLAN,
                    URING_OFFLOADS,
                    EPOLL_OFFLOADS,
                    Join::OvsTap { tso: true },
                    Join::VdeSwitch,
                    Join::Bridge,
                ],
                Ends::AsTheyCome,
            ),
            vec![
                Target::ratio(0, VMLAN, "relay-uring-offloads", 0.95).reaching(1.0),
                Target::ratio(0, VMLAN, "ovs-tap-tso", 1.2),
                Target::ratio(0, VMLAN, "vde-switch", 25.0),
            ],
        ),
        row(
            "tap-tcp-1500",
            "TCP at MTU 1500, sender without offloads, receiver with",
            &[Figure::TCP],
            tcp(&[Join::VMLAN, EPOLL, Join::OvsTap { tso: false }], Ends::SenderPlain),
            vec![
                Target::ratio(0, VMLAN, "relay-epoll", 1.7).reaching(4.0),
                Target::ratio(0, VMLAN, "ovs-tap", 2.2),
            ],
        ),
        row(
            "tap-tcp-plain",
            "TCP at MTU 1500, both ends without offloads",
            &[Figure::TCP],
            tcp(
                &[
                    Join::VMLAN,
                    EPOLL,
                    URING,
                    Join::OvsTap { tso: false },
                    Join::VdeSwitch,
                    Join::VmlanVde,
                    Join::BridgePlain,
                ],
                Ends::Plain,
            ),
            vec![],
        ),
        row(
            "tap-64",
            "frames of 64 octets",
            &[Figure::RATE],
            rate(&[
                Join::VMLAN,
                URING,
                EPOLL,
                Join::OvsTap { tso: false },
                Join::OvsAfXdp,
                Join::VdeSwitch,
                Join::VmlanVde,
                Join::BridgePlain,
            ]),
            vec![
                Target::ratio(0, VMLAN, "relay-uring", 0.9).reaching(1.0),
                Target::ratio(0, VMLAN, "ovs-tap", 3.0),
                Target::ratio(0, VMLAN, "vde-switch", 9.0),
                Target::ratio(0, VMLAN, "ovs-afxdp", 1.0),
            ],
        ),
        row(
            "tap-rtt",
            "round trip of 64 octets",
            &[Figure::P50, Figure::P99],
            round_trip(
                &[Join::VMLAN, EPOLL, Join::OvsTap { tso: false }, Join::VdeSwitch, Join::BridgePlain],
                Placement::Apart,
            ),
            vec![
                Target::ratio_at_most(0, VMLAN, "relay-epoll", 1.1),
                Target::ratio_at_most(1, VMLAN, "relay-epoll", 1.1),
            ],
        ),
        row(
            "tap-rtt-busy",
            "round trip of 64 octets, polling without a pause",
            &[Figure::P50, Figure::P99],
            round_trip(&[Join::VMLAN_BUSY, BUSY, Join::OvsAfXdp], Placement::Apart),
            vec![
                Target::ratio_at_most(0, "vmlan-busy", "ovs-afxdp", 1.05),
                Target::ratio_at_most(1, "vmlan-busy", "ovs-afxdp", 1.05),
            ],
        ),
        row(
            "tap-rtt-one-cpu",
            "round trip of 64 octets, everything on one processor",
            &[Figure::P50, Figure::P99],
            round_trip(&[Join::VMLAN, EPOLL, Join::VdeSwitch, Join::BridgePlain], Placement::Together),
            vec![],
        ),
    ]
}
