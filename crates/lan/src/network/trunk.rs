//! The trunk of a network as control sees it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use vmlan_frame::{Instant, MacAddr, VlanId};

use super::{Control, Member, Network};
use crate::event::Event;
use crate::fdb::Key;
use crate::guard::Stages;
use crate::guard::addresses::{HostAddress, Owner};
use crate::trunk::{TrunkConfig, TrunkPolicy};
use crate::{PortError, PortId, PortPolicy};

/// An address behind a port that is not the trunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Station {
    /// The address.
    pub mac: MacAddr,
    /// Its VLAN; `None` in a network without VLANs, and for an address that holds in every VLAN of its port.
    pub vlan: Option<VlanId>,
    /// The port behind which it is.
    pub port: PortId,
}

/// An IP address of a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SharedAddress {
    /// The address.
    pub address: IpAddr,
    /// Its VLAN; `None` in a network without VLANs.
    pub vlan: Option<VlanId>,
    /// The port behind which the guest is.
    pub port: PortId,
    /// The guest's own MAC address.
    pub mac: MacAddr,
}

impl Network {
    /// Adds the trunk. It is not active yet: [`Network::set_active`] says when its driver is there, and
    /// [`Network::remove_port`] removes it.
    ///
    /// # Errors
    /// When there is a trunk already, the network is full, or one of the host's addresses is a guest's. Nothing changed
    /// then.
    pub fn add_trunk(&self, config: TrunkConfig) -> Result<PortId, PortError> {
        let TrunkConfig { name, policy, notify, account } = config;
        self.add_member(name, policy.as_port(), (account, None), Some((policy, notify)))
    }

    /// Changes the policy of the trunk: a new address of the host, a side that is enabled, and so on.
    ///
    /// # Errors
    /// When the port is gone or is no trunk, or one of the host's addresses is a guest's. Nothing changed then.
    pub fn update_trunk(&self, id: PortId, policy: TrunkPolicy) -> Result<(), PortError> {
        let mut control = self.control.lock();
        let member = control.member(id)?;
        let Some(trunk) = &member.trunk else {
            return Err(member.other_kind());
        };
        if trunk.policy == policy {
            return Ok(());
        }
        self.update_member(&mut control, id, policy.as_port())?;
        let common = control.common;
        let member = control.member_mut(id)?;
        if let Some(trunk) = &mut member.trunk {
            trunk.policy = policy;
        }
        member.compile(common);
        self.publish(&mut control);
        Ok(())
    }

    /// The trunk, if there is one.
    pub fn trunk(&self) -> Option<PortId> {
        self.control.lock().trunk().map(|member| member.id)
    }

    /// True if a port other than the trunk is active, so that the trunk has a port to serve.
    pub fn is_trunk_wanted(&self) -> bool {
        self.control.lock().wanted
    }

    /// Says that the host has `address` on the trunk's interface. Guests that claim it are kept from it, and reported.
    /// False when it was known.
    pub fn add_host_address(&self, address: HostAddress) -> bool {
        let mut control = self.control.lock();
        if !self.known.lock().addresses.add_host(address) {
            return false;
        }
        self.publish(&mut control);
        if let Some(trunk) = control.trunk().map(|member| member.id) {
            for (address, Owner { port, mac, .. }) in self.known.lock().addresses.evict() {
                self.fdb.report(Event::Conflict { port, mac, address: Some(address), owner: trunk });
            }
        }
        true
    }

    /// Says that the host no longer has `address`. False when it was not known.
    pub fn remove_host_address(&self, address: HostAddress) -> bool {
        let mut control = self.control.lock();
        let removed = self.known.lock().addresses.remove_host(address);
        if removed {
            self.publish(&mut control);
        }
        removed
    }

    /// Says that these are the host's addresses on the trunk's interface, in the place of those said before. As
    /// [`Network::add_host_address`] and [`Network::remove_host_address`] for what differs.
    pub fn set_host_addresses(&self, addresses: impl IntoIterator<Item = HostAddress>) {
        let now: BTreeSet<HostAddress> = addresses.into_iter().collect();
        let before: BTreeSet<HostAddress> = self.host_addresses().into_iter().collect();
        for address in before.difference(&now) {
            self.remove_host_address(*address);
        }
        for address in now.difference(&before) {
            self.add_host_address(*address);
        }
    }

    /// The host's addresses on the trunk's interface, in ascending order.
    pub fn host_addresses(&self) -> Vec<HostAddress> {
        self.known.lock().addresses.host().collect()
    }

    /// Which guest has which IP address, in ascending order, as far as guests have shown it: all of them in shared-MAC
    /// mode, where a driver diverts by them what the wire sends to the host's MAC address; otherwise those of which ARP
    /// and neighbour discovery told, in a network that has a trunk or in which a port has floating addresses.
    pub fn shared_addresses(&self) -> Vec<SharedAddress> {
        let aware = self.is_vlan_aware();
        let known = self.known.lock();
        let shared = known.addresses.iter().map(|((vlan, address), Owner { port, mac, .. })| SharedAddress {
            address,
            vlan: aware.then_some(vlan),
            port,
            mac,
        });
        let mut shared = Vec::from_iter(shared);
        shared.sort_by_key(|shared| (shared.address, shared.vlan));
        shared
    }

    /// Makes room for the addresses of the guests that are there, when their claims are examined; returns the host's in
    /// their VLANs.
    pub(super) fn keep_addresses(&self, control: &Control) -> Box<[crate::guard::addresses::Key]> {
        let mut known = self.known.lock();
        let notify =
            control.trunk().and_then(|member| member.trunk.as_ref()).map(|trunk| trunk.notify.clone());
        let guests = control.members().filter(|member| member.port.stages.contains(Stages::CLAIMS));
        known.addresses.keep(guests.map(|member| member.id), notify);
        let trunk = control.trunk().map(|member| member.policy.vlan.membership(control.common.aware));
        known.addresses.block(trunk.as_ref())
    }

    /// The port behind which `mac` is, in that VLAN (`None`: the one of frames without a tag where no port says
    /// otherwise). Takes no lock, so that workers can ask.
    pub fn port_of(&self, mac: MacAddr, vlan: Option<VlanId>) -> Option<PortId> {
        self.fdb.find(Key::new(mac, vlan.unwrap_or(VlanId::DEFAULT))).map(|entry| entry.port)
    }

    /// Every unicast address that is behind a port other than the trunk, set, static or learnt, in ascending order:
    /// what a driver diverts to the network. An address may be there once for each VLAN.
    pub fn stations(&self) -> Vec<Station> {
        let trunk = self.trunk();
        let entries = self.fdb(Instant::ZERO).into_iter().filter(|entry| Some(entry.port) != trunk);
        let mut stations = Vec::from_iter(entries.map(|entry| Station {
            mac: entry.mac,
            vlan: entry.vlan,
            port: entry.port,
        }));
        stations.sort_by_key(|station| (station.mac, station.vlan));
        stations
    }
}

impl Member {
    /// That a policy of the other kind was given for the member.
    pub(super) fn other_kind(&self) -> PortError {
        let what = if self.trunk.is_some() { "the trunk" } else { "a guest's port" };
        PortError::OtherKind { port: self.name.clone(), what }
    }
}

impl TrunkPolicy {
    /// The same for what a trunk has in common with other ports. The host's addresses are set, so that nobody else
    /// sends from them; other stations are learnt.
    fn as_port(&self) -> PortPolicy {
        PortPolicy {
            macs: self.macs.clone(),
            guard: false,
            vlan: self.vlan.clone(),
            quota: self.quota,
            limits: self.limits,
            ..PortPolicy::default()
        }
    }
}
