//! Changes of one thing in a configuration that runs.

use std::collections::BTreeMap;

use api::{Error, ErrorCode};

use super::read::shown;
use super::{ValidConfig, port_from_json, validate};

/// A change of one thing. It is made to the unchecked form, and the whole is checked again.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the members are the network and port concerned and repeat in every variant")]
#[non_exhaustive]
pub enum Change {
    /// One port more.
    AddPort { network: String, port: String, table: Box<api::PortConfig> },
    /// Other keys of a port: what is in `keys` replaces what is there, and a null takes it away (JSON Merge Patch,
    /// RFC 7396).
    ChangePort { network: String, port: String, keys: serde_json::Value },
    /// One port less, and the static entries that point to it.
    RemovePort { network: String, port: String },
    /// One more rule about a port's frames, in front of rule `at`, counted from 1, or behind all.
    AddFilter { network: String, port: String, filter: Box<api::FilterConfig>, at: Option<u64> },
    /// Without rule `number`, counted from 1, about a port's frames.
    RemoveFilter { network: String, port: String, number: u64 },
}

impl Change {
    /// The configuration with the change. It may take seconds, where a filter has to be compiled.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownNetwork`], [`ErrorCode::UnknownPort`], [`ErrorCode::PortExists`], [`ErrorCode::NotFound`] or
    /// [`ErrorCode::OutOfRange`] for rules, or the faults of what results.
    pub fn apply(self, config: &ValidConfig) -> Result<ValidConfig, Vec<Error>> {
        match self {
            Self::AddPort { network, port, table } => config.with_port(&network, &port, *table),
            Self::ChangePort { network, port, keys } => config.with_changes(&network, &port, keys),
            Self::RemovePort { network, port } => config.without_port(&network, &port),
            Self::AddFilter { network, port, filter, at } => config.with_filter(&network, &port, *filter, at),
            Self::RemoveFilter { network, port, number } => config.without_filter(&network, &port, number),
        }
    }
}

impl ValidConfig {
    /// This configuration with one port more.
    pub(crate) fn with_port(
        &self,
        network: &str,
        name: &str,
        port: api::PortConfig,
    ) -> Result<Self, Vec<Error>> {
        let mut config = self.source.clone();
        let ports = ports_of(&mut config, network)?;
        if ports.contains_key(name) {
            let message = format!("port {} exists in network {network}; remove it first", shown(name));
            return Err(vec![Error::at(ErrorCode::PortExists, "port", message)]);
        }
        ports.insert(name.to_owned(), port);
        validate(config)
    }

    /// This configuration with other keys of a port: what is in `changes` replaces what is there, and a null takes it
    /// away (JSON Merge Patch, RFC 7396).
    fn with_changes(
        &self,
        network: &str,
        name: &str,
        changes: serde_json::Value,
    ) -> Result<Self, Vec<Error>> {
        let mut config = self.source.clone();
        let ports = ports_of(&mut config, network)?;
        let port = ports.get_mut(name).ok_or_else(|| no_port(network, name))?;
        let mut table = serde_json::to_value(&*port).map_err(|error| {
            vec![Error::new(ErrorCode::Internal, format!("the port cannot be written: {error}"))]
        })?;
        merge(&mut table, changes);
        *port = port_from_json(table)?;
        validate(config)
    }

    /// This configuration with one more rule about a port's frames, in front of rule `at`, counted from 1, or behind
    /// all.
    fn with_filter(
        &self,
        network: &str,
        name: &str,
        filter: api::FilterConfig,
        at: Option<u64>,
    ) -> Result<Self, Vec<Error>> {
        let mut config = self.source.clone();
        let port = ports_of(&mut config, network)?.get_mut(name).ok_or_else(|| no_port(network, name))?;
        let filters = port.filter.get_or_insert_default();
        let at = at.map_or(filters.len(), |at| usize::try_from(at).unwrap_or(usize::MAX).wrapping_sub(1));
        if at > filters.len() {
            let message = format!("the port has {} rules; write 1 to {}", filters.len(), filters.len() + 1);
            return Err(vec![Error::at(ErrorCode::OutOfRange, "at", message)]);
        }
        filters.insert(at, filter);
        validate(config)
    }

    /// This configuration without rule `number`, counted from 1, about a port's frames.
    fn without_filter(&self, network: &str, name: &str, number: u64) -> Result<Self, Vec<Error>> {
        let mut config = self.source.clone();
        let port = ports_of(&mut config, network)?.get_mut(name).ok_or_else(|| no_port(network, name))?;
        let mut filters = port.filter.take().unwrap_or_default();
        let at = usize::try_from(number).unwrap_or(usize::MAX).wrapping_sub(1);
        if at >= filters.len() {
            let message =
                format!("port {} has {} rules, and none is number {number}", shown(name), filters.len());
            return Err(vec![Error::at(ErrorCode::NotFound, "number", message)]);
        }
        filters.remove(at);
        port.filter = Some(filters).filter(|filters| !filters.is_empty());
        validate(config)
    }

    /// This configuration with one port less, and without the static entries that point to it.
    pub(crate) fn without_port(&self, network: &str, name: &str) -> Result<Self, Vec<Error>> {
        let mut config = self.source.clone();
        if ports_of(&mut config, network)?.remove(name).is_none() {
            return Err(no_port(network, name));
        }
        if let Some(fdb) = config.network.get_mut(network).and_then(|network| network.fdb.as_mut()) {
            fdb.static_entries.retain(|entry| entry.port != name);
        }
        validate(config)
    }
}

fn no_port(network: &str, name: &str) -> Vec<Error> {
    let message = format!("there is no port {} in network {network}", shown(name));
    vec![Error::at(ErrorCode::UnknownPort, "port", message)]
}

/// Makes `changes` in `table`, as RFC 7396 says. The depth of both was bounded when they were read.
fn merge(table: &mut serde_json::Value, changes: serde_json::Value) {
    use serde_json::Value;
    let Value::Object(changes) = changes else { return *table = changes };
    if !table.is_object() {
        *table = Value::Object(Default::default());
    }
    let Value::Object(members) = table else { return };
    for (key, change) in changes {
        match change {
            Value::Null => drop(members.remove(&key)),
            change => merge(members.entry(key).or_insert(Value::Null), change),
        }
    }
}

fn ports_of<'c>(
    config: &'c mut api::Config,
    network: &str,
) -> Result<&'c mut BTreeMap<String, api::PortConfig>, Vec<Error>> {
    config.network.get_mut(network).map(|network| &mut network.port).ok_or_else(|| {
        vec![Error::at(
            ErrorCode::UnknownNetwork,
            "network",
            format!("there is no network {}", shown(network)),
        )]
    })
}
