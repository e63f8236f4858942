use core::fmt;
use std::sync::Arc;

use frame::{MacAddr, VlanId};
use link::Counters;

use crate::vlan::{Membership, VlanRole};

/// A port in its network: a slot, and how often the slot was used before.
///
/// Slots are small numbers, counted from 0 and used again after a removal, so they can index an array; an id with
/// another generation names another port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(u32);

impl PortId {
    pub(crate) const fn new(slot: u16, generation: u16) -> PortId {
        PortId((generation as u32) << 16 | slot as u32)
    }

    pub(crate) const fn from_bits(bits: u32) -> PortId {
        PortId(bits)
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    /// The slot, below [`Network::MAX_PORTS`](crate::Network::MAX_PORTS).
    #[inline]
    pub const fn slot(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    /// The id for the slot's next user.
    pub(crate) const fn successor(self) -> PortId {
        PortId::new(self.0 as u16, ((self.0 >> 16) as u16).wrapping_add(1))
    }
}

impl fmt::Debug for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {}.{}", self.slot(), self.0 >> 16)
    }
}

/// A new port.
#[derive(Clone)]
pub struct PortConfig {
    /// What the port is called in messages.
    pub name: String,
    /// See [`PortPolicy::macs`].
    pub macs: Vec<MacAddr>,
    /// See [`PortPolicy::guard`].
    pub guard: bool,
    /// See [`PortPolicy::vlan`].
    pub vlan: VlanRole,
    /// See [`PortPolicy::promiscuous`].
    pub promiscuous: bool,
    /// See [`PortPolicy::sees_trunk`].
    pub sees_trunk: bool,
    /// See [`PortPolicy::isolated`].
    pub isolated: bool,
    /// See [`PortPolicy::roles`].
    pub roles: Roles,
    /// See [`PortPolicy::quota`].
    pub quota: usize,
    /// See [`PortPolicy::limits`].
    pub limits: Limits,
    /// The counters of the port's link.
    pub counters: Arc<Counters>,
}

impl PortConfig {
    /// A port with the default policy.
    pub fn new(name: impl Into<String>, counters: Arc<Counters>) -> PortConfig {
        PortConfig::with(name, PortPolicy::default(), counters)
    }

    /// A port with that policy.
    pub fn with(name: impl Into<String>, policy: PortPolicy, counters: Arc<Counters>) -> PortConfig {
        let PortPolicy { macs, guard, vlan, promiscuous, sees_trunk, isolated, roles, quota, limits } =
            policy;
        let name = name.into();
        PortConfig {
            name,
            macs,
            guard,
            vlan,
            promiscuous,
            sees_trunk,
            isolated,
            roles,
            quota,
            limits,
            counters,
        }
    }

    /// What was given to [`PortConfig::with`].
    pub(crate) fn split(self) -> (String, PortPolicy, Arc<Counters>) {
        let PortConfig {
            name,
            macs,
            guard,
            vlan,
            promiscuous,
            sees_trunk,
            isolated,
            roles,
            quota,
            limits,
            counters,
        } = self;
        let policy =
            PortPolicy { macs, guard, vlan, promiscuous, sees_trunk, isolated, roles, quota, limits };
        (name, policy, counters)
    }
}

/// What can be changed about a port while it is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortPolicy {
    /// The addresses set for the port: nobody else gets their frames or sends from them. Empty: addresses are learnt
    /// from what it sends.
    pub macs: Vec<MacAddr>,
    /// Whether a port with set addresses sends from those only. Without the guard, others are learnt too.
    pub guard: bool,
    /// The port's part in the VLANs of the network.
    pub vlan: VlanRole,
    /// Whether the port gets a copy of everything that its VLANs forward, except what goes from one side of the trunk
    /// to the other.
    pub promiscuous: bool,
    /// Whether a promiscuous port gets that too.
    pub sees_trunk: bool,
    /// Whether the port talks only to ports that are not isolated.
    pub isolated: bool,
    /// What the guest is trusted with beyond its own affairs.
    pub roles: Roles,
    /// How many addresses are learnt at most.
    pub quota: usize,
    /// How much the port may send.
    pub limits: Limits,
}

/// What a guest is trusted with beyond its own affairs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Roles {
    /// It is a DHCP server: what it leases to other guests is believed.
    pub dhcp: bool,
}

/// How much a port may send, for each worker that receives from it: one, or as many as the medium has queues. What is
/// more is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Frames that go to more than one other port: broadcast, multicast, unknown unicast.
    pub storm: Option<Rate>,
    /// Octets of all frames, without FCS.
    pub rate: Option<Rate>,
}

/// A token bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// How much it fills in a second.
    pub per_second: u64,
    /// How much it holds.
    pub burst: u64,
}

impl Limits {
    /// No limits.
    pub const NONE: Limits = Limits { storm: None, rate: None };

    /// Flooded frames a second of a port for which nothing else is said: no guest in order sends that many, and a worker
    /// carries them beside its other work.
    pub const DEFAULT_STORM: u64 = 20_000;
}

impl Rate {
    /// So many frames a second, and a fifth of that at once, but 64 at least.
    pub const fn frames(per_second: u64) -> Rate {
        let fifth = per_second / 5;
        Rate { per_second, burst: if fifth < 64 { 64 } else { fifth } }
    }

    /// So many octets a second, and a tenth of that at once, but 128 KiB at least, so that segmentation frames pass.
    pub const fn octets(per_second: u64) -> Rate {
        const LEAST: u64 = 128 << 10;
        let tenth = per_second / 10;
        Rate { per_second, burst: if tenth < LEAST { LEAST } else { tenth } }
    }
}

impl Default for Limits {
    /// Floods are limited, all traffic together is not.
    fn default() -> Self {
        Limits { storm: Some(Rate::frames(Limits::DEFAULT_STORM)), rate: None }
    }
}

impl PortPolicy {
    /// The quota when nothing else is said: room for the containers and nested guests of a guest.
    pub const DEFAULT_QUOTA: usize = 1024;
}

impl Default for PortPolicy {
    fn default() -> Self {
        PortPolicy {
            macs: Vec::new(),
            guard: true,
            vlan: VlanRole::Unset,
            promiscuous: false,
            sees_trunk: false,
            isolated: false,
            roles: Roles::default(),
            quota: PortPolicy::DEFAULT_QUOTA,
            limits: Limits::default(),
        }
    }
}

/// Why a port, or a static entry, cannot be as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// The network is full.
    #[error("port {port}: the network has {limit} ports already; remove one or use another network")]
    TooManyPorts {
        /// The port that was to be added.
        port: String,
        /// How many ports a network has at most.
        limit: usize,
    },
    /// The address is a group address or zero.
    #[error(
        "port {port}: {mac} cannot be a station's address; use one whose first octet is even, as in 52:54:00:…"
    )]
    NotAStation {
        /// The port.
        port: String,
        /// The address.
        mac: MacAddr,
    },
    /// The address belongs to another port.
    #[error("port {port}: {mac} is already set for port {owner}; give each port its own address")]
    MacTaken {
        /// The port that was to get it.
        port: String,
        /// The address.
        mac: MacAddr,
        /// The port that has it.
        owner: String,
    },
    /// The FDB has no place left that a fixed entry could take.
    #[error("port {port}: no room for {mac} in the forwarding database; make it larger")]
    FdbFull {
        /// The port.
        port: String,
        /// The address.
        mac: MacAddr,
    },
    /// The network has a trunk.
    #[error("port {port}: {trunk} is the network's trunk already; remove that one first")]
    TrunkTaken {
        /// The port that was to be the trunk.
        port: String,
        /// The trunk.
        trunk: String,
    },
    /// A guest's policy was given for the trunk, or the other way round.
    #[error("port {port} is {what}, which cannot be changed into the other; remove it and add it anew")]
    OtherKind {
        /// The port.
        port: String,
        /// What it is.
        what: &'static str,
    },
    /// The port was removed.
    #[error("{0:?} is no longer in the network")]
    Gone(PortId),
}

/// A port as the data path sees it.
pub(crate) struct Port {
    pub(crate) id: PortId,
    pub(crate) active: bool,
    pub(crate) macs: Box<[MacAddr]>,
    /// Whether only `macs` may be sent from.
    pub(crate) guard: bool,
    pub(crate) vlan: Membership,
    pub(crate) promiscuous: bool,
    pub(crate) sees_trunk: bool,
    pub(crate) isolated: bool,
    pub(crate) roles: Roles,
    pub(crate) limits: Limits,
    pub(crate) counters: Arc<Counters>,
}

impl Port {
    /// Whether the port may get what `from` sent to `vlan`.
    #[inline]
    pub(crate) fn receives(&self, from: &Port, vlan: VlanId) -> bool {
        self.active && self.id != from.id && !(self.isolated && from.isolated) && self.vlan.includes(vlan)
    }
}
