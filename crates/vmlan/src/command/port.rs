//! `port add` and `port remove`.

use std::path::Path;

use serde_json::{Map, Value};

use super::{Failure, apply};
use crate::args::PortCommand;
use crate::client::{Client, encode};

/// Keys of the port itself; all others are those of its kind.
const PORT_KEYS: [&str; 9] =
    ["mac", "guard", "promiscuous", "queue", "quota", "storm", "copies", "rate", "roles"];

/// Adds or removes a port.
pub fn run(client: &Client, command: PortCommand) -> Result<(), Failure> {
    match command {
        PortCommand::Add { network, name, kind, settings, output } => {
            let directory = std::env::current_dir().map_err(anyhow::Error::new)?;
            let port = parse(&kind, &settings, &directory).map_err(Failure::Usage)?;
            let report = client.post(&path(&network, &name), &port)?;
            apply::tell(&report, output)
        }
        PortCommand::Remove { network, name, output } => {
            let report = client.delete(&path(&network, &name))?;
            apply::tell(&report, output)
        }
    }
}

fn path(network: &str, name: &str) -> String {
    format!("/v1/networks/{}/ports/{}", encode(network), encode(name))
}

/// The table of a port of `kind`, from `key=value` words. Relative socket paths are relative to `directory`.
fn parse(kind: &str, settings: &[String], directory: &Path) -> Result<api::PortConfig, String> {
    let (mut port, mut attachment, mut vlan) = (Map::new(), Map::new(), Map::new());
    for setting in settings {
        let (key, text) =
            setting.split_once('=').ok_or_else(|| format!("`{setting}` is not of the form key=value"))?;
        let (table, member) = match key.strip_prefix("vlan.") {
            Some(member) => (&mut vlan, member),
            None if PORT_KEYS.contains(&key) => (&mut port, key),
            None => (&mut attachment, key),
        };
        if table.insert(member.to_owned(), value(key, text)).is_some() {
            return Err(format!("`{key}` is given twice; write several values with commas"));
        }
    }
    port.insert(kind.to_owned(), attachment.into());
    if !vlan.is_empty() {
        port.insert("vlan".to_owned(), vlan.into());
    }
    let faults = |faults: Vec<api::Error>| {
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nerror: ")
    };
    let mut port = daemon::config::port_from_json(port.into()).map_err(faults)?;
    daemon::config::resolve_port(&mut port, directory);
    Ok(port)
}

/// The value of a key in the type that the key takes; text that is not of that type stays text, and is refused as such.
fn value(key: &str, text: &str) -> Value {
    let number = |text: &str| text.parse::<u64>().map_or_else(|_| text.into(), Value::from);
    match key {
        "fd" | "queue" | "quota" | "storm" | "copies" | "rate" | "mtu" | "clients" | "vlan.access"
        | "vlan.native" => number(text),
        "vlan.trunk" => text.split(',').map(number).collect(),
        "roles" => text.split(',').map(Value::from).collect(),
        "persistent" | "packet_information" => text.parse::<bool>().map_or_else(|_| text.into(), Value::from),
        "mac" | "address" | "allow" | "gateway" if text.contains(',') => {
            text.split(',').map(Value::from).collect()
        }
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, settings: &[&str]) -> Result<api::PortConfig, String> {
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
        let expected = api::PortConfig {
            tap: Some(api::TapConfig {
                name: Some("vm-web".into()),
                persistent: Some(true),
                ..Default::default()
            }),
            mac: Some(api::OneOrMany::One("52:54:00:00:00:01".into())),
            vlan: Some(api::VlanConfig { access: Some(10), ..Default::default() }),
            guard: Some(api::Guard::Off),
            queue: Some(7),
            ..Default::default()
        };
        assert_eq!(port, Ok(expected));
    }

    #[test]
    fn lists_have_commas_and_relative_paths_become_absolute() {
        let port =
            read("stream", &["listen=db.sock", "vlan.trunk=10,20", "vlan.native=1", "mac=a,b", "roles=dhcp"])
                .expect("a port");
        assert_eq!(port.roles, Some(vec![api::Role::Dhcp]));
        assert_eq!(port.stream.and_then(|stream| stream.listen).as_deref(), Some("/srv/db.sock"));
        assert_eq!(port.vlan.and_then(|vlan| vlan.trunk), Some(vec![10, 20]));
        assert_eq!(port.mac.map(|mac| mac.as_slice().len()), Some(2));
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
