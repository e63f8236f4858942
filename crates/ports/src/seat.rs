use std::future::pending;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use vmlan_api::{EventKind, PortState};
use vmlan_drivers::{Endpoint, Fault, inject};
use vmlan_frame::{Counters, DropReason};

use super::directory::{Directory, Place};
use super::fabric::{Fabric, FaultNotice, Joined, done};
use super::trunks::Trunks;

/// Where the outcome of a port's first attempt goes.
pub type Ready = oneshot::Sender<Result<(), String>>;

/// The count of traffic from peers that a port is not for: received and dropped.
pub struct Strangers {
    place: Place,
    counters: Arc<Counters>,
    refused: u64,
}

impl Strangers {
    /// Returns the port's network and name.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Counts a datagram, or a connection that is refused.
    pub fn count(&mut self, octets: usize) {
        self.refused += 1;
        self.counters.received_and_dropped(0, DropReason::Stranger, 1, octets as u64);
    }

    /// Answers how many there were when that is worth a word in the log: the first, and then ever fewer.
    pub fn worth_a_word(&self) -> Option<u64> {
        self.refused.is_power_of_two().then_some(self.refused)
    }
}

/// The port in every layer, with the means to bring it up and down, for the task that keeps the port attached.
pub struct Seat {
    fabric: Arc<Fabric>,
    joined: Joined,
    faults: mpsc::UnboundedReceiver<FaultNotice>,
    ticks: watch::Receiver<u64>,
    /// The attachment that is up.
    attachment: Option<u64>,
    /// Frames of that attachment are received.
    is_open: bool,
    ready: Option<Ready>,
}

impl Seat {
    pub(crate) fn new(
        fabric: Arc<Fabric>,
        joined: Joined,
        faults: mpsc::UnboundedReceiver<FaultNotice>,
    ) -> Seat {
        let ticks = fabric.ticks.clone();
        Seat { fabric, joined, faults, ticks, attachment: None, is_open: false, ready: None }
    }

    /// Tells `ready` how the first attempt to set the port up went.
    pub fn tell_when_ready(&mut self, ready: Ready) {
        self.ready = Some(ready);
    }

    /// Its names.
    pub fn place(&self) -> &Place {
        &self.joined.place
    }

    /// How many queues a device with several should have.
    #[cfg(target_os = "linux")]
    pub fn workers(&self) -> usize {
        self.fabric.workers()
    }

    /// Where links come from.
    pub fn registry(&self) -> &vmlan_link::Registry {
        &self.fabric.registry
    }

    /// The address that is set for the port, the first when there are several.
    pub fn mac(&self) -> Option<vmlan_frame::MacAddr> {
        self.fabric.directory.settings(&self.joined.place)?.mac.first().copied()
    }

    /// Frames that may wait for the guest.
    pub fn queue(&self) -> usize {
        self.fabric.directory.settings(&self.joined.place).map_or(1, |settings| settings.queue)
    }

    /// The network's MTU in octets.
    pub fn mtu(&self) -> usize {
        self.joined.network.mtu()
    }

    /// The network that it is a port of.
    pub fn network(&self) -> &Arc<vmlan_lan::Network> {
        &self.joined.network
    }

    /// Its link.
    #[cfg(all(target_os = "linux", feature = "netlink"))]
    pub(crate) fn link(&self) -> &vmlan_link::Link {
        self.joined.link()
    }

    /// Everything that interface ports have together.
    #[cfg(all(target_os = "linux", feature = "netlink"))]
    pub(crate) fn interfaces(&self) -> &Arc<crate::interface::Shared> {
        &self.fabric.interfaces
    }

    /// Which port of the network it is.
    pub fn id(&self) -> vmlan_lan::PortId {
        self.joined.id
    }

    /// Counts what comes to the port from those that it is not for.
    pub fn strangers(&self) -> Strangers {
        Strangers { place: self.place().clone(), counters: self.joined.counters(), refused: 0 }
    }

    /// Frames that the port has received.
    pub fn received(&self) -> u64 {
        self.joined.counters().snapshot().rx_frames
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.fabric.directory
    }

    pub(crate) fn fabric(&self) -> &Arc<Fabric> {
        &self.fabric
    }

    pub(crate) fn trunks(&self) -> &Trunks {
        &self.fabric.trunks
    }

    /// Attaches the port and opens it for traffic.
    pub async fn up(&mut self, endpoint: Arc<dyn Endpoint>, peer: Option<String>) {
        self.attach(endpoint).await;
        self.set_part(true, PortState::Up, None, peer);
    }

    /// Attaches the port. It takes no part in its network yet: see [`Seat::set_part`].
    pub async fn attach(&mut self, endpoint: Arc<dyn Endpoint>) {
        let (done, connected) = done();
        let key = self.joined.key;
        self.fabric.directory.set_endpoint(&self.joined.place, Some(endpoint.clone()));
        self.is_open = false;
        self.attachment = self.fabric.with_plane(|plane| plane.connect(key, endpoint, done));
        let _ = connected.await;
    }

    /// Gives the attached port its part in the network: the network sends to it while it is `active`. The guest's
    /// frames are received from the first time on that it is.
    pub fn set_part(&mut self, active: bool, state: PortState, reason: Option<String>, peer: Option<String>) {
        // Fails only when the port has left the network.
        let _ = self.joined.network.set_active(self.joined.id, active);
        self.set_state(state, reason, peer);
        // Not before: what the guest says first may be answered at once.
        if active {
            self.open();
        }
    }

    /// Has the attached port receive, whether it has a part in the network or not: its driver holds back what the
    /// network is not to get yet.
    pub fn open(&mut self) {
        if let Some(attachment) = self.attachment.filter(|_| !self.is_open) {
            self.fabric.with_plane(|plane| plane.open(self.joined.key, attachment));
            self.is_open = true;
        }
    }

    /// Waits until the attachment is of no more use, and says why. Safe to cancel.
    pub async fn fault(&mut self) -> Fault {
        loop {
            if let Some(fault) = self.fault_or_tick().await {
                return fault;
            }
        }
    }

    /// The same, but answers `None` after no more than a second, for who has to look after something. Safe to cancel.
    pub async fn fault_or_tick(&mut self) -> Option<Fault> {
        inject::panic_at(|| format!("port.{}", self.joined.place.port));
        loop {
            tokio::select! {
                notice = self.faults.recv() => match notice {
                    Some((attachment, fault)) if Some(attachment) == self.attachment => return Some(fault),
                    // A late word about an earlier attachment.
                    Some(_) => {}
                    None => pending().await,
                },
                changed = self.ticks.changed() => match changed {
                    Ok(()) => return None,
                    Err(_) => pending().await,
                },
            }
        }
    }

    /// Closes the port for traffic and takes its attachment away; answers when no worker holds it any more.
    pub async fn down(&mut self) {
        let _ = self.joined.network.set_active(self.joined.id, false);
        let (done, disconnected) = done();
        self.fabric.with_plane(|plane| plane.disconnect(self.joined.key, done));
        let _ = disconnected.await;
        self.attachment = None;
        self.fabric.directory.set_endpoint(&self.joined.place, None);
    }

    /// The port waits for its guest.
    pub fn waiting(&mut self, reason: Option<String>) {
        self.set_state(PortState::Waiting, reason, None);
    }

    /// The port cannot be set up yet.
    pub fn delayed(&mut self, reason: String) {
        self.fabric.directory.set_state(&self.joined.place, PortState::Waiting, Some(reason), None);
    }

    /// The device of the port is in this state now; the attachment stays.
    pub fn device_is(&mut self, state: PortState, reason: Option<String>, name: String) {
        self.set_state(state, reason, Some(name));
    }

    /// The port is there and cannot carry anything.
    pub fn is_down(&mut self, reason: String) {
        self.set_state(PortState::Down, Some(reason), None);
    }

    /// The port could not be set up. The log has each reason once, until another one or success follows.
    pub fn failed(&mut self, reason: String) {
        if self.set_state(PortState::Failed, Some(reason.clone()), None) {
            tracing::warn!(port = %self.joined.place, "{reason}");
        }
    }

    /// The guest broke the rules and is kept away for a while.
    pub fn quarantined(&mut self, reason: String) {
        tracing::warn!(port = %self.place(), "quarantined: {reason}");
        let Place { network, port } = self.place().clone();
        self.fabric.directory.events().emit(EventKind::Quarantined { network, port, reason: reason.clone() });
        self.set_state(PortState::Failed, Some(format!("quarantined: {reason}")), None);
    }

    /// False when it was so before.
    fn set_state(&mut self, state: PortState, reason: Option<String>, peer: Option<String>) -> bool {
        if let Some(ready) = self.ready.take() {
            let outcome = match (state, &reason) {
                (PortState::Failed, Some(reason)) => Err(reason.clone()),
                _ => Ok(()),
            };
            // Whoever asked may have gone.
            let _ = ready.send(outcome);
        }
        self.fabric.directory.set_state(&self.joined.place, state, reason, peer)
    }

    /// Takes the port out of every layer; answers when no worker holds any of it.
    pub async fn leave(self) {
        self.joined.leave().await;
    }
}
