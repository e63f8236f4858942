//! Features: every crate that has some is checked without any, and with each alone.

use crate::shell::{Error, cargo, run as run_command};

/// The crates with features. The workspace's own checks have all that are on by default; `libpcap` needs its library,
/// and the tests have it where that is installed.
const FEATURES: [(&str, &[&str]); 3] = [
    ("vmlan-ports", &["", "netlink"]),
    ("vmlan-daemon", &["", "control", "netlink", "ui"]),
    ("vmlan", &["", "demo", "netlink"]),
];

/// Checks all of them.
///
/// # Errors
/// When something does not compile, or is of no use without a feature that is off.
pub fn run() -> Result<(), Error> {
    for (package, features) in FEATURES {
        for feature in features {
            let mut clippy = cargo(["clippy", "--locked", "--no-default-features", "--package", package]);
            run_command(clippy.args(["--features", feature, "--", "-D", "warnings"]))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::root;

    #[test]
    fn every_feature_of_a_manifest_is_checked() {
        for (package, checked) in FEATURES {
            let directory = package.strip_prefix("vmlan-").unwrap_or(package);
            let manifest = root().join("crates").join(directory).join("Cargo.toml");
            let text = std::fs::read_to_string(manifest).expect("a manifest");
            let (_, table) = text.split_once("[features]\n").expect("features");
            let table = table.split("\n[").next().unwrap_or_default();
            let names = table.lines().filter(|line| !line.starts_with(['#', ' ', ']']));
            let names = names.filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);

            let missing: Vec<_> = names
                .filter(|name| !["default", "libpcap"].contains(name) && !checked.contains(name))
                .collect();

            assert!(missing.is_empty(), "{package}: {missing:?}");
        }
    }
}
