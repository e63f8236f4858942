//! The uplink of a network: a port of its own, `uplink`, behind which are the network's gateway, its services and the
//! way out.
//!
//! It has no table among the ports: the validator adds it where the network's table has `uplink`. Of its settings the
//! [`Rooms`] are the attachment, since another subnet gives every guest another address; all others are the port's
//! settings, and reach the running keeper by [`UplinkControl::change`](crate::UplinkControl::change).

mod check;
mod convert;
pub mod egress;
mod flows;
pub mod forward;
mod forwards;
mod host;
mod keep;
mod notes;
#[cfg(any(target_os = "macos", test))]
mod pf;
mod report;
#[cfg(target_os = "linux")]
mod rules;
mod running;
pub mod services;

#[cfg(target_os = "linux")]
#[path = "linux/kernel/mod.rs"]
mod kernel;
#[cfg(target_os = "macos")]
#[path = "macos/kernel.rs"]
mod kernel;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use vmlan_api::{DenyAnswer, PortKind, UdpFilter, UplinkMode};
use vmlan_frame::MacAddr;
use vmlan_nat::envelope::{Subnet4, Subnet6};
use vmlan_nat::reach::Egress;

use crate::belongings::Belonging;
use crate::kind::{HandOver, Keeper, Kind};
use crate::{PortSettings, Vlan};
pub use check::{Surrounding, checked_forward};
use forward::{ForwardSpec, HostService, Listen, Transport};
pub use report::in_words;

/// Everything that a configuration says of an uplink, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkSettings {
    /// Mode and addresses; a change of these needs another attachment.
    pub rooms: Rooms,
    /// True if guests that can do without IPv4 are told to.
    pub ipv6_only: bool,
    /// The DHCP server, if there is one.
    pub dhcp: Option<Dhcp>,
    /// The DNS server, if there is one.
    pub dns: Option<Dns>,
    /// The part of the world that guests may reach.
    pub egress: Egress,
    /// The answer to guests about what they may not reach.
    pub deny: DenyAnswer,
    /// Services of this host's that guests reach at host number 2 of their subnet.
    pub host: Vec<HostService>,
    /// Ways from this host to guests.
    pub forwards: Vec<ForwardSpec>,
    /// Limits on what each guest may use.
    pub limits: FlowLimits,
    /// The peers whose datagrams reach a guest.
    pub udp_filter: UdpFilter,
    /// In mode `kernel`, true if others' firewalls are made to let the guests through.
    pub integrate: bool,
}

/// The mode of an uplink, and the addresses that all else of it hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rooms {
    /// The carrier of what leaves.
    pub mode: UplinkMode,
    /// The guests' IPv4 subnet; the gateway is host number 1.
    pub subnet: Subnet4,
    /// The guests' IPv6 subnet; the gateway is interface identifier 1.
    pub subnet6: Option<Subnet6>,
    /// The gateway's link address.
    pub mac: MacAddr,
}

impl Rooms {
    /// The address of one family with this host number.
    pub fn hosts(&self, number: u32) -> impl Iterator<Item = IpAddr> {
        let v6 = self.subnet6.map(|subnet| subnet.host(number.into()).into());
        [IpAddr::V4(self.subnet.host(number))].into_iter().chain(v6)
    }
}

/// The settings of an uplink's DHCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dhcp {
    /// The first and the last address that it gives.
    pub pool: (Ipv4Addr, Ipv4Addr),
    /// Time of a lease.
    pub lease: Duration,
    /// Time servers that it names.
    pub ntp: Vec<IpAddr>,
    /// Files that guests boot from.
    pub boot: Boot,
}

impl Dhcp {
    /// How many addresses are in the pool.
    pub fn pool_size(&self) -> u64 {
        u64::from(self.pool.1.to_bits() - self.pool.0.to_bits()) + 1
    }
}

/// Files that guests boot from over the network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Boot {
    /// The server of the files, an address or a name; the gateway without one.
    pub server: Option<String>,
    /// The file for machines with a BIOS, and for all that no other member names one for.
    pub file: Option<String>,
    /// The file for machines with UEFI.
    pub efi: Option<String>,
    /// The file or URL for a loader that is iPXE already.
    pub ipxe: Option<String>,
}

/// The settings of an uplink's DNS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// The domain of the guests' names, in lower case without a final dot.
    pub domain: String,
    /// Servers that are asked for other names.
    pub servers: DnsServers,
    /// Domains that guests search beside their own, in the same form.
    pub search: Vec<String>,
    /// True if IPv6 addresses are left out of answers.
    pub filter_aaaa: bool,
}

/// Servers that are asked for names which are not the network's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsServers {
    /// Those of this host.
    Host,
    /// These.
    Listed(Vec<SocketAddr>),
}

/// Limits on what each guest may use of an uplink, and all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowLimits {
    /// Most connections of TCP, and as many mappings of UDP.
    pub flows: u32,
    /// Most new ones, a second.
    pub new_per_second: u32,
    /// Most octets that are kept.
    pub memory: usize,
    /// Most octets a second of all guests together, each way; any number when 0.
    pub rate: u64,
}

/// The attachment of an uplink's port.
#[derive(Debug, Clone)]
pub struct Uplink {
    settings: Arc<UplinkSettings>,
}

impl Uplink {
    /// Makes the attachment, and the settings of the port.
    pub fn new(settings: UplinkSettings, vlan: Vlan) -> (Uplink, PortSettings) {
        let settings = Arc::new(settings);
        (Uplink { settings: settings.clone() }, PortSettings::of_uplink(vlan, settings))
    }

    /// Everything that the configuration says of it.
    pub fn settings(&self) -> &Arc<UplinkSettings> {
        &self.settings
    }
}

impl Kind for Uplink {
    fn kind(&self) -> PortKind {
        PortKind::Uplink
    }

    /// Everything that its forwards listen at. One that names no address does with what there is of loopback.
    fn belongings(&self) -> Vec<(Belonging, &'static str)> {
        let belongings = self.settings.forwards.iter().flat_map(belongings_of);
        belongings.map(|belonging| (belonging, "forward")).collect()
    }

    fn hand_over(&self) -> HandOver {
        HandOver::OtherAddresses
    }

    fn depends_on(&self, _old: &PortSettings, _new: &PortSettings) -> bool {
        false
    }

    /// True if guests keep their addresses: the rest is in the port's settings.
    fn equals(&self, other: &dyn Kind) -> bool {
        let other = (other as &dyn std::any::Any).downcast_ref::<Uplink>();
        other.is_some_and(|other| self.settings.rooms == other.settings.rooms)
    }

    fn keeper(&self) -> Keeper {
        Keeper::Guest(Box::new(keep::Keep { rooms: self.settings.rooms }))
    }
}

/// The places that a forward listens at.
fn belongings_of(forward: &ForwardSpec) -> Vec<Belonging> {
    if let Listen::Unix(path) = &forward.listen {
        return vec![Belonging::Socket(path.clone())];
    }
    let place = |(address, _)| match forward.transport {
        Transport::Tcp => Belonging::Tcp(address),
        Transport::Udp => Belonging::Udp(address),
    };
    forward.sockets().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rooms with a subnet of 24 bits, and one of IPv6.
    pub(super) fn rooms(subnet: &str, subnet6: Option<&str>) -> Rooms {
        let network = subnet.parse().expect("an address");
        let subnet6 = subnet6.map(|network| Subnet6 { network: network.parse().expect("an address") });
        let (mode, mac) = (UplinkMode::User, MacAddr([2, 0, 0, 0, 0, 1]));
        Rooms { mode, subnet: Subnet4 { network, prefix: 24 }, subnet6, mac }
    }
}
