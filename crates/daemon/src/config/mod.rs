//! The configuration: from text, or from a request, to a form that can be acted on.
//!
//! Both notations become one tree, the tree is read into the unchecked [`vmlan_api::Config`] (which keys, which types),
//! and [`validate`] checks what the values mean. A [`ValidConfig`] is all that the rest of the daemon ever sees, and
//! there is no way to make one around the checks. Faults are collected, not thrown: one look at the answer shows all of
//! them.

mod change;
mod fault;
mod here;
mod hindrance;
mod node;
mod notes;
mod read;
mod report;
mod resolve;
mod valid;
mod validate;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use vmlan_api::keys::Keyed;
use vmlan_api::{Error, ErrorCode};
use vmlan_ports::join;
pub use vmlan_ports::{
    Attachment, Belonging, FilterRule, FilterSource, Mtu, PortSettings, Trunk, TrunkInterface, UserLimits,
    Vlan, resolve_port, uplink,
};

pub use change::Change;
pub use here::here;
pub use hindrance::hindrances;
pub use notes::notes;
pub use report::{ConfigErrors, Located, Place};
pub use valid::{Network, NetworkSettings, Port, ValidConfig, WebPage};
pub use validate::validate;

use fault::{Fault, Faults};
use node::Node;
use read::Reader;
#[cfg(feature = "control")]
pub(crate) use read::suggestion;

/// Octets of a configuration, as a file or in a request.
pub const LARGEST: usize = 1 << 20;

/// Reads and checks a configuration file. Its relative socket paths are relative to its own directory.
///
/// # Errors
/// When the file cannot be read, is longer than [`LARGEST`], or has faults.
pub fn load(path: &Path) -> Result<ValidConfig, ConfigErrors> {
    let name = path.display().to_string();
    let unreadable =
        |message: String| ConfigErrors::whole(name.clone(), Error::new(ErrorCode::UnreadableFile, message));

    let directory = std::path::absolute(path).map_err(|error| unreadable(format!("bad path: {error}")))?;
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST as u64 + 1).read_to_end(&mut text))
        .map_err(|error| unreadable(format!("the configuration cannot be read: {error}")))?;
    let text = String::from_utf8(text).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        unreadable(format!("the file is no UTF-8 text (octet {good} is none)"))
    })?;
    parse(&text, &name, directory.parent())
}

/// Reads and checks TOML. `file` is its name in messages; relative socket paths are relative to `directory`, and faults
/// without one.
///
/// # Errors
/// Every fault found, with its line.
pub fn parse(text: &str, file: &str, directory: Option<&Path>) -> Result<ValidConfig, ConfigErrors> {
    if text.len() > LARGEST {
        let message = format!("the configuration is longer than {LARGEST} octets");
        return Err(ConfigErrors::whole(file.to_owned(), Error::new(ErrorCode::TooLarge, message)));
    }
    let (document, errors) = toml::de::DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What the parser made of the rest would only look like further faults.
        let syntax = |error: &toml::de::Error| Fault {
            error: Error::new(ErrorCode::Syntax, error.message()),
            span: error.span(),
        };
        return Err(ConfigErrors::new(file.to_owned(), text, errors.iter().take(10).map(syntax).collect()));
    }
    let mut reader = Reader::default();
    let config = reader.config(&Node::from_toml(&document));
    check(config, reader.faults, directory)
        .map_err(|faults| ConfigErrors::new(file.to_owned(), text, faults.into_sorted()))
}

/// Reads and checks TOML that came without a file, for a web page: what runs, or the faults with their lines.
///
/// # Errors
/// Every fault found.
pub fn read_posted(text: &str) -> Result<vmlan_api::Config, Error> {
    match parse(text, "configuration", None) {
        Ok(config) => Ok(config.as_api().clone()),
        Err(errors) => {
            let fault = |located: &Located| {
                let mut error = located.error.clone();
                if let Some(place) = &located.place {
                    error.message = format!("line {}: {}", place.line, error.message);
                }
                error
            };
            Err(Error::from_faults(errors.faults().iter().map(fault).collect()))
        }
    }
}

/// Reads and checks a configuration in JSON whose depth was bounded before.
///
/// # Errors
/// Every fault found, with the dotted path of its member.
pub fn from_json(value: serde_json::Value) -> Result<ValidConfig, Vec<Error>> {
    let mut reader = Reader::default();
    let config = reader.config(&Node::from_json(value));
    check(config, reader.faults, None).map_err(errors_of)
}

/// Reads one table in JSON, a port's or a rule's; what its values mean is checked with the network that it joins.
///
/// # Errors
/// Every fault in its shape, with the path of its member: `path` is that of the table.
pub fn table_from_json<T: Keyed + Default>(path: &str, value: serde_json::Value) -> Result<T, Vec<Error>> {
    part_from_json(value, |reader, node| reader.keyed(path, node))
}

/// Reads the table of a network in JSON, as [`table_from_json`] does.
fn network_from_json(path: &str, value: serde_json::Value) -> Result<vmlan_api::NetworkConfig, Vec<Error>> {
    part_from_json(value, |reader, node| reader.network(path, node))
}

fn part_from_json<T: Default>(
    value: serde_json::Value,
    read: impl FnOnce(&mut Reader, &Node) -> Option<T>,
) -> Result<T, Vec<Error>> {
    let mut reader = Reader::default();
    let part = read(&mut reader, &Node::from_json(value));
    let errors = errors_of(reader.faults);
    if errors.is_empty() { Ok(part.unwrap_or_default()) } else { Err(errors) }
}

/// A configuration as TOML, which [`parse`] reads again.
///
/// # Errors
/// [`ErrorCode::Internal`], which says what TOML cannot hold.
pub fn to_toml(config: &vmlan_api::Config) -> Result<String, Error> {
    toml::to_string_pretty(config).map_err(|error| {
        Error::new(ErrorCode::Internal, format!("the configuration cannot be written as TOML: {error}"))
    })
}

/// Checks what was read, where reading itself may have found faults.
fn check(
    mut config: vmlan_api::Config,
    mut faults: Faults,
    directory: Option<&Path>,
) -> Result<ValidConfig, Faults> {
    if let Some(directory) = directory {
        resolve::resolve(&mut config, directory);
    }
    match validate(config) {
        Ok(config) if faults.is_empty() => Ok(config),
        Ok(_) => Err(faults),
        Err(errors) => {
            errors.into_iter().for_each(|error| faults.meaning(error));
            Err(faults)
        }
    }
}

/// The dotted path of a port.
fn port_path(network: &str, port: &str) -> String {
    join(&join(&join("network", network), "port"), port)
}

fn errors_of(faults: Faults) -> Vec<Error> {
    faults.into_sorted().into_iter().map(|fault| fault.error).collect()
}
