use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testbed::Process;

use crate::relay::{Mechanism, READY};
use crate::world::World;

const START_LIMIT: Duration = Duration::from_secs(10);

/// This program again, as a relay.
pub fn start(world: &mut World, program: &Path, mechanism: Mechanism) {
    let mut command = Command::new(program);
    command.arg("relay").arg(mechanism.name());
    command.args([&world.a, &world.b].map(|host| host.netns.path()));
    let mut process = Process::spawn(command);
    process.wait_for_log(READY, START_LIMIT);
    world.keep(process);
}
