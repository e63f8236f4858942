use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testbed::{Netns, Process};

use crate::relay::{Mechanism, READY, TRUNK_TAP};
use crate::row::Unavailable;
use crate::world::{Host, World, text};

const START_LIMIT: Duration = Duration::from_secs(10);

/// This program again, as a relay between two TAPs.
pub fn taps(world: &mut World, program: &Path, mechanism: Mechanism, offloads: bool) -> anyhow::Result<()> {
    if mechanism == Mechanism::Uring {
        uring::probe().map_err(|error| Unavailable(format!("io_uring is not allowed here: {error}")))?;
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

/// This program again, as a relay between the TAP of a guest and the host's interface `interface` in `host`: to the
/// host itself, or to the wire behind it.
///
/// # Panics
/// When it does not come up.
pub fn trunk(
    (program, directions): (&Path, &[&str]),
    guest: &Host,
    host: &Netns,
    interface: &str,
) -> Process {
    let mut words: Vec<OsString> = vec!["trunk".into(), Mechanism::Uring.name().into()];
    words.extend([guest.netns.path().into(), host.path().into(), interface.into(), text(guest.mac).into()]);
    words.extend(directions.iter().map(OsString::from));
    let relay = start(program, &words);
    host.ip(["link", "set", TRUNK_TAP, "up"]);
    relay
}

/// This program again, with a program on the way out of the interface that does nothing.
///
/// # Panics
/// When it does not come up.
pub fn hook(program: &Path, host: &Netns, interface: &str) -> Process {
    start(program, &["hook".into(), host.path().into(), interface.into()])
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
