//! The trunks: how each joins its network, what its task is woken for, and what it says of itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};

use tokio::sync::Notify;
use vmlan_drivers::Flows;
use vmlan_frame::{Mutex, Sides};
use vmlan_lan::{Network, TrunkNotice, TrunkPolicy};

use super::directory::Place;
use super::fabric::{Fabric, JoinError, Joining, JoiningTrunk, vlan_role};
use super::seat::Seat;
use crate::{PortSettings, TRUNK, Trunk};

/// A network's message to its trunk's task: look at something again.
#[derive(Default)]
pub struct TrunkWish {
    stations: AtomicBool,
    woken: Notify,
}

impl TrunkWish {
    /// From any thread, without waiting.
    fn tell(&self, notice: TrunkNotice) {
        if notice != TrunkNotice::Wanted {
            self.stations.store(true, Ordering::Release);
        }
        self.woken.notify_one();
    }

    /// Waits until there is something. Safe to cancel.
    pub async fn changed(&self) {
        self.woken.notified().await;
    }

    /// True if addresses, of whatever kind, came to guests or left them since the last call.
    #[cfg(target_os = "linux")]
    pub fn take_stations(&self) -> bool {
        self.stations.swap(false, Ordering::AcqRel)
    }
}

/// A trunk as it is now; its flows are counted on.
pub struct TrunkRow {
    /// The visible state of the trunk, without its counters.
    pub report: vmlan_api::Trunk,
    /// The counters of the trunk's sides, while the trunk is joined.
    pub flows: Option<Flows>,
}

/// The rows of all trunks, by network. A trunk's task writes its own.
#[derive(Default)]
pub struct Trunks {
    rows: Mutex<BTreeMap<String, TrunkRow>>,
}

impl Trunks {
    fn rows(&self) -> MutexGuard<'_, BTreeMap<String, TrunkRow>> {
        self.rows.lock()
    }

    /// Notes how a network's trunk is.
    pub fn set(&self, row: TrunkRow) {
        self.rows().insert(row.report.network.clone(), row);
    }

    /// Forgets that of a network.
    pub fn remove(&self, network: &str) {
        self.rows().remove(network);
    }

    /// That of one network, or of all, with their counters.
    pub fn list(&self, network: Option<&str>) -> Vec<vmlan_api::Trunk> {
        let rows = self.rows();
        let wanted = rows.iter().filter(|(name, _)| network.is_none_or(|network| network == *name));
        wanted.map(|(_, row)| row.with_flows()).collect()
    }
}

impl TrunkRow {
    fn with_flows(&self) -> vmlan_api::Trunk {
        let flow = |counters: &vmlan_frame::Counters| {
            let sum = counters.snapshot();
            vmlan_api::TrunkFlow {
                rx_frames: sum.rx_frames,
                rx_octets: sum.rx_octets,
                tx_frames: sum.tx_frames,
                tx_octets: sum.tx_octets,
            }
        };
        let mut report = self.report.clone();
        if let Some(flows) = &self.flows {
            (report.host, report.wire) = (flow(&flows.host), flow(&flows.wire));
        }
        report
    }
}

impl Fabric {
    /// Makes a network's trunk in every layer. It is not attached to anything yet.
    pub fn join_trunk(
        self: &Arc<Self>,
        network: &Arc<Network>,
        name: &str,
        trunk: &Trunk,
        wish: Arc<TrunkWish>,
    ) -> Result<Seat, JoinError> {
        let policy =
            TrunkPolicy { vlan: vlan_role(&trunk.vlan), enabled: Sides::NONE, ..TrunkPolicy::default() };
        let settings = PortSettings::of_trunk(trunk.vlan.clone(), QUEUE, policy.quota);
        let notify = Arc::new(move |notice| wish.tell(notice));
        self.join(Joining {
            network,
            place: Place { network: name.to_owned(), port: TRUNK.to_owned() },
            kind: vmlan_api::PortKind::Trunk,
            settings: &settings,
            parent: None,
            budget: None,
            trunk: Some(JoiningTrunk { policy, notify }),
        })
    }
}

/// Frames that may wait for the interface, for each worker.
const QUEUE: usize = 1024;

impl Seat {
    /// Returns what the network's ports want of the trunk: frames for unknown addresses, and everything that passes.
    /// Ports without a set address want the first.
    pub fn wants(&self) -> (bool, bool) {
        let network = &self.place().network;
        let rows = self.directory().rows();
        let guests = rows
            .iter()
            .filter(|(place, row)| place.network == *network && row.kind != vmlan_api::PortKind::Trunk);
        guests.fold((false, false), |(unknown, everything), (_, row)| {
            (unknown || row.settings.mac.is_empty(), everything || row.settings.sees_trunk)
        })
    }

    /// Writes down what the trunk is doing.
    pub fn report(&self, row: TrunkRow) {
        self.trunks().set(row);
    }
}
