use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use vmlan_frame::{Account, Batch, Context, Takes, Tally};
use vmlan_sys::{Interest, Poller};

use super::lane::Lane;
use crate::queue::{Fault, Progress, Queue, Settings, Status};
use crate::waits::Waits;

/// After how many looks in vain the sockets are asked whether they are of use still.
const LOOKS: u32 = 16;

/// One worker's queues of the interface, and its share of the packet socket.
pub(super) struct XdpQueue {
    lanes: Vec<Lane>,
    packet: Box<dyn Queue>,
    /// True if this worker is the packet socket's receiver.
    hears_packet: bool,
    /// Is ready when one of the lanes is: the first descriptor. Those of the packet socket come behind it.
    poller: Poller,
    /// Whose descriptor is ready, when that is known: the lanes', or else the packet socket's.
    ready: Option<Source>,
    worker: usize,
    account: Account,
    /// Which lane is asked first: they take turns, so that none fills every batch.
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
        for lane in &lanes {
            poller.add(&lane.socket, 0, Interest::READ)?;
        }
        let (worker, account) = (settings.worker, settings.account.clone());
        Ok(XdpQueue { lanes, packet, hears_packet, poller, ready: None, worker, account, turn: 0, vain: 0 })
    }
}

/// Where a worker's frames come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Lanes,
    Packet,
}

impl Queue for XdpQueue {
    fn descriptor(&self, number: usize) -> Option<BorrowedFd<'_>> {
        match number.checked_sub(1) {
            None => Some(self.poller.as_fd()),
            Some(number) => self.packet.descriptor(number),
        }
    }

    fn is_ready(&mut self, number: usize) {
        self.ready = Some(if number == 0 { Source::Lanes } else { Source::Packet });
    }

    fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault> {
        let before = batch.len();
        let ready = self.ready.take();
        if ready != Some(Source::Packet) {
            let lanes = self.lanes.len();
            self.turn = (self.turn + 1) % lanes.max(1);
            for lane in 0..lanes {
                self.lanes[(self.turn + lane) % lanes].receive(cx.pool, batch)?;
            }
        }
        let mut progress = Progress::Done;
        if self.hears_packet && ready != Some(Source::Lanes) {
            progress = self.packet.receive(cx, batch)?;
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
            self.account.counters().sent(self.worker, &sent);
        }
        // It is asked even when it gets nothing: something may wait in it.
        result.and(self.packet.transmit(cx, batch))
    }

    fn status(&self) -> Status {
        let packet = self.packet.status();
        let of_packet = if self.hears_packet { packet.waits } else { packet.waits.without_receiving() };
        Status {
            waiting: packet.waiting,
            waits: Waits::default().and(of_packet.behind(1)),
            retry: packet.retry || self.lanes.iter().any(Lane::is_waiting),
            deadline: packet.deadline,
        }
    }

    /// Segments go by the packet socket; checksums are finished where it does not get the frame.
    fn takes(&self) -> Takes {
        self.packet.takes()
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
