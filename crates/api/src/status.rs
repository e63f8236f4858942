//! The state of the daemon, its networks and its ports, as the daemon reports it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{FilterAction, FilterDirection, OneOrMany, Poll, VlanConfig};

/// The daemon as a whole: `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// State of the daemon.
    pub state: DaemonState,
    /// Seconds since it started.
    pub uptime_seconds: f64,
    /// Worker threads of the data plane.
    pub workers: u64,
    /// How they wait for traffic.
    pub poll: Poll,
    /// Number of networks.
    pub networks: u64,
    /// Number of ports.
    pub ports: u64,
    /// The configuration file, as an absolute path.
    pub config: Option<String>,
    /// Its TCP sockets, for metrics and for the web page, where the configuration has them.
    #[serde(default)]
    pub listeners: Vec<Listener>,
}

/// A TCP socket of the daemon's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Listener {
    /// The service behind it.
    pub service: Service,
    /// The address of the configuration.
    pub address: String,
    /// Why nothing is served there; it is tried again every two seconds. None where all is well.
    pub reason: Option<String>,
    /// True for a web page that may change the configuration.
    #[serde(default)]
    pub writes: bool,
}

/// A service that the daemon offers over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Metrics for Prometheus.
    Metrics,
    /// The web page.
    Ui,
}

impl Service {
    /// The service as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Ui => "ui",
        }
    }
}

/// The web page that the daemon serves: `GET /v1/ui`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WebPage {
    /// The link that opens it. It holds a secret, which is made anew when the page is served anew.
    pub link: String,
    /// True if the configuration may be changed by it.
    pub writes: bool,
}

/// The state of the daemon, from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DaemonState {
    /// It is setting up its first configuration.
    Starting,
    /// It runs.
    Running,
    /// It drains its queues and ends.
    Stopping,
}

/// A network: an element of `GET /v1/networks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Network {
    /// Its name.
    pub network: String,
    /// Largest packet in octets, without Ethernet header and FCS.
    pub mtu: u64,
    /// Number of configured ports.
    pub ports: u64,
    /// How many of them are up.
    pub ports_up: u64,
    /// Addresses in the forwarding database, static ones included.
    pub fdb_entries: u64,
    /// Most addresses that the forwarding database holds.
    pub fdb_size: u64,
    /// Seconds after which an address that was not seen is forgotten.
    pub fdb_ageing_seconds: u64,
    /// True if reserved group addresses are forwarded.
    pub pass_reserved: bool,
}

/// A port: an element of `GET /v1/ports`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Port {
    /// Its network.
    pub network: String,
    /// Its name.
    pub port: String,
    /// The number of its link, which stays the same while the daemon runs, also when the port goes and comes back; none
    /// where clients become ports of their own.
    #[serde(default)]
    pub index: Option<u32>,
    /// The kind of its attachment.
    pub kind: PortKind,
    /// State of the port: it tells if a guest can be reached.
    pub state: PortState,
    /// Why it is in that state, where there is something to say: always for `failed`.
    pub reason: Option<String>,
    /// The address to which its guests connect, a path or `HOST:PORT`; none where vmlan connects or makes a device.
    #[serde(default)]
    pub address: Option<String>,
    /// The other end: an address, a device name, or the process as far as known.
    pub peer: Option<String>,
    /// By what means its frames are moved, while it is up.
    #[serde(default)]
    pub mechanism: Option<String>,
    /// Its set MAC address or addresses.
    pub mac: Option<OneOrMany<String>>,
    /// IP addresses of the guests behind it, as far as the network's uplink knows them.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The name of a guest behind it in the domain of the network's uplink, where it has one.
    #[serde(default)]
    pub name: Option<String>,
    /// Its role in VLANs.
    pub vlan: Option<VlanConfig>,
    /// Largest packet in octets, without Ethernet header and FCS.
    pub mtu: u64,
    /// Traffic through the port.
    pub counters: Counters,
    /// The part of its traffic that the kernel carries past the daemon; only of interface ports, and of a trunk whose
    /// network has some.
    #[serde(default)]
    pub fast: Option<PortFast>,
    /// The records of a tunnel, on the link between it and its client or device, while it is up.
    #[serde(default)]
    pub tunnel: Option<Counters>,
    /// How a vhost-user port and its guest woke each other, while a machine monitor is connected.
    #[serde(default)]
    pub rings: Option<RingCounters>,
}

/// How a vhost-user port and its guest woke each other, since the port was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RingCounters {
    /// Kicks of the guest that workers heard; several that come before a worker looks are one.
    pub kicks: u64,
    /// Calls to the guest.
    pub calls: u64,
    /// Turns to which kicks had woken a worker, and that found nothing to do.
    pub empty_wakeups: u64,
    /// Rings that were found to make no sense, and were left alone from then on.
    pub broken_rings: u64,
    /// Changes of started rings, for each of which workers let go of them.
    pub quiesces: u64,
}

/// The part of a port's traffic that the kernel carries past the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PortFast {
    /// How many of its guest's addresses the kernel forwards to.
    pub stations: u64,
    /// Why everything of it goes by the daemon, where that is so.
    pub slow: Option<String>,
    /// Why the kernel carries nothing of it any more once the daemon is killed, where that is so.
    pub unpinned: Option<String>,
    /// Frames received by the kernel alone since the port came, or since the first of daemons that were killed; they
    /// are among the port's counters.
    pub rx_frames: u64,
    /// Frames sent by the kernel alone.
    pub tx_frames: u64,
}

/// The kind of a port's attachment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PortKind {
    /// A TAP device.
    #[default]
    Tap,
    /// A stream socket with length-prefixed frames.
    Stream,
    /// A datagram socket, one frame a datagram.
    Datagram,
    /// A VDE switch directory, or one client of it.
    Vde,
    /// A tunnel for packets: its control socket, one client of that, or a device.
    Tunnel,
    /// An interface of this host's, behind which the guest is.
    Interface,
    /// A vhost-user socket.
    VhostUser,
    /// The trunk of the network, which has no port's table.
    Trunk,
    /// The uplink of the network, which has none either.
    Uplink,
}

impl PortKind {
    /// Every kind that a port's table can have.
    pub const ALL: [Self; 7] =
        [Self::Tap, Self::Stream, Self::Datagram, Self::Vde, Self::Tunnel, Self::Interface, Self::VhostUser];

    /// The key of the kind in a port's table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::Stream => "stream",
            Self::Datagram => "datagram",
            Self::Vde => "vde",
            Self::Tunnel => "tunnel",
            Self::Interface => "interface",
            Self::VhostUser => "vhost_user",
            Self::Trunk => "trunk",
            Self::Uplink => "uplink",
        }
    }
}

/// The state of a port: it tells if a guest can be reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PortState {
    /// Frames flow.
    Up,
    /// Set up; no guest is there yet, or it went away.
    #[default]
    Waiting,
    /// The device is there but has no link.
    Down,
    /// It could not be set up, or was quarantined; the reason says which.
    Failed,
}

impl PortState {
    /// The state as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Waiting => "waiting",
            Self::Down => "down",
            Self::Failed => "failed",
        }
    }
}

/// Traffic through a port; RX and TX from the port's view: RX came from the guest, TX went to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Counters {
    /// Frames from the guest.
    pub rx_frames: u64,
    /// Octets of those, with Ethernet header, without FCS.
    pub rx_octets: u64,
    /// Frames among those to groups, broadcast too.
    #[serde(default)]
    pub rx_multicasts: u64,
    /// Failures to receive: of a tunnel, records that are no packet or too long. A port has its own in `drops`.
    #[serde(default)]
    pub rx_errors: u64,
    /// Frames to the guest.
    pub tx_frames: u64,
    /// Octets of those, with Ethernet header, without FCS.
    pub tx_octets: u64,
    /// Frames among those to groups, broadcast too.
    #[serde(default)]
    pub tx_multicasts: u64,
    /// Failures to send: of a tunnel, packets that its client cannot take. A port has its own in `drops`.
    #[serde(default)]
    pub tx_errors: u64,
    /// Copies that were made of the received frames for other ports: each was sent, queued or dropped there.
    pub copies: u64,
    /// Segmentation frames from the guest, each of which stands for several frames.
    #[serde(default)]
    pub rx_large: u64,
    /// Segments that those stand for.
    #[serde(default)]
    pub rx_large_segments: u64,
    /// Segmentation frames to the guest.
    #[serde(default)]
    pub tx_large: u64,
    /// Segments that those stand for.
    #[serde(default)]
    pub tx_large_segments: u64,
    /// Frames made on the way to the guest by cutting segmentation frames, besides the copies.
    #[serde(default)]
    pub segmented: u64,
    /// Copies that became part of others on the way to the guest.
    #[serde(default)]
    pub coalesced: u64,
    /// Frames that wait for the guest now.
    pub queued: u64,
    /// Frames and octets among those above whose traffic class is not best effort.
    #[serde(default)]
    pub classes: Classes,
    /// Frames from the guest to all, or to an address that nobody knows, while no other port was there to get them.
    /// They are no drops, and in the books stand beside those of the way in.
    #[serde(default)]
    pub no_receiver: u64,
    /// Frames dropped, by reason.
    pub drops: BTreeMap<String, u64>,
}

/// Traffic by class. A frame asks for its class by the priority of its VLAN tag, or without a tag by the DSCP of its
/// packet. Best effort is what the other classes leave of the port's frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Classes {
    /// Priorities 1 and 2, DSCP CS1 and LE.
    pub background: ClassCounters,
    /// Priorities 4 and 5, DSCP CS3 to CS5, AF3x and AF4x.
    pub video: ClassCounters,
    /// Priorities 6 and 7, DSCP VOICE-ADMIT, EF, CS6 and CS7.
    pub voice: ClassCounters,
}

impl Classes {
    /// The classes in the order of their urgency, with their names.
    pub fn named(&self) -> [(&'static str, &ClassCounters); 3] {
        [("background", &self.background), ("video", &self.video), ("voice", &self.voice)]
    }
}

/// Traffic of one class through a port; octets with Ethernet header, without FCS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ClassCounters {
    /// Frames from the guest.
    pub rx_frames: u64,
    /// Octets of those.
    pub rx_octets: u64,
    /// Frames to the guest.
    pub tx_frames: u64,
    /// Octets of those.
    pub tx_octets: u64,
}

/// The counters of a port: an element of `GET /v1/counters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PortCounters {
    /// Its network.
    pub network: String,
    /// Its name.
    pub port: String,
    /// Traffic through the port.
    pub counters: Counters,
    /// Those of a vhost-user port's rings, while a machine monitor is connected.
    #[serde(default)]
    pub rings: Option<RingCounters>,
}

/// A rule about a port's frames: an element of `GET /v1/filters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Filter {
    /// Its network.
    pub network: String,
    /// Its port.
    pub port: String,
    /// Its place among the port's rules, from 1.
    pub number: u64,
    /// Which way the frames go.
    pub direction: FilterDirection,
    /// Action on the frames.
    pub action: FilterAction,
    /// The expression, where it was given as one.
    pub expression: Option<String>,
    /// The file of the program, where it was given as one.
    pub program: Option<String>,
    /// Frames that it matched.
    pub frames: u64,
    /// Octets of those, with Ethernet header and tag, without FCS.
    pub octets: u64,
}

/// An address in a network's forwarding database: an element of `GET /v1/networks/{n}/fdb`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FdbEntry {
    /// The address.
    pub mac: String,
    /// Its VLAN; `null` without VLANs.
    pub vlan: Option<u64>,
    /// The port behind which it is.
    pub port: String,
    /// True if the address is configured rather than learnt.
    #[serde(rename = "static")]
    pub is_static: bool,
    /// Seconds since it was last seen; `null` for a configured one.
    pub age_seconds: Option<f64>,
    /// True if the kernel forwards to it, where nothing has to see the frame.
    #[serde(default)]
    pub fast: bool,
    /// IP addresses of the guest that has it, as far as the network's uplink knows them.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The guest's name in the domain of the network's uplink, where it has one.
    #[serde(default)]
    pub name: Option<String>,
}
