//! Listings of the running state: `status`, `networks`, `ports`, `fdb` and `counters`.

use super::Failure;
use super::other_side::signals;
use crate::args::Output;
use crate::client::{Client, encode};
use crate::output::{Answer, line, or_dash};
use crate::table::table;

pub fn status(client: &Client, output: Output) -> Result<Answer, Failure> {
    let status: vmlan_api::Status = client.get("/v1/status")?;
    if output.json {
        return Answer::json(&status, output);
    }
    let state = serde_json::to_value(status.state).ok();
    let mut rows = vec![
        ("version", status.version.clone()),
        ("pid", status.pid.to_string()),
        ("state", or_dash(state.as_ref().and_then(|state| state.as_str()))),
        ("uptime", duration(status.uptime_seconds)),
        ("workers", status.workers.to_string()),
        ("poll", status.poll.as_str().to_owned()),
        ("networks", status.networks.to_string()),
        ("ports", status.ports.to_string()),
        ("configuration", or_dash(status.config.as_deref())),
    ];
    rows.extend(status.listeners.iter().map(|listener| (listener.service.as_str(), served_at(listener))));
    Ok(Answer::text(&rows.iter().map(|(name, value)| line(name, 13, value)).collect::<String>()))
}

/// The address of a service of the daemon's, or why it is not there.
fn served_at(listener: &vmlan_api::Listener) -> String {
    let address = &listener.address;
    match (&listener.reason, listener.service) {
        (Some(reason), _) => format!("{address}, failed: {reason}"),
        (None, vmlan_api::Service::Metrics) => format!("http://{address}/metrics"),
        (None, vmlan_api::Service::Ui) => {
            let may = if listener.writes { "may change the configuration" } else { "only reads" };
            format!("{address} ({may}); `vmlan ui --link` prints the link that opens it")
        }
    }
}

pub fn networks(client: &Client, output: Output) -> Result<Answer, Failure> {
    let networks: Vec<vmlan_api::Network> = client.get("/v1/networks")?;
    if output.json {
        return Answer::json(&networks, output);
    }
    let row = |network: &vmlan_api::Network| {
        vec![
            network.network.clone(),
            network.mtu.to_string(),
            format!("{}/{}", network.ports_up, network.ports),
            format!("{}/{}", network.fdb_entries, network.fdb_size),
            duration(network.fdb_ageing_seconds as f64),
        ]
    };
    let rows: Vec<_> = networks.iter().map(row).collect();
    Ok(Answer::text(&table(&["NETWORK", "MTU", "PORTS UP", "FDB", "AGEING"], &rows)))
}

pub fn config(client: &Client, output: Output) -> Result<Answer, Failure> {
    if output.json {
        return Answer::json(&client.get::<vmlan_api::Config>("/v1/config")?, output);
    }
    Ok(Answer::text(&client.get_text("/v1/config?format=toml")?))
}

pub fn ports(
    client: &Client,
    network: Option<&str>,
    verbose: bool,
    output: Output,
) -> Result<Answer, Failure> {
    let query = network.map(|network| format!("?network={}", encode(network))).unwrap_or_default();
    let ports: Vec<vmlan_api::Port> = client.get(&format!("/v1/ports{query}"))?;
    if output.json {
        return Answer::json(&ports, output);
    }
    let names_a_vlan =
        |network: &str| ports.iter().any(|port| port.network == network && port.vlan.is_some());
    if !verbose {
        let rows: Vec<_> = ports.iter().map(|port| short(port, names_a_vlan(&port.network))).collect();
        return Ok(Answer::text(&table(
            &["NETWORK", "PORT", "KIND", "STATE", "VLAN", "RX", "TX", "DROPS", "PEER"],
            &rows,
        )));
    }
    let row = |port: &vmlan_api::Port| {
        vec![
            port.network.clone(),
            port.port.clone(),
            port.kind.as_str().to_owned(),
            port.state.as_str().to_owned(),
            or_dash(port.address.as_deref()),
            or_dash(port.peer.as_deref()),
            macs(port.mac.as_ref()),
            several(&port.addresses),
            or_dash(port.name.as_deref()),
            vlan(port.vlan.as_ref(), names_a_vlan(&port.network)),
            port.mtu.to_string(),
            port.counters.rx_frames.to_string(),
            port.counters.tx_frames.to_string(),
            port.counters.drops.values().sum::<u64>().to_string(),
            or_dash(port.mechanism.as_deref()),
            port.reason.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = ports.iter().map(row).collect();
    let head = [
        "NETWORK", "PORT", "KIND", "STATE", "ADDRESS", "PEER", "MAC", "GUEST", "NAME", "VLAN", "MTU", "RX",
        "TX", "DROPS", "BY", "REASON",
    ];
    Ok(Answer::text(&table(&head, &rows)))
}

/// The cells of a port that fit a terminal: of its peer, address and reason the one that matters now.
fn short(port: &vmlan_api::Port, aware: bool) -> Vec<String> {
    let last = match (port.state, &port.peer, &port.address, &port.reason) {
        (vmlan_api::PortState::Up, Some(peer), ..) => peer.clone(),
        // The guest is there, and something of it is not ready.
        (vmlan_api::PortState::Waiting, Some(_), _, Some(reason)) => reason.clone(),
        (vmlan_api::PortState::Up | vmlan_api::PortState::Waiting, _, Some(address), _) => {
            format!("at {address}")
        }
        (.., Some(reason)) => reason.clone(),
        (_, peer, ..) => or_dash(peer.as_deref()),
    };
    vec![
        port.network.clone(),
        port.port.clone(),
        port.kind.as_str().to_owned(),
        port.state.as_str().to_owned(),
        vlan(port.vlan.as_ref(), aware),
        port.counters.rx_frames.to_string(),
        port.counters.tx_frames.to_string(),
        port.counters.drops.values().sum::<u64>().to_string(),
        last,
    ]
}

pub fn fdb(client: &Client, network: &str, output: Output) -> Result<Answer, Failure> {
    let entries: Vec<vmlan_api::FdbEntry> = client.get(&format!("/v1/networks/{}/fdb", encode(network)))?;
    if output.json {
        return Answer::json(&entries, output);
    }
    let row = |entry: &vmlan_api::FdbEntry| {
        vec![
            entry.mac.clone(),
            or_dash(entry.vlan.map(|vlan| vlan.to_string()).as_deref()),
            entry.port.clone(),
            entry.age_seconds.filter(|_| !entry.is_static).map_or("static".to_owned(), duration),
            if entry.fast { "kernel" } else { "daemon" }.to_owned(),
            several(&entry.addresses),
            or_dash(entry.name.as_deref()),
        ]
    };
    let rows: Vec<_> = entries.iter().map(row).collect();
    Ok(Answer::text(&table(&["MAC", "VLAN", "PORT", "AGE", "BY", "ADDRESS", "NAME"], &rows)))
}

pub fn counters(client: &Client, which: Option<&str>, output: Output) -> Result<Answer, Failure> {
    let query = match which {
        Some(which) => {
            let networks: Vec<vmlan_api::Network> = client.get("/v1/networks")?;
            let is_network = networks.iter().any(|network| network.network == which);
            format!("?{}={}", if is_network { "network" } else { "port" }, encode(which))
        }
        None => String::new(),
    };
    let ports: Vec<vmlan_api::PortCounters> = client.get(&format!("/v1/counters{query}"))?;
    if output.json {
        return Answer::json(&ports, output);
    }
    let has_rings = ports.iter().any(|port| port.rings.is_some());
    let row = |port: &vmlan_api::PortCounters| {
        let vmlan_api::Counters { rx_frames, rx_octets, tx_frames, tx_octets, drops, .. } = &port.counters;
        let reasons: Vec<_> = drops
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(reason, count)| format!("{reason}={count}"))
            .collect();
        let numbers = [rx_frames, rx_octets, tx_frames, tx_octets].map(u64::to_string);
        let names = [port.network.clone(), port.port.clone()];
        let words = [classes(&port.counters.classes), reasons.join(" ")];
        let words = words.map(|word| or_dash(Some(&word)));
        let rings = has_rings.then(|| or_dash(port.rings.as_ref().map(signals).as_deref()));
        names.into_iter().chain(numbers).chain(words).chain(rings).collect()
    };
    let rows: Vec<Vec<String>> = ports.iter().map(row).collect();
    let mut head =
        vec!["NETWORK", "PORT", "RX FRAMES", "RX OCTETS", "TX FRAMES", "TX OCTETS", "CLASSES RX/TX", "DROPS"];
    head.extend(has_rings.then_some("RINGS"));
    Ok(Answer::text(&table(&head, &rows)))
}

/// Returns the frames received and sent of each class that has some: `video=3/0 voice=2/5`.
fn classes(classes: &vmlan_api::Classes) -> String {
    let counted =
        classes.named().into_iter().filter(|(_, class)| (class.rx_frames, class.tx_frames) != (0, 0));
    let words: Vec<_> =
        counted.map(|(name, class)| format!("{name}={}/{}", class.rx_frames, class.tx_frames)).collect();
    words.join(" ")
}

pub(super) fn macs(macs: Option<&vmlan_api::OneOrMany<String>>) -> String {
    macs.map_or_else(|| "-".to_owned(), |macs| several(macs.as_slice()))
}

/// The first of several addresses, and how many there are beside it.
fn several(addresses: &[String]) -> String {
    match addresses {
        [] => "-".to_owned(),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first} +{}", rest.len()),
    }
}

/// A role in VLANs; `aware` says that a port of the network names a VLAN, so that the others are in VLAN 1.
pub(super) fn vlan(vlan: Option<&vmlan_api::VlanConfig>, aware: bool) -> String {
    let Some(vlan) = vlan else { return if aware { "1 (default)" } else { "-" }.to_owned() };
    if let Some(access) = vlan.access {
        return access.to_string();
    }
    let tagged: Vec<_> = vlan.tagged.iter().flatten().map(u64::to_string).collect();
    match vlan.native {
        Some(native) => format!("tagged {} native {native}", tagged.join(",")),
        None => format!("tagged {}", tagged.join(",")),
    }
}

/// A number of seconds for people: `4.2s`, `3m 5s`, `2d 1h`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..60 => format!("{:.1}s", seconds.max(0.0)),
        60..3_600 => format!("{}m {}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h {}m", whole / 3_600, whole / 60 % 60),
        _ => format!("{}d {}h", whole / 86_400, whole / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_their_two_largest_units() {
        for (seconds, text) in
            [(0.04, "0.0s"), (59.5, "59.5s"), (185.0, "3m 5s"), (7_260.0, "2h 1m"), (180_000.0, "2d 2h")]
        {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn roles_in_vlans_are_short() {
        let role = |access, tagged: Option<Vec<u64>>, native| {
            vlan(Some(&vmlan_api::VlanConfig { access, tagged, native }), true)
        };
        assert_eq!((vlan(None, false), vlan(None, true)), ("-".to_owned(), "1 (default)".to_owned()));
        assert_eq!(role(Some(10), None, None), "10");
        assert_eq!(role(None, Some(vec![10, 20]), Some(1)), "tagged 10,20 native 1");
    }

    #[test]
    fn a_port_whose_guest_is_there_and_not_ready_says_for_what_it_waits() {
        let waiting = |peer: Option<&str>| vmlan_api::Port {
            state: vmlan_api::PortState::Waiting,
            address: Some("/web.sock".into()),
            peer: peer.map(str::to_owned),
            reason: Some("no rings yet".into()),
            ..Default::default()
        };
        let last = |port| short(&port, false).pop().expect("cells");
        assert_eq!(last(waiting(None)), "at /web.sock");
        assert_eq!(last(waiting(Some("pid 7"))), "no rings yet");
    }
}
