//! What every port is doing now, for whoever asks.
//!
//! The tasks that keep ports attached write their own row; the supervisor reads them all. The data path never does
//! either: counters are read through their own handle.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::{EventKind, OneOrMany, PortKind, PortState};
use frame::Counters;
use link::Link;

use crate::config::{Policy, Vlan};
use crate::handle::Emitter;

/// A port by the names of its network and itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) network: String,
    pub(crate) port: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.port)
    }
}

/// A port as it is now.
pub(crate) struct Row {
    pub(crate) kind: PortKind,
    pub(crate) state: PortState,
    pub(crate) reason: Option<String>,
    pub(crate) peer: Option<String>,
    /// By what means frames are moved while the port is up.
    pub(crate) mechanism: Option<String>,
    pub(crate) policy: Policy,
    pub(crate) mtu: usize,
    /// None where clients become ports of their own.
    pub(crate) member: Option<Member>,
    /// The port whose client this one is.
    pub(crate) parent: Option<String>,
}

/// A port's part in its network.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) network: Arc<lan::Network>,
    pub(crate) id: lan::PortId,
    pub(crate) link: Link,
}

/// The rows of all ports.
pub(crate) struct Directory {
    rows: Mutex<BTreeMap<Place, Row>>,
    events: Emitter,
}

impl Directory {
    pub(crate) fn new(events: Emitter) -> Directory {
        Directory { rows: Mutex::default(), events }
    }

    pub(crate) fn rows(&self) -> MutexGuard<'_, BTreeMap<Place, Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, place: &Place, row: Row) {
        self.rows().insert(place.clone(), row);
        self.events.emit(EventKind::PortAdded { network: place.network.clone(), port: place.port.clone() });
    }

    pub(crate) fn remove(&self, place: &Place) {
        if self.rows().remove(place).is_some() {
            self.events
                .emit(EventKind::PortRemoved { network: place.network.clone(), port: place.port.clone() });
        }
    }

    /// Writes a port's state down and tells everybody; false, and nobody is told, when it is what it was.
    pub(crate) fn set_state(
        &self,
        place: &Place,
        state: PortState,
        reason: Option<String>,
        peer: Option<String>,
    ) -> bool {
        let mut rows = self.rows();
        let Some(row) = rows.get_mut(place) else { return false };
        if (row.state, &row.reason, &row.peer) == (state, &reason, &peer) {
            return false;
        }
        let old_peer = std::mem::replace(&mut row.peer, peer.clone());
        let is_same_state = (row.state, &row.reason) == (state, &reason);
        (row.state, row.reason) = (state, reason.clone());
        drop(rows);

        let (network, port) = (place.network.clone(), place.port.clone());
        if old_peer.is_some() && old_peer != peer {
            let (network, port, reason) = (network.clone(), port.clone(), reason.clone());
            let peer = old_peer.clone();
            self.events.emit(EventKind::PeerDisconnected { network, port, peer, reason });
        }
        if peer.is_some() && old_peer != peer {
            let (network, port) = (network.clone(), port.clone());
            self.events.emit(EventKind::PeerConnected { network, port, peer });
        }
        if is_same_state {
            return true;
        }
        self.events.emit(match state {
            PortState::Up => EventKind::PortUp { network, port },
            PortState::Waiting => EventKind::PortWaiting { network, port, reason },
            PortState::Down => EventKind::PortDown { network, port, reason },
            PortState::Failed => EventKind::PortFailed { network, port, reason: reason.unwrap_or_default() },
        });
        true
    }

    /// Writes down by what means a port's frames are moved from now on.
    pub(crate) fn set_mechanism(&self, place: &Place, mechanism: String) {
        if let Some(row) = self.rows().get_mut(place) {
            row.mechanism = Some(mechanism);
        }
    }

    /// The policy that a port has now.
    pub(crate) fn policy(&self, place: &Place) -> Option<Policy> {
        self.rows().get(place).map(|row| row.policy.clone())
    }

    /// The ports that are clients of `parent`, and itself.
    pub(crate) fn family(&self, parent: &Place) -> Vec<Place> {
        let is_child = |place: &Place, row: &Row| {
            place.network == parent.network && row.parent.as_deref() == Some(&parent.port)
        };
        let rows = self.rows();
        let family = rows.iter().filter(|(place, row)| *place == parent || is_child(place, row));
        family.map(|(place, _)| place.clone()).collect()
    }

    pub(crate) fn ports(&self) -> Vec<api::Port> {
        self.rows().iter().map(|(place, row)| row.report(place)).collect()
    }

    pub(crate) fn events(&self) -> &Emitter {
        &self.events
    }
}

impl Row {
    fn report(&self, place: &Place) -> api::Port {
        api::Port {
            network: place.network.clone(),
            port: place.port.clone(),
            kind: self.kind,
            state: self.state,
            reason: self.reason.clone(),
            peer: self.peer.clone(),
            mechanism: self.mechanism.clone().filter(|_| self.state == PortState::Up),
            mac: OneOrMany::from_items(self.policy.mac.iter().map(ToString::to_string).collect()),
            vlan: vlan(&self.policy.vlan),
            mtu: self.mtu as u64,
            counters: self.member.as_ref().map(|member| counters(member.link.counters())).unwrap_or_default(),
        }
    }
}

fn vlan(vlan: &Vlan) -> Option<api::VlanConfig> {
    let number = |vlan: &frame::VlanId| u64::from(vlan.get());
    match vlan {
        Vlan::None => None,
        Vlan::Access(vlan) => Some(api::VlanConfig { access: Some(number(vlan)), ..Default::default() }),
        Vlan::Trunk { allowed, native } => Some(api::VlanConfig {
            access: None,
            trunk: Some(allowed.iter().map(number).collect()),
            native: native.as_ref().map(number),
        }),
    }
}

fn counters(counters: &Counters) -> api::Counters {
    let sum = counters.snapshot();
    let dropped =
        frame::DropReason::ALL.iter().map(|reason| (reason.name().to_owned(), sum.dropped(*reason)));
    api::Counters {
        rx_frames: sum.rx_frames,
        rx_octets: sum.rx_octets,
        tx_frames: sum.tx_frames,
        tx_octets: sum.tx_octets,
        copies: sum.copies,
        rx_large: sum.rx_large[0],
        rx_large_segments: sum.rx_large[1],
        tx_large: sum.tx_large[0],
        tx_large_segments: sum.tx_large[1],
        segmented: sum.segmented,
        coalesced: sum.coalesced,
        queued: sum.queued,
        drops: dropped.filter(|(_, count)| *count > 0).collect(),
    }
}
