//! One function a command.

mod apply;
mod events;
mod explain;
mod fast;
mod filter;
mod list;
mod man;
mod network;
mod other_side;
#[cfg(all(test, feature = "demo"))]
mod pages;
mod place;
mod port;
mod trunk;
mod ui;
mod uplink;

use anyhow::Context;
use clap_complete::env::Shells;

pub use self::explain::words as explained_words;
pub use self::other_side::{lines_for, stable_mac};
pub use self::place::{check_private, control_path, default_file, others};
pub use self::port::{path as port_path, port_keys, words};
use crate::args::{Arguments, Command, Output};
use crate::client::{Client, ClientError};
#[cfg(feature = "demo")]
use crate::demo;
use crate::output::{print, print_json, print_verbatim};
use crate::{capture, doctor, host, support, top, tunnel, up, version, vm, watch};

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The command line is wrong in a way that only the command can tell.
    Usage(String),
    /// It was tried and failed.
    Failed(anyhow::Error),
    /// It failed and said so already.
    Told,
    /// A command that was run for the user ended with this code.
    Exited(u8),
    /// The reader of the output went away.
    OutputClosed,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Failed(error.into())
    }
}

/// Does what the command line says.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let control = arguments.control;
    let output = Output { json: arguments.json, compact: false };
    if let Some(name) = without_json(&arguments.command).filter(|_| output.json) {
        return Err(Failure::Usage(format!("`vmlan {name}` writes no JSON; leave --json out")));
    }
    let client = || -> Result<Client, Failure> {
        let path = control_path(control.as_deref())?;
        Client::new(&path).map(Client::telling).map_err(|error| Failure::Failed(error.into()))
    };
    match arguments.command {
        Command::Run { file, config } => {
            let control = control_path(control.as_deref())?;
            let config = file.or(config).or_else(place::default_file);
            Ok(vmlan_daemon::run::run(vmlan_daemon::run::Options { config, control })?)
        }
        Command::Check { file, here } => apply::check(&file, here, control.as_deref(), output),
        Command::Apply { file, dry_run } => apply::apply(&client()?, file.as_deref(), dry_run, output),
        Command::Status { fast: None, watch } => {
            let client = client()?;
            watch::show(watch, output, |output| list::status(&client, output))
        }
        Command::Status { fast: Some(pair), watch } => {
            if pair.len() == 1 {
                let message = "`--fast` takes two ports, or none for all interface ports";
                return Err(Failure::Usage(message.to_owned()));
            }
            let client = client()?;
            watch::show(watch, output, |output| fast::show(&client, &pair, output))
        }
        Command::Config => list::config(&client()?, output)?.write(),
        Command::Networks { watch } => {
            let client = client()?;
            watch::show(watch, output, |output| list::networks(&client, output))
        }
        Command::Ports { network, verbose, watch } => {
            let client = client()?;
            watch::show(watch, output, |output| list::ports(&client, network.as_deref(), verbose, output))
        }
        Command::Fdb { network, watch } => {
            let client = client()?;
            watch::show(watch, output, |output| list::fdb(&client, &network, output))
        }
        Command::Trunk { network, watch } => {
            let client = client()?;
            watch::show(watch, output, |output| trunk::show(&client, network.as_deref(), output))
        }
        Command::Uplink { network, watch } => {
            let client = client()?;
            watch::show(watch, output, |output| uplink::show(&client, network.as_deref(), output))
        }
        Command::Leases(arguments) => {
            let client = client()?;
            watch::show(arguments.watch, output, |output| uplink::leases(&client, &arguments, output))
        }
        Command::Flows(arguments) => {
            let client = client()?;
            watch::show(arguments.watch, output, |output| uplink::flows(&client, &arguments, output))
        }
        Command::Forward(command) => uplink::forward(&client()?, command, output),
        Command::Up { name } => up::run(&name, control.as_deref()),
        Command::Vm(arguments) => vm::run(client()?, arguments),
        Command::Counters { which, watch } => {
            let client = client()?;
            watch::show(watch, output, |output| list::counters(&client, which.as_deref(), output))
        }
        Command::Top { network } => top::run(client()?.silent(), network.as_deref()),
        Command::Explain { word } => explain::run(&word, output),
        Command::Events => events::follow(&client()?, output),
        Command::Capture(arguments) => capture::run(&client()?, &arguments),
        Command::Ui { link: true, .. } => ui::link(&client()?, output)?.write(),
        Command::Ui { listen, writes, link: false } => ui::run(&client()?, listen, writes),
        Command::Network(command) => network::run(&client()?, command, output),
        Command::Port(command) => port::run(&client()?, command, output),
        Command::Filter(command) => filter::run(&client()?, command, output),
        Command::Tunnel(command) => tunnel::run(command),
        Command::Host(arguments) => host::run(client()?, &arguments),
        #[cfg(feature = "demo")]
        Command::Demo => demo::run(),
        Command::Doctor { clean } => doctor::run(control_path(control.as_deref()), clean, output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            let shells = Shells::builtins();
            let name = shell.to_string();
            let completer =
                shells.completer(&name).ok_or_else(|| anyhow::anyhow!("no completions for {name}"))?;
            let written =
                completer.write_registration(crate::COMPLETE, "vmlan", "vmlan", "vmlan", &mut script);
            written.context("the completions cannot be written")?;
            print_verbatim(&String::from_utf8_lossy(&script))
        }
        Command::Version if output.json => print_json(&version::json()),
        Command::Version => print(&format!("vmlan {}\n", version::long())),
        Command::Support(arguments) => support::run(control_path(control.as_deref()), &arguments, output),
        Command::Man { directory: None } => print_verbatim(&man::page().map_err(anyhow::Error::new)?),
        Command::Man { directory: Some(directory) } => {
            man::write_pages(&directory).with_context(|| format!("no pages in {}", directory.display()))?;
            Ok(())
        }
    }
}

/// The name of a command that has no JSON to write.
fn without_json(command: &Command) -> Option<&'static str> {
    match command {
        Command::Run { .. } => Some("run"),
        Command::Up { .. } => Some("up"),
        Command::Vm(_) => Some("vm"),
        Command::Top { .. } => Some("top"),
        Command::Capture(_) => Some("capture"),
        Command::Tunnel(_) => Some("tunnel"),
        Command::Ui { link: false, .. } => Some("ui"),
        Command::Host(_) => Some("host"),
        #[cfg(feature = "demo")]
        Command::Demo => Some("demo"),
        Command::Completions { .. } => Some("completions"),
        Command::Man { .. } => Some("man"),
        _ => None,
    }
}
