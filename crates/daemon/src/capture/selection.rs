use std::fmt;
use std::str::FromStr;

/// Octets of a selection at most.
const LONGEST: usize = 256;

/// Ports to capture: a network, or one port of it with the clients that become ports of their own (`guests` selects
/// `guests.0`). Written `NETWORK` or `NETWORK/PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    pub(super) network: String,
    pub(super) port: Option<String>,
}

/// The text selects nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no network or port; write NETWORK or NETWORK/PORT")]
pub struct BadSelection(String);

impl Selection {
    /// True if the port is selected. The names of configured ports have no dot.
    pub fn includes(&self, network: &str, port: &str) -> bool {
        let is_family = |name: &String| {
            port.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.network == network && self.port.as_ref().is_none_or(is_family)
    }
}

impl FromStr for Selection {
    type Err = BadSelection;

    fn from_str(text: &str) -> Result<Selection, BadSelection> {
        let (network, port) = match text.split_once('/') {
            None => (text, None),
            Some((network, port)) => (network, Some(port)),
        };
        let is_name = |name: &str| !name.is_empty() && !name.contains('/');
        if text.len() > LONGEST || !is_name(network) || !port.is_none_or(is_name) {
            return Err(BadSelection(text.chars().take(40).collect()));
        }
        Ok(Selection { network: network.to_owned(), port: port.map(str::to_owned) })
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.network)?;
        self.port.as_ref().map_or(Ok(()), |port| write!(f, "/{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_a_network_or_a_port_with_its_clients() {
        for (text, network, port, selected) in [
            ("lab", "lab", "web", true),
            ("lab", "lab", "guests.0", true),
            ("lab", "lab2", "web", false),
            ("lab/web", "lab", "web", true),
            ("lab/web", "lab", "web2", false),
            ("lab/web", "other", "web", false),
            ("lab/guests", "lab", "guests.17", true),
            ("lab/guests.1", "lab", "guests.1", true),
            ("lab/guests.1", "lab", "guests.17", false),
        ] {
            let selection: Selection = text.parse().expect("a selection");
            assert_eq!(selection.includes(network, port), selected, "{text} {network} {port}");
            assert_eq!(selection.to_string(), text);
        }
    }

    #[test]
    fn what_selects_nothing_is_refused() {
        let long = "x".repeat(LONGEST + 1);
        for text in ["", "/", "lab/", "/web", "lab/web/x", &long] {
            let error = text.parse::<Selection>().expect_err(text).to_string();
            assert!(error.contains("NETWORK/PORT") && error.len() < 120, "{error}");
        }
    }
}
