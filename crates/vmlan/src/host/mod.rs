//! `vmlan host`: gives this machine an interface on a network, for as long as the command runs, or longer.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
use macos as platform;

use std::sync::Arc;

use anyhow::Context;
use vmlan_api::{ApplyReport, ErrorCode, PortState};

use crate::args::HostArguments;
use crate::client::{Client, ClientError};
use crate::command::{Failure, port_path};
use crate::mark::Mark;
use crate::output::print;
use crate::signals::Endings;

/// Adds the port, in place of one that a killed command left, and removes it again at a signal.
pub fn run(client: Client, arguments: &HostArguments) -> Result<(), Failure> {
    // From here on a signal waits until everything is there, so that everything is taken away again: for as long as the
    // daemon answers.
    let endings = Arc::new(Endings::new().context("signals cannot be waited for")?);
    let client = &client.ended_by(endings.clone());
    let HostArguments { network, port, .. } = arguments;
    let path = port_path(network, port);
    let mark = Mark::set(client, "host", (network, port))?;
    let access = |vlan| vmlan_api::VlanConfig { access: Some(vlan), ..Default::default() };
    let wanted =
        vmlan_api::PortConfig { vlan: arguments.vlan.map(access), ..platform::port(client, arguments)? };
    let report: ApplyReport = match client.post(&path, &wanted) {
        Err(ClientError::Refused(error))
            if error.code == ErrorCode::PortExists && is_left(client, &path, &mark)? =>
        {
            client
                .delete::<ApplyReport>(&path)
                .context("the port that a killed `vmlan host` left cannot be removed")?;
            client.post(&path, &wanted)?
        }
        Err(ClientError::Refused(error)) if error.code == ErrorCode::PortExists => {
            return Err(anyhow::anyhow!("{}, or name another port with --port", error.message).into());
        }
        Err(ClientError::Refused(error)) if error.code == ErrorCode::NotSetUp => {
            client.delete::<ApplyReport>(&path).context("the port cannot be removed")?;
            // It does not stay, as this command takes it away again.
            let reason = error.without_staying();
            return Err(anyhow::anyhow!("the interface cannot be made: {reason}").into());
        }
        Err(error @ ClientError::Ended { .. }) => {
            mark.leave();
            return Err(stays(&error, network, port, "is made when the daemon goes on"));
        }
        report => report?,
    };
    let joined = set_up(client, &path);
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
    let removed = match client.delete::<ApplyReport>(&path) {
        Err(error @ ClientError::Ended { .. }) => {
            mark.leave();
            return Err(stays(&error, network, port, "is left behind"));
        }
        removed => removed.context("the port cannot be removed"),
    };
    joined?;
    removed?;
    Ok(())
}

/// The error of a command that was ended before its port was gone.
fn stays(error: &ClientError, network: &str, port: &str, how: &str) -> Failure {
    anyhow::anyhow!(
        "{error}: port {port} of network {network} {how}; the next `vmlan host` for it takes it away, as does \
         `vmlan port remove {network} {port}`"
    )
    .into()
}

/// True if the port at `path` was left by a killed command.
fn is_left(client: &Client, path: &str, mark: &Mark) -> Result<bool, ClientError> {
    Ok(mark.was_left() && client.get::<vmlan_api::Port>(path)?.kind == platform::KIND)
}

/// The name of the interface of the port at `path`, when it is ready.
fn set_up(client: &Client, path: &str) -> anyhow::Result<String> {
    let port: vmlan_api::Port = client.get(path)?;
    let name = port.peer.clone().filter(|_| port.state == PortState::Up);
    name.with_context(|| {
        let reason = port.reason.as_deref().unwrap_or("see `vmlan ports`");
        format!("the port is {}: {reason}", port.state.as_str())
    })
}
