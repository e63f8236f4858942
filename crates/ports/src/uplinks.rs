//! The uplinks of all networks, for whoever asks, and the ports of a network as its uplink sees them.
//!
//! Theory of operation. A keeper puts its [`UplinkControl`] here when it has begun, and takes it away when it ends
//! ([`Running`] does both). Everything else asks by the network's name: listings, changes that people make at run time,
//! and the supervisor, which hands new settings over. The keeper hears of ports that come, go and change by
//! [`Directory::watch`](crate::Directory::watch), and reads them anew.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use vmlan_api::{Error, PortKind};
use vmlan_frame::{MacAddr, Mutex};
use vmlan_nat::reach::Egress;

use crate::directory::Directory;
use crate::seat::{Ready, Seat};
use crate::uplink::UplinkSettings;
use crate::uplink::forward::ForwardSpec;

/// An answer that may have to wait for the worker that carries the uplink.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A running uplink, for all that ask about it and change it.
pub trait UplinkControl: Send + Sync {
    /// The state of it, without what its port's row says.
    fn status(&self) -> Later<'_, vmlan_api::Uplink>;

    /// The addresses that guests have, by address.
    fn leases(&self) -> Later<'_, Vec<vmlan_api::Lease>>;

    /// Ends a lease, so that its address is free, and answers with it. Not one of an address that is set on a port.
    fn release(&self, address: IpAddr) -> Later<'_, Result<vmlan_api::Lease, Error>>;

    /// The open flows of all guests, or of the port of that name.
    fn flows(&self, port: Option<String>) -> Later<'_, Vec<vmlan_api::Flow>>;

    /// Resets a flow, and answers with what it was.
    fn close_flow(&self, id: u64) -> Later<'_, Result<vmlan_api::Flow, Error>>;

    /// The forwards, by number.
    fn forwards(&self) -> Vec<vmlan_api::Forward>;

    /// Adds a forward until the configuration is applied again.
    fn add_forward(&self, forward: ForwardSpec) -> Later<'_, Result<vmlan_api::Forward, Error>>;

    /// Removes a forward until the configuration is applied again, resets its flows, and answers with what it was.
    fn remove_forward(&self, id: u64) -> Later<'_, Result<vmlan_api::Forward, Error>>;

    /// Tells guests that their router is going, and answers when that is on its way to them.
    fn farewell(&self) -> Later<'_, ()>;

    /// Goes on with other settings, whose [`Rooms`](crate::uplink::Rooms) are the same. `done` is told when they hold,
    /// or which part of them does not work, as a forward whose place is taken; all other parts hold then.
    fn change(self: Arc<Self>, settings: Arc<UplinkSettings>, done: Ready);
}

/// The uplinks that run, by network.
#[derive(Default)]
pub struct Uplinks {
    running: Mutex<BTreeMap<String, Arc<dyn UplinkControl>>>,
}

impl Uplinks {
    /// That of a network, while it runs.
    pub fn get(&self, network: &str) -> Option<Arc<dyn UplinkControl>> {
        self.running.lock().get(network).cloned()
    }

    /// Those of one network, or of all, by name.
    pub fn list(&self, network: Option<&str>) -> Vec<(String, Arc<dyn UplinkControl>)> {
        let running = self.running.lock();
        let wanted = running.iter().filter(|(name, _)| network.is_none_or(|network| network == *name));
        wanted.map(|(name, control)| (name.clone(), control.clone())).collect()
    }

    /// Lets others reach a network's uplink until the answer is dropped.
    pub fn register(self: &Arc<Self>, network: &str, control: Arc<dyn UplinkControl>) -> Running {
        self.running.lock().insert(network.to_owned(), control.clone());
        Running { uplinks: self.clone(), network: network.to_owned(), control }
    }
}

/// An uplink's place among those that run; given back when dropped.
#[must_use = "others reach the uplink only as long as this is kept"]
pub struct Running {
    uplinks: Arc<Uplinks>,
    network: String,
    control: Arc<dyn UplinkControl>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.uplinks.running.lock();
        // Another one may have come already.
        if running.get(&self.network).is_some_and(|control| Arc::ptr_eq(control, &self.control)) {
            running.remove(&self.network);
        }
    }
}

/// A port of a network, as far as its uplink has to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkPort {
    /// The number by which frames from it are known: `frame.meta.ingress`.
    pub ingress: u16,
    /// Its name.
    pub name: String,
    /// Its set MAC addresses.
    pub macs: Vec<MacAddr>,
    /// IP addresses that are set for its guest, whole.
    pub addresses: Vec<IpAddr>,
    /// The part of the world that its guest may reach of that which the network may; all of that without one.
    pub egress: Option<Egress>,
    /// True while a guest can be reached.
    pub up: bool,
}

impl Directory {
    /// The guests' ports of a network, by name. Ports whose clients are ports of their own are not among them.
    pub fn ports_of(&self, network: &str) -> Vec<UplinkPort> {
        let rows = self.rows();
        let guests = rows.iter().filter(|(place, row)| {
            place.network == network && !matches!(row.kind, PortKind::Uplink | PortKind::Trunk)
        });
        let port = |(place, row): (&crate::Place, &crate::Row)| {
            let slot = row.member.as_ref()?.id.slot();
            Some(UplinkPort {
                // As the network writes it into frames.
                ingress: u16::try_from(slot + 1).ok()?,
                name: place.port.clone(),
                macs: row.settings.mac.clone(),
                addresses: row.settings.addresses.clone(),
                egress: row.settings.egress.clone(),
                up: row.settings.enabled && row.state == vmlan_api::PortState::Up,
            })
        };
        guests.filter_map(port).collect()
    }
}

impl Seat {
    /// Everything that the configuration says of the uplink now, if this is an uplink's seat. To be read after
    /// [`Uplinks::register`], so that no change is missed.
    pub fn uplink(&self) -> Option<Arc<UplinkSettings>> {
        self.directory().settings(self.place())?.uplink
    }

    /// The uplinks that run.
    pub fn uplinks(&self) -> &Arc<Uplinks> {
        &self.fabric().uplinks
    }

    /// The ports of the uplink's network.
    pub fn ports(&self) -> Vec<UplinkPort> {
        self.directory().ports_of(&self.place().network)
    }

    /// Ticks when a port may have come, gone or changed. What was before the call counts as seen.
    pub fn watch_ports(&self) -> tokio::sync::watch::Receiver<u64> {
        self.directory().watch()
    }

    /// The emitter of events.
    pub fn events(&self) -> &crate::Emitter {
        self.directory().events()
    }
}
