//! Filters on a link: what they are, how a batch walks through them, how they go.
//!
//! Theory of operation. The filters of a link stand in its [`Plan`](crate::plan::Plan), an immutable list that is
//! replaced as a whole; a batch works on the list that it found. Before the first frame a batch enters the gate of
//! each filter, and leaves it after the last one: that is the whole price of safe removal, paid per batch. Frame by
//! frame it only looks whether the filter is still wanted.
//!
//! Detaching takes the filter off the list, closes its gate and waits until the last callback has ended; whoever is
//! last out calls `detached`, so it is called exactly once and never beside another callback. A thread that is
//! itself inside the filter cannot wait for itself: it returns at once, and the end comes when it leaves. The thread
//! knows what it is inside of by a list of its own.

use core::cell::RefCell;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use frame::{Context, Direction, DropReason, Frame};

use crate::gate::{Done, Gate};
use crate::{ControlResult, Error, Event, Link, ProtocolFamily, Request};

/// What a filter decides about a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The frame goes on.
    Continue,
    /// The filter owns the frame (it took it with [`core::mem::take`]), nobody else sees it.
    Consumed,
    /// The link drops the frame. A reason of the wrong direction is counted as
    /// [`DropReason::InputFilter`] or [`DropReason::OutputFilter`].
    Drop(DropReason),
}

/// A filter on a link. Every hook has a default that does nothing.
///
/// Callbacks come from several threads at once. From inside one a filter may detach itself, attach others, and use
/// any link. Two threads must not each detach the filter that the other one is inside of: both would wait for ever.
pub trait Filter: Send + Sync {
    /// A received frame, after the taps and before the protocols.
    fn input(&self, cx: &Context<'_>, frame: &mut Frame) -> Verdict {
        let _ = (cx, frame);
        Verdict::Continue
    }

    /// A frame to be sent, with its link header.
    fn output(&self, cx: &Context<'_>, frame: &mut Frame) -> Verdict {
        let _ = (cx, frame);
        Verdict::Continue
    }

    /// An event of the link.
    fn event(&self, link: &Link, event: &Event) {
        let _ = (link, event);
    }

    /// A control request.
    ///
    /// # Errors
    /// [`Error::OperationNotSupported`] leaves the request to others; any other error ends it.
    fn control(&self, link: &Link, request: &mut Request<'_>) -> ControlResult {
        let _ = (link, request);
        Err(Error::OperationNotSupported)
    }

    /// The filter is off the link; no callback runs, and none follows.
    fn detached(&self) {}
}

/// How a filter is attached.
#[derive(Clone, Debug)]
pub struct FilterOptions {
    /// Its name, for people.
    pub name: String,
    /// The protocol whose frames it wants; `None` for all.
    pub protocol: Option<ProtocolFamily>,
    /// Whether it wants frames with a VLAN tag beside them too.
    pub tagged: bool,
}

impl FilterOptions {
    /// A filter for every frame without a tag beside it.
    pub fn new(name: impl Into<String>) -> FilterOptions {
        FilterOptions { name: name.into(), protocol: None, tagged: false }
    }
}

/// Names a filter, uniquely in the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FilterId(u64);

/// A filter in its place on a link.
pub(crate) struct Slot {
    pub(crate) id: FilterId,
    pub(crate) options: FilterOptions,
    pub(crate) filter: Arc<dyn Filter>,
    gate: Gate,
    done: Done,
}

thread_local! {
    /// The filters that this thread is inside of.
    static INSIDE: RefCell<Vec<FilterId>> = const { RefCell::new(Vec::new()) };
}

impl Slot {
    /// How many filters a link has at most: [`Entered`] keeps a bit for each.
    pub(crate) const LIMIT: usize = u64::BITS as usize;

    pub(crate) fn new(options: FilterOptions, filter: Arc<dyn Filter>) -> Slot {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let id = FilterId(LAST.fetch_add(1, Ordering::Relaxed) + 1);
        Slot { id, options, filter, gate: Gate::opened(), done: Done::new() }
    }

    /// Begins the end of a filter that is off the list. It has ended already when nobody is inside.
    pub(crate) fn close(&self) {
        if self.gate.close() {
            self.finish();
        }
    }

    /// Waits until a closed filter has ended, unless this thread is inside it.
    pub(crate) fn wait(&self) {
        if !INSIDE.with_borrow(|inside| inside.contains(&self.id)) {
            self.done.wait();
        }
    }

    fn finish(&self) {
        /// Lets the waiters go even when `detached` panics.
        struct Finished<'a>(&'a Done);
        impl Drop for Finished<'_> {
            fn drop(&mut self) {
                self.0.set();
            }
        }
        let _finished = Finished(&self.done);
        self.filter.detached();
    }

    #[inline]
    fn wants(&self, family: ProtocolFamily, tagged: bool) -> bool {
        (self.options.tagged || !tagged)
            && self.options.protocol.is_none_or(|wanted| wanted == family)
            && self.gate.is_open()
    }
}

/// The filters of one list that a batch is inside of, in order.
pub(crate) struct Entered<'a> {
    slots: &'a [Arc<Slot>],
    mask: u64,
}

impl<'a> Entered<'a> {
    /// Enters every filter of `slots` that is not being detached.
    #[inline]
    pub(crate) fn all(slots: &'a [Arc<Slot>]) -> Entered<'a> {
        let mut entered = Entered { slots, mask: 0 };
        for (i, slot) in slots.iter().enumerate() {
            if slot.gate.enter().is_some() {
                entered.mask |= 1 << i;
                INSIDE.with_borrow_mut(|inside| inside.push(slot.id));
            }
        }
        entered
    }

    /// Enters one filter.
    pub(crate) fn one(slot: &'a Arc<Slot>) -> Entered<'a> {
        Entered::all(core::slice::from_ref(slot))
    }

    /// Whether there was none to enter.
    pub(crate) fn is_empty(&self) -> bool {
        self.mask == 0
    }

    /// Walks `frame` through the filters that want it, until one does not let it go on.
    #[inline]
    pub(crate) fn walk(
        &self,
        direction: Direction,
        cx: &Context<'_>,
        family: ProtocolFamily,
        frame: &mut Frame,
    ) -> Verdict {
        let mut rest = self.mask;
        while rest != 0 {
            let slot = &self.slots[rest.trailing_zeros() as usize];
            rest &= rest - 1;
            if !slot.wants(family, frame.meta.tag.is_some()) {
                continue;
            }
            let verdict = match direction {
                Direction::Ingress => slot.filter.input(cx, frame),
                Direction::Egress => slot.filter.output(cx, frame),
            };
            match verdict {
                Verdict::Continue => {}
                Verdict::Consumed => return Verdict::Consumed,
                // Frames in and copies out are booked apart.
                Verdict::Drop(reason) if reason.direction() == direction => return verdict,
                Verdict::Drop(_) => {
                    return Verdict::Drop(match direction {
                        Direction::Ingress => DropReason::InputFilter,
                        Direction::Egress => DropReason::OutputFilter,
                    });
                }
            }
        }
        Verdict::Continue
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // The last one entered is left first, so that the thread's list is right while `detached` runs.
        while self.mask != 0 {
            let i = u64::BITS - 1 - self.mask.leading_zeros();
            self.mask &= !(1 << i);
            let slot = &self.slots[i as usize];
            INSIDE.with_borrow_mut(Vec::pop);
            if slot.gate.leave() {
                slot.finish();
            }
        }
    }
}
