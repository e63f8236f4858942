use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use frame::{Batch, Context, Counters, Takes, Tally};
use sys::{Interest, Poller};

use super::lane::Lane;
use crate::queue::{Fault, Progress, Queue, Settings, Status};

/// After how many looks in vain the sockets are asked whether they are of use still.
const LOOKS: u32 = 16;

/// One worker's queues of the interface, and its share of the packet socket.
pub(super) struct XdpQueue {
    lanes: Vec<Lane>,
    packet: Box<dyn Queue>,
    /// Whether this worker is the packet socket's receiver.
    hears_packet: bool,
    /// Is ready when one of them is.
    poller: Poller,
    worker: usize,
    counters: Arc<Counters>,
    /// Who is asked first: they take turns, so that none fills every batch.
    turn: usize,
    /// Looks in a row that found nothing.
    vain: u32,
}

impl XdpQueue {
    pub(super) fn new(
        lanes: Vec<Lane>,
        packet: Box<dyn Queue>,
        hears_packet: bool,
        settings: &Settings,
    ) -> io::Result<XdpQueue> {
        let poller = Poller::new()?;
        let interest = Interest { read: true, write: false };
        for lane in &lanes {
            poller.add(&lane.socket, 0, interest)?;
        }
        if hears_packet {
            poller.add(packet.as_fd(), 0, interest)?;
        }
        let (worker, counters) = (settings.worker, settings.counters.clone());
        Ok(XdpQueue { lanes, packet, hears_packet, poller, worker, counters, turn: 0, vain: 0 })
    }
}

impl Queue for XdpQueue {
    fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault> {
        let before = batch.len();
        let sources = self.lanes.len() + usize::from(self.hears_packet);
        self.turn = (self.turn + 1) % sources.max(1);
        let mut progress = Progress::Done;
        for source in 0..sources {
            match self.lanes.get_mut((self.turn + source) % sources) {
                Some(lane) => lane.receive(cx.pool, batch)?,
                None => progress = self.packet.receive(cx, batch)?,
            }
        }
        self.vain = if batch.len() == before { self.vain + 1 } else { 0 };
        if self.vain >= LOOKS {
            self.vain = 0;
            self.lanes.iter().try_for_each(Lane::check)?;
        }
        Ok(progress)
    }

    fn transmit(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        let mut result = Ok(());
        if let [lane, ..] = &mut self.lanes[..] {
            let mut sent = Tally::default();
            result = lane.prepare();
            if result.is_ok() {
                batch.retain(|frame| {
                    let queued = lane.send(frame);
                    if queued {
                        sent.add(frame);
                    }
                    !queued
                });
                result = lane.flush();
            }
            self.counters.sent(self.worker, &sent);
        }
        // It is asked even when it gets nothing: something may wait in it.
        result.and(self.packet.transmit(cx, batch))
    }

    fn status(&self) -> Status {
        let packet = self.packet.status();
        Status {
            waiting: packet.waiting,
            // The common descriptor tells readiness for reading only.
            write: false,
            retry: packet.retry || packet.write || self.lanes.iter().any(Lane::is_waiting),
            deadline: packet.deadline,
        }
    }

    /// Segments go by the packet socket; checksums are finished where it does not get the frame.
    fn takes(&self) -> Takes {
        self.packet.takes()
    }
}

impl AsFd for XdpQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}
