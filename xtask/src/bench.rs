//! The benchmark, with what it needs: release builds, root, other projects' programs.

use std::os::unix::process::CommandExt;

use crate::packages;
use crate::shell::{Error, cargo, is_root, program, run as run_command, target};

/// The benchmark's options with a value. It checks the values itself.
const OPTIONS: [&str; 8] =
    ["--rounds", "--only", "--seconds", "--long", "--patience", "--json", "--markdown", "--charts"];

/// Its only one without.
const LIST: &str = "--list";

/// Builds vmlan and the benchmark, and becomes the benchmark: Ctrl-C and the exit status are its own. Charts go to
/// `target/bench` unless the command line has another place.
///
/// # Errors
/// Without root, and when the build fails or a package that nothing goes without cannot be installed.
pub fn run(arguments: &[String]) -> Result<(), Error> {
    let list = arguments.iter().any(|word| word == LIST);
    if !list {
        prepare()?;
    }
    run_command(&mut cargo(["build", "--release", "-p", "vmlan", "-p", "vmlan-bench"]))?;
    let path = target().join("release/vmlan-bench");
    let mut command = program(&path.to_string_lossy(), []);
    command.args(arguments);
    if !list && !arguments.iter().any(|word| word.starts_with("--charts")) {
        command.arg("--charts").arg(target().join("bench"));
    }
    let error = command.exec();
    Err(Error::Failed(format!("cannot run {}: {error}", path.display())))
}

fn prepare() -> Result<(), Error> {
    if !is_root() {
        return Err(Error::Failed(
            "the benchmark makes network namespaces, TAP and veth interfaces, and needs root for all that it measures; \
             run it as root, for example with `sudo -E env PATH=\"$PATH\" cargo xtask bench`"
                .into(),
        ));
    }
    packages::ensure(&packages::FOR_BENCH, "the benchmark cannot run without them")?;
    // One that is not to be had is told by the benchmark, in every table in which it would stand.
    if let Err(Error::Failed(message) | Error::Usage(message)) =
        packages::ensure_without_services(&packages::PEERS, "they are told as missing")
    {
        eprintln!("warning: {message}");
    }
    Ok(())
}

/// Checks that the command line has options with their values: a typing error shall not cost a release build.
///
/// # Errors
/// For anything else.
pub fn check(arguments: &[String]) -> Result<(), Error> {
    check_options("bench", &OPTIONS, arguments)
}

/// The same for the options of another task, which has [`LIST`] too.
///
/// # Errors
/// For anything else.
pub fn check_options(task: &str, options: &[&str], arguments: &[String]) -> Result<(), Error> {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == LIST {
            continue;
        }
        let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(n, v)| (n, Some(v)));
        if !options.contains(&name) {
            return Err(Error::Usage(format!("{task} does not know {word:?}")));
        }
        let has_value = value.is_some() || words.next().is_some_and(|value| !value.starts_with("--"));
        if !has_value {
            return Err(Error::Usage(format!("{name} wants a value")));
        }
    }
    Ok(())
}
