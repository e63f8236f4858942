use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vmlan_frame::{Batch, Context, ETHERNET_HEADER, MacAddr, Sides, Takes, Tally};

use crate::Flows;
use crate::queue::{Endpoint, Fault, Progress, Queue, Settings, Status};

/// A medium behind which both sides of a trunk are, told apart by the host's address: what comes from it is the host's,
/// all else is the wire's. What is sent goes to both alike.
pub struct BySource {
    medium: Arc<dyn Endpoint>,
    /// The host's address as a number; 0 while there is none.
    host: Arc<AtomicU64>,
    flows: Flows,
}

impl BySource {
    /// `host` is the host's address ([`MacAddr::to_u64`]), or 0; it can be changed.
    pub fn new(medium: Arc<dyn Endpoint>, host: Arc<AtomicU64>, flows: Flows) -> BySource {
        BySource { medium, host, flows }
    }

    /// A medium that nothing comes by from the host.
    pub fn of_wire(medium: Arc<dyn Endpoint>, flows: Flows) -> BySource {
        BySource::new(medium, Arc::new(AtomicU64::new(0)), flows)
    }
}

impl Endpoint for BySource {
    fn queue(&self, settings: Settings) -> io::Result<Box<dyn Queue>> {
        let worker = settings.worker;
        Ok(Box::new(BySourceQueue {
            medium: self.medium.queue(settings)?,
            host: self.host.clone(),
            flows: self.flows.clone(),
            worker,
        }))
    }

    fn has_queue_for(&self, worker: usize) -> bool {
        self.medium.has_queue_for(worker)
    }

    fn mechanism(&self) -> String {
        self.medium.mechanism()
    }
}

struct BySourceQueue {
    medium: Box<dyn Queue>,
    host: Arc<AtomicU64>,
    flows: Flows,
    worker: usize,
}

impl Queue for BySourceQueue {
    fn descriptor(&self, number: usize) -> Option<BorrowedFd<'_>> {
        self.medium.descriptor(number)
    }

    fn is_ready(&mut self, number: usize) {
        self.medium.is_ready(number);
    }

    fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault> {
        let before = batch.len();
        let result = self.medium.receive(cx, batch);
        let of_host = self.host.load(Ordering::Relaxed);
        let (mut host, mut wire) = (Tally::default(), Tally::default());
        for frame in batch.iter_mut().skip(before) {
            let octets = frame.octets();
            let is_host =
                octets.len() >= ETHERNET_HEADER && MacAddr::from_slice(&octets[6..]).to_u64() == of_host;
            frame.meta.sides = if is_host { Sides::HOST } else { Sides::WIRE };
            (if is_host { &mut host } else { &mut wire }).add(frame);
        }
        self.flows.host.received(self.worker, &host);
        self.flows.wire.received(self.worker, &wire);
        result
    }

    fn transmit(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        let (mut host, mut wire) = (Tally::default(), Tally::default());
        for frame in batch.iter_mut() {
            let sides = std::mem::take(&mut frame.meta.sides);
            if sides.contains(Sides::HOST) {
                host.add(frame);
            }
            if !sides.contains(Sides::HOST) || sides.contains(Sides::WIRE) {
                wire.add(frame);
            }
        }
        self.flows.host.sent(self.worker, &host);
        self.flows.wire.sent(self.worker, &wire);
        self.medium.transmit(cx, batch)
    }

    fn status(&self) -> Status {
        self.medium.status()
    }

    fn takes(&self) -> Takes {
        self.medium.takes()
    }
}
