//! The declared version of Rust: what is declared is what something was built with.
//!
//! A compiler of that version shows it by every other step. A newer one shows nothing, so the workspace is checked with
//! a toolchain of the declared version beside it. An older one Cargo refuses by itself.

use std::fs;

use crate::shell::{Error, capture, is_root, program, root, run as run_command, target};

/// Checks that the declared version builds the workspace; says so where it cannot be known.
///
/// # Errors
/// When it does not, or as root, which is how CI runs, when there is no such compiler to check with.
pub fn run() -> Result<(), Error> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap_or_default();
    let declared = declared(&manifest)
        .ok_or_else(|| Error::Failed("Cargo.toml has no `rust-version = \"MAJOR.MINOR\"`".into()))?;
    let running = capture(&mut program("rustc", ["--version"])).as_deref().and_then(running);
    let running =
        running.ok_or_else(|| Error::Failed("`rustc --version` does not tell its version".into()))?;
    if running == declared {
        eprintln!("rustc is of the declared version {}", text(declared));
        return Ok(());
    }
    let names = [text(declared), format!("{}.0", text(declared))];
    let is_there =
        |name: &&String| capture(&mut program("rustup", ["run", name, "rustc", "--version"])).is_some();
    let Some(name) = names.iter().find(is_there) else {
        let message = format!(
            "rustc is {} and nothing shows that {} builds this; `rustup toolchain install {1}`, or declare {0} as \
             `rust-version`",
            text(running),
            text(declared)
        );
        return missing(message, is_root());
    };
    let mut check =
        program("rustup", ["run", name, "cargo", "check", "--locked", "--workspace", "--all-targets"]);
    // Another compiler would throw away what is built in the usual directory. Cargo gave this task its own compiler.
    check
        .arg("--target-dir")
        .arg(target().join("declared"))
        .env_remove("RUSTC")
        .env_remove("RUSTUP_TOOLCHAIN");
    run_command(&mut check)
}

fn missing(message: String, is_root: bool) -> Result<(), Error> {
    if is_root {
        return Err(Error::Failed(message));
    }
    eprintln!("SKIPPED: the declared version of Rust: {message}");
    Ok(())
}

type Version = (u32, u32);

fn text((major, minor): Version) -> String {
    format!("{major}.{minor}")
}

/// The declared version of a manifest.
fn declared(manifest: &str) -> Option<Version> {
    let value = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "))?;
    version(value.trim_matches('"'))
}

/// The version in the compiler's own line.
fn running(line: &str) -> Option<Version> {
    version(line.split(' ').nth(1)?)
}

fn version(text: &str) -> Option<Version> {
    let mut parts = text.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(declared("[workspace.package]\nrust-version = \"1.95\"\n"), Some((1, 95)));
        assert_eq!(declared("edition = \"2024\"\n"), None);
        assert_eq!(running("rustc 1.96.0 (ac68faa20 2026-05-25)\n"), Some((1, 96)));
        assert_eq!(running("rustc 1.98.0-nightly (x)"), Some((1, 98)));
        assert_eq!(running("rustc"), None);
    }

    #[test]
    fn a_compiler_that_is_not_there_fails_only_where_everything_has_to_be_there() {
        assert!(missing("no".into(), true).is_err());
        assert!(missing("no".into(), false).is_ok());
    }

    #[test]
    fn pages_name_the_declared_version() {
        let read = |name| fs::read_to_string(root().join(name)).expect("a page");
        let version = declared(&read("Cargo.toml")).expect("a version");
        assert!(read("README.md").contains(&format!("Rust {} or newer", text(version))));
    }
}
