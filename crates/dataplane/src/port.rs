use std::io;
use std::sync::Arc;

use vmlan_drivers::{Endpoint, Fault, Queue, Settings, Status, Waits};
use vmlan_frame::{Account, Batch, Context, DropReason, Share};
use vmlan_link::{Link, Transmit};
use vmlan_sys::{Poller, Ready};

use crate::command::{PortKey, PortSetup};
use crate::ready::{Pending, Used};
use crate::translate::Translator;

/// A port as one worker sees it.
pub(crate) struct Port {
    pub(crate) key: PortKey,
    pub(crate) network: usize,
    pub(crate) id: vmlan_lan::PortId,
    pub(crate) link: Link,
    /// The link's account.
    pub(crate) account: Account,
    pub(crate) attached: Option<Attached>,
    /// Frames that were received and not forwarded yet, since those before them were the turn's whole work.
    pub(crate) held: Batch,
    /// The work for the port's next turn.
    pub(crate) pending: Pending,
    /// The lane in which it takes turns with its user's other ports.
    pub(crate) lane: Option<usize>,
    /// Its use of the worker's time; of a port in a lane the lane knows.
    pub(crate) used: Used,
    /// True if the worker looks at the port's deadline.
    pub(crate) timed: bool,
    /// Which descriptor was read last, where the queue has several.
    pub(crate) read_last: u8,
    backlog: usize,
    share: Option<Arc<Share>>,
    longest: usize,
}

/// A worker's queue of what a port is attached to.
pub(crate) struct Attached {
    pub(crate) number: u64,
    pub(crate) queue: Box<dyn Queue>,
    receives: bool,
    /// Control has opened it: before, nothing is received.
    open: bool,
    /// The signs for which the poller watches its descriptors.
    watched: Waits,
    /// Times in a row that it was told to have failed and neither frames nor a fault came of it.
    pub(crate) empty_failures: u32,
    /// Its queue is looked at until it rests, and its descriptors tell nothing meanwhile.
    polled: bool,
    /// Looks in a row that found nothing.
    empty_looks: u32,
}

impl Port {
    pub(crate) fn new(key: PortKey, network: usize, lane: Option<usize>, setup: PortSetup) -> Port {
        let PortSetup { id, link, backlog, share, longest, .. } = setup;
        Port {
            key,
            network,
            id,
            account: link.account(),
            link,
            attached: None,
            held: Batch::default(),
            pending: Pending::default(),
            lane,
            used: Used::default(),
            timed: false,
            read_last: 0,
            backlog,
            share,
            longest,
        }
    }

    /// How many more frames may be on their way to the port's medium.
    pub(crate) fn room(&self, status: Status) -> usize {
        self.backlog.saturating_sub(status.waiting)
    }

    /// Returns what the port's queue waits for; nothing without an attachment.
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
        let (backlog, longest, account) = (self.backlog, self.longest, self.account.clone());
        let receives = receives || endpoint.has_queue_for(worker);
        let share = self.share.clone();
        let settings = Settings { worker, receives, account, backlog, share, longest };
        let queue = endpoint.queue(settings)?;
        let mut attached = Attached {
            number,
            queue,
            receives,
            open: false,
            watched: Waits::NONE,
            empty_failures: 0,
            polled: false,
            empty_looks: 0,
        };
        attached.watch(poller, self.key, attached.queue.status().waits)?;
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
        for number in 0..Waits::DESCRIPTORS {
            let watched = attached.watched.interest(number).and(attached.queue.descriptor(number));
            if let Some(descriptor) = watched {
                // Fails only when the descriptor left the poller by itself, as a deleted device does.
                let _ = poller.remove(descriptor);
            }
        }
        Some(attached)
    }
}

impl Attached {
    /// True if it has this number.
    pub(crate) fn is(&self, number: u64) -> bool {
        self.number == number
    }

    /// From the next [`Attached::watch`] on, it is received from.
    pub(crate) fn open(&mut self) {
        self.open = true;
    }

    /// True if control has opened it.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// True if its queue is to be looked at, since it tells nothing by itself now.
    pub(crate) fn is_polled(&self) -> bool {
        self.polled
    }

    /// Goes on looking at the queue, or has it rest after `most` looks that found nothing. `any` says whether the last
    /// one found something. True if it is to be looked at again.
    pub(crate) fn poll(&mut self, any: bool, most: u32) -> bool {
        self.empty_looks = if any { 0 } else { self.empty_looks.saturating_add(1) };
        self.polled = self.empty_looks < most || self.queue.rest();
        self.polled
    }

    /// True if this worker receives from the attachment.
    pub(crate) fn receives(&self) -> bool {
        self.receives && self.open
    }

    /// The descriptors by which this worker hears that there is something to receive, as a bit for each.
    pub(crate) fn receivers(&self) -> u8 {
        self.watched.receivers()
    }

    /// Interprets an event of a descriptor. The first answer is true if there is something to receive, the second if
    /// there is room.
    pub(crate) fn meaning(&self, descriptor: usize, ready: Ready) -> (bool, bool) {
        self.watched.meaning(descriptor, ready)
    }

    /// From the next [`Attached::watch`] on, only room is watched for.
    pub(crate) fn stop_receiving(&mut self) {
        self.receives = false;
    }

    /// Watches for what the queue waits for, and for something to receive only where this worker receives.
    #[inline]
    pub(crate) fn watch(&mut self, poller: &Poller, key: PortKey, waits: Waits) -> io::Result<()> {
        let wanted = if self.receives() { waits } else { waits.without_receiving() };
        if wanted == self.watched { Ok(()) } else { self.watch_anew(poller, key, wanted) }
    }

    fn watch_anew(&mut self, poller: &Poller, key: PortKey, wanted: Waits) -> io::Result<()> {
        for number in 0..Waits::DESCRIPTORS {
            let (before, after) = (self.watched.interest(number), wanted.interest(number));
            let Some(descriptor) = self.queue.descriptor(number).filter(|_| before != after) else {
                continue;
            };
            match (before, after) {
                (None, Some(interest)) => poller.add(descriptor, key.token(number), interest)?,
                (Some(_), Some(interest)) => poller.modify(descriptor, key.token(number), interest)?,
                // One with nothing to watch for would still report its end, again and again.
                (_, None) => poller.remove(descriptor)?,
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
    pub(crate) account: &'a Account,
    pub(crate) fault: Option<Fault>,
}

impl Transmit for Out<'_, '_, '_> {
    fn transmit(&mut self, batch: &mut Batch) {
        match &mut self.queue {
            Some(queue) => {
                if let Err(fault) = self.translator.transmit(self.cx, self.account, &mut ***queue, batch) {
                    self.fault = Some(fault);
                }
            }
            None => self.account.lose_all(self.cx, batch, DropReason::NoPeer),
        }
    }
}
