//! The report of an uplink for listings, as far as it follows from the configuration.

use vmlan_api::PortState;
use vmlan_nat::reach::{Egress, Rule};

use super::egress::Spec;
use super::{DnsServers, UplinkSettings};

impl UplinkSettings {
    /// Returns the report of a network's uplink, as far as it follows from the settings. A running uplink adds what it
    /// counts and finds.
    pub fn report(&self, network: &str) -> vmlan_api::Uplink {
        let rooms = &self.rooms;
        let with_bits = |address: std::net::IpAddr| {
            let bits = if address.is_ipv4() { rooms.subnet.prefix } else { 64 };
            format!("{address}/{bits}")
        };
        let servers = match self.dns.as_ref().map(|dns| &dns.servers) {
            Some(DnsServers::Listed(servers)) => servers.iter().map(ToString::to_string).collect(),
            Some(DnsServers::Host) | None => Vec::new(),
        };
        let host = rooms.hosts(2).filter(|_| !self.host.is_empty()).map(|address| address.to_string());
        vmlan_api::Uplink {
            network: network.to_owned(),
            mode: rooms.mode,
            state: PortState::Waiting,
            mac: rooms.mac.to_string(),
            gateway: rooms.hosts(1).map(with_bits).collect(),
            host: host.collect(),
            host_services: self.host.iter().map(ToString::to_string).collect(),
            pool: self.dhcp.as_ref().map(|dhcp| format!("{}-{}", dhcp.pool.0, dhcp.pool.1)),
            pool_size: self.dhcp.as_ref().map_or(0, |dhcp| dhcp.pool_size()),
            domain: self.dns.as_ref().map(|dns| dns.domain.clone()),
            resolvers: servers,
            egress: in_words(&self.egress),
            flows_limit: self.limits.flows.into(),
            ..vmlan_api::Uplink::default()
        }
    }
}

/// The part of the world that guests may reach: a word, or a line for each rule.
pub fn in_words(egress: &Egress) -> Vec<String> {
    let rules = match egress {
        Egress::All => return vec!["all".to_owned()],
        Egress::Internet => return vec!["internet".to_owned()],
        Egress::None => return vec!["none".to_owned()],
        Egress::Rules(rules) => rules,
    };
    let line = |rule: &Rule| format!("{} {}", if rule.allow { "allow" } else { "deny" }, Spec(rule));
    rules.iter().map(line).collect()
}
