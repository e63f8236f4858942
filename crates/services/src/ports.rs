//! The ports of a network, as far as services must know them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vmlan_frame::MacAddr;
use vmlan_nat::reach::Egress;

/// The sender of a guest's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client {
    /// The number of the network's port that the frame came in by.
    pub ingress: u16,
    /// The frame's source address.
    pub mac: MacAddr,
}

/// A port of the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// The port's number in the network.
    pub ingress: u16,
    /// The port's name.
    pub name: String,
    /// The link address that its guest was told to have.
    pub mac: Option<MacAddr>,
    /// Addresses set for its guest, which nobody else gets.
    pub addresses: Vec<IpAddr>,
    /// The port's own egress policy.
    pub egress: Option<Egress>,
    /// True while the port is attached.
    pub up: bool,
}

impl Port {
    /// The IPv4 addresses set for its guest.
    pub fn v4(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.addresses.iter().filter_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        })
    }

    /// The IPv6 addresses set for its guest.
    pub fn v6(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.addresses.iter().filter_map(|address| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        })
    }

    /// True if the client is the guest that the port's addresses are set for.
    pub fn is_for(&self, client: &Client) -> bool {
        self.ingress == client.ingress && self.mac.is_none_or(|mac| mac == client.mac)
    }
}

/// The ports of a network by number.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ports {
    ports: BTreeMap<u16, Port>,
}

impl Ports {
    /// Adds or replaces a port.
    pub fn insert(&mut self, port: Port) {
        self.ports.insert(port.ingress, port);
    }

    /// Marks a port as not attached; one with nothing set for it is forgotten.
    pub fn down(&mut self, ingress: u16) {
        let Some(port) = self.ports.get_mut(&ingress) else { return };
        port.up = false;
        if port.addresses.is_empty() {
            self.ports.remove(&ingress);
        }
    }

    /// Replaces all ports.
    pub fn replace(&mut self, ports: impl IntoIterator<Item = Port>) {
        self.ports = ports.into_iter().map(|port| (port.ingress, port)).collect();
    }

    /// The port with this number.
    pub fn get(&self, ingress: u16) -> Option<&Port> {
        self.ports.get(&ingress)
    }

    /// The port with this name.
    pub fn named(&self, name: &str) -> Option<&Port> {
        self.ports.values().find(|port| port.name == name)
    }

    /// All ports.
    pub fn iter(&self) -> impl Iterator<Item = &Port> {
        self.ports.values()
    }

    /// The port that an address is set for.
    pub fn owner(&self, address: IpAddr) -> Option<&Port> {
        self.ports.values().find(|port| port.addresses.contains(&address))
    }

    /// The name by which leases know a client's port: of one that is not listed, a number no name can look like.
    pub fn name_of(&self, client: &Client) -> String {
        self.get(client.ingress).map_or_else(|| format!("#{}", client.ingress), |port| port.name.clone())
    }

    /// True if the port with this name is attached.
    pub fn is_up(&self, name: &str) -> bool {
        match name.strip_prefix('#').and_then(|number| number.parse().ok()) {
            Some(number) => self.get(number).is_some_and(|port| port.up),
            None => self.named(name).is_some_and(|port| port.up),
        }
    }
}
