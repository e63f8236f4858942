use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use drivers::{Endpoint, Fault, Queue, Settings, Status};
use frame::{Batch, Context, DropReason, Share};
use link::{Link, Transmit};
use sys::{Interest, Poller};

use crate::command::{PortKey, PortSetup};
use crate::ready::{Pending, Used};
use crate::translate::Translator;

/// A port as one worker sees it.
pub(crate) struct Port {
    pub(crate) key: PortKey,
    pub(crate) network: usize,
    pub(crate) id: lan::PortId,
    pub(crate) link: Link,
    pub(crate) attached: Option<Attached>,
    /// Frames that were received and not forwarded yet, since those before them were the turn's whole work.
    pub(crate) held: Batch,
    /// What its next turn is for.
    pub(crate) pending: Pending,
    /// The lane in which it takes turns with its user's other ports.
    pub(crate) lane: Option<usize>,
    /// Its use of the worker's time; of a port in a lane the lane knows.
    pub(crate) used: Used,
    /// Whether the worker looks at its deadline.
    pub(crate) timed: bool,
    /// Which descriptor was read last, where the medium has two.
    pub(crate) read_second: bool,
    backlog: usize,
    share: Option<Arc<Share>>,
    longest: usize,
}

/// A worker's queue of what a port is attached to.
pub(crate) struct Attached {
    pub(crate) number: u64,
    pub(crate) queue: Box<dyn Queue>,
    receives: bool,
    /// What the poller watches it for; `None` when it is not in the poller.
    watched: Option<Interest>,
    /// Times in a row that it was told to have failed and neither frames nor a fault came of it.
    pub(crate) empty_failures: u32,
}

impl Port {
    pub(crate) fn new(key: PortKey, network: usize, lane: Option<usize>, setup: PortSetup) -> Port {
        let PortSetup { id, link, backlog, share, longest, .. } = setup;
        Port {
            key,
            network,
            id,
            link,
            attached: None,
            held: Batch::default(),
            pending: Pending::default(),
            lane,
            used: Used::default(),
            timed: false,
            read_second: false,
            backlog,
            share,
            longest,
        }
    }

    /// How many more frames may be on their way to the port's medium.
    pub(crate) fn room(&self, status: Status) -> usize {
        self.backlog.saturating_sub(status.waiting)
    }

    /// What the port's queue waits for; nothing without an attachment.
    pub(crate) fn status(&self) -> Status {
        self.attached.as_ref().map(|attached| attached.queue.status()).unwrap_or_default()
    }

    pub(crate) fn attach(
        &mut self,
        worker: usize,
        number: u64,
        endpoint: &dyn Endpoint,
        receives: bool,
        poller: &Poller,
    ) -> io::Result<()> {
        let counters = Arc::clone(self.link.counters());
        let (backlog, longest, link) = (self.backlog, self.longest, self.link.clone());
        let receives = receives || endpoint.has_queue_for(worker);
        let share = self.share.clone();
        let settings = Settings { worker, receives, counters, link: Some(link), backlog, share, longest };
        let queue = endpoint.queue(settings)?;
        let mut attached = Attached { number, queue, receives, watched: None, empty_failures: 0 };
        attached.watch(poller, self.key, false)?;
        self.attached = Some(attached);
        Ok(())
    }

    /// Lets go of the attachment; what still waited for it is counted as dropped.
    pub(crate) fn detach(&mut self, worker: usize, poller: &Poller) -> Option<u64> {
        self.take_attached(worker, poller).map(|attached| attached.number)
    }

    /// As [`Port::detach`], and leaves it to the caller to drop the attachment.
    pub(crate) fn take_attached(&mut self, worker: usize, poller: &Poller) -> Option<Attached> {
        let attached = self.attached.take()?;
        self.link.counters().set_queued(worker, 0);
        if attached.watched.is_some() {
            // Fails only when the descriptor left the poller by itself, as a deleted device does.
            let _ = poller.remove(attached.queue.as_fd());
            if let Some(second) = attached.queue.second() {
                let _ = poller.remove(second);
            }
        }
        Some(attached)
    }
}

impl Attached {
    /// Whether this worker receives from it.
    pub(crate) fn receives(&self) -> bool {
        self.receives
    }

    /// From the next [`Attached::watch`] on, only writing is watched for.
    pub(crate) fn stop_receiving(&mut self) {
        self.receives = false;
    }

    /// Watches for reading when this worker receives, and for writing while `write`.
    pub(crate) fn watch(&mut self, poller: &Poller, key: PortKey, write: bool) -> io::Result<()> {
        // A descriptor with nothing to watch for would still report its end, again and again.
        let wanted =
            Some(Interest { read: self.receives, write }).filter(|wanted| wanted.read || wanted.write);
        if wanted == self.watched {
            return Ok(());
        }
        let fd = self.queue.as_fd();
        match (self.watched, wanted) {
            (None, Some(interest)) => poller.add(fd, key.token(false), interest)?,
            (Some(_), Some(interest)) => poller.modify(fd, key.token(false), interest)?,
            (_, None) => poller.remove(fd)?,
        }
        if let Some(second) = self.queue.second() {
            let reads = |interest: Option<Interest>| interest.is_some_and(|interest| interest.read);
            match (reads(self.watched), reads(wanted)) {
                (false, true) => {
                    poller.add(second, key.token(true), Interest { read: true, write: false })?;
                }
                (true, false) => poller.remove(second)?,
                _ => {}
            }
        }
        self.watched = wanted;
        Ok(())
    }
}

/// The end of the way out: hands frames to the attachment, if there is one.
pub(crate) struct Out<'a, 'b, 'q> {
    pub(crate) cx: &'a Context<'b>,
    pub(crate) queue: Option<&'q mut Box<dyn Queue>>,
    pub(crate) translator: &'a mut Translator,
    pub(crate) link: &'a Link,
    pub(crate) fault: Option<Fault>,
}

impl Transmit for Out<'_, '_, '_> {
    fn transmit(&mut self, batch: &mut Batch) {
        match &mut self.queue {
            Some(queue) => {
                if let Err(fault) =
                    self.translator.transmit(self.cx, self.link.counters(), &mut ***queue, batch)
                {
                    self.fault = Some(fault);
                }
            }
            None => {
                self.link.counters().dropped(self.cx.worker, DropReason::NoPeer, batch.len() as u64);
                if let Some(taps) = self.link.taps() {
                    batch.iter().for_each(|frame| taps.dropped(self.cx, frame, DropReason::NoPeer));
                }
                batch.clear();
            }
        }
    }
}
