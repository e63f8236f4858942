//! vmlan as it is run by its users.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use testbed::peer::vde_plug2tap;
use testbed::{Netns, Process};

use crate::row::Programs;
use crate::world::{INTERFACE, World};

/// With hundreds of networks a start takes a while on a busy machine.
pub const START_LIMIT: Duration = Duration::from_secs(60);

/// A TAP in each namespace.
pub fn taps(world: &mut World, programs: &Programs, poll: Option<&str>) -> anyhow::Result<()> {
    let mut config = poll.map(|mode| format!("poll = \"{mode}\"\n")).unwrap_or_default();
    config.push_str(&taps_config(world)?);
    let directory = world.directory().to_owned();
    let process = start(programs, &directory, &config, None)?;
    world.keep(process);
    Ok(())
}

/// A port for each namespace.
pub fn taps_config(world: &World) -> anyhow::Result<String> {
    let mut config = String::new();
    for host in [&world.a, &world.b] {
        writeln!(config, "[network.bench.port.{}]\n{}", host.netns.name(), tap(&host.netns))?;
    }
    Ok(config)
}

/// The attachment of a TAP in `netns`.
pub fn tap(netns: &Netns) -> String {
    format!("tap = {{ name = \"{INTERFACE}\", netns = \"{}\" }}", netns.path().display())
}

/// VDE's own plugs, as they would connect to VDE's switch.
pub fn vde(world: &mut World, programs: &Programs) -> anyhow::Result<()> {
    let directory = world.directory().to_owned();
    let config = "[network.bench.port.plugs]\nvde = { directory = \"switch\" }\n";
    let process = start(programs, &directory, config, None)?;
    world.keep(process);
    let switch = directory.join("switch");
    for plug in [&world.a, &world.b].map(|host| vde_plug2tap(&host.netns, &switch, INTERFACE)) {
        world.keep(plug);
    }
    Ok(())
}

/// With this configuration; relative paths in it are of `directory`, where its control socket is too. In a namespace
/// where one is given.
///
/// # Errors
/// When the configuration cannot be written.
///
/// # Panics
/// When vmlan does not come up; the message shows what it said.
pub fn start(
    programs: &Programs,
    directory: &Path,
    config: &str,
    netns: Option<&Netns>,
) -> anyhow::Result<Process> {
    let file = write(directory, "vmlan.toml", config)?;
    let program = &programs.vmlan;
    let mut command = netns.map_or_else(|| Command::new(program), |netns| netns.command(program));
    command.args(["run", "--config"]).arg(&file);
    command.arg("--control").arg(directory.join("control.sock"));
    // Leases are nobody's afterwards.
    command.env("XDG_STATE_HOME", directory.join("state"));
    let mut process = Process::spawn(command);
    process.wait_for_log("ready: ", START_LIMIT);
    Ok(process)
}

/// A configuration of this name.
///
/// # Errors
/// When it cannot be written.
pub fn write(directory: &Path, name: &str, config: &str) -> anyhow::Result<std::path::PathBuf> {
    let file = directory.join(name);
    fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}
