//! How ports are kept attached: one module for each kind, one task for each port.
//!
//! Theory of operation. A task sets its port up (opens the device, binds the socket), waits for the guest, hands the
//! descriptors to the data plane, waits for a fault, and begins again, for ever: whatever happens to a guest, a device
//! or a socket, the port comes back by itself. A task that is told to stop is dropped at the point where it waits; what
//! it holds (sockets, their paths, its seat in the network) is given back by being dropped, and what has to be done in
//! order afterwards is in [`run`].
//!
//! A fault that is the guest's doing keeps it away for [`QUARANTINE`]; one of the system is tried again after a pause
//! that doubles ([`Pause`]). A panic of a task is a fault of ours: its port is `failed` for a while that grows, and
//! begins anew; clients that became ports of their own have tasks of their own, and do not notice.

mod accept;
pub(crate) mod claim;
mod datagram;
mod peers;
#[cfg(target_os = "linux")]
mod program;
mod silence;
mod stream;
pub(crate) mod swept;
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
#[path = "linux/follow.rs"]
mod follow;
#[cfg(target_os = "linux")]
#[path = "linux/home.rs"]
mod home;
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

use api::PortState;
use drivers::Fault;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinError;
use tokio::time::sleep;

use crate::config::{Attachment, TunnelSource};
use crate::panics::{self, Relapses, caught};
use crate::supervisor::{Clients, Station};

/// How long a guest that broke the rules is kept away.
const QUARANTINE: Duration = Duration::from_secs(1);

/// How the task of a port and the supervisor know of each other's end.
pub(crate) struct Ends {
    /// The port is to stop, by a word or by the loss of its sender.
    pub(crate) stop: oneshot::Receiver<()>,
    /// Tells that the port is out of every layer.
    pub(crate) left: oneshot::Sender<()>,
    /// Dropped when all is done that has to be done afterwards.
    pub(crate) done: watch::Sender<()>,
    /// Dropped when what earlier ports do afterwards with what this one needs is done.
    pub(crate) before: Vec<watch::Receiver<()>>,
}

/// Keeps a port that is one guest's attached until it is to stop, then takes it out of every layer, and then does what
/// has to be done with its device.
pub(crate) async fn run(mut station: Station, attachment: Attachment, ends: Ends) {
    let Ends { stop, left, done, before } = ends;
    let mut device = tap::Opened::default();
    let mut relapses = Relapses::new();
    let persist = async {
        if !before.is_empty() {
            station.delayed("the terminate program of the port before this one is running".into());
        }
        for mut done in before {
            // An error: it is done.
            while done.changed().await.is_ok() {}
        }
        loop {
            match caught(keep(&mut station, &attachment, &mut device)).await {
                Ok(()) => return,
                Err(panic) => relapse(&mut station, panic, &mut relapses).await,
            }
            device.close().await;
        }
    };
    tokio::select! {
        () = persist => {}
        // An error: whoever would stop it is gone, which stops it as well.
        _ = stop => {}
    }
    station.leave().await;
    // An error: nothing waits for it.
    let _ = left.send(());
    device.close().await;
    drop(done);
}

/// What became of a device since it was looked at.
#[cfg_attr(target_os = "macos", expect(dead_code, reason = "devices are not followed there"))]
enum Look {
    /// Nothing.
    Same,
    /// The port's state and its reason, and the device's name.
    Changed { state: PortState, reason: Option<String>, name: String },
    /// It has to be closed, for this reason.
    Gone(String),
}

async fn keep(station: &mut Station, attachment: &Attachment, device: &mut tap::Opened) {
    match attachment {
        Attachment::Tap(config) => tap::keep(station, config, device).await,
        Attachment::Stream(config) => stream::keep(station, config).await,
        Attachment::Datagram(config) => datagram::keep(station, config).await,
        Attachment::Tunnel(config) => match &config.source {
            TunnelSource::Device { name, addresses, packet_information, netns } => {
                let (packet_information, netns) = (*packet_information, netns.as_deref());
                let wanted = tunnel::device::Wanted { name, addresses, packet_information, netns, mtu: 0 };
                tunnel::device::keep(station, config, wanted).await
            }
            TunnelSource::Listen { .. } => unreachable!("a control socket is kept by `run_clients`"),
        },
        Attachment::Vde(_) => unreachable!("a VDE directory is kept by `run_clients`"),
    }
}

/// Keeps a port whose clients become ports of their own, a VDE directory or a tunnel's control socket, until `stop`.
pub(crate) async fn run_clients(mut clients: Clients, attachment: Attachment, stop: oneshot::Receiver<()>) {
    let mut directory = vde::Directory::default();
    let mut tunnels = tunnel::socket::Tunnels::default();
    let mut relapses = Relapses::new();
    let persist = async {
        loop {
            let kept = caught(keep_clients(&mut clients, &attachment, &mut directory, &mut tunnels));
            let Err(panic) = kept.await else { return };
            // Clients that are there stay.
            clients.failed(format!("{panic}; it begins anew"));
            relapses.pause().await;
        }
    };
    tokio::select! {
        () = persist => {}
        _ = stop => {}
    }
    directory.close().await;
    tunnels.close().await;
    clients.leave();
}

async fn keep_clients(
    clients: &mut Clients,
    attachment: &Attachment,
    directory: &mut vde::Directory,
    tunnels: &mut tunnel::socket::Tunnels,
) {
    match attachment {
        Attachment::Vde(config) => vde::keep(clients, config, directory).await,
        Attachment::Tunnel(config) => match &config.source {
            TunnelSource::Listen { path, mode, addresses } => {
                tunnel::socket::keep(clients, config, (path, *mode, addresses), tunnels).await;
            }
            TunnelSource::Device { .. } => unreachable!("a device is kept by `run`"),
        },
        _ => unreachable!("kept by `run`"),
    }
}

/// Takes a port down after a panic of its task, says so, and waits, longer each time.
async fn relapse(station: &mut Station, panic: String, relapses: &mut Relapses) {
    if let Err(again) = caught(station.down()).await {
        tracing::error!("port {}: it cannot be taken down: {again}", station.place().port);
    }
    station.failed(format!("{panic}; it begins anew"));
    relapses.pause().await;
}

/// Says that the task of a client of `clients` ended by a panic, if it did. The client's port has left.
fn report_end(clients: &Clients, ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(payload) = error.try_into_panic()
    {
        let panic = panics::message(&*payload);
        tracing::error!("port {}: a client is closed by {panic}", clients.name());
    }
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
        Fault::Io(error) if has_vanished(&error) => {
            station.waiting(Some(format!("the guest has vanished: {error}")));
        }
        Fault::Io(error) => {
            station.failed(format!("the system refused to go on: {error}; it is tried again"));
            sleep(QUARANTINE).await;
        }
        Fault::Bug(reason) => {
            station.failed(format!("a bug in vmlan ended it: {reason}; please report it; it is tried again"));
            sleep(QUARANTINE).await;
        }
    }
}

/// Whether a connection ended because its peer gave no sign of life.
fn has_vanished(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::*;
    matches!(error.kind(), TimedOut | HostUnreachable | NetworkUnreachable)
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
