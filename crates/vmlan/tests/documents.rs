//! Comparison of the program's words with those that the documents explain, both ways.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use vmlan_api::keys::{Key, Keyed, Value};
use vmlan_api::{ErrorCode, Operation};

type Words = BTreeSet<String>;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[track_caller]
fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The part of a document from a line that begins so to the next heading.
#[track_caller]
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let start = document.find(&format!("{heading}\n")).unwrap_or_else(|| panic!("there is no {heading}"));
    let rest = &document[start + heading.len()..];
    rest.find("\n#").map_or(rest, |end| &rest[..end])
}

/// The cells of the rows of tables, without headings.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    rows.map(|row| row.trim_end_matches('|').split(" | ").map(str::trim).collect())
}

/// Words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The variants of an enumeration, or the public fields of a structure, in a source file; variants in snake case.
#[track_caller]
fn members(source: &str, item: &str) -> Words {
    let start = source.find(item).unwrap_or_else(|| panic!("there is no {item}"));
    let body = &source[start..];
    let body = &body[..body.find("\n}").expect("an end")];
    let lines = body.lines().skip(1).filter_map(|line| line.strip_prefix("    "));
    let names = lines.filter(|line| !line.starts_with([' ', '/', '#', '}'])).map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let end = line.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(line.len());
        &line[..end]
    });
    names.map(snake).collect()
}

fn snake(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push('_');
        }
        words.extend(c.to_lowercase());
    }
    words
}

fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> Words {
    words.into_iter().map(str::to_owned).collect()
}

#[test]
fn every_event_is_explained() {
    let api = text("docs/api.md");
    let events = section(&api, "## GET /v1/events");
    let explained = words(rows(events).filter(|row| row[0] != "Event").flat_map(|row| quoted(row[0])));
    assert_eq!(explained, members(&text("crates/api/src/event.rs"), "pub enum EventKind {"));
}

#[test]
fn every_operation_is_in_the_reference() {
    let api = text("docs/api.md");
    let requests = rows(&api).flat_map(|row| quoted(row[0]).map(str::to_owned).collect::<Vec<_>>());
    let explained: Words = requests.filter(|request| request.contains(" /v1/")).collect();
    let named = |operation: &Operation| {
        format!("{} {}", format!("{:?}", operation.method).to_uppercase(), operation.path)
    };
    assert_eq!(explained, Operation::ALL.iter().map(named).collect());
}

#[test]
fn every_error_code_has_its_status() {
    let api = text("docs/api.md");
    let status = |row: &[&str]| row[0].parse::<u16>().ok().filter(|_| row[0].len() == 3);
    let of_row = |row: Vec<&str>| {
        let codes: Vec<_> = quoted(row[1]).map(str::to_owned).collect();
        status(&row)
            .into_iter()
            .flat_map(move |status| codes.clone().into_iter().map(move |code| (status, code)))
    };
    let explained: BTreeSet<_> = rows(&api).flat_map(|row| of_row(row).collect::<Vec<_>>()).collect();
    let known = ErrorCode::ALL.iter().map(|code| (code.status(), code.name().to_owned()));
    assert_eq!(explained, known.collect());
}

#[test]
fn every_action_is_explained() {
    let api = text("docs/api.md");
    let explained = words(rows(&api).filter(|row| row[0] == "`action`").flat_map(|row| quoted(row[1])));
    assert_eq!(explained, members(&text("crates/api/src/apply.rs"), "pub enum ActionKind {"));
}

/// The names of keys, of tables in tables too.
fn names(keys: &[Key]) -> Words {
    let inner = |key: &Key| match key.value {
        Value::Table(keys) | Value::Tables(keys) => names(keys),
        Value::SwitchOrTable(keys) | Value::WordOrTables(_, keys) => names(keys),
        _ => Words::new(),
    };
    keys.iter().flat_map(|key| inner(key).into_iter().chain([key.name.to_owned()])).collect()
}

#[test]
fn every_key_of_the_configuration_is_explained() {
    let document = text("docs/configuration.md");
    let source = text("crates/api/src/config.rs");
    let plain = ["Config", "NetworkConfig", "FdbConfig", "StaticEntry"];
    let mut known: Words =
        plain.iter().flat_map(|table| members(&source, &format!("pub struct {table} {{"))).collect();
    let keyed = [
        vmlan_api::DaemonConfig::KEYS,
        vmlan_api::LimitsConfig::KEYS,
        vmlan_api::PortConfig::KEYS,
        vmlan_api::TrunkConfig::KEYS,
        vmlan_api::UplinkConfig::KEYS,
    ];
    for keys in keyed {
        known.append(&mut names(keys));
    }
    // The name in the program of a word that is its own.
    assert!(known.remove("static_entries"));
    known.insert("static".to_owned());
    // `network.NAME`, `fdb.size`, `{ access = 10 }`, and several keys in a cell.
    let parts = |text: &str| {
        let parts = text
            .split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
            .map(str::to_owned);
        parts.filter(|part| part.starts_with(|c: char| !c.is_ascii_digit())).collect::<Vec<_>>()
    };
    let cells = rows(&document).map(|row| row[0].to_owned());
    let explained: Words = cells.flat_map(|cell| quoted(&cell).flat_map(parts).collect::<Vec<_>>()).collect();
    let missing: Vec<_> = known.difference(&explained).collect();
    assert!(missing.is_empty(), "not in docs/configuration.md: {missing:?}");
    // Words of the tables that are values, not keys.
    let values = words(["filter", "packet", "xdp", "macvtap", "bridge"]);
    let strange: Vec<_> =
        explained.iter().filter(|word| !known.contains(*word) && !values.contains(*word)).collect();
    assert!(strange.is_empty(), "only in docs/configuration.md: {strange:?}");
}

/// Returns the documents' name for the type of a key, where they always use the same name.
fn type_of(value: Value) -> Option<String> {
    match value {
        Value::Boolean => Some("boolean".to_owned()),
        Value::Choice([most @ .., last]) => {
            let words: Vec<_> = most.iter().map(|word| format!("`\"{word}\"`")).collect();
            Some(format!("{} or `\"{last}\"`", words.join(", ")))
        }
        Value::Number { most: u64::MAX, least, .. } => Some(format!("{least} or more")),
        Value::Number { least, most, .. } => Some(format!("{least} to {most}")),
        _ => None,
    }
}

/// The keys by name, and those of tables in the uplink's table by `table.key`.
fn dotted(keys: &[Key]) -> Vec<(String, &Key)> {
    let inner = |key: &Key| match key.value {
        Value::Table(keys) | Value::SwitchOrTable(keys) => dotted(keys),
        _ => Vec::new(),
    };
    let with_inner = |key| {
        let below = inner(key).into_iter().map(|(name, of_it)| (format!("{}.{name}", key.name), of_it));
        [(key.name.to_owned(), key)].into_iter().chain(below).collect::<Vec<_>>()
    };
    keys.iter().flat_map(with_inner).collect()
}

#[test]
fn types_ranges_and_defaults_of_keys_are_what_the_documents_say() {
    let document = text("docs/configuration.md");
    let mut compared = 0;
    for (heading, keys) in [
        ("## `[network.NAME.uplink]`", vmlan_api::UplinkConfig::KEYS),
        ("## `[network.NAME.port.NAME]`", vmlan_api::PortConfig::KEYS),
        ("### `filter`", vmlan_api::FilterConfig::KEYS),
        ("### `tap`: a TAP device (Linux)", vmlan_api::TapConfig::KEYS),
        ("### `vde`: a VDE switch (vde_plug, QEMU `-netdev vde`)", vmlan_api::VdeConfig::KEYS),
        ("### `tunnel`: packets instead of frames", vmlan_api::TunnelConfig::KEYS),
        ("### `vhost_user`: a vhost-user socket (Linux)", vmlan_api::VhostUserConfig::KEYS),
    ] {
        let rows: Vec<_> = rows(section(&document, heading)).collect();
        for (name, key) in dotted(keys) {
            let row = rows.iter().find(|row| row[0] == format!("`{name}`"));
            let Some((row, wanted)) = row.zip(type_of(key.value)) else { continue };
            // What else there is bounds these.
            if !row[1].contains("`fdb.size`") && !row[1].contains("the network's") {
                assert_eq!(row[1], wanted, "{heading}: {}", key.name);
                compared += 1;
            }
            if let Value::Number { default: Some(default), .. } = key.value {
                assert!(
                    row[2].split([',', ' ']).next() == Some(&default.to_string()),
                    "{}: {}",
                    key.name,
                    row[2]
                );
            }
        }
    }
    assert!(compared >= 15, "{compared}");
}
