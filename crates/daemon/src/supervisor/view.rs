//! Answers to questions about the running daemon. An answer waits for no change that is being carried out: it shows the
//! state at that moment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use vmlan_api::{Error, PortKind};
use vmlan_drivers::inject;
use vmlan_frame::Mutex;
use vmlan_lan::Network;

use super::now;
use super::uplinks::{name_ports, name_stations};
use crate::config::NetworkSettings;
use crate::handle::{Queries, Query, Reply};
use crate::listeners;
use crate::metrics::{self, Facts, Format, NetworkFacts, PortFacts};
use vmlan_ports::panics;
use vmlan_ports::{Fabric, Place, Row};

/// The state that the supervisor shows, besides what ports and trunks write down themselves.
pub(super) struct View {
    pub(super) fabric: Arc<Fabric>,
    file: Option<PathBuf>,
    started: Instant,
    started_at: Duration,
    /// The daemon's own sockets.
    pub(super) listeners: Arc<listeners::Shown>,
    shown: Mutex<Shown>,
}

pub(super) struct Shown {
    networks: BTreeMap<String, Running>,
    state: vmlan_api::DaemonState,
    pub(super) config: Arc<vmlan_api::Config>,
}

#[derive(Clone)]
pub(super) struct Running {
    settings: NetworkSettings,
    network: Arc<Network>,
}

/// Answers until the last handle is gone.
pub(super) async fn serve(view: Arc<View>, mut queries: Queries) {
    while let Some(query) = queries.next().await {
        // Whoever asked gets no answer, which says as much.
        if let Err(panic) = panics::catch(|| view.answer(query)) {
            tracing::error!("a request was not carried out: {panic}");
        }
    }
}

impl View {
    pub(super) fn new(fabric: Arc<Fabric>, file: Option<PathBuf>) -> View {
        let shown = Shown {
            networks: BTreeMap::new(),
            state: vmlan_api::DaemonState::Running,
            config: Arc::default(),
        };
        // A clock that is set before 1970 tells nothing.
        let started_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        View {
            fabric,
            file,
            started: Instant::now(),
            started_at,
            listeners: Arc::default(),
            shown: Mutex::new(shown),
        }
    }

    /// Shows a network as it is from now on.
    pub(super) fn show(&self, name: &str, settings: &NetworkSettings, network: &Arc<Network>) {
        let running = Running { settings: settings.clone(), network: network.clone() };
        self.shown().networks.insert(name.to_owned(), running);
    }

    /// Shows a network no more.
    pub(super) fn hide(&self, name: &str) {
        self.shown().networks.remove(name);
    }

    pub(super) fn set_state(&self, state: vmlan_api::DaemonState) {
        self.shown().state = state;
    }

    pub(super) fn set_config(&self, config: vmlan_api::Config) {
        self.shown().config = Arc::new(config);
    }

    /// Answers a query. Whoever asked may have gone.
    pub(super) fn answer(&self, query: Query) {
        inject::panic_at(|| "request".to_owned());
        let directory = &self.fabric.directory;
        match query {
            Query::Status(reply) => drop(reply.send(Ok(self.status()))),
            Query::Ui(reply) => drop(reply.send(self.listeners.page())),
            Query::Config(reply) => {
                let config = self.shown().config.clone();
                drop(reply.send(Ok(vmlan_api::Config::clone(&config))));
            }
            Query::Networks(reply) => drop(reply.send(Ok(self.networks()))),
            Query::Ports { network, reply } => {
                let network = network.as_deref();
                let known = network.map_or(Ok(()), |name| self.running(name).map(drop));
                self.with_guests(reply, network, known.map(|()| self.ports(network)), name_ports);
            }
            Query::Filters { network, reply } => self.list(network, reply, |of| directory.filters(of)),
            Query::Links { network, reply } => self.list(network, reply, |of| directory.links(of)),
            Query::Trunks { network, reply } => {
                self.fabric.count();
                self.list(network, reply, |of| self.fabric.trunks.list(of));
            }
            Query::Settle(reply) => {
                self.fabric.settle();
                drop(reply.send(Ok(())));
            }
            Query::Metrics(format, reply) => drop(reply.send(Ok(self.metrics(format)))),
            Query::Uplink(query) => self.about_uplinks(query),
            Query::Fdb { network, reply } => {
                self.with_guests(reply, Some(&network), self.fdb(&network), name_stations);
            }
        }
    }

    pub(super) fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock()
    }

    /// Answers with what `list` has of one network, which has to be there, or of all.
    fn list<T>(&self, network: Option<String>, reply: Reply<T>, list: impl FnOnce(Option<&str>) -> T) {
        let network = network.as_deref();
        let known = network.map_or(Ok(()), |name| self.running(name).map(drop));
        // Whoever asked may have gone.
        let _ = reply.send(known.map(|()| list(network)));
    }

    pub(super) fn running(&self, name: &str) -> Result<Running, Error> {
        let shown = self.shown();
        let running = shown.networks.get(name).cloned();
        running.ok_or_else(|| Error::unknown_network(name, shown.networks.keys().map(String::as_str)))
    }

    fn ports(&self, of: Option<&str>) -> Vec<vmlan_api::Port> {
        self.fabric.count();
        let mut ports = self.fabric.directory.ports(of);
        let is_interface = |port: &vmlan_api::Port| port.kind == PortKind::Interface;
        let with_interfaces = ports.iter().filter(|port| is_interface(port)).map(|port| port.network.clone());
        let with_interfaces = BTreeSet::from_iter(with_interfaces);
        let rows = self.fabric.directory.rows();
        let concerned = |port: &&mut vmlan_api::Port| {
            is_interface(port) || port.kind == PortKind::Trunk && with_interfaces.contains(&port.network)
        };
        for port in ports.iter_mut().filter(concerned) {
            let place = Place { network: port.network.clone(), port: port.port.clone() };
            let member = rows.get(&place).and_then(|row| row.member.as_ref());
            port.fast = member.and_then(|member| self.fabric.fast(&member.network, member.id));
            if port.fast.is_none() && port.kind == PortKind::Trunk {
                let trunks = self.fabric.trunks.list(Some(&port.network));
                let slow = trunks.first().map(why_apart);
                port.fast = Some(vmlan_api::PortFast { slow, ..vmlan_api::PortFast::default() });
            }
        }
        ports
    }

    fn status(&self) -> vmlan_api::Status {
        let ports = self.fabric.directory.rows().len() as u64;
        let shown = self.shown();
        vmlan_api::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            state: shown.state,
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            workers: self.fabric.workers() as u64,
            poll: shown.config.poll.unwrap_or_default(),
            networks: shown.networks.len() as u64,
            ports,
            config: self.file.as_ref().map(|file| file.display().to_string()),
            listeners: self.listeners.list(),
        }
    }

    /// Everything that is measured, as text. Asks no worker.
    pub(super) fn metrics(&self, format: Format) -> String {
        self.fabric.count();
        let facts = |(place, row): (&Place, &Row)| PortFacts {
            network: place.network.clone(),
            port: place.port.clone(),
            kind: row.kind,
            is_up: row.is_up(),
            unrest: row.unrest,
            traffic: row.member.as_ref().map(|member| member.link.counters().snapshot()),
        };
        let ports: Vec<PortFacts> = self.fabric.directory.rows().iter().map(facts).collect();
        let networks = self.shown().networks.clone();
        let facts = |(name, Running { settings, network }): (String, Running)| NetworkFacts {
            mtu: settings.mtu.octets(),
            ports: ports.iter().filter(|port| port.network == name).count(),
            fdb: network.fdb_tally(),
            fdb_capacity: network.fdb_capacity(),
            name,
        };
        let networks = networks.into_iter().map(facts).collect();
        let started = self.started_at;
        metrics::write(&Facts { started, networks, workers: self.fabric.efforts(), ports }, format)
    }

    fn networks(&self) -> Vec<vmlan_api::Network> {
        let ports = self.fabric.directory.ports(None);
        let networks = self.shown().networks.clone();
        let list = networks.iter().map(|(name, Running { settings, network })| {
            let own = || ports.iter().filter(|port| port.network == *name);
            vmlan_api::Network {
                network: name.clone(),
                mtu: settings.mtu.octets() as u64,
                ports: own().count() as u64,
                ports_up: own().filter(|port| port.state == vmlan_api::PortState::Up).count() as u64,
                fdb_entries: network.fdb(now()).len() as u64,
                fdb_size: network.fdb_capacity() as u64,
                fdb_ageing_seconds: settings.ageing.as_secs(),
                pass_reserved: settings.pass_reserved,
            }
        });
        list.collect()
    }

    fn fdb(&self, name: &str) -> Result<Vec<vmlan_api::FdbEntry>, Error> {
        let network = self.running(name)?.network;
        let names = self.fabric.directory.names(&network);
        let fast = self.fabric.fast_stations(&network);
        let entries = network.fdb(now()).into_iter().filter_map(|entry| {
            let in_kernel = [entry.vlan, entry.vlan.or(Some(vmlan_frame::VlanId::DEFAULT))];
            let is_static = entry.kind != vmlan_lan::EntryKind::Learnt;
            Some(vmlan_api::FdbEntry {
                mac: entry.mac.to_string(),
                vlan: entry.vlan.map(|vlan| u64::from(vlan.get())),
                port: names.get(&entry.port)?.clone(),
                is_static,
                fast: in_kernel.iter().any(|vlan| fast.contains(&(entry.mac, *vlan))),
                age_seconds: entry.age.map(|age| age.as_secs_f64()),
                addresses: Vec::new(),
                name: None,
            })
        });
        Ok(entries.collect())
    }
}

/// Why a trunk has no place among what the kernel carries.
fn why_apart(trunk: &vmlan_api::Trunk) -> String {
    if trunk.state != vmlan_api::TrunkState::Connected {
        "the trunk is not joined to its interface".to_owned()
    } else if trunk.mode != vmlan_api::TrunkMode::Filter {
        format!("the trunk is in mode {}; only with mode filter it takes part", trunk.mode.as_str())
    } else if trunk.shared_mac {
        vmlan_lan::SlowReason::SharedMac.as_str().to_owned()
    } else {
        "the trunk has not taken its part yet, or cannot: the log says why".to_owned()
    }
}
