//! Events and those who subscribe to them.
//!
//! An event runs through a link's filters, its protocols and its driver in the thread that caused it, and is then put
//! in the bounded queue of every subscriber. A subscriber that does not keep up loses the newest events and is told
//! how many, at the place in the order where they are missing. Nothing waits for a subscriber.

use core::net::IpAddr;
use core::task::{Poll, Waker};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};

use crate::gate::lock;
use crate::{Mtu, Name, ProtocolFamily};

/// What happened to a link.
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
    /// What happened.
    pub code: EventCode,
}

/// What a subscriber gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// An event.
    Event(Event),
    /// So many events are missing here, because the queue was full.
    Lost(u64),
}

/// A bounded queue of events, from [`Registry::subscribe`](crate::Registry::subscribe) until it is dropped.
pub struct Subscription {
    queue: Arc<Queue>,
}

struct Queue {
    capacity: usize,
    state: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    notices: VecDeque<Notice>,
    waker: Option<Waker>,
}

impl Subscription {
    /// The oldest notice, if there is one.
    pub fn try_next(&self) -> Option<Notice> {
        lock(&self.queue.state).notices.pop_front()
    }

    /// The oldest notice, or wakes the task when there is one.
    ///
    /// The waker may be called in any thread that changes a link; it must only wake, not call a link.
    pub fn poll_next(&self, cx: &mut core::task::Context<'_>) -> Poll<Notice> {
        let mut state = lock(&self.queue.state);
        match state.notices.pop_front() {
            Some(notice) => Poll::Ready(notice),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Queue {
    fn push(&self, event: Event) {
        let mut state = lock(&self.state);
        if state.notices.len() < self.capacity {
            state.notices.push_back(Notice::Event(event));
        } else if let Some(Notice::Lost(count)) = state.notices.back_mut() {
            *count += 1;
        } else {
            // The one notice beyond the capacity.
            state.notices.push_back(Notice::Lost(1));
        }
        let waker = state.waker.take();
        drop(state);
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
    pub(crate) fn subscribe(&self, capacity: usize) -> Subscription {
        let queue = Arc::new(Queue { capacity: capacity.max(1), state: Mutex::default() });
        lock(&self.queues).push(Arc::downgrade(&queue));
        Subscription { queue }
    }

    pub(crate) fn publish(&self, event: Event) {
        let mut queues = lock(&self.queues);
        queues.retain(|queue| queue.upgrade().inspect(|queue| queue.push(event)).is_some());
    }
}
