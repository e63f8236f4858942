//! The keeper of an uplink's port.

use std::future::pending;

use crate::Seat;
use crate::kind::{KeepGuest, Work};

/// Keeps the uplink of one network.
pub(super) struct Keep;

impl KeepGuest for Keep {
    fn keep<'a>(&'a mut self, seat: &'a mut Seat) -> Work<'a> {
        Box::pin(async {
            seat.failed(
                "this build of vmlan has no uplinks yet: guests get no addresses and no way out".into(),
            );
            pending().await
        })
    }
}
