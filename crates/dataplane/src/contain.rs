//! A panic is a bug of ours, and costs the port in hand, not the others.
//!
//! Theory of operation. Whatever runs for a port runs within [`Worker::contained`], and `hand` says which port that is
//! at the moment: the one whose turn it is, or the one that is being sent to. After a panic the port in hand loses its
//! attachment, control is told why, and the copies that the turn made for other ports go out. Of the frames in hand
//! those that can still be found are counted as drops; what was in the middle of its way cannot, and is all that the
//! books may lack.
//!
//! A panic outside of that is answered by the worker itself, which runs again with its ports as they were
//! ([`Worker::recover`]). When that does not help, it lets go of every attachment and takes another poller, and control
//! attaches the ports anew.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::Duration;

use vmlan_drivers::Fault;
use vmlan_frame::{DropReason, Instant};
use vmlan_lan::{Egress, Forwarder};

use crate::command::{Notice, PortKey};
use crate::worker::{Worker, now};

/// So many panics of the worker itself, each soon after the last, are answered with its ports as they were.
const FEW: u32 = 3;

/// How soon.
const SOON: Duration = Duration::from_secs(10);

/// The pause after such a panic, times the number of panics.
const PAUSE: Duration = Duration::from_millis(10);

/// Panics of the worker itself.
#[derive(Default)]
pub(crate) struct Panics {
    in_a_row: u32,
    last: Instant,
}

impl Worker {
    /// Gives a port its turn, for whatever it was listed for. False if it was a look that found nothing.
    pub(crate) fn serve(&mut self, key: PortKey, now: Instant) -> bool {
        let mut any = true;
        self.contained(key, |worker| any = worker.give_turn(key, now));
        any
    }

    /// Does something for a port. A panic costs it, or the port that it is sending to, the attachment.
    pub(crate) fn contained(&mut self, key: PortKey, work: impl FnOnce(&mut Worker)) {
        self.hand.set(Some(key));
        let result = catch_unwind(AssertUnwindSafe(|| work(self)));
        if let Err(panic) = result {
            self.contain(key, &*panic);
        }
        self.hand.set(None);
    }

    #[cold]
    fn contain(&mut self, turn: PortKey, panic: &(dyn Any + Send)) {
        self.batch.clear();
        let culprit = self.hand.take().unwrap_or(turn);
        self.give_up(culprit, &message(panic));
        let Some(port) = self.ports.get_mut(turn) else { return };
        if culprit != turn {
            // What its turn was for may not all have been done.
            self.ready.list_all(port);
        }
        let network = port.network;
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.flush(network, now()))) {
                Ok(()) => return,
                // Every such panic takes another port off the list, so it ends.
                Err(panic) => match self.hand.take() {
                    Some(culprit) => self.give_up(culprit, &message(&*panic)),
                    None => resume_unwind(panic),
                },
            }
        }
    }

    /// Takes the attachment off a port, and counts what was in hand for it.
    fn give_up(&mut self, key: PortKey, reason: &str) {
        let lost = self.translator.reset();
        let Some(port) = self.ports.get_mut(key) else { return };
        let mut dropped = lost;
        if let Some(network) = &mut self.networks[port.network] {
            dropped += network.egress.give_up(port.id).len();
            // It may be in the middle of a batch.
            network.forwarder = Forwarder::new(network.network.clone());
        }
        // Nothing more runs for it, its taps neither: they may be what panicked.
        port.link.counters().dropped_unseen(self.number, DropReason::TransmitError, dropped as u64);
        let Some(attached) = port.take_attached(self.number, &self.poller) else { return };
        let (attachment, fault) = (attached.number, Fault::Bug(reason.to_owned()));
        (self.notify)(Notice::Fault { port: key, attachment, fault });
        // What it leaves may be what panics.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(attached)));
    }

    /// Puts the worker back on its feet after a panic that was no port's, or that a port's containment did not contain.
    pub(crate) fn recover(&mut self, reason: &str) {
        let time = now();
        let soon = time.since(self.panics.last) < SOON;
        self.panics = Panics { in_a_row: if soon { self.panics.in_a_row + 1 } else { 1 }, last: time };
        self.batch.clear();
        self.ready.clear();
        self.timed.clear();
        self.networks.iter_mut().flatten().for_each(|network| network.is_listed = false);
        self.told = true;
        if let Some(culprit) = self.hand.take() {
            self.give_up(culprit, reason);
        }
        let keys: Vec<_> = self.ports.iter().map(|(key, _)| key).collect();
        if self.panics.in_a_row > FEW {
            keys.iter().for_each(|key| self.give_up(*key, reason));
            for network in self.networks.iter_mut().flatten() {
                network.egress = Egress::new(network.backlog);
            }
            // An error: it is tried again after the next panic, should there be one.
            if let Ok(poller) = Worker::poller(&self.waker) {
                self.poller = poller;
            }
        }
        for key in keys {
            if let Some(port) = self.ports.get_mut(key) {
                (port.pending, port.timed) = Default::default();
                self.ready.list(port, |_| {});
            }
            self.contained(key, |worker| worker.set_room(key));
        }
        (0..self.networks.len()).for_each(|network| self.list_late(network));
        thread::sleep(PAUSE * self.panics.in_a_row.min(100));
    }
}

/// Returns the message of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word").to_owned()
}
