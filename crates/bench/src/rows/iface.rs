//! Guests behind interfaces of the host: veths of namespaces, and TAPs that a program opens.

use super::tap::{round_trip, tcp};
use crate::measure::{self, Placement};
use crate::peer::interface::{self, Keys, TAPS};
use crate::peer::{Ends, Join};
use crate::row::{Contestant, Figure, Group, Row, Setting, Target};
use crate::world::World;

const VMLAN: Join = Join::VmlanInterfaces { keys: Keys::NONE, name: "vmlan" };
const SLOW: Join = Join::VmlanInterfaces { keys: Keys::SLOW, name: "vmlan-slow" };
const MANY: Join = Join::VmlanInterfaces {
    keys: Keys { more_ports: 126, more_stations: 8000, ..Keys::NONE },
    name: "vmlan-128-ports",
};
/// A tag is pushed, and taken off.
const PUSH: Join = Join::VmlanInterfaces {
    keys: Keys {
        ports: ["vlan = { access = 10 }", "vlan = { tagged = [10] }"],
        vlan: Some(10),
        ..Keys::NONE
    },
    name: "push",
};
const POP: Join = Join::VmlanInterfaces {
    keys: Keys {
        ports: ["vlan = { tagged = [10] }", "vlan = { access = 10 }"],
        vlan: Some(10),
        ..Keys::NONE
    },
    name: "pop",
};

const WIRE: Join = Join::VmlanWire { keys: "", name: "vmlan" };
const WIRE_SLOW: Join = Join::VmlanWire { keys: "fast = \"off\"", name: "vmlan-slow" };

/// Frames of 64 octets from A to B.
fn rate(join: Join, vlan: Option<u16>) -> Contestant {
    Contestant::new(join.name(), join.programs(), move |setting: &Setting| {
        let mut world = World::new()?;
        join.join(&mut world, &setting.programs)?;
        match join {
            // Tagged frames are no ping of the other's.
            PUSH | POP => world.address(),
            _ => world.settle()?,
        }
        setting.wait_for_quiet()?;
        let rate = measure::ip_rate(&world, vlan, setting.duration)?;
        world.check()?;
        Ok(vec![rate.received_mpps])
    })
}

/// The program that joins two TAPs.
#[derive(Clone, Copy)]
enum Taps {
    Vmlan(Keys),
    Bridge,
}

fn taps(name: &'static str, by: Taps, large: bool) -> Contestant {
    Contestant::new(name, &[], move |setting: &Setting| {
        let mut world = World::new()?;
        match by {
            Taps::Vmlan(keys) => interface::taps(&mut world, &setting.programs, keys)?,
            Taps::Bridge => interface::bridged_taps(&mut world),
        }
        setting.wait_for_quiet()?;
        let macs = [world.a.mac, world.b.mac];
        let measure = if large { measure::large_frames } else { measure::small_frames };
        let figure = measure(world.between(), TAPS, macs, setting.duration)?;
        world.check()?;
        Ok(vec![figure])
    })
}

pub(super) fn rows() -> Vec<Row> {
    let row = |name, title, figures, contestants, targets| {
        Row::new(Group::Iface, name, title, figures, contestants, targets)
    };
    let of_taps = |large| {
        vec![
            taps("vmlan", Taps::Vmlan(Keys::NONE), large),
            taps("bridge", Taps::Bridge, large),
            taps("vmlan-slow", Taps::Vmlan(Keys::SLOW), large),
        ]
    };
    vec![
        row(
            "iface-veth-64",
            "veth to veth, frames of 64 octets",
            &[Figure::RATE],
            [VMLAN, Join::Bridge, Join::Cable, SLOW, Join::RelayInterfaces]
                .map(|join| rate(join, None))
                .into(),
            vec![
                Target::ratio(0, "vmlan", "bridge", 1.4),
                Target::ratio(0, "vmlan", "no switch", 0.75),
                Target::ratio(0, "vmlan-slow", "relay-hooks", 0.9),
            ],
        ),
        row(
            "iface-veth-tcp",
            "veth to veth, TCP",
            &[Figure::TCP],
            tcp(&[VMLAN, Join::Bridge, Join::Cable, SLOW, Join::RelayInterfaces], Ends::AsTheyCome),
            vec![
                Target::ratio(0, "vmlan", "bridge", 1.05),
                Target::ratio(0, "vmlan-slow", "relay-hooks", 0.9),
            ],
        ),
        row(
            "iface-veth-rtt",
            "veth to veth, round trip of 64 octets",
            &[Figure::P50, Figure::P99],
            round_trip(&[VMLAN, Join::Bridge, Join::Cable, SLOW, Join::RelayInterfaces], Placement::Apart),
            vec![Target::ratio_at_most(0, "vmlan", "bridge", 0.9)],
        ),
        row(
            "iface-tap-64",
            "TAP to TAP, opened by a program, frames of 64 octets",
            &[Figure::RATE],
            of_taps(false),
            vec![Target::ratio(0, "vmlan", "bridge", 1.15)],
        ),
        row(
            "iface-tap-large",
            "TAP to TAP, opened by a program, frames of 40 TCP segments",
            &[Figure::TCP],
            of_taps(true),
            vec![Target::ratio(0, "vmlan", "bridge", 1.0)],
        ),
        row(
            "iface-trunk-64",
            "wire to guest on a veth, frames of 64 octets",
            &[Figure::RATE],
            [WIRE, Join::Bridge, WIRE_SLOW].map(|join| rate(join, None)).into(),
            vec![Target::ratio(0, "vmlan", "bridge", 1.1)],
        ),
        row(
            "iface-trunk-tcp",
            "wire to guest on a veth, TCP",
            &[Figure::TCP],
            tcp(&[WIRE, Join::Bridge, WIRE_SLOW], Ends::AsTheyCome),
            vec![Target::ratio(0, "vmlan", "bridge", 1.1)],
        ),
        row(
            "iface-many-64",
            "veth to veth of 128 ports and 8,000 addresses, frames of 64 octets",
            &[Figure::RATE],
            vec![rate(MANY, None), rate(VMLAN, None)],
            vec![Target::ratio(0, "vmlan-128-ports", "vmlan", 0.95)],
        ),
        row(
            "iface-vlan-64",
            "veth to veth, a tag pushed and taken off, frames of 64 octets",
            &[Figure::RATE],
            vec![rate(PUSH, None), rate(POP, Some(10)), rate(VMLAN, None)],
            vec![Target::ratio(0, "push", "vmlan", 0.9), Target::ratio(0, "pop", "vmlan", 0.9)],
        ),
    ]
}
