//! From a tree to the unchecked configuration: every key is known and every value of the type that it takes.
//!
//! Reading goes on after a fault, without the member at fault, so that all faults are told at once.

use std::borrow::Cow;

use vmlan_api::keys::{Keyed, Value as Takes};
use vmlan_api::{Error, ErrorCode, OneOrMany};
use vmlan_ports::{join, shown};

use super::fault::Faults;
use super::node::{Key, Node, Value};

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
    pub(super) fn config(&mut self, node: &Node) -> vmlan_api::Config {
        let Some(table) = self.table("", node, &["workers", "poll", "daemon", "limits", "network"]) else {
            return vmlan_api::Config::default();
        };
        vmlan_api::Config {
            workers: self.member(&table, "workers", Self::number),
            poll: self.member(&table, "poll", |r, at, n| {
                let modes = [vmlan_api::Poll::Adaptive, vmlan_api::Poll::Busy, vmlan_api::Poll::Sleep];
                r.choice(at, n, &modes.map(|mode| (mode.as_str(), mode)))
            }),
            daemon: self.member(&table, "daemon", Self::keyed::<vmlan_api::DaemonConfig>),
            limits: self.member(&table, "limits", Self::keyed::<vmlan_api::LimitsConfig>),
            network: self
                .member(&table, "network", |r, at, n| r.named(at, n, Self::network))
                .unwrap_or_default(),
        }
    }

    pub(super) fn network(&mut self, path: &str, node: &Node) -> Option<vmlan_api::NetworkConfig> {
        let known = ["mtu", "fdb", "pass_reserved", "fast", "trunk", "uplink", "port"];
        let table = self.table(path, node, &known)?;
        Some(vmlan_api::NetworkConfig {
            mtu: self.member(&table, "mtu", Self::number),
            fdb: self.member(&table, "fdb", Self::fdb),
            pass_reserved: self.member(&table, "pass_reserved", Self::boolean),
            fast: self.member(&table, "fast", |r, at, n| {
                r.choice(at, n, &[("auto", vmlan_api::Fast::Auto), ("off", vmlan_api::Fast::Off)])
            }),
            trunk: self.member(&table, "trunk", Self::keyed::<vmlan_api::TrunkConfig>),
            uplink: self.member(&table, "uplink", Self::keyed::<vmlan_api::UplinkConfig>),
            port: self
                .member(&table, "port", |r, at, n| r.named(at, n, Self::keyed::<vmlan_api::PortConfig>))
                .unwrap_or_default(),
        })
    }

    fn fdb(&mut self, path: &str, node: &Node) -> Option<vmlan_api::FdbConfig> {
        let table = self.table(path, node, &["size", "ageing", "static"])?;
        Some(vmlan_api::FdbConfig {
            size: self.member(&table, "size", Self::number),
            ageing: self.member(&table, "ageing", Self::number),
            static_entries: self
                .member(&table, "static", |r, at, n| r.list(at, n, Self::static_entry))
                .unwrap_or_default(),
        })
    }

    fn static_entry(&mut self, path: &str, node: &Node) -> Option<vmlan_api::StaticEntry> {
        let table = self.table(path, node, &["mac", "port", "vlan"])?;
        let vlan = self.member(&table, "vlan", Self::number);
        let mac = self.required(&table, "mac", Self::text);
        let port = self.required(&table, "port", Self::text);
        Some(vmlan_api::StaticEntry { mac: mac?, port: port?, vlan })
    }

    /// A table whose keys are defined in one place.
    pub(super) fn keyed<T: Keyed>(&mut self, path: &str, node: &Node) -> Option<T> {
        let value = self.value(path, node, Takes::Table(T::KEYS))?;
        serde_json::from_value(value)
            .map_err(|error| {
                let error = Error::at(ErrorCode::Internal, path, error.to_string());
                self.faults.shape(path, error, node.span.clone());
            })
            .ok()
    }

    /// Reads a value, if it is of the kind `takes`; of a table or a list, the members that are of the right kind.
    fn value(&mut self, path: &str, node: &Node, takes: Takes) -> Option<serde_json::Value> {
        let word = |words: &'static [&'static str]| {
            move |r: &mut Self, at: &str, n: &Node| {
                let choices: Vec<_> = words.iter().map(|word| (*word, *word)).collect();
                r.choice(at, n, &choices)
            }
        };
        match takes {
            Takes::Text => self.text(path, node).map(Into::into),
            Takes::TextOrNumber => self.text_or_number(path, node).map(Into::into),
            Takes::Texts => {
                self.one_or_many_texts(path, node).and_then(|texts| serde_json::to_value(texts).ok())
            }
            Takes::Number { .. } => self.number(path, node).map(Into::into),
            Takes::Numbers => self.list(path, node, Self::number).map(Into::into),
            Takes::Boolean => self.boolean(path, node).map(Into::into),
            Takes::Choice(words) => word(words)(self, path, node).map(Into::into),
            Takes::Choices(words) => self.list(path, node, word(words)).map(Into::into),
            Takes::Table(keys) => {
                let names: Vec<_> = keys.iter().map(|key| key.name).collect();
                let table = self.renamed(path, node, keys);
                let table = self.table(path, &table, &names)?;
                let read = |key: &vmlan_api::keys::Key| {
                    let value = self.member(&table, key.name, |r, at, n| r.value(at, n, key.value))?;
                    Some((key.name.to_owned(), value))
                };
                Some(serde_json::Value::Object(keys.iter().filter_map(read).collect()))
            }
            Takes::Tables(keys) => {
                self.list(path, node, |r, at, n| r.value(at, n, Takes::Table(keys))).map(Into::into)
            }
            Takes::SwitchOrTable(keys) => match node.value {
                Value::Boolean(on) => Some(on.into()),
                Value::Table(_) => self.value(path, node, Takes::Table(keys)),
                _ => self.wrong_type(path, node, "true, false or a table"),
            },
            Takes::WordOrTables(words, keys) => match node.value {
                Value::Text(_) => self.value(path, node, Takes::Choice(words)),
                Value::List(_) => self.value(path, node, Takes::Tables(keys)),
                _ => self.wrong_type(path, node, "a word in quotes or a list of tables"),
            },
            _ => {
                let error = Error::at(ErrorCode::Internal, path, "nobody can read this kind of value");
                self.faults.shape(path, error, node.span.clone());
                None
            }
        }
    }

    /// Gives the members of a table that have former names their names; a table with both is at fault.
    fn renamed<'n>(&mut self, path: &str, node: &'n Node, keys: &[vmlan_api::keys::Key]) -> Cow<'n, Node> {
        let mut node = Cow::Borrowed(node);
        for (name, former) in keys.iter().filter_map(|key| Some((key.name, key.former?))) {
            let Value::Table(members) = &node.value else { break };
            let find = |wanted: &str| {
                members
                    .iter()
                    .position(|(key, value)| key.name == wanted && !matches!(value.value, Value::Nothing))
            };
            let (Some(at), current) = (find(former), find(name)) else { continue };
            let Value::Table(members) = &mut node.to_mut().value else { break };
            if current.is_none() {
                members.retain(|(key, _)| key.name != name);
                members
                    .iter_mut()
                    .filter(|(key, _)| key.name == former)
                    .for_each(|(key, _)| key.name = name.into());
                continue;
            }
            let (key, _) = members.remove(at);
            let message = format!("`{former}` is the former name of `{name}`; keep `{name}` alone");
            self.faults.shape(path, Error::at(ErrorCode::Conflict, join(path, former), message), key.span);
        }
        node
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
    fn member<T>(
        &mut self,
        table: &Table<'_>,
        key: &str,
        read: impl FnOnce(&mut Self, &str, &Node) -> Option<T>,
    ) -> Option<T> {
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
    fn required<T>(
        &mut self,
        table: &Table<'_>,
        key: &str,
        read: impl FnOnce(&mut Self, &str, &Node) -> Option<T>,
    ) -> Option<T> {
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
        mut read: impl FnMut(&mut Self, &str, &Node) -> Option<T>,
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

    fn list<T>(
        &mut self,
        path: &str,
        node: &Node,
        mut read: impl FnMut(&mut Self, &str, &Node) -> Option<T>,
    ) -> Option<Vec<T>> {
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

/// `, did you mean …?` where a known key is near, else the known keys.
pub(crate) fn suggestion(key: &str, known: &[&str]) -> String {
    match vmlan_api::nearest(key, known.iter().copied()) {
        Some(candidate) => format!(", did you mean `{candidate}`?"),
        None => format!("; known here: {}", known.join(", ")),
    }
}
