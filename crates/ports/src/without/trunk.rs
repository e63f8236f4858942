//! Trunks: not possible.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{Seat, Trunk, TrunkWish};

/// Says so, until `stop`.
pub async fn run(mut seat: Seat, _: Trunk, _: Arc<TrunkWish>, stop: oneshot::Receiver<()>) {
    seat.failed("this vmlan is built without netlink and has no trunks; remove the table `trunk`".into());
    // An error: whoever would stop it is gone, which stops it as well.
    let _ = stop.await;
    seat.leave().await;
}
