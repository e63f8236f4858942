//! Dependencies: their licences, where they come from, and crates that are there in several versions. Cargo
//! tells it of the lock files; crates for other platforms that are not here yet are fetched from the registry, and
//! nothing else is. Advisories are not looked at.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::shell::{Error, capture, cargo};

/// The workspaces.
const MANIFESTS: [&str; 2] = ["Cargo.toml", "fuzz/Cargo.toml"];

/// Licences that ask for no more than to be named. Of several a crate offers, one is enough.
const LICENCES: [&str; 7] = ["0BSD", "Apache-2.0", "BSD-3-Clause", "MIT", "NCSA", "Unicode-3.0", "Zlib"];

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Crates of which there are several versions, and the reason.
const SEVERAL: [(&str, &str); 5] = [
    ("bitflags", "smoltcp and, for tests, vmm-sys-util want 1, everything else 2"),
    ("itertools", "for tests, criterion wants 0.13; ratatui 0.14"),
    ("syn", "only at build time: procedural macros of pcap-file want 1, some others 2, the rest 3"),
    ("thiserror", "pcap-file wants 1, we have 2"),
    ("thiserror-impl", "belongs to thiserror"),
];

/// Checks all dependencies of all workspaces, for every platform.
///
/// # Errors
/// Names everything that breaks a rule, or what cannot be known.
pub fn run() -> Result<(), Error> {
    let mut troubles = Vec::new();
    let mut versions = BTreeMap::<String, BTreeSet<String>>::new();
    for manifest in MANIFESTS {
        let text =
            capture(&mut cargo(["metadata", "--locked", "--format-version=1", "--manifest-path", manifest]));
        let metadata = text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let Some(metadata) = metadata else {
            troubles
                .push(format!("{manifest}: `cargo metadata --locked` fails; is the lock file up to date?"));
            continue;
        };
        let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
        troubles.extend(packages.iter().filter_map(trouble));
        for package in packages {
            let [name, version] = ["name", "version"].map(|key| text_of(package, key).to_owned());
            versions.entry(name).or_default().insert(version);
        }
    }
    troubles.extend(several(&versions, &SEVERAL));
    if troubles.is_empty() { Ok(()) } else { Err(Error::Failed(troubles.join("\n"))) }
}

fn text_of<'a>(package: &'a Value, key: &str) -> &'a str {
    package[key].as_str().unwrap_or_default()
}

/// The rule that a package breaks by itself, if it does.
fn trouble(package: &Value) -> Option<String> {
    let [name, version, source, licence, manifest] =
        ["name", "version", "source", "license", "manifest_path"].map(|key| text_of(package, key));
    let ours = crate::shell::root().to_string_lossy();
    let is_ours =
        source.is_empty() && manifest.strip_prefix(&*ours).is_some_and(|rest| rest.starts_with('/'));
    if source != REGISTRY && !is_ours {
        return Some(format!(
            "{name} {version} comes from {source:?}, {manifest}; only crates.io is allowed"
        ));
    }
    (!is_ours && !is_allowed(licence)).then(|| {
        format!("{name} {version} has the licence {licence:?}; see `LICENCES` in xtask/src/dependencies.rs")
    })
}

/// Crates with several versions and no reason, and reasons that are not needed any more.
fn several(versions: &BTreeMap<String, BTreeSet<String>>, reasons: &[(&str, &str)]) -> Vec<String> {
    let has_reason = |name: &str| reasons.iter().any(|(known, _)| *known == name);
    let is_several = |name: &str| versions.get(name).is_some_and(|versions| versions.len() > 1);
    let without = versions.iter().filter(|(name, _)| is_several(name) && !has_reason(name));
    let without = without.map(|(name, versions)| format!("{name} is there in the versions {versions:?}"));
    let needless = reasons.iter().filter(|(name, _)| !is_several(name));
    without.chain(needless.map(|(name, _)| format!("{name} is there once, and needs no reason"))).collect()
}

/// True if an SPDX expression can be met by the allowed licences. AND binds more tightly than OR; a slash is an old OR.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    any_of(&mut words) == Some(true) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>) -> Option<bool> {
    let mut met = all_of(words)?;
    while words.next_if_eq(&"OR").is_some() {
        met |= all_of(words)?;
    }
    Some(met)
}

fn all_of(words: &mut Words<'_>) -> Option<bool> {
    let mut met = one(words)?;
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words)?;
    }
    Some(met)
}

fn one(words: &mut Words<'_>) -> Option<bool> {
    match words.next()? {
        "(" => any_of(words).filter(|_| words.next() == Some(")")),
        ")" | "AND" | "OR" | "WITH" => None,
        licence => {
            // An exception allows more than the licence does.
            if words.next_if_eq(&"WITH").is_some() {
                words.next()?;
            }
            Some(LICENCES.contains(&licence))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_of_several_licences_is_enough_and_all_of_several_are_needed() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0-only OR MIT",
            "(MIT OR GPL-3.0-only) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "MIT OR",
            "(MIT",
            "MIT MIT",
            "GPL-3.0-only OR (MIT AND X)",
        ] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }

    #[test]
    fn crates_from_elsewhere_are_found() {
        let ours = format!("{}/crates/x/Cargo.toml", crate::shell::root().display());
        let package = |source: Value, manifest: &str, licence: &str| json!({"name": "x", "version": "1.0.0", "source": source, "license": licence, "manifest_path": manifest});

        assert_eq!(trouble(&package(Value::Null, &ours, "")), None);
        assert_eq!(trouble(&package(REGISTRY.into(), "/registry/x/Cargo.toml", "MIT")), None);
        assert!(trouble(&package(Value::Null, "/elsewhere/Cargo.toml", "MIT")).is_some());
        assert!(trouble(&package("git+https://example.org/x".into(), "/git/x/Cargo.toml", "MIT")).is_some());
        assert!(trouble(&package(REGISTRY.into(), "/registry/x/Cargo.toml", "GPL-3.0-only")).is_some());
    }

    #[test]
    fn several_versions_need_a_reason_and_a_reason_needs_several_versions() {
        let set = |versions: &[&str]| versions.iter().map(|version| (*version).to_owned()).collect();
        let versions = BTreeMap::from([("a".to_owned(), set(&["1", "2"])), ("b".to_owned(), set(&["1"]))]);

        assert_eq!(several(&versions, &[("a", "reason")]), [""; 0]);
        assert_eq!(several(&versions, &[]).len(), 1);
        assert_eq!(several(&versions, &[("a", "reason"), ("b", "reason")]).len(), 1);
    }
}
