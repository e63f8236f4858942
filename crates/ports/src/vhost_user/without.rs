//! vhost-user ports: not on this system.

use vmlan_api::ErrorCode;

use super::VhostUser;
use crate::Seat;
use crate::kind::{Hindrance, KeepGuest, Work};

const REASON: &str = "vhost-user ports need Linux; use `stream`, `datagram` or `vde` instead";

/// Returns the reason why there are none.
pub(super) fn hindrance() -> Option<Hindrance> {
    Some(Hindrance::new(ErrorCode::Conflict, REASON.into()))
}

/// Says that there are none.
pub(super) struct Keep;

impl Keep {
    pub(super) fn new(_: VhostUser) -> Keep {
        Keep
    }
}

impl KeepGuest for Keep {
    fn keep<'a>(&'a mut self, seat: &'a mut Seat) -> Work<'a> {
        Box::pin(async {
            seat.failed(REASON.into());
            std::future::pending().await
        })
    }
}
