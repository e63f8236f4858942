//! Completions of a shell that only the running daemon knows: names of networks and ports. Without an answer there are
//! none. And words that the program itself knows.

use std::ffi::OsStr;

use clap_complete::engine::CompletionCandidate;
use vmlan_api::keys::{Key, Keyed, Value};

use crate::client::Client;
use crate::command::{control_path, explained_words, port_keys, words};

/// The networks.
pub fn networks(word: &OsStr) -> Vec<CompletionCandidate> {
    let networks: Vec<vmlan_api::Network> = asked("/v1/networks");
    beginning(word, networks.into_iter().map(|network| network.network))
}

/// The words that `vmlan explain` explains.
pub fn explained(word: &OsStr) -> Vec<CompletionCandidate> {
    beginning(word, explained_words().map(str::to_owned))
}

/// The networks, and the ports as NETWORK/PORT.
pub fn places(word: &OsStr) -> Vec<CompletionCandidate> {
    let ports: Vec<vmlan_api::Port> = asked("/v1/ports");
    let mut names = networks(word);
    names.extend(beginning(word, ports.into_iter().map(|port| format!("{}/{}", port.network, port.port))));
    names
}

/// The ports by their names alone.
pub fn ports(word: &OsStr) -> Vec<CompletionCandidate> {
    let ports: Vec<vmlan_api::Port> = asked("/v1/ports");
    beginning(word, ports.into_iter().map(|port| port.port))
}

/// The keys of a port and of its kinds, each with `=`.
pub fn keys(word: &OsStr) -> Vec<CompletionCandidate> {
    let of_kind = |key: &Key| match key.value {
        Value::Table(keys) if key.name != "vlan" => keys.iter().flat_map(words).collect(),
        _ => Vec::new(),
    };
    let kinds = vmlan_api::PortConfig::KEYS.iter().flat_map(of_kind);
    let mut keys: Vec<String> = port_keys().into_iter().chain(kinds).map(|key| format!("{key}=")).collect();
    keys.sort();
    keys.dedup();
    beginning(word, keys.into_iter())
}

fn beginning(word: &OsStr, names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let word = word.to_string_lossy();
    names.filter(|name| name.starts_with(&*word)).map(CompletionCandidate::new).collect()
}

/// The answer of the daemon at the usual place, or nothing.
fn asked<T: Default + serde::de::DeserializeOwned>(path: &str) -> T {
    let named = std::env::var_os("VMLAN_CONTROL").map(Into::into);
    let control = named.map_or_else(|| control_path(None), Ok);
    let client = control.ok().and_then(|path| Client::new(&path).ok());
    client.and_then(|client| client.get(path).ok()).unwrap_or_default()
}
