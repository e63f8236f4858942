use std::sync::{Arc, Weak};

use arc_swap::Guard;
use vmlan_frame::{Account, Batch, Context, Direction, DropReason, Frame, Witness};

use crate::chain::{Chain, TAPPED};
use crate::ending::OnDataPath;
use crate::hook::{self, Entered, Hook, Place};
use crate::link::{Lease, Record};
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
}

impl Witness for Entered<'_, Slot> {
    #[inline]
    fn is_present(&self) -> bool {
        !self.is_empty()
    }

    fn lost(&self, cx: &Context<'_>, frame: &Frame, reason: DropReason) {
        for slot in self.iter() {
            slot.tap.dropped(cx, frame, reason);
        }
    }
}

/// The taps of a link as the witness of what others lose of its frames: a network, a driver.
struct Watch {
    record: Arc<Record>,
    /// Weak, so that an account that outlives the link's users keeps nobody from taking the link up again.
    lease: Weak<Lease>,
}

impl Witness for Watch {
    #[inline]
    fn is_present(&self) -> bool {
        self.record.gate.flags() & TAPPED != 0
    }

    fn lost(&self, cx: &Context<'_>, frame: &Frame, reason: DropReason) {
        let lease = if self.is_present() { self.lease.upgrade() } else { None };
        if let Some(link) = lease.map(Link::of) {
            link.show_lost(cx, [frame], reason);
        }
    }
}

/// The taps that a link had just now. Neither the link nor a tap ends meanwhile.
pub(crate) struct Taps<'a> {
    link: &'a Link,
    chain: Guard<Arc<Chain>>,
    /// The taps of the chain that this holds.
    mask: u64,
    _inside: IoRef<'a>,
    _here: OnDataPath,
}

impl Taps<'_> {
    pub(crate) fn dropped(&self, cx: &Context<'_>, frame: &Frame, reason: DropReason) {
        hook::chosen(&self.chain.taps, self.mask).for_each(|slot| slot.tap.dropped(cx, frame, reason));
    }
}

impl Drop for Taps<'_> {
    fn drop(&mut self) {
        hook::leave(self.link, &self.chain.taps, self.mask);
    }
}

impl Link {
    /// Returns the link's account, for a network or a driver that may lose frames of the link: its counters, and its
    /// taps as the witness. It is good for as long as the link has a handle; after that it only counts.
    pub fn account(&self) -> Account {
        let (record, lease) = self.watched();
        Account::with_witness(Arc::clone(&record.counters), Arc::new(Watch { record, lease }))
    }

    /// The taps, if there are any and the link is attached. Costs one atomic load when there are none.
    #[inline]
    pub(crate) fn taps(&self) -> Option<Taps<'_>> {
        if self.record().gate.flags() & TAPPED == 0 {
            return None;
        }
        let inside = self.enter_as_worker()?;
        let chain = self.chain();
        let mask = hook::enter(&chain.taps);
        Some(Taps { link: self, chain, mask, _inside: inside, _here: OnDataPath::enter() })
    }

    /// Drops the frames of `batch` outside of a walk, where nothing is inside the taps.
    #[cold]
    pub(crate) fn lose_all(&self, cx: &Context<'_>, batch: &mut Batch, reason: DropReason) {
        self.counters().dropped_unseen(cx.worker, reason, batch.len() as u64);
        self.show_lost(cx, batch.iter(), reason);
        batch.clear();
    }

    fn show_lost<'f>(
        &self,
        cx: &Context<'_>,
        frames: impl IntoIterator<Item = &'f Frame>,
        reason: DropReason,
    ) {
        let Some(taps) = self.taps() else { return };
        frames.into_iter().for_each(|frame| taps.dropped(cx, frame, reason));
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
    /// In a thread that is itself inside the tap (in one of its callbacks, or with its taps in hand) it returns at
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
