//! The checked form of a configuration: what the rest of the daemon acts on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::RawFd;
use std::time::Duration;

use vmlan_ports::{Attachment, Mtu, PortSettings, Trunk, UserLimits};

/// A configuration that passed every check; there is no other way to get one.
///
/// Paths in it are absolute, users resolved, and no two ports have the same device, socket or descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidConfig {
    pub(super) source: vmlan_api::Config,
    pub(super) workers: NonZeroUsize,
    pub(super) poll: vmlan_api::Poll,
    pub(super) limits: UserLimits,
    pub(super) metrics: Option<SocketAddr>,
    pub(super) ui: Option<WebPage>,
    pub(super) networks: BTreeMap<String, Network>,
    /// Notes on what is no fault.
    pub(super) notes: Vec<String>,
}

impl ValidConfig {
    /// The configuration of nothing.
    pub fn empty() -> Self {
        Self::empty_for(NonZeroUsize::MIN)
    }

    /// The configuration of nothing, for so many workers.
    pub fn empty_for(workers: NonZeroUsize) -> Self {
        let source =
            vmlan_api::Config { workers: Some(workers.get() as u64), ..vmlan_api::Config::default() };
        Self {
            source,
            workers,
            poll: vmlan_api::Poll::default(),
            limits: UserLimits::default(),
            metrics: None,
            ui: None,
            networks: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    /// Worker threads of the data plane.
    pub fn workers(&self) -> NonZeroUsize {
        self.workers
    }

    /// How workers wait for traffic.
    pub fn poll(&self) -> vmlan_api::Poll {
        self.poll
    }

    /// Limits for one user of the sockets.
    pub fn limits(&self) -> &UserLimits {
        &self.limits
    }

    /// The address at which metrics are served, where they are.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// The web page, where one is served.
    pub fn ui(&self) -> Option<WebPage> {
        self.ui
    }

    /// The networks by name.
    pub fn networks(&self) -> &BTreeMap<String, Network> {
        &self.networks
    }

    /// One network.
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.get(name)
    }

    /// One port.
    pub fn port(&self, network: &str, name: &str) -> Option<&Port> {
        self.network(network)?.ports.get(name)
    }

    /// The numbers of the inherited descriptors.
    pub(crate) fn descriptors(&self) -> BTreeSet<RawFd> {
        let ports = self.networks.values().flat_map(|network| network.ports.values());
        ports.flat_map(|port| port.attachment.descriptors()).collect()
    }

    /// The unchecked form that this was made of, with paths made absolute: to be sent, stored or changed.
    pub fn as_api(&self) -> &vmlan_api::Config {
        &self.source
    }
}

/// The web page that the daemon serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebPage {
    /// Loopback address at which it is.
    pub address: SocketAddr,
    /// True if it may change the configuration.
    pub writes: bool,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its own settings.
    pub settings: NetworkSettings,
    /// The host's interface that it is joined to.
    pub trunk: Option<Trunk>,
    /// Its ports by name.
    pub ports: BTreeMap<String, Port>,
}

/// The settings of a network as such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSettings {
    /// Largest packet.
    pub mtu: Mtu,
    /// Most addresses in the forwarding database.
    pub fdb_size: usize,
    /// Time after which an address that was not seen is forgotten.
    pub ageing: Duration,
    /// True if destinations 01-80-C2-00-00-00 to -0F are forwarded (PAUSE never is).
    pub pass_reserved: bool,
}

/// A port: what hangs on it and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// How the guest is reached; a change makes it reconnect.
    pub attachment: Attachment,
    /// Rights of the guest, which does not notice when they change.
    pub settings: PortSettings,
}
