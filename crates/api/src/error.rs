//! Errors as a client sees them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ErrorCode;

/// An error: a stable code for programs, a message for people, and the member of the request that caused it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Error {
    /// The kind of error, for programs.
    pub code: ErrorCode,
    /// The fault and the cure, for people.
    pub message: String,
    /// The member at fault as a dotted path: `network.lab.port.web.mac`.
    #[serde(default)]
    pub field: Option<String>,
    /// Every single fault, where a request can have several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Error>,
}

impl Error {
    /// An error that no member of the request is at fault for.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: None, details: Vec::new() }
    }

    /// An error of the member at the dotted path `field`.
    pub fn at(code: ErrorCode, field: impl Into<String>, message: impl Into<String>) -> Self {
        let field = Some(field.into()).filter(|field| !field.is_empty());
        Self { field, ..Self::new(code, message) }
    }

    /// The error for a change at `place` that was made and does not work, for `reason`.
    pub fn not_set_up(place: &str, reason: &str) -> Self {
        Self::new(ErrorCode::NotSetUp, format!("{place}: {reason}{}", Self::STAYS))
    }

    /// The words behind the reason in such an error.
    const STAYS: &str = "; it stays and is tried again until it works or is removed";

    /// The message of an error about a change that does not stay after all.
    pub fn without_staying(&self) -> &str {
        self.message.strip_suffix(Self::STAYS).unwrap_or(&self.message)
    }

    /// The error for a network `name` that is not among the `known` ones.
    pub fn unknown_network<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Self {
        let known: Vec<_> = known.into_iter().collect();
        let message =
            format!("there is no network {}{}; {}", shown(name), meant(name, &known), listed(known));
        Self::at(ErrorCode::UnknownNetwork, "network", message)
    }

    /// The error for a port `name` that is not among the `known` ones of a network.
    pub fn unknown_port<'n>(network: &str, name: &str, known: impl IntoIterator<Item = &'n str>) -> Self {
        let known: Vec<_> = known.into_iter().collect();
        let meant = meant(name, &known);
        Self::no_such_port(&format!("{} in network {}{meant}", shown(name), shown(network)), known)
    }

    /// The error for a port that is not among the `known` ones, as whoever asked for it named it.
    pub fn no_such_port<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Self {
        let message = format!("there is no port {}; {}", shown(name), listed(known));
        Self::at(ErrorCode::UnknownPort, "port", message)
    }

    /// One error for all the faults of a configuration: the only one itself, else an
    /// [`ErrorCode::InvalidConfig`] with all of them as details, which points at the first.
    pub fn from_faults(mut faults: Vec<Error>) -> Self {
        if faults.len() == 1
            && let Some(only) = faults.pop()
        {
            return only;
        }
        let first = faults.first();
        let message = match first {
            Some(first) => {
                format!("the configuration has {} errors; the first: {}", faults.len(), first.message)
            }
            None => "the configuration is not valid".to_owned(),
        };
        Self {
            code: ErrorCode::InvalidConfig,
            message,
            field: first.and_then(|e| e.field.clone()),
            details: faults,
        }
    }
}

/// The one of several names that was probably meant, as a question.
fn meant(name: &str, known: &[&str]) -> String {
    let near = crate::nearest(name, known.iter().copied()).filter(|_| known.len() > 1);
    near.map(|near| format!(", did you mean {}?", shown(near))).unwrap_or_default()
}

/// The names, for who wrote another one.
fn listed<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    /// Names that are listed.
    const MOST: usize = 10;
    let names: Vec<_> = names.into_iter().map(shown).collect();
    let more = match names.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let first = names.iter().take(MOST).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "there is none yet".to_owned(),
        1 => format!("there is: {first}"),
        _ => format!("there are: {first}{more}"),
    }
}

/// A name that somebody wrote, as far as it is worth showing.
fn shown(name: &str) -> String {
    /// Characters of it.
    const MOST: usize = 160;
    let mut text: String = name.chars().take(MOST).collect();
    if text.len() < name.len() {
        text.push('…');
    }
    crate::escaped(&text).into_owned()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ErrorCode::{NetworkExists, PortExists, UnknownNetwork, UnknownPort};
        // Their messages name what the member named.
        let told = matches!(self.code, NetworkExists | PortExists | UnknownNetwork | UnknownPort);
        match &self.field {
            Some(field) if !told => write!(f, "{field}: {}", self.message),
            _ => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}
