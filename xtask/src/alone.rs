//! Packages of the crates, and that they are whole: what `cargo package` packs is checked without the workspace.

use std::fs;
use std::path::Path;

use crate::shell::{Error, cargo, program, root, run as run_command, target};

/// The project's own crates, which nobody else needs, and which are for Linux alone.
pub const OWN: [&str; 6] =
    ["vmlan-attack", "vmlan-bench", "vmlan-book", "vmlan-testbed", "vmlan-uring", "xtask"];

/// Packages every crate but those that are the project's own, unpacks them to a workspace of nothing else, and checks
/// the program there. Cargo's own verification would build everything once more for each crate.
///
/// # Errors
/// When a crate cannot be packed, or lacks something.
pub fn run() -> Result<(), Error> {
    let mut pack = cargo(["package", "--locked", "--allow-dirty", "--no-verify", "--quiet", "--workspace"]);
    for own in OWN {
        pack.args(["--exclude", own]);
    }
    run_command(&mut pack)?;
    let packed = target().join("package");
    let alone = packed.join("alone");
    let failed = |path: &Path, error: std::io::Error| Error::Failed(format!("{}: {error}", path.display()));
    // A file of an earlier run would hide that it is not packed any more.
    let _ = fs::remove_dir_all(&alone);
    fs::create_dir_all(&alone).map_err(|error| failed(&alone, error))?;
    let version = env!("CARGO_PKG_VERSION");
    let mut names = Vec::new();
    for entry in fs::read_dir(&packed).map_err(|error| failed(&packed, error))?.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(name) = file.strip_suffix(&format!("-{version}.crate")) else { continue };
        run_command(
            program("tar", ["--extract", "--gzip", "--directory"])
                .arg(&alone)
                .arg("--file")
                .arg(entry.path()),
        )?;
        names.push(name.to_owned());
    }
    names.sort_unstable();
    let read = |name: &str| {
        let path = root().join(name);
        fs::read_to_string(&path).map_err(|error| failed(&path, error))
    };
    let manifest = manifest(&names, version, &read("Cargo.toml")?);
    for (name, text) in [("Cargo.toml", manifest), ("Cargo.lock", read("Cargo.lock")?)] {
        let path = alone.join(name);
        fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    // The lock file is cut down to these crates, for which nothing has to be asked when all is here.
    run_command(&mut cargo(["fetch", "--quiet", "--locked"]))?;
    let mut check = cargo(["check", "--offline", "--package", "vmlan", "--manifest-path"]);
    run_command(check.arg(alone.join("Cargo.toml")).arg("--target-dir").arg(target()))
}

/// The manifest of a workspace of these packages, which take each other instead of what a registry might have. It has
/// the profiles of ours, so that what is checked of other crates is not checked anew.
fn manifest(names: &[String], version: &str, ours: &str) -> String {
    let mut manifest = "[workspace]\nresolver = \"3\"\nmembers = [\"*-*\"]\n\n[patch.crates-io]\n".to_owned();
    for name in names {
        manifest.push_str(&format!("{name} = {{ path = \"{name}-{version}\" }}\n"));
    }
    if let Some(start) = ours.find("\n[profile.") {
        manifest.push_str(&ours[start..]);
    }
    manifest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_take_each_other() {
        let manifest =
            manifest(&["a".into(), "b".into()], "1.0.0", "[workspace]\n\n[profile.dev]\ndebug = 0\n");

        assert!(
            manifest.contains("\na = { path = \"a-1.0.0\" }\nb = { path = \"b-1.0.0\" }\n"),
            "{manifest}"
        );
        assert!(manifest.ends_with("[profile.dev]\ndebug = 0\n"), "{manifest}");
    }
}
