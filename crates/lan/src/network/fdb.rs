//! The forwarding database of a network as control sees it.

use vmlan_frame::{Instant, MacAddr, VlanId};

use super::{Network, StaticEntry};
use crate::event::{Event, Events};
use crate::fdb::{EntryKind, FdbEntry, FdbTally, Key};
use crate::{PortError, PortId};

impl Network {
    /// Enters an address by hand: it is neither learnt elsewhere nor ages. `vlan` `None` stands for every VLAN of the
    /// port. An entry that was made before is replaced.
    ///
    /// # Errors
    /// When the port is gone, the address is set for a port or no station's, or the FDB has no place.
    pub fn add_static(&self, mac: MacAddr, vlan: Option<VlanId>, id: PortId) -> Result<(), PortError> {
        let mut control = self.control.lock();
        let port = &control.member(id)?.name;
        if !mac.is_station() {
            return Err(PortError::NotAStation { port: port.clone(), mac });
        }
        if let Some(owner) = control.members().find(|member| member.policy.macs.contains(&mac)) {
            return Err(PortError::MacTaken { port: port.clone(), mac, owner: owner.name.clone() });
        }
        let key = vlan.map_or_else(|| Key::wildcard(mac), |vlan| Key::new(mac, vlan));
        if !self.fdb.insert_fixed(key, EntryKind::Static, id) {
            return Err(PortError::FdbFull { port: port.clone(), mac });
        }
        control.statics.retain(|entry| entry.key != key);
        control.statics.push(StaticEntry { key, port: id });
        Ok(())
    }

    /// Removes what [`Network::add_static`] entered; false when there is nothing.
    pub fn remove_static(&self, mac: MacAddr, vlan: Option<VlanId>) -> bool {
        let mut control = self.control.lock();
        let key = vlan.map_or_else(|| Key::wildcard(mac), |vlan| Key::new(mac, vlan));
        control.statics.retain(|entry| entry.key != key);
        self.fdb.remove_fixed(key, EntryKind::Static)
    }

    /// Every address that the network knows, in no particular order.
    pub fn fdb(&self, now: Instant) -> Vec<FdbEntry> {
        let aware = self.is_vlan_aware();
        let mut entries = self.fdb.entries(now.as_secs() as u32);
        entries.iter_mut().filter(|_| !aware).for_each(|entry| entry.vlan = None);
        entries
    }

    /// How many addresses the network knows, and how often one moved. Cheap whatever the size of the FDB.
    pub fn fdb_tally(&self) -> FdbTally {
        self.fdb.tally()
    }

    /// How many addresses the network can know.
    pub fn fdb_capacity(&self) -> usize {
        self.fdb.capacity()
    }

    /// Forgets every learnt address.
    pub fn flush(&self) {
        self.fdb.flush(None);
    }

    /// Forgets addresses that were silent for the ageing time. To be called about once a second; one call looks at
    /// 8192 entries at most, so larger databases age within as many calls as it takes.
    pub fn age(&self, now: Instant) {
        self.fdb.age(now.as_secs() as u32);
    }

    /// Returns the events of the FDB since the last call.
    pub fn events(&self) -> Events {
        let aware = self.is_vlan_aware();
        let mut events = self.fdb.events();
        if !aware {
            events.events = events.events.into_iter().map(Event::without_vlan).collect();
        }
        events
    }
}
