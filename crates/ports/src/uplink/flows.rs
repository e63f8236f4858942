//! An uplink's flows as others see them.

use std::collections::BTreeMap;

use vmlan_api::{Flow, FlowCounts, FlowDirection};
use vmlan_drivers::uplink::Flows;
use vmlan_nat::datagrams::{self, FlowKind};
use vmlan_nat::tcp::State;

/// The flows as they are listed, each with its guest's port.
pub(super) fn rows(flows: &Flows, network: &str, names: &BTreeMap<u16, String>) -> Vec<(u16, Flow)> {
    let now = vmlan_frame::Instant::from_nanos(vmlan_sys::monotonic_nanos());
    let port = |ingress: u16| names.get(&ingress).cloned().unwrap_or_else(|| format!("#{ingress}"));
    let direction = |inward| match inward {
        true => FlowDirection::In,
        false => FlowDirection::Out,
    };
    let tcp = flows.tcp.iter().map(|(id, flow)| {
        let row = Flow {
            network: network.to_owned(),
            id: *id,
            protocol: "tcp".to_owned(),
            direction: direction(flow.came_in),
            port: port(flow.ingress),
            guest: flow.guest.to_string(),
            peer: Some(flow.other.to_string()),
            state: word(flow.state).to_owned(),
            rx_octets: flow.octets.0,
            tx_octets: flow.octets.1,
            kept_octets: flow.kept.0 + flow.kept.1,
            age_seconds: now.since(flow.started).as_secs_f64(),
            idle_seconds: now.since(flow.heard).as_secs_f64(),
        };
        (flow.ingress, row)
    });
    let datagrams = flows.datagrams.iter().filter(|(_, flow)| flow.kind != FlowKind::Forward);
    let datagrams = datagrams.map(|(id, flow)| {
        let row = Flow {
            network: network.to_owned(),
            id: *id,
            protocol: if flow.kind == FlowKind::Echo { "icmp" } else { "udp" }.to_owned(),
            direction: direction(flow.kind == FlowKind::Caller),
            port: port(flow.ingress),
            guest: flow.guest.to_string(),
            peer: (flow.peer.port() > 0 || !flow.peer.ip().is_unspecified()).then(|| flow.peer.to_string()),
            state: if flow.answered { "answered" } else { "unanswered" }.to_owned(),
            rx_octets: flow.octets_out,
            tx_octets: flow.octets_in,
            kept_octets: 0,
            age_seconds: now.since(flow.since).as_secs_f64(),
            idle_seconds: now.since(flow.last).as_secs_f64(),
        };
        (flow.ingress, row)
    });
    tcp.chain(datagrams).collect()
}

fn word(state: State) -> &'static str {
    match state {
        State::Free | State::Gone => "closed",
        State::Queued | State::Connecting => "connecting",
        State::Accepting => "accepting",
        State::Calling => "calling",
        State::Open => "open",
    }
}

/// Adds to a report of the uplink what its flows are, and why datagrams went no further.
pub(super) fn report(flows: &Flows, report: &mut vmlan_api::Uplink) {
    let count = |kinds: &[FlowKind]| {
        flows.datagrams.iter().filter(|(_, flow)| kinds.contains(&flow.kind)).count() as u64
    };
    report.flows = FlowCounts {
        tcp: flows.tcp.iter().filter(|(_, flow)| flow.state != State::Gone).count() as u64,
        udp: count(&[FlowKind::Udp, FlowKind::Caller]),
        echo: count(&[FlowKind::Echo]),
    };
    report.kept_octets = flows.tcp.iter().map(|(_, flow)| flow.kept.0 + flow.kept.1).sum();
    for drop in datagrams::Drop::ALL {
        *report.drops.entry(drop.name().to_owned()).or_default() += flows.counts.dropped(drop);
    }
}
