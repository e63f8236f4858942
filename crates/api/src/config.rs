//! The configuration as it is written: the same shape in TOML and in JSON.
//!
//! Numbers are unsigned 64-bit and addresses are text here; ranges and spelling are the validator's business.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{OneOrMany, TrunkConfig};

/// A whole configuration: what the daemon shall bring about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Worker threads of the data plane; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u64>,
    /// How workers wait for traffic; adaptive when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<Poll>,
    /// Limits on what all share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsConfig>,
    /// The networks by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub network: BTreeMap<String, NetworkConfig>,
}

/// How a worker waits for traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Poll {
    /// It looks for more for a moment after work, then sleeps: idle it costs nothing.
    #[default]
    Adaptive,
    /// It never sleeps: the lowest latency, for a whole processor.
    Busy,
    /// It sleeps as soon as there is nothing: the fewest cycles.
    Sleep,
}

impl Poll {
    /// The mode as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Adaptive => "adaptive",
            Self::Busy => "busy",
            Self::Sleep => "sleep",
        }
    }
}

/// Limits on what all share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// By one user of the sockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserLimitsConfig>,
}

/// Limits for one user of the sockets, as the system names the user at the other end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserLimitsConfig {
    /// Most clients of one VDE directory, or of one tunnel's control socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<u64>,
    /// Most connections to the control interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// Most streams of events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// Most captures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captures: Option<u64>,
    /// Most addresses that are learnt behind the clients of one VDE directory or control socket; a quarter of the
    /// network's `fdb.size` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<u64>,
    /// Most memory for frames that wait for all clients, in MiB; 8 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<u64>,
}

/// One network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Largest packet in octets, without Ethernet header and FCS; 1500 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u64>,
    /// Settings of the forwarding database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fdb: Option<FdbConfig>,
    /// Whether destinations 01-80-C2-00-00-00 to -0F are forwarded (PAUSE never is); false when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass_reserved: Option<bool>,
    /// The host's interface that the network is joined to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<TrunkConfig>,
    /// The ports by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub port: BTreeMap<String, PortConfig>,
}

/// Settings of a network's forwarding database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FdbConfig {
    /// Most addresses it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Seconds after which an address that was not seen is forgotten; 300 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ageing: Option<u64>,
    /// Addresses that are always there.
    #[serde(default, rename = "static", skip_serializing_if = "Vec::is_empty")]
    pub static_entries: Vec<StaticEntry>,
}

/// An address that is always in the forwarding database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticEntry {
    /// The address: `52:54:00:00:00:01`.
    pub mac: String,
    /// The port that holds it, by name.
    pub port: String,
    /// Its VLAN; all untagged traffic when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u64>,
}

/// One port: exactly one of `tap`, `stream`, `datagram`, `vde` and `tunnel`, and its policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortConfig {
    /// A TAP device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tap: Option<TapConfig>,
    /// A stream socket with length-prefixed frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamConfig>,
    /// A datagram socket, one frame a datagram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagram: Option<DatagramConfig>,
    /// A VDE switch directory, one port a client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vde: Option<VdeConfig>,
    /// A tunnel for packets, joined to the network by proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelConfig>,
    /// The addresses that the guest may use; learnt when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<OneOrMany<String>>,
    /// The role of the port in VLANs; no VLAN when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<VlanConfig>,
    /// Whether anything passes the port; true when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whether a port with a set MAC may send from that MAC only; on when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
    /// Whether the port may see frames for others; deny when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promiscuous: Option<Promiscuous>,
    /// Whom the port talks to; everybody when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// Frames that may wait for the guest before further ones are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<u64>,
    /// Most addresses that are learnt from the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
    /// Most broadcast, multicast and unknown unicast frames that the port sends, a second; 0 for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storm: Option<u64>,
    /// Most copies that are made of those frames for all other ports together, a second; 0 for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<u64>,
    /// Most that the port sends, in Mbit/s; any amount when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// Roles of the guest beyond its own affairs; nothing when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<Role>>,
    /// Rules about the port's frames, of which the first that matches decides; what none matches passes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filter: Vec<FilterConfig>,
    /// IP addresses that the guest takes over at once when it says that it has them; the former owner is asked about others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floating: Option<OneOrMany<String>>,
}

/// A rule about a port's frames: exactly one of `expression` and `program` says about which.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterConfig {
    /// Which way the frames go; both when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<FilterDirection>,
    /// What becomes of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<FilterAction>,
    /// An expression of libpcap's: `udp port 67`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// A file with a program of classic BPF, in the form of `tcpdump -ddd -y EN10MB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
}

/// Which way a frame goes, from the port's view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterDirection {
    /// From the guest.
    In,
    /// To the guest.
    Out,
    /// Either way.
    #[default]
    Both,
}

impl FilterDirection {
    /// The direction as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Both => "both",
        }
    }
}

/// What becomes of a frame that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterAction {
    /// It is dropped, as `input_filter` or `output_filter`.
    Drop,
    /// It goes on; later rules do not see it.
    Pass,
}

impl FilterAction {
    /// The action as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Pass => "pass",
        }
    }
}

/// A TAP device: made by name, taken over by name, or inherited as a descriptor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TapConfig {
    /// Name of the device, at most 15 characters; a `%d` in it is numbered by the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// User, by name or number as text, who may open the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Whether the device stays when the daemon ends; false when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent: Option<bool>,
    /// Absolute path of a program that runs before the device is opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<String>,
    /// Absolute path of a program that runs after the device was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminate: Option<String>,
    /// Network namespace of the device: an absolute path or a name as `ip netns` knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// Number of an inherited descriptor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fd: Option<u64>,
    /// Whether segmentation and checksums may be left to the receiver; true when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offloads: Option<bool>,
}

/// A stream socket: exactly one of `listen`, `connect` and `fd`. An address is a path, or `address:port` for TCP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamConfig {
    /// The guest connects to this address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Networks of which guests may connect to a TCP address, as in `10.0.0.0/8`; every one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<OneOrMany<String>>,
    /// The guest listens at this address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<String>,
    /// Number of an inherited descriptor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fd: Option<u64>,
}

/// A datagram socket: `listen`, or `local` with `remote`, or `fd`. An address is a path, or `address:port` for UDP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatagramConfig {
    /// Our address; the guest is who sends first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Networks of which guests may send to a UDP address, as in `10.0.0.0/8`; every one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<OneOrMany<String>>,
    /// Our address, when the guest's is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
    /// The guest's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// Number of an inherited descriptor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fd: Option<u64>,
}

/// A VDE switch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VdeConfig {
    /// The directory in which clients find `ctl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Permissions of the sockets in octal: `"0660"`; `"0600"` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// A tunnel: exactly one of `listen` and `device`. Addresses are written with the bits of their network: `10.0.0.9/24`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunnelConfig {
    /// Path of the control socket at which programs ask for tunnels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Name of the kernel's device whose other end is the host: a TUN on Linux, `utun` with or without a number on macOS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The addresses of the one client, or of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<OneOrMany<String>>,
    /// The networks in which clients of the control socket choose addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<OneOrMany<String>>,
    /// The next hops of packets that leave the networks of the addresses, one a family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<OneOrMany<String>>,
    /// Largest packet in octets; the network's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u64>,
    /// Permissions of the control socket in octal; `"0600"` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Clients at a time, with `allow`; 64 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<u64>,
    /// Whether packets of the TUN have packet information in front; false when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet_information: Option<bool>,
    /// Network namespace of the device: an absolute path or a name as `ip netns` knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
}

/// The role of a port in VLANs: `access`, or `trunk` with or without `native`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VlanConfig {
    /// The VLAN of an access port, whose guest sends untagged frames (PVID).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<u64>,
    /// The VLANs that a trunk port carries tagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<Vec<u64>>,
    /// The VLAN of a trunk port's untagged frames; they are dropped when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<u64>,
}

/// Whether a port with a set MAC may send from that MAC only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// Frames from another source are dropped as `source_guard`.
    #[default]
    On,
    /// Any source is taken.
    Off,
}

/// A role that a guest may be trusted with beyond its own affairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It is a DHCP server.
    Dhcp,
}

/// Whom a port talks to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Every port.
    #[default]
    None,
    /// Ports that are not isolated, and the trunk.
    Isolated,
}

/// Whether a port may see frames that are for others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promiscuous {
    /// It never does.
    #[default]
    Deny,
    /// It does.
    Allow,
}
