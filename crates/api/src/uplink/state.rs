//! Uplinks as they are: elements of listings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::UplinkMode;
use crate::{PortState, Timestamp};

/// An uplink as it is: `GET /v1/networks/{n}/uplink`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Uplink {
    /// Its network.
    pub network: String,
    /// The carrier of what leaves.
    pub mode: UplinkMode,
    /// State of its port.
    pub state: PortState,
    /// Why it is in that state, where there is something to say.
    pub reason: Option<String>,
    /// The gateway's MAC address.
    pub mac: String,
    /// The gateway's addresses with the bits of their subnet: `10.213.5.1/24`.
    pub gateway: Vec<String>,
    /// The addresses of the host's services, where some are opened.
    pub host: Vec<String>,
    /// The ports of the host's that are opened: `8000=/run/x.sock`.
    pub host_services: Vec<String>,
    /// The addresses that DHCP gives: `10.213.5.16-10.213.5.250`; none without DHCP.
    pub pool: Option<String>,
    /// The domain of the guests' names; none without DNS.
    pub domain: Option<String>,
    /// The servers that are asked for other names now.
    pub resolvers: Vec<String>,
    /// The part of the world that guests may reach: a word, or the rules.
    pub egress: Vec<String>,
    /// True if IPv6 leads to the internet.
    pub ipv6_route: bool,
    /// Leases that are given.
    pub leases: u64,
    /// Addresses that DHCP can give.
    pub pool_size: u64,
    /// Flows that are open, of all guests.
    pub flows: FlowCounts,
    /// Most flows of a guest, of each kind.
    pub flows_limit: u64,
    /// Octets that are kept for what is on its way, of all guests.
    pub kept_octets: u64,
    /// Things that it lacks on this host, or that block it, each in words with the cure.
    pub notes: Vec<String>,
    /// Packets of guests that were not carried, by reason.
    pub drops: BTreeMap<String, u64>,
}

/// Numbers of flows by protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FlowCounts {
    /// Connections of TCP.
    pub tcp: u64,
    /// Mappings of UDP.
    pub udp: u64,
    /// Guests' echo identifiers.
    pub echo: u64,
}

/// An address that a guest has: an element of `GET /v1/networks/{n}/leases`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Lease {
    /// Its network.
    pub network: String,
    /// The address.
    pub address: String,
    /// The guest's MAC address.
    pub mac: String,
    /// The port that the guest is behind, or was behind last.
    pub port: Option<String>,
    /// The guest's name in the network's domain.
    pub name: Option<String>,
    /// The end of the lease; none where it has no end.
    pub until: Option<Timestamp>,
    /// The way in which the guest came to it.
    pub source: LeaseSource,
}

/// The way in which a guest came to its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LeaseSource {
    /// It is set on the guest's port.
    Set,
    /// DHCP gave it.
    Dynamic,
    /// The guest took it by itself.
    Static,
}

impl LeaseSource {
    /// The source as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Dynamic => "dynamic",
            Self::Static => "static",
        }
    }
}

/// A connection of a guest's, or what is kept as one: an element of `GET /v1/networks/{n}/flows`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Flow {
    /// Its network.
    pub network: String,
    /// Its number, which no other flow of the uplink gets while the daemon runs.
    pub id: u64,
    /// `tcp`, `udp` or `icmp`.
    pub protocol: String,
    /// The side that began it.
    pub direction: FlowDirection,
    /// The guest's port.
    pub port: String,
    /// The guest's address and number.
    pub guest: String,
    /// The other side's; of UDP the one heard or sent to last.
    pub peer: Option<String>,
    /// State of the flow, in a word.
    pub state: String,
    /// Octets from the guest.
    pub rx_octets: u64,
    /// Octets to the guest.
    pub tx_octets: u64,
    /// Octets that are kept for it now.
    pub kept_octets: u64,
    /// Seconds since it began.
    pub age_seconds: f64,
    /// Seconds since the last packet.
    pub idle_seconds: f64,
}

/// The side that began a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FlowDirection {
    /// The guest.
    Out,
    /// A caller, by a forward.
    In,
}

impl FlowDirection {
    /// The direction as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}

/// A forward: an element of `GET /v1/networks/{n}/forwards`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Forward {
    /// Its network.
    pub network: String,
    /// Its number, which no other forward of the uplink gets while the daemon runs.
    pub id: u64,
    /// The forward as it is written: `127.0.0.1:2222=web:22`.
    pub spec: String,
    /// The addresses that are listened at.
    pub listen: Vec<String>,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The guest's port.
    pub port: String,
    /// True if the configuration has it; false if it was added at run time.
    pub configured: bool,
    /// Why it does not work, where that is so.
    pub reason: Option<String>,
    /// Callers so far.
    pub calls: u64,
}

/// The body of `POST /v1/networks/{n}/forwards`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ForwardRequest {
    /// The forward: `127.0.0.1:2222=web:22`.
    pub forward: String,
}
