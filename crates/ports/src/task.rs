//! How ports are kept attached: one task for each port.
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

use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinError;
use tokio::time::sleep;
use vmlan_api::{ErrorCode, PortState};
use vmlan_drivers::Fault;

use crate::kind::{Hindrance, KeepClients, KeepGuest};

use crate::panics::{self, Relapses, caught};
use crate::{Clients, Seat};

/// How long a guest that broke the rules is kept away.
pub(crate) const QUARANTINE: Duration = Duration::from_secs(1);

/// How the task of a port and the supervisor know of each other's end.
pub struct Ends {
    /// The port is to stop, by a word or by the loss of its sender.
    pub stop: oneshot::Receiver<()>,
    /// Tells that the port is out of every layer.
    pub left: oneshot::Sender<()>,
    /// Dropped when all is done that has to be done afterwards.
    pub done: watch::Sender<()>,
    /// Dropped when what earlier ports do afterwards with what this one needs is done.
    pub before: Vec<watch::Receiver<()>>,
}

/// Keeps a port that is one guest's attached until it is to stop, then takes it out of every layer, and then does what
/// has to be done with its device.
pub async fn run(mut seat: Seat, mut keeper: Box<dyn KeepGuest>, ends: Ends) {
    let Ends { stop, left, done, before } = ends;
    let mut relapses = Relapses::default();
    let persist = async {
        if !before.is_empty() {
            seat.delayed("the terminate program of the port before this one is running".into());
        }
        for mut done in before {
            // An error: it is done.
            while done.changed().await.is_ok() {}
        }
        loop {
            match caught(keeper.keep(&mut seat)).await {
                Ok(()) => return,
                Err(panic) => relapse(&mut seat, panic, &mut relapses).await,
            }
            keeper.close().await;
        }
    };
    tokio::select! {
        () = persist => {}
        // An error: whoever would stop it is gone, which stops it as well.
        _ = stop => {}
    }
    seat.leave().await;
    // An error: nothing waits for it.
    let _ = left.send(());
    keeper.close().await;
    drop(done);
}

/// The change of a device since the last look.
#[cfg_attr(target_os = "macos", expect(dead_code, reason = "devices are not followed there"))]
pub(crate) enum Look {
    /// No change.
    Same,
    /// The port's state and its reason, and the device's name.
    Changed { state: PortState, reason: Option<String>, name: String },
    /// It has to be closed, for this reason.
    Gone(String),
}

/// Keeps a port whose clients become ports of their own until `stop`, and then takes them and it out of every layer.
pub async fn run_clients(
    mut clients: Clients,
    mut keeper: Box<dyn KeepClients>,
    stop: oneshot::Receiver<()>,
) {
    let mut relapses = Relapses::default();
    let persist = async {
        loop {
            let Err(panic) = caught(keeper.keep(&mut clients)).await else { return };
            // Clients that are there stay.
            clients.failed(format!("{panic}; it begins anew"));
            relapses.pause().await;
        }
    };
    tokio::select! {
        () = persist => {}
        _ = stop => {}
    }
    keeper.close().await;
    clients.leave();
}

/// Takes a port down after a panic of its task, says so, and waits, longer each time.
pub(crate) async fn relapse(seat: &mut Seat, panic: String, relapses: &mut Relapses) {
    if let Err(again) = caught(seat.down()).await {
        tracing::error!(port = %seat.place(), "it cannot be taken down: {again}");
    }
    seat.failed(format!("{panic}; it begins anew"));
    relapses.pause().await;
}

/// Says that the task of a client of `clients` ended by a panic, if it did. The client's port has left.
pub(crate) fn report_end(clients: &Clients, ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(payload) = error.try_into_panic()
    {
        let panic = panics::message(&*payload);
        tracing::error!(port = %clients.place(), "a client is closed by {panic}");
    }
}

/// Takes a port down after `fault`, says so, and waits as long as the fault demands.
pub(crate) async fn recover(seat: &mut Seat, fault: Fault) {
    seat.down().await;
    match fault {
        Fault::Closed => seat.waiting(Some("the guest closed the connection".into())),
        Fault::Gone => seat.waiting(Some("the device is gone".into())),
        Fault::Violation(reason) => {
            seat.quarantined(reason);
            sleep(QUARANTINE).await;
        }
        Fault::Io(error) if has_vanished(&error) => {
            seat.waiting(Some(format!("the guest has vanished: {error}")));
        }
        Fault::Io(error) => {
            seat.failed(format!("the system refused to go on: {error}; it is tried again"));
            sleep(QUARANTINE).await;
        }
        Fault::Bug(reason) => {
            seat.failed(format!("a bug in vmlan ended it: {reason}; please report it; it is tried again"));
            sleep(QUARANTINE).await;
        }
    }
}

/// True if the error says that a connection ended because its peer gave no sign of life.
pub(crate) fn has_vanished(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::*;
    matches!(error.kind(), TimedOut | HostUnreachable | NetworkUnreachable)
}

/// A pause between attempts that doubles.
pub(crate) struct Pause {
    next: Duration,
    longest: Duration,
}

impl Pause {
    const FIRST: Duration = Duration::from_millis(10);

    pub(crate) fn up_to(longest: Duration) -> Pause {
        Pause { next: Pause::FIRST, longest }
    }

    pub(crate) async fn wait(&mut self) {
        sleep(self.next).await;
        self.next = (self.next * 2).min(self.longest);
    }

    pub(crate) fn reset(&mut self) {
        self.next = Pause::FIRST;
    }
}

/// Names that Linux refuses to devices, since they would hide its own directories in /proc/sys/net.
pub(crate) const RESERVED: [&str; 2] = ["all", "default"];

/// Returns the reason why a device cannot have this name, where there is one.
pub(crate) fn reserved_name(name: &str) -> Option<Hindrance> {
    RESERVED.contains(&name).then(|| {
        let message = format!("the kernel keeps the name `{name}` for itself; choose another name");
        Hindrance::new(ErrorCode::BadDeviceName, message)
    })
}

/// True if the error says that the guest is just not there, or full for the moment.
pub(crate) fn is_absent(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::*;
    matches!(
        error.kind(),
        NotFound | ConnectionRefused | WouldBlock | TimedOut | HostUnreachable | NetworkUnreachable
    )
}

/// An error and what caused it, in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
