//! The benchmark, with what it needs: release builds, root, other projects' programs.

use std::os::unix::process::CommandExt;

use crate::packages;
use crate::shell::{Error, cargo, is_root, program, run as run_command, target};

/// The benchmark's options, each with a value. It checks the values itself.
const OPTIONS: [&str; 5] = ["--rounds", "--only", "--seconds", "--patience", "--json"];

/// Builds vmlan and the benchmark, and becomes the benchmark: Ctrl-C and the exit status are its own.
///
/// # Errors
/// Without root, and when a package cannot be installed or the build fails.
pub fn run(arguments: &[String]) -> Result<(), Error> {
    if !is_root() {
        return Err(Error::Failed(
            "the benchmark makes network namespaces, TAP and veth interfaces, and needs root for all that it measures; \
             run it as root, for example with `sudo -E env PATH=\"$PATH\" cargo xtask bench`"
                .into(),
        ));
    }
    packages::ensure(&packages::FOR_BENCH, "the benchmark cannot run without them")?;
    run_command(&mut cargo(["build", "--release", "-p", "vmlan", "-p", "vmlan-bench"]))?;
    let path = target().join("release/vmlan-bench");
    let error = program(&path.to_string_lossy(), []).args(arguments).exec();
    Err(Error::Failed(format!("cannot run {}: {error}", path.display())))
}

/// What stands on the command line, when it is options with their values: a typing error shall not cost a release build.
///
/// # Errors
/// For anything else.
pub fn check(arguments: &[String]) -> Result<(), Error> {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(n, v)| (n, Some(v)));
        if !OPTIONS.contains(&name) {
            return Err(Error::Usage(format!("bench does not know {word:?}")));
        }
        let has_value = value.is_some() || words.next().is_some_and(|value| !value.starts_with("--"));
        if !has_value {
            return Err(Error::Usage(format!("{name} wants a value")));
        }
    }
    Ok(())
}
