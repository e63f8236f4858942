//! The names that a guest may ask for, and the addresses that it learns by them.

use std::net::IpAddr;
use std::time::Duration;

use vmlan_frame::Instant;
use vmlan_nat::reach::{Egress, To};

use super::message::Question;
use crate::{Client, Name, Ports, Settings};

/// The shortest and the longest time for which a guest may use an address that it got for an allowed name.
const LEARNED: std::ops::RangeInclusive<u32> = 60..=86_400;

/// An address that a guest got for a name that its egress list allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// The guest's port.
    pub ingress: u16,
    /// The name that it asked for.
    pub name: Name,
    /// The address.
    pub address: IpAddr,
    /// The time until which the guest may use it.
    pub until: Instant,
}

fn has_names(egress: &Egress) -> bool {
    matches!(egress, Egress::Rules(rules) if rules.iter().any(|rule| matches!(rule.to, To::Name(_))))
}

/// True if a policy lets a name be asked for: any, unless it is a list that has names, or nothing is open.
fn allows(egress: &Egress, name: &Name) -> bool {
    match egress {
        Egress::All | Egress::Internet => true,
        Egress::None => false,
        Egress::Rules(_) if !has_names(egress) => true,
        Egress::Rules(rules) => {
            let about = |to: &To| match to {
                To::Name(pattern) => matches(pattern, name),
                To::Any => true,
                To::Prefix(..) => false,
            };
            rules.iter().find(|rule| about(&rule.to)).is_some_and(|rule| rule.allow)
        }
    }
}

/// True if a name is the one of a list, or for `*.` in front has labels before it.
fn matches(pattern: &str, name: &Name) -> bool {
    let (suffix, below) = match pattern.strip_prefix("*.") {
        Some(suffix) => (suffix, true),
        None => (pattern, false),
    };
    let Ok(suffix) = Name::parse(suffix) else { return false };
    name.within(&suffix).is_some_and(|labels| labels.is_empty() != below)
}

/// The policies that a client is under: the network's, and its port's own.
fn policies<'a>(
    settings: &'a Settings,
    ports: &'a Ports,
    client: Client,
) -> impl Iterator<Item = &'a Egress> {
    let own = ports.get(client.ingress).and_then(|port| port.egress.as_ref());
    std::iter::once(&settings.egress).chain(own)
}

/// True if a client may have a name asked for.
pub fn may_ask(settings: &Settings, ports: &Ports, client: Client, name: &Name) -> bool {
    policies(settings, ports, client).all(|egress| allows(egress, name))
}

/// The addresses in an answer that a client may use from now on, where a list with names decides.
pub fn learned(
    settings: &Settings,
    ports: &Ports,
    client: Client,
    question: &Question,
    answer: &[u8],
    now: Instant,
) -> Vec<Learned> {
    if !policies(settings, ports, client).any(has_names) {
        return Vec::new();
    }
    let addresses = question.addresses(answer).into_iter().map(|(address, ttl)| Learned {
        ingress: client.ingress,
        name: question.name.clone(),
        address,
        until: now + Duration::from_secs(ttl.clamp(*LEARNED.start(), *LEARNED.end()).into()),
    });
    addresses.collect()
}

#[cfg(test)]
mod tests {
    use vmlan_nat::reach::Rule;

    use super::*;

    fn rule(allow: bool, to: To) -> Rule {
        Rule { allow, to, ports: None, protocol: None }
    }

    #[test]
    fn lists_decide_by_their_first_match() {
        let name = |text: &str| To::Name(text.into());
        let list = Egress::Rules(vec![
            rule(false, name("bad.example.org")),
            rule(true, name("*.example.org")),
            rule(true, name("example.net")),
            rule(true, To::Prefix([10, 0, 0, 0].into(), 8)),
        ]);
        for (asked, allowed) in [
            ("www.example.org", true),
            ("a.b.example.org", true),
            ("example.org", false),
            ("bad.example.org", false),
            ("example.net", true),
            ("www.example.net", false),
            ("xexample.org", false),
            ("com", false),
        ] {
            assert_eq!(allows(&list, &Name::parse(asked).unwrap()), allowed, "{asked}");
        }
        let www = Name::parse("www.example.org").unwrap();
        assert!(
            allows(&Egress::All, &www) && allows(&Egress::Internet, &www) && !allows(&Egress::None, &www)
        );
        let addresses = Egress::Rules(vec![rule(true, To::Prefix([10, 0, 0, 0].into(), 8))]);
        assert!(allows(&addresses, &www), "a list of addresses says nothing about names");
        let rest = Egress::Rules(vec![rule(false, name("example.net")), rule(true, To::Any)]);
        assert!(allows(&rest, &www));
    }
}
