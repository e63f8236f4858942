//! Running programs from the root of the workspace.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a task did not succeed.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// The command line is wrong.
    Usage(String),
    /// A task failed: what, why and what to do.
    Failed(String),
}

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a directory of the workspace")
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |directory| root().join(directory))
}

/// A cargo command of the toolchain that runs this task.
pub fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// A program with its arguments.
pub fn program<const N: usize>(name: &str, arguments: [&str; N]) -> Command {
    let mut command = Command::new(name);
    command.args(arguments);
    command
}

/// Says what is run, runs it from the root without standard input, and fails unless it succeeds.
///
/// # Errors
/// When the program is missing or its status is not 0.
pub fn run(command: &mut Command) -> Result<(), Error> {
    let line = describe(command);
    eprintln!("+ {line}");
    match command.current_dir(root()).stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::Failed(format!("`{line}` failed ({status}); see its output above"))),
        Err(error) => Err(Error::Failed(format!("cannot run `{line}`: {error}"))),
    }
}

/// Standard output of a program that succeeded, silently; `None` when it is missing or failed.
pub fn capture(command: &mut Command) -> Option<String> {
    let output = command.current_dir(root()).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// True if a program is in `PATH`.
pub fn has_program(name: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|directory| directory.join(name).is_file()))
}

/// True if this process is root, which may install packages.
pub fn is_root() -> bool {
    capture(&mut program("id", ["-u"])).is_some_and(|uid| uid.trim() == "0")
}

fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut words = vec![program.to_string_lossy()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_is_named_with_its_status() {
        let Err(Error::Failed(message)) = run(&mut program("sh", ["-c", "exit 3"])) else {
            panic!("status 3 is a failure")
        };

        assert!(message.contains("`sh -c exit 3`") && message.contains('3'), "{message}");
    }

    #[test]
    fn a_missing_program_is_an_error_with_its_cause() {
        let Err(Error::Failed(message)) = run(&mut program("no-such-program", [])) else {
            panic!("there is no such program")
        };

        assert!(message.contains("cannot run `no-such-program`"), "{message}");
    }

    #[test]
    fn the_root_holds_the_workspace() {
        assert!(root().join("Cargo.lock").exists());
    }
}
