//! The host's interface as a port of the network: what that costs the host, and what guests get of it.
//!
//! Three parties: the wire (another machine), the host, a guest. In the first rows A is the host itself and B the wire;
//! in the others A is a guest, and B is the wire or the host.

use std::fmt::Write;
use std::path::Path;

use testbed::{Netns, Process};

use super::tap::joined;
use crate::measure;
use crate::peer::{Ends, Join, hook, trunk_relay, vmlan};
use crate::relay::Mechanism;
use crate::row::{Contestant, Figure, Group, Pairs, Programs, Row, Setting, Target};
use crate::world::{Host, INTERFACE, World};

/// The host's interface, where B is not the host.
const UPLINK: &str = "up0";

/// Addresses that one port has at most.
const MACS_A_PORT: usize = 250;

/// The traffic that is measured from A to B.
#[derive(Clone, Copy)]
enum Work {
    Tcp,
    /// Past A's protocol stack.
    Rate,
    /// Through it: a filter on A's interface has to see what A sends.
    UdpRate,
}

impl Work {
    fn figures(self) -> &'static [Figure] {
        match self {
            Work::Tcp => &[Figure::TCP],
            Work::Rate | Work::UdpRate => &[Figure::RATE],
        }
    }

    fn measure(self, setting: &Setting, world: &World) -> anyhow::Result<Vec<f64>> {
        Ok(vec![match self {
            Work::Tcp => measure::tcp(world, setting.duration)?.gbit_per_s,
            Work::Rate => measure::packet_rate(world, setting.duration)?.received_mpps,
            Work::UdpRate => measure::udp_rate(world, setting.duration)?.received_mpps,
        }])
    }
}

fn contestant(
    name: &'static str,
    work: Work,
    prepare: impl Fn(&mut World, &Programs) -> anyhow::Result<()> + 'static,
) -> Contestant {
    Contestant::new(name, &[], move |setting| {
        let mut world = World::new()?;
        prepare(&mut world, &setting.programs)?;
        world.settle()?;
        setting.wait_for_quiet()?;
        let figures = work.measure(setting, &world)?;
        world.check()?;
        Ok(figures)
    })
}

/// A cable between the interfaces of A and B.
fn cable(world: &World) {
    world.a.netns.veth(INTERFACE, &world.b.netns, INTERFACE);
}

/// Runs vmlan in the namespace `host` with these ports and its interface for a trunk, in this mode.
fn trunk(
    (programs, mode): (&Programs, &str),
    directory: &Path,
    host: &Netns,
    interface: &str,
    ports: &str,
) -> anyhow::Result<Process> {
    let config = format!("[network.bench.trunk]\nmode = \"{mode}\"\ninterface = \"{interface}\"\n{ports}");
    vmlan::start(programs, directory, &config, Some(host))
}

/// Ports of guests that have so many addresses together.
fn ports(macs: usize) -> anyhow::Result<String> {
    let mut config = String::new();
    for (port, first) in (0..macs).step_by(MACS_A_PORT).enumerate() {
        let numbers = first..macs.min(first + MACS_A_PORT);
        let macs: Vec<String> = numbers
            .map(|number| format!("\"02:00:00:03:{:02x}:{:02x}\"", number >> 8, number & 0xff))
            .collect();
        write!(
            config,
            "[network.bench.port.g{port}]\ndatagram = {{ listen = \"g{port}.sock\" }}\nmac = [{}]\n",
            macs.join(", ")
        )?;
    }
    Ok(config)
}

/// A is the host, and its guests have so many addresses; without a filter when `None`.
fn host_to_wire(name: &'static str, work: Work, macs: Option<usize>) -> Contestant {
    contestant(name, work, move |world, programs| {
        cable(world);
        let Some(macs) = macs else { return Ok(()) };
        world.a.netns.ip(["link", "set", INTERFACE, "up"]);
        let (directory, host) = (world.directory(), &world.a.netns);
        let process = trunk((programs, "filter"), directory, host, INTERFACE, &ports(macs)?)?;
        world.keep(process);
        Ok(())
    })
}

/// The program that hands frames from the guest's TAP to the interface and back.
#[derive(Clone, Copy)]
enum By {
    Filter,
    Packet,
    Xdp,
    /// A bare loop, by the same programs on the interface, with offloads or without.
    Relay {
        offloads: bool,
    },
}

impl By {
    fn name(self) -> &'static str {
        match self {
            By::Filter => "vmlan",
            By::Packet => "vmlan-packet",
            By::Xdp => "vmlan-xdp",
            By::Relay { .. } => "relay-trunk",
        }
    }

    fn start(
        self,
        programs: &Programs,
        directory: &Path,
        (guest, host): (&Host, &Netns),
        (interface, to_host): (&str, bool),
    ) -> anyhow::Result<Process> {
        let mode = match self {
            By::Filter => "filter",
            By::Packet => "packet",
            By::Xdp => "xdp",
            By::Relay { offloads } => {
                let options = [("--to-host", to_host), ("--offloads", offloads)];
                let words: Vec<&str> = options.iter().filter(|(_, is)| *is).map(|(word, _)| *word).collect();
                return Ok(trunk_relay((&programs.bench, &words), guest, host, interface));
            }
        };
        let port = format!("[network.bench.port.guest]\n{}\n", vmlan::tap(&guest.netns));
        trunk((programs, mode), directory, host, interface, &port)
    }
}

/// A is the host, and a program that does nothing looks at what it sends.
fn host_to_wire_hooked(work: Work) -> Contestant {
    contestant("empty program", work, |world, programs| {
        cable(world);
        world.a.netns.ip(["link", "set", INTERFACE, "up"]);
        let process = hook(&programs.bench, &world.a.netns, INTERFACE);
        world.keep(process);
        Ok(())
    })
}

/// Which of A and B is the guest of the host between them; the other is the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guest {
    A,
    B,
}

/// A guest and the wire, with the host between them.
fn guest_and_wire(guest: Guest, by: By, work: Work) -> Contestant {
    contestant(by.name(), work, move |world, programs| {
        let wire = if guest == Guest::A { &world.b } else { &world.a };
        let wire = wire.netns.name().to_owned();
        let directory = world.directory().to_owned();
        let host = world.between();
        host.ip(["link", "add", UPLINK, "type", "veth", "peer", "name", INTERFACE, "netns", &wire]);
        host.ip(["link", "set", UPLINK, "up"]);
        let (ends, host) = world.ends_and_host();
        let process = by.start(programs, &directory, (ends[guest as usize], host), (UPLINK, false))?;
        world.keep(process);
        Ok(())
    })
}

/// A is a guest of B, whose interface leads to a silent wire.
fn guest_to_host(by: By, work: Work) -> Contestant {
    contestant(by.name(), work, move |world, programs| {
        let host = world.b.netns.name().to_owned();
        let wire = world.between();
        wire.ip(["link", "add", UPLINK, "type", "veth", "peer", "name", INTERFACE, "netns", &host]);
        wire.ip(["link", "set", UPLINK, "up"]);
        let host = &world.b.netns;
        host.ip(["link", "set", INTERFACE, "up"]);
        let process = by.start(programs, world.directory(), (&world.a, host), (INTERFACE, true))?;
        world.keep(process);
        Ok(())
    })
}

/// Another way to join A and B, for comparison.
fn instead(join: Join, work: Work) -> Contestant {
    Contestant::new(join.name(), join.programs(), move |setting| {
        let mut world = joined(setting, join, Ends::AsTheyCome)?;
        let figures = work.measure(setting, &world)?;
        world.check()?;
        Ok(figures)
    })
}

pub(super) fn rows() -> Vec<Row> {
    let row = |name, title, work: Work, contestants, pairs, targets| Row {
        pairs,
        ..Row::new(Group::Host, name, title, work.figures(), contestants, targets)
    };
    let cost = |work| {
        vec![
            host_to_wire("without", work, None),
            host_to_wire_hooked(work),
            host_to_wire("filter, 1 MAC", work, Some(1)),
            host_to_wire("filter, 1,000 MACs", work, Some(1000)),
        ]
    };
    let cost_targets = || {
        vec![
            Target::ratio(0, "filter, 1 MAC", "without", 0.97),
            Target::ratio(0, "filter, 1,000 MACs", "filter, 1 MAC", 0.95),
        ]
    };
    let relay = Join::Relay { mechanism: Mechanism::Uring, offloads: true };
    let plain_relay = Join::Relay { mechanism: Mechanism::Uring, offloads: false };
    let (bare, plain) = (By::Relay { offloads: true }, By::Relay { offloads: false });
    let with_wire = |guest, work| {
        let modes = [By::Filter, if matches!(work, Work::Tcp) { bare } else { plain }, By::Packet, By::Xdp];
        let mut all = Vec::from(modes.map(|by| guest_and_wire(guest, by, work)));
        all.extend(match work {
            Work::Tcp => vec![instead(relay, work), instead(Join::OvsVeth, work)],
            Work::Rate | Work::UdpRate => vec![instead(plain_relay, work)],
        });
        all
    };
    let rate_targets = || vec![Target::ratio(0, "vmlan", "relay-trunk", 0.9)];
    let guest_targets = || {
        vec![Target::ratio(0, "vmlan", "relay-trunk", 0.9), Target::ratio(0, "vmlan", "ovs-veth-tso", 2.0)]
    };
    let (tcp, rate, udp) = (Work::Tcp, Work::Rate, Work::UdpRate);
    vec![
        row("host-wire-tcp", "host to wire, TCP", tcp, cost(tcp), Pairs::OthersToFirst, cost_targets()),
        row(
            "host-wire-64",
            "host to wire, UDP in 64 octets",
            udp,
            cost(udp),
            Pairs::OthersToFirst,
            cost_targets(),
        ),
        row(
            "host-guest-wire-tcp",
            "guest to wire, TCP",
            tcp,
            with_wire(Guest::A, tcp),
            Pairs::FirstToOthers,
            guest_targets(),
        ),
        row(
            "host-wire-guest-tcp",
            "wire to guest, TCP",
            tcp,
            with_wire(Guest::B, tcp),
            Pairs::FirstToOthers,
            guest_targets(),
        ),
        row(
            "host-guest-host-tcp",
            "guest to host, TCP",
            tcp,
            vec![
                guest_to_host(By::Filter, tcp),
                guest_to_host(bare, tcp),
                instead(relay, tcp),
                instead(Join::OvsVeth, tcp),
            ],
            Pairs::FirstToOthers,
            guest_targets(),
        ),
        row(
            "host-guest-wire-64",
            "guest to wire, 64 octets",
            rate,
            with_wire(Guest::A, rate),
            Pairs::FirstToOthers,
            rate_targets(),
        ),
        row(
            "host-wire-guest-64",
            "wire to guest, 64 octets",
            rate,
            with_wire(Guest::B, rate),
            Pairs::FirstToOthers,
            rate_targets(),
        ),
    ]
}
