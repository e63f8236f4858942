//! `vmlan vm`: runs a virtual machine of the user's on a network.
//!
//! A port of the machine's own is added before, and removed when its command ends. The port's name is the machine's,
//! and its MAC address follows from that name, so that the machine has the same address whenever it runs.

mod child;
mod program;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde_json::json;
use vmlan_api::{ApplyReport, ErrorCode};

use crate::args::VmArguments;
use crate::client::{Client, ClientError, encode};
use crate::command::{Failure, port_path, stable_mac};
use crate::output::tell;
use child::Keeper;
use program::{Program, Socket};

/// Names that are tried for a machine.
const MOST_NAMES: usize = 1000;

/// Runs the machine; an exit code of its command other than 0 is [`Failure::Exited`].
pub fn run(client: &Client, arguments: VmArguments) -> Result<(), Failure> {
    let mut command = arguments.command;
    let Some((program_name, own)) = command.split_first() else {
        return Err(Failure::Usage("name the command that runs the machine".to_owned()));
    };
    let shown = arguments.network.as_deref().unwrap_or("NETWORK");
    let program = Program::of(program_name, shown).map_err(Failure::Usage)?;
    if let Some(network) = program.own_network(own) {
        let added = program.network(&command, "PATH", "MAC").join(" ");
        return Err(Failure::Usage(format!(
            "`{}` gives the machine a network already; leave it out, and vmlan puts in\n  {added}\nor keep it and add a \
             port by hand, whose lines `vmlan port show` has:\n  vmlan port add {shown} NAME stream listen=NAME.sock",
            vmlan_api::escaped(&network)
        )));
    }
    if program == Program::Qemu {
        check_qemu(program_name)?;
    }
    let wanted = program.name(own);
    // From here on a signal is the command's, or ends it before it begins.
    let mut keeper = Keeper::new().context("signals cannot be waited for")?;
    let network = network(client, arguments.network)?;
    let port = Port::add(client, &network, &wanted, program.socket())?;
    let added = program.network(&command, &port.socket, &port.mac);
    tell(&format!("{} is on network {network} as {}, {}", wanted, port.name, port.mac));
    command.extend(added.into_iter().map(OsString::from));
    let ended = keeper.run(&command);
    port.remove();
    let program = command[0].to_string_lossy().into_owned();
    match ended.with_context(|| format!("{program} cannot be run"))? {
        0 => Ok(()),
        code => Err(Failure::Exited(code)),
    }
}

/// The network that was named, else the only one, or that of `vmlan up`.
fn network(client: &Client, named: Option<String>) -> Result<String, Failure> {
    if let Some(named) = named {
        return Ok(named);
    }
    let networks: Vec<vmlan_api::Network> = client.get("/v1/networks")?;
    let mut names = networks.into_iter().map(|network| network.network).collect::<Vec<_>>();
    if names.iter().any(|name| name == "lab") {
        return Ok("lab".to_owned());
    }
    match (names.len(), names.pop()) {
        (1, Some(only)) => Ok(only),
        (0, _) => Err(anyhow::anyhow!("there is no network yet; `vmlan up` runs one with a way out").into()),
        (_, last) => {
            names.extend(last);
            Err(Failure::Usage(format!(
                "name the network: vmlan vm NETWORK -- …; there are: {}",
                names.join(", ")
            )))
        }
    }
}

/// Checks that QEMU can connect to a stream socket, which those before 7.2 cannot.
fn check_qemu(program: &OsString) -> anyhow::Result<()> {
    let name = program.to_string_lossy();
    let ask = |arguments: &[&str]| Command::new(program).args(arguments).output();
    let output = ask(&["-netdev", "help"]).with_context(|| format!("{name} cannot be run"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.lines().any(|line| line.trim() == "stream") {
        return Ok(());
    }
    let version = ask(&["--version"]).ok().and_then(|output| {
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .next()
            .map(|line| vmlan_api::escaped(line).into_owned())
    });
    anyhow::bail!(
        "{name} has no `-netdev stream`, which came with QEMU 7.2; it says of itself: {}. An older one joins by VDE \
         (`-netdev vde`) or by a TAP: `vmlan port add` and `vmlan port show`",
        version.as_deref().unwrap_or("nothing")
    )
}

/// The port of a machine.
struct Port<'c> {
    client: &'c Client,
    path: String,
    name: String,
    mac: String,
    socket: String,
}

impl<'c> Port<'c> {
    /// Adds a port of this name, or of the name with the lowest number that is free.
    fn add(client: &'c Client, network: &str, wanted: &str, kind: Socket) -> Result<Port<'c>, Failure> {
        let ports: Vec<vmlan_api::Port> = client.get(&format!("/v1/networks/{}/ports", encode(network)))?;
        let taken: BTreeSet<String> = ports.into_iter().map(|port| port.port).collect();
        let numbered = (2..MOST_NAMES).map(|number| format!("{wanted}-{number}"));
        let names = [wanted.to_owned()].into_iter().chain(numbered).filter(|name| !taken.contains(name));
        let directory = directory(client)?;
        for name in names {
            let mac = stable_mac(network, &name);
            let socket = directory.join(format!("{network}-{name}.sock"));
            let socket = socket.to_str().context("the control socket's path is no text")?.to_owned();
            let listen = json!({ "listen": socket });
            let table = match kind {
                Socket::Stream => json!({ "stream": listen, "mac": mac }),
                Socket::Datagram => json!({ "datagram": listen, "mac": mac }),
            };
            let port = Port { client, path: port_path(network, &name), name, mac, socket };
            match client.post::<ApplyReport>(&port.path, &table) {
                Ok(_) => return Ok(port),
                // Another command was faster.
                Err(ClientError::Refused(error)) if error.code == ErrorCode::PortExists => {}
                Err(ClientError::Refused(error)) if error.code == ErrorCode::NotSetUp => {
                    port.remove();
                    return Err(
                        anyhow::anyhow!("the port cannot be made: {}", error.without_staying()).into()
                    );
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(anyhow::anyhow!("there are too many ports called {wanted}; name the machine with -name").into())
    }

    /// Removes the port. Its machine has ended, so that nothing hangs on it.
    fn remove(&self) {
        match self.client.delete::<ApplyReport>(&self.path) {
            Ok(_) => {}
            // Somebody removed it, or the daemon was started again.
            Err(ClientError::Refused(error)) if error.code == ErrorCode::UnknownPort => {}
            // The daemon ends, and the port with it.
            Err(
                ClientError::Closed { .. } | ClientError::Broken { .. } | ClientError::Unreachable { .. },
            ) => {}
            Err(error) => tell(&format!("port {} cannot be removed: {error}", self.name)),
        }
    }
}

/// The directory of the control socket, where the daemon may make another one.
fn directory(client: &Client) -> anyhow::Result<PathBuf> {
    let control = std::path::absolute(client.path())?;
    Ok(control.parent().unwrap_or(Path::new("/")).to_owned())
}
