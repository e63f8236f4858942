//! The present state of every port, for any reader.
//!
//! The tasks that keep ports attached write their own row; the supervisor reads them all. The data path never does
//! either: counters are read through their own handle.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, MutexGuard};

use tokio::sync::watch;
use vmlan_api::{EventKind, OneOrMany, PortKind, PortState};
use vmlan_drivers::Endpoint;
use vmlan_frame::{Counters, DropReason, Mutex};
use vmlan_link::{Link, LinkAddress};

use crate::Emitter;
use crate::filter::Rules;
use crate::{PortSettings, Vlan};

/// A port's link, for who wants to see what passes .
#[derive(Debug, Clone)]
pub struct PortLink {
    /// The network's name.
    pub network: String,
    /// The port's name.
    pub port: String,
    /// Its link, which stays good for nothing when the port leaves.
    pub link: vmlan_link::Link,
}

/// A port by the names of its network and itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The network's name.
    pub network: String,
    /// The port's name in the network.
    pub port: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.port)
    }
}

/// A port as it is now.
pub struct Row {
    /// The kind of its attachment.
    pub kind: PortKind,
    /// Its state.
    pub state: PortState,
    /// The address to which guests connect, where they do.
    pub address: Option<String>,
    /// The reason of the state, for people to read.
    pub reason: Option<String>,
    /// How often a guest came and how often the port failed, since the port is there.
    pub unrest: Unrest,
    /// The attached peer, for people to read.
    pub peer: Option<String>,
    /// The endpoint that the port is attached to while it is up.
    pub endpoint: Option<Arc<dyn Endpoint>>,
    /// Its settings.
    pub settings: PortSettings,
    /// The network's MTU in octets.
    pub mtu: usize,
    /// None where clients become ports of their own.
    pub member: Option<Member>,
    /// The port whose client this one is.
    pub parent: Option<String>,
    /// The rules about its frames; none where clients become ports of their own.
    pub rules: Option<Rules>,
}

/// The comings of a port's guests, and its failures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unrest {
    /// Times that a guest was connected, or another one instead.
    pub connections: u64,
    /// Times that the port came to be failed.
    pub failures: u64,
}

/// A port's part in its network.
#[derive(Clone)]
pub struct Member {
    /// The network.
    pub network: Arc<vmlan_lan::Network>,
    /// Which port of it.
    pub id: vmlan_lan::PortId,
    /// Its link.
    pub link: Link,
}

/// The rows of all ports.
pub struct Directory {
    rows: Mutex<BTreeMap<Place, Row>>,
    events: Emitter,
    /// How often a row came, went or changed.
    changes: watch::Sender<u64>,
}

impl Directory {
    /// An empty one, which tells `events` of what changes.
    pub fn new(events: Emitter) -> Directory {
        Directory { rows: Mutex::default(), events, changes: watch::Sender::default() }
    }

    /// All ports; nothing changes while the answer is held.
    pub fn rows(&self) -> MutexGuard<'_, BTreeMap<Place, Row>> {
        self.rows.lock()
    }

    /// Ticks when a port came or went, or its state or settings changed. What was before the call counts as seen.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Wakes those that watch.
    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Adds a port, or takes its place.
    pub fn insert(&self, place: &Place, mut row: Row) {
        row.set_link();
        row.set_rules(place);
        self.rows().insert(place.clone(), row);
        self.changed();
        self.events.emit(EventKind::PortAdded { network: place.network.clone(), port: place.port.clone() });
    }

    /// Removes a port.
    pub fn remove(&self, place: &Place) {
        // What it holds is dropped when nobody waits for the rows.
        let removed = self.rows().remove(place);
        if let Some(row) = removed {
            self.changed();
            if let Some(peer) = row.peer {
                tracing::info!(port = %place, "disconnected: {peer}; the port is gone with it");
            }
            self.events
                .emit(EventKind::PortRemoved { network: place.network.clone(), port: place.port.clone() });
        }
    }

    /// Writes a port's state down and tells everybody; false, and nobody is told, when it is what it was.
    pub fn set_state(
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
        let before = row.shown(place);
        let old_peer = std::mem::replace(&mut row.peer, peer.clone());
        let old_state = row.state;
        (row.state, row.reason) = (state, reason.clone());
        row.unrest.connections += u64::from(peer.is_some() && old_peer != peer);
        row.unrest.failures += u64::from(state == PortState::Failed && old_state != state);
        let shown = row.shown(place);
        drop(rows);

        self.changed();
        log_change(place, (old_state, state), (old_peer.as_deref(), peer.as_deref()), reason.as_deref());
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
        if before != shown {
            self.tell_state(place, shown);
        }
        true
    }

    fn tell_state(&self, place: &Place, (state, reason): (PortState, Option<String>)) {
        let Place { network, port } = place.clone();
        self.events.emit(match state {
            PortState::Up => EventKind::PortUp { network, port },
            PortState::Waiting => EventKind::PortWaiting { network, port, reason },
            PortState::Down => EventKind::PortDown { network, port, reason },
            PortState::Failed => EventKind::PortFailed { network, port, reason: reason.unwrap_or_default() },
        });
    }

    /// Writes down to which address a port's guests connect; nobody was told of the port's state before.
    pub fn set_address(&self, place: &Place, address: Option<String>) {
        if let Some(row) = self.rows().get_mut(place) {
            row.address = address;
        }
    }

    /// Writes down what a port is attached to from now on. A port that is not enabled shows that to its guest.
    pub fn set_endpoint(&self, place: &Place, endpoint: Option<Arc<dyn Endpoint>>) {
        let mut rows = self.rows();
        let Some(row) = rows.get_mut(place) else { return };
        let old = std::mem::replace(&mut row.endpoint, endpoint);
        row.set_link();
        if !row.settings.enabled {
            row.show_carrier(place);
        }
        drop(rows);
        // Closing it may take its time.
        drop(old);
    }

    /// Gives a port other settings, and tells everybody when they change its state.
    pub fn set_settings(&self, place: &Place, settings: PortSettings) {
        let mut rows = self.rows();
        let Some(row) = rows.get_mut(place) else { return };
        let before = row.shown(place);
        let old = std::mem::replace(&mut row.settings, settings);
        row.set_link();
        row.set_rules(place);
        if old.enabled != row.settings.enabled {
            row.show_carrier(place);
        }
        let shown = row.shown(place);
        drop(rows);
        self.changed();
        if before != shown {
            self.tell_state(place, shown);
        }
    }

    /// The port of the link with this number.
    pub fn place_of(&self, index: u32) -> Option<Place> {
        let has_it = |row: &Row| row.member.as_ref().is_some_and(|member| member.link.index() == Some(index));
        self.rows().iter().find(|(_, row)| has_it(row)).map(|(place, _)| place.clone())
    }

    /// The settings that a port has now.
    pub fn settings(&self, place: &Place) -> Option<PortSettings> {
        self.rows().get(place).map(|row| row.settings.clone())
    }

    /// The ports that are clients of `parent`, and itself.
    pub fn family(&self, parent: &Place) -> Vec<Place> {
        let is_child = |place: &Place, row: &Row| {
            place.network == parent.network && row.parent.as_deref() == Some(&parent.port)
        };
        let rows = self.rows();
        let family = rows.iter().filter(|(place, row)| *place == parent || is_child(place, row));
        family.map(|(place, _)| place.clone()).collect()
    }

    /// The rules of all ports, or of one network's.
    pub fn filters(&self, network: Option<&str>) -> Vec<vmlan_api::Filter> {
        let report =
            |(place, row): (&Place, &Row)| Some(row.rules.as_ref()?.report(&place.network, &place.port));
        of(&self.rows(), network).filter_map(report).flatten().collect()
    }

    /// All ports, or one network's.
    pub fn ports(&self, network: Option<&str>) -> Vec<vmlan_api::Port> {
        of(&self.rows(), network).map(|(place, row)| row.report(place)).collect()
    }

    /// The links of all ports that have one, or of one network's.
    pub fn links(&self, network: Option<&str>) -> Vec<PortLink> {
        let link = |(Place { network, port }, row): (&Place, &Row)| {
            let link = row.member.as_ref()?.link.clone();
            Some(PortLink { network: network.clone(), port: port.clone(), link })
        };
        of(&self.rows(), network).filter_map(link).collect()
    }

    /// Returns the names of a network's ports.
    pub fn names(&self, network: &Arc<vmlan_lan::Network>) -> BTreeMap<vmlan_lan::PortId, String> {
        let rows = self.rows();
        let own = rows.iter().filter_map(|(place, row)| {
            let member = row.member.as_ref().filter(|member| Arc::ptr_eq(&member.network, network))?;
            Some((member.id, place.port.clone()))
        });
        own.collect()
    }

    /// Returns the emitter that tells subscribers of changes.
    pub fn events(&self) -> &Emitter {
        &self.events
    }
}

/// Writes one line when a guest comes or goes, or when a port works again. A failure has its own line, with its cause.
fn log_change(
    port: &Place,
    (before, now): (PortState, PortState),
    peers: (Option<&str>, Option<&str>),
    reason: Option<&str>,
) {
    let because = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    match peers {
        _ if now == PortState::Failed => {}
        (_, Some(peer)) if before == PortState::Failed => {
            tracing::info!(%port, "works again, connected: {peer}")
        }
        (_, None) if before == PortState::Failed => {
            tracing::info!(%port, "works again; no guest is there yet{because}");
        }
        (None, Some(peer)) => tracing::info!(%port, "connected: {peer}{because}"),
        (Some(old), Some(peer)) if old != peer => {
            tracing::info!(%port, "connected: {peer}, instead of {old}")
        }
        (Some(old), None) => tracing::info!(%port, "disconnected: {old}{because}"),
        _ => {}
    }
}

/// The rows of one network, or all.
fn of<'r>(
    rows: &'r BTreeMap<Place, Row>,
    network: Option<&str>,
) -> impl Iterator<Item = (&'r Place, &'r Row)> {
    rows.iter().filter(move |(place, _)| network.is_none_or(|network| network == place.network))
}

impl Row {
    /// True if everybody is told that frames flow.
    pub fn is_up(&self) -> bool {
        self.state == PortState::Up && self.settings.enabled
    }

    /// The state, and its reason, that everybody is told.
    fn shown(&self, place: &Place) -> (PortState, Option<String>) {
        match self.state {
            PortState::Failed => (self.state, self.reason.clone()),
            _ if !self.settings.enabled => {
                let Place { network, port } = place;
                let reason = format!("it is not enabled; `vmlan port up {network} {port}` lets frames pass");
                (PortState::Down, Some(reason))
            }
            PortState::Waiting => (self.state, self.awaited()),
            _ => (self.state, self.reason.clone()),
        }
    }

    /// Tells for what a port that waits is waiting.
    fn awaited(&self) -> Option<String> {
        let expected = self.address.as_ref().filter(|_| self.peer.is_none());
        let Some(address) = expected else { return self.reason.clone() };
        let what = format!("waiting for a guest at {address}");
        Some(self.reason.as_ref().map_or(what.clone(), |reason| format!("{reason}; {what}")))
    }

    /// Brings the port's link up to date: it is up while the port is enabled, and has a carrier while a guest can be
    /// reached besides.
    fn set_link(&self) {
        let Some(Member { link, .. }) = &self.member else { return };
        let up = self.settings.enabled;
        link.set_flags(vmlan_link::Flags { up, promiscuous: self.settings.promiscuous });
        link.set_carrier(up && self.endpoint.is_some());
        if let Some(mac) = self.settings.mac.first() {
            // Fails only for addresses of another length.
            let _ = link.set_address(LinkAddress::from(*mac));
        }
    }

    /// Makes the rules of the settings those of the link.
    fn set_rules(&mut self, place: &Place) {
        let Some(rules) = &mut self.rules else { return };
        if let Err(error) = rules.set(&self.settings.filters) {
            tracing::error!(port = %place, "its filters stay as they were: {error}");
        }
    }

    /// Plugs the guest's cable in or out, as far as its medium can show it.
    fn show_carrier(&self, place: &Place) {
        let enabled = self.settings.enabled;
        if let Some(Err(error)) = self.endpoint.as_ref().map(|endpoint| endpoint.set_carrier(enabled)) {
            tracing::warn!(port = %place, "the device keeps its carrier as it was: {error}");
        }
    }

    fn report(&self, place: &Place) -> vmlan_api::Port {
        let (state, reason) = self.shown(place);
        let endpoint = self.endpoint.as_ref().filter(|_| self.state == PortState::Up);
        vmlan_api::Port {
            network: place.network.clone(),
            port: place.port.clone(),
            index: self.member.as_ref().and_then(|member| member.link.index()),
            kind: self.kind,
            state,
            reason,
            address: self.address.clone(),
            peer: self.peer.clone(),
            mechanism: endpoint.map(|endpoint| endpoint.mechanism()),
            mac: OneOrMany::from_items(self.settings.mac.iter().map(ToString::to_string).collect()),
            // The uplink knows them.
            addresses: Vec::new(),
            name: None,
            vlan: vlan(&self.settings.vlan),
            mtu: self.mtu as u64,
            counters: self.member.as_ref().map(|member| counters(member.link.counters())).unwrap_or_default(),
            fast: None,
            tunnel: endpoint.and_then(|endpoint| endpoint.inner()).map(counters),
            // A broken ring counts while it keeps the port from being up.
            rings: self.endpoint.as_ref().and_then(|endpoint| endpoint.rings()).map(rings),
        }
    }
}

fn vlan(vlan: &Vlan) -> Option<vmlan_api::VlanConfig> {
    let number = |vlan: &vmlan_frame::VlanId| u64::from(vlan.get());
    match vlan {
        Vlan::None => None,
        Vlan::Access(vlan) => {
            Some(vmlan_api::VlanConfig { access: Some(number(vlan)), ..Default::default() })
        }
        Vlan::Trunk { allowed, native } => Some(vmlan_api::VlanConfig {
            access: None,
            tagged: Some(allowed.iter().map(number).collect()),
            native: native.as_ref().map(number),
        }),
    }
}

fn rings(counts: vmlan_drivers::RingCounts) -> vmlan_api::RingCounters {
    let vmlan_drivers::RingCounts { kicks, calls, empty_wakeups, broken_rings, quiesces } = counts;
    vmlan_api::RingCounters { kicks, calls, empty_wakeups, broken_rings, quiesces }
}

fn counters(counters: &Counters) -> vmlan_api::Counters {
    let sum = counters.snapshot();
    // A frame that nobody was there to hear is no drop for people.
    let reasons = DropReason::ALL.iter().filter(|reason| **reason != DropReason::NoReceiver);
    let dropped = reasons.map(|reason| (reason.name().to_owned(), sum.dropped(*reason)));
    let class = |class: usize| {
        let ([rx_frames, rx_octets], [tx_frames, tx_octets]) = (sum.rx_classes[class], sum.tx_classes[class]);
        vmlan_api::ClassCounters { rx_frames, rx_octets, tx_frames, tx_octets }
    };
    vmlan_api::Counters {
        rx_frames: sum.rx_frames,
        rx_octets: sum.rx_octets,
        rx_multicasts: sum.rx_multicasts,
        rx_errors: sum.rx_errors,
        tx_frames: sum.tx_frames,
        tx_octets: sum.tx_octets,
        tx_multicasts: sum.tx_multicasts,
        tx_errors: sum.tx_errors,
        copies: sum.copies,
        rx_large: sum.rx_large[0],
        rx_large_segments: sum.rx_large[1],
        tx_large: sum.tx_large[0],
        tx_large_segments: sum.tx_large[1],
        segmented: sum.segmented,
        coalesced: sum.coalesced,
        queued: sum.queued,
        classes: vmlan_api::Classes { background: class(0), video: class(1), voice: class(2) },
        no_receiver: sum.dropped(DropReason::NoReceiver),
        drops: dropped.filter(|(_, count)| *count > 0).collect(),
    }
}
