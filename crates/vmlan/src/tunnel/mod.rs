//! `vmlan tunnel connect`: joins this machine's own stack, or a program on stdin and stdout, to a network by its tunnel
//! socket. Everything that it makes ends with the process.

mod stdio;

#[cfg(target_os = "linux")]
#[path = "linux/device.rs"]
mod device;
#[cfg(target_os = "macos")]
#[path = "macos/device.rs"]
mod device;

use std::path::Path;

use anyhow::Context;
use vmlan_drivers::tunnel::client::{Client, Error};
use vmlan_drivers::tunnel::message::Refusal;

use crate::args::{ConnectArguments, TunnelCommand};
use crate::command::Failure;

/// Runs until the tunnel ends, which is a failure, or stdin does.
pub fn run(command: TunnelCommand) -> Result<(), Failure> {
    let TunnelCommand::Connect(arguments) = command;
    let client = connect(&arguments)?;
    match arguments.stdio {
        true => stdio::relay(&client)?,
        false => device::join(&client, &arguments)?,
    }
    Ok(())
}

fn connect(arguments: &ConnectArguments) -> anyhow::Result<Client> {
    let socket = &arguments.socket;
    Client::connect(socket, arguments.unit, &arguments.address).map_err(|error| {
        let cure = cure(&error, socket);
        anyhow::Error::new(error).context(format!("there is no tunnel to have at {}{cure}", socket.display()))
    })
}

fn cure(error: &Error, socket: &Path) -> String {
    match error {
        Error::Connect(_) => {
            format!(" (is a port with `tunnel = {{ listen = \"{}\" … }}` running?)", socket.display())
        }
        Error::Refused(Refusal::Invalid) => {
            " (where clients choose their addresses, name one with --address)".to_owned()
        }
        Error::Refused(Refusal::AddressNotAllowed) => {
            " (see `address` and `allow` of the port's tunnel)".to_owned()
        }
        _ => String::new(),
    }
}

/// Describes the tunnel, for people.
fn describe(client: &Client) -> anyhow::Result<String> {
    let opened = client.opened();
    let name = client.name().context("the tunnel's name cannot be asked for")?;
    let addresses: Vec<_> = opened.addresses.iter().map(ToString::to_string).collect();
    Ok(format!("{name}: {}, MTU {}, link address {}", addresses.join(", "), opened.mtu, opened.mac))
}
