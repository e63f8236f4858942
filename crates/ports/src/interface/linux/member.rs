//! A port in the kernel's tables, or a side of the trunk, as this process knows it.

use std::sync::Arc;

use vmlan_drivers::host::fast::{Counts, Passed, Port, Role};
use vmlan_frame::{Counters, DropReason, ETHERNET_HEADER, Sides, Tally};
use vmlan_lan::{FastPort, SlowReason, VlanRole};

use crate::kernel::Interface;

/// A port whose frames the kernel may carry, or a side of the trunk.
pub(super) struct Member {
    /// The side that it is; none for a guest's port.
    pub(super) side: Sides,
    /// The numbers of the interface, or of the side of it, and of the device that carries frames to workers.
    pub(super) index: u32,
    pub(super) carrier: u32,
    pub(super) slot: u32,
    /// The longest frame that the interface takes.
    pub(super) longest: u32,
    /// Frames that go out by the interface are handed to its other end at once.
    pub(super) to_peer: bool,
    /// True while the interface is up and has a carrier; unknown at first.
    pub(super) running: Option<bool>,
    /// The kernel still has the record of an earlier daemon's.
    pub(super) is_inherited: bool,
    /// True while somebody has to see the link's frames.
    pub(super) is_watched: bool,
    pub(super) facts: Option<FastPort>,
    pub(super) counters: Arc<Counters>,
    /// The counters of the side.
    pub(super) flow: Option<Arc<Counters>>,
    pub(super) counted: Counts,
    /// The interface's name, and the frames that its driver had dropped on the way out when that was last asked.
    pub(super) name: String,
    pub(super) dropped: Option<u64>,
    /// Why its programs have no names, where they cannot have any.
    pub(super) unpinned: Option<&'static str>,
}

impl Member {
    /// A guest's port, of which nothing is known yet but its interface.
    pub(super) fn new(interface: &Interface, carrier: u32, slot: u32, counters: Arc<Counters>) -> Member {
        Member {
            side: Sides::NONE,
            index: interface.index,
            carrier,
            slot,
            longest: longest(interface),
            to_peer: false,
            running: None,
            is_inherited: false,
            is_watched: true,
            facts: None,
            counters,
            flow: None,
            counted: Counts::default(),
            name: interface.name.clone(),
            dropped: None,
            unpinned: None,
        }
    }

    /// Why everything of the port goes to the workers.
    pub(super) fn slow(&self) -> Option<&'static str> {
        if self.running != Some(true) {
            return Some("the interface is not up, or has no carrier");
        }
        if self.is_watched {
            return Some("a capture or a rule has to see its frames");
        }
        match &self.facts {
            None => Some("the network does not know the port yet, or any more"),
            Some(facts) if !facts.sides.contains(self.side) => Some("guests do not reach that side"),
            Some(facts) => facts.slow.map(|reason| reason.as_str()),
        }
    }

    /// True if it is not decided yet whether the kernel may carry anything, and nothing is against it.
    pub(super) fn is_undecided(&self) -> bool {
        let is_awaited = |facts: &FastPort| matches!(facts.slow, None | Some(SlowReason::Inactive));
        let may_be = self.running != Some(false) && !self.is_watched;
        may_be && self.facts.as_ref().is_some_and(is_awaited) && self.slow().is_some()
    }

    /// Adds to the port's counters what the kernel counted since the last time; `dropped` is what the interface's
    /// driver has dropped on the way out, if that was asked.
    pub(super) fn count(&mut self, counts: Counts, dropped: Option<u64>) {
        let before = std::mem::replace(&mut self.counted, counts);
        let tally = |now: &Passed, before: &Passed| Tally {
            frames: now.frames - before.frames,
            octets: now.octets - before.octets,
            large: [now.large[0] - before.large[0], now.large[1] - before.large[1]],
            ..Tally::default()
        };
        let received = tally(&counts.received, &before.received);
        let mut sent = tally(&counts.sent, &before.sent);
        // Every frame that came in fast went out by one port, unless that port's driver dropped it.
        self.counters.copied(0, received.frames);
        if let Some(dropped) = dropped {
            let before = self.dropped.replace(dropped).unwrap_or(dropped);
            let lost = dropped.saturating_sub(before).min(sent.frames);
            if lost > 0 {
                // How long those were is not known.
                sent.octets -= (u128::from(sent.octets) * u128::from(lost) / u128::from(sent.frames)) as u64;
                sent.frames -= lost;
                self.counters.dropped_unseen(0, DropReason::QueueFull, lost);
            }
        }
        for counters in [Some(&self.counters), self.flow.as_ref()].into_iter().flatten() {
            counters.received(0, &received);
            counters.sent(0, &sent);
        }
    }

    pub(super) fn record(&self) -> Port {
        let (role, isolated, limit) = match &self.facts {
            None => (Role::Transparent, false, 0),
            Some(facts) => (role(&facts.vlan), facts.isolated, facts.frame_limit),
        };
        Port {
            slot: self.slot,
            carrier: self.carrier,
            role,
            longest: self.longest.min(u32::try_from(limit).unwrap_or(u32::MAX)),
            held: self.slow().is_some(),
            services: self.facts.as_ref().is_some_and(|facts| facts.services),
            isolated,
            peer: self.to_peer,
            side: super::trunk::side(self.side),
        }
    }
}

/// The longest frame that the interface takes, without a tag.
pub(super) fn longest(interface: &Interface) -> u32 {
    interface.mtu.saturating_add(ETHERNET_HEADER as u32)
}

fn role(role: &VlanRole) -> Role {
    match role {
        VlanRole::Unset => Role::Transparent,
        VlanRole::Access(vlan) => Role::Access(*vlan),
        VlanRole::Trunk { allowed, native } => {
            let mut bits = [0; 64];
            for vlan in allowed.iter() {
                bits[usize::from(vlan.get() / 64)] |= 1_u64 << (vlan.get() % 64);
            }
            Role::Trunk { allowed: Box::new(bits), native: *native }
        }
    }
}
