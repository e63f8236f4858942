//! All attacks, a module for each theme.

mod addresses;
mod clients;
mod control;
mod descriptors;
mod frames;
mod identity;
mod log;
mod offloads;
mod paths;
mod trunk;
mod uplink;
mod vhost;

use crate::attack::Attack;

/// The beginning of a log line that a peer forged.
pub(crate) const FORGED: &str = "0000-00-00T00:00:00.000000Z ERROR forged";

/// A theme: its name, and its attacks.
pub struct Theme {
    /// Its name, for the command line.
    pub name: &'static str,
    /// Its attacks.
    pub attacks: &'static [&'static dyn Attack],
}

/// Every theme.
pub const ALL: &[Theme] = &[
    Theme { name: "frames", attacks: frames::ALL },
    Theme { name: "offloads", attacks: offloads::ALL },
    Theme { name: "addresses", attacks: addresses::ALL },
    Theme { name: "descriptors", attacks: descriptors::ALL },
    Theme { name: "clients", attacks: clients::ALL },
    Theme { name: "paths", attacks: paths::ALL },
    Theme { name: "log", attacks: log::ALL },
    Theme { name: "control", attacks: control::ALL },
    Theme { name: "identity", attacks: identity::ALL },
    Theme { name: "uplink", attacks: uplink::ALL },
    Theme { name: "trunk", attacks: trunk::ALL },
    Theme { name: "vhost", attacks: vhost::ALL },
];

/// The attacks of these names, which are of attacks or themes, or all; or the names that there are not.
///
/// # Errors
/// The names that are none.
pub fn choose(names: &[String]) -> Result<Vec<&'static dyn Attack>, Vec<String>> {
    let all = || ALL.iter().flat_map(|theme| theme.attacks.iter().map(move |attack| (theme.name, *attack)));
    let is = |name: &str, (theme, attack): &(&str, &dyn Attack)| *theme == name || attack.card().name == name;
    let unknown: Vec<String> =
        names.iter().filter(|name| !all().any(|one| is(name, &one))).cloned().collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let wanted = all().filter(|one| names.is_empty() || names.iter().any(|name| is(name, one)));
    Ok(wanted.map(|(_, attack)| attack).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn names(chosen: &[&str]) -> Result<Vec<&'static str>, Vec<String>> {
        let chosen: Vec<String> = chosen.iter().map(|name| (*name).to_owned()).collect();
        choose(&chosen).map(|attacks| attacks.iter().map(|attack| attack.card().name).collect())
    }

    #[test]
    fn names_are_unique_and_no_themes() {
        let all = names(&[]).expect("all");
        let unique: HashSet<_> = all.iter().copied().chain(ALL.iter().map(|theme| theme.name)).collect();

        assert_eq!(unique.len(), all.len() + ALL.len());
    }

    #[test]
    fn attacks_are_chosen_by_their_names_and_themes() {
        assert_eq!(names(&["broadcasts"]), Ok(vec!["broadcasts"]));
        assert!(names(&["frames"]).is_ok_and(|names| names.len() > 5));
        assert_eq!(names(&["frames", "nonsense"]), Err(vec!["nonsense".to_owned()]));
    }
}
