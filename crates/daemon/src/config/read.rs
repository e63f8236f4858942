//! From a tree to the unchecked configuration: every key is known and every value of the type that it takes.
//!
//! Reading goes on after a fault, without the member at fault, so that all faults are told at once.

use api::{Error, ErrorCode, OneOrMany};

use super::fault::Faults;
use super::node::{Key, Node, Value};

/// Reads one kind of value at a path; `None` after a fault was noted.
type Read<T> = fn(&mut Reader, &str, &Node) -> Option<T>;

/// Reads a tree and notes what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) faults: Faults,
}

/// The members of a table whose keys are all known, and where it is.
struct Table<'n> {
    path: String,
    members: &'n [(Key, Node)],
}

impl Reader {
    /// A whole configuration.
    pub(super) fn config(&mut self, node: &Node) -> api::Config {
        let Some(table) = self.table("", node, &["workers", "poll", "limits", "network"]) else {
            return api::Config::default();
        };
        api::Config {
            workers: self.member(&table, "workers", Self::number),
            poll: self.member(&table, "poll", |r, at, n| {
                let modes = [api::Poll::Adaptive, api::Poll::Busy, api::Poll::Sleep];
                r.choice(at, n, &modes.map(|mode| (mode.as_str(), mode)))
            }),
            limits: self.member(&table, "limits", Self::limits),
            network: self
                .member(&table, "network", |r, at, n| r.named(at, n, Self::network))
                .unwrap_or_default(),
        }
    }

    fn limits(&mut self, path: &str, node: &Node) -> Option<api::LimitsConfig> {
        let table = self.table(path, node, &["user"])?;
        Some(api::LimitsConfig { user: self.member(&table, "user", Self::user_limits) })
    }

    fn user_limits(&mut self, path: &str, node: &Node) -> Option<api::UserLimitsConfig> {
        const KEYS: &[&str] = &["ports", "connections", "events", "captures", "addresses", "backlog"];
        let table = self.table(path, node, KEYS)?;
        Some(api::UserLimitsConfig {
            ports: self.member(&table, "ports", Self::number),
            connections: self.member(&table, "connections", Self::number),
            events: self.member(&table, "events", Self::number),
            captures: self.member(&table, "captures", Self::number),
            addresses: self.member(&table, "addresses", Self::number),
            backlog: self.member(&table, "backlog", Self::number),
        })
    }

    fn network(&mut self, path: &str, node: &Node) -> Option<api::NetworkConfig> {
        let table = self.table(path, node, &["mtu", "fdb", "pass_reserved", "trunk", "port"])?;
        Some(api::NetworkConfig {
            mtu: self.member(&table, "mtu", Self::number),
            fdb: self.member(&table, "fdb", Self::fdb),
            pass_reserved: self.member(&table, "pass_reserved", Self::boolean),
            trunk: self.member(&table, "trunk", Self::trunk),
            port: self.member(&table, "port", |r, at, n| r.named(at, n, Self::port)).unwrap_or_default(),
        })
    }

    fn trunk(&mut self, path: &str, node: &Node) -> Option<api::TrunkConfig> {
        const KEYS: &[&str] = &[
            "interface",
            "bridge",
            "mode",
            "hooks",
            "host",
            "wire",
            "shared_mac",
            "wait",
            "promiscuous",
            "vlan",
        ];
        let table = self.table(path, node, KEYS)?;
        Some(api::TrunkConfig {
            interface: self.member(&table, "interface", Self::text),
            bridge: self.member(&table, "bridge", Self::text),
            mode: self.member(&table, "mode", |r, at, n| {
                use api::TrunkMode::{Auto, Bridge, Filter, Macvtap, Packet, Xdp};
                let modes = [Auto, Filter, Packet, Xdp, Macvtap, Bridge].map(|mode| (mode.as_str(), mode));
                r.choice(at, n, &modes)
            }),
            hooks: self.member(&table, "hooks", |r, at, n| {
                use api::TrunkHooks::{Auto, Clsact, Tcx};
                r.choice(at, n, &[("auto", Auto), ("tcx", Tcx), ("clsact", Clsact)])
            }),
            host: self.member(&table, "host", Self::boolean),
            wire: self.member(&table, "wire", Self::boolean),
            shared_mac: self.member(&table, "shared_mac", |r, at, n| {
                use api::SharedMac::{Auto, Off, On};
                r.choice(at, n, &[("auto", Auto), ("on", On), ("off", Off)])
            }),
            wait: self.member(&table, "wait", Self::boolean),
            promiscuous: self.member(&table, "promiscuous", Self::promiscuous),
            vlan: self.member(&table, "vlan", Self::vlan),
        })
    }

    fn promiscuous(&mut self, path: &str, node: &Node) -> Option<api::Promiscuous> {
        self.choice(path, node, &[("deny", api::Promiscuous::Deny), ("allow", api::Promiscuous::Allow)])
    }

    fn fdb(&mut self, path: &str, node: &Node) -> Option<api::FdbConfig> {
        let table = self.table(path, node, &["size", "ageing", "static"])?;
        Some(api::FdbConfig {
            size: self.member(&table, "size", Self::number),
            ageing: self.member(&table, "ageing", Self::number),
            static_entries: self
                .member(&table, "static", |r, at, n| r.list(at, n, Self::static_entry))
                .unwrap_or_default(),
        })
    }

    fn static_entry(&mut self, path: &str, node: &Node) -> Option<api::StaticEntry> {
        let table = self.table(path, node, &["mac", "port", "vlan"])?;
        let vlan = self.member(&table, "vlan", Self::number);
        let mac = self.required(&table, "mac", Self::text);
        let port = self.required(&table, "port", Self::text);
        Some(api::StaticEntry { mac: mac?, port: port?, vlan })
    }

    /// One port's table.
    pub(super) fn port(&mut self, path: &str, node: &Node) -> Option<api::PortConfig> {
        const KEYS: &[&str] = &[
            "tap",
            "stream",
            "datagram",
            "vde",
            "tunnel",
            "mac",
            "vlan",
            "enabled",
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
            "filter",
        ];
        let table = self.table(path, node, KEYS)?;
        Some(api::PortConfig {
            tap: self.member(&table, "tap", Self::tap),
            stream: self.member(&table, "stream", Self::stream),
            datagram: self.member(&table, "datagram", Self::datagram),
            vde: self.member(&table, "vde", Self::vde),
            tunnel: self.member(&table, "tunnel", Self::tunnel),
            mac: self.member(&table, "mac", Self::one_or_many_texts),
            vlan: self.member(&table, "vlan", Self::vlan),
            enabled: self.member(&table, "enabled", Self::boolean),
            guard: self.member(&table, "guard", |r, at, n| {
                r.choice(at, n, &[("on", api::Guard::On), ("off", api::Guard::Off)])
            }),
            promiscuous: self.member(&table, "promiscuous", Self::promiscuous),
            isolation: self.member(&table, "isolation", |r, at, n| {
                r.choice(at, n, &[("none", api::Isolation::None), ("isolated", api::Isolation::Isolated)])
            }),
            queue: self.member(&table, "queue", Self::number),
            quota: self.member(&table, "quota", Self::number),
            storm: self.member(&table, "storm", Self::number),
            copies: self.member(&table, "copies", Self::number),
            rate: self.member(&table, "rate", Self::number),
            roles: self.member(&table, "roles", |r, at, n| {
                r.list(at, n, |r, at, n| r.choice(at, n, &[("dhcp", api::Role::Dhcp)]))
            }),
            floating: self.member(&table, "floating", Self::one_or_many_texts),
            filter: self.member(&table, "filter", |r, at, n| r.list(at, n, Self::filter)).unwrap_or_default(),
        })
    }

    /// One rule's table.
    pub(super) fn filter(&mut self, path: &str, node: &Node) -> Option<api::FilterConfig> {
        let table = self.table(path, node, &["direction", "action", "expression", "program"])?;
        Some(api::FilterConfig {
            direction: self.member(&table, "direction", |r, at, n| {
                use api::FilterDirection::{Both, In, Out};
                r.choice(at, n, &[("in", In), ("out", Out), ("both", Both)])
            }),
            action: self.member(&table, "action", |r, at, n| {
                r.choice(at, n, &[("drop", api::FilterAction::Drop), ("pass", api::FilterAction::Pass)])
            }),
            expression: self.member(&table, "expression", Self::text),
            program: self.member(&table, "program", Self::text),
        })
    }

    fn tap(&mut self, path: &str, node: &Node) -> Option<api::TapConfig> {
        const KEYS: &[&str] =
            &["name", "owner", "persistent", "setup", "terminate", "netns", "fd", "offloads"];
        let table = self.table(path, node, KEYS)?;
        Some(api::TapConfig {
            name: self.member(&table, "name", Self::text),
            owner: self.member(&table, "owner", Self::text_or_number),
            persistent: self.member(&table, "persistent", Self::boolean),
            setup: self.member(&table, "setup", Self::text),
            terminate: self.member(&table, "terminate", Self::text),
            netns: self.member(&table, "netns", Self::text),
            fd: self.member(&table, "fd", Self::number),
            offloads: self.member(&table, "offloads", Self::boolean),
        })
    }

    fn stream(&mut self, path: &str, node: &Node) -> Option<api::StreamConfig> {
        let table = self.table(path, node, &["listen", "allow", "connect", "fd"])?;
        Some(api::StreamConfig {
            listen: self.member(&table, "listen", Self::text),
            allow: self.member(&table, "allow", Self::one_or_many_texts),
            connect: self.member(&table, "connect", Self::text),
            fd: self.member(&table, "fd", Self::number),
        })
    }

    fn datagram(&mut self, path: &str, node: &Node) -> Option<api::DatagramConfig> {
        let table = self.table(path, node, &["listen", "allow", "local", "remote", "fd"])?;
        Some(api::DatagramConfig {
            listen: self.member(&table, "listen", Self::text),
            allow: self.member(&table, "allow", Self::one_or_many_texts),
            local: self.member(&table, "local", Self::text),
            remote: self.member(&table, "remote", Self::text),
            fd: self.member(&table, "fd", Self::number),
        })
    }

    fn vde(&mut self, path: &str, node: &Node) -> Option<api::VdeConfig> {
        let table = self.table(path, node, &["directory", "mode"])?;
        Some(api::VdeConfig {
            directory: self.member(&table, "directory", Self::text),
            mode: self.member(&table, "mode", Self::text),
        })
    }

    fn tunnel(&mut self, path: &str, node: &Node) -> Option<api::TunnelConfig> {
        const KEYS: &[&str] = &[
            "listen",
            "device",
            "address",
            "allow",
            "gateway",
            "mtu",
            "mode",
            "clients",
            "packet_information",
            "netns",
        ];
        let table = self.table(path, node, KEYS)?;
        Some(api::TunnelConfig {
            listen: self.member(&table, "listen", Self::text),
            device: self.member(&table, "device", Self::text),
            address: self.member(&table, "address", Self::one_or_many_texts),
            allow: self.member(&table, "allow", Self::one_or_many_texts),
            gateway: self.member(&table, "gateway", Self::one_or_many_texts),
            mtu: self.member(&table, "mtu", Self::number),
            mode: self.member(&table, "mode", Self::text),
            clients: self.member(&table, "clients", Self::number),
            packet_information: self.member(&table, "packet_information", Self::boolean),
            netns: self.member(&table, "netns", Self::text),
        })
    }

    fn vlan(&mut self, path: &str, node: &Node) -> Option<api::VlanConfig> {
        let table = self.table(path, node, &["access", "trunk", "native"])?;
        Some(api::VlanConfig {
            access: self.member(&table, "access", Self::number),
            trunk: self.member(&table, "trunk", |r, at, n| r.list(at, n, Self::number)),
            native: self.member(&table, "native", Self::number),
        })
    }

    /// A table whose keys are all in `known`; others are faults.
    fn table<'n>(&mut self, path: &str, node: &'n Node, known: &[&str]) -> Option<Table<'n>> {
        let Value::Table(members) = &node.value else { return self.wrong_type(path, node, "a table") };
        for (key, _) in members.iter().filter(|(key, _)| !known.contains(&key.name.as_str())) {
            let message = format!("unknown key `{}`{}", shown(&key.name), suggestion(&key.name, known));
            let error = Error::at(ErrorCode::UnknownKey, join(path, &key.name), message);
            self.faults.shape(path, error, key.span.clone());
        }
        Some(Table { path: path.to_owned(), members })
    }

    /// The value of `key` if it is there.
    fn member<T>(&mut self, table: &Table<'_>, key: &str, read: Read<T>) -> Option<T> {
        let (_, node) = table.members.iter().find(|(candidate, _)| candidate.name == key)?;
        if matches!(node.value, Value::Nothing) {
            return None;
        }
        let path = join(&table.path, key);
        self.faults.place(&path, node.span.clone());
        let value = read(self, &path, node);
        if value.is_none() {
            self.faults.mark_broken(&table.path);
        }
        value
    }

    /// The value of `key`, whose absence is a fault.
    fn required<T>(&mut self, table: &Table<'_>, key: &str, read: Read<T>) -> Option<T> {
        if !table.members.iter().any(|(candidate, _)| candidate.name == key) {
            let error = Error::at(ErrorCode::MissingKey, &table.path, format!("the key `{key}` is missing"));
            self.faults.meaning(error);
        }
        self.member(table, key, read)
    }

    /// A table whose keys are names of the user's choice.
    fn named<T: Default>(
        &mut self,
        path: &str,
        node: &Node,
        read: Read<T>,
    ) -> Option<std::collections::BTreeMap<String, T>> {
        let Value::Table(members) = &node.value else { return self.wrong_type(path, node, "a table") };
        let read_one = |(key, node): &(Key, Node)| {
            let path = join(path, &key.name);
            self.faults.place(&path, key.span.clone());
            // A name whose table is unreadable stays, so that what refers to it is not at fault as well.
            let value = read(self, &path, node).unwrap_or_else(|| {
                self.faults.mark_broken(&path);
                T::default()
            });
            (key.name.clone(), value)
        };
        Some(members.iter().map(read_one).collect())
    }

    fn list<T>(&mut self, path: &str, node: &Node, read: Read<T>) -> Option<Vec<T>> {
        let Value::List(items) = &node.value else { return self.wrong_type(path, node, "a list") };
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            self.faults.place(&path, item.span.clone());
            values.extend(read(self, &path, item));
        }
        Some(values)
    }

    fn text(&mut self, path: &str, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => self.wrong_type(path, node, "text in quotes"),
        }
    }

    fn text_or_number(&mut self, path: &str, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Integer(number) => Some(number.to_string()),
            _ => self.wrong_type(path, node, "text in quotes or a number"),
        }
    }

    fn one_or_many_texts(&mut self, path: &str, node: &Node) -> Option<OneOrMany<String>> {
        match &node.value {
            Value::Text(text) => Some(OneOrMany::One(text.clone())),
            Value::List(_) => self.list(path, node, Self::text).map(OneOrMany::Many),
            _ => self.wrong_type(path, node, "text in quotes or a list of it"),
        }
    }

    fn number(&mut self, path: &str, node: &Node) -> Option<u64> {
        match &node.value {
            Value::Integer(number) => u64::try_from(*number).ok().or_else(|| {
                let error = Error::at(ErrorCode::OutOfRange, path, format!("{number} is out of range"));
                self.faults.shape(path, error, node.span.clone());
                None
            }),
            _ => self.wrong_type(path, node, "a whole number"),
        }
    }

    fn boolean(&mut self, path: &str, node: &Node) -> Option<bool> {
        match node.value {
            Value::Boolean(value) => Some(value),
            _ => self.wrong_type(path, node, "true or false"),
        }
    }

    fn choice<T: Copy>(&mut self, path: &str, node: &Node, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let expected = format!("\"{}\"", words.join("\" or \""));
        let Value::Text(text) = &node.value else { return self.wrong_type(path, node, &expected) };
        let found = choices.iter().find(|(word, _)| word == text).map(|(_, value)| *value);
        if found.is_none() {
            let message = format!("`{}` is not possible here; write {expected}", shown(text));
            self.faults.shape(path, Error::at(ErrorCode::OutOfRange, path, message), node.span.clone());
        }
        found
    }

    fn wrong_type<T>(&mut self, path: &str, node: &Node, expected: &str) -> Option<T> {
        let name = if path.is_empty() { "a configuration" } else { path.rsplit('.').next().unwrap_or(path) };
        let message = format!("{name} must be {expected}, not {}", node.describe());
        self.faults.shape(path, Error::at(ErrorCode::WrongType, path, message), node.span.clone());
        None
    }
}

/// `path` extended by `key`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Text of the user's that is safe and short enough to show.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 64;
    let mut shown: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

/// `, did you mean …?` where a known key is near, else the known keys.
fn suggestion(key: &str, known: &[&str]) -> String {
    /// Comparing costs the product of the lengths; no key is longer than this.
    const LONGEST: usize = 40;
    let near = known
        .iter()
        .filter(|_| key.len() <= LONGEST)
        .map(|candidate| (strsim::damerau_levenshtein(key, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min();
    match near {
        Some((_, candidate)) => format!(", did you mean `{candidate}`?"),
        None => format!("; known here: {}", known.join(", ")),
    }
}
