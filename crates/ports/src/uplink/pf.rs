//! The rules of pf for a network whose way out is the host's kernel, as the text of an anchor (pf.conf(5)).
//!
//! As with nftables ([`super::rules`] on Linux), the driver has decided on every packet before the kernel sees it; the
//! rules translate addresses, keep strangers from the guests and guests from the host, and hold the network's list once
//! more. What has a state passes before any of them, so answers need no rule.

use std::fmt::Write as _;
use std::net::IpAddr;

use vmlan_frame::wire::IpProtocol;
use vmlan_nat::envelope::{Subnet4, Subnet6};
use vmlan_nat::reach::{Egress, Rule, To};

use super::egress::{PRIVATE4, PRIVATE6};
use super::forwards::Inward;

/// Everything that the rules follow from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan<'a> {
    /// The device behind which the guests are.
    pub(super) device: &'a str,
    /// The guests' IPv4 addresses, and the interface that IPv4's default route leads to.
    pub(super) subnet: (Subnet4, Option<&'a str>),
    /// The same of IPv6.
    pub(super) subnet6: Option<(Subnet6, Option<&'a str>)>,
    /// The part of the world that is open to the guests.
    pub(super) egress: &'a Egress,
    /// Forwards.
    pub(super) inward: &'a [Inward],
}

/// The anchor's rules: translation before filters, as pf wants them.
pub(super) fn text(plan: &Plan<'_>) -> String {
    let mut text = String::new();
    let rules = translation(plan).into_iter().chain(from_guests(plan)).chain(to_guests(plan));
    rules.for_each(|rule| {
        let _ = writeln!(text, "{rule}");
    });
    text
}

/// The mark of a caller's packet.
const FORWARDED: &str = "vmlan_forwarded";

fn translation(plan: &Plan<'_>) -> Vec<String> {
    let nat = |family: &str, subnet: &str, way: Option<&str>| {
        way.map(|way| format!("nat on {way} {family} from {subnet} to ! {subnet} -> ({way})"))
    };
    let (subnet, way) = plan.subnet;
    let v4 = nat("inet", &subnet.to_string(), way);
    let v6 = plan.subnet6.and_then(|(subnet, way)| nat("inet6", &subnet.to_string(), way));
    let forward = |forward: &Inward| {
        let Inward { transport, at, guest } = forward;
        let family = if at.is_ipv4() { "inet" } else { "inet6" };
        let to = match at.ip().is_unspecified() {
            true => "self".to_owned(),
            false => at.ip().to_string(),
        };
        format!(
            "rdr pass on ! {} {family} proto {} from any to {to} port {} tag {FORWARDED} -> {} port {}",
            plan.device,
            transport.as_str(),
            at.port(),
            guest.ip(),
            guest.port()
        )
    };
    v4.into_iter().chain(v6).chain(plan.inward.iter().map(forward)).collect()
}

fn from_guests(plan: &Plan<'_>) -> Vec<String> {
    let device = plan.device;
    let closed = |hosts: &str| format!("block drop in quick on {device} {hosts}");
    let mut rules = vec![
        // Neighbours' messages (RFC 4890 section 4.4.1) are the host's own.
        format!(
            "pass in quick on {device} inet6 proto icmp6 all icmp6-type {{ neighbrsol, neighbradv }} no state"
        ),
        closed(&format!("inet from ! {} to any", plan.subnet.0)),
    ];
    rules.push(match plan.subnet6 {
        Some((subnet, _)) => closed(&format!("inet6 from ! {subnet} to any")),
        None => closed("inet6 all"),
    });
    rules.push(closed("from any to self"));
    let open = format!("pass in quick on {device} all keep state");
    match plan.egress {
        Egress::All => rules.push(open),
        Egress::Internet => {
            rules.push(closed(&format!("inet from any to {PRIVATE4}")));
            rules.push(closed(&format!("inet6 from any to {PRIVATE6}")));
            rules.push(open);
        }
        Egress::None => {}
        Egress::Rules(list) => {
            rules.extend(list.iter().flat_map(protocols).filter_map(|(rule, word)| line(device, rule, word)));
        }
    }
    rules.push(closed("all"));
    rules
}

/// The host and its callers reach guests; others do not.
fn to_guests(plan: &Plan<'_>) -> Vec<String> {
    let device = plan.device;
    vec![
        format!("pass out quick on {device} all tagged {FORWARDED} keep state"),
        format!("pass out quick on {device} from self to any keep state"),
        format!("block drop out quick on {device} all"),
    ]
}

/// The lines of a rule: pf has ports only with a protocol.
fn protocols(rule: &Rule) -> Vec<(&Rule, Option<&'static str>)> {
    match (rule.protocol, &rule.ports) {
        (Some(IpProtocol::TCP), _) => vec![(rule, Some("tcp"))],
        (Some(IpProtocol::UDP), _) => vec![(rule, Some("udp"))],
        (_, Some(_)) => vec![(rule, Some("tcp")), (rule, Some("udp"))],
        (_, None) => vec![(rule, None)],
    }
}

/// One line of a list. A name is no address, and opens nothing here.
fn line(device: &str, rule: &Rule, protocol: Option<&str>) -> Option<String> {
    let (family, to) = match &rule.to {
        To::Any => ("", "any".to_owned()),
        To::Prefix(address @ IpAddr::V4(_), bits) => ("inet ", format!("{address}/{bits}")),
        To::Prefix(address @ IpAddr::V6(_), bits) => ("inet6 ", format!("{address}/{bits}")),
        To::Name(_) => return None,
    };
    let protocol = protocol.map(|word| format!("proto {word} ")).unwrap_or_default();
    let ports = rule.ports.as_ref().map(|ports| match (ports.start(), ports.end()) {
        (first, last) if first == last => format!(" port {first}"),
        (first, last) => format!(" port {first}:{last}"),
    });
    let ports = ports.unwrap_or_default();
    let (action, state) = if rule.allow { ("pass", " keep state") } else { ("block drop", "") };
    Some(format!("{action} in quick on {device} {family}{protocol}from any to {to}{ports}{state}"))
}

/// The interface of a default route, by what `route -n get default` says.
pub(super) fn way_out(answer: &str) -> Option<&str> {
    let name = answer.lines().find_map(|line| line.trim().strip_prefix("interface:"))?.trim();
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric();
    (!name.is_empty() && name.len() <= 15 && name.bytes().all(is_plain)).then_some(name)
}

#[cfg(test)]
#[path = "pf_tests.rs"]
mod tests;
