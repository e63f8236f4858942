use std::collections::VecDeque;
use std::net::IpAddr;

use vmlan_frame::{MacAddr, VlanId};

use crate::PortId;

/// Something that happened by itself. `vlan` is `None` in a network without VLANs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A new address.
    Learnt {
        /// The address.
        mac: MacAddr,
        /// Its VLAN.
        vlan: Option<VlanId>,
        /// Where it is.
        port: PortId,
    },
    /// A learnt address sent from another port than before.
    Moved {
        /// The address.
        mac: MacAddr,
        /// Its VLAN.
        vlan: Option<VlanId>,
        /// Where it was.
        from: PortId,
        /// Where it is.
        to: PortId,
    },
    /// Two ports send from an address; it stays at the port that had it first. Told at most once a second for a
    /// claimant.
    Contested {
        /// The address.
        mac: MacAddr,
        /// Its VLAN.
        vlan: Option<VlanId>,
        /// Where it stays.
        port: PortId,
        /// The other port.
        claimant: PortId,
    },
    /// An address was silent for the ageing time.
    Expired {
        /// The address.
        mac: MacAddr,
        /// Its VLAN.
        vlan: Option<VlanId>,
        /// Where it was.
        port: PortId,
    },
    /// An address made room for another one.
    Evicted {
        /// The address.
        mac: MacAddr,
        /// Its VLAN.
        vlan: Option<VlanId>,
        /// Where it was.
        port: PortId,
    },
    /// A guest uses an address that is the host's or another guest's. Told at most once a second for a port.
    Conflict {
        /// The guest's port.
        port: PortId,
        /// The guest's MAC address.
        mac: MacAddr,
        /// The IP address; `None` when it is the MAC address itself.
        address: Option<IpAddr>,
        /// The port whose address it is; the trunk for the host's.
        owner: PortId,
    },
    /// An IP address went from one guest to another, or to another MAC address of the same.
    AddressMoved {
        /// The IP address.
        address: IpAddr,
        /// The former owner: the port and the MAC address.
        from: (PortId, MacAddr),
        /// The new owner: the port and the MAC address.
        to: (PortId, MacAddr),
    },
    /// A port has as many learnt addresses as it may; further ones are not learnt.
    QuotaReached {
        /// The port.
        port: PortId,
    },
}

impl Event {
    /// The same event as seen in a network without VLANs.
    pub(crate) fn without_vlan(mut self) -> Event {
        match &mut self {
            Event::Learnt { vlan, .. }
            | Event::Moved { vlan, .. }
            | Event::Contested { vlan, .. }
            | Event::Expired { vlan, .. }
            | Event::Evicted { vlan, .. } => *vlan = None,
            Event::Conflict { .. } | Event::AddressMoved { .. } | Event::QuotaReached { .. } => {}
        }
        self
    }
}

/// The events since the last call for them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Events {
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// How many more there were, for which the queue had no room.
    pub lost: u64,
}

/// Events on their way to the control side: bounded, and the newest is lost when it is full.
pub(crate) struct EventQueue {
    waiting: VecDeque<Event>,
    lost: u64,
}

impl EventQueue {
    const LIMIT: usize = 1024;

    pub(crate) fn new() -> EventQueue {
        EventQueue { waiting: VecDeque::with_capacity(EventQueue::LIMIT), lost: 0 }
    }

    pub(crate) fn push(&mut self, event: Event) {
        if self.waiting.len() < EventQueue::LIMIT {
            self.waiting.push_back(event);
        } else {
            self.lost += 1;
        }
    }

    pub(crate) fn take(&mut self) -> Events {
        // Drained, not taken: the queue keeps its memory, for the data path must not allocate it again.
        Events { events: self.waiting.drain(..).collect(), lost: core::mem::take(&mut self.lost) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_counts_what_it_loses() {
        let mut queue = EventQueue::new();
        let event = Event::QuotaReached { port: PortId::new(1, 0) };
        (0..EventQueue::LIMIT + 3).for_each(|_| queue.push(event));
        let events = queue.take();
        assert_eq!((events.events.len(), events.lost), (EventQueue::LIMIT, 3));
        assert_eq!(queue.take(), Events::default());
    }
}
