//! All that a front end has handed over: memory, the dirty log, and the descriptors of rings.
//!
//! Only the connection's thread has these. It checks and maps what came, hands it to the rings, and drops what they
//! give back, since closing and unmapping can take as long as the front end likes.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use vmlan_sys::guest_memory::{Mapping, Refused};

use super::checkpoint::{Checkpoint, Checkpoints, Process};
use super::device::{RingAddresses, Rings, Setup, Stopped};
use super::log::Log;
use super::memory::{Memory, Region};
use super::message::{RegionDescription, violation};
use super::quota::{Account, Amount, Quota};
use super::session::{Action, LogPlace, Session, feature};
use super::wire::End;

/// A region that is mapped. Its quota goes after its mapping.
#[derive(Clone)]
struct Held {
    region: Region,
    quota: Arc<Quota>,
}

/// A log that is mapped.
struct HeldLog {
    log: Arc<Log>,
    mapping: Arc<Mapping>,
    _quota: Quota,
}

/// Descriptors of a ring that is stopped. A started one has them itself.
#[derive(Default)]
struct Ends {
    call: Option<OwnedFd>,
    error: Option<OwnedFd>,
}

/// Bounds of the memory that is mapped.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Octets.
    pub(super) memory: u64,
    /// Files that could be made shorter are refused.
    pub(super) sealed: bool,
}

/// Why a ring stops.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// The front end wants it, and knows where it was.
    InOrder,
    /// It is to be started anew.
    ToStart,
}

/// All that a front end has handed over.
pub(super) struct Holdings {
    rings: Arc<Rings>,
    limits: Limits,
    account: Arc<Account>,
    /// Where positions of packed rings are noted, and for which front end.
    checkpoints: Option<(Arc<Checkpoints>, Process)>,
    /// In the order of the session's regions.
    held: Vec<Held>,
    memory: Arc<Memory>,
    log: Option<HeldLog>,
    ends: Vec<Ends>,
}

impl Holdings {
    pub(super) fn new(
        rings: Arc<Rings>,
        count: usize,
        limits: Limits,
        checkpoints: Option<(Arc<Checkpoints>, Process)>,
    ) -> Holdings {
        Holdings {
            rings,
            limits,
            account: Account::of_all(),
            checkpoints,
            held: Vec::new(),
            memory: Arc::default(),
            log: None,
            ends: (0..count).map(|_| Ends::default()).collect(),
        }
    }

    /// True if a worker may have to wait for the action: it changes a ring that is started.
    pub(super) fn disturbs(&self, session: &Session, action: &Action) -> bool {
        let is_started = |index: usize| session.rings()[index].started;
        match action {
            Action::Nothing | Action::Announce(_) => false,
            // The session calls it started by now; here it may be for the first time.
            Action::Start(index) => self.rings.is_started(*index),
            Action::Stop(_) | Action::Restart(_) | Action::Reset(_) => true,
            Action::SetCall(index) | Action::SetError(index) => is_started(*index),
            Action::Enable(rings) => rings.clone().any(is_started),
            Action::Memory { .. } | Action::MapLog(_) | Action::SwitchLog => {
                (0..session.rings().len()).any(is_started)
            }
        }
    }

    /// Does what follows from a request that `descriptors` came with. Those that are taken are gone after; when it
    /// fails, all that was not taken is still there.
    pub(super) fn apply(
        &mut self,
        session: &mut Session,
        action: &Action,
        descriptors: &mut Vec<OwnedFd>,
    ) -> Result<(), End> {
        match action {
            Action::Nothing | Action::Announce(_) => {}
            Action::Start(index) => {
                let kick = take_eventfd(descriptors)?;
                self.stop(session, *index, Stop::ToStart);
                self.start(session, *index, kick);
            }
            Action::Restart(index) => {
                let kick = self.stop(session, *index, Stop::ToStart);
                self.start(session, *index, kick);
            }
            Action::Stop(index) => {
                self.stop(session, *index, Stop::InOrder);
                session.answered(*index);
                self.ends[*index].call = None;
            }
            Action::Reset(rings) => {
                for index in rings {
                    self.stop(session, *index, Stop::InOrder);
                }
                self.log = None;
            }
            Action::SetCall(index) => {
                let call = take_eventfd(descriptors)?;
                if session.rings()[*index].started {
                    drop(self.rings.set_call(*index, call));
                } else {
                    self.ends[*index].call = call;
                }
            }
            Action::SetError(index) => {
                let error = take_eventfd(descriptors)?;
                if session.rings()[*index].started {
                    drop(self.rings.set_error(*index, error));
                } else {
                    self.ends[*index].error = error;
                }
            }
            Action::Enable(rings) => {
                for index in rings.clone().filter(|&index| session.rings()[index].started) {
                    self.rings.set_enabled(index, session.is_enabled(index));
                }
            }
            Action::Memory { kept, mapped } => self.set_memory(session, kept, mapped, descriptors)?,
            Action::MapLog(place) => self.set_log(session, *place, descriptors)?,
            Action::SwitchLog => drop(self.rings.replace(&self.memory, self.active_log(session))),
        }
        Ok(())
    }

    /// True if the file of a mapping was cut short, so that what is read is not the guest's any more.
    pub(super) fn is_poisoned(&self) -> bool {
        self.memory.is_poisoned() || self.log.as_ref().is_some_and(|log| log.mapping.is_poisoned())
    }

    /// Takes everything out of the rings, to be dropped by this thread. After that no worker has anything of it.
    pub(super) fn clear(&self) -> Vec<Stopped> {
        self.rings.clear()
    }

    /// Lets go of the file of checkpoints, for the next connection.
    pub(super) fn release_checkpoints(&mut self) {
        self.checkpoints = None;
    }

    fn active_log(&self, session: &Session) -> Option<&Arc<Log>> {
        self.log.as_ref().filter(|_| session.log().is_some()).map(|log| &log.log)
    }

    /// Starts a ring that is stopped.
    fn start(&mut self, session: &Session, index: usize, kick: Option<OwnedFd>) {
        let ring = session.rings()[index];
        let addresses = ring.addresses.expect("the session starts no ring without addresses");
        let ends = std::mem::take(&mut self.ends[index]);
        let setup = Setup {
            features: session.features(),
            num: ring.num,
            base: ring.base,
            checkpoint: self.checkpoint(session, index),
            addresses: RingAddresses {
                descriptors: addresses.descriptors,
                driver: addresses.driver,
                device: addresses.device,
                log: addresses.log,
            },
            memory: self.memory.clone(),
            log: self.active_log(session).cloned(),
            enabled: session.is_enabled(index),
            commands: session.control_ring() == Some(index),
            kick,
            call: ends.call,
            error: ends.error,
        };
        drop(self.rings.start(index, setup));
    }

    fn checkpoint(&self, session: &Session, index: usize) -> Option<Checkpoint> {
        let (checkpoints, front_end) = self.checkpoints.as_ref()?;
        let is_packed = session.features() & feature::RING_PACKED != 0;
        let entry = || checkpoints.entry(index, *front_end, session.rings()[index].known_base);
        is_packed.then(entry).flatten()
    }

    /// Stops a ring, if it is started, and takes its descriptors back. Returns that of kicks.
    fn stop(&mut self, session: &mut Session, index: usize, why: Stop) -> Option<OwnedFd> {
        let mut stopped = self.rings.stop(index)?;
        session.stopped(index, stopped.base);
        if why == Stop::InOrder {
            stopped.erase_checkpoint();
        }
        let setup = &mut stopped.setup;
        self.ends[index] = Ends { call: setup.call.take(), error: setup.error.take() };
        setup.kick.take()
    }

    fn set_memory(
        &mut self,
        session: &Session,
        kept: &[usize],
        mapped: &[RegionDescription],
        descriptors: &mut Vec<OwnedFd>,
    ) -> Result<(), End> {
        let octets = session.regions().iter().map(|region| u128::from(region.size)).sum::<u128>();
        if octets > self.limits.memory.into() {
            let most = self.limits.memory;
            return Err(violation!(
                "the guest shares {octets} octets of memory; the port allows {most} (the key `memory`)"
            )
            .into());
        }
        let mut held: Vec<_> = kept.iter().map(|&place| self.held[place].clone()).collect();
        if let Err(end) = self.map(mapped, descriptors, &mut held) {
            // To be dropped with the rest, once the end was told.
            self.held.append(&mut held);
            return Err(end);
        }
        // A file that is mapped needs no descriptor.
        descriptors.clear();
        let memory = Arc::new(Memory::new(held.iter().map(|held| held.region.clone()).collect())?);
        drop(self.rings.replace(&memory, self.active_log(session)));
        self.memory = memory;
        self.held = held;
        Ok(())
    }

    fn map(
        &self,
        regions: &[RegionDescription],
        descriptors: &[OwnedFd],
        into: &mut Vec<Held>,
    ) -> Result<(), End> {
        for (description, file) in regions.iter().zip(descriptors) {
            let amounts = into.iter().map(|held| held.quota.amount());
            let quota = Quota::take(&self.account, amounts.sum(), description.size)?;
            let mapping = Mapping::new(file.as_fd(), description.offset, description.size)
                .map_err(|refused| refusal(&description.to_string(), &refused))?;
            let is_sealed = mapping.is_sealed();
            let region = Region { description: *description, mapping: Arc::new(mapping) };
            into.push(Held { region, quota: Arc::new(quota) });
            if self.limits.sealed && !is_sealed {
                return Err(violation!(
                    "{description} can be taken away: its file is not sealed (F_SEAL_SHRINK), which the key `sealed` \
                     asks for; use a memfd (QEMU: memory-backend-memfd)"
                )
                .into());
            }
        }
        Ok(())
    }

    fn set_log(
        &mut self,
        session: &Session,
        place: LogPlace,
        descriptors: &mut Vec<OwnedFd>,
    ) -> Result<(), End> {
        let file = descriptors.first().expect("a log comes with a descriptor");
        // A log is small beside the memory that it is of, and every guest that moves to another host has one.
        let quota = Quota::take(&self.account, Amount::default(), place.size)?;
        let mapping = Mapping::of_log(file.as_fd(), place.offset, place.size)
            .map_err(|refused| refusal("the log of changed memory", &refused))?;
        let mapping = Arc::new(mapping);
        let area = mapping.area(0, place.size).expect("a mapping has its octets");
        let log = HeldLog { log: Arc::new(Log::new(area)), mapping, _quota: quota };
        let before = self.log.replace(log);
        if session.log().is_some() {
            drop(self.rings.replace(&self.memory, self.active_log(session)));
        }
        drop(before);
        descriptors.clear();
        Ok(())
    }
}

/// Takes the descriptor of a message, if it has one.
fn take_eventfd(descriptors: &mut Vec<OwnedFd>) -> Result<Option<OwnedFd>, End> {
    let Some(descriptor) = descriptors.last() else { return Ok(None) };
    if !vmlan_sys::is_eventfd(descriptor.as_fd())? {
        return Err(violation!("a descriptor for kicks, calls or errors is no eventfd").into());
    }
    Ok(descriptors.pop())
}

/// The end of a front end whose file is not mapped. What the system said belongs to it.
fn refusal(what: &str, refused: &Refused) -> End {
    use std::error::Error;
    let source = refused.source().map(|source| format!(": {source}")).unwrap_or_default();
    violation!("{what} is refused: {refused}{source}").into()
}
