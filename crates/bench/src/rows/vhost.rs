//! Two guests on vhost-user sockets.

use crate::measure::SMALL;
use crate::peer::vhost::{Pair, Shape, Switch};
use crate::row::{Contestant, Figure, Group, Row, Setting, Target};
use testbed::interrupt;
use testbed::testpmd::PortRates;

const LARGE: usize = 1514;

/// A guest as Linux is one, and 512 frames on their way from each guest.
const USUAL: Shape = Shape { packed: false, in_order: false, queues: 1, frame: SMALL, circulating: (16, 32) };

/// Frames that arrive in a second at both guests.
fn arrived(pair: &mut Pair, setting: &Setting) -> f64 {
    pair.guests.rates();
    interrupt::sleep(setting.duration);
    pair.guests.rates().iter().map(|rates: &PortRates| rates.rx_packets as f64).sum()
}

fn contestants(
    switches: &[Switch],
    shape: Shape,
    figure: impl Fn(f64) -> f64 + Copy + 'static,
) -> Vec<Contestant> {
    let contestant = |switch: Switch| {
        Contestant::new(switch.name(), &switch.programs(), move |setting| {
            // The guests never sleep, so the machine is quiet only without them.
            setting.wait_for_quiet()?;
            let mut pair = Pair::start(switch, shape, &setting.programs)?;
            let rate = arrived(&mut pair, setting);
            pair.check()?;
            pair.end();
            anyhow::ensure!(rate > 0.0, "no frame came through");
            Ok(vec![figure(rate)])
        })
    };
    switches.iter().copied().map(contestant).collect()
}

/// Of frames, in both directions together.
fn rates(switches: &[Switch], shape: Shape) -> Vec<Contestant> {
    contestants(switches, shape, |rate| rate / 1e6)
}

/// Of one frame from each guest: a round trip is twice through the switch, and two frames are on their way.
fn round_trips(switches: &[Switch], shape: Shape) -> Vec<Contestant> {
    contestants(switches, shape, |rate| 4e6 / rate)
}

pub(super) fn rows() -> Vec<Row> {
    use Switch as S;
    let row = |name, title, figures, contestants, targets| {
        Row::new(Group::Vhost, name, title, figures, contestants, targets)
    };
    let all = [S::VMLAN, S::RELAY, S::RELAY_MAC, S::Ovs];
    vec![
        row(
            "vhost-64",
            "frames of 64 octets, both ways together",
            &[Figure::RATE],
            rates(&all, USUAL),
            vec![
                Target::ratio(0, "vmlan", "testpmd-io", 0.55).reaching(0.75),
                Target::ratio(0, "vmlan", "ovs-dpdk", 2.0),
            ],
        ),
        row(
            "vhost-1514",
            "frames of 1514 octets, both ways together",
            &[Figure::RATE],
            rates(&all, Shape { frame: LARGE, ..USUAL }),
            vec![Target::ratio(0, "vmlan", "testpmd-io", 0.9)],
        ),
        row(
            "vhost-packed",
            "packed rings, frames of 64 octets, both ways together",
            &[Figure::RATE],
            rates(&all, Shape { packed: true, ..USUAL }),
            vec![],
        ),
        row(
            "vhost-inorder",
            "rings used in order, frames of 64 octets, both ways together",
            &[Figure::RATE],
            rates(&all, Shape { in_order: true, ..USUAL }),
            vec![],
        ),
        row(
            "vhost-2q",
            "two pairs of queues, one worker, frames of 64 octets, both ways together",
            &[Figure::RATE],
            rates(&[S::VMLAN, S::RELAY, S::RELAY_MAC], Shape { queues: 2, ..USUAL }),
            vec![],
        ),
        row(
            "vhost-128ports",
            "two of 128 ports, frames of 64 octets, both ways together",
            &[Figure::RATE],
            rates(&[S::VMLAN_MANY, S::VMLAN], USUAL),
            vec![Target::ratio(0, "vmlan-128-ports", "vmlan", 0.95)],
        ),
        row(
            "vhost-rtt",
            "round trip of a frame of 64 octets between guests that poll",
            &[Figure::ROUND_TRIP],
            round_trips(
                &[S::VMLAN, S::VMLAN_BUSY, S::RELAY, S::RELAY_MAC, S::Ovs],
                Shape { circulating: (1, 1), ..USUAL },
            ),
            vec![Target::ratio_at_most(0, "vmlan-busy", "testpmd-io", 1.2)],
        ),
    ]
}
