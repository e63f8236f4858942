//! TAP devices: macOS has none.

use super::Tap;
use crate::Seat;
use crate::kind::{KeepGuest, Work};

/// Says that there are none.
pub(super) struct Keep;

impl Keep {
    pub(super) fn new(_: Tap) -> Keep {
        Keep
    }
}

impl KeepGuest for Keep {
    fn keep<'a>(&'a mut self, seat: &'a mut Seat) -> Work<'a> {
        Box::pin(async {
            seat.failed("macOS has no TAP devices; use `stream`, `datagram` or `vde` instead".into());
            std::future::pending().await
        })
    }
}
