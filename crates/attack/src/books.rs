//! The rule by which the daemon's books balance.

use std::collections::BTreeMap;

use vmlan_api::Port;
use vmlan_frame::{Direction, DropReason};

/// Returns the sums that do not balance; none when all do.
///
/// Per network, the copies that were made of received frames were each sent, dropped on the way out, or wait; cutting a
/// frame makes copies, coalescing takes some away. Per port, every received frame was dropped on its way in or became
/// at least one copy. `ports` holds those that left too, as they were when they did.
pub fn imbalances(ports: &[Port]) -> Vec<String> {
    let mut faults: Vec<String> = ports.iter().filter_map(received).collect();
    let mut networks: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for port in ports {
        let counters = &port.counters;
        let (copies, accounted) = networks.entry(&port.network).or_default();
        *copies += counters.copies + counters.segmented;
        *accounted +=
            counters.tx_frames + counters.coalesced + counters.queued + dropped(port, Direction::Egress);
    }
    for (network, (copies, accounted)) in networks {
        if copies != accounted {
            faults.push(format!("network {network}: {copies} copies, {accounted} sent, waiting or dropped"));
        }
    }
    faults
}

/// Returns the sums that do not balance among the ports themselves, where others left with their counts.
pub fn imbalances_of_ports(ports: &[Port]) -> Vec<String> {
    ports.iter().filter_map(received).collect()
}

fn received(port: &Port) -> Option<String> {
    let counters = &port.counters;
    let dropped = dropped(port, Direction::Ingress) + counters.no_receiver;
    let is_off = counters.rx_frames > counters.copies + dropped || dropped > counters.rx_frames;
    is_off.then(|| {
        format!(
            "port {}: {} received, {dropped} dropped on the way in or without a receiver, {} copies",
            port.port, counters.rx_frames, counters.copies
        )
    })
}

fn dropped(port: &Port, direction: Direction) -> u64 {
    let reasons = DropReason::ALL.iter().filter(|reason| reason.direction() == direction);
    reasons.filter_map(|reason| port.counters.drops.get(reason.name())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, counters: vmlan_api::Counters) -> Port {
        Port { network: "lab".into(), port: name.into(), counters, ..Port::default() }
    }

    #[test]
    fn a_copy_that_went_nowhere_is_seen() {
        let sender = port("a", vmlan_api::Counters { rx_frames: 3, copies: 3, ..Default::default() });
        let mut receiver = port("b", vmlan_api::Counters { tx_frames: 2, queued: 1, ..Default::default() });
        assert!(imbalances(&[sender.clone(), receiver.clone()]).is_empty());

        receiver.counters.queued = 0;

        assert_eq!(imbalances(&[sender, receiver]), ["network lab: 3 copies, 2 sent, waiting or dropped"]);
    }

    #[test]
    fn a_frame_that_came_and_went_nowhere_is_seen() {
        let lost = port("a", vmlan_api::Counters { rx_frames: 3, copies: 2, ..Default::default() });

        assert_eq!(imbalances_of_ports(&[lost]).len(), 1);
    }
}
