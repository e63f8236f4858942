use frame::{Direction, DropReason, Frame};

use crate::Context;

/// A capture on a link. It sees frames received before the filters and frames to be sent after them.
///
/// Calls come from every worker, and one may still be running when [`Link::detach_tap`](crate::Link::detach_tap)
/// returns.
pub trait Tap: Send + Sync {
    /// A frame passes.
    fn frame(&self, cx: &Context<'_>, direction: Direction, frame: &Frame);

    /// The link drops a frame, on its way in after it was seen, on its way out before.
    fn dropped(&self, cx: &Context<'_>, frame: &Frame, reason: DropReason) {
        let _ = (cx, frame, reason);
    }

    /// The link ends; nothing follows.
    fn ended(&self) {}
}

/// Names a tap on its link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TapId(pub(crate) u64);
