//! The input path: from the driver to taps, filters, and the network or the protocols.

use core::cell::RefCell;
use std::sync::Arc;

use vmlan_frame::{Batch, Context, Counters, Direction, DropReason, Frame, Losses, Tally, TrafficClass};

use crate::chain::{BRIDGED, CLASSIFIED, Chain, INSPECTED, PROTOCOLS, SUSPENDED};
use crate::ending::OnDataPath;
use crate::filter::{self, Verdict};
use crate::hook::Entered;
use crate::{Demux, Link, LinkAddress, ProtocolFamily, Receiver, protocol, tap};

impl Link {
    /// Takes a batch that the driver received: counts it, shows it to taps and filters, and gives it to the
    /// protocols, or leaves it to the network.
    ///
    /// Unless the link is bridged, a frame for another station, which a promiscuous link receives, is marked as such
    /// ([`Meta::promiscuous`](vmlan_frame::Meta::promiscuous)): filters and taps see it, and protocols that asked for
    /// it.
    ///
    /// On return `batch` holds, in order, what a network takes: all that the filters let go on when the link is
    /// bridged, else nothing. Every other frame was consumed, or dropped and counted.
    pub fn input(&self, cx: &Context<'_>, batch: &mut Batch) {
        let inside = self.enter_as_worker();
        if inside.as_ref().is_some_and(|inside| inside.flags & CLASSIFIED != 0) {
            self.classify(batch);
        }
        let counters = self.counters();
        let tally = Tally::of(batch);
        counters.received(cx.worker, &tally);
        let Some(inside) = inside else {
            counters.dropped_unseen(cx.worker, DropReason::NotAttached, tally.frames);
            batch.clear();
            return;
        };
        if inside.flags & SUSPENDED != 0 {
            self.restore_multicasts();
        }
        match (inside.flags & INSPECTED != 0, inside.flags & (BRIDGED | PROTOCOLS)) {
            (false, flags) if flags & BRIDGED != 0 => {}
            (false, 0) => {
                counters.dropped_unseen(cx.worker, DropReason::NoProtocol, tally.frames);
                batch.clear();
            }
            _ => {
                let chain = self.chain();
                let mut walk = Walk::new(self, cx, &chain);
                if chain.bridge.is_some() {
                    batch.retain(|frame| walk.frame(frame).is_some());
                } else {
                    self.deliver(&mut walk, batch);
                }
                walk.losses.settle(cx, counters);
            }
        }
    }

    /// Gives frames the class that they ask for, where the driver did not know better.
    fn classify(&self, batch: &mut Batch) {
        let chain = self.chain();
        for frame in batch.iter_mut().filter(|frame| frame.meta.class == TrafficClass::BestEffort) {
            frame.meta.class = chain.media.class(frame);
        }
    }

    /// Gives what the filters let go on to the protocols, consecutive frames of one protocol together.
    fn deliver(&self, walk: &mut Walk<'_>, batch: &mut Batch) {
        let mut run = Run { link: self, slot: None, batch: SPARE.take() };
        for frame in batch.iter_mut() {
            let Some(family) = walk.frame(frame) else { continue };
            let slot = match run.slot {
                Some(slot) if slot.options.family == family => Some(slot),
                _ => walk.chain.protocol(family),
            };
            // A frame that is not for this station is only for those who asked.
            match slot.filter(|slot| slot.options.promiscuous || !frame.meta.promiscuous) {
                None => walk.drop(frame, DropReason::NoProtocol),
                Some(slot) => {
                    if run.slot.is_some_and(|current| !Arc::ptr_eq(current, slot)) {
                        run.deliver(walk);
                    }
                    run.slot = Some(slot);
                    run.batch.push(core::mem::take(frame));
                }
            }
        }
        run.deliver(walk);
        batch.clear();
        SPARE.set(run.batch);
    }
}

thread_local! {
    /// Where runs are gathered, kept for its capacity. A nested input finds an empty one.
    static SPARE: RefCell<Batch> = RefCell::default();
}

/// Consecutive frames of one protocol.
struct Run<'a> {
    link: &'a Link,
    slot: Option<&'a Arc<protocol::Slot>>,
    batch: Batch,
}

impl Run<'_> {
    fn deliver(&mut self, walk: &mut Walk<'_>) {
        let Some(slot) = self.slot.take() else { return };
        let frames = self.batch.len();
        let mut refused = 0;
        let reason = match slot.enter(self.link) {
            None => {
                refused = frames;
                DropReason::NoProtocol
            }
            Some(usage) => {
                if usage.slot.protocol.input(walk.cx, &mut self.batch).is_err() {
                    refused = self.batch.len().min(frames);
                }
                DropReason::ProtocolError
            }
        };
        self.batch.iter_mut().take(refused).for_each(|frame| walk.drop(frame, reason));
        self.batch.clear();
        walk.consumed(frames - refused);
    }
}

/// One batch on its way through demultiplexer, taps and filters.
struct Walk<'a> {
    cx: &'a Context<'a>,
    chain: &'a Chain,
    /// The address that makes a frame one for this station. A network takes every frame, and needs none.
    station: Option<LinkAddress>,
    filters: Entered<'a, filter::Slot>,
    taps: Entered<'a, tap::Slot>,
    counters: &'a Counters,
    losses: Losses,
    /// Dropped last: what ends with this batch ends in a worker.
    _here: OnDataPath,
}

impl<'a> Walk<'a> {
    fn new(link: &'a Link, cx: &'a Context<'a>, chain: &'a Chain) -> Walk<'a> {
        let (filters, taps) = (Entered::all(link, &chain.filters), Entered::all(link, &chain.taps));
        let station = chain.address.filter(|_| chain.bridge.is_none());
        let (counters, losses) = (&**link.counters(), Losses::default());
        Walk { cx, chain, station, filters, taps, counters, losses, _here: OnDataPath::enter() }
    }

    /// The family of a frame that goes on; `None` for one that ended here.
    #[inline]
    fn frame(&mut self, frame: &mut Frame) -> Option<ProtocolFamily> {
        let mut family = ProtocolFamily::UNSPECIFIED;
        if self.chain.demultiplexes {
            match self.chain.media.demux(frame) {
                Demux::Family(known) => family = known,
                Demux::Unknown => {}
                Demux::Consumed => {
                    self.consumed(1);
                    return None;
                }
            }
        }
        if let Some(own) = self.station {
            frame.meta.promiscuous |= self.chain.media.receiver(frame, own) == Receiver::Other;
        }
        self.taps.frame(self.cx, Direction::Ingress, frame);
        match self.filters.walk(Direction::Ingress, self.cx, family, frame) {
            Verdict::Continue => return Some(family),
            Verdict::Consumed => self.consumed(1),
            Verdict::Drop(reason) => self.drop(frame, reason),
        }
        None
    }

    fn drop(&mut self, frame: &mut Frame, reason: DropReason) {
        self.losses.lose(self.cx, (self.counters, &self.taps), &*frame, reason);
        *frame = Frame::default();
    }

    /// Counts frames that did not go on, and were not lost.
    fn consumed(&mut self, frames: usize) {
        self.losses.add(self.cx, self.counters, DropReason::Consumed, frames as u32);
    }
}
