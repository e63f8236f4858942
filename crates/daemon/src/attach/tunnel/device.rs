//! A tunnel to the host's own stack: a device of the kernel that is set up with the port's addresses.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use drivers::tunnel::Tunnel;
use drivers::tunnel::message::Prefixed;

use super::{host, interface, tell_conflicts};
use crate::attach::{Look, Pause, recover, tunnel_device};
use crate::config;
use crate::supervisor::Station;

/// What a device shall be.
pub(in crate::attach) struct Wanted<'a> {
    pub(in crate::attach) name: &'a str,
    pub(in crate::attach) addresses: &'a [Prefixed],
    pub(in crate::attach) packet_information: bool,
    pub(in crate::attach) netns: Option<&'a Path>,
    pub(in crate::attach) mtu: usize,
}

pub(in crate::attach) async fn keep(station: &mut Station, config: &config::Tunnel, mut wanted: Wanted<'_>) {
    wanted.mtu = config.mtu.map_or(station.mtu(), config::Mtu::octets);
    let mut pause = Pause::up_to(Duration::from_secs(1));
    loop {
        match open(station, config, &wanted).await {
            Ok((tunnel, name, follow)) => {
                pause.reset();
                let tunnel = Arc::new(tunnel);
                station.up(tunnel.clone(), Some(name)).await;
                attend(station, tunnel, follow).await;
            }
            Err(reason) => station.failed(reason),
        }
        pause.wait().await;
    }
}

/// Lets the port's state follow the device, until it is of no more use and was taken down.
async fn attend(station: &mut Station, tunnel: Arc<Tunnel>, mut follow: tunnel_device::Follow) {
    loop {
        if let Some(fault) = station.fault_or_tick().await {
            // The device goes with the last descriptor.
            drop((tunnel, follow));
            return recover(station, fault).await;
        }
        tell_conflicts(station, &tunnel);
        match follow.look() {
            Look::Same => {}
            Look::Changed { state, reason, name } => station.device_is(state, reason, name),
            Look::Gone(reason) => {
                drop((tunnel, follow));
                station.down().await;
                return station.waiting(Some(reason));
            }
        }
    }
}

/// The tunnel, the device's name, and what follows the device.
async fn open(
    station: &Station,
    config: &config::Tunnel,
    wanted: &Wanted<'_>,
) -> Result<(Tunnel, String, tunnel_device::Follow), String> {
    let (device, form, name, follow) = tunnel_device::open(wanted).await?;
    let refused = |error| format!("the tunnel's link cannot be made: {error}");
    let interface = interface(station, config, None, wanted.addresses).map_err(refused)?;
    let host = host(station, config, wanted.addresses);
    let tunnel = Tunnel::to_device(device, form, &host, interface).map_err(refused)?;
    Ok((tunnel, name, follow))
}
