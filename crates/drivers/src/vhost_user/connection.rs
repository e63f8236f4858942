//! The thread of a connection, which does everything that can take as long as the front end likes.
//!
//! Theory of operation. [`serve`] makes the device, whose queues go to workers, and a thread that has the socket. The
//! thread takes one message after the other (`wire`), asks the session what follows ([`Session`]), does it
//! (`holdings`), and answers. Nothing else ever receives, maps, unmaps or closes what came from the front end: each of
//! these can take seconds, or hours, and holds up this thread alone. When the connection ends, the rings are taken from
//! the workers first, then the end is reported, and only then everything is unmapped and closed. So threads of a port
//! may linger after their connection; [`Lingering`] counts them, and with [`Lingering::MOST`] of them there is no other
//! connection.
//!
//! A front end has a budget of messages, and one of changes to rings that are started, for each of those may have a
//! worker pass over a ring once. A front end that asks for more waits.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use vmlan_frame::MacAddr;
use vmlan_sys::Waker;

use super::checkpoint::{Checkpoints, Process};
use super::counters::RingCounters;
use super::device::{Device, RingState, Rings, Stopped};
use super::holdings::{Holdings, Limits};
use super::message::{Header, Request, violation};
use super::session::{Action, Session};
pub use super::session::{ConfigOffer, Offer};
use super::wire::{Budget, End, Wire};
use crate::closer;
use crate::queue::{Endpoint, Fault};

/// Messages a second, and at once.
const MESSAGES: (u32, u32) = (2000, 8192);

/// Changes of started rings a second, and at once: the most rings are stopped or enabled together by a few hundred.
const DISTURBANCES: (u32, u32) = (200, 512);

/// Announcements a second, and at once.
const ANNOUNCEMENTS: (u32, u32) = (10, 10);

/// All that a connection needs to know.
pub struct Options {
    /// The connected socket. It accepts descriptors.
    pub socket: OwnedFd,
    /// The properties that are offered.
    pub offer: Offer,
    /// Octets of guest memory that are mapped at most.
    pub memory: u64,
    /// Memory is refused if its file could be made shorter.
    pub sealed: bool,
    /// The number of workers.
    pub workers: usize,
    /// The port's threads that have not ended.
    pub lingering: Lingering,
    /// The port's counters.
    pub counters: RingCounters,
    /// Where positions of packed rings are noted, so that they outlive us, and the process of the front end, for which
    /// they are.
    pub checkpoints: Option<(Arc<Checkpoints>, Process)>,
}

/// A count of a port's threads that have not ended, with or without a connection.
#[derive(Clone, Default)]
pub struct Lingering(Arc<AtomicUsize>);

impl Lingering {
    /// Threads that may be there when another one is started.
    pub const MOST: usize = 4;

    /// The number of threads.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn enter(&self) -> io::Result<Present> {
        let one_more = |count| (count < Lingering::MOST).then_some(count + 1);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(Present(self.clone())),
            Err(count) => Err(io::Error::other(format!(
                "{count} earlier connections are still closing what their front ends sent"
            ))),
        }
    }
}

/// A thread that has not ended.
struct Present(Lingering);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An event of a connection.
#[derive(Debug)]
pub enum Report {
    /// Its state changed.
    State(State),
    /// It is over. This is the last report.
    Ended(Fault),
}

/// The state of a connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// A ring of each direction is started and enabled.
    pub up: bool,
    /// The front end announced its guest, and has not stopped a ring since.
    pub announced: bool,
    /// The event that it waits for, the ring that is broken and why, or a request that was refused; for people.
    pub reason: Option<String>,
}

/// A connection. When it is dropped, the thread ends without another report; the drop does not wait for it.
pub struct Connection {
    stop: Arc<Waker>,
    rings: Arc<Rings>,
}

impl Connection {
    /// Has frames of enabled rings received from now on: the network sends to the port by now, so that what the guest
    /// says is answered. Until then only rings that are not enabled are looked at, whose frames are dropped.
    pub fn admit(&self) {
        self.rings.admit();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.stop.wake();
    }
}

/// Starts the thread of a connection. It calls `report`, which must not wait.
///
/// # Errors
/// Too many threads of the port linger; no thread, no descriptors, or no memory.
pub fn serve(
    options: Options,
    report: impl Fn(Report) + Send + 'static,
) -> io::Result<(Arc<dyn Endpoint>, Connection)> {
    let Options { socket, offer, memory, sealed, workers, lingering, counters, checkpoints } = options;
    let parts = || {
        let present = lingering.enter()?;
        let stop = Arc::new(Waker::new()?);
        Ok((present, stop, Device::new(offer.rings(), workers, counters.clone())?))
    };
    let (present, stop, device) = match parts() {
        Ok(parts) => parts,
        Err(error) => {
            // What lies in its queue may be slow to close. Nothing could be done if there were too many.
            let _ = closer::close([socket]);
            return Err(error);
        }
    };
    let rings = device.rings();
    let connection = Connection { stop: stop.clone(), rings: rings.clone() };
    let served = Served {
        wire: Wire::new(socket, stop),
        holdings: Holdings::new(rings.clone(), offer.rings(), Limits { memory, sealed }, checkpoints),
        rings,
        counters,
        session: Session::new(offer),
        messages: Budget::new(MESSAGES.0, MESSAGES.1),
        disturbances: Budget::new(DISTURBANCES.0, DISTURBANCES.1),
        announcements: Budget::new(ANNOUNCEMENTS.0, ANNOUNCEMENTS.1),
        has_strays: false,
        announced: false,
        told: None,
    };
    let run = move || {
        served.run(report);
        drop(present);
    };
    thread::Builder::new().name("vmlan-vhost".into()).spawn(run)?;
    Ok((Arc::new(device), connection))
}

/// The thread's half of a connection.
struct Served {
    wire: Wire,
    session: Session,
    holdings: Holdings,
    rings: Arc<Rings>,
    counters: RingCounters,
    messages: Budget,
    disturbances: Budget,
    announcements: Budget,
    /// Descriptors came with a request that takes none.
    has_strays: bool,
    announced: bool,
    /// The state that was reported last.
    told: Option<State>,
}

impl Served {
    fn run(mut self, report: impl Fn(Report)) {
        let end = match catch_unwind(AssertUnwindSafe(|| self.converse(&report))) {
            Ok(end) => end,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                End::Fault(Fault::Bug(text.unwrap_or_default()))
            }
        };
        // From here on no worker has anything of the front end's.
        let taken = self.holdings.clear();
        if matches!(end, End::Fault(Fault::Closed)) {
            taken.iter().for_each(Stopped::erase_checkpoint);
        }
        self.holdings.release_checkpoints();
        self.wire.end();
        if let End::Fault(fault) = end {
            report(Report::Ended(fault));
        }
        // Any of this may take long.
        drop((taken, self.holdings));
        self.wire.close();
    }

    /// Serves the front end until the end.
    fn converse(&mut self, report: &impl Fn(Report)) -> End {
        loop {
            if let Err(end) = self.step(report) {
                return end;
            }
        }
    }

    /// Takes a message, or waits for one.
    fn step(&mut self, report: &impl Fn(Report)) -> Result<(), End> {
        let rings = self.rings.clone();
        let mut woken = self.wire.wait(PollFlags::IN, Some(rings.waker()), Some(Duration::ZERO))?;
        if !woken.socket {
            // Nothing else is to be done, so it is worth telling what all of it led to.
            self.tell(report);
            woken = self.wire.wait(PollFlags::IN, Some(rings.waker()), None)?;
        }
        if woken.rings {
            rings.waker().clear();
            self.check_memory()?;
            self.tell(report);
        }
        if woken.socket { self.take_message() } else { Ok(()) }
    }

    fn take_message(&mut self) -> Result<(), End> {
        let Some((header, body)) = self.wire.receive()? else { return Ok(()) };
        self.wire.pause(self.messages.take(Instant::now()))?;
        self.close_strays(header)?;
        let request = Request::parse(header, &body, self.wire.descriptors.len())?;
        let outcome = self.session.request(&request, header.needs_reply)?;
        if self.holdings.disturbs(&self.session, &outcome.action) {
            self.wire.pause(self.disturbances.take(Instant::now()))?;
            self.counters.quiesced();
        }
        self.holdings.apply(&mut self.session, &outcome.action, &mut self.wire.descriptors)?;
        self.check_memory()?;
        match outcome.action {
            Action::Announce(mac) => self.announce(mac),
            Action::Stop(_) | Action::Reset(_) => self.announced = false,
            _ => {}
        }
        if let Some(octets) = self.session.emit(header.kind, &outcome.answer) {
            self.wire.send(&octets)?;
        }
        // Nobody wanted these.
        self.wire.descriptors.clear();
        Ok(())
    }

    /// Closes descriptors that came with a request that takes none, once.
    fn close_strays(&mut self, header: Header) -> Result<(), End> {
        if header.kind.takes_descriptors() || self.wire.descriptors.is_empty() {
            return Ok(());
        }
        let count = self.wire.descriptors.len();
        if self.has_strays {
            let kind = header.kind;
            return Err(
                violation!("{count} descriptors came with {kind:?}, and not for the first time").into()
            );
        }
        self.has_strays = true;
        self.wire.descriptors.clear();
        Ok(())
    }

    fn check_memory(&self) -> Result<(), End> {
        if self.holdings.is_poisoned() {
            let reason = "the file of the guest's memory was cut short, or the system has no page for it";
            return Err(violation!("{reason}").into());
        }
        Ok(())
    }

    fn announce(&mut self, mac: MacAddr) {
        if self.announcements.try_take(Instant::now()) {
            self.rings.announce(mac);
            self.announced = true;
        }
    }

    /// Reports the state, if it changed.
    fn tell(&mut self, report: &impl Fn(Report)) {
        let up = self.rings.are_up();
        let broken = self.rings.states().into_iter().enumerate().find_map(|(index, state)| match state {
            RingState::Broken(trouble) => Some(format!("ring {index} is broken: {trouble}")),
            _ => None,
        });
        let complaint = || self.session.complaint().map(str::to_owned);
        let waits_for = || (!up).then(|| self.session.waits_for().to_owned());
        let reason = broken.or_else(complaint).or_else(waits_for);
        let state = State { up, announced: self.announced, reason };
        if self.told.as_ref() != Some(&state) {
            self.told = Some(state.clone());
            report(Report::State(state));
        }
    }
}

#[cfg(test)]
mod tests;
