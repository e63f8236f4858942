//! Masking: addresses, names and paths are replaced by pseudonyms, each everywhere by the same.
//!
//! It is done in two passes. [`Masker::learn`] reads every document and remembers what stands where a name or a path
//! stands, such as `owner` or `listen` of the configuration. Then [`Masker::value`] and [`Masker::text`] replace what
//! was learnt wherever it stands, and what looks like an address or a path by itself. A pseudonym is never looked at
//! again. Nothing here keeps more than it was given.

mod scan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

/// Kinds of what is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Mac,
    Ipv4,
    Ipv6,
    Host,
    User,
    Path,
}

impl Kind {
    /// The beginning of the kind's pseudonyms.
    fn prefix(self) -> &'static str {
        match self {
            Self::Mac => "mac",
            Self::Ipv4 => "ip4",
            Self::Ipv6 => "ip6",
            Self::Host => "host",
            Self::User => "user",
            Self::Path => "path",
        }
    }
}

/// Kinds of document: what a member of one name holds differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// A configuration.
    Configuration,
    /// An answer of the control interface, or an event.
    Answer,
}

/// Members of a configuration that hold paths, where they hold no address.
const PATHS: [&str; 12] = [
    "listen",
    "connect",
    "directory",
    "local",
    "remote",
    "setup",
    "terminate",
    "netns",
    "program",
    "file",
    "efi",
    "ipxe",
];
/// Members of a configuration that hold names of hosts, where they hold no address.
const HOSTS: [&str; 7] = ["domain", "search", "servers", "ntp", "server", "allow", "deny"];
/// Members of an answer that hold names of hosts.
const NAMES: [&str; 3] = ["name", "domain", "resolvers"];
/// Members of an answer that hold a path and nothing else, where they begin as one.
const PLACES: [&str; 5] = ["config", "address", "peer", "program", "listen"];
/// Members of a configuration that hold names of users and groups.
const USERS: [&str; 2] = ["owner", "group"];
/// The longest name that is looked for everywhere: a path of Linux.
const LONGEST: usize = 4096;
/// A shorter name is replaced only where a name stands: it would be found in every other word.
const SHORTEST: usize = 3;

/// Words of the documents themselves. A guest that calls itself by one is masked only where a guest's name stands, so
/// that it cannot make the archive unreadable.
const WORDS: [&str; 64] = [
    "tap",
    "stream",
    "datagram",
    "vde",
    "tunnel",
    "interface",
    "vhost_user",
    "trunk",
    "uplink",
    "network",
    "port",
    "waiting",
    "down",
    "failed",
    "connected",
    "initializing",
    "gone",
    "disconnecting",
    "running",
    "starting",
    "stopping",
    "auto",
    "off",
    "all",
    "none",
    "internet",
    "user",
    "kernel",
    "filter",
    "packet",
    "xdp",
    "macvtap",
    "bridge",
    "host",
    "wire",
    "root",
    "adaptive",
    "busy",
    "sleep",
    "dynamic",
    "static",
    "set",
    "drop",
    "pass",
    "both",
    "out",
    "tcp",
    "udp",
    "echo",
    "peers",
    "open",
    "reset",
    "deny",
    "allow",
    "isolated",
    "dhcp",
    "veth",
    "vmlan",
    "uid",
    "pid",
    "null",
    "true",
    "false",
    "masked",
];

/// Originals that were seen, and their pseudonyms.
#[derive(Debug, Default)]
pub struct Masker {
    pseudonyms: HashMap<(Kind, String), usize>,
    counts: BTreeMap<Kind, usize>,
    /// Names and paths that are replaced everywhere, in lower case.
    words: HashMap<String, Kind>,
    /// Their lengths in octets by their first octet, the longest last.
    lengths: HashMap<u8, Vec<usize>>,
}

impl Masker {
    /// Remembers a name or path, which is then replaced wherever it stands.
    pub fn know(&mut self, kind: Kind, name: &str) {
        let name = name.trim().to_ascii_lowercase();
        let is_number = name.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.');
        if !(SHORTEST..=LONGEST).contains(&name.len()) || is_number || WORDS.contains(&name.as_str()) {
            return;
        }
        let lengths = self.lengths.entry(name.as_bytes()[0]).or_default();
        if let Err(place) = lengths.binary_search(&name.len()) {
            lengths.insert(place, name.len());
        }
        self.words.entry(name).or_insert(kind);
    }

    /// Remembers the names and paths of a document.
    pub fn learn(&mut self, document: Document, value: &Value) {
        self.learn_member(document, "", value);
    }

    fn learn_member(&mut self, document: Document, key: &str, value: &Value) {
        match value {
            Value::Object(members) => {
                members.iter().for_each(|(key, value)| self.learn_member(document, key, value));
            }
            Value::Array(values) => values.iter().for_each(|value| self.learn_member(document, key, value)),
            Value::String(text) => {
                if let Some(kind) = role(document, key, text) {
                    self.know(kind, text);
                }
                for name in described(key, text) {
                    self.know(Kind::User, name);
                }
            }
            _ => {}
        }
    }

    /// Replaces what is to be in a document.
    pub fn value(&mut self, document: Document, value: Value) -> Value {
        self.member(document, "", value)
    }

    fn member(&mut self, document: Document, key: &str, value: Value) -> Value {
        match value {
            Value::Object(members) => {
                let mut masked = Map::new();
                for (name, value) in members {
                    let value = self.member(document, &name, value);
                    // These are the names of networks and ports, the only ones that are no words of ours.
                    let mut name = if matches!(key, "network" | "port") { self.text(&name) } else { name };
                    // Two that differ in case only have one pseudonym.
                    while masked.contains_key(&name) {
                        name.push('_');
                    }
                    masked.insert(name, value);
                }
                Value::Object(masked)
            }
            Value::Array(values) => {
                Value::Array(values.into_iter().map(|value| self.member(document, key, value)).collect())
            }
            Value::String(text) => Value::String(match role(document, key, &text) {
                Some(kind) => self.name(kind, &text),
                None => self.text(&text),
            }),
            other => other,
        }
    }

    /// The pseudonym of a whole name or path.
    fn name(&mut self, kind: Kind, name: &str) -> String {
        let name = name.trim().to_ascii_lowercase();
        // What is a path here and a host there is one thing.
        let kind = self.words.get(&name).copied().unwrap_or(kind);
        self.pseudonym(kind, name)
    }

    fn pseudonym(&mut self, kind: Kind, original: String) -> String {
        let count = self.counts.entry(kind).or_default();
        let number = *self.pseudonyms.entry((kind, original)).or_insert_with(|| {
            *count += 1;
            *count
        });
        format!("{}-{number}", kind.prefix())
    }
}

/// The kind of name that a member holds as a whole.
fn role(document: Document, key: &str, text: &str) -> Option<Kind> {
    let is_number = text.bytes().all(|octet| octet.is_ascii_digit());
    if text.trim().is_empty() || is_number {
        return None;
    }
    let holds = |keys: &[&str]| keys.contains(&key) && !scan::has_address(text);
    match document {
        Document::Configuration if holds(&PATHS) => Some(Kind::Path),
        // A rule without a name is a word or a sign: `*`.
        Document::Configuration if holds(&HOSTS) => {
            text.bytes().any(|octet| octet.is_ascii_alphabetic()).then_some(Kind::Host)
        }
        Document::Configuration if USERS.contains(&key) && text != "root" => Some(Kind::User),
        Document::Answer if holds(&NAMES) => Some(Kind::Host),
        Document::Answer if PLACES.contains(&key) && text.starts_with('/') => Some(Kind::Path),
        _ => None,
    }
}

/// Names that a peer gave of itself: all that is between the first parenthesis and the last one, as in
/// `uid 1000 (alice)`, and the words of it, since a peer may write parentheses too, and other documents cut it off.
fn described<'a>(key: &str, text: &'a str) -> impl Iterator<Item = &'a str> {
    let text = if key == "peer" { text } else { "" };
    let own = text.split_once('(').map_or("", |(_, own)| own.rsplit_once(')').map_or(own, |(own, _)| own));
    let words = own.split(|character: char| character.is_whitespace() || "()".contains(character));
    std::iter::once(own).chain(words.filter(|word| word.len() > SHORTEST))
}
