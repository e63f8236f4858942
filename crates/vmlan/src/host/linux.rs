//! A TAP, which the daemon makes in our network namespace and sets up.

use std::fs;

use rustix::process::getpid;
use vmlan_api::{OneOrMany, PortKind};

use crate::args::HostArguments;
use crate::client::Client;

/// The kind of that port.
pub const KIND: PortKind = PortKind::Tap;

/// Returns the port to ask the daemon for.
pub fn port(client: &Client, arguments: &HostArguments) -> anyhow::Result<vmlan_api::PortConfig> {
    let name = arguments.device.clone().unwrap_or_else(|| "vmlan%d".to_owned());
    let addresses = arguments.address.iter().map(ToString::to_string).collect();
    let tap = vmlan_api::TapConfig {
        name: Some(name),
        netns: namespace(client)?,
        address: Some(OneOrMany::Many(addresses)),
        ..Default::default()
    };
    Ok(vmlan_api::PortConfig { tap: Some(tap), ..Default::default() })
}

/// Our network namespace, when the daemon is in another.
fn namespace(client: &Client) -> anyhow::Result<Option<String>> {
    let status: vmlan_api::Status = client.get("/v1/status")?;
    let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net"));
    // Without the right to look at the daemon's it is taken for ours.
    let is_elsewhere = match (of("self"), of(&status.pid.to_string())) {
        (Ok(ours), Ok(theirs)) => ours != theirs,
        _ => false,
    };
    Ok(is_elsewhere.then(|| format!("/proc/{}/ns/net", getpid().as_raw_nonzero())))
}
