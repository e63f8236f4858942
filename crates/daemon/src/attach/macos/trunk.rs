//! Trunks: not yet on macOS.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::config::Trunk;
use crate::supervisor::{Station, TrunkWish};

/// Says that it cannot be, until `stop`.
pub(crate) async fn run(
    mut station: Station,
    _config: Trunk,
    _wish: Arc<TrunkWish>,
    stop: oneshot::Receiver<()>,
) {
    station
        .failed("a network cannot be joined to an interface of the host on macOS yet; remove `trunk`".into());
    let _ = stop.await;
    station.leave().await;
}
