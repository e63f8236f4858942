//! The registry: which links there are, by name and by index, and which records wait to be recycled.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use vmlan_frame::Mutex;

use crate::ending::{Endings, OnDataPath};
use crate::event::Subscribers;
use crate::link::Record;
use crate::{Error, Link, LinkFamily, LinkOptions, Name, Subscription};

/// Where links come from and are found. Cloning it gives another handle to the same one.
///
/// Links that are attached when the last handle is dropped are no longer found, but work on while somebody has them.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    workers: usize,
    clock: fn() -> SystemTime,
    pub(crate) subscribers: Subscribers,
    pub(crate) endings: Endings,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    attached: BTreeMap<u32, Link>,
    names: HashMap<String, u32>,
    /// Every index that a record has.
    indices: BTreeSet<u32>,
    last_index: u32,
    /// Records with a unique id, in use or idle.
    records: HashMap<Identity, Known>,
    /// Those that are idle, the longest first.
    idle: VecDeque<Identity>,
}

type Identity = (LinkFamily, Box<[u8]>);

struct Known {
    record: Arc<Record>,
    in_use: bool,
}

impl Registry {
    /// The largest index, and so the largest number of links.
    pub const MAX_INDEX: u32 = 65_535;
    /// How many idle records wait to be recycled; beyond it the longest idle one is forgotten.
    pub const MAX_IDLE: usize = 1024;

    /// A registry for links whose frames `workers` workers move; `clock` gives the wall clock for
    /// [`Link::last_change`].
    pub fn new(workers: usize, clock: fn() -> SystemTime) -> Registry {
        let table = Mutex::default();
        let (subscribers, endings) = (Subscribers::default(), Endings::default());
        Registry { inner: Arc::new(Inner { workers: workers.max(1), clock, subscribers, endings, table }) }
    }

    /// A link record, not attached. With a unique id of a record that is idle it is that record again, with its index
    /// and multicast memberships.
    ///
    /// # Errors
    /// `EBUSY` when the unique id is in use; `EINVAL` when it is longer than [`LinkOptions::MAX_UNIQUE_ID`].
    pub fn acquire(&self, options: LinkOptions) -> Result<Link, Error> {
        self.settle();
        let new = |options| Arc::new(Record::new(options, self.inner.workers));
        let Some(id) = &options.unique_id else {
            return Ok(self.link(new(options)));
        };
        if id.len() > LinkOptions::MAX_UNIQUE_ID {
            return Err(Error::InvalidArgument);
        }
        let identity = (options.family, id.clone().into_boxed_slice());
        let mut table = self.inner.table.lock();
        let table = &mut *table;
        let record = match table.records.get_mut(&identity) {
            Some(known) if known.in_use => return Err(Error::Busy),
            Some(known) => {
                known.in_use = true;
                table.idle.retain(|other| *other != identity);
                known.record.recycle(options);
                known.record.clone()
            }
            None => {
                let record = new(options);
                table.records.insert(identity, Known { record: record.clone(), in_use: true });
                record
            }
        };
        Ok(self.link(record))
    }

    fn link(&self, record: Arc<Record>) -> Link {
        Link::new(record, Arc::downgrade(&self.inner))
    }

    /// The attached link with this name, as shown.
    pub fn find(&self, name: &str) -> Option<Link> {
        let table = self.inner.table.lock();
        table.names.get(name).and_then(|index| table.attached.get(index)).cloned()
    }

    /// The attached link with this index.
    pub fn by_index(&self, index: u32) -> Option<Link> {
        self.inner.table.lock().attached.get(&index).cloned()
    }

    /// The attached links by index.
    pub fn links(&self) -> Vec<Link> {
        self.inner.links()
    }

    /// Runs the ends that threads that move frames have left: `detached` of filters and protocols that a worker was the
    /// last inside of, and phase two of links, with all that goes with them. Such a thread runs none of it, for it may
    /// block.
    ///
    /// Call it on the control side, after detaching something that may be in use. Reading a [`Subscription`] calls
    /// it, and is woken for it; acquiring and attaching a link call it too. In a callback of a call that moves frames
    /// it does nothing.
    pub fn settle(&self) {
        self.inner.settle();
    }

    /// A queue of the events of all links from now on, with room for `capacity` of them.
    pub fn subscribe(&self, capacity: usize) -> Subscription {
        self.inner.subscribers.subscribe(capacity, Arc::downgrade(&self.inner))
    }
}

impl Inner {
    pub(crate) fn now(&self) -> SystemTime {
        (self.clock)()
    }

    pub(crate) fn settle(&self) {
        if !OnDataPath::is_here() {
            self.endings.run();
        }
    }

    /// True when [`Inner::settle`] would do something.
    pub(crate) fn is_unsettled(&self) -> bool {
        !OnDataPath::is_here() && !self.endings.is_empty()
    }

    pub(crate) fn workers(&self) -> usize {
        self.workers
    }

    pub(crate) fn links(&self) -> Vec<Link> {
        self.table.lock().attached.values().cloned().collect()
    }

    /// Gives the link a name and, if it has none yet, an index; `ready` opens it before anybody can find it.
    pub(crate) fn insert(&self, link: &Link, wanted: Name, ready: impl FnOnce(Name)) -> Result<(), Error> {
        let mut table = self.table.lock();
        let name = table.free_name(wanted)?;
        let record = link.record();
        let index = match record.index() {
            Some(index) => index,
            None => table.claim_index().ok_or(Error::NoBuffers)?,
        };
        record.set_index(index);
        table.names.insert(name.to_string(), index);
        table.attached.insert(index, link.clone());
        ready(name);
        Ok(())
    }

    pub(crate) fn remove(&self, link: &Link) {
        let (name, index) = (link.name(), link.index());
        // The registry's handle goes after the lock, for the end of a handle takes the lock.
        let _handle = index.and_then(|index| {
            let mut table = self.table.lock();
            table.names.remove(&name.to_string());
            table.attached.remove(&index)
        });
    }

    /// The last handle to a link that is not attached is gone.
    pub(crate) fn release(&self, record: &Arc<Record>) {
        let mut table = self.table.lock();
        let forgotten = match &record.unique_id {
            None => Some(record.clone()),
            Some(id) => table.make_idle((record.family, id.clone())),
        };
        if let Some(index) = forgotten.and_then(|record| record.index()) {
            table.indices.remove(&index);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nothing else would run them.
        self.endings.run();
    }
}

impl Table {
    /// `wanted` if it is free; with the lowest free unit when it has none.
    fn free_name(&self, wanted: Name) -> Result<Name, Error> {
        let free = |name: &Name| !self.names.contains_key(&name.to_string());
        match wanted.unit() {
            Some(_) => Some(wanted).filter(free).ok_or(Error::AlreadyExists),
            None => (0..=Registry::MAX_INDEX)
                .map(|unit| wanted.with_unit(unit))
                .find(free)
                .ok_or(Error::NoBuffers),
        }
    }

    /// The next free index after the last one given, so that an index is not used again soon.
    fn claim_index(&mut self) -> Option<u32> {
        let later = self.last_index + 1..=Registry::MAX_INDEX;
        let index = later.chain(1..=self.last_index).find(|index| !self.indices.contains(index))?;
        self.indices.insert(index);
        self.last_index = index;
        Some(index)
    }

    /// Puts a record aside; returns the one that has to make room for it.
    fn make_idle(&mut self, identity: Identity) -> Option<Arc<Record>> {
        if let Some(known) = self.records.get_mut(&identity) {
            known.in_use = false;
            self.idle.push_back(identity);
        }
        if self.idle.len() <= Registry::MAX_IDLE {
            return None;
        }
        let oldest = self.idle.pop_front()?;
        self.records.remove(&oldest).map(|known| known.record)
    }
}
