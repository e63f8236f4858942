//! `trunk`: how networks are joined to the host's interfaces.

use super::Failure;
use crate::args::Output;
use crate::client::{Client, encode};
use crate::output::{Answer, line, or_dash};

pub fn show(client: &Client, network: Option<&str>, output: Output) -> Result<Answer, Failure> {
    let query = network.map(|network| format!("?network={}", encode(network))).unwrap_or_default();
    let trunks: Vec<vmlan_api::Trunk> = client.get(&format!("/v1/trunks{query}"))?;
    if output.json {
        return Answer::json(&trunks, output);
    }
    if trunks.is_empty() {
        return Ok(Answer::text(
            "no network is joined to an interface of the host; add [network.NAME.trunk]\n",
        ));
    }
    Ok(Answer::text(&trunks.iter().map(describe).collect::<Vec<_>>().join("\n")))
}

/// A trunk as a paragraph.
fn describe(trunk: &vmlan_api::Trunk) -> String {
    let state = match (&trunk.reason, trunk.active) {
        (Some(reason), _) => format!("{}: {reason}", trunk.state.as_str()),
        (None, true) => format!("{}, active", trunk.state.as_str()),
        (None, false) => format!("{}, inactive: no guest is there", trunk.state.as_str()),
    };
    let carrier = if trunk.carrier { "" } else { ", no carrier" };
    let mtu = trunk.mtu.map(|mtu| format!("{mtu}{carrier}"));
    let shared = if trunk.shared_mac { "yes" } else { "no" };
    let rows = [
        ("network", trunk.network.clone()),
        ("interface", format!("{}, mode {}", trunk.interface, trunk.mode.as_str())),
        ("state", state),
        ("sides", or_dash(Some(&trunk.sides.join(", ")))),
        ("host's MAC", or_dash(trunk.host_mac.as_deref())),
        ("shared MAC", shared.to_owned()),
        ("host's IP", or_dash(Some(&trunk.host_addresses.join(", ")))),
        ("MTU", or_dash(mtu.as_deref())),
        ("guests", trunk.stations.to_string()),
        ("from host", flow(trunk.host.rx_frames, trunk.host.rx_octets)),
        ("to host", flow(trunk.host.tx_frames, trunk.host.tx_octets)),
        ("from wire", flow(trunk.wire.rx_frames, trunk.wire.rx_octets)),
        ("to wire", flow(trunk.wire.tx_frames, trunk.wire.tx_octets)),
    ];
    let mut text = String::new();
    let installed = trunk.installed.iter().map(|what| ("installed", what.clone()));
    for (name, value) in rows.into_iter().chain(installed) {
        text.push_str(&line(name, 10, &value));
    }
    text
}

fn flow(frames: u64, octets: u64) -> String {
    format!("{frames} frames, {octets} octets")
}
