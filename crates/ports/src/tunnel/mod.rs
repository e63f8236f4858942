//! Tunnels: a control socket whose clients become ports of their own, or a device of the kernel.

mod check;
mod device;
mod lease;
mod serve;
mod socket;
#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod system;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod system;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use vmlan_api::PortKind;
use vmlan_drivers::Fault;
use vmlan_drivers::tunnel::message::Prefixed;
use vmlan_drivers::tunnel::{self, Host, Interface, Options};
use vmlan_drivers::unix::Access;

use super::belongings::Belonging;
use super::check::Validator;
use super::kind::{Attachment, Entry, HandOver, Hindrance, Keeper, Kind, Surroundings, same};
use super::reserved_name;
use crate::Seat;
use crate::{Mtu, PortSettings};

pub(crate) const ENTRY: Entry = Entry {
    kind: PortKind::Tunnel,
    is_in: |port| port.tunnel.is_some(),
    paths: |port| port.tunnel.iter_mut().flat_map(|tunnel| [&mut tunnel.listen]).collect(),
    check: |validator, at, port| validator.tunnel(at, port.tunnel.as_ref()?).map(Attachment::new),
};

/// A tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// The other end of the tunnel.
    pub source: TunnelSource,
    /// The next hops of packets that leave the networks of the addresses, one a family.
    pub gateways: Vec<IpAddr>,
    /// Octets of the largest packet, no more than the network's; that of the network without one.
    pub mtu: Option<Mtu>,
}

/// The other end of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelSource {
    /// Clients of a control socket.
    Listen {
        /// Its path, absolute.
        path: PathBuf,
        /// Clients' access to it.
        access: Access,
        /// Which addresses they have.
        addresses: TunnelAddresses,
    },
    /// The host's own stack.
    Device {
        /// The device's name, or a pattern.
        name: String,
        /// Its addresses, at least one.
        addresses: Vec<Prefixed>,
        /// True if packets have packet information in front.
        packet_information: bool,
        /// The file of the network namespace that it lives in; our own without one.
        netns: Option<PathBuf>,
    },
}

/// Which addresses the clients of a control socket have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelAddresses {
    /// There is one client at a time, with these.
    Fixed(Vec<Prefixed>),
    /// Each client names its own, in one of these networks.
    Chosen {
        /// The networks.
        allowed: Vec<Prefixed>,
        /// Clients at a time.
        clients: usize,
    },
}

impl Kind for Tunnel {
    fn kind(&self) -> PortKind {
        PortKind::Tunnel
    }

    fn belongings(&self) -> Vec<(Belonging, &'static str)> {
        match &self.source {
            TunnelSource::Listen { path, .. } => vec![(Belonging::Socket(path.clone()), "listen")],
            // The kernel finds a free name for a pattern, and a free number for utun.
            TunnelSource::Device { name, .. } if name.contains('%') || name == "utun" => Vec::new(),
            TunnelSource::Device { name, netns, .. } => {
                vec![(Belonging::Device(netns.clone(), name.clone()), "device")]
            }
        }
    }

    fn address(&self) -> Option<String> {
        match &self.source {
            TunnelSource::Listen { path, .. } => Some(path.display().to_string()),
            TunnelSource::Device { .. } => None,
        }
    }

    fn hindrance(&self, _mtu: usize) -> Option<Hindrance> {
        match &self.source {
            TunnelSource::Device { name, .. } => reserved_name(name).map(|error| error.within("device")),
            TunnelSource::Listen { .. } => None,
        }
    }

    fn hand_over(&self) -> HandOver {
        match &self.source {
            TunnelSource::Listen { .. } => HandOver::Reconnects,
            TunnelSource::Device { .. } => HandOver::DeviceAnew,
        }
    }

    fn fits(
        &self,
        validator: &mut Validator,
        path: &str,
        settings: &PortSettings,
        network: &mut Surroundings,
    ) {
        validator.tunnel_fits(path, (self, settings), network);
    }

    /// Its link address is part of it.
    fn depends_on(&self, old: &PortSettings, new: &PortSettings) -> bool {
        old.queue != new.queue || old.mac != new.mac
    }

    fn equals(&self, other: &dyn Kind) -> bool {
        same(self, other)
    }

    fn keeper(&self) -> Keeper {
        let config = self.clone();
        match self.source.clone() {
            TunnelSource::Listen { path, access, addresses } => {
                Keeper::Clients(Box::new(socket::Tunnels::new(config, path, access, addresses)))
            }
            TunnelSource::Device { name, addresses, packet_information, netns } => {
                Keeper::Guest(Box::new(device::Keep { config, name, addresses, packet_information, netns }))
            }
        }
    }
}

/// The link of a tunnel on a seat's port.
fn interface(
    seat: &Seat,
    config: &Tunnel,
    unit: Option<NonZeroU32>,
    addresses: &[Prefixed],
) -> Result<Arc<Interface>, vmlan_link::Error> {
    let mtu = config.mtu.map_or(seat.mtu(), Mtu::octets);
    let mtu = vmlan_link::Mtu::new(mtu as u64).expect("the configuration's range is the same");
    let max_pending = u32::try_from(seat.queue()).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
    let addresses: Vec<IpAddr> = addresses.iter().map(|prefixed| prefixed.address).collect();
    Interface::create(seat.registry(), Options { unit, mtu, addresses, max_pending })
}

/// The host that a tunnel is on its network.
fn host(seat: &Seat, config: &Tunnel, addresses: &[Prefixed]) -> Host {
    let mac = seat.mac().unwrap_or_else(|| crate::stable::mac(&seat.place().network, &seat.place().port));
    let seed = u64::from_be_bytes([0, 0, mac.0[0], mac.0[1], mac.0[2], mac.0[3], mac.0[4], mac.0[5]]);
    Host { mac, addresses: addresses.to_vec(), gateways: config.gateways.clone(), seed }
}

/// Waits for the end of a tunnel, and says meanwhile who else uses its addresses.
async fn until_fault(seat: &mut Seat, tunnel: &tunnel::Tunnel) -> Fault {
    loop {
        match seat.fault_or_tick().await {
            Some(fault) => return fault,
            None => tell_conflicts(seat, tunnel),
        }
    }
}

fn tell_conflicts(seat: &Seat, tunnel: &tunnel::Tunnel) {
    for (address, with) in tunnel.conflicts() {
        let port = seat.place();
        tracing::warn!(%port, "{with} uses {address} too; give one of them another address");
    }
}
