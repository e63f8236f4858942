//! The settings of ports, trunks and users in a checked configuration, without the attachments of ports.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use vmlan_bpf::ValidProgram;
use vmlan_drivers::tunnel::message::Prefixed;
use vmlan_frame::{MacAddr, VlanId};
use vmlan_nat::reach::Egress;

use crate::uplink::UplinkSettings;

/// The name of a network's trunk among its ports.
pub const TRUNK: &str = "trunk";
/// The name of a network's uplink among its ports.
pub const UPLINK: &str = "uplink";

/// The rights and limits of a guest at its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSettings {
    /// Its set addresses in the order given; none means that they are learnt.
    pub mac: Vec<MacAddr>,
    /// Its role in VLANs.
    pub vlan: Vlan,
    /// True if any frames pass.
    pub enabled: bool,
    /// True if frames from other than the set addresses are dropped.
    pub guard: bool,
    /// True if the guest gets a copy of every frame.
    pub promiscuous: bool,
    /// True if the copies include frames between the two sides of the trunk.
    pub sees_trunk: bool,
    /// True if the guest talks only to ports that are not isolated.
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
    /// The roles that the guest is trusted with beyond its own affairs.
    pub roles: BTreeSet<vmlan_api::Role>,
    /// Addresses that it takes over at once, each with those that begin alike.
    pub floating: Vec<Prefixed>,
    /// Rules about its frames, in order.
    pub filters: Vec<FilterRule>,
    /// True if the kernel may carry its frames past the daemon.
    pub fast: bool,
    /// Static entries of the forwarding database that point to it.
    pub static_entries: BTreeSet<(MacAddr, Option<VlanId>)>,
    /// IP addresses that the network's uplink gives to the guest and to nobody else.
    pub addresses: Vec<IpAddr>,
    /// The part of the world that the guest may reach by the uplink, of that which the network may; all of that
    /// without one.
    pub egress: Option<Egress>,
    /// Of an uplink, what the configuration says of it.
    pub uplink: Option<Arc<UplinkSettings>>,
}

impl PortSettings {
    /// Returns the settings of a trunk, as far as a port's settings cover it.
    pub(crate) fn of_trunk(vlan: Vlan, queue: usize, quota: usize) -> PortSettings {
        PortSettings {
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
            fast: true,
            static_entries: BTreeSet::new(),
            addresses: Vec::new(),
            egress: None,
            uplink: None,
        }
    }

    /// Returns the settings of an uplink's port. It floods and leases, as routers do.
    pub(crate) fn of_uplink(vlan: Vlan, uplink: Arc<UplinkSettings>) -> PortSettings {
        /// Frames that may wait for the uplink, which takes them as fast as its worker gives them.
        const QUEUE: usize = 1024;
        PortSettings {
            mac: vec![uplink.rooms.mac],
            guard: true,
            roles: [vmlan_api::Role::Dhcp].into(),
            uplink: Some(uplink),
            ..PortSettings::of_trunk(vlan, QUEUE, 1)
        }
    }
}

/// A rule about a port's frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterRule {
    /// Which way the frames go.
    pub direction: vmlan_api::FilterDirection,
    /// The action on the frames that match.
    pub action: vmlan_api::FilterAction,
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

/// The host's interface that a network is joined to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trunk {
    /// Which one.
    pub interface: TrunkInterface,
    /// How it is used.
    pub mode: vmlan_api::TrunkMode,
    /// The hooks on which mode `filter` hangs its programs.
    pub hooks: vmlan_api::TrunkHooks,
    /// Permission for guests to talk to the host; `None` where the mode decides.
    pub host: Option<bool>,
    /// True if guests may talk to the wire.
    pub wire: bool,
    /// The use of the host's address by guests that send to the wire.
    pub shared_mac: vmlan_api::SharedMac,
    /// True if the interface may appear later.
    pub wait: bool,
    /// True if promiscuous ports see what passes between host and wire.
    pub promiscuous: bool,
    /// Its role in VLANs.
    pub vlan: Vlan,
}

/// The interface or bridge that a trunk is joined to, by name.
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
