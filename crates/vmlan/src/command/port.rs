//! `port add`, `port remove`, `port up` and `port down`.

use std::path::Path;

use serde_json::{Map, Value};

use super::{Failure, apply};
use crate::args::{Output, PortCommand};
use crate::client::{Client, encode};

/// Keys of the port itself; all others are those of its kind.
const PORT_KEYS: [&str; 12] = [
    "enabled",
    "mac",
    "guard",
    "promiscuous",
    "isolation",
    "queue",
    "quota",
    "storm",
    "copies",
    "rate",
    "roles",
    "floating",
];

/// Adds, removes or changes a port.
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
        PortCommand::Up { network, name, output } => enable(client, true, &network, &name, output),
        PortCommand::Down { network, name, output } => enable(client, false, &network, &name, output),
    }
}

fn enable(client: &Client, enabled: bool, network: &str, name: &str, output: Output) -> Result<(), Failure> {
    let report = client.patch(&path(network, name), &serde_json::json!({ "enabled": enabled }))?;
    apply::tell(&report, output)
}

pub(super) fn path(network: &str, name: &str) -> String {
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
        "enabled" | "persistent" | "packet_information" | "offloads" => {
            text.parse::<bool>().map_or_else(|_| text.into(), Value::from)
        }
        "mac" | "address" | "allow" | "gateway" | "floating" if text.contains(',') => {
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

    /// Every key of the configuration, so that a new one is missing here until the command line takes it.
    fn everything(kind: &str) -> api::PortConfig {
        let text = || Some("text".to_owned());
        let texts = || Some(api::OneOrMany::Many(vec!["one".to_owned(), "two".to_owned()]));
        let tap = api::TapConfig {
            name: text(),
            owner: text(),
            persistent: Some(true),
            setup: text(),
            terminate: text(),
            netns: text(),
            fd: Some(7),
            offloads: Some(false),
        };
        let path = || Some("/path".to_owned());
        let stream = api::StreamConfig { listen: path(), allow: texts(), connect: path(), fd: Some(7) };
        let datagram = api::DatagramConfig {
            listen: path(),
            allow: texts(),
            local: path(),
            remote: path(),
            fd: Some(7),
        };
        let vde = api::VdeConfig { directory: path(), mode: Some("0660".to_owned()) };
        let tunnel = api::TunnelConfig {
            listen: path(),
            device: text(),
            address: texts(),
            allow: texts(),
            gateway: texts(),
            mtu: Some(1400),
            mode: Some("0660".to_owned()),
            clients: Some(7),
            packet_information: Some(true),
            netns: text(),
        };
        api::PortConfig {
            tap: (kind == "tap").then_some(tap),
            stream: (kind == "stream").then_some(stream),
            datagram: (kind == "datagram").then_some(datagram),
            vde: (kind == "vde").then_some(vde),
            tunnel: (kind == "tunnel").then_some(tunnel),
            mac: texts(),
            vlan: Some(api::VlanConfig { access: Some(7), trunk: Some(vec![8, 9]), native: Some(10) }),
            enabled: Some(false),
            guard: Some(api::Guard::Off),
            promiscuous: Some(api::Promiscuous::Allow),
            isolation: Some(api::Isolation::Isolated),
            queue: Some(7),
            quota: Some(7),
            storm: Some(7),
            rate: Some(7),
            copies: Some(7),
            roles: Some(vec![api::Role::Dhcp]),
            floating: Some(api::OneOrMany::Many(vec!["10.0.0.9".into(), "fd00::/64".into()])),
            // Tables of their own, which `vmlan filter` makes.
            filter: Vec::new(),
        }
    }

    /// `key=value` as it is typed.
    fn typed(prefix: &str, table: &Value) -> Vec<String> {
        let word = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Array(items) => {
                let items = items.iter().map(|item| item.as_str().map_or(item.to_string(), str::to_owned));
                items.collect::<Vec<_>>().join(",")
            }
            other => other.to_string(),
        };
        let members = table.as_object().expect("a table");
        members.iter().map(|(key, value)| format!("{prefix}{key}={}", word(value))).collect()
    }

    #[test]
    fn every_key_of_every_kind_can_be_typed() {
        for kind in ["tap", "stream", "datagram", "vde", "tunnel"] {
            let expected = everything(kind);
            let mut table = serde_json::to_value(&expected).expect("JSON");
            let members = table.as_object_mut().expect("a table");
            let attachment = members.remove(kind).expect("the attachment");
            let vlan = members.remove("vlan").expect("the VLANs");
            let words = [typed("", &table), typed("", &attachment), typed("vlan.", &vlan)].concat();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            assert_eq!(read(kind, &words), Ok(expected), "{kind}: {words:?}");
        }
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
