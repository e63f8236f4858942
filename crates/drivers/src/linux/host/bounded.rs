use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use vmlan_frame::{Account, Batch, Context, DropReason, Frame, Sides, Takes};

use super::longest::Longest;
use crate::queue::{Endpoint, Fault, Progress, Queue, Settings, Status};

/// A medium behind which an interface is that takes frames up to a length: a longer one that is not for a trunk's host
/// alone is dropped and counted here, for the kernel would drop it where nothing tells.
pub struct Bounded {
    medium: Arc<dyn Endpoint>,
    longest: Longest,
}

impl Bounded {
    /// The medium, with the length, which can be changed.
    pub fn new(medium: Arc<dyn Endpoint>, longest: Longest) -> Bounded {
        Bounded { medium, longest }
    }
}

impl Endpoint for Bounded {
    fn queue(&self, settings: Settings) -> io::Result<Box<dyn Queue>> {
        let account = settings.account.clone();
        Ok(Box::new(BoundedQueue {
            medium: self.medium.queue(settings)?,
            longest: self.longest.clone(),
            account,
        }))
    }

    fn has_queue_for(&self, worker: usize) -> bool {
        self.medium.has_queue_for(worker)
    }

    fn mechanism(&self) -> String {
        self.medium.mechanism()
    }
}

struct BoundedQueue {
    medium: Box<dyn Queue>,
    longest: Longest,
    account: Account,
}

impl Queue for BoundedQueue {
    fn descriptor(&self, number: usize) -> Option<BorrowedFd<'_>> {
        self.medium.descriptor(number)
    }

    fn is_ready(&mut self, number: usize) {
        self.medium.is_ready(number);
    }

    fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault> {
        self.medium.receive(cx, batch)
    }

    fn transmit(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        let (longest, account) = (&self.longest, &self.account);
        batch.retain(|frame: &mut Frame| {
            let is_lost = frame.meta.sides != Sides::HOST && longest.is_exceeded_by(frame);
            if is_lost {
                account.lose(cx, frame, DropReason::TooLong);
            }
            !is_lost
        });
        self.medium.transmit(cx, batch)
    }

    fn status(&self) -> Status {
        self.medium.status()
    }

    fn takes(&self) -> Takes {
        self.medium.takes()
    }
}
