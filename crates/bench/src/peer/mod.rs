//! The ways to join the two namespaces.

mod bridge;
mod ends;
pub mod forwarder;
pub mod guests;
pub mod interface;
mod ovs;
mod relay;
pub mod router;
mod vde;
pub mod vhost;
pub mod vmlan;
pub mod way_out;

pub use ends::Ends;

use crate::relay::Mechanism;
use crate::row::Programs;
use crate::world::World;

pub use relay::{hook, start as start_relay, trunk as trunk_relay};

/// A way to join the two namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// vmlan with two TAP ports, and what its configuration says of `poll`
    Vmlan { poll: Option<&'static str> },
    /// vmlan's VDE port with two TAP plugs
    VmlanVde,
    /// Linux bridge and veth, with their offloads: segments of up to 64 KiB, no checksums
    Bridge,
    /// Linux bridge and veth without offloads
    BridgePlain,
    /// vde_switch with two TAP plugs
    VdeSwitch,
    /// Open vSwitch in user space with two TAPs
    OvsTap { tso: bool },
    /// Open vSwitch in user space with two veth pairs through AF_PACKET, with TSO
    OvsVeth,
    /// Open vSwitch in user space with two veth pairs through AF_XDP, polling
    OvsAfXdp,
    /// vmlan with two interface ports that are ends of veths
    VmlanInterfaces { keys: interface::Keys, name: &'static str },
    /// vmlan with a trunk on the end of the first of two veths, and an interface port on that of the other
    VmlanWire { keys: &'static str, name: &'static str },
    /// A bare ring between the ends of two veths, by the programs of interface ports
    RelayInterfaces,
    /// A veth, and nothing in between
    Cable,
    /// No switch: a loop between two TAPs
    Relay { mechanism: Mechanism, offloads: bool },
}

impl Join {
    /// vmlan as it comes.
    pub const VMLAN: Join = Join::Vmlan { poll: None };
    /// vmlan that never sleeps.
    pub const VMLAN_BUSY: Join = Join::Vmlan { poll: Some("busy") };

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Join::Vmlan { poll: None } => "vmlan",
            Join::Vmlan { poll: Some(_) } => "vmlan-busy",
            Join::VmlanVde => "vmlan-vde",
            Join::VmlanInterfaces { name, .. } | Join::VmlanWire { name, .. } => name,
            Join::RelayInterfaces => "relay-hooks",
            Join::Cable => "no switch",
            Join::Bridge => "bridge",
            Join::BridgePlain => "bridge-plain",
            Join::VdeSwitch => "vde-switch",
            Join::OvsTap { tso: false } => "ovs-tap",
            Join::OvsTap { tso: true } => "ovs-tap-tso",
            Join::OvsVeth => "ovs-veth-tso",
            Join::OvsAfXdp => "ovs-afxdp",
            Join::Relay { mechanism: Mechanism::Epoll, offloads: false } => "relay-epoll",
            Join::Relay { mechanism: Mechanism::Epoll, offloads: true } => "relay-epoll-offloads",
            Join::Relay { mechanism: Mechanism::Busy, offloads: false } => "relay-busy",
            Join::Relay { mechanism: Mechanism::Busy, offloads: true } => "relay-busy-offloads",
            Join::Relay { mechanism: Mechanism::Uring, offloads: false } => "relay-uring",
            Join::Relay { mechanism: Mechanism::Uring, offloads: true } => "relay-uring-offloads",
        }
    }

    /// Programs of others that it needs.
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            Join::BridgePlain => &["ethtool"],
            Join::VdeSwitch => &["vde_switch", "vde_plug2tap"],
            Join::VmlanVde => &["vde_plug2tap"],
            Join::OvsTap { .. } | Join::OvsVeth | Join::OvsAfXdp => &ovs::PROGRAMS,
            Join::Vmlan { .. }
            | Join::VmlanInterfaces { .. }
            | Join::VmlanWire { .. }
            | Join::RelayInterfaces
            | Join::Cable
            | Join::Bridge
            | Join::Relay { .. } => &[],
        }
    }

    /// Joins the namespaces of `world`: afterwards each has its interface, which is not up yet.
    ///
    /// # Errors
    /// A file that cannot be written; [`Unavailable`](crate::row::Unavailable) where this machine cannot do it.
    ///
    /// # Panics
    /// When a program cannot be started or does not come up; the message shows what it said.
    pub fn join(self, world: &mut World, programs: &Programs) -> anyhow::Result<()> {
        match self {
            Join::Vmlan { poll } => vmlan::taps(world, programs, poll)?,
            Join::VmlanVde => vmlan::vde(world, programs)?,
            Join::VmlanInterfaces { keys, .. } => interface::veths(world, programs, keys)?,
            Join::VmlanWire { keys, .. } => interface::wire(world, programs, keys)?,
            Join::RelayInterfaces => interface::relayed_veths(world, programs),
            Join::Cable => interface::cable(world),
            Join::Bridge => bridge::with_offloads(world),
            Join::BridgePlain => bridge::without_offloads(world),
            Join::VdeSwitch => vde::switch(world),
            Join::OvsTap { tso } => ovs::taps(world, tso)?,
            Join::OvsVeth => ovs::veth(world)?,
            Join::OvsAfXdp => ovs::af_xdp(world)?,
            Join::Relay { mechanism, offloads } => relay::taps(world, &programs.bench, mechanism, offloads)?,
        }
        Ok(())
    }
}
