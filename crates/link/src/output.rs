//! The output path: from a network or a protocol through framer, filters and taps to the driver.
//!
//! A frame that leaves more to be done than the driver takes is finished here: its checksum is written, or it is cut
//! into segments, which go to the driver a batch at a time, so that one frame holds no more buffers than its segments
//! need.

use core::cell::RefCell;

use vmlan_frame::offload::finish_checksum;
use vmlan_frame::{Batch, Context, Direction, DropReason, Frame, Losses, Offload, SegmentError, Takes};

use crate::chain::{Chain, INSPECTED, SUSPENDED};
use crate::ending::OnDataPath;
use crate::filter::{self, Verdict};
use crate::hook::Entered;
use crate::media::Header;
use crate::protocol::Usage;
use crate::{Address, Error, Link, PreOutput, ProtocolFamily, Receiver, Transmit, tap};

impl Link {
    /// Raw output: sends frames that have their link header. Output filters, then taps see them; `tx` gets what is
    /// left in one call, and counts what it sends. A frame that a filter or the link refuses is dropped and counted,
    /// and the others go on. `batch` is empty on return.
    ///
    /// A frame whose request the link's capabilities lack is finished or cut, after the taps saw it as it was. Then
    /// `tx` gets about [`Batch::LIMIT`] frames in a call, and may get several.
    ///
    /// # Errors
    /// The last frame's. `ENXIO` when the link is not attached; `EMSGSIZE`, wherever in the batch, when a frame has a
    /// request that does not fit it.
    pub fn output(&self, cx: &Context<'_>, batch: &mut Batch, tx: &mut dyn Transmit) -> Result<(), Error> {
        let Some(inside) = self.enter_as_worker() else {
            return self.refuse(cx, batch);
        };
        if inside.flags & SUSPENDED != 0 {
            self.restore_multicasts();
        }
        let capabilities = self.capabilities();
        if inside.flags & INSPECTED == 0 && takes_all(capabilities, batch) {
            self.transmit(cx, batch, tx);
            return Ok(());
        }
        let chain = self.chain();
        self.send(Walk::new(self, cx, &chain, capabilities), batch, tx)
    }

    /// Sends packets of an attached protocol to `destination`: the protocol finds the next hop, the medium puts the
    /// link header in front, and then they go the way of [`Link::output`]. `batch` is empty on return.
    ///
    /// A broadcast is for this station as well, and the driver does not give it back: a copy of it goes to the link's
    /// queue, from which [`Link::input`] gives it to the protocols, the sender's too. This takes a reader
    /// ([`Link::set_reader`]), and a link that is not bridged. Multicasts do not come back, for each protocol decides
    /// for itself which groups of its own it hears (RFC 1112 6.1).
    ///
    /// # Errors
    /// As [`Link::output`]; `ENXIO` also when the protocol is not attached. An error of the protocol's `pre_output`
    /// ends the call with that packet and all after it dropped; those before it are sent.
    pub fn output_protocol(
        &self,
        cx: &Context<'_>,
        family: ProtocolFamily,
        destination: &Address,
        batch: &mut Batch,
        tx: &mut dyn Transmit,
    ) -> Result<(), Error> {
        let Some(inside) = self.enter_as_worker() else {
            return self.refuse(cx, batch);
        };
        if inside.flags & SUSPENDED != 0 {
            self.restore_multicasts();
        }
        let chain = self.chain();
        let _here = OnDataPath::enter();
        let Some(usage) = chain.protocol(family).and_then(|slot| slot.enter(self)) else {
            return self.refuse(cx, batch);
        };
        let framer = Framer { usage, family, destination, failed: None };
        let walk = Walk { framer: Some(framer), ..Walk::new(self, cx, &chain, self.capabilities()) };
        self.send(walk, batch, tx)
    }

    /// Frees the frames of a call that finds no link or no protocol.
    fn refuse(&self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Error> {
        self.lose_all(cx, batch, DropReason::LinkDetached);
        Err(Error::NotAttached)
    }

    /// Takes a batch through framer, filters and taps to the driver.
    fn send(&self, mut walk: Walk<'_>, batch: &mut Batch, tx: &mut dyn Transmit) -> Result<(), Error> {
        batch.retain(|frame| walk.pass(frame));
        if !walk.broadcasts.is_empty() {
            self.enqueue(walk.cx, &mut walk.broadcasts);
        }
        if takes_all(walk.capabilities, batch) {
            for frame in batch.iter() {
                walk.taps.frame(walk.cx, Direction::Egress, frame);
            }
            self.transmit(walk.cx, batch, tx);
        } else {
            self.send_finished(&mut walk, batch, tx);
        }
        walk.losses.settle(walk.cx, self.counters());
        walk.result()
    }

    /// Sends frames of which some leave more to be done than the driver takes.
    #[cold]
    fn send_finished(&self, walk: &mut Walk<'_>, batch: &mut Batch, tx: &mut dyn Transmit) {
        let cx = walk.cx;
        // The result of the last frame is its filters' when they did not let it go on.
        let was_last_sent = walk.last_passed;
        let mut result = Ok(());
        let mut ready = READY.take();
        for mut frame in batch.drain() {
            result = match walk.finish(&mut frame, &mut ready) {
                Ok(made) => {
                    self.counters().segmented(cx.worker, made as u64 - 1);
                    Ok(())
                }
                Err(refusal) => {
                    walk.message_size |= refusal == INVALID;
                    Err(walk.refuse(&frame, refusal))
                }
            };
            if ready.len() >= Batch::LIMIT {
                self.transmit(cx, &mut ready, tx);
            }
        }
        self.transmit(cx, &mut ready, tx);
        READY.set(ready);
        if was_last_sent {
            walk.last = result;
        }
    }

    fn transmit(&self, cx: &Context<'_>, batch: &mut Batch, tx: &mut dyn Transmit) {
        if batch.is_empty() {
            return;
        }
        let _here = OnDataPath::enter();
        tx.transmit(batch);
        // The driver owns all of them, also those that it did not take.
        if !batch.is_empty() {
            self.lose_all(cx, batch, DropReason::TransmitError);
        }
    }
}

thread_local! {
    /// Where frames wait for the driver that were finished or cut, kept for its capacity. A nested output finds an
    /// empty one.
    static READY: RefCell<Batch> = RefCell::default();
}

#[inline]
fn takes_all(capabilities: Takes, batch: &Batch) -> bool {
    capabilities.contains(Takes::ALL) || batch.iter().all(|frame| capabilities.takes(frame.meta.offload))
}

/// A protocol's part of the way.
struct Framer<'a> {
    usage: Usage<'a>,
    family: ProtocolFamily,
    destination: &'a Address,
    /// The error of `pre_output` that ended the call.
    failed: Option<Error>,
}

/// Why a frame is dropped: as it is counted, and as it is returned.
type Refusal = (DropReason, Error);

/// One batch on its way to the driver.
struct Walk<'a> {
    link: &'a Link,
    cx: &'a Context<'a>,
    chain: &'a Chain,
    capabilities: Takes,
    filters: Entered<'a, filter::Slot>,
    taps: Entered<'a, tap::Slot>,
    losses: Losses,
    framer: Option<Framer<'a>>,
    /// Frames that the link's own protocols get as well.
    broadcasts: Batch,
    /// The last frame's result.
    last: Result<(), Error>,
    /// The filters let the last frame go on.
    last_passed: bool,
    /// A request did not fit its frame.
    message_size: bool,
    /// Dropped last: what ends with this batch ends in a worker.
    _here: OnDataPath,
}

impl<'a> Walk<'a> {
    fn new(link: &'a Link, cx: &'a Context<'a>, chain: &'a Chain, capabilities: Takes) -> Walk<'a> {
        Walk {
            link,
            cx,
            chain,
            capabilities,
            filters: Entered::all(link, &chain.filters),
            taps: Entered::all(link, &chain.taps),
            losses: Losses::default(),
            framer: None,
            broadcasts: Batch::default(),
            last: Ok(()),
            last_passed: false,
            message_size: false,
            _here: OnDataPath::enter(),
        }
    }

    fn result(&self) -> Result<(), Error> {
        match self.framer.as_ref().and_then(|framer| framer.failed) {
            Some(error) => Err(error),
            None if self.message_size => Err(Error::MessageSize),
            None => self.last,
        }
    }

    /// Drops and counts a frame; its error.
    fn refuse(&mut self, frame: &Frame, (reason, error): Refusal) -> Error {
        self.losses.lose(self.cx, (self.link.counters(), &self.taps), frame, reason);
        error
    }

    /// Counts a frame that did not go on, and was not lost.
    fn consumed(&mut self) {
        self.losses.add(self.cx, self.link.counters(), DropReason::OutputConsumed, 1);
    }

    /// Takes a frame through framer and filters; whether it goes on.
    #[inline]
    fn pass(&mut self, frame: &mut Frame) -> bool {
        let outcome = self.prepare(frame);
        self.last_passed = outcome == Ok(true);
        self.last = match outcome {
            Ok(_) => Ok(()),
            Err(refusal) => Err(self.refuse(frame, refusal)),
        };
        self.last_passed
    }

    /// As [`Walk::pass`]. `Ok(false)`: it was consumed.
    fn prepare(&mut self, frame: &mut Frame) -> Result<bool, Refusal> {
        let family = match &mut self.framer {
            None if !self.chain.demultiplexes => ProtocolFamily::UNSPECIFIED,
            None => self.chain.media.family(frame).unwrap_or_default(),
            Some(framer) => {
                if !framer.prepend(self.cx, self.chain, frame)? {
                    self.consumed();
                    return Ok(false);
                }
                let family = framer.family;
                self.loop_back(frame);
                family
            }
        };
        match self.filters.walk(Direction::Egress, self.cx, family, frame) {
            Verdict::Continue => Ok(true),
            Verdict::Consumed => {
                self.consumed();
                Ok(false)
            }
            Verdict::Drop(reason) => Err((reason, Error::Dropped(reason))),
        }
    }

    /// Keeps a handle to a broadcast, for the link's own protocols.
    fn loop_back(&mut self, frame: &Frame) {
        let Some(own) = self.chain.address.filter(|_| self.chain.bridge.is_none()) else { return };
        // Without a reader nothing would take it out of the queue.
        let is_looped = self.chain.media.receiver(frame, own) == Receiver::Broadcast
            && (!self.broadcasts.is_empty() || self.link.record().queue.has_reader());
        if is_looped {
            let mut copy = frame.clone();
            copy.meta.promiscuous = false;
            self.broadcasts.push(copy);
        }
    }

    /// Puts what becomes of a frame in a form that the driver takes among what is ready, and shows taps the frame as
    /// it was; how many frames that is, at least one.
    fn finish(&self, frame: &mut Frame, ready: &mut Batch) -> Result<usize, Refusal> {
        let offload = frame.meta.offload;
        let no_buffer = (DropReason::NoSendBuffer, Error::NoBuffers);
        if self.capabilities.contains(Takes::ALL) || self.capabilities.takes(offload) {
            self.taps.frame(self.cx, Direction::Egress, frame);
            ready.push(core::mem::take(frame));
            return Ok(1);
        }
        if offload.is_segmentation() {
            let made = self.chain.media.segment(self.cx.pool, frame, ready).map_err(|error| match error {
                SegmentError::NoBuffer => no_buffer,
                SegmentError::NotValid(_) => INVALID,
            })?;
            self.taps.frame(self.cx, Direction::Egress, frame);
            return Ok(made);
        }
        let end = usize::from(offload.checksum_start) + usize::from(offload.checksum_offset) + 2;
        if end > frame.len() {
            return Err(INVALID);
        }
        // Taps see the frame as it was, and only one that is not dropped after it.
        frame.make_mut(self.cx.pool).ok_or(no_buffer)?;
        self.taps.frame(self.cx, Direction::Egress, frame);
        finish_checksum(frame.make_mut(self.cx.pool).ok_or(no_buffer)?, &offload);
        frame.meta.offload = Offload::NONE;
        ready.push(core::mem::take(frame));
        Ok(1)
    }
}

/// The request does not fit the frame.
const INVALID: Refusal = (DropReason::TooLong, Error::MessageSize);

impl Framer<'_> {
    /// Finds the next hop and puts the link header in front. `Ok(false)`: the protocol consumed the packet.
    fn prepend(&mut self, cx: &Context<'_>, chain: &Chain, frame: &mut Frame) -> Result<bool, Refusal> {
        let refused = |error| (DropReason::OutputError, error);
        if let Some(error) = self.failed {
            return Err(refused(error));
        }
        match self.usage.slot.protocol.pre_output(cx, frame, self.destination) {
            Ok(PreOutput::Consumed) => Ok(false),
            Ok(PreOutput::Send { frame_type, destination }) => {
                let header = Header { family: self.family, frame_type, destination, source: chain.address };
                chain.media.prepend(cx.pool, frame, &header).map_err(refused)?;
                Ok(true)
            }
            Err(error) => {
                self.failed = Some(error);
                Err(refused(error))
            }
        }
    }
}
