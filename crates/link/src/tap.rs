use std::sync::Arc;

use arc_swap::Guard;
use frame::{Context, Direction, DropReason, Frame};

use crate::plan::{Plan, TAPPED};
use crate::{IoRef, Link};

/// A capture on a link. It sees frames received before the filters and frames to be sent after them.
///
/// Calls come from every worker, and one may still be running when [`Link::detach_tap`](crate::Link::detach_tap)
/// returns. When the link ends, [`Tap::ended`] is the last of them.
pub trait Tap: Send + Sync {
    /// A frame passes.
    fn frame(&self, cx: &Context<'_>, direction: Direction, frame: &Frame);

    /// The link, or the network behind it, drops a frame: on its way in after it was seen, on its way out before.
    fn dropped(&self, cx: &Context<'_>, frame: &Frame, reason: DropReason) {
        let _ = (cx, frame, reason);
    }

    /// The link has ended; no call runs, and none follows.
    fn ended(&self) {}
}

/// Names a tap on its link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TapId(pub(crate) u64);

/// The taps that a link had just now, for a network that drops what the link gave it. Hold it for one batch: the link
/// does not end meanwhile.
pub struct Taps<'a> {
    plan: Guard<Arc<Plan>>,
    _inside: IoRef<'a>,
}

impl Taps<'_> {
    /// Shows a received frame that the network drops.
    pub fn dropped(&self, cx: &Context<'_>, frame: &Frame, reason: DropReason) {
        for (_, tap) in &self.plan.taps {
            tap.dropped(cx, frame, reason);
        }
    }
}

impl Link {
    /// The taps, if there are any and the link is attached. Costs one atomic load when there are none.
    #[inline]
    pub fn taps(&self) -> Option<Taps<'_>> {
        if self.record().gate.flags() & TAPPED == 0 {
            return None;
        }
        let inside = self.io_ref()?;
        Some(Taps { plan: self.plan(), _inside: inside })
    }
}
