//! The lists that open and close destinations.

use std::net::{IpAddr, SocketAddr};

use vmlan_frame::Instant;
use vmlan_frame::ip::begin_alike;
use vmlan_frame::wire::IpProtocol;

use super::names::Names;
use super::{Egress, Rule, To};

/// A destination that is asked about.
pub(super) struct Question<'a> {
    pub to: SocketAddr,
    pub protocol: IpProtocol,
    pub now: Instant,
    /// The names that the guest learnt addresses for.
    pub names: Option<&'a Names>,
}

impl Egress {
    /// True if the destination is open.
    #[inline]
    pub(super) fn allows(&self, question: &Question<'_>) -> bool {
        match self {
            Egress::All => true,
            Egress::Internet => !is_private(question.to.ip()),
            Egress::None => false,
            Egress::Rules(rules) => {
                rules.iter().find(|rule| rule.matches(question)).is_some_and(|rule| rule.allow)
            }
        }
    }

    /// True if a rule is about the name.
    pub(super) fn has_rule_for(&self, name: &str) -> bool {
        self.rules().iter().any(|rule| rule.to.is_name(name))
    }

    /// True if the name may be asked for outside.
    pub(super) fn is_name_open(&self, name: &str) -> bool {
        if *self == Egress::None {
            return false;
        }
        let rules = self.rules();
        let decides = |rule: &&Rule| rule.to.is_name(name) || rule.allow && rule.to == To::Any;
        let is_list = || rules.iter().any(|rule| rule.allow && matches!(rule.to, To::Name(_)));
        rules.iter().find(decides).map_or_else(|| !is_list(), |rule| rule.allow)
    }

    /// True if a rule is about some ports only.
    pub(super) fn asks_for_ports(&self) -> bool {
        self.rules().iter().any(|rule| rule.ports.is_some())
    }

    /// The names that rules are about.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rules().iter().filter_map(|rule| match &rule.to {
            To::Name(name) => Some(name.as_str()),
            To::Prefix(..) | To::Any => None,
        })
    }

    fn rules(&self) -> &[Rule] {
        match self {
            Egress::Rules(rules) => rules,
            Egress::All | Egress::Internet | Egress::None => &[],
        }
    }
}

impl Rule {
    fn matches(&self, question: &Question<'_>) -> bool {
        self.protocol.is_none_or(|protocol| protocol == question.protocol)
            && self.ports.as_ref().is_none_or(|ports| ports.contains(&question.to.port()))
            && match &self.to {
                To::Any => true,
                To::Prefix(prefix, bits) => begin_alike(*prefix, question.to.ip(), *bits),
                To::Name(pattern) => {
                    question.names.is_some_and(|names| names.has(question.to.ip(), pattern, question.now))
                }
            }
    }
}

impl To {
    fn is_name(&self, name: &str) -> bool {
        matches!(self, To::Name(pattern) if fits(pattern, name))
    }
}

/// True if a name is the pattern's, of which `*.` in front stands for one label or more.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        None => pattern == name,
        Some(domain) => name
            .strip_suffix(domain)
            .and_then(|labels| labels.strip_suffix('.'))
            .is_some_and(|labels| !labels.is_empty()),
    }
}

/// True for addresses of private networks: RFC 1918, of carriers (RFC 6598), unique local (RFC 4193) and the former
/// site-local ones (RFC 3879).
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_private() || first == 100 && second & 0xc0 == 64
        }
        IpAddr::V6(address) => address.is_unique_local() || address.segments()[0] & 0xffc0 == 0xfec0,
    }
}
