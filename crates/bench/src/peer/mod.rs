//! The ways to join the two namespaces.

mod bridge;
mod relay;
mod vde;
mod vmlan;

use std::path::PathBuf;

use clap::ValueEnum;

use crate::relay::Mechanism;
use crate::world::World;

/// A way to join the two namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Peer {
    /// vmlan with two TAP ports
    Vmlan,
    /// Linux bridge and veth, with their offloads: segments of up to 64 KiB, no checksums
    Bridge,
    /// Linux bridge and veth without offloads
    BridgePlain,
    /// vde_switch with two TAP plugs
    VdeSwitch,
    /// vmlan's VDE port with two TAP plugs
    VmlanVde,
    /// No switch: a loop of read and write between two TAPs
    RelayEpoll,
    /// No switch: io_uring between two TAPs
    RelayUring,
}

/// Our own programs.
pub struct Programs {
    /// This one, which is the relays too.
    pub bench: PathBuf,
    /// The vmlan to measure.
    pub vmlan: PathBuf,
}

impl Peer {
    /// All, in the order in which they are told.
    pub const ALL: [Peer; 7] = [
        Peer::Vmlan,
        Peer::Bridge,
        Peer::BridgePlain,
        Peer::VdeSwitch,
        Peer::VmlanVde,
        Peer::RelayEpoll,
        Peer::RelayUring,
    ];

    /// Whose figure is divided by whose.
    pub const RATIOS: [(Peer, Peer); 7] = [
        (Peer::Vmlan, Peer::Bridge),
        (Peer::Vmlan, Peer::BridgePlain),
        (Peer::Vmlan, Peer::VdeSwitch),
        (Peer::Vmlan, Peer::VmlanVde),
        (Peer::Vmlan, Peer::RelayEpoll),
        (Peer::Vmlan, Peer::RelayUring),
        (Peer::VmlanVde, Peer::VdeSwitch),
    ];

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Vmlan => "vmlan",
            Peer::Bridge => "bridge",
            Peer::BridgePlain => "bridge-plain",
            Peer::VdeSwitch => "vde-switch",
            Peer::VmlanVde => "vmlan-vde",
            Peer::RelayEpoll => "relay-epoll",
            Peer::RelayUring => "relay-uring",
        }
    }

    /// Programs of others that it needs.
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            Peer::BridgePlain => &["ethtool"],
            Peer::VdeSwitch => &["vde_switch", "vde_plug2tap"],
            Peer::VmlanVde => &["vde_plug2tap"],
            Peer::Vmlan | Peer::Bridge | Peer::RelayEpoll | Peer::RelayUring => &[],
        }
    }

    /// Whether vmlan is in it.
    pub fn is_vmlan(self) -> bool {
        matches!(self, Peer::Vmlan | Peer::VmlanVde)
    }

    /// Joins the namespaces of `world`: afterwards each has its interface, which is not up yet.
    ///
    /// # Errors
    /// A file that cannot be written.
    ///
    /// # Panics
    /// When a program cannot be started or does not come up; the message shows what it said.
    pub fn join(self, world: &mut World, programs: &Programs) -> anyhow::Result<()> {
        match self {
            Peer::Vmlan => vmlan::taps(world, &programs.vmlan)?,
            Peer::VmlanVde => vmlan::vde(world, &programs.vmlan)?,
            Peer::Bridge => bridge::with_offloads(world),
            Peer::BridgePlain => bridge::without_offloads(world),
            Peer::VdeSwitch => vde::switch(world),
            Peer::RelayEpoll => relay::start(world, &programs.bench, Mechanism::Epoll),
            Peer::RelayUring => relay::start(world, &programs.bench, Mechanism::Uring),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_knows_the_names() {
        for peer in Peer::ALL {
            assert_eq!(Peer::from_str(peer.name(), false), Ok(peer));
        }
        assert_eq!(Peer::value_variants(), Peer::ALL);
    }
}
