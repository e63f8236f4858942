//! All tests, with what they need.

use std::fs;
use std::path::Path;

use crate::packages;
use crate::shell::{self, Error, capture, cargo, has_program, is_root, target};

/// The crates that are tested: all but the book, which has a step of its own. With its features of common crates all of
/// them would be built once more.
pub const MEMBERS: [&str; 3] = ["--workspace", "--exclude", "vmlan-book"];

/// Documentation tests, then all others, so that the runner's closing line stands at the end. `quick` leaves out every
/// test that needs something of the machine; `require_all` makes such a need that is not met a failure.
///
/// # Errors
/// When a package cannot be installed or a test fails.
pub fn run(quick: bool, require_all: bool, runner_arguments: &[String]) -> Result<(), Error> {
    if !quick {
        // The tests start what they need by themselves: Prometheus, for one, would serve its port from now on.
        packages::ensure_without_services(&packages::FOR_TESTS, "tests that need them are skipped")?;
        if !is_root() {
            eprintln!("NOT ROOT: tests that need namespaces or TAP interfaces are skipped");
        } else if has_program("apt-get") && !target().join("testbed/guest").exists() {
            // The guests' kernel will be downloaded. Without a network what is there may still do.
            if let Err(Error::Failed(message) | Error::Usage(message)) = packages::refresh() {
                eprintln!("warning: {message}");
            }
        }
    }
    let skipped = target().join("skipped-tests.log");
    // A log of an earlier run would be counted again.
    let _ = fs::remove_file(&skipped);
    fs::create_dir_all(target())
        .map_err(|error| Error::Failed(format!("{}: {error}", target().display())))?;

    // Arguments for the runner choose tests, and say nothing about examples in the documentation.
    let documentation = if runner_arguments.is_empty() {
        shell::run(cargo(["test", "--doc"]).args(MEMBERS)).and_then(|()| examples())
    } else {
        Ok(())
    };
    let feature = if quick || !runner_arguments.is_empty() { Ok(()) } else { with_libpcap() };
    let has_nextest = capture(&mut cargo(["nextest", "--version"])).is_some();
    let mut runner = if has_nextest {
        cargo(["nextest", "run", "--no-fail-fast"])
    } else {
        eprintln!("cargo-nextest is not installed; using `cargo test`");
        // --doc cannot be combined with other targets, and is done.
        cargo(["test", "--no-fail-fast", "--lib", "--bins", "--tests"])
    };
    if !names_package(runner_arguments) {
        runner.args(MEMBERS);
    }
    runner.args(runner_arguments).env("VMLAN_SKIP_LOG", &skipped);
    if quick {
        runner.env("VMLAN_QUICK", "1");
    }
    if require_all {
        runner.env("VMLAN_REQUIRE_ALL", "1");
    }
    let tests = shell::run(&mut runner);
    if let Ok(lines) = fs::read_to_string(&skipped) {
        let count = lines.lines().count();
        eprintln!("\nskipped tests (counted as passed by the runner): {count}\n{}", lines.trim_end());
    }
    documentation.and(feature).and(tests)
}

/// Runs the example programs of the libraries.
fn examples() -> Result<(), Error> {
    for (package, example) in
        [("vmlan-link", "two_links"), ("vmlan-link", "new_driver"), ("vmlan-dataplane", "vmm_switch")]
    {
        shell::run(&mut cargo(["run", "--quiet", "--package", package, "--example", example]))?;
    }
    Ok(())
}

/// The tests of what is different when the program is linked with libpcap.
fn with_libpcap() -> Result<(), Error> {
    if !Path::new(packages::LIBPCAP).exists() {
        eprintln!("NO LIBPCAP: filters that are compiled by it are not tested");
        return Ok(());
    }
    let chosen = ["-p", "vmlan-daemon", "--lib", "--features", "libpcap", "expression"];
    shell::run(cargo(["test"]).args(chosen))
}

fn names_package(arguments: &[String]) -> bool {
    arguments.iter().any(|argument| argument.starts_with("-p") || argument.starts_with("--package"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_package_is_seen_in_every_spelling() {
        let seen = ["-p", "-pvmlan", "--package=vmlan", "--package", "guests", "--partition"]
            .map(|argument| names_package(&[argument.to_owned()]));

        assert_eq!(seen, [true, true, true, true, false, false]);
    }
}
