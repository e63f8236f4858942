//! The addresses that guests may reach through the uplink.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use vmlan_frame::wire::IpProtocol;

/// The part of the world that is open to guests, beside what never is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Egress {
    /// The internet and the host's local networks.
    #[default]
    All,
    /// All but private ranges.
    Internet,
    /// Nothing.
    None,
    /// The first rule that matches decides; what none matches is denied.
    Rules(Vec<Rule>),
}

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The decision.
    pub allow: bool,
    /// The addresses that it is about.
    pub to: To,
    /// The ports; all when `None`.
    pub ports: Option<RangeInclusive<u16>>,
    /// TCP or UDP; every protocol when `None`.
    pub protocol: Option<IpProtocol>,
}

/// The addresses of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// Those that begin alike in so many bits.
    Prefix(IpAddr, u8),
    /// Those that the guest got for a name from the network's DNS. In lower case without a final dot; `*.` in front
    /// stands for one label or more.
    Name(String),
    /// All.
    Any,
}
