//! The checked form of a configuration: what the rest of the daemon acts on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bpf::ValidProgram;
use drivers::tunnel::message::Prefixed;
use frame::{MacAddr, VlanId};

/// A configuration that passed every check; there is no other way to get one.
///
/// Paths in it are absolute, users resolved, and no two ports claim the same device, socket or descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidConfig {
    pub(super) source: api::Config,
    pub(super) workers: NonZeroUsize,
    pub(super) poll: api::Poll,
    pub(super) limits: UserLimits,
    pub(super) networks: BTreeMap<String, Network>,
}

impl ValidConfig {
    /// The configuration of nothing.
    pub fn empty() -> Self {
        Self::empty_for(NonZeroUsize::MIN)
    }

    /// The configuration of nothing, for so many workers.
    pub fn empty_for(workers: NonZeroUsize) -> Self {
        let source = api::Config { workers: Some(workers.get() as u64), ..api::Config::default() };
        Self {
            source,
            workers,
            poll: api::Poll::default(),
            limits: UserLimits::default(),
            networks: BTreeMap::new(),
        }
    }

    /// Worker threads of the data plane.
    pub fn workers(&self) -> NonZeroUsize {
        self.workers
    }

    /// How workers wait for traffic.
    pub fn poll(&self) -> api::Poll {
        self.poll
    }

    /// Limits for one user of the sockets.
    pub fn limits(&self) -> &UserLimits {
        &self.limits
    }

    /// The networks by name.
    pub fn networks(&self) -> &BTreeMap<String, Network> {
        &self.networks
    }

    /// One network.
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.get(name)
    }

    /// One port.
    pub fn port(&self, network: &str, name: &str) -> Option<&Port> {
        self.network(network)?.ports.get(name)
    }

    /// The numbers of the inherited descriptors.
    pub(crate) fn descriptors(&self) -> BTreeSet<RawFd> {
        let ports = self.networks.values().flat_map(|network| network.ports.values());
        let numbers = ports.filter_map(|port| match &port.attachment {
            Attachment::Tap(Tap { source: TapSource::Fd(number), .. })
            | Attachment::Stream(Stream::Fd(number))
            | Attachment::Datagram(Datagram::Fd(number)) => Some(*number),
            _ => None,
        });
        numbers.collect()
    }

    /// The unchecked form that this was made of, with paths made absolute: to be sent, stored or changed.
    pub fn as_api(&self) -> &api::Config {
        &self.source
    }
}

/// Limits for one user of the sockets. What is not set is a part of what there is, larger for root and our own user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserLimits {
    /// Clients of one VDE directory, or of one tunnel's control socket.
    pub ports: Option<usize>,
    /// Connections to the control interface.
    pub connections: Option<usize>,
    /// Streams of events.
    pub events: Option<usize>,
    /// Captures.
    pub captures: Option<usize>,
    /// Addresses learnt behind the clients of one directory or control socket.
    pub addresses: Option<usize>,
    /// Octets of memory for frames that wait for all clients.
    pub backlog: usize,
}

impl UserLimits {
    /// Room for sixteen ports that do not read at all.
    pub const DEFAULT_BACKLOG: usize = 8 << 20;
}

impl Default for UserLimits {
    fn default() -> Self {
        Self {
            ports: None,
            connections: None,
            events: None,
            captures: None,
            addresses: None,
            backlog: Self::DEFAULT_BACKLOG,
        }
    }
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its own settings.
    pub settings: NetworkSettings,
    /// The host's interface that it is joined to.
    pub trunk: Option<Trunk>,
    /// Its ports by name.
    pub ports: BTreeMap<String, Port>,
}

/// The settings of a network as such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSettings {
    /// Largest packet.
    pub mtu: Mtu,
    /// Most addresses in the forwarding database.
    pub fdb_size: usize,
    /// Time after which an address that was not seen is forgotten.
    pub ageing: Duration,
    /// Whether destinations 01-80-C2-00-00-00 to -0F are forwarded (PAUSE never is).
    pub pass_reserved: bool,
}

/// Largest packet in octets, without Ethernet header and FCS: 68 (the least of IPv4, RFC 791) to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mtu(u16);

impl Mtu {
    /// Of a network that does not say: 1500 (IEEE 802.3).
    pub const DEFAULT: Self = Self(1500);
    /// The least, and the most.
    pub const RANGE: std::ops::RangeInclusive<u64> = 68..=65535;

    /// The MTU of so many octets; `None` outside [`Mtu::RANGE`].
    pub fn new(octets: u64) -> Option<Self> {
        Self::RANGE.contains(&octets).then(|| u16::try_from(octets).ok().map(Self))?
    }

    /// Octets, without Ethernet header and FCS.
    pub fn octets(self) -> usize {
        usize::from(self.0)
    }
}

/// A port: what hangs on it and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// How the guest is reached; a change makes it reconnect.
    pub attachment: Attachment,
    /// What the guest may do; a change goes unnoticed by the guest.
    pub policy: Policy,
}

/// The host's interface that a network is joined to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trunk {
    /// Which one.
    pub interface: TrunkInterface,
    /// How it is used.
    pub mode: api::TrunkMode,
    /// What mode `filter` hangs its programs on.
    pub hooks: api::TrunkHooks,
    /// Whether guests may talk to the host; `None` where the mode decides.
    pub host: Option<bool>,
    /// Whether guests may talk to the wire.
    pub wire: bool,
    /// Whether guests share the host's address toward the wire.
    pub shared_mac: api::SharedMac,
    /// Whether the interface may appear later.
    pub wait: bool,
    /// Whether promiscuous ports see what passes between host and wire.
    pub promiscuous: bool,
    /// Its role in VLANs.
    pub vlan: Vlan,
}

/// What a trunk is joined to, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrunkInterface {
    /// An interface.
    Interface(String),
    /// A bridge of the host's.
    Bridge(String),
}

impl TrunkInterface {
    /// The name.
    pub fn name(&self) -> &str {
        match self {
            Self::Interface(name) | Self::Bridge(name) => name,
        }
    }
}

/// What a guest may do through its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its set addresses in the order given; none means that they are learnt.
    pub mac: Vec<MacAddr>,
    /// Its role in VLANs.
    pub vlan: Vlan,
    /// Whether anything passes.
    pub enabled: bool,
    /// Whether frames from other than the set addresses are dropped.
    pub guard: bool,
    /// Whether it gets a copy of every frame.
    pub promiscuous: bool,
    /// Whether that includes what passes between the two sides of the trunk.
    pub sees_trunk: bool,
    /// Whether it talks only to ports that are not isolated.
    pub isolated: bool,
    /// Frames that may wait for the guest.
    pub queue: usize,
    /// Most addresses learnt from it.
    pub quota: usize,
    /// Most floods from it, a second; 0 for any number.
    pub storm: u64,
    /// Most copies of those for all other ports together, a second; 0 for any number.
    pub copies: u64,
    /// Most traffic from it, in Mbit/s.
    pub rate: Option<u64>,
    /// What it is trusted with beyond its own affairs.
    pub roles: BTreeSet<api::Role>,
    /// Addresses that it takes over at once, each with those that begin alike.
    pub floating: Vec<Prefixed>,
    /// Rules about its frames, in order.
    pub filters: Vec<FilterRule>,
    /// Static entries of the forwarding database that point to it.
    pub static_entries: BTreeSet<(MacAddr, Option<VlanId>)>,
}

impl Policy {
    /// What a trunk may do, as far as a port's policy says it.
    pub(crate) fn of_trunk(vlan: Vlan, queue: usize, quota: usize) -> Policy {
        Policy {
            mac: Vec::new(),
            vlan,
            enabled: true,
            guard: false,
            promiscuous: false,
            sees_trunk: false,
            isolated: false,
            queue,
            quota,
            storm: 0,
            copies: 0,
            rate: None,
            roles: BTreeSet::new(),
            floating: Vec::new(),
            filters: Vec::new(),
            static_entries: BTreeSet::new(),
        }
    }
}

/// A rule about a port's frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterRule {
    /// Which way the frames go.
    pub direction: api::FilterDirection,
    /// What becomes of them.
    pub action: api::FilterAction,
    /// How it was given.
    pub source: FilterSource,
    /// Which frames: those for which it does not answer 0.
    pub program: Arc<ValidProgram>,
}

/// How a rule was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterSource {
    /// An expression of libpcap's.
    Expression(String),
    /// The file of a program.
    Program(PathBuf),
}

/// The role of a port in VLANs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vlan {
    /// None: frames pass as they are.
    None,
    /// Untagged frames belong to this VLAN (PVID).
    Access(VlanId),
    /// Tagged frames of these VLANs.
    Trunk {
        /// The VLANs carried.
        allowed: BTreeSet<VlanId>,
        /// The VLAN of untagged frames; they are dropped without one.
        native: Option<VlanId>,
    },
}

/// How a guest is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// By a TAP device.
    Tap(Tap),
    /// By a stream socket with length-prefixed frames.
    Stream(Stream),
    /// By a datagram socket, one frame a datagram.
    Datagram(Datagram),
    /// By a VDE switch directory.
    Vde(Vde),
    /// By a tunnel.
    Tunnel(Tunnel),
}

impl Attachment {
    /// Whether clients become ports of their own.
    pub fn has_clients(&self) -> bool {
        match self {
            Self::Vde(_) => true,
            Self::Tunnel(tunnel) => matches!(tunnel.source, TunnelSource::Listen { .. }),
            Self::Tap(_) | Self::Stream(_) | Self::Datagram(_) => false,
        }
    }

    /// Its kind.
    pub fn kind(&self) -> api::PortKind {
        match self {
            Self::Tap(_) => api::PortKind::Tap,
            Self::Stream(_) => api::PortKind::Stream,
            Self::Datagram(_) => api::PortKind::Datagram,
            Self::Vde(_) => api::PortKind::Vde,
            Self::Tunnel(_) => api::PortKind::Tunnel,
        }
    }
}

/// A TAP device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tap {
    /// Where the device comes from.
    pub source: TapSource,
    /// Runs before the device is opened: an absolute path.
    pub setup: Option<PathBuf>,
    /// Whether segmentation and checksums may be left to the receiver.
    pub offloads: bool,
    /// Runs after the device was closed: an absolute path.
    pub terminate: Option<PathBuf>,
}

/// Where a TAP device comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TapSource {
    /// Made, or taken over if it exists.
    Named {
        /// Its name, at most 15 octets, or a pattern with one `%d`; `None`: the setup program tells it.
        name: Option<String>,
        /// Who else may open it.
        owner: Option<u32>,
        /// Whether it stays when the daemon ends.
        persistent: bool,
        /// The file of the network namespace that it lives in; our own without one.
        netns: Option<PathBuf>,
    },
    /// Inherited.
    Fd(RawFd),
}

/// Where a socket is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// A Unix socket: an absolute path that fits a socket address.
    Unix(PathBuf),
    /// An IP socket.
    Inet(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Inet(address) => address.fmt(f),
        }
    }
}

/// Which addresses a guest may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allow(Option<Vec<Prefixed>>);

impl Allow {
    /// Only those in one of `networks`.
    pub fn only(networks: Vec<Prefixed>) -> Allow {
        Allow(Some(networks))
    }

    /// Whether a guest may have `address`. An IPv4 address mapped to IPv6 is what it is mapped from.
    pub fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.as_ref().is_none_or(|networks| networks.iter().any(|network| network.contains(address)))
    }
}

/// A stream socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stream {
    /// The guest connects.
    Listen(Address, Allow),
    /// The guest listens.
    Connect(Address),
    /// Inherited: connected, or listening.
    Fd(RawFd),
}

/// A datagram socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Datagram {
    /// The guest is who sends first.
    Listen(Address, Allow),
    /// The guest's address is known; both are of one family.
    Pair {
        /// Ours.
        local: Address,
        /// The guest's.
        remote: Address,
    },
    /// Inherited.
    Fd(RawFd),
}

/// A VDE switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vde {
    /// The directory that holds its control socket: an absolute path.
    pub directory: PathBuf,
    /// Permissions of its sockets.
    pub mode: u32,
}

/// A tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// Who is at the other end.
    pub source: TunnelSource,
    /// The next hops of packets that leave the networks of the addresses, one a family.
    pub gateways: Vec<IpAddr>,
    /// Octets of the largest packet, no more than the network's; that of the network without one.
    pub mtu: Option<Mtu>,
}

/// Who is at the other end of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelSource {
    /// Clients of a control socket.
    Listen {
        /// Its path, absolute.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Which addresses they have.
        addresses: TunnelAddresses,
    },
    /// The host's own stack.
    Device {
        /// The device's name, or a pattern.
        name: String,
        /// Its addresses, at least one.
        addresses: Vec<Prefixed>,
        /// Whether packets have packet information in front.
        packet_information: bool,
        /// The file of the network namespace that it lives in; our own without one.
        netns: Option<PathBuf>,
    },
}

/// Which addresses the clients of a control socket have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelAddresses {
    /// There is one client at a time, with these.
    Fixed(Vec<Prefixed>),
    /// Each client names its own, in one of these networks.
    Chosen {
        /// The networks.
        allowed: Vec<Prefixed>,
        /// Clients at a time.
        clients: usize,
    },
}
