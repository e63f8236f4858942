//! A guest's way out: one namespace with a TAP, and servers on the host's loopback interface.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::ensure;
use testbed::{Iperf, Netns, iperf3_by};

use crate::measure;
use crate::peer::way_out::{PORT, WayOut};
use crate::row::{Contestant, Figure, Group, Row, Setting, Target};
use crate::world::World;

const VMLAN: WayOut = WayOut::Vmlan { mtu: 1500, offloads: true };
const PLAIN: WayOut = WayOut::Vmlan { mtu: 1500, offloads: false };
const LARGE: WayOut = WayOut::Vmlan { mtu: 65_520, offloads: false };
const SLIRP: WayOut = WayOut::Slirp { mtu: 1500 };
const SLIRP_LARGE: WayOut = WayOut::Slirp { mtu: 65_520 };

/// The server's place.
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);

/// The ends of a measurement: the guest, the address that it uses, and the host.
struct Ends<'a> {
    guest: &'a Netns,
    to: SocketAddr,
    host: &'a Netns,
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
            let ([guest, _], host) = world.ends_and_host();
            let figures = measure(setting, &Ends { guest: &guest.netns, to, host })?;
            world.check()?;
            Ok(figures)
        })
    };
    ways.iter().map(contestant).collect()
}

/// TCP out and in.
fn tcp(setting: &Setting, ends: &Ends<'_>) -> anyhow::Result<Vec<f64>> {
    let seconds = setting.duration.as_secs_f64().ceil() as u32;
    let wanted = Iperf { congestion_control: Some("cubic"), ..Iperf::tcp(seconds) };
    let rate = |wanted| {
        let report = iperf3_by(ends.guest, ends.to, ends.host, SERVER, wanted);
        ensure!(report.received_octets > 0, "iperf3 moved nothing");
        Ok(report.bits_per_second / 1e9)
    };
    Ok(vec![rate(wanted)?, rate(wanted.reversed())?])
}

fn udp(setting: &Setting, ends: &Ends<'_>, payload: u16) -> anyhow::Result<Vec<f64>> {
    let seconds = setting.duration.as_secs_f64().ceil() as u32;
    let report = iperf3_by(ends.guest, ends.to, ends.host, SERVER, Iperf::udp_flood(seconds, payload));
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
            contestants(&[VMLAN, SLIRP_LARGE], tcp),
            vec![
                Target::ratio(0, VMLAN.name(), SLIRP_LARGE.name(), 2.0),
                Target::ratio(1, VMLAN.name(), SLIRP_LARGE.name(), 2.0),
            ],
        ),
        row(
            "nat-tcp-plain",
            "TCP, guest without offloads at MTU 1500",
            &[Figure::OUT, Figure::IN],
            contestants(&[PLAIN, SLIRP], tcp),
            vec![
                Target::ratio(0, PLAIN.name(), SLIRP.name(), 3.0),
                Target::ratio(1, PLAIN.name(), SLIRP.name(), 1.2),
            ],
        ),
        row(
            "nat-tcp-65520",
            "TCP, guest without offloads at MTU 65520",
            &[Figure::OUT, Figure::IN],
            contestants(&[LARGE, SLIRP_LARGE], tcp),
            vec![],
        ),
        row(
            "nat-rtt",
            "one octet to the host and back, by TCP",
            &[Figure::P50, Figure::P99],
            contestants(&[VMLAN, SLIRP_LARGE], |_, ends| {
                Ok(measure::octet_round_trip(ends.guest, ends.to, ends.host, SERVER)?.to_vec())
            }),
            vec![],
        ),
        row(
            "nat-crr",
            "connect, one octet, close",
            &[Figure::CONNECTS],
            contestants(&[VMLAN, SLIRP_LARGE], |setting, ends| {
                let rate = measure::connects(ends.guest, ends.to, ends.host, SERVER, setting.duration)?;
                Ok(vec![rate])
            }),
            vec![],
        ),
        row(
            "nat-udp-64",
            "UDP of 64 octets out, one flow",
            &[Figure::DATAGRAMS],
            contestants(&[VMLAN, SLIRP_LARGE], |setting, ends| udp(setting, ends, 64)),
            vec![],
        ),
        row(
            "nat-udp-1400",
            "UDP of 1400 octets out, one flow",
            &[Figure::DATAGRAMS],
            contestants(&[VMLAN, SLIRP_LARGE], |setting, ends| udp(setting, ends, 1400)),
            vec![],
        ),
    ]
}

/// A measurement of throughput has one part a figure.
fn figures_count(figures: &[Figure]) -> f64 {
    figures.len() as f64
}
