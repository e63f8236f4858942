//! One function a command.

mod apply;
mod events;
mod filter;
mod list;
mod man;
mod port;
mod trunk;

use std::path::{Path, PathBuf};

use clap::CommandFactory;

pub use self::port::port_keys;
use crate::args::{Arguments, Command};
use crate::client::{Client, ClientError};
use crate::output::{print, print_json, print_verbatim};
use crate::{capture, demo, doctor, host, tunnel};

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The command line is wrong in a way that only the command can tell.
    Usage(String),
    /// It was tried and failed.
    Failed(anyhow::Error),
    /// It failed and said so already.
    Told,
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
    let client = || connect(control.as_deref());
    match arguments.command {
        Command::Run { config } => {
            let control = control_path(control.as_deref())?;
            Ok(vmlan_daemon::run::run(vmlan_daemon::run::Options { config, control })?)
        }
        Command::Check { file } => apply::check(&file),
        Command::Apply { file, dry_run, output } => {
            apply::apply(&client()?, file.as_deref(), dry_run, output)
        }
        Command::Status { output } => list::status(&client()?, output),
        Command::Networks { output } => list::networks(&client()?, output),
        Command::Ports { network, output } => list::ports(&client()?, network.as_deref(), output),
        Command::Fdb { network, output } => list::fdb(&client()?, &network, output),
        Command::Trunk { network, output } => trunk::show(&client()?, network.as_deref(), output),
        Command::Counters { port, output } => list::counters(&client()?, port.as_deref(), output),
        Command::Events { output } => events::follow(&client()?, output),
        Command::Capture(arguments) => capture::run(&client()?, &arguments),
        Command::Port(command) => port::run(&client()?, command),
        Command::Filter(command) => filter::run(&client()?, command),
        Command::Tunnel(command) => tunnel::run(command),
        Command::Host(arguments) => host::run(&client()?, &arguments),
        Command::Demo => demo::run(),
        Command::Doctor { clean, output } => doctor::run(control_path(control.as_deref()), clean, output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "vmlan", &mut script);
            print_verbatim(&String::from_utf8_lossy(&script))
        }
        Command::Version { output } if output.json => {
            print_json(&serde_json::json!({ "version": env!("CARGO_PKG_VERSION") }))
        }
        Command::Version { .. } => print(concat!("vmlan ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Man => print_verbatim(&man::page().map_err(anyhow::Error::new)?),
    }
}

fn connect(control: Option<&Path>) -> Result<Client, Failure> {
    let path = control_path(control)?;
    Client::new(&path).map_err(|error| Failure::Failed(error.into()))
}

/// The socket named on the command line, else that of our user.
fn control_path(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    if rustix::process::geteuid().is_root() {
        return Ok(Path::new(doctor::ROOT_RUNTIME_DIRECTORY).join("vmlan/control.sock"));
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(directory) if Path::new(&directory).is_absolute() => {
            Ok(Path::new(&directory).join("vmlan/control.sock"))
        }
        _ => anyhow::bail!(
            "XDG_RUNTIME_DIR is not set, so there is no place for the control socket; name one with --control"
        ),
    }
}
