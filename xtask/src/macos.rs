//! macOS on Linux: the program is built and linked, and layouts are compared with the system's headers. Nothing is run.
//!
//! Debian's rustc-web carries the source of the standard library that belongs to its compiler, so that it can be built
//! for a target that has no packaged one. PyPI's ziglang carries a linker for Mach-O and the headers of the system's
//! library; cargo-zigbuild makes Cargo use it. Without these two the program is type-checked only.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::alone::OWN;
use crate::packages::{self, Tool};
use crate::shell::{Error, capture, cargo, program, run as run_command, target};

const COMPILER: &str = "/usr/bin/rustc";
const TARGET: &str = "aarch64-apple-darwin";
/// A compiler with the source of its standard library.
pub(crate) const NEEDED: [Tool; 2] = [
    Tool { file: COMPILER, package: "rustc-web" },
    Tool { file: "/usr/lib/rustlib/src/rust/library/std/Cargo.toml", package: "rust-web-src" },
];
const PIP: Tool = Tool { file: "/usr/bin/pip3", package: "python3-pip" };
/// From PyPI, with versions that are known to work together.
const LINKER: [&str; 2] = ["ziglang==0.17.1", "cargo-zigbuild==0.24.0"];
/// Builds what can be built; says so and does nothing where the compiler is missing and may not be installed.
///
/// # Errors
/// When the compiler cannot be installed as root, or a step fails.
pub fn run() -> Result<(), Error> {
    if !packages::ensure(&NEEDED, "the macOS build is SKIPPED")?.is_empty() {
        return Ok(());
    }
    match Linker::get() {
        Ok(linker) => {
            linker.check_layouts()?;
            linker.link()
        }
        Err(reason) => {
            eprintln!("SKIPPED: linking for macOS and comparing layouts with its headers: {reason}");
            check()
        }
    }
}

/// Type-checks libraries and binaries of the workspace.
fn check() -> Result<(), Error> {
    let mut check = cargo(["check", "--workspace", "--lib", "--bins"]);
    for package in OWN {
        check.args(["--exclude", package]);
    }
    run_command(for_target(&mut check, TARGET))
}

/// The arguments and the compiler that every build gets for a target without a packaged standard library.
pub(crate) fn for_target<'a>(command: &'a mut Command, target: &str) -> &'a mut Command {
    command
        .args(["-Zbuild-std=std,panic_abort", "--target", target])
        // Nothing is run, so nothing is worth optimising; the workspace's profile would do it for procedural macros.
        .args(["--config", "profile.dev.package.\"*\".opt-level=0", "--config", "profile.dev.debug=false"])
        // Else debug information that there is none of is stripped, which takes a tool that Debian has not.
        .args(["--config", "profile.dev.strip=false"])
        // A directory of its own: another compiler would otherwise throw away what is built in the usual one.
        .arg("--target-dir")
        .arg(crate::shell::target().join("macos"))
        .envs([("RUSTC", COMPILER), ("RUSTC_BOOTSTRAP", "1")])
}

/// The tools of PyPI, in a directory below the target directory.
struct Linker {
    directory: PathBuf,
}

impl Linker {
    /// Installs the tools unless they are there.
    fn get() -> Result<Linker, String> {
        let linker = Linker { directory: target().join("macos-tools") };
        let stamp = linker.directory.join("installed");
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == LINKER.join("\n")) {
            return Ok(linker);
        }
        let mut install = pip().ok_or("there is no pip for Python 3; install python3-pip")?;
        // What another version left would be mixed with this one.
        let _ = fs::remove_dir_all(&linker.directory);
        install.args(["install", "--quiet", "--no-deps", "--target"]).arg(&linker.directory).args(LINKER);
        run_command(&mut install).map_err(|error| match error {
            Error::Usage(reason) | Error::Failed(reason) => reason,
        })?;
        fs::write(&stamp, LINKER.join("\n")).map_err(|error| format!("{}: {error}", stamp.display()))?;
        Ok(linker)
    }

    fn zig(&self) -> PathBuf {
        self.directory.join("ziglang/zig")
    }

    /// Compiles a program that asserts every number and layout which the system's headers know.
    fn check_layouts(&self) -> Result<(), Error> {
        let program =
            capture(&mut cargo(["run", "--quiet", "--package", "vmlan-sys", "--example", "darwin_layout"]))
                .ok_or_else(|| {
                Error::Failed("`cargo run --package vmlan-sys --example darwin_layout` failed".into())
            })?;
        let source = self.directory.join("layout.c");
        fs::write(&source, &program)
            .map_err(|error| Error::Failed(format!("{}: {error}", source.display())))?;
        let mut compile = Command::new(self.zig());
        compile.args(["cc", "-target", "aarch64-macos", "-Wall", "-Wextra", "-Werror", "-c", "-o"]);
        run_command(compile.arg(source.with_extension("o")).arg(&source))?;
        for line in program.lines().filter_map(|line| line.strip_prefix("// ")) {
            eprintln!("{line}");
        }
        eprintln!("{} facts agree with the system's headers", program.matches("_Static_assert").count());
        Ok(())
    }

    /// Builds and links the program.
    fn link(&self) -> Result<(), Error> {
        let mut build = Command::new(self.directory.join("bin/cargo-zigbuild"));
        build.args(["zigbuild", "--package", "vmlan", "--bin", "vmlan"]);
        run_command(for_target(&mut build, TARGET).env("CARGO_ZIGBUILD_ZIG_PATH", self.zig()))?;
        let linked = target().join("macos").join(TARGET).join("debug/vmlan");
        let head =
            fs::read(&linked).map_err(|error| Error::Failed(format!("{}: {error}", linked.display())))?;
        if !is_executable(&head) {
            return Err(Error::Failed(format!("{} is no program for macOS on arm64", linked.display())));
        }
        eprintln!("linked {} ({} octets)", linked.display(), head.len());
        Ok(())
    }
}

/// True if a file is a Mach-O executable for 64-bit ARM (mach-o/loader.h): magic number, processor, and kind of file.
fn is_executable(file: &[u8]) -> bool {
    let word =
        |at: usize| file.get(at..at + 4).map(|octets| u32::from_le_bytes(octets.try_into().expect("four")));
    [word(0), word(4), word(12)] == [Some(0xfeed_facf), Some(0x0100_000c), Some(2)]
}

/// A command that runs pip; installed when root.
fn pip() -> Option<Command> {
    let find = || {
        capture(&mut program("python3", ["-m", "pip", "--version"]))
            .map(|_| program("python3", ["-m", "pip"]))
    };
    find().or_else(|| {
        let missing = packages::ensure(&[PIP], "linking for macOS is SKIPPED").ok()?;
        missing.is_empty().then(find)?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_for_macos_is_told_from_others() {
        let words = |words: [u32; 4]| words.map(u32::to_le_bytes).concat();
        assert!(is_executable(&words([0xfeed_facf, 0x0100_000c, 0, 2])));
        // For another processor, an object, and no such file at all.
        assert!(!is_executable(&words([0xfeed_facf, 0x0100_0007, 3, 2])));
        assert!(!is_executable(&words([0xfeed_facf, 0x0100_000c, 0, 1])));
        assert!(!is_executable(b"\x7fELF"));
    }
}
