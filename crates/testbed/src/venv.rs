//! Programs of Python's that a test needs, in an environment of their own under the target directory.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::image::cache_directory;

/// The directory with the programs of a requirement as pip writes it: `schemathesis==4.32.5`.
///
/// It is made when it is not there, which takes a network. `None`, after saying so, when that fails. Tests that ask for
/// the same requirement run one at a time.
pub fn programs(requirement: &str) -> Option<PathBuf> {
    let directory = cache_directory().join("python").join(requirement);
    // Written last: an environment without it was not completed.
    let complete = directory.join("complete");
    if !complete.exists() {
        eprintln!("testbed: installing {requirement} with pip into {}", directory.display());
        // Of one that was not completed nothing is of use.
        let _ = fs::remove_dir_all(&directory);
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv"]).arg(&directory);
        let mut pip = Command::new(directory.join("bin/python3"));
        pip.args([
            "-m",
            "pip",
            "--quiet",
            "--disable-pip-version-check",
            "--retries",
            "1",
            "install",
            requirement,
        ]);
        for mut command in [venv, pip] {
            let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
            if !status.is_ok_and(|status| status.success()) {
                return None;
            }
        }
        fs::write(complete, "").ok()?;
    }
    Some(directory.join("bin"))
}
