//! A TAP, which the daemon makes in our network namespace and sets up.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::process::getpid;
use vmlan_api::{OneOrMany, PortKind};

use crate::args::HostArguments;
use crate::client::Client;

/// Where ip-netns(8) keeps the names of network namespaces.
const NAMED: &str = "/run/netns";

/// The kind of that port.
pub const KIND: PortKind = PortKind::Tap;

/// Returns the port to ask the daemon for.
pub fn port(client: &Client, arguments: &HostArguments) -> anyhow::Result<vmlan_api::PortConfig> {
    let name = arguments.device.clone().unwrap_or_else(|| "vmlan%d".to_owned());
    let addresses = arguments.address.iter().map(ToString::to_string).collect();
    let tap = vmlan_api::TapConfig {
        name: Some(name),
        netns: namespace(client, arguments.keep)?,
        address: Some(OneOrMany::Many(addresses)),
        ..Default::default()
    };
    Ok(vmlan_api::PortConfig { tap: Some(tap), ..Default::default() })
}

/// Our network namespace, when the daemon is in another. For an interface that outlives this process it has to have a
/// name of its own, which outlives it as well.
fn namespace(client: &Client, outlives: bool) -> anyhow::Result<Option<String>> {
    let status: vmlan_api::Status = client.get("/v1/status")?;
    let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net"));
    // Without the right to look at the daemon's it is taken for ours.
    let is_elsewhere = match (of("self"), of(&status.pid.to_string())) {
        (Ok(ours), Ok(theirs)) => ours != theirs,
        _ => false,
    };
    match (is_elsewhere, named()) {
        (false, _) => Ok(None),
        (true, Some(path)) => Ok(Some(path)),
        (true, None) if outlives => anyhow::bail!(
            "this network namespace has no name in {NAMED}, so an interface in it cannot be kept; give it one \
             (ip netns attach NAME {}), or leave --keep out",
            getpid().as_raw_nonzero()
        ),
        (true, None) => Ok(Some(format!("/proc/{}/ns/net", getpid().as_raw_nonzero()))),
    }
}

/// The file in the directory of named namespaces that is our network namespace.
fn named() -> Option<String> {
    let ours = fs::metadata("/proc/self/ns/net").ok()?;
    let same = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|other| (other.dev(), other.ino()) == (ours.dev(), ours.ino()))
    };
    let path = fs::read_dir(NAMED).ok()?.flatten().map(|entry| entry.path()).find(same)?;
    path.into_os_string().into_string().ok()
}
