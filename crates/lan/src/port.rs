use core::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use vmlan_frame::ip::begin_alike;
use vmlan_frame::offload::MAX_DATAGRAMS;
use vmlan_frame::{Account, MacAddr, SlotKey, VlanId};

use crate::group::Group;
use crate::guard::Stages;
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
}

impl SlotKey for PortId {
    fn first(slot: usize) -> PortId {
        PortId::new(slot as u16, 0)
    }

    #[inline]
    fn slot(self) -> usize {
        PortId::slot(self)
    }

    fn successor(self) -> PortId {
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
    /// The port's name in messages.
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
    /// See [`PortPolicy::enabled`].
    pub enabled: bool,
    /// See [`PortPolicy::isolated`].
    pub isolated: bool,
    /// See [`PortPolicy::roles`].
    pub roles: Roles,
    /// See [`PortPolicy::floating`].
    pub floating: Vec<Prefix>,
    /// See [`PortPolicy::quota`].
    pub quota: usize,
    /// See [`PortPolicy::limits`].
    pub limits: Limits,
    /// See [`PortPolicy::fast`].
    pub fast: bool,
    /// The ports with which this one shares what it may flood and learn; `None` for a port that has it alone.
    pub group: Option<Arc<Group>>,
    /// The account of the port's link.
    pub account: Account,
}

impl PortConfig {
    /// A port with the default policy.
    pub fn new(name: impl Into<String>, account: impl Into<Account>) -> PortConfig {
        PortConfig::with(name, PortPolicy::default(), account)
    }

    /// A port with that policy.
    pub fn with(name: impl Into<String>, policy: PortPolicy, account: impl Into<Account>) -> PortConfig {
        let PortPolicy {
            macs,
            guard,
            vlan,
            promiscuous,
            sees_trunk,
            enabled,
            isolated,
            roles,
            floating,
            quota,
            limits,
            fast,
        } = policy;
        PortConfig {
            name: name.into(),
            macs,
            guard,
            vlan,
            promiscuous,
            sees_trunk,
            enabled,
            isolated,
            roles,
            floating,
            quota,
            limits,
            fast,
            group: None,
            account: account.into(),
        }
    }

    /// Splits the configuration into the arguments of [`PortConfig::with`], and the group.
    pub(crate) fn split(self) -> (String, PortPolicy, Account, Option<Arc<Group>>) {
        let PortConfig {
            name,
            macs,
            guard,
            vlan,
            promiscuous,
            sees_trunk,
            enabled,
            isolated,
            roles,
            floating,
            quota,
            limits,
            fast,
            group,
            account,
        } = self;
        let policy = PortPolicy {
            macs,
            guard,
            vlan,
            promiscuous,
            sees_trunk,
            enabled,
            isolated,
            roles,
            floating,
            quota,
            limits,
            fast,
        };
        (name, policy, account, group)
    }
}

/// The settings of a port that can be changed while it is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortPolicy {
    /// The addresses set for the port: nobody else gets their frames or sends from them. Empty: addresses are learnt
    /// from what it sends.
    pub macs: Vec<MacAddr>,
    /// True if a port with set addresses sends from those only. Without the guard, others are learnt too.
    pub guard: bool,
    /// The port's part in the VLANs of the network.
    pub vlan: VlanRole,
    /// True if the port gets a copy of everything that its VLANs forward, except what goes from one side of the trunk
    /// to the other.
    pub promiscuous: bool,
    /// True if a promiscuous port also gets what goes from one side of the trunk to the other.
    pub sees_trunk: bool,
    /// True if anything passes the port, in either direction.
    pub enabled: bool,
    /// True if the port talks only to ports that are not isolated.
    pub isolated: bool,
    /// Roles that the guest is trusted with beyond its own affairs.
    pub roles: Roles,
    /// IP addresses that the guest takes over at once when it says that it has them. Of any other address the former
    /// owner is asked first, in a network that has a trunk or in which a port has floating addresses.
    pub floating: Vec<Prefix>,
    /// How many addresses are learnt at most.
    pub quota: usize,
    /// How much the port may send.
    pub limits: Limits,
    /// True if a fast way may carry the port's frames past the switch.
    pub fast: bool,
}

/// IP addresses that begin alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    /// One of them.
    pub address: IpAddr,
    /// How many bits are alike.
    pub len: u8,
}

impl Prefix {
    /// True if the prefix contains `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        begin_alike(self.address, address, self.len)
    }
}

/// The roles that a guest is trusted with beyond its own affairs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Roles {
    /// It is a DHCP server: what it leases to other guests is believed.
    pub dhcp: bool,
}

/// How much a port may send, for each worker that receives from it: one, or as many as the medium has queues. What is
/// more is dropped. A frame that asks for segmentation counts as the frames that it stands for.
///
/// The ports of a [`Group`] share `storm` and `copies`, whatever workers receive from them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Frames that go to more than one other port: broadcast, multicast, unknown unicast.
    pub storm: Option<Rate>,
    /// Copies that are made of those for all other ports together.
    pub copies: Option<Rate>,
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
    pub const NONE: Limits = Limits { storm: None, copies: None, rate: None };

    /// Flooded frames a second of a port for which nothing else is said: no guest in order sends that many, and a
    /// worker carries them beside its other work.
    pub const DEFAULT_STORM: u64 = 20_000;

    /// Copies a second of such frames: a network of ten guests hears all that [`Limits::DEFAULT_STORM`] lets pass, and
    /// one of a thousand 200 floods a second, for which a worker needs no more than a part of its time.
    pub const DEFAULT_COPIES: u64 = 200_000;

    /// Returns the rate at which a port of a group may flood before it has to leave something to the others: a
    /// sixteenth of the group's rate.
    pub(crate) fn fair_part(&self) -> Option<Rate> {
        let part =
            |rate: Rate| Rate { per_second: (rate.per_second / 16).max(1), burst: (rate.burst / 16).max(16) };
        self.storm.map(part)
    }
}

impl Rate {
    /// So many frames a second, and a twentieth of that at once, but as many as one frame of UDP can be cut into at
    /// least: TCP floods nothing.
    pub const fn frames(per_second: u64) -> Rate {
        Rate::with_burst(per_second, per_second / 20, MAX_DATAGRAMS as u64)
    }

    /// So many copies a second, and a twentieth of that at once, but [`Rate::LEAST_COPIES`] at least.
    pub const fn copies(per_second: u64) -> Rate {
        Rate::with_burst(per_second, per_second / 20, Rate::LEAST_COPIES)
    }

    /// Copies that can always be made at once: twice as many as a network has ports, so that the ports of a group can
    /// leave each other a half.
    pub const LEAST_COPIES: u64 = 2 * crate::Network::MAX_PORTS as u64;

    /// So many octets a second, and a tenth of that at once, but 128 KiB at least, so that segmentation frames pass.
    pub const fn octets(per_second: u64) -> Rate {
        Rate::with_burst(per_second, per_second / 10, 128 << 10)
    }

    const fn with_burst(per_second: u64, burst: u64, least: u64) -> Rate {
        Rate { per_second, burst: if burst < least { least } else { burst } }
    }
}

impl Default for Limits {
    /// Floods are limited, all traffic together is not.
    fn default() -> Self {
        Limits {
            storm: Some(Rate::frames(Limits::DEFAULT_STORM)),
            copies: Some(Rate::copies(Limits::DEFAULT_COPIES)),
            rate: None,
        }
    }
}

impl PortPolicy {
    /// The quota when nothing else is said: room for the containers and nested guests of a guest.
    pub const DEFAULT_QUOTA: usize = 256;
}

impl Default for PortPolicy {
    fn default() -> Self {
        PortPolicy {
            macs: Vec::new(),
            guard: true,
            vlan: VlanRole::Unset,
            promiscuous: false,
            sees_trunk: false,
            enabled: true,
            isolated: false,
            roles: Roles::default(),
            floating: Vec::new(),
            quota: PortPolicy::DEFAULT_QUOTA,
            limits: Limits::default(),
            fast: true,
        }
    }
}

/// Why a port, or a static entry, cannot be as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
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
        /// The port's kind, in words.
        what: &'static str,
    },
    /// The port was removed.
    #[error("{0:?} is no longer in the network")]
    Gone(PortId),
}

/// A port as the data path sees it.
pub(crate) struct Port {
    pub(crate) id: PortId,
    /// True if the port gets frames.
    pub(crate) active: bool,
    /// True if the network takes frames from the port.
    pub(crate) enabled: bool,
    pub(crate) macs: Box<[MacAddr]>,
    /// True if the port may send from `macs` only.
    pub(crate) guard: bool,
    pub(crate) vlan: Membership,
    pub(crate) promiscuous: bool,
    pub(crate) sees_trunk: bool,
    pub(crate) isolated: bool,
    pub(crate) roles: Roles,
    /// The addresses that the port takes over at once.
    pub(crate) floating: Box<[Prefix]>,
    /// The stages that examine the port's frames after admission.
    pub(crate) stages: Stages,
    /// The limits of the port alone.
    pub(crate) limits: Limits,
    /// The limits that the port shares with its group.
    pub(crate) shared: Option<Share>,
    pub(crate) account: Account,
}

/// A port's part in the budgets of its group.
pub(crate) struct Share {
    pub(crate) group: Arc<Group>,
    /// The group's.
    pub(crate) limits: Limits,
}

impl Port {
    /// True if the port may get what `from` sent to `vlan`.
    #[inline]
    pub(crate) fn receives(&self, from: &Port, vlan: VlanId) -> bool {
        self.active && self.id != from.id && !(self.isolated && from.isolated) && self.vlan.includes(vlan)
    }
}
