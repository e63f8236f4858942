//! A guest's way out: one namespace with a TAP, and servers on the host's loopback interface.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use testbed::{Iperf, IperfReport, Netns, iperf3_by};

use crate::measure;
use crate::peer::forwarder::{Forwarder, RESOLVER};
use crate::peer::guests;
use crate::peer::router::{BEHIND, Router};
use crate::peer::way_out::{SERVER, WayOut};
use crate::row::{Bound, Contestant, Figure, Group, Pairs, Row, Setting, Target};
use crate::world::World;

const VMLAN: WayOut = WayOut::Vmlan { mtu: 1500, offloads: true };
const PLAIN: WayOut = WayOut::Vmlan { mtu: 1500, offloads: false };
const LARGE: WayOut = WayOut::Vmlan { mtu: 65_520, offloads: false };
const SLIRP: WayOut = WayOut::Slirp { mtu: 1500 };
const SLIRP_LARGE: WayOut = WayOut::Slirp { mtu: 65_520 };
const PASTA: WayOut = WayOut::Pasta { mtu: 1500 };
const PASTA_LARGE: WayOut = WayOut::Pasta { mtu: 65_520 };
const STREAM: WayOut = WayOut::VmlanStream { mtu: 1500 };
const STREAM_LARGE: WayOut = WayOut::VmlanStream { mtu: 65_520 };
const PASST: WayOut = WayOut::Passt { mtu: 1500 };
const PASST_LARGE: WayOut = WayOut::Passt { mtu: 65_520 };

/// The ends of a measurement: the guest, the address that it uses, and the host.
struct Ends<'a> {
    guest: &'a Netns,
    to: SocketAddr,
    host: &'a Netns,
    /// The process of the way out.
    process: u32,
}

impl Ends<'_> {
    /// Measures by iperf3, with a server of the host's.
    fn iperf(&self, wanted: Iperf) -> IperfReport {
        iperf3_by(self.guest, self.to, self.host, SERVER, wanted)
    }
}

/// Connections of the row of idle ones, as many as half of the descriptors of a process that may have 20,000 leave to
/// one guest.
const IDLE: usize = 4_000;

fn round_trip(_: &Setting, ends: &Ends<'_>) -> anyhow::Result<Vec<f64>> {
    Ok(measure::octet_round_trip(ends.guest, ends.to, ends.host, SERVER)?.to_vec())
}

fn connects(setting: &Setting, ends: &Ends<'_>) -> anyhow::Result<Vec<f64>> {
    Ok(vec![measure::connects(ends.guest, ends.to, ends.host, SERVER, setting.duration)?])
}

/// The memory that connections add, in KiB each.
fn idle(_: &Setting, ends: &Ends<'_>) -> anyhow::Result<Vec<f64>> {
    // What is made once does not count.
    drop(measure::idle(ends.guest, ends.to, ends.host, SERVER, 1)?);
    let before = measure::memory(ends.process)?;
    let _idle = measure::idle(ends.guest, ends.to, ends.host, SERVER, IDLE)?;
    Ok(vec![(measure::memory(ends.process)? - before) * 1024.0 / IDLE as f64])
}

fn contestants(
    ways: &[WayOut],
    measure: impl Fn(&Setting, &Ends<'_>) -> anyhow::Result<Vec<f64>> + Copy + 'static,
) -> Vec<Contestant> {
    let contestant = |way: &WayOut| {
        let way = *way;
        Contestant::new(way.name(), way.programs(), move |setting| {
            let mut world = World::new()?;
            let to = way.join(&mut world, &setting.programs)?;
            setting.wait_for_quiet()?;
            let process = world.processes().next().context("a way out has a process")?;
            let ([guest, _], host) = world.ends_and_host();
            let figures = measure(setting, &Ends { guest: &guest.netns, to, host, process })?;
            world.check()?;
            Ok(figures)
        })
    };
    ways.iter().map(contestant).collect()
}

/// One question at a time, with pauses: vmlan drops what a guest asks more often than 200 times a second, which cannot
/// be configured, so there is no rate to compare.
fn names() -> Vec<Contestant> {
    let contestant = |forwarder: Forwarder| {
        Contestant::new(forwarder.name(), forwarder.programs(), move |setting| {
            let mut world = World::new()?;
            let to = forwarder.join(&mut world, &setting.programs)?;
            setting.wait_for_quiet()?;
            let ([guest, _], host) = world.ends_and_host();
            let figures = measure::names(&guest.netns, to, host, RESOLVER, setting.duration)?;
            world.check()?;
            Ok(figures.to_vec())
        })
    };
    [Forwarder::Vmlan, Forwarder::Dnsmasq].map(contestant).into()
}

/// TCP out and in.
fn tcp(setting: &Setting, ends: &Ends<'_>) -> anyhow::Result<Vec<f64>> {
    out_and_in(setting, |wanted| ends.iperf(wanted))
}

/// TCP out and in, through the host's kernel.
fn routed() -> Vec<Contestant> {
    let contestant = |router: Router| {
        Contestant::new(router.name(), &["nft"], move |setting| {
            let mut world = World::new()?;
            router.join(&mut world, &setting.programs)?;
            setting.wait_for_quiet()?;
            let [guest, server] = [&world.a.netns, &world.b.netns];
            let figures = out_and_in(setting, |wanted| iperf3_by(guest, BEHIND, server, BEHIND, wanted))?;
            world.check()?;
            // A kernel's rules and variables are the host's.
            world.end();
            Ok(figures)
        })
    };
    [Router::Vmlan, Router::Bridge].map(contestant).into()
}

/// TCP of so many guests together.
fn guests(name: &'static str, count: usize) -> Contestant {
    Contestant::new(name, &[], move |setting| {
        let guests = guests::namespaces(count);
        let mut world = World::new()?;
        let to = guests::join(&mut world, &setting.programs, &guests)?;
        setting.wait_for_quiet()?;
        let rate = measure::senders(&guests, to, world.between(), SERVER, setting.duration)?;
        world.check()?;
        Ok(vec![rate])
    })
}

fn out_and_in(setting: &Setting, iperf: impl Fn(Iperf) -> IperfReport) -> anyhow::Result<Vec<f64>> {
    let seconds = setting.duration.as_secs_f64().ceil() as u32;
    let wanted = Iperf { congestion_control: Some("cubic"), ..Iperf::tcp(seconds) };
    let rate = |wanted| {
        let report = iperf(wanted);
        ensure!(report.received_octets > 0, "iperf3 moved nothing");
        Ok(report.bits_per_second / 1e9)
    };
    Ok(vec![rate(wanted)?, rate(wanted.reversed())?])
}

fn udp(setting: &Setting, ends: &Ends<'_>, payload: u16) -> anyhow::Result<Vec<f64>> {
    let seconds = setting.duration.as_secs_f64().ceil() as u32;
    let report = ends.iperf(Iperf::udp_flood(seconds, payload));
    let arrived = report.datagrams.saturating_sub(report.lost);
    ensure!(arrived > 0, "iperf3 moved nothing");
    Ok(vec![arrived as f64 / f64::from(seconds) / 1e6])
}

pub(super) fn rows() -> Vec<Row> {
    let row = |name, title, figures, contestants, targets| Row {
        measurements: figures_count(figures),
        ..Row::new(Group::Nat, name, title, figures, contestants, targets)
    };
    vec![
        row(
            "nat-tcp",
            "TCP between a guest and the host's sockets, guest with offloads at MTU 1500",
            &[Figure::OUT, Figure::IN],
            contestants(&[VMLAN, SLIRP_LARGE, PASTA_LARGE], tcp),
            vec![
                Target::ratio(0, VMLAN.name(), SLIRP_LARGE.name(), 2.0),
                Target::ratio(1, VMLAN.name(), SLIRP_LARGE.name(), 2.0),
                Target::ratio(0, VMLAN.name(), PASTA_LARGE.name(), 5.0),
                Target::ratio(1, VMLAN.name(), PASTA_LARGE.name(), 1.0),
            ],
        ),
        row(
            "nat-tcp-plain",
            "TCP, guest without offloads at MTU 1500",
            &[Figure::OUT, Figure::IN],
            contestants(&[PLAIN, SLIRP, PASTA], tcp),
            vec![
                Target::ratio(0, PLAIN.name(), SLIRP.name(), 3.0),
                Target::ratio(1, PLAIN.name(), SLIRP.name(), 1.2),
                Target::ratio(0, PLAIN.name(), PASTA.name(), 5.0),
                Target::ratio(1, PLAIN.name(), PASTA.name(), 2.0),
            ],
        ),
        row(
            "nat-tcp-65520",
            "TCP, guest without offloads at MTU 65520",
            &[Figure::OUT, Figure::IN],
            contestants(&[LARGE, SLIRP_LARGE, PASTA_LARGE], tcp),
            vec![],
        ),
        row(
            "nat-stream",
            "TCP of a guest at a stream socket, MTU 1500",
            &[Figure::OUT, Figure::IN],
            contestants(&[STREAM, PASST], tcp),
            vec![
                Target::ratio(0, STREAM.name(), PASST.name(), 1.2),
                Target::ratio(1, STREAM.name(), PASST.name(), 1.2),
            ],
        ),
        row(
            "nat-stream-65520",
            "TCP of a guest at a stream socket, MTU 65520",
            &[Figure::OUT, Figure::IN],
            contestants(&[STREAM_LARGE, PASST_LARGE], tcp),
            vec![
                Target::ratio(0, STREAM_LARGE.name(), PASST_LARGE.name(), 1.2),
                Target::ratio(1, STREAM_LARGE.name(), PASST_LARGE.name(), 1.2),
            ],
        ),
        row(
            "nat-rtt",
            "one octet to the host and back, by TCP",
            &[Figure::P50, Figure::P99],
            contestants(&[VMLAN, SLIRP_LARGE, PASTA_LARGE], round_trip),
            vec![],
        ),
        row(
            "nat-crr",
            "connect, one octet, close",
            &[Figure::CONNECTS],
            contestants(&[VMLAN, SLIRP_LARGE, PASTA_LARGE], connects),
            vec![],
        ),
        row(
            "nat-stream-rtt",
            "one octet to the host and back, by TCP, of a guest at a stream socket",
            &[Figure::P50, Figure::P99],
            contestants(&[STREAM, PASST], round_trip),
            vec![Target::ratio_at_most(0, STREAM.name(), PASST.name(), 1.0)],
        ),
        row(
            "nat-stream-crr",
            "connect, one octet, close, of a guest at a stream socket",
            &[Figure::CONNECTS],
            contestants(&[STREAM, PASST], connects),
            vec![Target::ratio(0, STREAM.name(), PASST.name(), 1.5)],
        ),
        row(
            "nat-idle",
            "4,000 idle connections",
            &[Figure::FLOW_MEMORY],
            contestants(&[VMLAN, SLIRP_LARGE, PASTA_LARGE], idle),
            vec![Target::absolute(0, VMLAN.name(), Bound::AtMost(0.5))],
        ),
        row(
            "nat-udp-64",
            "UDP of 64 octets out, one flow",
            &[Figure::DATAGRAMS],
            contestants(&[VMLAN, SLIRP_LARGE, PASTA_LARGE], |setting, ends| udp(setting, ends, 64)),
            vec![],
        ),
        row(
            "nat-udp-1400",
            "UDP of 1400 octets out, one flow",
            &[Figure::DATAGRAMS],
            contestants(&[VMLAN, SLIRP_LARGE, PASTA_LARGE], |setting, ends| udp(setting, ends, 1400)),
            vec![],
        ),
        row(
            "nat-kernel",
            "TCP between a guest and a server behind the host, by the host's kernel",
            &[Figure::OUT, Figure::IN],
            routed(),
            vec![
                Target::ratio(0, Router::Vmlan.name(), Router::Bridge.name(), 0.9),
                Target::ratio(1, Router::Vmlan.name(), Router::Bridge.name(), 0.9),
            ],
        ),
        Row {
            pairs: Pairs::OthersToFirst,
            ..Row::new(
                Group::Nat,
                "nat-guests",
                "TCP of several guests at once to the host's sockets, all together",
                &[Figure::OUT],
                vec![guests("1 guest", 1), guests("16 guests", 16), guests("64 guests", 64)],
                vec![Target::ratio(0, "64 guests", "1 guest", 0.8)],
            )
        },
        Row::new(
            Group::Nat,
            "nat-dns",
            "a question for a name, put to a server on the host",
            &[Figure::P50, Figure::P99],
            names(),
            vec![Target::ratio_at_most(0, Forwarder::Vmlan.name(), Forwarder::Dnsmasq.name(), 2.0)],
        ),
    ]
}

/// A measurement of throughput has one part a figure.
fn figures_count(figures: &[Figure]) -> f64 {
    figures.len() as f64
}
