//! Sockets whose files are swept away while they are in use.
//!
//! Nothing tells a socket that its path leads nowhere any more, as after a clean-up of `/tmp` or of `/run`: it would
//! wait for ever for guests that cannot find it. So the path is looked at, and who keeps the socket binds it again.

use std::future::pending;
use std::time::Duration;

use tokio::time::sleep;
use vmlan_drivers::unix::BoundPath;

/// How often a path is looked at.
pub const LOOK: Duration = Duration::from_secs(1);

/// Waits until a socket's path does not lead to it any more; without a path for ever. Safe to cancel.
pub async fn swept(path: Option<&BoundPath>) {
    let Some(path) = path else { return pending().await };
    while path.leads_to_it() {
        sleep(LOOK).await;
    }
}

/// The words for the log and the port's reason.
pub fn notice(path: &BoundPath) -> String {
    format!(
        "{} was removed or replaced, so nobody finds it any more; it is made again",
        path.path().display()
    )
}
