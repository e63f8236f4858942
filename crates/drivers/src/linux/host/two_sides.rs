use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use vmlan_frame::{Account, Batch, Context, Counters, DropReason, Frame, Sides, Takes, Tally};

use super::longest::Longest;
use super::stations::{Memo, Stations};
use crate::Flows;
use crate::queue::{Endpoint, Fault, Progress, Queue, Settings, Status};
use crate::waits::Waits;

/// An endpoint for each side of a trunk, as one.
///
/// Before a frame leaves, its sender's address is among those whose frames are diverted, so that no answer to it is
/// lost. A received frame is marked with the side it came from; a sent one goes to the sides that it is marked with,
/// and to the wire when it has no mark. It counts once at the port either way. One that is too long for the wire is
/// dropped, for the host as well if it is for both.
pub struct TwoSides {
    host: Arc<dyn Endpoint>,
    wire: Arc<dyn Endpoint>,
    flows: Flows,
    stations: Arc<Stations>,
    longest: Longest,
    /// Takes what the host's queue counts of frames that the wire's queue has counted for the port.
    twins: Arc<Counters>,
}

impl TwoSides {
    /// Joins the endpoint of each side.
    pub fn new(
        host: Arc<dyn Endpoint>,
        wire: Arc<dyn Endpoint>,
        (stations, longest): (Arc<Stations>, Longest),
        flows: Flows,
        workers: usize,
    ) -> TwoSides {
        TwoSides { host, wire, flows, stations, longest, twins: Arc::new(Counters::new(workers)) }
    }
}

impl Endpoint for TwoSides {
    fn queue(&self, settings: Settings) -> io::Result<Box<dyn Queue>> {
        let twin = Settings { account: self.twins.clone().into(), receives: false, ..settings.clone() };
        let host = self.host.queue(settings.clone())?;
        let twin = self.host.queue(twin)?;
        let worker = settings.worker;
        let account = settings.account.clone();
        let wire = self.wire.queue(settings)?;
        let of_wire = (0..Waits::DESCRIPTORS).take_while(|number| wire.descriptor(*number).is_some()).count();
        Ok(Box::new(BothQueue {
            host,
            twin,
            wire,
            of_wire,
            flows: self.flows.clone(),
            memo: Memo::new(self.stations.clone()),
            longest: self.longest.clone(),
            account,
            worker,
            ready: None,
            for_host: Batch::new(),
            for_both: Batch::new(),
        }))
    }

    fn has_queue_for(&self, worker: usize) -> bool {
        self.host.has_queue_for(worker) && self.wire.has_queue_for(worker)
    }

    fn mechanism(&self) -> String {
        format!("host: {}; wire: {}", self.host.mechanism(), self.wire.mechanism())
    }
}

struct BothQueue {
    host: Box<dyn Queue>,
    /// The host's queue again, for the second copies of what goes to both sides.
    twin: Box<dyn Queue>,
    wire: Box<dyn Queue>,
    /// How many descriptors the wire's queue has; the host's come behind them.
    of_wire: usize,
    flows: Flows,
    memo: Memo,
    longest: Longest,
    account: Account,
    worker: usize,
    /// The side that has something to receive; `None` where that is not known.
    ready: Option<Sides>,
    /// Empty between calls; kept for their memory.
    for_host: Batch,
    for_both: Batch,
}

impl Queue for BothQueue {
    fn descriptor(&self, number: usize) -> Option<BorrowedFd<'_>> {
        match number.checked_sub(self.of_wire) {
            None => self.wire.descriptor(number),
            Some(number) => self.host.descriptor(number),
        }
    }

    fn is_ready(&mut self, number: usize) {
        match number.checked_sub(self.of_wire) {
            None => {
                self.ready = Some(Sides::WIRE);
                self.wire.is_ready(number);
            }
            Some(number) => {
                self.ready = Some(Sides::HOST);
                self.host.is_ready(number);
            }
        }
    }

    fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault> {
        let sides = [
            (&mut self.wire, Sides::WIRE, &self.flows.wire),
            (&mut self.host, Sides::HOST, &self.flows.host),
        ];
        let ready = self.ready;
        let mut progress = Progress::Done;
        for (queue, side, flow) in
            sides.into_iter().filter(|(_, side, _)| ready.is_none_or(|ready| ready == *side))
        {
            let before = batch.len();
            let result = queue.receive(cx, batch);
            let mut tally = Tally::default();
            for frame in batch.iter_mut().skip(before) {
                frame.meta.sides = side;
                tally.add(frame);
            }
            flow.received(self.worker, &tally);
            if matches!(result?, Progress::Again) {
                progress = Progress::Again;
            }
        }
        if progress == Progress::Done {
            self.ready = None;
        }
        Ok(progress)
    }

    fn transmit(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        let (mut host, mut wire) = (Tally::default(), Tally::default());
        let (for_host, for_both, memo) = (&mut self.for_host, &mut self.for_both, &mut self.memo);
        let (longest, account) = (&self.longest, &self.account);
        memo.catch_up();
        batch.retain(|frame: &mut Frame| {
            memo.admit(frame);
            let sides = std::mem::take(&mut frame.meta.sides);
            if sides != Sides::HOST && longest.is_exceeded_by(frame) {
                account.lose(cx, frame, DropReason::TooLong);
                return false;
            }
            if !sides.contains(Sides::HOST) {
                wire.add(frame);
                return true;
            }
            host.add(frame);
            if sides.contains(Sides::WIRE) {
                wire.add(frame);
                for_both.push(frame.clone());
                return true;
            }
            for_host.push(frame.clone());
            false
        });
        self.flows.host.sent(self.worker, &host);
        self.flows.wire.sent(self.worker, &wire);
        // Every queue is asked even when it gets nothing: something may wait in it.
        let results = [
            self.host.transmit(cx, for_host),
            self.twin.transmit(cx, for_both),
            self.wire.transmit(cx, batch),
        ];
        results.into_iter().collect()
    }

    /// Returns the offload requests that both sides take, for a frame may go to both.
    fn takes(&self) -> Takes {
        self.host.takes().and(self.wire.takes())
    }

    fn status(&self) -> Status {
        let all = [self.wire.status(), self.host.status(), self.twin.status()];
        // The host's two queues are of one medium, which tells both of its room by the same descriptors.
        let [wire, host, twin] = all.map(|status| status.waits);
        Status {
            waiting: all.iter().map(|status| status.waiting).sum(),
            waits: wire.and(host.and(twin).behind(self.of_wire)),
            retry: all.iter().any(|status| status.retry),
            deadline: all.iter().filter_map(|status| status.deadline).min(),
        }
    }
}

#[cfg(test)]
#[path = "two_sides_tests.rs"]
mod tests;
