//! The output path: from a network or a protocol through framer, filters and taps to the driver.

use frame::{Batch, Context, Direction, DropReason, Frame};

use crate::drops::Drops;
use crate::ending::OnDataPath;
use crate::filter::{self, Verdict};
use crate::hook::Entered;
use crate::media::Header;
use crate::plan::{INSPECTED, Plan, SUSPENDED};
use crate::protocol::Usage;
use crate::{Address, Capabilities, Error, Link, LinkAddress, PreOutput, ProtocolFamily, Transmit, tap};

impl Link {
    /// Raw output: sends frames that have their link header. Output filters, then taps see them; `tx` gets what is
    /// left in one call, and counts what it sends. A frame that a filter or the link refuses is dropped and counted,
    /// and the others go on. `batch` is empty on return.
    ///
    /// # Errors
    /// The last frame's. `ENXIO` when the link is not attached; `EMSGSIZE`, wherever in the batch, when a frame asks
    /// for segmentation that the link's capabilities lack.
    pub fn output(&self, cx: &Context<'_>, batch: &mut Batch, tx: &mut dyn Transmit) -> Result<(), Error> {
        let Some(inside) = self.enter_as_worker() else {
            return self.refuse(cx, batch);
        };
        if inside.flags & SUSPENDED != 0 {
            self.restore_multicasts();
        }
        let capabilities = self.capabilities();
        let checked = !capabilities.contains(Capabilities::SEGMENTATION)
            && batch.iter().any(|frame| frame.meta.offload.is_segmentation());
        let mut result = Ok(());
        if checked || inside.flags & INSPECTED != 0 {
            let plan = self.plan();
            result = self.send(Walk::new(self, cx, &plan, capabilities), batch);
        }
        self.transmit(cx, batch, tx);
        result
    }

    /// Sends packets of an attached protocol to `destination`: the protocol finds the next hop, the medium puts the
    /// link header in front, and then they go the way of [`Link::output`]. `batch` is empty on return.
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
        let plan = self.plan();
        let _here = OnDataPath::enter();
        let Some(usage) = plan.protocol(family).and_then(|slot| slot.enter(self)) else {
            return self.refuse(cx, batch);
        };
        let framer = Framer { usage, family, destination, source: self.address(), failed: None };
        let walk = Walk { framer: Some(framer), ..Walk::new(self, cx, &plan, self.capabilities()) };
        let result = self.send(walk, batch);
        self.transmit(cx, batch, tx);
        result
    }

    /// Frees the frames of a call that finds no link or no protocol.
    fn refuse(&self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Error> {
        self.counters().dropped(cx.worker, DropReason::LinkDetached, batch.len() as u64);
        batch.clear();
        Err(Error::NotAttached)
    }

    /// Leaves in `batch` what the driver gets.
    fn send(&self, mut walk: Walk<'_>, batch: &mut Batch) -> Result<(), Error> {
        batch.retain(|frame| walk.frame(frame));
        walk.drops.count(self.counters(), walk.cx.worker);
        walk.result()
    }

    fn transmit(&self, cx: &Context<'_>, batch: &mut Batch, tx: &mut dyn Transmit) {
        if batch.is_empty() {
            return;
        }
        let _here = OnDataPath::enter();
        tx.transmit(batch);
        // The driver owns all of them, also those that it did not take.
        self.counters().dropped(cx.worker, DropReason::TransmitError, batch.len() as u64);
        batch.clear();
    }
}

/// A protocol's part of the way.
struct Framer<'a> {
    usage: Usage<'a>,
    family: ProtocolFamily,
    destination: &'a Address,
    source: Option<LinkAddress>,
    /// The error of `pre_output` that ended the call.
    failed: Option<Error>,
}

/// One batch on its way to the driver.
struct Walk<'a> {
    cx: &'a Context<'a>,
    plan: &'a Plan,
    capabilities: Capabilities,
    filters: Entered<'a, filter::Slot>,
    taps: Entered<'a, tap::Slot>,
    drops: Drops,
    framer: Option<Framer<'a>>,
    /// The last frame's result.
    last: Result<(), Error>,
    /// A segmentation request could not be met.
    message_size: bool,
    /// Dropped last: what ends with this batch ends in a worker.
    _here: OnDataPath,
}

impl<'a> Walk<'a> {
    fn new(link: &'a Link, cx: &'a Context<'a>, plan: &'a Plan, capabilities: Capabilities) -> Walk<'a> {
        Walk {
            cx,
            plan,
            capabilities,
            filters: Entered::all(link, &plan.filters),
            taps: Entered::all(link, &plan.taps),
            drops: Drops::default(),
            framer: None,
            last: Ok(()),
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

    /// Whether the driver gets the frame.
    #[inline]
    fn frame(&mut self, frame: &mut Frame) -> bool {
        let outcome = self.prepare(frame);
        self.last = match outcome {
            Ok(_) => Ok(()),
            Err((_, error)) => Err(error),
        };
        match outcome {
            Ok(sent) => return sent,
            Err((reason, _)) => {
                self.drops.add(reason, 1);
                self.taps.dropped(self.cx, frame, reason);
            }
        }
        false
    }

    /// Takes a frame through framer, filters and taps. `Ok(false)`: somebody consumed it.
    fn prepare(&mut self, frame: &mut Frame) -> Result<bool, (DropReason, Error)> {
        let family = match &mut self.framer {
            None if !self.plan.demultiplexes => ProtocolFamily::UNSPECIFIED,
            None => self.plan.media.family(frame).unwrap_or_default(),
            Some(framer) => {
                if !framer.prepend(self.cx, self.plan, frame)? {
                    self.drops.add(DropReason::OutputConsumed, 1);
                    return Ok(false);
                }
                framer.family
            }
        };
        match self.filters.walk(Direction::Egress, self.cx, family, frame) {
            Verdict::Continue => {}
            Verdict::Consumed => {
                self.drops.add(DropReason::OutputConsumed, 1);
                return Ok(false);
            }
            Verdict::Drop(reason) => return Err((reason, Error::Dropped(reason))),
        }
        let offload = frame.meta.offload;
        if offload.is_segmentation()
            && !Capabilities::for_gso_type(offload.gso_type)
                .is_some_and(|needed| self.capabilities.contains(needed))
        {
            self.message_size = true;
            return Err((DropReason::TooLong, Error::MessageSize));
        }
        self.taps.frame(self.cx, Direction::Egress, frame);
        Ok(true)
    }
}

impl Framer<'_> {
    /// Finds the next hop and puts the link header in front. `Ok(false)`: the protocol consumed the packet.
    fn prepend(
        &mut self,
        cx: &Context<'_>,
        plan: &Plan,
        frame: &mut Frame,
    ) -> Result<bool, (DropReason, Error)> {
        let refused = |error| (DropReason::OutputError, error);
        if let Some(error) = self.failed {
            return Err(refused(error));
        }
        match self.usage.slot.protocol.pre_output(cx, frame, self.destination) {
            Ok(PreOutput::Consumed) => Ok(false),
            Ok(PreOutput::Send { frame_type, destination }) => {
                let header = Header { family: self.family, frame_type, destination, source: self.source };
                plan.media.prepend(cx.pool, frame, &header).map_err(refused)?;
                Ok(true)
            }
            Err(error) => {
                self.failed = Some(error);
                Err(refused(error))
            }
        }
    }
}
