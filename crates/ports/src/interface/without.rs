//! Interface ports: not on this system, or not in this build.

use std::collections::BTreeSet;
use std::sync::Arc;

use vmlan_frame::{MacAddr, VlanId};
use vmlan_lan::{Network, PortId};

use super::Interface;
use crate::Seat;
use crate::kind::{KeepGuest, Work};

/// The parts that interface ports have together: nothing.
#[derive(Default)]
pub(crate) struct Shared;

impl Shared {
    /// Nothing is carried past the workers, so there is nothing to count.
    pub(crate) fn count(&self) {}

    /// Nor to wait for.
    pub(crate) fn settle(&self) {}

    /// Nothing was left in the kernel.
    pub(crate) fn take_over(&self, _: &str, _: &BTreeSet<(String, String)>) {}

    pub(crate) fn report(&self, _: &Arc<Network>, _: PortId) -> Option<vmlan_api::PortFast> {
        None
    }

    pub(crate) fn stations(&self, _: &Arc<Network>) -> BTreeSet<(MacAddr, Option<VlanId>)> {
        BTreeSet::new()
    }
}

/// Says that there are none.
pub(super) struct Keep;

impl Keep {
    pub(super) fn new(_: Interface) -> Keep {
        Keep
    }
}

impl KeepGuest for Keep {
    fn keep<'a>(&'a mut self, seat: &'a mut Seat) -> Work<'a> {
        Box::pin(async {
            let reason = "interface ports need Linux, and a build with the feature `netlink`; use `stream`, \
                          `datagram` or `vde` instead";
            seat.failed(reason.into());
            std::future::pending().await
        })
    }
}
