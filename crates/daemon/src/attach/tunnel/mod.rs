//! Tunnels: a control socket whose clients become ports of their own, or a device of the kernel.

pub(super) mod device;
mod lease;
mod serve;
pub(super) mod socket;

use std::hash::Hasher;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use drivers::Fault;
use drivers::tunnel::message::Prefixed;
use drivers::tunnel::{Host, Interface, Options, Tunnel};
use frame::MacAddr;

use crate::config;
use crate::supervisor::Station;

/// The link of a tunnel on a station's port.
fn interface(
    station: &Station,
    config: &config::Tunnel,
    unit: Option<NonZeroU32>,
    addresses: &[Prefixed],
) -> Result<Arc<Interface>, link::Error> {
    let mtu = config.mtu.map_or(station.mtu(), config::Mtu::octets);
    let mtu = link::Mtu::new(mtu as u64).expect("the configuration's range is the same");
    let max_pending =
        u32::try_from(station.queue()).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
    let addresses: Vec<IpAddr> = addresses.iter().map(|prefixed| prefixed.address).collect();
    Interface::create(station.registry(), Options { unit, mtu, addresses, max_pending })
}

/// The host that a tunnel is on its network.
fn host(station: &Station, config: &config::Tunnel, addresses: &[Prefixed]) -> Host {
    let mac = station.mac().unwrap_or_else(|| stable_mac(station));
    let seed = u64::from_be_bytes([0, 0, mac.0[0], mac.0[1], mac.0[2], mac.0[3], mac.0[4], mac.0[5]]);
    Host { mac, addresses: addresses.to_vec(), gateways: config.gateways.clone(), seed }
}

/// A link address for a port without one: always the same for a port of that name on this machine, and locally
/// administered (IEEE 802-2014 8.2).
fn stable_mac(station: &Station) -> MacAddr {
    let machine = std::fs::read(Path::new("/etc/machine-id"))
        .unwrap_or_else(|_| rustix::system::uname().nodename().to_bytes().to_vec());
    let place = station.place();
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    for part in [&machine[..], place.network.as_bytes(), place.port.as_bytes()] {
        hasher.write(part);
        hasher.write(&[0]);
    }
    let [.., a, b, c, d, e] = hasher.finish().to_be_bytes();
    MacAddr([0x06, a, b, c, d, e])
}

/// FNV-1a: the same in every version, which the standard library's hasher is not.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            self.0 = (self.0 ^ u64::from(*octet)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        // The last octets mix badly without this.
        (self.0 ^ self.0 >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Waits for the end of a tunnel, and says meanwhile who else uses its addresses.
async fn until_fault(station: &mut Station, tunnel: &Tunnel) -> Fault {
    loop {
        match station.fault_or_tick().await {
            Some(fault) => return fault,
            None => tell_conflicts(station, tunnel),
        }
    }
}

fn tell_conflicts(station: &Station, tunnel: &Tunnel) {
    for (address, with) in tunnel.conflicts() {
        let port = station.place();
        tracing::warn!(%port, "{with} uses {address} too; give one of them another address");
    }
}
