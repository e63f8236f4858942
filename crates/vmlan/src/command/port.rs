//! `port add`, `port show`, `port remove`, `port up` and `port down`.

use std::path::Path;

use serde_json::{Map, Value as Json};
use vmlan_api::keys::{Key, Keyed, Value};

use super::{Failure, apply, other_side};
use crate::args::{Output, PortCommand, PortName};
use crate::client::{Client, encode};
use crate::watch;

/// Adds, shows, removes or changes a port.
pub fn run(client: &Client, command: PortCommand, output: Output) -> Result<(), Failure> {
    match command {
        PortCommand::Add { network, name, kind, settings, dry_run } => {
            let directory = std::env::current_dir().map_err(anyhow::Error::new)?;
            let port = parse(&kind, &settings, &directory).map_err(Failure::Usage)?;
            let report = client.post(&format!("{}{}", path(&network, &name), dry(dry_run)), &port)?;
            apply::tell(&report, output)?;
            if dry_run || output.json { Ok(()) } else { other_side::hint(client, &network, &name) }
        }
        PortCommand::Show { port, watch } => {
            let path = path_of(&port)?;
            watch::show(watch, output, |output| other_side::show(client, &path, output))
        }
        PortCommand::Remove { port, dry_run } => {
            let report = client.delete(&format!("{}{}", path_of(&port)?, dry(dry_run)))?;
            apply::tell(&report, output)
        }
        PortCommand::Up { port } => enable(client, true, &port, output),
        PortCommand::Down { port } => enable(client, false, &port, output),
    }
}

fn enable(client: &Client, enabled: bool, port: &PortName, output: Output) -> Result<(), Failure> {
    let report = client.patch(&path_of(port)?, &serde_json::json!({ "enabled": enabled }))?;
    apply::tell(&report, output)
}

fn path_of(port: &PortName) -> Result<String, Failure> {
    let (network, name) = port.parts().map_err(Failure::Usage)?;
    Ok(path(network, name))
}

/// The path of a port in the control interface.
pub fn path(network: &str, name: &str) -> String {
    format!("/v1/networks/{}/ports/{}", encode(network), encode(name))
}

/// The query of a request about one thing.
pub(super) fn dry(dry_run: bool) -> &'static str {
    if dry_run { "?dry_run=true" } else { "" }
}

/// The keys of the port itself that take one word, with `vlan.` in front of those of its VLANs.
pub fn port_keys() -> Vec<String> {
    let is_own = |key: &&Key| key.name == "vlan" || !matches!(key.value, Value::Table(_));
    vmlan_api::PortConfig::KEYS.iter().filter(is_own).flat_map(words).collect()
}

/// The words that a key is typed as: itself, or the keys of its table behind its name and a dot.
pub fn words(key: &Key) -> Vec<String> {
    match key.value {
        Value::Table(keys) => keys.iter().map(|inner| format!("{}.{}", key.name, inner.name)).collect(),
        Value::Tables(_) => Vec::new(),
        _ => vec![key.name.to_owned()],
    }
}

/// The keys of a table of the port's.
fn table(name: &str) -> &'static [Key] {
    match find(vmlan_api::PortConfig::KEYS, name) {
        Some(Value::Table(keys)) => keys,
        _ => &[],
    }
}

fn find(keys: &[Key], name: &str) -> Option<Value> {
    keys.iter().find(|key| key.is_called(name)).map(|key| key.value)
}

/// A key of the port itself, and the value that it takes. One that the table of `kind` has too is that table's, unless
/// `port.` is in front of it.
fn own<'k>(kind: &str, key: &'k str) -> (&'k str, Option<Value>) {
    let (key, is_shadowed) = match key.strip_prefix("port.") {
        Some(key) => (key, false),
        None => (key, find(table(kind), key).is_some()),
    };
    let value = find(vmlan_api::PortConfig::KEYS, key).filter(|_| !is_shadowed);
    (key, value.filter(|value| !matches!(value, Value::Table(_) | Value::Tables(_))))
}

/// A key of a table in the table of `kind`: the name of that table, the key, and the value that it takes.
fn nested<'k>(kind: &str, key: &'k str) -> Option<(&'k str, &'k str, Option<Value>)> {
    let (head, member) = key.split_once('.')?;
    match find(table(kind), head) {
        Some(Value::Table(keys)) => Some((head, member, find(keys, member))),
        _ => None,
    }
}

/// The table of a port of `kind`, from `key=value` words. Relative socket paths are relative to `directory`.
fn parse(kind: &str, settings: &[String], directory: &Path) -> Result<vmlan_api::PortConfig, String> {
    let (mut port, mut attachment, mut vlan) = (Map::new(), Map::new(), Map::new());
    for setting in settings {
        let (key, text) =
            setting.split_once('=').ok_or_else(|| format!("`{setting}` is not of the form key=value"))?;
        let (own_key, own) = own(kind, key);
        let (members, member, takes) = match key.strip_prefix("vlan.") {
            Some(member) => (&mut vlan, member, find(table("vlan"), member)),
            None if own.is_some() => (&mut port, own_key, own),
            None => match nested(kind, key) {
                Some((head, member, takes)) => {
                    let place = attachment.entry(head).or_insert_with(|| Map::new().into());
                    let Some(members) = place.as_object_mut() else {
                        return Err(format!("`{head}` is a table; write `{head}.KEY=VALUE`"));
                    };
                    (members, member, takes)
                }
                None => (&mut attachment, key, find(table(kind), key)),
            },
        };
        if members.insert(member.to_owned(), value(takes, text)).is_some() {
            return Err(format!("`{key}` is given twice; write several values with commas"));
        }
    }
    port.insert(kind.to_owned(), attachment.into());
    if !vlan.is_empty() {
        port.insert("vlan".to_owned(), vlan.into());
    }
    let faults = |faults: Vec<vmlan_api::Error>| {
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nerror: ")
    };
    let mut port: vmlan_api::PortConfig =
        vmlan_daemon::config::table_from_json("", port.into()).map_err(faults)?;
    vmlan_daemon::config::resolve_port(&mut port, directory);
    Ok(port)
}

/// A word in the form that the key takes; one that is not of that form stays text, and is refused as such.
fn value(takes: Option<Value>, text: &str) -> Json {
    let number = |text: &str| text.parse::<u64>().map_or_else(|_| text.into(), Json::from);
    match takes {
        Some(Value::Number { .. }) => number(text),
        Some(Value::Numbers) => text.split(',').map(number).collect(),
        Some(Value::Boolean) => text.parse::<bool>().map_or_else(|_| text.into(), Json::from),
        Some(Value::Choices(_)) => text.split(',').map(Json::from).collect(),
        Some(Value::Texts) if text.contains(',') => text.split(',').map(Json::from).collect(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(kind: &str, settings: &[&str]) -> Result<vmlan_api::PortConfig, String> {
        let settings: Vec<_> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        parse(kind, &settings, Path::new("/srv"))
    }

    #[test]
    fn words_become_the_table_of_the_configuration_file() {
        let port = read(
            "tap",
            &[
                "name=vm-web",
                "persistent=true",
                "mac=52:54:00:00:00:01",
                "vlan.access=10",
                "guard=off",
                "queue=7",
            ],
        );
        let expected = vmlan_api::PortConfig {
            tap: Some(vmlan_api::TapConfig {
                name: Some("vm-web".into()),
                persistent: Some(true),
                ..Default::default()
            }),
            mac: Some(vmlan_api::OneOrMany::One("52:54:00:00:00:01".into())),
            vlan: Some(vmlan_api::VlanConfig { access: Some(10), ..Default::default() }),
            guard: Some(vmlan_api::Guard::Off),
            queue: Some(7),
            ..Default::default()
        };
        assert_eq!(port, Ok(expected));
    }

    /// A word for a key, and what it stands for.
    fn sample(value: Value) -> (&'static str, Json) {
        match value {
            Value::Number { .. } => ("7", 7.into()),
            Value::Numbers => ("8,9", json!([8, 9])),
            Value::Boolean => ("true", true.into()),
            Value::Choice(words) => (words[0], words[0].into()),
            Value::Choices(words) => (words[0], json!([words[0]])),
            Value::WordOrTables(words, _) => (words[0], words[0].into()),
            Value::Texts => ("/one,/two", json!(["/one", "/two"])),
            _ => ("/text", "/text".into()),
        }
    }

    #[test]
    fn every_key_of_every_kind_can_be_typed() {
        for kind in vmlan_api::PortKind::ALL.map(vmlan_api::PortKind::as_str) {
            let own = vmlan_api::PortConfig::KEYS
                .iter()
                .filter(|key| port_keys().iter().any(|name| name == key.name));
            let tables = [("", None, own.copied().collect::<Vec<_>>())].into_iter().chain([
                ("vlan.", Some("vlan"), table("vlan").to_vec()),
                ("", Some(kind), table(kind).to_vec()),
            ]);
            let (mut words, mut expected) = (Vec::new(), json!({}));
            for (prefix, place, keys) in tables {
                assert!(!keys.is_empty(), "{place:?}");
                for key in keys {
                    if let (Value::Table(inner), Some(place)) = (key.value, place) {
                        for of_it in inner {
                            let (word, stands_for) = sample(of_it.value);
                            words.push(format!("{}.{}={word}", key.name, of_it.name));
                            expected[place][key.name][of_it.name] = stands_for;
                        }
                        continue;
                    }
                    let (word, stands_for) = sample(key.value);
                    let is_shadowed = place.is_none() && find(super::table(kind), key.name).is_some();
                    let prefix = if is_shadowed { "port." } else { prefix };
                    words.push(format!("{prefix}{}={word}", key.name));
                    match place {
                        None => expected[key.name] = stands_for,
                        Some(place) => expected[place][key.name] = stands_for,
                    }
                }
            }
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let port = read(kind, &words).unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert_eq!(serde_json::to_value(port).expect("plain data"), expected, "{kind}");
        }
    }

    #[test]
    fn lists_have_commas_and_relative_paths_become_absolute() {
        let port = read(
            "stream",
            &["listen=db.sock", "vlan.tagged=10,20", "vlan.native=1", "mac=a,b", "roles=dhcp"],
        )
        .expect("a port");
        assert_eq!(port.roles, Some(vec![vmlan_api::Role::Dhcp]));
        assert_eq!(port.stream.and_then(|stream| stream.listen).as_deref(), Some("/srv/db.sock"));
        assert_eq!(port.vlan.and_then(|vlan| vlan.tagged), Some(vec![10, 20]));
        assert_eq!(port.mac.map(|mac| mac.as_slice().len()), Some(2));
    }

    #[test]
    fn a_former_name_is_taken_but_not_beside_the_name() {
        let port = read("stream", &["listen=/s", "vlan.trunk=10,20"]).expect("a port");
        assert_eq!(port.vlan.and_then(|vlan| vlan.tagged), Some(vec![10, 20]));
        let error = read("stream", &["listen=/s", "vlan.trunk=10", "vlan.tagged=20"]).expect_err("both");
        assert!(error.contains("`trunk` is the former name of `tagged`"), "{error}");
        assert!(!port_keys().contains(&"vlan.trunk".to_owned()));
    }

    #[test]
    fn what_the_table_does_not_take_is_a_usage_error() {
        for (kind, setting, complaint) in [
            ("tap", "name", "key=value"),
            ("tap", "nmae=x", "did you mean `name`?"),
            ("tap", "listen=x", "unknown key `listen`"),
            ("vde", "vlan.acess=1", "did you mean `access`?"),
            ("tap", "queue=x", "queue must be a whole number"),
            ("tap", "persistent=x", "persistent must be true or false"),
        ] {
            let error = read(kind, &[setting]).expect_err(setting);
            assert!(error.contains(complaint), "{setting}: {error}");
        }
        assert!(read("tap", &["name=a", "name=b"]).is_err_and(|error| error.contains("twice")));
    }
}
