use std::collections::BTreeMap;

use api::Port;
use frame::{Direction, DropReason};
use testbed::poll_until;

use super::{Daemon, PATIENCE};

/// Waits until the books of every network balance.
///
/// Per network, the copies that were made of received frames were each sent, dropped on the way out, or wait; cutting
/// a frame makes copies, coalescing takes some away. Per port,
/// every received frame was dropped on its way in or became at least one copy.
#[track_caller]
pub fn assert_balanced(daemon: &Daemon) {
    let mut faults = Vec::new();
    let balanced = poll_until(PATIENCE, || {
        let mut ports = daemon.ports();
        ports.extend_from_slice(&daemon.departed.borrow());
        faults = imbalances(&ports);
        faults.is_empty()
    });
    assert!(balanced, "the books do not balance: {faults:?}\n{:#?}", daemon.ports());
}

fn imbalances(ports: &[Port]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut networks: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for port in ports {
        let counters = &port.counters;
        let (dropped_in, dropped_out) = drops(port);
        let (copies, accounted) = networks.entry(&port.network).or_default();
        *copies += counters.copies + counters.segmented;
        *accounted += counters.tx_frames + counters.coalesced + counters.queued + dropped_out;
        if counters.rx_frames > counters.copies + dropped_in || dropped_in > counters.rx_frames {
            faults.push(format!(
                "port {}: {} received, {dropped_in} dropped on the way in, {} copies",
                port.port, counters.rx_frames, counters.copies
            ));
        }
    }
    for (network, (copies, accounted)) in networks {
        if copies != accounted {
            faults.push(format!("network {network}: {copies} copies, {accounted} sent, waiting or dropped"));
        }
    }
    faults
}

/// Frames dropped on the way in and on the way out.
fn drops(port: &Port) -> (u64, u64) {
    let of = |direction| {
        let reasons = DropReason::ALL.iter().filter(|reason| reason.direction() == direction);
        reasons.filter_map(|reason| port.counters.drops.get(reason.name())).sum()
    };
    (of(Direction::Ingress), of(Direction::Egress))
}
