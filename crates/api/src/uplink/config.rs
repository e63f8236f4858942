use serde::{Deserialize, Serialize};

use crate::OneOrMany;
use crate::keys::{Keyed, Typed, Value, choice, number, table};

table! {
    /// The uplink of a network: addresses, names and a way out for its guests.
    pub struct UplinkConfig {
        /// The carrier of what leaves the network; `user` when absent.
        mode: UplinkMode,
        /// The guests' IPv4 subnet: `10.213.5.0/24`; one that follows from the network's name when absent.
        subnet: String,
        /// The guests' IPv6 subnet: `ula`, a prefix of 64 bits, or `off`; `ula` when absent.
        ipv6: String,
        /// Tells guests that can do without IPv4 to; false when absent.
        ipv6_only: bool,
        /// The DHCP server, or false for none.
        dhcp: Switch<DhcpConfig>,
        /// The DNS server, or false for none.
        dns: Switch<DnsConfig>,
        /// The part of the world that guests may reach; `all` when absent.
        egress: EgressConfig,
        /// The answer to guests about what they may not reach; `reset` when absent.
        deny: DenyAnswer,
        /// Ports of this host's that guests reach: `5432`, `8000=5432`, `8000=/run/x.sock`; none when absent.
        host: OneOrMany<String>,
        /// Addresses of this host's that lead to guests: `127.0.0.1:2222=web:22`; none when absent.
        forward: OneOrMany<String>,
        /// Limits on what guests may use.
        limits: UplinkLimitsConfig,
        /// The VLAN that the uplink is in; none when absent.
        vlan: UplinkVlanConfig,
        /// Permission to serve a LAN that a trunk joins the network to; false when absent.
        services_on_lan: bool,
        /// The peers whose datagrams reach a guest; `peers` when absent.
        udp_filter: UdpFilter,
        /// With mode `kernel`, has Docker and firewalld let the guests through; false when absent.
        integrate: bool,
        /// The gateway's MAC address; one that follows from the machine and the network's name when absent.
        mac: String,
    }
}

table! {
    /// The DHCP server of an uplink.
    pub struct DhcpConfig {
        /// The addresses that it gives: `10.213.5.16-10.213.5.250`; from .16 to .250 when absent, or what of it is in
        /// the subnet.
        pool: String,
        /// Seconds of a lease.
        lease: u64 = number(60, 604_800, Some(3600)),
        /// Time servers that it names; none when absent.
        ntp: OneOrMany<String>,
        /// Files that guests boot from; none when absent.
        boot: BootConfig,
    }
}

table! {
    /// Files that guests boot from over the network.
    pub struct BootConfig {
        /// The server of the files, an address or a name; the gateway when absent.
        server: String,
        /// The file for machines with a BIOS, and for all that no other key names one for.
        file: String,
        /// The file for machines with UEFI.
        efi: String,
        /// The file or URL for a loader that is iPXE already.
        ipxe: String,
    }
}

table! {
    /// The DNS server of an uplink.
    pub struct DnsConfig {
        /// The domain of the guests' names; `NETWORK.internal` when absent.
        domain: String,
        /// Servers that are asked for other names: `host` for those of this host, or addresses; `host` when absent.
        servers: OneOrMany<String>,
        /// Domains that guests search for short names beside their own; none when absent.
        search: OneOrMany<String>,
        /// Leaves IPv6 addresses out of answers, with `ipv6 = "off"`; false when absent.
        filter_aaaa: bool,
    }
}

table! {
    /// Limits on what each guest may use of an uplink, and all of them.
    pub struct UplinkLimitsConfig {
        /// Most connections of TCP, and as many mappings of UDP.
        flows: u64 = number(1, 65_536, Some(4096)),
        /// Most new connections and mappings, a second.
        new_per_second: u64 = number(1, 1_000_000, Some(500)),
        /// Most memory for what is on its way, in MiB.
        memory: u64 = number(1, 1024, Some(16)),
        /// Most traffic of all guests together, each way, in Mbit/s; any when 0.
        rate: u64 = number(0, 1_000_000, Some(0)),
    }
}

table! {
    /// The VLAN that an uplink is in.
    pub struct UplinkVlanConfig {
        /// Its number.
        access: u64 = number(1, 4094, None),
    }
}

table! {
    /// One rule about what guests may reach: exactly one of `allow` and `deny`.
    pub struct EgressRuleConfig {
        /// Addresses that they may reach: `*.example.org:443`, `203.0.113.7:22/tcp`, `192.168.0.0/16`.
        allow: String,
        /// Addresses that they may not.
        deny: String,
    }
}

/// A table, or only whether there is what it describes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "{T}Switch"))]
#[serde(untagged)]
pub enum Switch<T> {
    /// With all that is usual, or not at all.
    Only(bool),
    /// As the table says.
    With(T),
}

impl<T> Switch<T> {
    /// The table, if there is one.
    pub fn table(&self) -> Option<&T> {
        match self {
            Self::Only(_) => None,
            Self::With(table) => Some(table),
        }
    }

    /// True unless it is switched off.
    pub fn is_on(&self) -> bool {
        !matches!(self, Self::Only(false))
    }
}

impl<T: Keyed> Typed for Switch<T> {
    const VALUE: Value = Value::SwitchOrTable(T::KEYS);
}

/// The part of the world that guests may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum EgressConfig {
    /// A part with a name.
    Word(EgressWord),
    /// A list: the first rule that matches decides, and what none matches is denied.
    Rules(Vec<EgressRuleConfig>),
}

impl Typed for EgressConfig {
    const VALUE: Value = Value::WordOrTables(EgressWord::WORDS, EgressRuleConfig::KEYS);
}

/// A part of the world with a name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EgressWord {
    /// The internet and the host's local networks.
    #[default]
    All,
    /// All but private ranges.
    Internet,
    /// Nothing.
    None,
}

impl EgressWord {
    const WORDS: &'static [&'static str] = match <Self as Typed>::VALUE {
        Value::Choice(words) => words,
        _ => &[],
    };
}

/// The carrier of what leaves a network by its uplink.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum UplinkMode {
    /// Sockets of the daemon's.
    #[default]
    User,
    /// The kernel of this host.
    Kernel,
    /// Nothing leaves: there are only addresses and names.
    None,
}

/// The answer to guests about what they may not reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DenyAnswer {
    /// A reset for TCP, an error for all else.
    #[default]
    Reset,
    /// None.
    Drop,
}

/// The peers whose datagrams reach a guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum UdpFilter {
    /// Those at addresses that the guest sent to.
    #[default]
    Peers,
    /// All.
    Open,
}

choice!(EgressWord { All = "all", Internet = "internet", None = "none" });
choice!(UplinkMode { User = "user", Kernel = "kernel", None = "none" });
choice!(DenyAnswer { Reset = "reset", Drop = "drop" });
choice!(UdpFilter { Peers = "peers", Open = "open" });
