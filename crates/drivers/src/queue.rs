use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use vmlan_frame::{
    Account, Backlog, Batch, Context, Counters, DropReason, Entry, Frame, Instant, Share, Takes, Tally,
};

use crate::waits::Waits;

/// The medium that a port is attached to, ready for traffic.
pub trait Endpoint: Send + Sync {
    /// The queue for one worker.
    ///
    /// # Errors
    /// No descriptor or no memory.
    fn queue(&self, settings: Settings) -> io::Result<Box<dyn Queue>>;

    /// True if `worker` has a queue of the medium to itself. Then it receives, whatever [`Settings::receives`] says.
    fn has_queue_for(&self, _worker: usize) -> bool {
        false
    }

    /// By what means frames are moved, for people to read.
    fn mechanism(&self) -> String;

    /// Returns the counters of the medium's own link, where it has one besides the port's: a tunnel's records.
    fn inner(&self) -> Option<&Counters> {
        None
    }

    /// Returns the counters of the port's rings, where the medium is rings in a guest's memory.
    fn rings(&self) -> Option<RingCounts> {
        None
    }

    /// Shows the guest whether its cable is plugged in, as far as the medium can.
    ///
    /// # Errors
    /// Errors of the system.
    fn set_carrier(&self, _carrier: bool) -> io::Result<()> {
        Ok(())
    }
}

/// The properties of a port and a worker that a queue has to know.
#[derive(Clone)]
pub struct Settings {
    /// The worker's number.
    pub worker: usize,
    /// True if this worker receives. A medium with one queue has one receiver, so that order is kept; a medium with
    /// a queue for each worker ignores this.
    pub receives: bool,
    /// The account of the port's link.
    pub account: Account,
    /// Frames that may wait for the medium.
    pub backlog: usize,
    /// The room that waiting frames share with the waiting frames of the user's other ports; `None` for a port that has
    /// its room alone.
    pub share: Option<Arc<Share>>,
    /// Octets of the longest frame that the network takes, with header and one tag, without FCS.
    pub longest: usize,
}

impl Settings {
    /// Octets that the waiting frames of one queue take together at most.
    pub const BACKLOG_OCTETS: usize = 512 << 10;

    /// Those of a test's queue: it receives, is the port's only one for its user, and frames are of the usual length.
    #[cfg(test)]
    pub(crate) fn of_test(worker: usize, account: impl Into<Account>, backlog: usize) -> Settings {
        Settings { worker, receives: true, account: account.into(), backlog, share: None, longest: 1518 }
    }

    pub(crate) fn backlog(&self) -> Backlog {
        Backlog::new(self.backlog, Settings::BACKLOG_OCTETS).sharing(self.share.clone())
    }
}

/// One worker's half of a driver. The descriptors behind it tell readiness.
pub trait Queue {
    /// The descriptor with this number, of up to [`Waits::DESCRIPTORS`] counted from 0: the same one for as long as the
    /// queue lives.
    fn descriptor(&self, number: usize) -> Option<BorrowedFd<'_>>;

    /// The next call is one of [`Queue::receive`] or [`Queue::transmit`] because this descriptor became ready. A queue
    /// with several is told before each call that it owes to one of them; where it is not, any may be.
    fn is_ready(&mut self, _number: usize) {}

    /// Adds what the medium has to `batch`, at most up to its limit, and never waits.
    ///
    /// # Errors
    /// Why the attachment is of no more use. Frames that were added before stay in the batch.
    fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault>;

    /// Has the other side tell when there is something to receive, from now on: it is not looked at any more without
    /// being told. For a queue that answered [`Progress::Polled`]. True if something came meanwhile, or the queue
    /// cannot rest yet: then it is to be looked at again.
    fn rest(&mut self) -> bool {
        false
    }

    /// Sends what waited from before, then every frame of `batch`, and leaves it empty: what the medium does not take
    /// now waits in a bounded backlog, what does not fit there is dropped and counted. An empty batch just sends what
    /// waited.
    ///
    /// # Errors
    /// Why the attachment is of no more use; every frame has been counted nevertheless.
    fn transmit(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault>;

    /// Hears of frames that it received and that a full queue of another port lost, if they said that it wants to
    /// ([`Meta::tells_refusal`](vmlan_frame::Meta::tells_refusal)).
    fn refused(&mut self, _cx: &Context<'_>, _frames: &[Frame]) {}

    /// Returns the events that the queue waits for until it is called again.
    fn status(&self) -> Status;

    /// Returns the offload requests that the medium takes as they are. Other requests of a frame are done before the
    /// frame gets here.
    fn takes(&self) -> Takes {
        Takes::NONE
    }
}

/// The state of a queue after one call to receive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Readiness of a descriptor tells when there is more.
    Done,
    /// Received already but not given out: call again before anything else of this queue.
    Again,
    /// Readiness does not tell when there is more, before [`Queue::rest`]: call again soon, for a while after there was
    /// `any`.
    Polled {
        /// This call found something.
        any: bool,
    },
}

/// The events that a queue waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Frames that wait for the medium.
    pub waiting: usize,
    /// The signs of its descriptors: of something to receive, as a rule always, and of room while something waits for
    /// it. A worker that does not receive from the medium passes over the former.
    pub waits: Waits,
    /// They wait for their turn or for another worker, which readiness does not tell: call `transmit` again soon.
    pub retry: bool,
    /// When `transmit`, if frames wait, and `receive` have to be called although nothing is ready.
    pub deadline: Option<Instant>,
}

/// How guest and workers woke each other about the rings of a port, since the port was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RingCounts {
    /// Kicks of guests that workers heard. Several that come before a worker looks are one.
    pub kicks: u64,
    /// Calls to guests.
    pub calls: u64,
    /// Turns to which kicks had woken a worker, and that found nothing to do.
    pub empty_wakeups: u64,
    /// Rings that were found to make no sense, and were left alone from then on.
    pub broken_rings: u64,
    /// Changes of started rings, for each of which workers let go of them.
    pub quiesces: u64,
}

/// Why an attachment is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The peer closed or left.
    #[error("the peer closed the connection")]
    Closed,
    /// The device was deleted.
    #[error("the device is gone")]
    Gone,
    /// The peer broke the medium's rules.
    #[error("{0}")]
    Violation(String),
    /// The system failed.
    #[error("the system call failed")]
    Io(#[source] io::Error),
    /// A bug of ours: something panicked.
    #[error("a bug in vmlan: {0}")]
    Bug(String),
}

impl Fault {
    /// Translates an error of a socket to a fault of its attachment.
    pub(crate) fn of_socket(error: io::Error) -> Fault {
        use io::ErrorKind::*;
        if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::TOOMANYREFS) {
            let reason = "the peer sends descriptors along, more than can be closed";
            return Fault::Violation(reason.to_owned());
        }
        match error.kind() {
            BrokenPipe | ConnectionReset | ConnectionRefused | ConnectionAborted | NotConnected
            | NotFound => Fault::Closed,
            _ => Fault::Io(error),
        }
    }
}

/// How long it is waited before a full medium that never tells of room is asked again.
const PAUSE: Duration = Duration::from_micros(500);

/// The same, at most: it doubles while the medium takes nothing.
const LONGEST_PAUSE: Duration = Duration::from_millis(8);

/// Frames of a batch that is short.
const FEW: usize = 8;

/// Counting and waiting that all queues share.
pub(crate) struct Outbox {
    pub(crate) worker: usize,
    pub(crate) account: Account,
    pub(crate) backlog: Backlog,
    /// The medium took no more, and has not told since that it does.
    full: bool,
    /// Nothing but the worker's next turns holds up what waits.
    more: bool,
    /// The medium never tells of room: it is asked.
    asks: bool,
    /// How long it is waited before it is asked again, and when that is.
    pause: Duration,
    again: Instant,
}

impl Outbox {
    pub(crate) fn new(settings: &Settings) -> Outbox {
        Outbox {
            worker: settings.worker,
            account: settings.account.clone(),
            backlog: settings.backlog(),
            full: false,
            more: false,
            asks: false,
            pause: PAUSE,
            again: Instant::ZERO,
        }
    }

    /// For a medium that never tells when it has room again: it is asked, after a pause.
    #[must_use]
    pub(crate) fn asking(mut self) -> Outbox {
        self.asks = true;
        self
    }

    /// True if the medium never tells of room, so that it has to be asked.
    pub(crate) fn asks(&self) -> bool {
        self.asks
    }

    /// Lets `frames` wait for another turn, not for the medium.
    pub(crate) fn retry(&mut self, cx: &Context<'_>, frames: impl Iterator<Item = Frame>) {
        self.more = true;
        self.defer(cx, frames);
    }

    /// Counts frames that were received and are not passed on.
    #[cold]
    pub(crate) fn refuse(&self, reason: DropReason, frames: u64, octets: usize) {
        self.account.counters().received_and_dropped(self.worker, reason, frames, octets as u64);
    }

    /// Lets `frames` wait; the newest that do not fit are dropped.
    pub(crate) fn defer(&mut self, cx: &Context<'_>, frames: impl Iterator<Item = Frame>) {
        for frame in frames {
            if !self.backlog.push(&frame) {
                self.account.lose(cx, &frame, DropReason::QueueFull);
            }
        }
    }

    /// Gives up on `frames` and on everything that waits: there is nobody to send it to.
    pub(crate) fn abandon(&mut self, cx: &Context<'_>, batch: &mut Batch, reason: DropReason) {
        self.account.lose_waiting(cx, &mut self.backlog, reason);
        self.account.lose_all(cx, batch, reason);
    }

    /// Sends through `send`, which takes entries from the front and says how many it took, first what waits and then
    /// `batch`, until the medium takes no more. Of what waits it sends [`Batch::LIMIT`] frames at most, and the rest
    /// with the next calls: a backlog is long, and others wait for the worker meanwhile. As each of these calls, those
    /// with a batch among them, sends as much as a batch has, a backlog ends once its medium is fast enough. A medium
    /// that was full is asked again by a call with an empty batch, when it tells that it has room, or after a pause
    /// when it never does: a flood to it makes no system calls.
    pub(crate) fn send(
        &mut self,
        cx: &Context<'_>,
        batch: &mut Batch,
        mut send: impl FnMut(&[Entry<'_>]) -> io::Result<Sent>,
    ) -> io::Result<()> {
        self.more = false;
        if self.full && !self.backlog.is_empty() && !batch.is_empty() {
            self.defer(cx, batch.drain());
            return Ok(());
        }
        self.full = false;
        let result = self.send_all(cx, batch, &mut send);
        if self.full {
            self.again = cx.now + self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        result
    }

    fn send_all(
        &mut self,
        cx: &Context<'_>,
        batch: &mut Batch,
        send: &mut impl FnMut(&[Entry<'_>]) -> io::Result<Sent>,
    ) -> io::Result<()> {
        let mut most = Batch::LIMIT;
        while !self.backlog.is_empty() {
            if most == 0 {
                self.retry(cx, batch.drain());
                return Ok(());
            }
            let (chunk, count) = chunk(self.backlog.iter().take(most));
            let sent = send(&chunk[..count])?;
            let tally = tally(&chunk[..sent.taken]);
            if let (Some(reason), Some(entry)) = (sent.refused, chunk[..count].get(sent.taken)) {
                self.account.lose_entry(cx, *entry, reason);
            }
            self.note_taken(sent.taken, &tally);
            self.backlog.pop(sent.through());
            most -= sent.through();
            if sent.full {
                self.full = true;
                self.defer(cx, batch.drain());
                return Ok(());
            }
            if sent.paused {
                self.retry(cx, batch.drain());
                return Ok(());
            }
        }
        while !batch.is_empty() {
            // To make room for a whole batch costs as much as to send a few frames.
            let sent = match batch.len() {
                ..=FEW => self.send_chunk::<FEW>(batch, send)?,
                _ => self.send_chunk::<{ Batch::LIMIT }>(batch, send)?,
            };
            batch.drain_front(sent.taken);
            if let Some(reason) = sent.refused {
                batch.drain_front(1).for_each(|frame| self.account.lose(cx, &frame, reason));
            }
            if sent.full {
                self.full = true;
                self.defer(cx, batch.drain());
            } else if sent.paused {
                self.retry(cx, batch.drain());
            }
        }
        Ok(())
    }

    /// Sends the first `N` frames of a batch, or as many as it has.
    #[inline]
    fn send_chunk<const N: usize>(
        &mut self,
        batch: &Batch,
        send: &mut impl FnMut(&[Entry<'_>]) -> io::Result<Sent>,
    ) -> io::Result<Sent> {
        let mut chunk = [Entry::default(); N];
        let mut count = 0;
        for (slot, frame) in chunk.iter_mut().zip(batch) {
            *slot = Entry { octets: frame.octets(), meta: frame.meta };
            count += 1;
        }
        let sent = send(&chunk[..count])?;
        self.note_taken(sent.taken, &tally(&chunk[..sent.taken]));
        Ok(sent)
    }

    fn note_taken(&mut self, taken: usize, tally: &Tally) {
        self.account.counters().sent(self.worker, tally);
        if taken > 0 {
            self.pause = PAUSE;
        }
    }

    /// The status of a queue that nothing but the medium holds up.
    pub(crate) fn status(&self) -> Status {
        let waiting = self.backlog.len();
        let waits = waiting > 0 && !self.more;
        let deadline = Some(self.again).filter(|_| waits && self.asks);
        Status { waiting, waits: Waits::of_one(waits && !self.asks), retry: self.more, deadline }
    }

    /// Counts copies that are no frames any more, so that nobody can be shown them.
    pub(crate) fn dropped_unseen(&self, reason: DropReason, count: usize) {
        self.account.counters().dropped_unseen(self.worker, reason, count as u64);
    }
}

impl Drop for Outbox {
    /// Counts the frames that still wait as dropped: an attachment that ends has no peer for them.
    fn drop(&mut self) {
        let waiting = self.backlog.clear();
        self.dropped_unseen(DropReason::NoPeer, waiting);
    }
}

/// How far a medium got with a chunk of frames.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Sent {
    /// Frames that it took, from the front.
    pub(crate) taken: usize,
    /// Why it will never take the next one.
    pub(crate) refused: Option<DropReason>,
    /// It takes no more now.
    pub(crate) full: bool,
    /// The turn is over, and what is left comes with the next one.
    pub(crate) paused: bool,
}

impl Sent {
    fn through(self) -> usize {
        self.taken + usize::from(self.refused.is_some())
    }
}

/// The first entries, as many as go out at once, and how many those are.
pub(crate) fn chunk<'a>(frames: impl Iterator<Item = Entry<'a>>) -> ([Entry<'a>; Batch::LIMIT], usize) {
    let mut chunk = [Entry::default(); Batch::LIMIT];
    let mut count = 0;
    for (slot, frame) in chunk.iter_mut().zip(frames) {
        *slot = frame;
        count += 1;
    }
    (chunk, count)
}

fn tally(entries: &[Entry<'_>]) -> Tally {
    let mut tally = Tally::default();
    entries.iter().for_each(|entry| tally.add_parts(entry.octets, &entry.meta));
    tally
}
