//! The fast way's copy of a network as control sees it.

use std::sync::Arc;

use vmlan_frame::{ETHERNET_HEADER, Instant, MacAddr, Sides, VlanId};

use super::{Control, Member, Network};
use crate::fast::{FastEntry, FastPath, FastPort, SlowReason};
use crate::fdb::Key;
use crate::guard::Stages;
use crate::vlan::Membership;
use crate::{PortError, PortId, TrunkPolicy};

/// A fast way, and what it was told of the ports.
pub(super) struct Fast {
    path: Arc<dyn FastPath>,
    told: Vec<FastPort>,
}

impl Network {
    /// Has `fast_path` keep a copy of the entries at fast ports from now on, and tells it of the ports. From the one
    /// that did so before, everything is withdrawn.
    pub fn set_fast_path(&self, fast_path: Option<Arc<dyn FastPath>>) {
        // Dropped after the lock: their end is not ours.
        let _former;
        let mut control = self.control.lock();
        let fast = fast_path.clone().map(|path| Fast { path, told: Vec::new() });
        _former = (core::mem::replace(&mut control.fast, fast), self.fdb.set_fast_path(None));
        control.tell_fast_ports();
        self.fdb.set_fast_path(fast_path);
    }

    /// Makes a port fast: its entries in the FDB are listed from now on. One that ceases to be fast has its entries
    /// withdrawn first. A new port is not fast.
    ///
    /// # Errors
    /// When the port is gone.
    pub fn set_fast_port(&self, id: PortId, fast: bool) -> Result<(), PortError> {
        let mut control = self.control.lock();
        let member = control.member_mut(id)?;
        if core::mem::replace(&mut member.fast, fast) == fast {
            return Ok(());
        }
        if fast {
            control.tell_fast_ports();
            self.fdb.set_fast_port(id, true);
        } else {
            self.fdb.set_fast_port(id, false);
            control.tell_fast_ports();
        }
        Ok(())
    }

    /// Tells `put` every entry at fast ports, as the FDB has it: all that a copy may have at this moment. Not listed is
    /// an entry for every VLAN while, in some VLAN, a set or static entry says that its address is behind another port.
    ///
    /// The FDB's bookkeeping is locked for a part of the entries at a time, so that none is withdrawn between the look
    /// at it and `put`. Addresses that workers hear during a part are learnt from a later frame; so `put` must not take
    /// long, and it must not call the network, except methods that take no lock.
    pub fn list_fast(&self, put: &mut dyn FnMut(FastEntry)) {
        self.fdb.list_fast(put);
    }

    /// Says that a listed entry's address was heard at `port` at that time, by a frame that no worker saw. Refreshes
    /// what was learnt, if it is still there. Takes no lock.
    ///
    /// `vlan` is that of [`FastEntry::vlan`]. An address whose frames all go fast does not age when this is called
    /// before [`Network::age`]; a port that claims the address counts how long it was silent by it, too.
    pub fn heard(&self, mac: MacAddr, vlan: Option<VlanId>, port: PortId, time: Instant) {
        let key = vlan.map_or_else(|| Key::wildcard(mac), |vlan| Key::new(mac, vlan));
        self.fdb.heard(key, port, time.as_secs() as u32);
    }

    /// Takes over an entry of a copy that an earlier network kept, which heard the address at `port` at that time: it
    /// is learnt, as by a frame, unless the port may not have it. False when the address is not known behind the port
    /// now; then the copy must not have it either.
    ///
    /// Has the port learn from now on. To be called once the port is a fast one.
    pub fn adopt(&self, mac: MacAddr, vlan: Option<VlanId>, port: PortId, time: Instant) -> bool {
        let control = self.control.lock();
        let Ok(member) = control.member(port) else { return false };
        let seconds = time.as_secs() as u32;
        let guard = member.port.guard;
        let Some(vlan) = vlan else {
            return self.fdb.is_at(Key::wildcard(mac), port, guard);
        };
        let key = Key::new(mac, vlan);
        let membership = member.policy.vlan.membership(control.common.aware);
        let is_in = match membership {
            // Its addresses are known by that one.
            Membership::Transparent => vlan == VlanId::DEFAULT,
            membership => membership.includes(vlan),
        };
        if !is_in || !mac.is_station() {
            return false;
        }
        if guard || !member.policy.enabled {
            return self.fdb.is_at(key, port, guard);
        }
        self.fdb.set_learning(port, true);
        self.fdb.adopt(key, port, seconds)
    }
}

impl Control {
    /// Tells the fast way of the fast ports, if there is anything new.
    pub(super) fn tell_fast_ports(&mut self) {
        let Some(mut fast) = self.fast.take() else { return };
        let ports = self.fast_ports();
        if fast.told != ports {
            fast.path.ports(&ports);
            fast.told = ports;
        }
        self.fast = Some(fast);
    }

    fn fast_ports(&self) -> Vec<FastPort> {
        let for_all = self.slow_for_all();
        let facts = |member: &Member| FastPort {
            id: member.id,
            vlan: member.policy.vlan.in_network(self.common.aware),
            guard: member.port.guard,
            isolated: member.policy.isolated,
            frame_limit: self.mtu.saturating_add(ETHERNET_HEADER),
            sides: member.open_sides(),
            services: member.port.stages.contains(Stages::DHCP),
            slow: member.slow().or(for_all),
        };
        self.members().filter(|member| member.fast).map(facts).collect()
    }

    /// The reason for which the switch has to see the frames of every port.
    fn slow_for_all(&self) -> Option<SlowReason> {
        let is_shared = |member: &Member| member.trunk.as_ref().is_some_and(|trunk| trunk.policy.shared_mac);
        if self.members().any(Member::is_listening) {
            Some(SlowReason::Promiscuous)
        } else {
            self.trunk().is_some_and(is_shared).then_some(SlowReason::SharedMac)
        }
    }
}

impl Member {
    /// The sides of a trunk that frames may come from and go to.
    fn open_sides(&self) -> Sides {
        let open = |policy: &TrunkPolicy| policy.enabled.within(policy.reaches);
        self.trunk.as_ref().map_or(Sides::NONE, |trunk| open(&trunk.policy))
    }

    /// True if the port gets copies of frames between others.
    fn is_listening(&self) -> bool {
        let promiscuous = self.trunk.as_ref().map_or(Sides::NONE, |trunk| trunk.policy.promiscuous);
        let sides = promiscuous.within(self.open_sides());
        self.port.active && (self.port.promiscuous || !sides.is_empty())
    }

    /// The member's own reason for which the switch has to see its frames.
    fn slow(&self) -> Option<SlowReason> {
        if !self.policy.enabled {
            Some(SlowReason::Disabled)
        } else if !self.active {
            Some(SlowReason::Inactive)
        } else if !self.policy.fast {
            Some(SlowReason::TurnedOff)
        } else {
            self.policy.limits.rate.map(|_| SlowReason::Rate)
        }
    }
}

#[cfg(test)]
mod tests;
