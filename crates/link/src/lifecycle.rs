//! Attaching and detaching a link, and what is on it.
//!
//! Theory of operation. A link is idle, attached, or detaching; these are the phases of its gate, and an I/O
//! reference is being inside. Detach has two phases. Phase one runs in the caller: it closes the gate, takes the
//! link out of the registry, tells everybody and brings the link down. Phase two runs when nobody is inside any
//! more, in the thread that lets the last reference go (in the caller of detach when none was out), or, when that is a
//! worker, on the control side ([`ending`](crate::ending)): filters end in order, addresses are purged, protocols are
//! detached, the input queue is freed, the driver is given back. No thread waits for it, so a link whose reference is
//! never returned holds up nobody, and no thread of its own is needed. Hooks run inside the link, so none of them can
//! still run in phase two.
//!
//! The record is left after phase two, idle; it can be attached again.

use std::sync::Arc;

use vmlan_frame::DropReason;

use crate::chain::{CLASSIFIED, Chain, SUSPENDED};
use crate::filter;
use crate::gate::Phase;
use crate::hook::{self, Place};
use crate::{Driver, Error, EventCode, Filter, FilterId, FilterOptions, Flags, Link, LinkAddress};

/// An I/O reference: while it is held, phase two of a detach does not begin.
pub struct IoRef<'a> {
    link: &'a Link,
    /// The flags of the link's chain when the reference was taken.
    pub(crate) flags: u64,
    /// A call that moves frames has it.
    is_worker: bool,
}

impl Drop for IoRef<'_> {
    #[inline]
    fn drop(&mut self) {
        self.link.leave(self.is_worker);
    }
}

/// The network's place behind a link's filters; dropping it gives the place back.
pub struct BridgeGuard {
    link: Link,
    id: u64,
}

impl BridgeGuard {
    /// The link.
    pub fn link(&self) -> &Link {
        &self.link
    }
}

impl Drop for BridgeGuard {
    fn drop(&mut self) {
        // It may be another network's by now.
        let _ = self.link.change_chain(|_, chain| {
            chain.bridge.take_if(|id| *id == self.id).map(drop).ok_or(Error::InvalidArgument)
        });
    }
}

impl Link {
    /// An I/O reference; `None` when the link is not attached or is being detached. Costs one atomic exchange.
    ///
    /// The last one that is returned to a link that is being detached ends the link in that thread, unless the thread
    /// is inside a call that moves frames: then [`Registry::settle`](crate::Registry::settle) does.
    #[inline]
    pub fn io_ref(&self) -> Option<IoRef<'_>> {
        let flags = self.record().gate.enter()?;
        Some(IoRef { link: self, flags, is_worker: false })
    }

    /// As [`Link::io_ref`], for a call that moves frames.
    #[inline]
    pub(crate) fn enter_as_worker(&self) -> Option<IoRef<'_>> {
        let flags = self.record().gate.enter()?;
        Some(IoRef { link: self, flags, is_worker: true })
    }

    /// Attaches the link: it gets an index and a name, its counters start at zero, and frames may flow. Whatever its
    /// options set stays from one attach to the next.
    ///
    /// # Errors
    /// `EINVAL` when the address has another length than the first one; `EEXIST` when the link is attached or its
    /// name is taken; `EBUSY` while it is being detached; `ENODEV` when the driver cannot plumb protocols;
    /// `ENOBUFS` when there is no free index, or no registry any more.
    pub fn attach(&self, driver: Arc<dyn Driver>, address: Option<LinkAddress>) -> Result<(), Error> {
        let media = driver.media();
        let record = self.record();
        if let Some(registry) = self.registry() {
            registry.settle();
        }
        {
            let mut settings = record.settings();
            let len = address.map(|address| address.octets().len());
            if len.is_some() && settings.address_len.is_some() && len != settings.address_len {
                return Err(Error::InvalidArgument);
            }
            match record.gate.phase() {
                Phase::Closed => {}
                Phase::Open => return Err(Error::AlreadyExists),
                Phase::Closing => return Err(Error::Busy),
            }
            let mut chain = Chain::new(driver, media.ok_or(Error::NoDevice)?);
            let registry = self.registry().ok_or(Error::NoBuffers)?;
            // Nobody finds the link before the gate is open, because the registry is locked until then.
            registry.insert(self, settings.wanted, |name| {
                settings.name = name;
                settings.last_change = Some(registry.now());
                settings.set_address(address).expect("the length was checked");
                chain.address = settings.address;
                settings.groups_changed = !settings.multicasts.is_empty();
                let suspended = if settings.groups_changed { SUSPENDED } else { 0 };
                let classified = if settings.classifies { CLASSIFIED } else { 0 };
                record.counters.reset();
                record.queue.start();
                let flags = chain.flags();
                record.chain.store(Arc::new(chain));
                // Before anybody is inside who could post another one.
                record.note(&mut settings, EventCode::Attached);
                record.gate.open(flags | suspended | classified);
            })?;
        }
        self.tell_users();
        // Who detaches the link meanwhile tells this event too.
        if let Some(_inside) = self.io_ref() {
            self.tell();
        }
        Ok(())
    }

    /// Detaches the link. New calls find it gone at once; it ends when the last I/O reference is returned.
    ///
    /// # Errors
    /// `EINVAL` when it is not attached, or is being detached already.
    pub fn detach(&self) -> Result<(), Error> {
        let record = self.record();
        let was_up = {
            let mut settings = record.settings();
            if record.gate.phase() != Phase::Open {
                return Err(Error::InvalidArgument);
            }
            record.gate.close_inside();
            self.touch(&mut settings);
            core::mem::take(&mut settings.flags.up)
        };
        // Inside until the end of phase one.
        let _inside = IoRef { link: self, flags: 0, is_worker: false };
        if let Some(registry) = self.registry() {
            registry.remove(self);
        }
        self.post(EventCode::Detaching);
        if was_up {
            self.post(EventCode::FlagsChanged);
        }
        Ok(())
    }

    /// Phase two. Nobody is inside, and nobody can come in.
    pub(crate) fn finish(&self) {
        let record = self.record();
        // Nothing waits, unless a hook panicked.
        self.tell();
        let chain = record.chain.load_full();
        let hooks = self.change_chain(|_, chain| {
            chain.bridge = None;
            Ok((core::mem::take(&mut chain.filters), core::mem::take(&mut chain.taps)))
        });
        let (filters, taps) = hooks.unwrap_or_default();
        for slot in &taps {
            hook::end(self, slot);
            slot.tap.ended();
        }
        for slot in &filters {
            hook::end(self, slot);
        }
        loop {
            let address = record.settings().addresses.pop();
            let Some(address) = address else { break };
            self.post(EventCode::AddressRemoved(address));
        }
        for slot in &chain.protocols {
            chain.media.del_protocol(slot.options.family);
            self.unlink_protocol(slot);
            slot.close(self);
        }
        let (frames, octets) = record.queue.end();
        // No worker's shard is meant; the first one is as good as any.
        record.counters.received_and_dropped(0, DropReason::InputQueue, frames, octets);
        chain.driver.detached();
        let mut settings = record.settings();
        if record.unique_id.is_none() {
            settings.multicasts.clear();
        }
        settings.flags = Flags::default();
        settings.groups_changed = false;
        record.chain.store(Arc::new(Chain::idle()));
        let event = crate::Event {
            index: record.index().unwrap_or(0),
            name: settings.name,
            code: EventCode::Detached,
        };
        // Who hears of the end may attach the link again, and is heard of after it.
        record.gate.reset();
        self.publish(crate::Notice::Event(event));
        drop(settings);
        self.tell_users();
    }

    /// Attaches a filter behind those that are there.
    ///
    /// # Errors
    /// `ENXIO` when the link is not attached, `ENOBUFS` when it has 64 filters.
    pub fn attach_filter(&self, options: FilterOptions, filter: Arc<dyn Filter>) -> Result<FilterId, Error> {
        let slot = Arc::new(filter::Slot::new(options, filter));
        let id = slot.id();
        self.change_hooks(|_, chain| {
            if chain.filters.len() >= Place::LIMIT {
                return Err(Error::NoBuffers);
            }
            chain.filters.push(slot);
            Ok(id)
        })
    }

    /// Detaches a filter, and returns when its last callback has ended and `detached` was called.
    ///
    /// In a thread that is itself inside the filter (in one of its callbacks, or in a callback of another filter on
    /// the same batch) it returns at once, and the filter ends after the last thread has left it. In a call that moves
    /// frames `detached` is left to [`Registry::settle`](crate::Registry::settle).
    ///
    /// # Errors
    /// `EINVAL` when the filter is not on this link, or is being detached already, with its link or alone.
    pub fn detach_filter(&self, id: FilterId) -> Result<(), Error> {
        // The link does not end before its filter.
        let _inside = self.io_ref().ok_or(Error::InvalidArgument)?;
        let slot = self.change_chain(|_, chain| {
            let at = chain.filters.iter().position(|slot| slot.id() == id).ok_or(Error::InvalidArgument)?;
            Ok(chain.filters.remove(at))
        })?;
        hook::end(self, &slot);
        Ok(())
    }

    /// The names of the filters, in order.
    pub fn filters(&self) -> Vec<String> {
        self.chain().filters.iter().map(|slot| slot.options.name.clone()).collect()
    }

    /// Takes the network's place behind the filters: [`Link::input`] leaves it every frame that they let go on.
    ///
    /// # Errors
    /// `ENXIO` when the link is not attached, `EBUSY` when a network has it already.
    pub fn attach_bridge(&self) -> Result<BridgeGuard, Error> {
        let id = self.change_hooks(|settings, chain| match chain.bridge {
            Some(_) => Err(Error::Busy),
            None => Ok(*chain.bridge.insert(settings.next_id())),
        })?;
        Ok(BridgeGuard { link: self.clone(), id })
    }
}
