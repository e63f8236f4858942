use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testbed::Process;

use crate::relay::{Mechanism, READY};
use crate::row::Unavailable;
use crate::world::World;

const START_LIMIT: Duration = Duration::from_secs(10);

/// This program again, as a relay between two TAPs.
pub fn taps(world: &mut World, program: &Path, mechanism: Mechanism, offloads: bool) -> anyhow::Result<()> {
    if mechanism == Mechanism::Uring {
        sys::uring::probe().map_err(|error| Unavailable(format!("io_uring is not allowed here: {error}")))?;
    }
    let mut words: Vec<OsString> = vec!["tap".into(), mechanism.name().into()];
    words.extend([&world.a, &world.b].map(|host| host.netns.path().into()));
    if offloads {
        words.push("--offloads".into());
    }
    let relay = start(program, &words);
    world.keep(relay);
    Ok(())
}

/// This program again, as the relay that `words` name.
///
/// # Panics
/// When it does not come up.
pub fn start(program: &Path, words: &[OsString]) -> Process {
    let mut command = Command::new(program);
    command.arg("relay").args(words);
    let mut process = Process::spawn(command);
    process.wait_for_log(READY, START_LIMIT);
    process
}
