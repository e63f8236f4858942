//! A port that floods broadcasts as fast as the switch takes them, beside two that talk.

use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, ensure};

use crate::measure::{self, Placement, SMALL, frame};
use crate::peer::vmlan;
use crate::plugs::{datagram, datagram_ports};
use crate::row::{Contestant, Figure, Group, Pairs, Row, Setting, Target};
use crate::world::World;
use testbed::attempt::attempt;

/// Number of the flooding guest.
const FLOODER: usize = 0;

fn contestant(name: &'static str, flooded: bool) -> Contestant {
    Contestant::new(name, &[], move |setting| {
        let mut world = World::new()?;
        let directory = world.directory().to_owned();
        let config = format!("{}{}", vmlan::taps_config(&world)?, datagram_ports("bench", [FLOODER], "")?);
        let switch = vmlan::start(&setting.programs, &directory, &config, None)?;
        world.keep(switch);
        let plug = datagram(&directory, FLOODER)?;
        plug.socket.send(&frame([0xff; 6], plug.mac, SMALL)).context("saying hello")?;
        world.settle()?;
        setting.wait_for_quiet()?;
        let figures = if flooded {
            beside_flood(&plug.socket, plug.mac, || measure(setting, &world))?
        } else {
            measure(setting, &world)?
        };
        world.check()?;
        Ok(figures)
    })
}

fn measure(setting: &Setting, world: &World) -> anyhow::Result<Vec<f64>> {
    let tcp = measure::tcp(world, setting.duration)?.gbit_per_s;
    let times = measure::round_trip(world, Placement::Apart)?;
    Ok(vec![tcp, times.p50_us, times.p99_us])
}

/// Measures while a guest floods, which waits only for the switch.
fn beside_flood<T>(
    socket: &UnixDatagram,
    mac: [u8; 6],
    measure: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let broadcast = frame([0xff; 6], mac, SMALL);
    let (sent, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let flooder = scope.spawn(|| measure::flood_patiently(socket, &broadcast, &sent, &stop));
        // A panic in the measurement must end the flood too, or nobody would return from here.
        let measured = attempt(measure);
        stop.store(true, Ordering::Relaxed);
        flooder.join().expect("the flooder does not panic").context("flooding")?;
        ensure!(sent.load(Ordering::Relaxed) > 0, "the flooder sent nothing");
        measured
    })
}

pub(super) fn rows() -> Vec<Row> {
    vec![Row {
        group: Group::Fair,
        name: "fair-flood",
        title: "two TAPs beside a port that floods broadcasts, one worker",
        figures: &[Figure::TCP, Figure::P50, Figure::P99],
        contestants: vec![contestant("quiet", false), contestant("flooded", true)],
        pairs: Pairs::OthersToFirst,
        targets: vec![
            Target::ratio(0, "flooded", "quiet", 0.45),
            Target::ratio_at_most(2, "flooded", "quiet", 3.0),
        ],
        measurements: 2.0,
    }]
}
