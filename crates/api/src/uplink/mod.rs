//! The uplink of a network: addresses, names and a way out for its guests.

mod config;
mod state;

pub use config::{
    BootConfig, DenyAnswer, DhcpConfig, DnsConfig, EgressConfig, EgressRuleConfig, EgressWord, Switch,
    UdpFilter, UplinkConfig, UplinkLimitsConfig, UplinkMode, UplinkVlanConfig,
};
pub use state::{Flow, FlowCounts, FlowDirection, Forward, ForwardRequest, Lease, LeaseSource, Uplink};
