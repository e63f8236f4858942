//! A worker's half: which rings it has, and when.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use vmlan_frame::{Batch, Context, DropReason, Instant, Takes};
use vmlan_sys::{Ready, guest_memory};

use super::Trouble;
use super::bell::KeptBell;
use super::counters::RingCounters;
use super::device::Rings;
use super::ring::Intake;
use crate::queue::{Fault, Outbox, Progress, Queue, Sent, Settings, Status};
use crate::waits::Waits;

/// How often a ring is looked at that nobody kicks.
const LOOK: Duration = Duration::from_millis(1);

/// Kicks in a row without a frame, after which a worker hears of no more for [`DEAF`], and looks by itself.
const EMPTY_KICKS: u32 = 16;
const DEAF: Duration = Duration::from_secs(1);

/// The descriptors of the queue: kicks for what came, and for room.
const RECEIVE: usize = 0;
const ROOM: usize = 1;

/// The kicks of one way: a guest that kicks for nothing is looked at in times, and heard no more.
#[derive(Default)]
struct Kicks {
    came: bool,
    /// So many in a row were for nothing.
    empty: u32,
    /// Until then they are not heard.
    deaf: Option<Instant>,
}

impl Kicks {
    /// Notes whether there was `any` frame behind the kicks that came. True if they were for nothing.
    fn judge(&mut self, now: Instant, any: bool) -> bool {
        let came = std::mem::take(&mut self.came);
        if any {
            self.empty = 0;
        } else if came {
            self.empty += 1;
            if self.empty >= EMPTY_KICKS {
                self.empty = 0;
                self.deaf = Some(now + DEAF);
            }
        }
        self.deaf = self.deaf.filter(|until| *until > now);
        came && !any
    }

    fn are_heard(&self) -> bool {
        self.deaf.is_none()
    }
}

pub(crate) struct VhostQueue {
    rings: Arc<Rings>,
    worker: usize,
    outbox: Outbox,
    bell: KeptBell,
    /// The state of the rings that is followed.
    generation: u64,
    transmitters: Vec<usize>,
    admitted: bool,
    receiver: Option<usize>,
    takes: Takes,
    /// The ring that is looked at first in the next turn.
    turn: usize,
    /// A ring has something left that no buffer was free for, or another thread had it.
    left: bool,
    /// Some ring is not kicked.
    unkicked: bool,
    /// When rings are looked at without a kick.
    look: Option<Instant>,
    /// When the ring that is sent to is looked at without a kick.
    look_for_room: Option<Instant>,
    kicks: Kicks,
    kicks_for_room: Kicks,
    /// Faults of memory in the whole process when ours was looked at.
    faults: u64,
    events: Vec<Ready>,
}

impl VhostQueue {
    pub(crate) fn new(rings: Arc<Rings>, settings: Settings, bell: KeptBell) -> VhostQueue {
        VhostQueue {
            rings,
            worker: settings.worker,
            outbox: Outbox::new(&settings),
            bell,
            generation: 0,
            transmitters: Vec::new(),
            admitted: false,
            receiver: None,
            takes: Takes::NONE,
            turn: 0,
            left: false,
            unkicked: false,
            look: None,
            look_for_room: None,
            kicks: Kicks::default(),
            kicks_for_room: Kicks::default(),
            faults: 0,
            events: Vec::new(),
        }
    }

    /// Follows what the connection's thread has changed.
    #[inline]
    fn follow(&mut self) {
        let generation = self.rings.generation();
        if generation != self.generation {
            self.generation = generation;
            self.admitted = self.rings.are_admitted();
            self.unkicked = self.rings.transmitters(self.worker, &mut self.transmitters);
            self.receiver = self.rings.receiver(self.worker);
            self.takes = self.rings.takes();
        }
    }

    fn take_announcements(&mut self, cx: &Context<'_>, batch: &mut Batch) {
        for octets in self.rings.announcements() {
            match cx.pool.copy(&octets).filter(|_| batch.room() > 0) {
                Some(frame) => batch.push(frame),
                None => self.outbox.refuse(DropReason::NoBuffer, 1, octets.len()),
            }
        }
    }

    /// # Errors
    /// A file of the guest's memory was cut short since this was asked last.
    #[inline]
    fn check_memory(&mut self) -> Result<(), Fault> {
        if guest_memory::faults() == self.faults {
            return Ok(());
        }
        self.look_at_memory()
    }

    #[cold]
    fn look_at_memory(&mut self) -> Result<(), Fault> {
        let faults = guest_memory::faults();
        let rings = self.transmitters.iter().copied().chain(self.receiver);
        for index in rings {
            let Some(mut started) = self.rings.slot(index).try_lock() else {
                // It is looked at with the next turn.
                return Ok(());
            };
            let ring = started.as_mut().and_then(|started| started.ring());
            if ring.is_some_and(|(ring, _)| ring.frames.is_poisoned()) {
                let reason =
                    "a file of the guest's memory, or its log, was cut short or has no memory behind it";
                return Err(Fault::Violation(reason.to_owned()));
            }
        }
        self.faults = faults;
        Ok(())
    }

    fn receive_all(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<bool, Fault> {
        let count = self.transmitters.len();
        let mut any = false;
        let outbox = &self.outbox;
        let refuse = |reason, octets| outbox.refuse(reason, 1, octets);
        let mut intake = Intake { pool: cx.pool, batch, refuse: &refuse, octets: 0, descriptors: 0 };
        let counted = (self.rings.counters(), self.worker);
        for step in 0..count {
            if intake.is_over() {
                self.left = true;
                break;
            }
            let index = self.transmitters[(self.turn + step) % count];
            let Some(mut held) = self.rings.slot(index).try_lock() else {
                self.left = true;
                continue;
            };
            let Some(started) = held.as_mut() else { continue };
            let Some((ring, call)) = started.ring() else { continue };
            if ring.enabled && !self.admitted {
                // It was enabled since the rings were looked through, which is done again now.
                continue;
            }
            let result = if ring.commands { ring.answer() } else { ring.receive(&mut intake) };
            match result {
                Ok(turned) => {
                    any |= turned.any;
                    self.left |= turned.left;
                    if turned.call {
                        ring_bell(&mut self.bell, call, counted)?;
                    }
                }
                Err(trouble) => self.rings.break_ring(index, started, trouble),
            }
        }
        self.turn = if count == 0 { 0 } else { (self.turn + 1) % count };
        Ok(any)
    }
}

/// Calls a guest, which the worker counts.
fn ring_bell(
    bell: &mut KeptBell,
    call: Option<&OwnedFd>,
    (counters, worker): (&RingCounters, usize),
) -> Result<(), Fault> {
    let Some(call) = call else { return Ok(()) };
    counters.called(worker);
    bell.ring(call).map_err(Fault::Io)
}

impl Queue for VhostQueue {
    fn descriptor(&self, number: usize) -> Option<BorrowedFd<'_>> {
        let watch = self.rings.watch_of(self.worker);
        match number {
            RECEIVE => Some(watch.receive.as_fd()),
            ROOM => Some(watch.room.as_fd()),
            _ => None,
        }
    }

    fn is_ready(&mut self, number: usize) {
        let watch = self.rings.watch_of(self.worker);
        let (poller, kicks) = match number {
            RECEIVE => (&watch.receive, &mut self.kicks),
            _ => (&watch.room, &mut self.kicks_for_room),
        };
        // Which of the rings it is does not matter: there are few. An error would be a bug of ours, and costs a look.
        let _ = poller.wait(&mut self.events, Some(Duration::ZERO));
        let heard = self.events.iter().filter(|event| event.token != u64::MAX).count();
        if heard > 0 {
            kicks.came = true;
            self.rings.counters().kicked(self.worker, heard as u64);
        }
    }

    fn receive(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<Progress, Fault> {
        self.follow();
        self.take_announcements(cx, batch);
        self.left = false;
        let any = self.receive_all(cx, batch)?;
        if let Err(fault) = self.check_memory() {
            // What was read from it is nobody's.
            let octets = batch.iter().map(|frame| frame.len()).sum();
            self.outbox.refuse(DropReason::Malformed, batch.len() as u64, octets);
            batch.clear();
            return Err(fault);
        }
        if self.kicks.judge(cx.now, any) {
            self.rings.counters().woken_for_nothing(self.worker);
        }
        self.look = (self.unkicked || !self.kicks.are_heard()).then(|| cx.now + LOOK);
        Ok(if self.transmitters.is_empty() { Progress::Done } else { Progress::Polled { any } })
    }

    fn rest(&mut self) -> bool {
        if std::mem::take(&mut self.left) {
            return true;
        }
        for position in 0..self.transmitters.len() {
            let index = self.transmitters[position];
            let Some(mut held) = self.rings.slot(index).try_lock() else { return true };
            let Some(started) = held.as_mut() else { continue };
            match started.ring().map(|(ring, _)| ring.arm()) {
                None | Some(Ok(false)) => {}
                Some(Ok(true)) => return true,
                Some(Err(trouble)) => self.rings.break_ring(index, started, trouble),
            }
        }
        false
    }

    fn transmit(&mut self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Fault> {
        self.follow();
        let Some(index) = self.receiver else {
            self.outbox.abandon(cx, batch, DropReason::NoPeer);
            return Ok(());
        };
        let Some(mut held) = self.rings.slot(index).try_lock() else {
            self.outbox.retry(cx, batch.drain());
            return Ok(());
        };
        let Some(started) = held.as_mut() else {
            self.outbox.abandon(cx, batch, DropReason::NoPeer);
            return Ok(());
        };
        let Some((ring, call)) = started.ring() else {
            self.outbox.abandon(cx, batch, DropReason::NoPeer);
            return Ok(());
        };
        let (mut wants_call, mut any) = (false, false);
        let mut trouble: Option<Trouble> = None;
        ring.begin();
        // The medium's errors are in `trouble`.
        let _ = self.outbox.send(cx, batch, |entries| {
            let sent = ring.transmit(entries).and_then(|(mut sent, turned)| {
                wants_call |= turned.call;
                any |= sent.taken > 0;
                if sent.full {
                    sent.full = !ring.arm()?;
                }
                Ok(sent)
            });
            Ok(sent.unwrap_or_else(|found| {
                trouble = Some(found);
                Sent { full: true, ..Sent::default() }
            }))
        });
        let counted = (self.rings.counters(), self.worker);
        let result = if wants_call { ring_bell(&mut self.bell, call, counted) } else { Ok(()) };
        if let Some(trouble) = trouble {
            self.rings.break_ring(index, started, trouble);
            self.outbox.abandon(cx, batch, DropReason::NoPeer);
        }
        drop(held);
        if self.kicks_for_room.judge(cx.now, any) {
            self.rings.counters().woken_for_nothing(self.worker);
        }
        self.look_for_room = (!self.kicks_for_room.are_heard()).then(|| cx.now + LOOK);
        result.and_then(|()| self.check_memory())
    }

    fn status(&self) -> Status {
        let status = self.outbox.status();
        let mut waits = Waits::NONE;
        if self.kicks.are_heard() {
            waits = waits.receive(RECEIVE);
        }
        let waits_for_room = status.waits.is_for_room();
        if waits_for_room && self.kicks_for_room.are_heard() {
            waits = waits.room_told(ROOM);
        }
        let look_for_room = self.look_for_room.filter(|_| waits_for_room);
        let deadline = [status.deadline, self.look, look_for_room].into_iter().flatten().min();
        Status { waits, deadline, ..status }
    }

    fn takes(&self) -> Takes {
        self.takes
    }
}
