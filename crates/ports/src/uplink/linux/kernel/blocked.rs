//! Other programs' firewalls that keep the guests in.
//!
//! An accepting rule of our table does not undo a drop of another table at the same hook. So a chain of forwarded
//! packets that drops by its policy, in a table that has no rule for our device, is told, with the cure.

use serde_json::Value;

/// A firewall in the way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Blocker {
    /// The program whose rules they are, as far as they tell.
    pub(super) owner: String,
    /// The commands that let the guests through.
    pub(super) cure: String,
    /// True if it drops IPv6.
    pub(super) v6: bool,
    /// True if it is not of nftables.
    pub(super) legacy: bool,
}

impl Blocker {
    /// The words for people.
    pub(super) fn note(&self) -> String {
        format!("blocked by {}: forwarded packets are dropped; {}", self.owner, self.cure)
    }

    fn new(owner: &str, device: &str, place: (&str, &str, &str)) -> Blocker {
        let v6 = place.0 == "ip6";
        let cure = match owner {
            "docker" => format!(
                "run `iptables -I DOCKER-USER -i {device} -j ACCEPT` and `iptables -I DOCKER-USER -o {device} -j ACCEPT`, \
                 again when Docker is started anew"
            ),
            "firewalld" => format!(
                "run `firewall-cmd --zone=trusted --add-interface={device}`, again when firewalld is loaded anew"
            ),
            "ufw" => {
                format!("run `ufw route allow in on {device}` and `ufw route allow out on {device}`")
            }
            "iptables" => format!(
                "run `iptables -I FORWARD -i {device} -j ACCEPT` and `iptables -I FORWARD -o {device} -j ACCEPT` \
                 (ip6tables as well)"
            ),
            _ => {
                let (family, table, chain) = place;
                format!(
                    "run `nft insert rule {family} {table} {chain} iifname {device} accept` and \
                     `nft insert rule {family} {table} {chain} oifname {device} accept`"
                )
            }
        };
        Blocker { owner: owner.to_owned(), cure, v6, legacy: false }
    }
}

/// Names in the rules by which their program is known.
const KNOWN: [(&str, &str); 6] = [
    ("DOCKER", "docker"),
    ("docker", "docker"),
    ("ufw-", "ufw"),
    ("ufw6-", "ufw"),
    ("LIBVIRT", "libvirt"),
    ("libvirt", "libvirt"),
];

fn owner(names: &[&str]) -> Option<&'static str> {
    let known = KNOWN.iter().find(|(prefix, _)| names.iter().any(|name| name.starts_with(prefix)));
    known.map(|(_, owner)| *owner)
}

/// The firewalls in the way by what `nft -j list ruleset` says.
pub(super) fn in_nft(listing: &str, device: &str) -> Vec<Blocker> {
    let Ok(listing) = serde_json::from_str::<Value>(listing) else { return Vec::new() };
    let objects = listing["nftables"].as_array().map_or(&[][..], Vec::as_slice);
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let place = |value: &Value| (text(value, "family"), text(value, "table"));
    let chains: Vec<_> = objects.iter().map(|object| &object["chain"]).filter(|it| it.is_object()).collect();
    let rules: Vec<_> = objects.iter().map(|object| &object["rule"]).filter(|it| it.is_object()).collect();
    let mut blockers = Vec::new();
    for chain in chains.iter().filter(|chain| chain["hook"] == "forward" && chain["type"] == "filter") {
        let here = place(chain);
        let (family, table) = &here;
        if table.starts_with("vmlan_") || !matches!(family.as_str(), "ip" | "ip6" | "inet") {
            continue;
        }
        let name = text(chain, "name");
        let of_table = || rules.iter().filter(|rule| place(rule) == here);
        // firewalld's chain ends with a rule that refuses what none of its zones has let through.
        let refuses = |rule: &&&Value| {
            text(rule, "chain") == name
                && rule["expr"].as_array().is_some_and(|expressions| {
                    matches!(&expressions[..], [only] if only.get("reject").is_some() || only.get("drop").is_some())
                })
        };
        if chain["policy"] != "drop" && of_table().find(refuses).is_none() {
            continue;
        }
        if of_table().any(|rule| names_device(&rule["expr"], device)) {
            continue;
        }
        let names: Vec<String> =
            chains.iter().filter(|other| place(other) == here).map(|other| text(other, "name")).collect();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.push(table);
        let owner = match table.as_str() {
            "firewalld" => "firewalld",
            _ => owner(&names).unwrap_or(match (family.as_str(), table.as_str(), name.as_str()) {
                ("ip" | "ip6", "filter", "FORWARD") => "iptables",
                _ => table,
            }),
        };
        blockers.push(Blocker::new(owner, device, (family, table, &name)));
    }
    blockers.sort();
    blockers.dedup();
    blockers
}

/// True if an expression compares something with the device's name, or with a prefix of it as iptables writes `name+`.
fn names_device(expression: &Value, device: &str) -> bool {
    match expression {
        Value::String(text) => match text.strip_suffix('*') {
            Some(prefix) => !prefix.is_empty() && device.starts_with(prefix),
            None => text == device,
        },
        Value::Array(all) => all.iter().any(|one| names_device(one, device)),
        Value::Object(all) => all.values().any(|one| names_device(one, device)),
        _ => false,
    }
}

/// The firewall in the way by what `iptables-save` says of tables that are not nftables'.
pub(super) fn in_legacy(listing: &str, family: &str, device: &str) -> Option<Blocker> {
    let mut in_filter = false;
    let (mut drops, mut names, mut has_rule) = (false, Vec::new(), false);
    for line in listing.lines() {
        if let Some(table) = line.strip_prefix('*') {
            in_filter = table == "filter";
        } else if in_filter && let Some(chain) = line.strip_prefix(':') {
            drops |= chain.starts_with("FORWARD DROP");
            names.extend(chain.split(' ').next());
        } else if in_filter && line.starts_with("-A") {
            has_rule |= line.split(' ').any(|word| word == device);
        }
    }
    (drops && !has_rule).then(|| {
        let owner = owner(&names).unwrap_or("iptables");
        Blocker { legacy: true, ..Blocker::new(owner, device, (family, "filter", "FORWARD")) }
    })
}

#[cfg(test)]
#[path = "blocked_tests.rs"]
mod tests;
