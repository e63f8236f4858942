//! Other processors than this one, on Linux: the program is built, packed and asked a few things by an emulator; of the
//! libraries for 32 bits nothing is run.

use crate::debian::{self, Architecture, Package};
use crate::macos::{NEEDED, for_target};
use crate::packages;
use crate::shell::{Error, cargo, run as run_command};

/// The libraries without system calls are for those of 32 bits too.
const NARROW: &str = "i686-unknown-linux-gnu";
const PURE: [&str; 6] =
    ["vmlan-frame", "vmlan-bpf", "vmlan-link", "vmlan-lan", "vmlan-nat", "vmlan-services"];

/// Checks both; says so and does nothing where the compiler is missing and may not be installed.
///
/// # Errors
/// When the compiler cannot be installed as root, or something is wrong.
pub fn run() -> Result<(), Error> {
    if !packages::ensure(&NEEDED, "the check for other processors is SKIPPED")?.is_empty() {
        return Ok(());
    }
    let package = Package { architecture: Architecture::Arm64, profile: "dev".into(), ..Package::default() };
    // Only type-checked where a linker or an emulator is missing.
    if debian::run(&package)?.is_none() {
        run_command(for_target(&mut cargo(["check", "--package", "vmlan"]), debian::CROSS_TARGET))?;
    }
    let mut check = cargo(["check"]);
    for package in PURE {
        check.args(["--package", package]);
    }
    run_command(for_target(&mut check, NARROW))
}
