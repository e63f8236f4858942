//! The configuration as it is written: the same shape in TOML and in JSON.
//!
//! Numbers are unsigned 64-bit and addresses are text here; ranges and spelling are the validator's business.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::keys::{Keyed, Value, choice, number, table};
use crate::{EgressConfig, OneOrMany, TrunkConfig, UplinkConfig};

/// A whole configuration: what the daemon shall bring about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Worker threads of the data plane; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u64>,
    /// How workers wait for traffic; adaptive when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<Poll>,
    /// Settings of the daemon as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<DaemonConfig>,
    /// Limits on what all share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsConfig>,
    /// The networks by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub network: BTreeMap<String, NetworkConfig>,
}

/// How a worker waits for traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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

table! {
    /// Settings of the daemon as a whole.
    pub struct DaemonConfig {
        /// Numeric address and port at which metrics are served over TCP: `127.0.0.1:9477`; nowhere when absent.
        metrics: String,
        /// Numeric loopback address and port at which the web page is served: `127.0.0.1:7070`; nowhere when absent.
        ui: String,
        /// Leave to change the configuration by the web page; false when absent.
        ui_writes: bool,
    }
}

table! {
    /// Limits on what all share.
    pub struct LimitsConfig {
        /// By one user of the sockets.
        user: UserLimitsConfig,
    }
}

table! {
    /// Limits for one user of the sockets, as the system names the user at the other end.
    pub struct UserLimitsConfig {
        /// Most clients of one VDE directory, or of one tunnel's control socket.
        ports: u64 = number(1, 1024, None),
        /// Most connections to the control interface.
        connections: u64 = number(1, 1024, None),
        /// Most streams of events.
        events: u64 = number(1, 1024, None),
        /// Most captures.
        captures: u64 = number(1, 1024, None),
        /// Most addresses that are learnt behind the clients of one VDE directory or control socket; a quarter of the
        /// network's `fdb.size` when absent.
        addresses: u64 = number(1, 1_048_576, None),
        /// Most memory for frames that wait for all clients, in MiB; 8 when absent.
        backlog: u64 = number(1, 4096, Some(8)),
    }
}

/// One network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Largest packet in octets, without Ethernet header and FCS; 1500 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u64>,
    /// Settings of the forwarding database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fdb: Option<FdbConfig>,
    /// Forwarding of destinations 01-80-C2-00-00-00 to -0F (PAUSE never is forwarded); false when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass_reserved: Option<bool>,
    /// The carrier of frames of interface ports that do not say it themselves; auto when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fast: Option<Fast>,
    /// The host's interface that the network is joined to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<TrunkConfig>,
    /// Addresses, names and a way out for the guests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<UplinkConfig>,
    /// The ports by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub port: BTreeMap<String, PortConfig>,
}

/// Settings of a network's forwarding database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
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

table! {
    /// One port: exactly one of `tap`, `stream`, `datagram`, `vde`, `tunnel`, `interface` and `vhost_user`, and its
    /// settings.
    pub struct PortConfig {
        /// A TAP device.
        tap: TapConfig,
        /// A stream socket with length-prefixed frames.
        stream: StreamConfig,
        /// A datagram socket, one frame a datagram.
        datagram: DatagramConfig,
        /// A VDE switch directory, one port a client.
        vde: VdeConfig,
        /// A tunnel for packets, joined to the network by proxy.
        tunnel: TunnelConfig,
        /// An interface of this host's, behind which the guest is.
        interface: InterfaceConfig,
        /// A vhost-user socket, whose guest's rings are served in the guest's own memory.
        vhost_user: VhostUserConfig,
        /// The addresses that the guest may use; learnt when absent.
        mac: OneOrMany<String>,
        /// The role of the port in VLANs; no VLAN when absent.
        vlan: VlanConfig,
        /// Lets frames pass the port; true when absent.
        enabled: bool,
        /// Lets a port with a set MAC send from that MAC only; on when absent.
        guard: Guard,
        /// Lets the port see frames for others; deny when absent.
        promiscuous: Promiscuous,
        /// Keeps the port apart from others that are kept apart; from nobody when absent.
        isolation: Isolation,
        /// Frames that may wait for the guest before further ones are dropped.
        queue: u64 = number(1, 65_536, Some(1024)),
        /// Most addresses that are learnt from the port.
        quota: u64 = number(1, 1_048_576, Some(256)),
        /// Most broadcast, multicast and unknown unicast frames that the port sends, a second; 0 for any number.
        storm: u64 = number(0, 1_000_000_000, Some(20_000)),
        /// Most copies that are made of those frames for all other ports together, a second; 0 for any number.
        copies: u64 = number(0, 1_000_000_000, Some(200_000)),
        /// Most that the port sends, in Mbit/s; any amount when absent.
        rate: u64 = number(1, 1_000_000, None),
        /// Roles of the guest beyond its own affairs; nothing when absent.
        roles: Vec<Role> = Value::Choices(&["dhcp"]),
        /// Rules about the port's frames, of which the first that matches decides; what none matches passes.
        filter: Vec<FilterConfig> = Value::Tables(<FilterConfig as Keyed>::KEYS),
        /// IP addresses that the guest takes over at once when it says that it has them; the former owner is asked
        /// about others, in a network with a trunk or where a port has this key.
        floating: OneOrMany<String>,
        /// IP addresses that the network's uplink gives to the guest and to nobody else; `::10` stands for the one with
        /// that end in the uplink's IPv6 subnet.
        address: OneOrMany<String>,
        /// The part of the world that the guest may reach by the network's uplink, of that which the network may;
        /// all of that when absent.
        egress: EgressConfig,
        /// Lets the kernel carry the port's frames where the network would only pass them on; the network's when
        /// absent.
        fast: Fast,
    }
}

table! {
    /// A rule about a port's frames: exactly one of `expression` and `program` says about which.
    pub struct FilterConfig {
        /// Which way the frames go; both when absent.
        direction: FilterDirection,
        /// The fate of those frames.
        action: FilterAction,
        /// An expression of libpcap's: `udp port 67`.
        expression: String,
        /// A file with a program of classic BPF, in the form of `tcpdump -ddd -y EN10MB`.
        program: String,
    }
}

/// Which way a frame goes, from the port's view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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

/// The fate of a frame that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FilterAction {
    /// It is dropped, as `input_filter` or `output_filter`.
    Drop,
    /// It goes on; later rules do not see it.
    Pass,
}

table! {
    /// A TAP device: made by name, taken over by name, or inherited as a descriptor.
    pub struct TapConfig {
        /// Name of the device, at most 15 characters; a `%d` in it is numbered by the kernel.
        name: String,
        /// User, by name or number as text, who may open the device.
        owner: String = Value::TextOrNumber,
        /// Keeps the device when the daemon ends; false when absent.
        persistent: bool,
        /// Absolute path of a program that runs before the device is opened.
        setup: String,
        /// Absolute path of a program that runs after the device was closed.
        terminate: String,
        /// Network namespace of the device: an absolute path or a name as `ip netns` knows it.
        netns: String,
        /// Addresses of the device, with the bits of their network: `10.0.0.1/24`; none when absent.
        address: OneOrMany<String>,
        /// Brings the device up; true when absent.
        up: bool,
        /// Number of an inherited descriptor.
        fd: u64 = number(3, u64::MAX, None),
        /// Leaves segmentation and checksums to the receiver where it takes them; true when absent.
        offloads: bool,
    }
}

table! {
    /// A stream socket: exactly one of `listen`, `connect` and `fd`. An address is a path, or `address:port` for TCP.
    pub struct StreamConfig {
        /// The guest connects to this address.
        listen: String,
        /// Networks of which guests may connect to a TCP address, as in `10.0.0.0/8`; every one when absent.
        allow: OneOrMany<String>,
        /// The guest listens at this address.
        connect: String,
        /// Number of an inherited descriptor.
        fd: u64 = number(3, u64::MAX, None),
        /// Permissions of the socket at a path that we make, in octal; `"0600"` when absent.
        mode: String,
        /// User, by name or number as text, that the socket belongs to; the daemon's when absent.
        owner: String = Value::TextOrNumber,
        /// Group, by name or number as text, that the socket belongs to; the daemon's when absent.
        group: String = Value::TextOrNumber,
    }
}

table! {
    /// A datagram socket: `listen`, or `local` with `remote`, or `fd`. An address is a path, or `address:port` for UDP.
    pub struct DatagramConfig {
        /// Our address; the guest is who sends first.
        listen: String,
        /// Networks of which guests may send to a UDP address, as in `10.0.0.0/8`; every one when absent.
        allow: OneOrMany<String>,
        /// Our address, when the guest's is known.
        local: String,
        /// The guest's address.
        remote: String,
        /// Number of an inherited descriptor.
        fd: u64 = number(3, u64::MAX, None),
        /// Permissions of the socket at a path that we make, in octal; `"0600"` when absent.
        mode: String,
        /// User, by name or number as text, that the socket belongs to; the daemon's when absent.
        owner: String = Value::TextOrNumber,
        /// Group, by name or number as text, that the socket belongs to; the daemon's when absent.
        group: String = Value::TextOrNumber,
    }
}

table! {
    /// A VDE switch.
    pub struct VdeConfig {
        /// The directory in which clients find `ctl`.
        directory: String,
        /// Permissions of the sockets in octal: `"0660"`; `"0600"` when absent.
        mode: String,
        /// User, by name or number as text, that the sockets belong to; the daemon's when absent.
        owner: String = Value::TextOrNumber,
        /// Group, by name or number as text, that the sockets belong to; the daemon's when absent.
        group: String = Value::TextOrNumber,
    }
}

table! {
    /// A tunnel: exactly one of `listen` and `device`. Addresses are written with the bits of their network:
    /// `10.0.0.9/24`.
    pub struct TunnelConfig {
        /// Path of the control socket at which programs ask for tunnels.
        listen: String,
        /// Name of the kernel's device whose other end is the host: a TUN on Linux, `utun` with or without a number on
        /// macOS.
        device: String,
        /// The addresses of the one client, or of the device.
        address: OneOrMany<String>,
        /// The networks in which clients of the control socket choose addresses.
        allow: OneOrMany<String>,
        /// The next hops of packets that leave the networks of the addresses, one a family.
        gateway: OneOrMany<String>,
        /// Largest packet in octets; the network's when absent.
        mtu: u64 = number(68, 65_535, None),
        /// Permissions of the control socket in octal; `"0600"` when absent.
        mode: String,
        /// User, by name or number as text, that the socket belongs to; the daemon's when absent.
        owner: String = Value::TextOrNumber,
        /// Group, by name or number as text, that the socket belongs to; the daemon's when absent.
        group: String = Value::TextOrNumber,
        /// Clients at a time, with `allow`; 64 when absent.
        clients: u64 = number(1, 1024, Some(64)),
        /// Says that packets of the TUN have packet information in front; false when absent.
        packet_information: bool,
        /// Network namespace of the device: an absolute path or a name as `ip netns` knows it.
        netns: String,
    }
}

table! {
    /// An interface of this host's, behind which the guest is: one that exists or will, or one that vmlan makes.
    pub struct InterfaceConfig {
        /// Name of the interface, at most 15 characters.
        name: String,
        /// The kind of interface that is made under that name; the name of one that exists, or is waited for, when
        /// absent.
        create: InterfaceKind,
        /// User, by name or number as text, who may open the TAP that is made; the daemon's own when absent and there
        /// is no group.
        owner: String = Value::TextOrNumber,
        /// Group, by name or number as text, whose members may open the TAP that is made; with an owner too, only the
        /// owner may, as a member.
        group: String = Value::TextOrNumber,
        /// Queues of the TAP that is made: with more than one, a program may open it several times.
        queues: u64 = number(1, 256, Some(1)),
        /// The other end of the veth that is made.
        peer: PeerConfig,
    }
}

table! {
    /// The guest's end of a veth.
    pub struct PeerConfig {
        /// Name of the guest's end, at most 15 characters.
        name: String,
        /// Network namespace of the guest's end: a path or a name as `ip netns` knows it; our own when absent.
        netns: String,
        /// Addresses that it gets, with the bits of their network: `10.0.0.5/24`; none when absent.
        address: OneOrMany<String>,
        /// Its MAC address; one that the kernel chooses when absent.
        mac: String,
        /// Its MTU in octets; the network's when absent.
        mtu: u64 = number(68, 65_535, None),
    }
}

table! {
    /// A vhost-user socket: exactly one of `listen`, `connect` and `fd`. An address is a path.
    pub struct VhostUserConfig {
        /// The machine monitor connects to this path.
        listen: String,
        /// The machine monitor listens at this path.
        connect: String,
        /// Number of an inherited descriptor.
        fd: u64 = number(3, u64::MAX, None),
        /// Permissions of the socket at a path that we make, in octal; `"0600"` when absent.
        mode: String,
        /// User, by name or number as text, that the socket belongs to; the daemon's when absent.
        owner: String = Value::TextOrNumber,
        /// Group, by name or number as text, that the socket belongs to; the daemon's when absent.
        group: String = Value::TextOrNumber,
        /// Most pairs of queues that the guest may use.
        queues: u64 = number(1, 63, Some(8)),
        /// Offers packed rings; true when absent.
        packed: bool,
        /// Leaves segmentation and checksums to the receiver where it takes them; true when absent.
        offloads: bool,
        /// Offers the device's configuration with its MAC address and MTU; auto when absent.
        config: ConfigSpace,
        /// Most memory of the guest that is mapped, with its unit: `"64GiB"`; `"1TiB"` when absent.
        memory: String,
        /// Refuses memory whose file the guest's side may still shrink; false when absent.
        sealed: bool,
    }
}

/// The offer of a vhost-user port to tell the device's configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConfigSpace {
    /// To machine monitors that take the MAC address and the MTU from it.
    #[default]
    Auto,
    /// To every one.
    On,
    /// To none.
    Off,
}

table! {
    /// The role of a port in VLANs: `access`, or `tagged` with or without `native`.
    pub struct VlanConfig {
        /// The VLAN of an access port, whose guest sends untagged frames (PVID).
        access: u64 = number(1, 4094, None),
        /// The VLANs whose frames pass with their tag.
        tagged formerly "trunk": Vec<u64>,
        /// The VLAN of untagged frames beside `tagged`; they are dropped when absent.
        native: u64 = number(1, 4094, None),
    }
}

/// A kind of interface that vmlan makes for a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum InterfaceKind {
    /// A persistent TAP, for a machine monitor to open by its name.
    Tap,
    /// One end of a veth, of which the guest has the other.
    Veth,
}

/// The carrier of frames between two ports whose guests are behind interfaces of this host's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Fast {
    /// The kernel, where the network would only pass them on.
    #[default]
    Auto,
    /// The daemon, always.
    Off,
}

/// The restriction of a port with a set MAC to frames from that MAC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It is a DHCP server.
    Dhcp,
}

/// The ports that a port is kept apart from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// None.
    #[default]
    None,
    /// Those that are isolated too.
    Isolated,
}

/// The permission of a port to see frames that are for others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Promiscuous {
    /// It never does.
    #[default]
    Deny,
    /// It does.
    Allow,
}

choice!(Fast { Auto = "auto", Off = "off" });
choice!(ConfigSpace { Auto = "auto", On = "on", Off = "off" });
choice!(InterfaceKind { Tap = "tap", Veth = "veth" });
choice!(Guard { On = "on", Off = "off" });
choice!(Isolation { None = "none", Isolated = "isolated" });
choice!(Promiscuous { Deny = "deny", Allow = "allow" });
choice!(FilterDirection { In = "in", Out = "out", Both = "both" });
choice!(FilterAction { Drop = "drop", Pass = "pass" });
