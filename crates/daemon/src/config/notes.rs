//! Notes on settings that a configuration may have, but that are hardly meant or have a consequence worth knowing.

use std::collections::BTreeSet;

use vmlan_frame::VlanId;
use vmlan_ports::{Keeper, Vlan, too_long};

use super::{Network, ValidConfig};

/// Returns the notes on a good configuration, on the host that it is for.
pub fn notes(config: &ValidConfig) -> Vec<String> {
    let on_trunk = |(name, network): (&String, &Network)| {
        let interface = network.trunk.as_ref()?.interface.name();
        let note = too_long(interface, (network.settings.mtu.octets(), mtu_of(interface)?))?;
        Some(format!("network {name}: {note}"))
    };
    let on_ports = |(name, network): (&String, &Network)| {
        let alone = alone_in_vlan(network);
        alone.into_iter().map(|note| format!("network {name}: {note}")).collect::<Vec<_>>()
    };
    let networks = config.networks();
    let own = config.notes.iter().cloned();
    own.chain(networks.iter().filter_map(on_trunk)).chain(networks.iter().flat_map(on_ports)).collect()
}

/// Returns a note for each guest's port that has no other port in any of its VLANs. The only port of a network without
/// a trunk is alone whatever its VLAN, and its owner knows.
fn alone_in_vlan(network: &Network) -> Vec<String> {
    let ports = network.ports.values().map(|port| &port.settings.vlan);
    let trunk = network.trunk.as_ref().map(|trunk| &trunk.vlan);
    let roles: Vec<_> = ports.chain(trunk).collect();
    if roles.len() < 2 || roles.iter().all(|role| **role == Vlan::None) {
        return Vec::new();
    }
    let members = |vlan: &VlanId| roles.iter().filter(|role| vlans(role).contains(vlan)).count();
    let note = |(name, port): (&String, &super::Port)| {
        let own = vlans(&port.settings.vlan);
        // Clients of one port are ports of their own, which reach each other.
        let is_guest = matches!(port.attachment.keeper(), Keeper::Guest(_));
        if !is_guest || own.iter().any(|vlan| members(vlan) > 1) {
            return None;
        }
        let list = own.iter().map(|vlan| vlan.get().to_string()).collect::<Vec<_>>().join(", ");
        let whose = if own.len() == 1 { "its VLAN" } else { "its VLANs" };
        let default = if port.settings.vlan == Vlan::None { ", where ports are that name none" } else { "" };
        Some(format!(
            "port {name} is alone in {whose}, {list}{default}, and reaches no other port; change its `vlan` or that of \
             another port"
        ))
    };
    network.ports.iter().filter_map(note).collect()
}

/// Returns the VLANs that a port with this role is in, in a network where a port names one.
fn vlans(role: &Vlan) -> BTreeSet<VlanId> {
    match role {
        Vlan::None => [VlanId::DEFAULT].into(),
        Vlan::Access(vlan) => [*vlan].into(),
        Vlan::Trunk { allowed, native } => allowed.iter().chain(native).copied().collect(),
    }
}

/// The MTU of an interface of this host; `None` where there is no such interface, or the system tells it otherwise.
fn mtu_of(interface: &str) -> Option<usize> {
    std::fs::read_to_string(format!("/sys/class/net/{interface}/mtu")).ok()?.trim().parse().ok()
}
