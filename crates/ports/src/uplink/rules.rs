//! The rules of nftables for a network whose way out is the host's kernel, as text.
//!
//! The driver has decided on every packet before the kernel sees it; the rules translate addresses, keep strangers from
//! the guests and guests from the host, and hold the network's list once more, for flows that there are already.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use vmlan_frame::wire::IpProtocol;
use vmlan_nat::envelope::{Subnet4, Subnet6};
use vmlan_nat::reach::{Egress, Rule, To};

use super::egress::{PRIVATE4, PRIVATE6};
use super::forwards::Inward;

/// Everything that the rules follow from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan<'a> {
    /// The table's name.
    pub(super) table: &'a str,
    /// The device behind which the guests are.
    pub(super) device: &'a str,
    /// The guests' IPv4 addresses.
    pub(super) subnet: Subnet4,
    /// The guests' IPv6 addresses.
    pub(super) subnet6: Option<Subnet6>,
    /// The part of the world that is open to the guests.
    pub(super) egress: &'a Egress,
    /// Forwards.
    pub(super) inward: &'a [Inward],
    /// A number that differs from that of the rules before.
    pub(super) generation: u64,
}

/// The chain whose only rule has the generation as its comment.
pub(super) const GENERATION: &str = "generation";

/// The comment of the rule in [`GENERATION`].
pub(super) fn mark(generation: u64) -> String {
    format!("rules {generation}")
}

/// Commands that replace the table's rules in one step, one on each line; each line ends where a command may be cut.
pub(super) fn text(plan: &Plan<'_>) -> String {
    let Plan { table, device, .. } = plan;
    let mut text = String::new();
    // Both of them, so that the first time is as all others.
    let _ = writeln!(text, "table inet {table} {{ flags owner; }}");
    let _ = writeln!(text, "flush table inet {table}");
    let _ = writeln!(text, "table inet {table} {{");
    line(&mut text, "flags owner");
    chain(&mut text, "to_guests", None, &to_guests());
    chain(&mut text, "from_guests", None, &from_guests(plan));
    chain(&mut text, "to_host", None, &to_host());
    let hook = "type nat hook prerouting priority dstnat; policy accept";
    chain(&mut text, "prerouting", Some(hook), &prerouting(plan));
    let hook = "type nat hook postrouting priority srcnat; policy accept";
    chain(&mut text, "postrouting", Some(hook), &postrouting(plan));
    let jumps =
        [format!("iifname \"{device}\" jump from_guests"), format!("oifname \"{device}\" jump to_guests")];
    chain(&mut text, "forward", Some("type filter hook forward priority filter; policy accept"), &jumps);
    let jumps = [format!("iifname \"{device}\" jump to_host")];
    chain(&mut text, "input", Some("type filter hook input priority filter; policy accept"), &jumps);
    let mark = format!("return comment \"{}\"", mark(plan.generation));
    chain(&mut text, GENERATION, None, &[mark]);
    text.push_str("}\n");
    text
}

/// The same in one line, as an interactive nft takes it: commands of one line are one transaction.
pub(super) fn in_one_line(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    for part in text.lines().map(str::trim) {
        whole.push_str(part);
        whole.push_str(if part.ends_with(['{', ';']) { " " } else { "; " });
    }
    whole.push('\n');
    whole
}

fn line(text: &mut String, rule: &str) {
    let _ = writeln!(text, "\t{rule};");
}

fn chain(text: &mut String, name: &str, hook: Option<&str>, rules: &[String]) {
    let _ = writeln!(text, "\tchain {name} {{");
    hook.into_iter().chain(rules.iter().map(String::as_str)).for_each(|rule| {
        let _ = writeln!(text, "\t\t{rule};");
    });
    text.push_str("\t}\n");
}

/// The path to and from the outside may be narrower than the network (RFC 4459).
const CLAMP: &str = "tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu";

fn to_guests() -> Vec<String> {
    let rules = [CLAMP, "ct state established,related accept", "ct status dnat accept", "drop"];
    rules.map(str::to_owned).to_vec()
}

fn from_guests(plan: &Plan<'_>) -> Vec<String> {
    let mut rules = vec![
        format!("oifname \"{}\" drop", plan.device),
        "ct state invalid drop".to_owned(),
        CLAMP.to_owned(),
        // Answers to callers, and errors about what is open.
        "ct direction reply ct state established,related accept".to_owned(),
        "ct state related accept".to_owned(),
        format!("ip saddr != {} drop", plan.subnet),
    ];
    rules.push(match plan.subnet6 {
        Some(subnet) => format!("ip6 saddr != {subnet} drop"),
        None => "meta nfproto ipv6 drop".to_owned(),
    });
    match plan.egress {
        Egress::All => rules.push("accept".to_owned()),
        Egress::Internet => {
            rules.push(format!("ip daddr {PRIVATE4} drop"));
            rules.push(format!("ip6 daddr {PRIVATE6} drop"));
            rules.push("accept".to_owned());
        }
        Egress::None => {}
        Egress::Rules(list) => rules.extend(list.iter().filter_map(rule)),
    }
    rules.push("drop".to_owned());
    rules
}

/// One line of a list. A name is no address, and opens nothing here.
fn rule(rule: &Rule) -> Option<String> {
    let to = match &rule.to {
        To::Any => String::new(),
        To::Prefix(address @ IpAddr::V4(_), bits) => format!("ip daddr {address}/{bits} "),
        To::Prefix(address @ IpAddr::V6(_), bits) => format!("ip6 daddr {address}/{bits} "),
        To::Name(_) => return None,
    };
    let word = match rule.protocol {
        Some(IpProtocol::TCP) => Some("tcp"),
        Some(IpProtocol::UDP) => Some("udp"),
        _ => None,
    };
    let upper = match (&rule.ports, word) {
        (None, None) => String::new(),
        (None, Some(word)) => format!("meta l4proto {word} "),
        (Some(ports), Some(word)) => format!("{word} dport {} ", range(ports)),
        (Some(ports), None) => format!("meta l4proto {{ tcp, udp }} th dport {} ", range(ports)),
    };
    Some(format!("{to}{upper}{}", if rule.allow { "accept" } else { "drop" }))
}

fn range(ports: &RangeInclusive<u16>) -> String {
    match (ports.start(), ports.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}

/// Services of the network and of the host are the driver's: of guests, the host's own sockets see answers alone, and
/// neighbours' messages (RFC 4890 section 4.4.1).
fn to_host() -> Vec<String> {
    let rules = [
        "ct state established,related accept",
        "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept",
        "drop",
    ];
    rules.map(str::to_owned).to_vec()
}

fn prerouting(plan: &Plan<'_>) -> Vec<String> {
    let forward = |forward: &Inward| {
        let Inward { transport, at, guest } = forward;
        // Answers to link-local addresses are not let out.
        let (family, link) = match at.is_ipv4() {
            true => ("ip", "169.254.0.0/16"),
            false => ("ip6", "fe80::/10"),
        };
        let to = match at.ip().is_unspecified() {
            true => "fib daddr type local".to_owned(),
            false => format!("{family} daddr {}", at.ip()),
        };
        format!(
            "iifname != \"{}\" {family} saddr != {link} {to} {} dport {} dnat {family} to {guest}",
            plan.device,
            transport.as_str(),
            at.port()
        )
    };
    plan.inward.iter().map(forward).collect()
}

fn postrouting(plan: &Plan<'_>) -> Vec<String> {
    let masquerade = |family: &str, subnet: &str| {
        format!(
            "{family} saddr {subnet} {family} daddr != {subnet} oifname != \"{}\" masquerade",
            plan.device
        )
    };
    let v6 = plan.subnet6.map(|subnet| masquerade("ip6", &subnet.to_string()));
    [masquerade("ip", &plan.subnet.to_string())].into_iter().chain(v6).collect()
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
