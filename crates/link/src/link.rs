//! The link record and the handle to it.
//!
//! Theory of operation. A record exists from [`Registry::acquire`](crate::Registry::acquire) until its last handle is
//! dropped; one with a unique id then waits in the registry to be recycled. What a batch needs is read without a
//! lock: the gate (attached or not, who is inside, the chain's outline), the chain, the counters, the capabilities.
//! Everything else is in [`Settings`], behind one lock that is never held while a hook runs.

use core::net::IpAddr;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, MutexGuard, Weak};
use std::time::SystemTime;

use arc_swap::{ArcSwap, Guard};

use crate::chain::Chain;
use crate::event::Waiting;
use crate::gate::Gate;
use crate::multicast::Membership;
use crate::queue::InputQueue;
use crate::users::Observed;
use crate::{Error, Kind, LinkAddress, LinkFamily, LinkOptions, Name, registry};
use vmlan_frame::{Counters, Mutex, Takes};

/// The flags of a link: whether it is up, and which frames it takes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flags {
    /// A user wants to use the link.
    pub up: bool,
    /// It receives frames for every address.
    pub promiscuous: bool,
}

/// A handle to a link. Cloning it gives another handle to the same one.
///
/// A handle stays good after the link was detached: every call then answers that it is not attached.
#[derive(Clone)]
pub struct Link {
    lease: Arc<Lease>,
}

/// The use of a record by those who acquired it.
pub(crate) struct Lease {
    record: Arc<Record>,
    registry: Weak<registry::Inner>,
}

pub(crate) struct Record {
    pub(crate) gate: Gate,
    pub(crate) chain: ArcSwap<Chain>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) queue: InputQueue,
    pub(crate) capabilities: AtomicU8,
    pub(crate) mtu: AtomicU32,
    /// 0 until the first attach.
    index: AtomicU32,
    pub(crate) family: LinkFamily,
    pub(crate) unique_id: Option<Box<[u8]>>,
    settings: Mutex<Settings>,
    /// Held while the set of protocols is changed, so that the medium is told one change at a time.
    pub(crate) protocol_change: Mutex<()>,
    /// Held while the set of taps is changed, so that the driver is told one change at a time.
    pub(crate) tap_change: Mutex<()>,
    /// Held while the observer is told.
    pub(crate) observed: Mutex<Observed>,
}

pub(crate) struct Settings {
    /// The name, with the unit that was asked for.
    pub(crate) wanted: Name,
    /// The name with the unit that it has.
    pub(crate) name: Name,
    pub(crate) kind: Kind,
    pub(crate) header_len: u16,
    pub(crate) baud_rate: u64,
    pub(crate) address: Option<LinkAddress>,
    /// Octets of every address, from the first one on.
    pub(crate) address_len: Option<usize>,
    pub(crate) flags: Flags,
    pub(crate) carrier: bool,
    pub(crate) last_change: Option<SystemTime>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) multicasts: Vec<Membership>,
    /// The driver has not been told of the memberships as they are.
    pub(crate) groups_changed: bool,
    /// A thread is telling the driver.
    pub(crate) telling_groups: bool,
    /// Events that the link's hooks have not seen.
    pub(crate) events: Waiting,
    pub(crate) link_local_arp: bool,
    pub(crate) classifies: bool,
    pub(crate) recycled: bool,
    /// The last number given to a bridge.
    pub(crate) last_id: u64,
}

impl Record {
    pub(crate) fn new(options: LinkOptions, workers: usize) -> Record {
        let unique_id = options.unique_id.clone().map(Vec::into_boxed_slice);
        Record {
            gate: Gate::closed(),
            chain: ArcSwap::from_pointee(Chain::idle()),
            counters: Arc::new(Counters::new(workers)),
            queue: InputQueue::new(),
            capabilities: AtomicU8::new(options.capabilities.bits()),
            mtu: AtomicU32::new(options.mtu.get()),
            index: AtomicU32::new(0),
            family: options.family,
            unique_id,
            settings: Mutex::new(Settings::new(options)),
            protocol_change: Mutex::new(()),
            tap_change: Mutex::new(()),
            observed: Mutex::default(),
        }
    }

    /// Makes an idle record ready for its next user. Index, addresses' storage and multicast memberships stay.
    pub(crate) fn recycle(&self, options: LinkOptions) {
        self.capabilities.store(options.capabilities.bits(), Relaxed);
        self.mtu.store(options.mtu.get(), Relaxed);
        let mut settings = self.settings();
        let addresses = core::mem::take(&mut settings.addresses);
        let multicasts = core::mem::take(&mut settings.multicasts);
        *settings = Settings { addresses, multicasts, recycled: true, ..Settings::new(options) };
    }

    pub(crate) fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock()
    }

    /// Puts the link address in the chain; the caller holds the settings.
    pub(crate) fn set_plan_address(&self, address: LinkAddress) {
        let mut chain = Chain::clone(&self.chain.load());
        chain.address = Some(address);
        self.chain.store(Arc::new(chain));
    }

    pub(crate) fn index(&self) -> Option<u32> {
        Some(self.index.load(Relaxed)).filter(|index| *index != 0)
    }

    pub(crate) fn set_index(&self, index: u32) {
        self.index.store(index, Relaxed);
    }

    #[inline]
    pub(crate) fn capabilities(&self) -> Takes {
        Takes::from_bits(self.capabilities.load(Relaxed))
    }
}

impl Settings {
    fn new(options: LinkOptions) -> Settings {
        Settings {
            wanted: options.name,
            name: options.name,
            kind: options.kind,
            header_len: options.header_len,
            baud_rate: options.baud_rate,
            address: None,
            address_len: None,
            flags: Flags::default(),
            carrier: true,
            last_change: None,
            addresses: Vec::new(),
            multicasts: Vec::new(),
            groups_changed: false,
            telling_groups: false,
            events: Waiting::default(),
            link_local_arp: false,
            classifies: options.classifies,
            recycled: false,
            last_id: 0,
        }
    }

    /// The next number for a bridge.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Sets the link address.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when addresses of this link have another length.
    pub(crate) fn set_address(&mut self, address: Option<LinkAddress>) -> Result<(), Error> {
        if let Some(address) = address {
            let len = address.octets().len();
            if *self.address_len.get_or_insert(len) != len {
                return Err(Error::InvalidArgument);
            }
            self.address = Some(address);
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Taken out under its lock, dropped after it.
        let _observed = core::mem::take(&mut *self.record.observed.lock());
        if let Some(registry) = self.registry.upgrade() {
            registry.release(&self.record);
        }
    }
}

impl Link {
    pub(crate) fn new(record: Arc<Record>, registry: Weak<registry::Inner>) -> Link {
        Link { lease: Arc::new(Lease { record, registry }) }
    }

    pub(crate) fn of(lease: Arc<Lease>) -> Link {
        Link { lease }
    }

    #[inline]
    pub(crate) fn record(&self) -> &Record {
        &self.lease.record
    }

    /// The record, and a way back to this link while it has a handle.
    pub(crate) fn watched(&self) -> (Arc<Record>, Weak<Lease>) {
        (Arc::clone(&self.lease.record), Arc::downgrade(&self.lease))
    }

    pub(crate) fn registry(&self) -> Option<Arc<registry::Inner>> {
        self.lease.registry.upgrade()
    }

    #[inline]
    pub(crate) fn chain(&self) -> Guard<Arc<Chain>> {
        self.record().chain.load()
    }

    /// Replaces the chain by a changed one, unless `change` fails. Changes come one after the other.
    pub(crate) fn change_chain<T>(
        &self,
        change: impl FnOnce(&mut Settings, &mut Chain) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let record = self.record();
        // Dropped after the lock: hooks that go with it run code that is not ours.
        let _old;
        let result = {
            let mut settings = record.settings();
            let mut chain = Chain::clone(&record.chain.load());
            let result = change(&mut settings, &mut chain)?;
            chain.settle();
            let flags = chain.flags();
            // The chain comes first: a flag promises that the chain has something.
            _old = record.chain.swap(Arc::new(chain));
            record.gate.set_flags(Chain::FLAGS, flags);
            result
        };
        self.tell_users();
        Ok(result)
    }

    /// As [`Link::change_chain`], for the hooks of an attached link.
    pub(crate) fn change_hooks<T>(
        &self,
        change: impl FnOnce(&mut Settings, &mut Chain) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.change_chain(|settings, chain| match self.is_attached() {
            true => change(settings, chain),
            false => Err(Error::NotAttached),
        })
    }

    /// Notes the time of a change.
    pub(crate) fn touch(&self, settings: &mut Settings) {
        settings.last_change = self.registry().map(|registry| registry.now());
    }
}

impl core::fmt::Debug for Link {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Link")
            .field("name", &self.name())
            .field("phase", &self.record().gate.phase())
            .finish()
    }
}
