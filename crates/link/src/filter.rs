//! Filters on a link: what they are, and how a frame walks through them.
//!
//! Filters stand in places of [`hook`](crate::hook), which says how they come and go while frames flow. Frame by
//! frame a batch only looks whether the filter is still wanted.

use std::sync::Arc;

use vmlan_frame::{Context, Direction, DropReason, Frame};

use crate::hook::{Entered, Hook, Place};
use crate::{ControlResult, Error, Event, Link, ProtocolFamily, Request};

/// The decision of a filter about a frame.
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

    /// The filter is off the link; no callback runs, and none follows. Runs in the thread that detaches it, or on the
    /// control side ([`Registry::settle`](crate::Registry::settle)), never in a thread that moves frames; so it may
    /// block.
    fn detached(&self) {}
}

/// How a filter is attached.
#[derive(Clone, Debug)]
pub struct FilterOptions {
    /// Its name, for people.
    pub name: String,
    /// The protocol whose frames it wants; `None` for all.
    pub protocol: Option<ProtocolFamily>,
    /// True if the filter also wants frames with a VLAN tag beside them.
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
    pub(crate) options: FilterOptions,
    pub(crate) filter: Arc<dyn Filter>,
    place: Place,
}

impl Slot {
    pub(crate) fn new(options: FilterOptions, filter: Arc<dyn Filter>) -> Slot {
        Slot { options, filter, place: Place::new() }
    }

    pub(crate) fn id(&self) -> FilterId {
        FilterId(self.place.id)
    }

    #[inline]
    fn wants(&self, family: ProtocolFamily, tagged: bool) -> bool {
        (self.options.tagged || !tagged)
            && self.options.protocol.is_none_or(|wanted| wanted == family)
            && self.place.is_open()
    }
}

impl Hook for Slot {
    #[inline]
    fn place(&self) -> &Place {
        &self.place
    }

    fn detached(&self) {
        self.filter.detached();
    }
}

impl Entered<'_, Slot> {
    /// Walks `frame` through the filters that want it, until one does not let it go on.
    #[inline]
    pub(crate) fn walk(
        &self,
        direction: Direction,
        cx: &Context<'_>,
        family: ProtocolFamily,
        frame: &mut Frame,
    ) -> Verdict {
        for slot in self.iter() {
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
