//! The attacks, on a release build.

use std::os::unix::process::CommandExt;

use crate::bench::check_options;
use crate::shell::{Error, cargo, program, run as run_command, target};

/// The attacks' options with a value. Their program checks the values itself.
const OPTIONS: [&str; 6] = ["--rounds", "--only", "--seconds", "--limit", "--json", "--markdown"];

/// Builds vmlan and the attacks, and becomes the attacks: Ctrl-C and the exit status are their own.
///
/// # Errors
/// When the build fails.
pub fn run(arguments: &[String]) -> Result<(), Error> {
    run_command(&mut cargo(["build", "--release", "-p", "vmlan", "-p", "vmlan-attack"]))?;
    let path = target().join("release/vmlan-attack");
    let error = program(&path.to_string_lossy(), []).args(arguments).exec();
    Err(Error::Failed(format!("cannot run {}: {error}", path.display())))
}

/// Checks that the command line has options with their values.
///
/// # Errors
/// For anything else.
pub fn check(arguments: &[String]) -> Result<(), Error> {
    check_options("attack", &OPTIONS, arguments)
}
