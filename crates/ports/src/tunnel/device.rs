//! A tunnel to the host's own stack: a device of the kernel that is set up with the port's addresses.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use vmlan_drivers::tunnel;
use vmlan_drivers::tunnel::message::Prefixed;

use super::{Mtu, Tunnel, host, interface, system, tell_conflicts};
use crate::Seat;
use crate::kind::{KeepGuest, Work};
use crate::{Look, Pause, recover};

/// The wanted properties of a device.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) addresses: &'a [Prefixed],
    pub(super) packet_information: bool,
    pub(super) netns: Option<&'a Path>,
    pub(super) mtu: usize,
}

/// Keeps a device for a port.
pub(super) struct Keep {
    pub(super) config: Tunnel,
    pub(super) name: String,
    pub(super) addresses: Vec<Prefixed>,
    pub(super) packet_information: bool,
    pub(super) netns: Option<PathBuf>,
}

impl KeepGuest for Keep {
    fn keep<'a>(&'a mut self, seat: &'a mut Seat) -> Work<'a> {
        let wanted = Wanted {
            name: &self.name,
            addresses: &self.addresses,
            packet_information: self.packet_information,
            netns: self.netns.as_deref(),
            mtu: self.config.mtu.map_or(seat.mtu(), Mtu::octets),
        };
        Box::pin(keep(seat, &self.config, wanted))
    }
}

async fn keep(seat: &mut Seat, config: &Tunnel, wanted: Wanted<'_>) {
    let mut pause = Pause::up_to(Duration::from_secs(1));
    loop {
        match open(seat, config, &wanted).await {
            Ok((tunnel, name, follow)) => {
                pause.reset();
                let tunnel = Arc::new(tunnel);
                seat.up(tunnel.clone(), Some(name)).await;
                attend(seat, tunnel, follow).await;
            }
            Err(reason) => seat.failed(reason),
        }
        pause.wait().await;
    }
}

/// Lets the port's state follow the device, until it is of no more use and was taken down.
async fn attend(seat: &mut Seat, tunnel: Arc<tunnel::Tunnel>, mut follow: system::Follow) {
    loop {
        if let Some(fault) = seat.fault_or_tick().await {
            let fault = follow.explain(fault);
            // The device goes with the last descriptor.
            drop((tunnel, follow));
            return recover(seat, fault).await;
        }
        tell_conflicts(seat, &tunnel);
        match follow.look() {
            Look::Same => {}
            Look::Changed { state, reason, name } => seat.device_is(state, reason, name),
            Look::Gone(reason) => {
                drop((tunnel, follow));
                seat.down().await;
                return seat.waiting(Some(reason));
            }
        }
    }
}

/// The tunnel, the device's name, and what follows the device.
async fn open(
    seat: &Seat,
    config: &Tunnel,
    wanted: &Wanted<'_>,
) -> Result<(tunnel::Tunnel, String, system::Follow), String> {
    let (device, form, name, follow) = system::open(wanted).await?;
    let refused = |error| format!("the tunnel's link cannot be made: {error}");
    let interface = interface(seat, config, None, wanted.addresses).map_err(refused)?;
    let host = host(seat, config, wanted.addresses);
    let tunnel = tunnel::Tunnel::to_device(device, form, &host, interface).map_err(refused)?;
    Ok((tunnel, name, follow))
}
