use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use testbed::Process;
use testbed::peer::vde_plug2tap;

use crate::world::{INTERFACE, World};

const START_LIMIT: Duration = Duration::from_secs(20);

/// A TAP in each namespace.
pub fn taps(world: &mut World, program: &Path) -> anyhow::Result<()> {
    let mut config = String::new();
    for host in [&world.a, &world.b] {
        let netns = host.netns.path();
        let netns = netns.display();
        let name = host.netns.name();
        writeln!(
            config,
            "[network.bench.port.{name}]\ntap = {{ name = \"{INTERFACE}\", netns = \"{netns}\" }}"
        )?;
    }
    start(world, program, &config)
}

/// VDE's own plugs, as they would connect to VDE's switch.
pub fn vde(world: &mut World, program: &Path) -> anyhow::Result<()> {
    start(world, program, "[network.bench.port.plugs]\nvde = { directory = \"switch\" }\n")?;
    let switch = world.directory().join("switch");
    for plug in [&world.a, &world.b].map(|host| vde_plug2tap(&host.netns, &switch, INTERFACE)) {
        world.keep(plug);
    }
    Ok(())
}

/// With this configuration; relative paths in it are of the world's directory.
fn start(world: &mut World, program: &Path, config: &str) -> anyhow::Result<()> {
    let file = world.directory().join("vmlan.toml");
    fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = Command::new(program);
    command.args(["run", "--config"]).arg(&file);
    command.arg("--control").arg(world.directory().join("control.sock"));
    let mut process = Process::spawn(command);
    process.wait_for_log("ready: ", START_LIMIT);
    world.keep(process);
    Ok(())
}
