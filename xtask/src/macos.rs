//! Type-check for macOS on Linux: Debian's rustc-web carries the source of the standard library that belongs to its
//! compiler, so that the standard library can be checked for a target that has no packaged one.

use crate::packages::{self, Tool};
use crate::shell::{Error, cargo, run as run_command, target};

const COMPILER: &str = "/usr/bin/rustc";
const TARGET: &str = "aarch64-apple-darwin";
const NEEDED: [Tool; 2] = [
    Tool { file: COMPILER, package: "rustc-web" },
    Tool { file: "/usr/lib/rustlib/src/rust/library/std/Cargo.toml", package: "rust-web-src" },
];
/// Test support and the benchmark for Linux, and this program.
const LINUX_ONLY: [&str; 3] = ["vmlan-testbed", "vmlan-bench", "xtask"];

/// Checks libraries and binaries of the workspace; says so and does nothing where the compiler is missing and may
/// not be installed.
///
/// # Errors
/// When it cannot be installed as root, or the check fails.
pub fn run() -> Result<(), Error> {
    if !packages::ensure(&NEEDED, "the macOS type-check is SKIPPED")?.is_empty() {
        return Ok(());
    }
    let mut check =
        cargo(["check", "-Zbuild-std=std,panic_abort", "--target", TARGET, "--workspace", "--lib", "--bins"]);
    for package in LINUX_ONLY {
        check.args(["--exclude", package]);
    }
    // Nothing is run, so nothing is worth optimising; the workspace's profile would do it for procedural macros.
    check.args(["--config", "profile.dev.package.\"*\".opt-level=0"]);
    // A directory of its own: another compiler would otherwise throw away what is built in the usual one.
    check.arg("--target-dir").arg(target().join("macos"));
    run_command(check.env("RUSTC", COMPILER).env("RUSTC_BOOTSTRAP", "1"))
}
