//! `status --fast`: what the kernel carries past the daemon, and why it does not carry the rest.

use vmlan_api::{Isolation, Port, PortKind, VlanConfig};

use super::Failure;
use super::list::vlan;
use crate::args::Output;
use crate::client::Client;
use crate::output::{Answer, or_dash};
use crate::table::table;

/// Shows all interface ports and the trunks beside them, or why frames between two ports go by the daemon.
pub fn show(client: &Client, pair: &[String], output: Output) -> Result<Answer, Failure> {
    let ports: Vec<Port> = client.get("/v1/ports")?;
    let [one, other] = pair else { return list(&ports, output) };
    let (one, other) = (find(&ports, one)?, find(&ports, other)?);
    let config: vmlan_api::Config = client.get("/v1/config")?;
    let reasons = reasons(one, other, &config);
    if output.json {
        return Answer::json(&serde_json::json!({ "fast": reasons.is_empty(), "reasons": reasons }), output);
    }
    let names = format!("{}/{} and {}/{}", one.network, one.port, other.network, other.port);
    Ok(Answer::text(&match reasons.is_empty() {
        true => format!(
            "frames between {names} go fast: the kernel carries unicast IPv4 and IPv6 between addresses that it has\n"
        ),
        false => {
            let reasons: String =
                reasons.iter().map(|reason| format!("  {}\n", vmlan_api::escaped(reason))).collect();
            format!("frames between {names} go by the daemon:\n{reasons}")
        }
    }))
}

fn list(ports: &[Port], output: Output) -> Result<Answer, Failure> {
    let fast: Vec<_> = ports.iter().filter_map(|port| Some((port, port.fast.as_ref()?))).collect();
    if output.json {
        let shown = |(port, fast): &(&Port, &vmlan_api::PortFast)| serde_json::json!({ "network": port.network, "port": port.port, "fast": fast });
        return Answer::json(&fast.iter().map(shown).collect::<Vec<_>>(), output);
    }
    if fast.is_empty() {
        return Ok(Answer::text(
            "no port is an interface of this host's; the kernel carries frames between such ports only\n",
        ));
    }
    let row = |(port, fast): &(&Port, &vmlan_api::PortFast)| {
        vec![
            port.network.clone(),
            port.port.clone(),
            if fast.slow.is_none() { "yes" } else { "no" }.to_owned(),
            fast.stations.to_string(),
            fast.rx_frames.to_string(),
            fast.tx_frames.to_string(),
            or_dash(fast.slow.as_deref()),
        ]
    };
    let rows: Vec<_> = fast.iter().map(row).collect();
    let head = ["NETWORK", "PORT", "FAST", "ADDRESSES", "RX FAST", "TX FAST", "WHY NOT"];
    Ok(Answer::text(&(table(&head, &rows) + &without_daemon(&fast))))
}

/// Tells how far the kernel goes on when the daemon is killed.
fn without_daemon(fast: &[(&Port, &vmlan_api::PortFast)]) -> String {
    let ends = |(port, fast): &(&Port, &vmlan_api::PortFast)| {
        let why = vmlan_api::escaped(fast.unpinned.as_deref()?).to_string();
        Some((format!("{}/{}", port.network, port.port), why))
    };
    let ends: Vec<_> = fast.iter().filter_map(ends).collect();
    match ends.first() {
        Some((_, why)) if ends.len() == fast.len() => {
            format!("When the daemon is killed, nothing goes on: {why}.\n")
        }
        _ => {
            let but: String = ends.iter().map(|(port, why)| format!("But not {port}: {why}.\n")).collect();
            format!("While no daemon runs, after a kill, the kernel goes on between these addresses.\n{but}")
        }
    }
}

/// The port of this name, as `network/port`, or as `port` where one network has it.
fn find<'p>(ports: &'p [Port], name: &str) -> Result<&'p Port, Failure> {
    let is_it = |port: &&Port| match name.split_once('/') {
        Some((network, of_it)) => port.network == network && port.port == of_it,
        None => port.port == name,
    };
    let mut found = ports.iter().filter(is_it);
    match (found.next(), found.next()) {
        (Some(port), None) => Ok(port),
        (None, _) => Err(Failure::Usage(format!("there is no port `{name}`; `vmlan ports` lists them"))),
        (Some(_), Some(_)) => {
            Err(Failure::Usage(format!("several networks have a port `{name}`; write NETWORK/PORT")))
        }
    }
}

/// Why frames between two ports go by the daemon; nothing when they do not have to.
fn reasons(one: &Port, other: &Port, config: &vmlan_api::Config) -> Vec<String> {
    if one.network != other.network {
        return vec![format!("{} and {} are different networks: nothing passes", one.network, other.network)];
    }
    if one.port == other.port {
        return vec!["it is one port".to_owned()];
    }
    let mut reasons = Vec::new();
    for port in [one, other] {
        let name = &port.port;
        match &port.fast {
            None if matches!(port.kind, PortKind::Interface | PortKind::Trunk) => {
                reasons.push(format!(
                    "{name}: {}",
                    port.reason.as_deref().unwrap_or("it is not attached to its interface")
                ));
            }
            None => reasons.push(format!(
                "{name} is a port of kind {}; the kernel carries frames between ports of kind interface, and between \
                 those and a trunk in mode filter",
                port.kind.as_str()
            )),
            Some(fast) => {
                if let Some(slow) = &fast.slow {
                    reasons.push(format!("{name}: {slow}"));
                } else if fast.stations == 0 {
                    let whose = if port.kind == PortKind::Trunk { "behind it" } else { "of its guest" };
                    reasons.push(format!("{name}: no address {whose} is known; nothing was heard from it"));
                }
            }
        }
    }
    let is_isolated = |port: &Port| {
        let settings = config.network.get(&port.network).and_then(|network| network.port.get(&port.port));
        settings.and_then(|settings| settings.isolation) == Some(Isolation::Isolated)
    };
    if is_isolated(one) && is_isolated(other) {
        reasons.push("both are isolated: nothing passes between them".to_owned());
    }
    let aware = config.network.get(&one.network).is_some_and(has_vlans);
    if aware && vlans(one).is_disjoint(&vlans(other)) {
        let name = |port: &Port| format!("{} has {}", port.port, vlan(port.vlan.as_ref(), true));
        reasons.push(format!("no VLAN in common: {}, {}", name(one), name(other)));
    }
    reasons
}

/// True if a port of the network names a VLAN, or its trunk.
fn has_vlans(network: &vmlan_api::NetworkConfig) -> bool {
    let of_trunk = network.trunk.as_ref().is_some_and(|trunk| trunk.vlan.is_some());
    of_trunk || network.port.values().any(|port| port.vlan.is_some())
}

/// The VLANs of a port, in a network that has VLANs.
fn vlans(port: &Port) -> std::collections::BTreeSet<u64> {
    match &port.vlan {
        None => [1].into(),
        Some(VlanConfig { access, tagged, native }) => {
            access.iter().chain(tagged.iter().flatten()).chain(native).copied().collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use vmlan_api::{NetworkConfig, PortConfig, PortFast};

    use super::*;

    fn port(name: &str, slow: Option<&str>, stations: u64) -> Port {
        let fast = Some(PortFast { stations, slow: slow.map(str::to_owned), ..PortFast::default() });
        Port { network: "lab".into(), port: name.into(), kind: PortKind::Interface, fast, ..Port::default() }
    }

    #[test]
    fn what_keeps_two_ports_from_going_fast_is_named() {
        let mut config = vmlan_api::Config::default();
        let (a, b) = (port("a", None, 1), port("b", None, 1));
        assert!(reasons(&a, &b, &config).is_empty());
        let slow = port("b", Some("a capture or a rule has to see its frames"), 1);
        assert_eq!(reasons(&a, &slow, &config), ["b: a capture or a rule has to see its frames"]);
        assert!(reasons(&a, &port("b", None, 0), &config)[0].contains("nothing was heard"));
        let socket = Port { kind: PortKind::Stream, fast: None, ..b.clone() };
        assert!(reasons(&a, &socket, &config)[0].contains("kind stream"));
        let trunk = |fast| Port { kind: PortKind::Trunk, fast, ..port("trunk", None, 2) };
        assert!(reasons(&a, &trunk(port("", None, 2).fast), &config).is_empty());
        assert!(
            reasons(&a, &trunk(port("", Some("mode packet"), 0).fast), &config)[0].contains("mode packet")
        );
        assert!(reasons(&a, &trunk(None), &config)[0].starts_with("trunk: "));
        let elsewhere = Port { network: "dmz".into(), ..b.clone() };
        assert!(reasons(&a, &elsewhere, &config)[0].contains("different networks"));
        let isolated = PortConfig { isolation: Some(Isolation::Isolated), ..PortConfig::default() };
        let ports = [("a".to_owned(), isolated.clone()), ("b".to_owned(), isolated)];
        config.network.insert("lab".into(), NetworkConfig { port: ports.into(), ..Default::default() });
        assert!(reasons(&a, &b, &config)[0].contains("isolated"));
    }

    #[test]
    fn vlans_have_to_meet() {
        let vlan = |access| Some(VlanConfig { access: Some(access), ..VlanConfig::default() });
        let mut config = vmlan_api::Config::default();
        let ports = [("a".to_owned(), PortConfig { vlan: vlan(10), ..PortConfig::default() })];
        config.network.insert("lab".into(), NetworkConfig { port: ports.into(), ..Default::default() });
        let (a, b) = (Port { vlan: vlan(10), ..port("a", None, 1) }, port("b", None, 1));
        assert_eq!(reasons(&a, &b, &config), ["no VLAN in common: a has 10, b has 1 (default)"]);
        let trunk = VlanConfig { tagged: Some(vec![10]), native: Some(1), access: None };
        let b = Port { vlan: Some(trunk), ..b };
        assert!(reasons(&a, &b, &config).is_empty());
    }

    #[test]
    fn a_port_is_found_by_its_name_and_its_networks() {
        let ports = [port("a", None, 1), Port { network: "dmz".into(), ..port("a", None, 1) }];
        assert_eq!(find(&ports, "dmz/a").map(|port| port.network.clone()).ok(), Some("dmz".into()));
        for (name, words) in
            [("a", "several networks"), ("b", "there is no port"), ("lab/b", "there is no port")]
        {
            let Err(Failure::Usage(message)) = find(&ports, name) else { panic!("{name} was found") };
            assert!(message.contains(words), "{message}");
        }
    }
}
