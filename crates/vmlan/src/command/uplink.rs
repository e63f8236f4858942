//! `uplink`, `leases`, `flows` and `forward`: what guests have through the uplink of their network.

use std::time::Duration;

use vmlan_api::{Flow, Forward, Lease, Timestamp, Uplink};
use vmlan_daemon::config::uplink::forward::resolve;

use super::Failure;
use super::list::duration;
use crate::args::{FlowsArguments, FlowsCommand, ForwardCommand, LeasesArguments, LeasesCommand, Output};
use crate::client::{Client, encode};
use crate::output::{Answer, line, or_dash};
use crate::table::table;
use crate::watch;

/// Shows the uplink of a network, or those of all.
pub fn show(client: &Client, network: Option<&str>, output: Output) -> Result<Answer, Failure> {
    let uplinks: Vec<Uplink> = client.get(&listing("uplinks", network, None))?;
    if output.json {
        return Answer::json(&uplinks, output);
    }
    if uplinks.is_empty() {
        return Ok(Answer::text(
            "no network has an uplink; add `uplink = {}` to [network.NAME], or try `vmlan up`\n",
        ));
    }
    Ok(Answer::text(&uplinks.iter().map(describe).collect::<Vec<_>>().join("\n")))
}

/// Lists leases, or ends one.
pub fn leases(client: &Client, arguments: &LeasesArguments, output: Output) -> Result<Answer, Failure> {
    let leases: Vec<Lease> = match &arguments.command {
        None => client.get(&listing("leases", arguments.network.as_deref(), None))?,
        Some(LeasesCommand::Release { network, address }) => {
            let path = format!("/v1/networks/{}/leases/{address}", encode(network));
            let lease: Lease = client.delete(&path)?;
            if output.json {
                return Answer::json(&lease, output);
            }
            return Ok(Answer::text(&format!("{} is free; {} had it\n", lease.address, lease.mac)));
        }
    };
    if output.json {
        return Answer::json(&leases, output);
    }
    let now = Timestamp::now();
    let rows: Vec<_> = leases.iter().map(|lease| lease_row(lease, now)).collect();
    Ok(Answer::text(&table(&["NETWORK", "ADDRESS", "NAME", "PORT", "MAC", "ENDS", "SOURCE"], &rows)))
}

fn lease_row(lease: &Lease, now: Timestamp) -> Vec<String> {
    let ends = lease.until.map(|until| match until.since(now) {
        Duration::ZERO => "ended".to_owned(),
        left => format!("in {}", duration(left.as_secs_f64())),
    });
    vec![
        lease.network.clone(),
        lease.address.clone(),
        or_dash(lease.name.as_deref()),
        or_dash(lease.port.as_deref()),
        lease.mac.clone(),
        or_dash(ends.as_deref()),
        lease.source.as_str().to_owned(),
    ]
}

/// Lists flows, or ends one.
pub fn flows(client: &Client, arguments: &FlowsArguments, output: Output) -> Result<Answer, Failure> {
    let flows: Vec<Flow> = match &arguments.command {
        None => {
            let which = arguments.which.as_deref();
            let (network, port) = match which.and_then(|which| which.split_once('/')) {
                Some((network, port)) => (Some(network), Some(port)),
                None => (which, None),
            };
            client.get(&listing("flows", network, port))?
        }
        Some(FlowsCommand::Close { network, id }) => {
            let flow: Flow = client.delete(&format!("/v1/networks/{}/flows/{id}", encode(network)))?;
            if output.json {
                return Answer::json(&flow, output);
            }
            let peer = or_dash(flow.peer.as_deref());
            return Ok(Answer::text(&format!("ended: {} {} {peer}\n", flow.protocol, flow.guest)));
        }
    };
    if output.json {
        return Answer::json(&flows, output);
    }
    let row = |flow: &Flow| {
        vec![
            flow.network.clone(),
            flow.id.to_string(),
            flow.protocol.clone(),
            flow.direction.as_str().to_owned(),
            flow.port.clone(),
            flow.guest.clone(),
            or_dash(flow.peer.as_deref()),
            flow.state.clone(),
            octets(flow.rx_octets),
            octets(flow.tx_octets),
            octets(flow.kept_octets),
            duration(flow.age_seconds),
            duration(flow.idle_seconds),
        ]
    };
    let rows: Vec<_> = flows.iter().map(row).collect();
    let head = [
        "NETWORK",
        "ID",
        "PROTOCOL",
        "DIRECTION",
        "PORT",
        "GUEST",
        "PEER",
        "STATE",
        "RX",
        "TX",
        "KEPT",
        "AGE",
        "IDLE",
    ];
    Ok(Answer::text(&table(&head, &rows)))
}

/// Adds, lists or removes forwards.
pub fn forward(client: &Client, command: ForwardCommand, output: Output) -> Result<(), Failure> {
    let forwards = |network: &str| format!("/v1/networks/{}/forwards", encode(network));
    match command {
        ForwardCommand::Add { network, mut forward } => {
            let directory = std::env::current_dir().map_err(anyhow::Error::new)?;
            resolve(&mut forward, true, &directory);
            let added: Forward = client.post(&forwards(&network), &vmlan_api::ForwardRequest { forward })?;
            told(&added, "leads", output)?.write()
        }
        ForwardCommand::Remove { network, id } => {
            let removed: Forward = client.delete(&format!("{}/{id}", forwards(&network)))?;
            told(&removed, "no longer leads", output)?.write()
        }
        ForwardCommand::List { network, watch } => {
            watch::show(watch, output, |output| forwards_of(client, network.as_deref(), output))
        }
    }
}

fn forwards_of(client: &Client, network: Option<&str>, output: Output) -> Result<Answer, Failure> {
    let forwards: Vec<Forward> = client.get(&listing("forwards", network, None))?;
    if output.json {
        return Answer::json(&forwards, output);
    }
    let row = |forward: &Forward| {
        vec![
            forward.network.clone(),
            forward.id.to_string(),
            forward.spec.clone(),
            if forward.configured { "configuration" } else { "command" }.to_owned(),
            forward.calls.to_string(),
            forward.reason.clone().unwrap_or_else(|| "listening".to_owned()),
        ]
    };
    let rows: Vec<_> = forwards.iter().map(row).collect();
    Ok(Answer::text(&table(&["NETWORK", "ID", "FORWARD", "FROM", "CALLS", "STATE"], &rows)))
}

fn told(forward: &Forward, leads: &str, output: Output) -> Result<Answer, Failure> {
    if output.json {
        return Answer::json(forward, output);
    }
    let Forward { network, id, listen, port, protocol, .. } = forward;
    let place = match &listen[..] {
        [first, .., last] if listen.len() > 2 => format!("{first} to {last}"),
        all => all.join(" and "),
    };
    Ok(Answer::text(&format!("forward {id}: {place} ({protocol}) {leads} to {network}/{port}\n")))
}

/// The path of a listing, of one network or of all.
fn listing(name: &str, network: Option<&str>, port: Option<&str>) -> String {
    let network = network.map(|network| format!("?network={}", encode(network))).unwrap_or_default();
    let port = port.map(|port| format!("&port={}", encode(port))).unwrap_or_default();
    format!("/v1/{name}{network}{port}")
}

/// An uplink as a paragraph.
fn describe(uplink: &Uplink) -> String {
    let state = match &uplink.reason {
        Some(reason) => format!("{}: {reason}", uplink.state.as_str()),
        None => uplink.state.as_str().to_owned(),
    };
    let host = match uplink.host_services.is_empty() {
        true => "no service is open".to_owned(),
        false => format!("{} at {}", uplink.host_services.join(", "), uplink.host.join(", ")),
    };
    let leases = match &uplink.pool {
        Some(pool) => format!("{} of {}, {pool}", uplink.leases, uplink.pool_size),
        None => "no DHCP".to_owned(),
    };
    let names = match &uplink.domain {
        Some(domain) => format!("PORT.{domain}"),
        None => "no DNS".to_owned(),
    };
    let ipv6 = match uplink.ipv6_route {
        true => "leads to the internet",
        false => "among guests only: this host has no way to the internet by IPv6",
    };
    let flows = &uplink.flows;
    let drops: Vec<_> = uplink.drops.iter().map(|(reason, count)| format!("{reason}={count}")).collect();
    let mut rows = vec![
        ("network", uplink.network.clone()),
        ("mode", uplink.mode.as_str().to_owned()),
        ("state", state),
        ("gateway", format!("{}, {}", uplink.gateway.join(", "), uplink.mac)),
        ("leases", leases),
        ("names", names),
        ("resolvers", or_dash(Some(&uplink.resolvers.join(", ")))),
        ("egress", uplink.egress.join("; ")),
        ("host", host),
    ];
    // One that does not run has not looked.
    let is_up = uplink.state == vmlan_api::PortState::Up;
    if is_up && uplink.gateway.iter().any(|address| address.contains(':')) {
        rows.push(("IPv6", ipv6.to_owned()));
    }
    rows.push((
        "flows",
        format!(
            "{} TCP, {} UDP, {} echo; at most {} of a guest",
            flows.tcp, flows.udp, flows.echo, uplink.flows_limit
        ),
    ));
    rows.push(("kept", octets(uplink.kept_octets)));
    rows.push(("drops", or_dash(Some(&drops.join(" ")))));
    rows.extend(uplink.notes.iter().map(|note| ("note", note.clone())));
    rows.into_iter().map(|(name, value)| line(name, 9, &value)).collect()
}

/// A number of octets for people: `812`, `5.0K`, `1.2G`.
fn octets(octets: u64) -> String {
    let mut number = octets as f64;
    let mut unit = "";
    for next in ["K", "M", "G", "T"] {
        if number < 1024.0 {
            break;
        }
        (number, unit) = (number / 1024.0, next);
    }
    if unit.is_empty() { octets.to_string() } else { format!("{number:.1}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_short() {
        for (number, text) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1.0K"),
            (5 << 20, "5.0M"),
            (3 << 41, "6.0T"),
            (1 << 60, "1048576.0T"),
        ] {
            assert_eq!(octets(number), text);
        }
    }

    #[test]
    fn a_lease_tells_how_long_it_lasts() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let lease = Lease {
            network: "lab".into(),
            address: "10.213.5.16".into(),
            mac: "52:54:00:00:00:01".into(),
            port: None,
            name: Some("web".into()),
            until: Some(at("2026-01-01T01:00:00.000Z")),
            source: vmlan_api::LeaseSource::Dynamic,
        };
        let row = |lease: &Lease, now: &str| lease_row(lease, at(now))[5].clone();
        assert_eq!(row(&lease, "2026-01-01T00:01:00.000Z"), "in 59m 0s");
        assert_eq!(row(&lease, "2026-01-02T00:00:00.000Z"), "ended");
        assert_eq!(row(&Lease { until: None, ..lease }, "2026-01-01T00:00:00.000Z"), "-");
    }
}
