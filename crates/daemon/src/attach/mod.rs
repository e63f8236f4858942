//! How ports are kept attached: one module for each kind, one task for each port.
//!
//! Theory of operation. A task sets its port up (opens the device, binds the socket), waits for the guest, hands the
//! descriptors to the data plane, waits for a fault, and begins again, for ever: whatever happens to a guest, a device
//! or a socket, the port comes back by itself. A task that is told to stop is dropped at the point where it waits; what
//! it holds (sockets, their paths, its seat in the network) is given back by being dropped, and what has to be done in
//! order afterwards is in [`Attachment::run`].
//!
//! A fault that is the guest's doing keeps it away for [`QUARANTINE`]; one of the system is tried again after a pause
//! that doubles ([`Pause`]).

mod accept;
pub(crate) mod claim;
mod datagram;
mod peers;
#[cfg(target_os = "linux")]
mod program;
mod stream;
mod throttle;
#[cfg(target_os = "linux")]
#[path = "linux/trunk/mod.rs"]
mod trunk;
#[cfg(target_os = "macos")]
#[path = "macos/trunk.rs"]
mod trunk;
mod tunnel;
mod vde;

#[cfg(target_os = "linux")]
#[path = "linux/tap.rs"]
mod tap;
#[cfg(target_os = "macos")]
#[path = "macos/tap.rs"]
mod tap;

#[cfg(target_os = "linux")]
#[path = "linux/tunnel_device.rs"]
mod tunnel_device;
#[cfg(target_os = "macos")]
#[path = "macos/tunnel_device.rs"]
mod tunnel_device;

use std::time::Duration;

use drivers::Fault;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::config::{Attachment, TunnelSource};
use crate::supervisor::{Clients, Station};

/// How long a guest that broke the rules is kept away.
const QUARANTINE: Duration = Duration::from_secs(1);

/// Keeps a port that is one guest's attached until `stop`, then takes it out of every layer.
pub(crate) async fn run(mut station: Station, attachment: Attachment, stop: oneshot::Receiver<()>) {
    let mut device = tap::Opened::default();
    let keep = async {
        match &attachment {
            Attachment::Tap(config) => tap::keep(&mut station, config, &mut device).await,
            Attachment::Stream(config) => stream::keep(&mut station, config).await,
            Attachment::Datagram(config) => datagram::keep(&mut station, config).await,
            Attachment::Tunnel(config) => match &config.source {
                TunnelSource::Device { name, addresses, packet_information, netns } => {
                    let (packet_information, netns) = (*packet_information, netns.as_deref());
                    let wanted =
                        tunnel::device::Wanted { name, addresses, packet_information, netns, mtu: 0 };
                    tunnel::device::keep(&mut station, config, wanted).await
                }
                TunnelSource::Listen { .. } => unreachable!("a control socket is kept by `run_clients`"),
            },
            Attachment::Vde(_) => unreachable!("a VDE directory is kept by `run_clients`"),
        }
    };
    tokio::select! {
        () = keep => {}
        // An error: whoever would stop it is gone, which stops it as well.
        _ = stop => {}
    }
    station.leave().await;
    device.close().await;
}

/// Keeps a port whose clients become ports of their own, a VDE directory or a tunnel's control socket, until `stop`.
pub(crate) async fn run_clients(mut clients: Clients, attachment: Attachment, stop: oneshot::Receiver<()>) {
    let mut directory = vde::Directory::default();
    let mut tunnels = JoinSet::new();
    let keep = async {
        match &attachment {
            Attachment::Vde(config) => vde::keep(&mut clients, config, &mut directory).await,
            Attachment::Tunnel(config) => match &config.source {
                TunnelSource::Listen { path, mode, addresses } => {
                    tunnel::socket::keep(&mut clients, config, (path, *mode, addresses), &mut tunnels).await;
                }
                TunnelSource::Device { .. } => unreachable!("a device is kept by `run`"),
            },
            _ => unreachable!("kept by `run`"),
        }
    };
    tokio::select! {
        () = keep => {}
        _ = stop => {}
    }
    directory.close().await;
    tunnels.shutdown().await;
    clients.leave();
}

#[cfg(target_os = "linux")]
pub(crate) use trunk::leftovers;
pub(crate) use trunk::run as run_trunk;

/// Takes a port down after `fault`, says so, and waits as long as the fault demands.
async fn recover(station: &mut Station, fault: Fault) {
    station.down().await;
    match fault {
        Fault::Closed => station.waiting(Some("the guest closed the connection".into())),
        Fault::Gone => station.waiting(Some("the device is gone".into())),
        Fault::Violation(reason) => {
            station.quarantined(reason);
            sleep(QUARANTINE).await;
        }
        Fault::Io(error) => {
            station.failed(format!("the system refused to go on: {error}; it is tried again"));
            sleep(QUARANTINE).await;
        }
    }
}

/// A pause between attempts that doubles.
struct Pause {
    next: Duration,
    longest: Duration,
}

impl Pause {
    const FIRST: Duration = Duration::from_millis(10);

    fn up_to(longest: Duration) -> Pause {
        Pause { next: Pause::FIRST, longest }
    }

    async fn wait(&mut self) {
        sleep(self.next).await;
        self.next = (self.next * 2).min(self.longest);
    }

    fn reset(&mut self) {
        self.next = Pause::FIRST;
    }
}
