//! Stages of forwarding above layer 2, which the ports of a network have or not.
//!
//! Theory of operation. Control compiles which stages a port has into its [`Stages`], and compiles them anew when what
//! they follow from changes: the policy of a port, or whether there is a trunk. Both pipelines of forwarding, with a
//! trunk and without, ask the stages of the port that received a frame by one call (`Pass::examine`), so a stage is
//! written once and drops, counts and reports alike in both. A port without stages costs a frame one comparison. What
//! the trunk's sides say is nobody's claim, so the trunk has no stages.
//!
//! There are two. [`services`] keeps guests from saying what is for the port with the network's services to say. The
//! claims of addresses come second: [`claims`] judges what a frame says, [`addresses`] is the book of who has which
//! address, and [`challenge`] asks the former owner. [`inspection`] joins them on the way of a frame. Claims are
//! examined once the source is learnt, since a guest takes its addresses along to the port where its MAC address is by
//! then.

pub(crate) mod addresses;
mod challenge;
pub(crate) mod claims;
mod inspection;
pub(crate) mod services;
mod tags;
mod told;

pub(crate) use self::challenge::Challenge;
pub(crate) use self::inspection::{Inspection, Inspector};

use vmlan_frame::Frame;

use self::claims::may_speak;
use crate::TrunkPolicy;

/// The stages of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Stages(u8);

impl Stages {
    pub(crate) const NONE: Stages = Stages(0);

    /// The stage that examines the guest's statements about addresses in ARP and neighbour discovery.
    pub(crate) const CLAIMS: Stages = Stages(1);

    /// [`Stages::CLAIMS`], and the sources of the guest's packets count as well.
    pub(crate) const PACKETS: Stages = Stages(1 | 1 << 1);

    /// The stage that keeps what is the services' from other ports: routers' messages and claims of their addresses.
    pub(crate) const SERVICES: Stages = Stages(1 << 2);

    /// [`Stages::SERVICES`], and what DHCP servers send as well.
    pub(crate) const DHCP: Stages = Stages(1 << 2 | 1 << 3);

    /// The stages of the guests' ports in a network with this trunk, or without one; `floating` says that a port has
    /// addresses which it takes over at once, from guests that are asked about all others.
    pub(crate) fn of_guests(trunk: Option<&TrunkPolicy>, floating: bool) -> Stages {
        match trunk {
            Some(trunk) if trunk.shared_mac => Stages::PACKETS,
            Some(_) => Stages::CLAIMS,
            None if floating => Stages::CLAIMS,
            None => Stages::NONE,
        }
    }

    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self == Stages::NONE
    }

    /// True if a stage has to look at a guest's frame, by the frame's type.
    #[inline]
    pub(crate) fn concern(self, frame: &Frame) -> bool {
        let Some(ethertype) = frame.ethertype() else { return false };
        let packets = self.contains(Stages::PACKETS);
        self.contains(Stages::CLAIMS) && may_speak(ethertype, packets)
            || self.contains(Stages::SERVICES)
                && services::concern(frame, ethertype, self.contains(Stages::DHCP))
    }

    /// Both stages' together.
    pub(crate) fn with(self, stages: Stages) -> Stages {
        Stages(self.0 | stages.0)
    }

    #[inline]
    pub(crate) fn contains(self, stages: Stages) -> bool {
        self.0 & stages.0 == stages.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trunk_or_a_floating_address_makes_claims_examined() {
        let trunk = TrunkPolicy::default();
        let shared = TrunkPolicy { shared_mac: true, ..TrunkPolicy::default() };
        for (trunk, floating, expected) in [
            (None, false, Stages::NONE),
            (None, true, Stages::CLAIMS),
            (Some(&trunk), false, Stages::CLAIMS),
            (Some(&trunk), true, Stages::CLAIMS),
            (Some(&shared), false, Stages::PACKETS),
        ] {
            assert_eq!(Stages::of_guests(trunk, floating), expected, "{trunk:?} {floating}");
        }
        assert!(Stages::PACKETS.contains(Stages::CLAIMS) && !Stages::CLAIMS.contains(Stages::PACKETS));
        assert!(Stages::NONE.is_empty() && !Stages::CLAIMS.is_empty());
        assert!(Stages::DHCP.contains(Stages::SERVICES) && !Stages::SERVICES.contains(Stages::DHCP));
        assert!(!Stages::DHCP.contains(Stages::CLAIMS) && !Stages::PACKETS.contains(Stages::SERVICES));
        assert!(Stages::CLAIMS.with(Stages::DHCP).contains(Stages::CLAIMS));
    }
}
