//! This machine's own stack by a device of its kernel: on macOS the daemon makes that itself.

use anyhow::bail;
use vmlan_drivers::tunnel::client::Client;

use crate::args::ConnectArguments;

/// Says what to do instead.
pub fn join(_client: &Client, _arguments: &ConnectArguments) -> anyhow::Result<()> {
    bail!("macOS has no TUN devices; use --stdio, or join this machine with `vmlan host NETWORK --address …`")
}
