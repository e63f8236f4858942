//! Two guests that are datagram sockets.

use crate::measure::{self, SMALL, frame};
use crate::plugs::Board;
use crate::row::{Contestant, Figure, Group, Row, Setting, Target};

/// Frames that one call sends.
const BATCH: usize = 64;

/// Octets of a frame with an MTU of 1500.
const LARGE: usize = 1514;

fn contestant(
    name: &'static str,
    needs: &[&'static str],
    octets: usize,
    make: impl Fn(&Setting) -> anyhow::Result<Board> + 'static,
) -> Contestant {
    Contestant::new(name, needs, move |setting| {
        let board = make(setting)?;
        setting.wait_for_quiet()?;
        let [from, to] = [&board.plugs[0], &board.plugs[1]];
        let frames = vec![frame(to.mac, from.mac, octets); BATCH];
        let rate = measure::datagrams(&from.socket, &to.socket, frames, &mut |_| {}, 0, setting.duration)?;
        Ok(vec![rate.received_mpps])
    })
}

pub(super) fn rows() -> Vec<Row> {
    let row = |name, title, octets| {
        let vmlan = |setting: &Setting| Board::datagrams(setting, 2, "", "");
        let contestants = vec![
            contestant("vmlan", &[], octets, vmlan),
            contestant("relay-mmsg", &[], octets, Board::relay),
            contestant("vmlan-vde", &[], octets, |setting| Board::vmlan_vde(setting, 2)),
            contestant("vde-switch", &["vde_switch"], octets, |_| Board::vde_switch(2)),
        ];
        let targets = vec![
            Target::ratio(0, "vmlan", "relay-mmsg", 0.9).reaching(1.0),
            Target::ratio(0, "vmlan-vde", "vde-switch", 4.0),
        ];
        Row::new(Group::Dgram, name, title, &[Figure::RATE], contestants, targets)
    };
    vec![row("dgram-64", "frames of 64 octets", SMALL), row("dgram-1500", "frames of 1514 octets", LARGE)]
}
