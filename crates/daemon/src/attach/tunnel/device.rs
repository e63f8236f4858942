//! A tunnel to the host's own stack: a device of the kernel that is set up with the port's addresses.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use drivers::tunnel::Tunnel;
use drivers::tunnel::message::Prefixed;

use super::{host, interface, until_fault};
use crate::attach::{Pause, recover, tunnel_device};
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
            Ok((tunnel, name)) => {
                pause.reset();
                let tunnel = Arc::new(tunnel);
                station.up(tunnel.clone(), Some(name)).await;
                let fault = until_fault(station, &tunnel).await;
                // The device goes with the last descriptor.
                recover(station, fault).await;
            }
            Err(reason) => station.failed(reason),
        }
        pause.wait().await;
    }
}

/// The tunnel, and the device's name.
async fn open(
    station: &Station,
    config: &config::Tunnel,
    wanted: &Wanted<'_>,
) -> Result<(Tunnel, String), String> {
    let (device, form, name) = tunnel_device::open(wanted).await?;
    let refused = |error| format!("the tunnel's link cannot be made: {error}");
    let interface = interface(station, config, None, wanted.addresses).map_err(refused)?;
    let host = host(station, config, wanted.addresses);
    let tunnel = Tunnel::to_device(device, form, &host, interface).map_err(refused)?;
    Ok((tunnel, name))
}
