//! The rings of one connection, as its thread and the workers share them.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use vmlan_frame::{MacAddr, Mutex, Takes};
use vmlan_sys::{Interest, Poller, Waker};

use super::Trouble;
use super::bell::KeptBell;
use super::counters::RingCounters;
use super::log::Log;
use super::memory::Memory;
use super::queue::VhostQueue;
use super::session::feature;
use super::started::{COMMANDS, ENABLED, RUNS, Started, UNKICKED, form, make};
pub use super::started::{RingAddresses, Setup, Stopped};
use crate::queue::{Endpoint, Queue, RingCounts, Settings};

/// Announcements that wait for a worker at most.
const ANNOUNCEMENTS: usize = 16;

/// Octets of the shortest Ethernet frame, without FCS.
pub(crate) const SHORTEST: usize = 60;

/// The state of a ring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RingState {
    /// It is not there.
    Stopped,
    /// It is there, and frames pass if it is enabled.
    Started {
        /// Frames pass.
        enabled: bool,
    },
    /// It is there and was found to make no sense.
    Broken(String),
}

/// A place for a ring.
#[derive(Default)]
pub(crate) struct Slot {
    started: Mutex<Option<Started>>,
    /// The part that workers have to know without the lock.
    flags: AtomicU8,
}

/// The descriptors by which one worker hears of its rings.
pub(crate) struct Watch {
    /// Kicks of rings that are received from.
    pub(crate) receive: Poller,
    /// Kicks of rings that are sent to.
    pub(crate) room: Poller,
    /// Something was changed.
    poke: Waker,
}

impl Watch {
    fn new() -> io::Result<Watch> {
        let watch = Watch { receive: Poller::new()?, room: Poller::new()?, poke: Waker::new()? };
        // Nobody clears it: each change is told once.
        watch.receive.add(&watch.poke, u64::MAX, Interest { edge: true, ..Interest::READ })?;
        watch.room.add(&watch.poke, u64::MAX, Interest { edge: true, ..Interest::READ })?;
        Ok(watch)
    }
}

/// The rings of a connection. A ring has the index that messages give it: even ones are those to the guest.
pub struct Rings {
    slots: Vec<Slot>,
    watches: Vec<Watch>,
    /// Grows with each change that workers have to follow.
    generation: AtomicU64,
    /// The network knows of the guest, so that frames of enabled rings are received. Before, an answer would be lost.
    admitted: AtomicBool,
    takes: AtomicU8,
    announcements: Mutex<VecDeque<[u8; SHORTEST]>>,
    has_announcements: AtomicBool,
    /// Something is to be told to the connection's thread.
    waker: Waker,
    /// Pairs that are running, for people.
    pairs: AtomicUsize,
    /// By which rings are rung when they start or break.
    bell: Mutex<KeptBell>,
    counters: RingCounters,
}

/// The endpoint of a port whose guest is behind a front end.
pub struct Device {
    rings: Arc<Rings>,
    /// One for each worker, made where its failure is told best.
    bells: Mutex<Vec<Option<KeptBell>>>,
}

impl Device {
    /// A device with `rings` places for rings, for so many workers, that counts in `counters`.
    ///
    /// # Errors
    /// No descriptors or memory. Of requests of asynchronous I/O there may be too few (`fs.aio-max-nr`).
    pub fn new(rings: usize, workers: usize, counters: RingCounters) -> io::Result<Device> {
        let rings = Arc::new(Rings {
            slots: (0..rings).map(|_| Slot::default()).collect(),
            watches: (0..workers.max(1)).map(|_| Watch::new()).collect::<io::Result<_>>()?,
            generation: AtomicU64::new(1),
            admitted: AtomicBool::new(false),
            takes: AtomicU8::new(0),
            announcements: Mutex::default(),
            has_announcements: AtomicBool::new(false),
            waker: Waker::new()?,
            pairs: AtomicUsize::new(0),
            bell: Mutex::new(KeptBell::take()?),
            counters,
        });
        let bells = (0..workers.max(1)).map(|_| KeptBell::take().map(Some)).collect::<io::Result<_>>()?;
        Ok(Device { rings, bells: Mutex::new(bells) })
    }

    /// Its rings.
    pub fn rings(&self) -> Arc<Rings> {
        self.rings.clone()
    }
}

impl Endpoint for Device {
    fn queue(&self, settings: Settings) -> io::Result<Box<dyn Queue>> {
        let bell = self.bells.lock().get_mut(settings.worker).and_then(Option::take);
        let bell = bell.map_or_else(KeptBell::take, Ok)?;
        Ok(Box::new(VhostQueue::new(self.rings.clone(), settings, bell)))
    }

    fn has_queue_for(&self, worker: usize) -> bool {
        worker < self.rings.watches.len()
    }

    fn mechanism(&self) -> String {
        self.rings.describe()
    }

    fn rings(&self) -> Option<RingCounts> {
        Some(self.rings.counters.snapshot())
    }
}

/// Calls for the connection's thread, which may wait for a worker's turn to end.
impl Rings {
    /// True if a ring is there, broken or not.
    pub fn is_started(&self, index: usize) -> bool {
        self.slots[index].started.lock().is_some()
    }

    /// Starts a ring, in place of what was there. Its guest is told once, for it may have slept through a change.
    /// Returns what was there before.
    pub fn start(&self, index: usize, setup: Setup) -> Option<Stopped> {
        let slot = &self.slots[index];
        let before = self.stop(index);
        let takes = form(setup.features).takes;
        if index.is_multiple_of(2) && !setup.commands {
            self.takes.store(takes.bits(), Ordering::Relaxed);
        }
        let mut started = slot.started.lock();
        let made = started.insert(Started::new(setup));
        slot.flags.store(made.flags(), Ordering::Release);
        self.watch(index, &made.setup);
        if let Ok(ring) = &mut made.ring {
            // What was armed before we came is not known. An error is found in the first turn.
            let _ = ring.arm();
        }
        match made.ring {
            Ok(_) => self.call(made.setup.call.as_ref()),
            Err(_) => self.tell_of_broken(made.setup.error.as_ref()),
        }
        drop(started);
        self.changed();
        before
    }

    /// Stops a ring; when it returns, no worker uses it.
    pub fn stop(&self, index: usize) -> Option<Stopped> {
        let slot = &self.slots[index];
        let mut started = slot.started.lock();
        let taken = started.take()?;
        slot.flags.store(0, Ordering::Release);
        self.unwatch(index, &taken.setup);
        drop(started);
        self.changed();
        Some(taken.stop())
    }

    /// Has frames of enabled rings received from now on. Until then only the others are, whose frames are dropped.
    pub fn admit(&self) {
        if !self.admitted.swap(true, Ordering::Relaxed) {
            self.changed();
        }
    }

    /// Lets frames pass, or not.
    pub fn set_enabled(&self, index: usize, enabled: bool) {
        self.change(index, |started| {
            started.setup.enabled = enabled;
            if let Ok(ring) = &mut started.ring {
                ring.enabled = enabled;
            }
        });
    }

    /// Sets the descriptor that tells the guest, and gives the last one back. The guest is told once.
    pub fn set_call(&self, index: usize, call: Option<OwnedFd>) -> Option<OwnedFd> {
        self.change(index, |started| {
            self.call(call.as_ref());
            std::mem::replace(&mut started.setup.call, call)
        })?
    }

    /// Sets the descriptor that tells the front end of a broken ring, and gives the last one back.
    pub fn set_error(&self, index: usize, error: Option<OwnedFd>) -> Option<OwnedFd> {
        self.change(index, |started| std::mem::replace(&mut started.setup.error, error))?
    }

    /// Gives all rings this memory and log at once, and returns what they had, to be dropped. A ring that is not in the
    /// memory any more is broken.
    pub fn replace(&self, memory: &Arc<Memory>, log: Option<&Arc<Log>>) -> Vec<Box<dyn Send>> {
        let mut all: Vec<_> = self.slots.iter().map(|slot| slot.started.lock()).collect();
        let mut before: Vec<Box<dyn Send>> = Vec::new();
        for (slot, held) in self.slots.iter().zip(&mut all) {
            let Some(started) = &mut **held else { continue };
            let base = started.base();
            let old_memory = std::mem::replace(&mut started.setup.memory, memory.clone());
            let old_log = std::mem::replace(&mut started.setup.log, log.cloned());
            started.setup.base = base;
            // A broken ring stays so until it is stopped.
            if started.ring.is_ok() {
                let ring = make(&started.setup, base);
                if ring.is_err() {
                    self.tell_of_broken(started.setup.error.as_ref());
                }
                before.push(Box::new(std::mem::replace(&mut started.ring, ring)));
            }
            slot.flags.store(started.flags(), Ordering::Release);
            before.push(Box::new((old_memory, old_log)));
        }
        drop(all);
        self.changed();
        before
    }

    /// Has a frame come in that says where `mac` is (a request of RARP, RFC 903), as switches of the way to a guest
    /// that has moved have to know.
    pub fn announce(&self, mac: MacAddr) {
        let mut frame = [0; SHORTEST];
        frame[..6].fill(0xff);
        frame[6..12].copy_from_slice(&mac.0);
        // RARP; Ethernet and IPv4 addresses; a request.
        frame[12..22].copy_from_slice(&[0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
        frame[22..28].copy_from_slice(&mac.0);
        frame[32..38].copy_from_slice(&mac.0);
        let mut waiting = self.announcements.lock();
        if waiting.len() < ANNOUNCEMENTS {
            waiting.push_back(frame);
        }
        self.has_announcements.store(true, Ordering::Release);
        drop(waiting);
        self.watches[0].poke.wake();
    }

    /// The states of all rings.
    pub fn states(&self) -> Vec<RingState> {
        let states = self.slots.iter().map(|slot| match &*slot.started.lock() {
            None => RingState::Stopped,
            Some(Started { ring: Ok(_), setup }) => RingState::Started { enabled: setup.enabled },
            Some(Started { ring: Err(trouble), .. }) => RingState::Broken(trouble.to_string()),
        });
        states.collect()
    }

    /// True if frames pass both ways: a ring of each is started and enabled.
    pub fn are_up(&self) -> bool {
        let runs = |way: usize| {
            let mut flags = self.slots.iter().skip(way).step_by(2).map(Slot::flags);
            flags.any(|flags| flags & (RUNS | ENABLED) == RUNS | ENABLED)
        };
        runs(0) && runs(1)
    }

    /// Becomes readable when a ring broke, or memory was found to be gone. To be cleared by the thread.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Takes everything out of all rings, for good.
    pub fn clear(&self) -> Vec<Stopped> {
        (0..self.slots.len()).filter_map(|index| self.stop(index)).collect()
    }

    fn change<T>(&self, index: usize, change: impl FnOnce(&mut Started) -> T) -> Option<T> {
        let slot = &self.slots[index];
        let mut held = slot.started.lock();
        let started = held.as_mut()?;
        let result = change(started);
        slot.flags.store(started.flags(), Ordering::Release);
        drop(held);
        self.changed();
        Some(result)
    }

    fn changed(&self) {
        let runs = |slot: &&Slot| slot.flags() & (RUNS | ENABLED) == RUNS | ENABLED;
        self.pairs.store(self.slots.iter().skip(1).step_by(2).filter(runs).count(), Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Release);
        self.watches.iter().for_each(|watch| watch.poke.wake());
    }

    /// The poller that hears of a ring: its worker's.
    fn poller(&self, index: usize, commands: bool) -> &Poller {
        let watch = &self.watches[index / 2 % self.watches.len()];
        if index.is_multiple_of(2) && !commands { &watch.room } else { &watch.receive }
    }

    fn watch(&self, index: usize, setup: &Setup) {
        if let Some(kick) = &setup.kick {
            // Never read: an event comes for each write, and what a guest does to its descriptor is nothing to us. That
            // it is one of the kind that can be watched was checked.
            let _ = self.poller(index, setup.commands).add(
                kick,
                index as u64,
                Interest { edge: true, ..Interest::READ },
            );
        }
    }

    fn unwatch(&self, index: usize, setup: &Setup) {
        if let Some(kick) = &setup.kick {
            let _ = self.poller(index, setup.commands).remove(kick);
        }
    }

    /// Tells a guest to look at its ring.
    fn call(&self, call: Option<&OwnedFd>) {
        if call.is_some() {
            self.counters.called_by_thread();
        }
        self.ring_bell(call);
    }

    /// Tells a front end of a ring that is broken from now on.
    fn tell_of_broken(&self, error: Option<&OwnedFd>) {
        self.counters.broken();
        self.ring_bell(error);
    }

    fn ring_bell(&self, fd: Option<&OwnedFd>) {
        if let Some(fd) = fd {
            // A guest that is not told now is told with the next frames.
            let _ = self.bell.lock().ring(fd);
        }
    }

    fn describe(&self) -> String {
        let pairs = self.pairs.load(Ordering::Relaxed);
        let started = self.slots.iter().find_map(|slot| {
            let held = slot.started.lock();
            held.as_ref().map(|started| {
                let Setup { features, num, memory, log, .. } = &started.setup;
                (*features, *num, memory.clone(), log.is_some())
            })
        });
        let Some((features, num, memory, logs)) = started else { return "no rings".to_owned() };
        let layout = if features & feature::RING_PACKED != 0 { "packed" } else { "split" };
        let in_order = if features & feature::IN_ORDER != 0 { " in order" } else { "" };
        let regions = memory.regions();
        let is_sealed = regions.iter().all(|region| region.mapping.is_sealed());
        let (many, size) = (if regions.len() == 1 { "" } else { "s" }, memory.octets() >> 20);
        // There are places for twice the rings of the answer to GET_QUEUE_NUM, which is twice the pairs and two.
        let offered = (self.slots.len() / 2).saturating_sub(2) / 2;
        format!(
            "{pairs} of {offered} pairs, {layout} {num}{in_order}, {} region{many} of {size} MiB {}{}; offloads: {}",
            regions.len(),
            if is_sealed { "sealed" } else { "guarded" },
            if logs { ", logging" } else { "" },
            form(features).takes,
        )
    }
}

/// Calls for workers.
impl Rings {
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn counters(&self) -> &RingCounters {
        &self.counters
    }

    pub(crate) fn slot(&self, index: usize) -> &Slot {
        &self.slots[index]
    }

    pub(crate) fn watch_of(&self, worker: usize) -> &Watch {
        &self.watches[worker % self.watches.len()]
    }

    /// True if frames of enabled rings are received.
    pub(crate) fn are_admitted(&self) -> bool {
        self.admitted.load(Ordering::Relaxed)
    }

    /// The rings that `worker` receives from, and whether one of them is not kicked. Enabled ones are among them once
    /// they are admitted.
    pub(crate) fn transmitters(&self, worker: usize, into: &mut Vec<usize>) -> bool {
        let workers = self.watches.len();
        let mine = (0..self.slots.len()).filter(|index| index / 2 % workers == worker % workers);
        let waits = if self.are_admitted() { 0 } else { ENABLED };
        let is_one = |index: &usize| {
            let flags = self.slots[*index].flags();
            flags & RUNS != 0 && flags & waits == 0 && (!index.is_multiple_of(2) || flags & COMMANDS != 0)
        };
        into.clear();
        into.extend(mine.filter(is_one));
        into.iter().any(|index| self.slots[*index].flags() & UNKICKED != 0)
    }

    /// The ring that `worker` sends to.
    pub(crate) fn receiver(&self, worker: usize) -> Option<usize> {
        let runs = |index: &usize| self.slots[*index].flags() & (RUNS | ENABLED) == RUNS | ENABLED;
        let count = (0..self.slots.len()).step_by(2).filter(runs).count();
        if count == 0 {
            return None;
        }
        (0..self.slots.len()).step_by(2).filter(runs).nth(worker % count)
    }

    pub(crate) fn takes(&self) -> Takes {
        Takes::from_bits(self.takes.load(Ordering::Relaxed))
    }

    /// Takes the announcements that wait for a worker.
    #[inline]
    pub(crate) fn announcements(&self) -> VecDeque<[u8; SHORTEST]> {
        if !self.has_announcements.load(Ordering::Relaxed) {
            return VecDeque::new();
        }
        self.has_announcements.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.announcements.lock())
    }

    /// Breaks a ring, whose lock the caller holds.
    #[cold]
    pub(crate) fn break_ring(&self, index: usize, started: &mut Started, trouble: Trouble) {
        started.setup.base = started.base();
        started.ring = Err(trouble);
        self.slots[index].flags.store(0, Ordering::Release);
        self.tell_of_broken(started.setup.error.as_ref());
        self.generation.fetch_add(1, Ordering::Release);
        self.waker.wake();
    }
}

impl Slot {
    #[inline]
    pub(crate) fn flags(&self) -> u8 {
        self.flags.load(Ordering::Acquire)
    }

    /// The ring that is there, if nobody else has it in hand: then come again.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<std::sync::MutexGuard<'_, Option<Started>>> {
        self.started.try_lock()
    }
}
