//! `vmlan host`: gives this machine an interface on a network, for as long as the command runs, or longer.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
use macos as platform;

use anyhow::Context;
use vmlan_api::{ApplyReport, Outcome, PortState};

use crate::args::HostArguments;
use crate::client::{Client, ClientError, encode};
use crate::command::Failure;
use crate::output::print;
use crate::signals::Endings;

/// Adds the port, gives the interface its addresses, and removes the port again at a signal.
pub fn run(client: &Client, arguments: &HostArguments) -> Result<(), Failure> {
    // From here on a signal waits until everything is there, so that everything is taken away again.
    let mut endings = Endings::new().context("signals cannot be waited for")?;
    let HostArguments { network, port, .. } = arguments;
    let path = format!("/v1/networks/{}/ports/{}", encode(network), encode(port));
    let access = |vlan| vmlan_api::VlanConfig { access: Some(vlan), ..Default::default() };
    let table =
        vmlan_api::PortConfig { vlan: arguments.vlan.map(access), ..platform::port(client, arguments)? };
    let report: ApplyReport = match client.post(&path, &table) {
        Err(ClientError::Refused(error)) if error.code == vmlan_api::ErrorCode::PortExists => {
            return Err(anyhow::anyhow!("{}, or name another port with --port", error.message).into());
        }
        Err(ClientError::Refused(error)) if error.code == vmlan_api::ErrorCode::NotSetUp => {
            client.delete::<ApplyReport>(&path).context("the port cannot be removed")?;
            return Err(anyhow::anyhow!("the interface cannot be made: {}", error.message).into());
        }
        report => report?,
    };
    let joined = set_up(client, arguments, &report);
    let kept = arguments.keep && joined.is_ok();
    if let Ok(name) = &joined {
        let how_long = match kept {
            true => format!("until `vmlan port remove {network} {port}`"),
            false => "until this ends (Ctrl-C)".to_owned(),
        };
        let addresses: Vec<_> = arguments.address.iter().map(ToString::to_string).collect();
        report.notes.iter().try_for_each(|note| print(&format!("note: {note}\n")))?;
        print(&format!("{name} is on network {network} with {}, {how_long}\n", addresses.join(", ")))?;
        if kept {
            return Ok(());
        }
        endings.wait();
    }
    let removed = client.delete::<ApplyReport>(&path).context("the port cannot be removed");
    joined?;
    removed?;
    Ok(())
}

/// The interface's name, when it is ready.
fn set_up(client: &Client, arguments: &HostArguments, report: &ApplyReport) -> anyhow::Result<String> {
    if let Some(failed) = report.actions.iter().find(|action| action.outcome == Outcome::Failed) {
        anyhow::bail!("{}", failed.reason.as_deref().unwrap_or("the port could not be set up"));
    }
    let ports: Vec<vmlan_api::Port> = client.get("/v1/ports")?;
    let is_ours = |port: &&vmlan_api::Port| port.network == arguments.network && port.port == arguments.port;
    let port = ports.iter().find(is_ours).context("somebody removed the port")?;
    let name = port.peer.clone().filter(|_| port.state == PortState::Up);
    let name = name.with_context(|| {
        let reason = port.reason.as_deref().unwrap_or("see `vmlan ports`");
        format!("the port is {}: {reason}", port.state.as_str())
    })?;
    platform::configure(&name, &arguments.address)?;
    Ok(name)
}
