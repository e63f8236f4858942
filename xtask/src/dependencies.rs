//! Dependencies: their licences, where they come from, and crates that are there in several versions. Cargo
//! tells it of the lock files; crates for other platforms that are not here yet are fetched from the registry, and
//! nothing else is. Advisories are not looked at.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::shell::{Error, capture, cargo};

/// The workspaces.
const MANIFESTS: [&str; 2] = ["Cargo.toml", "fuzz/Cargo.toml"];

/// Licences that ask for no more than to be named. Of several a crate offers, one is enough.
const LICENCES: [&str; 8] =
    ["0BSD", "Apache-2.0", "BSD-3-Clause", "ISC", "MIT", "NCSA", "Unicode-3.0", "Zlib"];

/// Licences that ask for more, of crates which only the project's own tools have. Nothing that others get is built of
/// them: MPL-2.0 is about changes to the crate's own files, CC-BY-4.0 about the icons of the book.
const OF_TOOLS: [(&str, &str); 8] = [
    ("font-awesome-as-a-crate", "CC-BY-4.0 AND MIT"),
    ("mdbook-core", "MPL-2.0"),
    ("mdbook-driver", "MPL-2.0"),
    ("mdbook-html", "MPL-2.0"),
    ("mdbook-markdown", "MPL-2.0"),
    ("mdbook-preprocessor", "MPL-2.0"),
    ("mdbook-renderer", "MPL-2.0"),
    ("mdbook-summary", "MPL-2.0"),
];

/// The tools that may have these.
const TOOLS: [&str; 1] = ["vmlan-book"];

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Crates of which there are several versions, and the reason.
const SEVERAL: [(&str, &str); 8] = [
    ("bitflags", "smoltcp and, for tests, vmm-sys-util want 1, everything else 2"),
    ("darling", "only at build time: handlebars of the book wants 0.20, ratatui 0.24"),
    ("darling_core", "belongs to darling"),
    ("darling_macro", "belongs to darling"),
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
        troubles.extend(users_of_tools(&metadata));
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
    let is_for_tools = OF_TOOLS.contains(&(name, licence));
    (!is_ours && !is_for_tools && !is_allowed(licence)).then(|| {
        format!("{name} {version} has the licence {licence:?}; see `LICENCES` in xtask/src/dependencies.rs")
    })
}

/// The packages of the workspace, but for tools, of which a crate is a part that only tools may have.
fn users_of_tools(metadata: &Value) -> Vec<String> {
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let names: BTreeMap<String, String> = array(&metadata["packages"])
        .iter()
        .map(|package| (text_of(package, "id").to_owned(), text_of(package, "name").to_owned()))
        .collect();
    let needs: BTreeMap<String, Vec<Value>> = array(&metadata["resolve"]["nodes"])
        .iter()
        .map(|node| (text_of(node, "id").to_owned(), array(&node["dependencies"])))
        .collect();
    let mut users = Vec::new();
    for member in array(&metadata["workspace_members"]) {
        let member = member.as_str().unwrap_or_default();
        let name = names.get(member).map_or(member, String::as_str);
        let mut seen = BTreeSet::new();
        let mut ahead = vec![member];
        while let Some(package) = ahead.pop().filter(|_| !TOOLS.contains(&name)) {
            if seen.insert(package) {
                ahead.extend(needs.get(package).into_iter().flatten().filter_map(Value::as_str));
            }
        }
        let parts = seen.into_iter().filter_map(|package| names.get(package));
        let part = parts.into_iter().find(|part| OF_TOOLS.iter().any(|(of_tools, _)| part == of_tools));
        users.extend(part.map(|part| format!("{part} is a part of {name}; only {TOOLS:?} may have it")));
    }
    users
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
    fn only_tools_may_have_some_crates_and_these_only_with_the_licence_that_is_known() {
        let mdbook = json!({"id": "m", "name": "mdbook-core", "version": "1.0.0", "source": REGISTRY,
            "license": "MPL-2.0", "manifest_path": "/registry/m/Cargo.toml"});
        let mut changed = mdbook.clone();
        changed["license"] = "GPL-3.0-only".into();
        assert_eq!(trouble(&mdbook), None);
        assert!(trouble(&changed).is_some());

        let workspace = |user: &str| {
            json!({
                "packages": [mdbook, {"id": "u", "name": user}, {"id": "d", "name": "between"}],
                "workspace_members": ["u"],
                "resolve": {"nodes": [{"id": "u", "dependencies": ["d"]}, {"id": "d", "dependencies": ["m"]}]},
            })
        };
        assert_eq!(users_of_tools(&workspace("vmlan-book")), [""; 0]);
        assert_eq!(
            users_of_tools(&workspace("vmlan")),
            ["mdbook-core is a part of vmlan; only [\"vmlan-book\"] may have it"]
        );
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
