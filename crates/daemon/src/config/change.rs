//! Changes of one thing in a configuration that runs.

use std::collections::BTreeMap;

use vmlan_api::keys::{Key, Keyed, Value as Takes};
use vmlan_api::{Error, ErrorCode};

use super::{ValidConfig, network_from_json, port_path, table_from_json, validate};
use vmlan_ports::{join, shown};

/// A change of one thing. It is made to the unchecked form, and the whole is checked again.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the members are the network and port concerned and repeat in every variant")]
#[non_exhaustive]
pub enum Change {
    /// One network more, with what its table says.
    AddNetwork { network: String, table: serde_json::Value },
    /// One network less, with all its ports.
    RemoveNetwork { network: String },
    /// One port more, with what its table says.
    AddPort { network: String, port: String, table: serde_json::Value },
    /// Other keys of a port: what is in `keys` replaces what is there, and a null takes it away (JSON Merge Patch,
    /// RFC 7396).
    ChangePort { network: String, port: String, keys: serde_json::Value },
    /// One port less, and the static entries that point to it.
    RemovePort { network: String, port: String },
    /// One more rule about a port's frames, in front of rule `at`, counted from 1, or behind all.
    AddFilter { network: String, port: String, filter: serde_json::Value, at: Option<u64> },
    /// Without rule `number`, counted from 1, about a port's frames.
    RemoveFilter { network: String, port: String, number: u64 },
}

impl Change {
    /// The configuration with the change. It may take seconds, where a filter has to be compiled.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownNetwork`], [`ErrorCode::UnknownPort`], [`ErrorCode::NetworkExists`],
    /// [`ErrorCode::PortExists`], [`ErrorCode::NotFound`] or [`ErrorCode::OutOfRange`] for rules, or the faults of what
    /// results, each with its path in the configuration.
    pub fn apply(self, config: &ValidConfig) -> Result<ValidConfig, Vec<Error>> {
        let mut source = config.source.clone();
        self.make(&mut source)?;
        validate(source)
    }

    fn make(self, config: &mut vmlan_api::Config) -> Result<(), Vec<Error>> {
        match self {
            Self::AddNetwork { network, table } => {
                if config.network.contains_key(&network) {
                    let message = format!("network {} exists; remove it first", shown(&network));
                    return Err(vec![Error::at(ErrorCode::NetworkExists, "network", message)]);
                }
                let table = network_from_json(&join("network", &network), table)?;
                config.network.insert(network, table);
            }
            Self::RemoveNetwork { network } => {
                ports_of(config, &network)?;
                config.network.remove(&network);
            }
            Self::AddPort { network, port, table } => {
                let ports = ports_of(config, &network)?;
                if ports.contains_key(&port) {
                    let message =
                        format!("port {} exists in network {network}; remove it first", shown(&port));
                    return Err(vec![Error::at(ErrorCode::PortExists, "port", message)]);
                }
                let table = table_from_json(&port_path(&network, &port), table)?;
                ports.insert(port, table);
            }
            Self::ChangePort { network, port, keys } => {
                let path = port_path(&network, &port);
                let port = port_of(config, &network, &port)?;
                let mut table = serde_json::to_value(&*port).map_err(|error| {
                    vec![Error::new(ErrorCode::Internal, format!("the port cannot be written: {error}"))]
                })?;
                merge(&mut table, current_names(vmlan_api::PortConfig::KEYS, keys));
                *port = table_from_json(&path, table)?;
            }
            Self::RemovePort { network, port } => {
                let ports = ports_of(config, &network)?;
                if ports.remove(&port).is_none() {
                    return Err(no_port(&network, &port, ports));
                }
                let fdb = config.network.get_mut(&network).and_then(|network| network.fdb.as_mut());
                if let Some(fdb) = fdb {
                    fdb.static_entries.retain(|entry| entry.port != port);
                }
            }
            Self::AddFilter { network, port, filter, at } => {
                let filter = table_from_json(&join(&port_path(&network, &port), "filter"), filter)?;
                let filters = port_of(config, &network, &port)?.filter.get_or_insert_default();
                let at = at.map_or(filters.len(), index);
                if at > filters.len() {
                    let message =
                        format!("the port has {} rules; write 1 to {}", filters.len(), filters.len() + 1);
                    return Err(vec![Error::at(ErrorCode::OutOfRange, "at", message)]);
                }
                filters.insert(at, filter);
            }
            Self::RemoveFilter { network, port: name, number } => {
                let port = port_of(config, &network, &name)?;
                let mut filters = port.filter.take().unwrap_or_default();
                let (count, at) = (filters.len(), index(number));
                if at >= count {
                    let message =
                        format!("port {} has {count} rules, and none is number {number}", shown(&name));
                    return Err(vec![Error::at(ErrorCode::NotFound, "number", message)]);
                }
                filters.remove(at);
                port.filter = Some(filters).filter(|filters| !filters.is_empty());
            }
        }
        Ok(())
    }
}

/// The place in a list of what people count from 1; beyond every list for 0.
fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX).wrapping_sub(1)
}

fn port_of<'c>(
    config: &'c mut vmlan_api::Config,
    network: &str,
    name: &str,
) -> Result<&'c mut vmlan_api::PortConfig, Vec<Error>> {
    let ports = ports_of(config, network)?;
    if !ports.contains_key(name) {
        return Err(no_port(network, name, ports));
    }
    Ok(ports.entry(name.to_owned()).or_default())
}

fn no_port(network: &str, name: &str, ports: &BTreeMap<String, vmlan_api::PortConfig>) -> Vec<Error> {
    vec![Error::unknown_port(network, name, ports.keys().map(String::as_str))]
}

/// Returns the changes with the names of keys in place of their former ones, so that a change by the one replaces what
/// was written by the other. Where both are there the reader finds the fault.
fn current_names(keys: &[Key], changes: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    let Value::Object(mut changes) = changes else { return changes };
    for key in keys {
        if let Some(former) = key.former
            && !changes.contains_key(key.name)
            && let Some(change) = changes.remove(former)
        {
            changes.insert(key.name.to_owned(), change);
        }
        if let Takes::Table(keys) = key.value
            && let Some(inner) = changes.get_mut(key.name)
        {
            *inner = current_names(keys, inner.take());
        }
    }
    Value::Object(changes)
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
    config: &'c mut vmlan_api::Config,
    network: &str,
) -> Result<&'c mut BTreeMap<String, vmlan_api::PortConfig>, Vec<Error>> {
    if !config.network.contains_key(network) {
        return Err(vec![Error::unknown_network(network, config.network.keys().map(String::as_str))]);
    }
    Ok(&mut config.network.entry(network.to_owned()).or_default().port)
}
