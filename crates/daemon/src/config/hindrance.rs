//! Ports of a valid configuration that can never be set up, because the system refuses what they ask for.
//!
//! They cost nothing but themselves: the daemon starts, and the port says why it failed. `vmlan check` says it before.

use vmlan_api::Error;

use super::port_path;
use super::valid::ValidConfig;
use vmlan_ports::join;

/// Everything in a configuration that can never be set up, each with the dotted path of the member at fault.
pub fn hindrances(config: &ValidConfig) -> Vec<Error> {
    let mut found = Vec::new();
    for (network, settings) in config.networks() {
        for (port, table) in &settings.ports {
            let hindrance = table.attachment.hindrance(settings.settings.mtu.octets());
            let at = join(&port_path(network, port), table.attachment.kind().as_str());
            found.extend(hindrance.map(|hindrance| hindrance.at(&at)));
        }
    }
    found
}
