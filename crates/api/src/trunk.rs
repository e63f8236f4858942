//! The trunk of a network: the host's interface that it is joined to.

use serde::{Deserialize, Serialize};

use crate::keys::{choice, table};
use crate::{Promiscuous, VlanConfig};

table! {
    /// The host's interface that a network is joined to: `interface` or `bridge`, and how.
    pub struct TrunkConfig {
        /// The interface by name.
        interface: String,
        /// Instead of an interface, a bridge of the host's that the network becomes a port of.
        bridge: String,
        /// How the interface is used; `auto` when absent.
        mode: TrunkMode,
        /// Where mode `filter` hangs its programs; `auto` when absent.
        hooks: TrunkHooks,
        /// Permission of guests to talk to the host; when absent, true where the mode can do it.
        host: bool,
        /// Permission of guests to talk to the wire; true when absent.
        wire: bool,
        /// Use of the host's address by guests that send to the wire; `auto` when absent.
        shared_mac: SharedMac,
        /// Start of the network without the interface, to be joined when it appears; false when absent.
        wait: bool,
        /// Permission of promiscuous ports to see what passes between host and wire; `deny` when absent.
        promiscuous: Promiscuous,
        /// The trunk's role in VLANs.
        vlan: VlanConfig,
    }
}

/// How a trunk uses the host's interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TrunkMode {
    /// The best that the interface and the kernel can do.
    #[default]
    Auto,
    /// The kernel diverts what is for guests, and takes what they send to either side.
    Filter,
    /// Frames of the wire are read and written beside the host's own stack, which guests do not reach.
    Packet,
    /// As `packet`, and what is for guests is handed over before the host's stack sees it (AF_XDP).
    Xdp,
    /// The interface is taken over whole, by a macvtap in its passthru mode; the host cannot use it meanwhile.
    Macvtap,
    /// The network is a port of a bridge of the host's.
    Bridge,
}

/// The hooks for the programs of a trunk in mode `filter`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TrunkHooks {
    /// tcx where the kernel has it, else clsact.
    #[default]
    Auto,
    /// The interface's own hooks (Linux 6.6), which let go of a program when its process ends.
    Tcx,
    /// Filters of a qdisc, which `tc` shows.
    Clsact,
}

/// The use of the host's address by guests that send to the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SharedMac {
    /// On for Wi-Fi, which takes frames from one address only; else off.
    #[default]
    Auto,
    /// They do.
    On,
    /// They do not.
    Off,
}

/// The state of a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TrunkState {
    /// It is being joined to the interface, or could not be; the reason says why.
    Initializing,
    /// It is joined to the interface.
    Connected,
    /// The interface is not there; it is joined when it comes.
    Gone,
    /// It gives the interface back.
    Disconnecting,
}

impl TrunkState {
    /// The state as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initializing => "initializing",
            Self::Connected => "connected",
            Self::Gone => "gone",
            Self::Disconnecting => "disconnecting",
        }
    }
}

/// A trunk as it is: an element of `GET /v1/trunks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Trunk {
    /// Its network.
    pub network: String,
    /// The interface, or the bridge.
    pub interface: String,
    /// How it is used; `auto` until it was decided.
    pub mode: TrunkMode,
    /// State of the trunk.
    pub state: TrunkState,
    /// Why it is in that state, or why the mode was chosen, where there is something to say.
    pub reason: Option<String>,
    /// True if a guest is there to use the trunk.
    pub active: bool,
    /// The sides that guests reach: `host`, `wire`.
    pub sides: Vec<String>,
    /// The host's MAC address on the interface.
    pub host_mac: Option<String>,
    /// Largest packet of the interface in octets, without Ethernet header and FCS.
    pub mtu: Option<u64>,
    /// True if the interface is up and has a carrier.
    pub carrier: bool,
    /// The host's IP addresses on the interface.
    pub host_addresses: Vec<String>,
    /// True if guests send to the wire from the host's address.
    pub shared_mac: bool,
    /// How many MAC addresses are behind the network's ports, set or heard, as far as the trunk was told of them.
    pub stations: u64,
    /// Things that were installed on the host, each in words.
    pub installed: Vec<String>,
    /// Traffic between guests and the host.
    pub host: TrunkFlow,
    /// Traffic between guests and the wire.
    pub wire: TrunkFlow,
}

/// Traffic through one side of a trunk; RX and TX from the trunk's view: RX came from that side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TrunkFlow {
    /// Frames from that side.
    pub rx_frames: u64,
    /// Octets of those, with Ethernet header, without FCS.
    pub rx_octets: u64,
    /// Frames to that side.
    pub tx_frames: u64,
    /// Octets of those, with Ethernet header, without FCS.
    pub tx_octets: u64,
}

choice!(TrunkMode {
    Auto = "auto",
    Filter = "filter",
    Packet = "packet",
    Xdp = "xdp",
    Macvtap = "macvtap",
    Bridge = "bridge",
});
choice!(TrunkHooks { Auto = "auto", Tcx = "tcx", Clsact = "clsact" });
choice!(SharedMac { Auto = "auto", On = "on", Off = "off" });
