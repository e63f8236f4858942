//! A utun, which the daemon makes and sets up.

use vmlan_api::{OneOrMany, PortKind};

use crate::args::HostArguments;
use crate::client::Client;

/// The kind of that port.
pub const KIND: PortKind = PortKind::Tunnel;

/// Returns the port to ask the daemon for.
pub fn port(_client: &Client, arguments: &HostArguments) -> anyhow::Result<vmlan_api::PortConfig> {
    let addresses = arguments.address.iter().map(ToString::to_string).collect();
    let tunnel = vmlan_api::TunnelConfig {
        device: Some(arguments.device.clone().unwrap_or_else(|| "utun".to_owned())),
        address: Some(OneOrMany::Many(addresses)),
        ..Default::default()
    };
    Ok(vmlan_api::PortConfig { tunnel: Some(tunnel), ..Default::default() })
}
