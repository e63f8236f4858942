//! Costs that may grow with ports, addresses, networks and time.

use std::fmt::Write;
use std::process::Command;
use std::time::Instant;

use anyhow::ensure;
use testbed::run;

use crate::measure::{self, Frames, SMALL, frame, memory};
use crate::peer::vmlan;
use crate::plugs::{Board, datagram_ports, directory};
use crate::row::{Bound, Contestant, Figure, Group, Pairs, Row, Setting, Target};

const BATCH: usize = 64;

/// A table that holds a million addresses, whatever comes; the same for all, so that only what is in it differs.
const LARGE_FDB: (&str, &str) = ("fdb = { size = 1048576 }", "quota = 1048576");

const START: Figure = Figure { name: "start", unit: "ms", more_is_better: false };
const APPLY: Figure = Figure { name: "apply", unit: "ms", more_is_better: false };
const GROWTH: Figure = Figure { name: "growth", unit: "×", more_is_better: false };

/// The most that vmlan may have, in MiB.
const fn allowance(ports: u32) -> Bound {
    Bound::AtMost(16.0 + 0.5 * ports as f64)
}

/// From the first guest to the second, and the switch's memory after it.
fn unicast(setting: &Setting, board: &Board) -> anyhow::Result<Vec<f64>> {
    setting.wait_for_quiet()?;
    let [from, to] = [&board.plugs[0], &board.plugs[1]];
    let frames = vec![frame(to.mac, from.mac, SMALL); BATCH];
    let rate = measure::datagrams(&from.socket, &to.socket, frames, &mut |_| {}, 0, setting.duration)?;
    Ok(vec![rate.received_mpps, memory(board.switch.pid())?])
}

fn ports(name: &'static str, count: usize) -> Contestant {
    Contestant::new(name, &[], move |setting| unicast(setting, &Board::datagrams(setting, count, "", "")?))
}

fn vde_ports(name: &'static str, count: usize) -> Contestant {
    Contestant::new(name, &["vde_switch"], move |setting| unicast(setting, &Board::vde_switch(count)?))
}

/// The address number `number` of a guest's many.
fn address(guest: u8, number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.to_be_bytes();
    [2, 0x10 | guest, a, b, c, d]
}

/// Every frame comes from the next of so many addresses; with `both` it also goes to the next of the other guest's.
fn macs(name: &'static str, count: u32, both: bool) -> Contestant {
    Contestant::new(name, &[], move |setting| {
        let board = Board::datagrams(setting, 2, LARGE_FDB.0, LARGE_FDB.1)?;
        let [from, to] = [&board.plugs[0], &board.plugs[1]];
        let each = if both { count / 2 } else { count };
        if both {
            // The second guest has to be known by all its addresses.
            let mut number = 0;
            let mut next = |frames: &mut Frames| {
                for frame in frames {
                    frame[6..12].copy_from_slice(&address(1, number % each));
                    number += 1;
                }
            };
            let frames = vec![frame(from.mac, to.mac, SMALL); BATCH];
            measure::teach(&to.socket, frames, &mut next, each.into())?;
            board.drain();
        }
        setting.wait_for_quiet()?;
        let mut number = 0_u32;
        let mut next = |frames: &mut Frames| {
            for frame in frames {
                if both {
                    // Another order than that of the sources, so that the two are not found beside each other.
                    let other = number.wrapping_mul(2_654_435_761) % each;
                    frame[..6].copy_from_slice(&address(1, other));
                }
                frame[6..12].copy_from_slice(&address(0, number % each));
                number = number.wrapping_add(1);
            }
        };
        let frames = vec![frame(to.mac, from.mac, SMALL); BATCH];
        let rate =
            measure::datagrams(&from.socket, &to.socket, frames, &mut next, each.into(), setting.duration)?;
        Ok(vec![rate.received_mpps, memory(board.switch.pid())?])
    })
}

/// Two ports in each of so many networks; frames go through the first one.
fn networks(name: &'static str, count: usize) -> Contestant {
    Contestant::new(name, &[], move |setting| {
        let directory = directory()?;
        let mut config = String::new();
        let mut network = |number: usize| -> anyhow::Result<()> {
            let ports = [2 * number, 2 * number + 1];
            Ok(write!(config, "{}", datagram_ports(&format!("n{number}"), ports, "")?)?)
        };
        (0..count).try_for_each(&mut network)?;
        let start = Instant::now();
        let switch = vmlan::start(&setting.programs, directory.path(), &config, None)?;
        let started = start.elapsed();

        config.push_str(&datagram_ports("more", [2 * count, 2 * count + 1], "")?);
        let file = vmlan::write(directory.path(), "more.toml", &config)?;
        let mut apply = Command::new(&setting.programs.vmlan);
        apply.arg("apply").arg(&file).arg("--control").arg(directory.path().join("control.sock"));
        let start = Instant::now();
        let output = run(apply, vmlan::START_LIMIT);
        let applied = start.elapsed();
        ensure!(output.success(), "vmlan apply: {}", output.stderr.trim());

        let mut figures = unicast(setting, &Board::plugged(directory, switch, 2)?)?;
        figures.extend([started, applied].map(|time| time.as_secs_f64() * 1e3));
        Ok(figures)
    })
}

const LONG_PORTS: usize = 8;

/// Traffic among eight ports, and memory after a tenth of the time and at its end.
fn long_run() -> Contestant {
    Contestant::new("vmlan", &[], |setting| {
        let board = Board::datagrams(setting, LONG_PORTS, "", "")?;
        let sink = &board.plugs[1];
        let part = |share: f64| -> anyhow::Result<f64> {
            let frames: Frames = (0..BATCH)
                .map(|number| match number % LONG_PORTS {
                    0 => frame([0xff; 6], board.plugs[0].mac, SMALL),
                    other => frame(board.plugs[other].mac, board.plugs[0].mac, 1514),
                })
                .collect();
            measure::datagrams(
                &board.plugs[0].socket,
                &sink.socket,
                frames,
                &mut |_| {},
                0,
                setting.long.mul_f64(share),
            )?;
            memory(board.switch.pid())
        };
        let first = part(0.1)?;
        // Guests that read nothing for a while read again.
        board.drain();
        let last = part(0.9)?;
        Ok(vec![last, last / first])
    })
}

pub(super) fn rows() -> Vec<Row> {
    let row = |name, title, figures, contestants, targets| Row {
        pairs: Pairs::OthersToFirst,
        ..Row::new(Group::Scale, name, title, figures, contestants, targets)
    };
    let mac_targets = || vec![Target::ratio(0, "100,000 MACs", "10 MACs", 0.7).reaching(0.9)];
    vec![
        row(
            "scale-ports",
            "unicast between two of so many ports",
            &[Figure::RATE, Figure::MEMORY],
            vec![ports("2 ports", 2), ports("128 ports", 128), ports("512 ports", 512)],
            vec![
                Target::ratio(0, "128 ports", "2 ports", 0.8).reaching(0.95),
                Target::absolute(1, "2 ports", allowance(2)),
                Target::absolute(1, "128 ports", allowance(128)),
                Target::absolute(1, "512 ports", allowance(512)),
            ],
        ),
        row(
            "scale-ports-vde",
            "the same through VDE's switch",
            &[Figure::RATE, Figure::MEMORY],
            vec![vde_ports("vde, 2 ports", 2), vde_ports("vde, 128 ports", 128)],
            vec![],
        ),
        row(
            "scale-macs",
            "each frame from the next of so many MACs",
            &[Figure::RATE, Figure::MEMORY],
            vec![
                macs("10 MACs", 10, false),
                macs("1,000 MACs", 1_000, false),
                macs("100,000 MACs", 100_000, false),
                macs("1,000,000 MACs", 1_000_000, false),
            ],
            mac_targets(),
        ),
        row(
            "scale-macs-both",
            "each frame from and to the next of so many MACs",
            &[Figure::RATE, Figure::MEMORY],
            vec![
                macs("10 MACs", 10, true),
                macs("1,000 MACs", 1_000, true),
                macs("100,000 MACs", 100_000, true),
                macs("1,000,000 MACs", 1_000_000, true),
            ],
            vec![],
        ),
        row(
            "scale-networks",
            "one of so many networks with two ports each",
            &[Figure::RATE, Figure::MEMORY, START, APPLY],
            vec![networks("1 network", 1), networks("16 networks", 16), networks("256 networks", 256)],
            vec![
                Target::absolute(1, "1 network", allowance(2)),
                Target::absolute(1, "256 networks", allowance(2 * 256)),
            ],
        ),
        Row {
            pairs: Pairs::FirstToOthers,
            ..row(
                "scale-memory",
                "memory after traffic of --long seconds, and its growth since a tenth of it",
                &[Figure::MEMORY, GROWTH],
                vec![long_run()],
                vec![
                    Target::absolute(0, "vmlan", allowance(LONG_PORTS as u32)),
                    Target::absolute(1, "vmlan", Bound::AtMost(1.02)),
                ],
            )
        },
    ]
}
