//! Events and those who subscribe to them.
//!
//! An event runs through a link's filters, its protocols and its driver, and is then put in the bounded queue of every
//! subscriber. A subscriber that does not keep up loses the newest events and is told how many, at the place in the
//! order where they are missing. Nothing waits for a subscriber.
//!
//! Everybody sees the events of a link in one order, that of the changes: an event is put behind those that wait under
//! the lock under which the change is made, and one thread at a time tells what waits. A thread that finds another one
//! telling leaves its event to that one, and does not wait; nor does a hook that posts from inside an event, whose own
//! is told next. The thread that tells is inside the link until nothing waits, so a link ends with nothing untold.

use core::net::IpAddr;
use core::task::{Poll, Waker};
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use vmlan_frame::Mutex;

use crate::hook::Entered;
use crate::link::{Record, Settings};
use crate::{Error, Link, Mtu, Name, ProtocolFamily, registry};

/// A kind of event of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EventCode {
    /// Up or promiscuous was changed.
    FlagsChanged,
    /// The link was attached.
    Attached,
    /// The link began to be detached.
    Detaching,
    /// Everything of the link is gone but its record.
    Detached,
    /// The medium was lost.
    LinkOff,
    /// The medium came back.
    LinkOn,
    /// A protocol was attached; how many there are now.
    ProtocolAttached(ProtocolFamily, usize),
    /// A protocol was detached; how many are left.
    ProtocolDetached(ProtocolFamily, usize),
    /// The link address was changed.
    LinkAddressChanged,
    /// The MTU was changed.
    MtuChanged(Mtu),
    /// A protocol's address was added.
    AddressAdded(IpAddr),
    /// A protocol's address was removed.
    AddressRemoved(IpAddr),
    /// Something that the driver knows, by a number of its own.
    Driver(u32),
}

impl EventCode {
    /// The stable name, in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            EventCode::FlagsChanged => "flags_changed",
            EventCode::Attached => "if_attached",
            EventCode::Detaching => "if_detaching",
            EventCode::Detached => "if_detached",
            EventCode::LinkOff => "link_off",
            EventCode::LinkOn => "link_on",
            EventCode::ProtocolAttached(..) => "proto_attached",
            EventCode::ProtocolDetached(..) => "proto_detached",
            EventCode::LinkAddressChanged => "link_address_changed",
            EventCode::MtuChanged(_) => "mtu_changed",
            EventCode::AddressAdded(_) => "address_added",
            EventCode::AddressRemoved(_) => "address_removed",
            EventCode::Driver(_) => "driver",
        }
    }
}

/// An event of one link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// The link's index.
    pub index: u32,
    /// The link's name at that time.
    pub name: Name,
    /// The kind of the event.
    pub code: EventCode,
}

/// An item that a subscriber gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// An event.
    Event(Event),
    /// So many events are missing here, because the queue was full.
    Lost(u64),
}

/// A bounded queue of events, from [`Registry::subscribe`](crate::Registry::subscribe) until it is dropped.
///
/// Reading it is on the control side: it runs the ends that workers left, as
/// [`Registry::settle`](crate::Registry::settle) does, and is woken for them.
pub struct Subscription {
    queue: Arc<Queue>,
    registry: Weak<registry::Inner>,
}

struct Queue {
    capacity: usize,
    state: Mutex<Unread>,
}

#[derive(Default)]
struct Unread {
    notices: VecDeque<Notice>,
    waker: Option<Waker>,
}

impl Subscription {
    /// The oldest notice, if there is one.
    pub fn try_next(&self) -> Option<Notice> {
        self.settle();
        self.queue.state.lock().notices.pop_front()
    }

    /// The oldest notice, or wakes the task when there is one.
    ///
    /// The waker may be called in any thread that changes a link or moves frames; it must only wake, not call a link.
    pub fn poll_next(&self, cx: &mut core::task::Context<'_>) -> Poll<Notice> {
        loop {
            self.settle();
            {
                let mut state = self.queue.state.lock();
                if let Some(notice) = state.notices.pop_front() {
                    return Poll::Ready(notice);
                }
                state.waker = Some(cx.waker().clone());
            }
            // An end that came before the waker was there woke nobody.
            if !self.registry.upgrade().is_some_and(|registry| registry.is_unsettled()) {
                return Poll::Pending;
            }
        }
    }

    fn settle(&self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.settle();
        }
    }
}

impl Queue {
    fn push(&self, notice: Notice) {
        let mut state = self.state.lock();
        let (has_room, lost) = match notice {
            Notice::Event(_) => (state.notices.len() < self.capacity, 1),
            Notice::Lost(count) => (false, count),
        };
        if has_room {
            state.notices.push_back(notice);
        } else if let Some(Notice::Lost(count)) = state.notices.back_mut() {
            *count += lost;
        } else {
            // At most one notice beyond the capacity.
            state.notices.push_back(Notice::Lost(lost));
        }
        drop(state);
        self.wake();
    }

    fn wake(&self) {
        let waker = self.state.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Everybody who subscribed.
#[derive(Default)]
pub(crate) struct Subscribers {
    queues: Mutex<Vec<Weak<Queue>>>,
}

impl Subscribers {
    pub(crate) fn subscribe(&self, capacity: usize, registry: Weak<registry::Inner>) -> Subscription {
        let queue = Arc::new(Queue { capacity: capacity.max(1), state: Mutex::default() });
        self.queues.lock().push(Arc::downgrade(&queue));
        Subscription { queue, registry }
    }

    pub(crate) fn publish(&self, notice: Notice) {
        let mut queues = self.queues.lock();
        queues.retain(|queue| queue.upgrade().inspect(|queue| queue.push(notice)).is_some());
    }

    /// Wakes all of them: there is something to do besides events.
    pub(crate) fn wake(&self) {
        self.queues.lock().iter().filter_map(Weak::upgrade).for_each(|queue| queue.wake());
    }
}

/// The events of one link that its hooks have not seen.
#[derive(Default)]
pub(crate) struct Waiting {
    events: VecDeque<Event>,
    /// A thread is telling one.
    telling: bool,
    /// Events that found no room, and of which no subscriber knows yet.
    lost: u64,
}

impl Waiting {
    /// Events that wait at most while a hook is busy with one; those that hooks count on have room beyond it.
    const LIMIT: usize = 1024;
}

impl EventCode {
    /// True when the event comes at most once for a call that attaches or detaches something.
    const fn is_of_life(self) -> bool {
        matches!(
            self,
            EventCode::Attached
                | EventCode::Detaching
                | EventCode::ProtocolAttached(..)
                | EventCode::ProtocolDetached(..)
        )
    }
}

impl Record {
    /// Puts an event behind those that wait, together with the change that it is of. [`Link::tell`] follows.
    pub(crate) fn note(&self, settings: &mut Settings, code: EventCode) {
        let event = Event { index: self.index().unwrap_or(0), name: settings.name, code };
        if settings.events.events.len() < Waiting::LIMIT || code.is_of_life() {
            settings.events.events.push_back(event);
        } else {
            settings.events.lost += 1;
        }
    }
}

impl Link {
    /// Changes the settings, and tells the event of it when the link is attached.
    pub(crate) fn change_settings(
        &self,
        change: impl FnOnce(&mut Settings) -> Result<Option<EventCode>, Error>,
    ) -> Result<(), Error> {
        let inside = self.io_ref();
        {
            let mut settings = self.record().settings();
            let Some(code) = change(&mut settings)? else { return Ok(()) };
            if inside.is_some() {
                self.record().note(&mut settings, code);
            }
        }
        if inside.is_some() {
            self.tell();
        }
        Ok(())
    }

    /// Sends an event that goes with no change of the settings. The caller is inside the link, or ends it.
    pub(crate) fn post(&self, code: EventCode) {
        self.record().note(&mut self.record().settings(), code);
        self.tell();
    }

    /// Tells filters, protocols, driver and subscribers what waits, unless another thread does. The caller is inside
    /// the link, or ends it.
    pub(crate) fn tell(&self) {
        /// Ends telling an event, also when a hook panics.
        struct Told<'a>(&'a Link);
        impl Drop for Told<'_> {
            fn drop(&mut self) {
                self.0.record().settings().events.telling = false;
            }
        }
        loop {
            let (event, lost) = {
                let waiting = &mut self.record().settings().events;
                if waiting.telling {
                    return;
                }
                let Some(event) = waiting.events.pop_front() else { return };
                waiting.telling = true;
                (event, core::mem::take(&mut waiting.lost))
            };
            let _told = Told(self);
            self.tell_hooks(&event);
            if lost > 0 {
                self.publish(Notice::Lost(lost));
            }
            self.publish(Notice::Event(event));
        }
    }

    fn tell_hooks(&self, event: &Event) {
        let chain = self.chain();
        for slot in &chain.filters {
            let entered = Entered::one(self, slot);
            if !entered.is_empty() {
                slot.filter.event(self, event);
            }
        }
        for slot in &chain.protocols {
            if let Some(usage) = slot.enter(self) {
                usage.slot.protocol.event(self, event);
            }
        }
        chain.driver.event(self, event);
    }

    pub(crate) fn publish(&self, notice: Notice) {
        if let Some(registry) = self.registry() {
            registry.subscribers.publish(notice);
        }
    }
}
