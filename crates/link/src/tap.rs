use std::sync::Arc;

use arc_swap::Guard;
use vmlan_frame::{Context, Direction, DropReason, Frame};

use crate::chain::{Chain, TAPPED};
use crate::ending::OnDataPath;
use crate::hook::{self, Entered, Hook, Place};
use crate::{Error, IoRef, Link};

/// A capture on a link. It sees frames received before the filters and frames to be sent after them.
///
/// Calls come from every worker. None runs when [`Link::detach_tap`](crate::Link::detach_tap) returns, and none
/// follows. When the link ends, [`Tap::ended`] is the last of them.
pub trait Tap: Send + Sync {
    /// A frame passes.
    fn frame(&self, cx: &Context<'_>, direction: Direction, frame: &Frame);

    /// The link, or the network behind it, drops a frame: on its way in after it was seen, on its way out before.
    fn dropped(&self, cx: &Context<'_>, frame: &Frame, reason: DropReason) {
        let _ = (cx, frame, reason);
    }

    /// The link has ended; no call runs, and none follows. Never runs in a thread that moves frames.
    fn ended(&self) {}
}

/// Names a tap, uniquely in the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TapId(u64);

/// A tap in its place on a link.
pub(crate) struct Slot {
    pub(crate) tap: Arc<dyn Tap>,
    place: Place,
}

impl Hook for Slot {
    #[inline]
    fn place(&self) -> &Place {
        &self.place
    }

    /// A tap has nothing to do: the call that detaches it returns after its last callback.
    fn detached(&self) {}
}

impl Entered<'_, Slot> {
    #[inline]
    pub(crate) fn frame(&self, cx: &Context<'_>, direction: Direction, frame: &Frame) {
        for slot in self.iter() {
            slot.tap.frame(cx, direction, frame);
        }
    }

    pub(crate) fn dropped(&self, cx: &Context<'_>, frame: &Frame, reason: DropReason) {
        for slot in self.iter() {
            slot.tap.dropped(cx, frame, reason);
        }
    }
}

/// The taps that a link had just now, for a network that drops what the link gave it. Hold it for one batch: neither
/// the link nor a tap ends meanwhile.
pub struct Taps<'a> {
    link: &'a Link,
    chain: Guard<Arc<Chain>>,
    /// The taps of the chain that this holds.
    mask: u64,
    _inside: IoRef<'a>,
    _here: OnDataPath,
}

impl Taps<'_> {
    /// Shows a received frame that the network drops.
    pub fn dropped(&self, cx: &Context<'_>, frame: &Frame, reason: DropReason) {
        for slot in hook::chosen(&self.chain.taps, self.mask) {
            slot.tap.dropped(cx, frame, reason);
        }
    }
}

impl Drop for Taps<'_> {
    fn drop(&mut self) {
        hook::leave(self.link, &self.chain.taps, self.mask);
    }
}

impl Link {
    /// The taps, if there are any and the link is attached. Costs one atomic load when there are none.
    #[inline]
    pub fn taps(&self) -> Option<Taps<'_>> {
        if self.record().gate.flags() & TAPPED == 0 {
            return None;
        }
        let inside = self.enter_as_worker()?;
        let chain = self.chain();
        let mask = hook::enter(&chain.taps);
        Some(Taps { link: self, chain, mask, _inside: inside, _here: OnDataPath::enter() })
    }

    /// Attaches a capture. The driver is told of the first one.
    ///
    /// # Errors
    /// `ENXIO` when the link is not attached, `ENOBUFS` when it has 64 taps; else what the driver says to it.
    pub fn attach_tap(&self, tap: Arc<dyn Tap>) -> Result<TapId, Error> {
        let _inside = self.io_ref().ok_or(Error::NotAttached)?;
        // The driver is told of one change at a time, in their order.
        let _change = self.record().tap_change.lock();
        let chain = self.chain();
        let is_first = chain.taps.is_empty();
        if chain.taps.len() >= Place::LIMIT {
            return Err(Error::NoBuffers);
        }
        if is_first {
            chain.driver.set_tap(true)?;
        }
        let slot = Arc::new(Slot { tap, place: Place::new() });
        let id = TapId(slot.place.id);
        let attached = self.change_hooks(|_, chain| {
            chain.taps.push(slot);
            Ok(id)
        });
        if attached.is_err() && is_first {
            // A detach has begun; it is the one error that counts.
            let _ = chain.driver.set_tap(false);
        }
        attached
    }

    /// Detaches a capture, and returns when its last callback has ended. The driver is told when it was the last one.
    ///
    /// In a thread that is itself inside the tap (in one of its callbacks, or with [`Taps`] in hand) it returns at
    /// once. Two threads must not each detach the tap that the other one is inside of: both would wait for ever.
    ///
    /// # Errors
    /// `ENXIO` when the link is not attached, `EINVAL` when the tap is not there; else what the driver says to it, and
    /// the tap is detached nevertheless.
    pub fn detach_tap(&self, id: TapId) -> Result<(), Error> {
        let _inside = self.io_ref().ok_or(Error::NotAttached)?;
        let (slot, told) = {
            let _change = self.record().tap_change.lock();
            let (slot, left) = self.change_chain(|_, chain| {
                let at =
                    chain.taps.iter().position(|slot| slot.place.id == id.0).ok_or(Error::InvalidArgument)?;
                Ok((chain.taps.remove(at), chain.taps.len()))
            })?;
            (slot, if left == 0 { self.chain().driver.set_tap(false) } else { Ok(()) })
        };
        hook::end(self, &slot);
        told
    }
}
