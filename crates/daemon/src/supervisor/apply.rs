//! Carrying out a plan.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::timeout_at;
use vmlan_api::{ActionReport, ApplyReport, EventKind, Outcome};
use vmlan_lan::{FdbConfig, Network, NetworkConfig};
use vmlan_ports::{
    Belonging, Clients, Ends, Joining, Keeper, PortSettings, TRUNK, Trunk, TrunkWish, UPLINK, port_policy,
};

use super::{Departure, Running, Supervisor, Task, place};
use crate::config::{NetworkSettings, Port};
use crate::metrics::Scrape;
use crate::plan::{Action, Plan};

/// How long a report waits for ports that are being set up.
const PATIENCE: Duration = Duration::from_secs(5);

/// The outcome of an action, as far as it is known.
enum Progress {
    Done,
    Failed(String),
    SettingUp(oneshot::Receiver<Result<(), String>>),
    NeedsRestart,
}

/// Actions that were carried out, some of whose ports are still being set up.
pub(super) struct Steps {
    steps: Vec<(Action, Progress)>,
}

impl Steps {
    /// Waits, within bounds, until every port is set up or has failed, and tells what came of each action.
    ///
    /// Ports are set up side by side, and so is the wait for them; the supervisor does not wait here.
    pub(super) async fn settle(self) -> ApplyReport {
        let mut report =
            ApplyReport { dry_run: false, actions: Vec::with_capacity(self.steps.len()), notes: Vec::new() };
        let end = tokio::time::Instant::now() + PATIENCE;
        for (action, progress) in self.steps {
            let settled = match progress {
                Progress::SettingUp(ready) => match timeout_at(end, ready).await {
                    Ok(Ok(Err(reason))) => Progress::Failed(reason),
                    Ok(_) => Progress::Done,
                    Err(_) => {
                        let reason = Some("still being set up; see `vmlan ports`".to_owned());
                        report.actions.push(action.report(Outcome::Done, reason));
                        continue;
                    }
                },
                settled => settled,
            };
            report.actions.push(settled.report(&action));
        }
        report
    }
}

impl Supervisor {
    /// Carries out every action in its order.
    pub(super) async fn carry_out(&mut self, plan: Plan) -> Steps {
        let mut steps = Vec::new();
        for action in plan {
            let progress = self.act(&action).await;
            steps.push((action, progress));
        }
        self.fabric.settle();
        Steps { steps }
    }

    async fn act(&mut self, action: &Action) -> Progress {
        match action {
            Action::RemovePort { network, name } => self.remove_port(network, name).await,
            Action::RemoveNetwork { network } => self.remove_network(network),
            Action::AddNetwork { network, settings } => self.add_network(network, settings),
            Action::ChangeNetwork { network, settings } => self.change_network(network, settings).await,
            Action::AddPort { network, name, port } => self.add_port(network, name, port),
            Action::ReplacePort { network, name, port, .. } => {
                self.remove_port(network, name).await;
                self.add_port(network, name, port)
            }
            Action::ChangePort { network, name, settings } => self.change_port(network, name, settings).await,
            Action::RemoveTrunk { network } => self.remove_trunk(network).await,
            Action::ReplaceTrunk { network, trunk } => {
                self.remove_trunk(network).await;
                self.add_trunk(network, trunk)
            }
            Action::AddTrunk { network, trunk } => self.add_trunk(network, trunk),
            Action::SetWorkers { .. } => Progress::NeedsRestart,
            Action::SetLimits { limits } => {
                self.fabric.users.set(limits.clone());
                Progress::Done
            }
            Action::SetMetrics { address } => {
                let view = self.view.clone();
                let scrape: Scrape = Arc::new(move |format| view.metrics(format));
                match self.listeners.set_metrics(*address, scrape).await {
                    Ok(()) => Progress::Done,
                    Err(reason) => Progress::Failed(reason),
                }
            }
            Action::SetUi { page } => match self.listeners.set_page(*page).await {
                Ok(()) => Progress::Done,
                Err(reason) => Progress::Failed(reason),
            },
            Action::SetPoll { poll } => {
                self.fabric.set_poll(*poll);
                Progress::Done
            }
        }
    }

    fn add_network(&mut self, name: &str, settings: &NetworkSettings) -> Progress {
        let network = make_network(name, settings);
        self.view.show(name, settings, &network);
        let running = Running { network, ports: Default::default(), trunk: None };
        self.networks.insert(name.to_owned(), running);
        self.requests.emit(EventKind::NetworkAdded { network: name.to_owned() });
        Progress::Done
    }

    fn remove_network(&mut self, name: &str) -> Progress {
        self.networks.remove(name);
        self.view.hide(name);
        self.requests.emit(EventKind::NetworkRemoved { network: name.to_owned() });
        Progress::Done
    }

    /// A network's settings are fixed for its life: it is made anew, and its ports join the new one.
    async fn change_network(&mut self, name: &str, settings: &NetworkSettings) -> Progress {
        self.remove_trunk(name).await;
        let Some(running) = self.networks.get_mut(name) else { return Progress::Done };
        let ports: Vec<String> = running.ports.keys().cloned().collect();
        for port in &ports {
            self.remove_port(name, port).await;
        }
        if let Some(running) = self.networks.get_mut(name) {
            running.network = make_network(name, settings);
            self.view.show(name, settings, &running.network);
        }
        let trunk = self.config.network(name).and_then(|network| network.trunk.clone());
        if let Some(trunk) = trunk {
            self.add_trunk(name, &trunk);
        }
        for port in &ports {
            if let Some(settings) = self.config.port(name, port).cloned() {
                self.add_port(name, port, &settings);
            }
        }
        Progress::Done
    }

    fn add_port(&mut self, network_name: &str, name: &str, port: &Port) -> Progress {
        let Some(running) = self.networks.get_mut(network_name) else {
            return Progress::Failed(format!("there is no network {network_name}"));
        };
        let (stop, stopped) = oneshot::channel();
        let (ready, setting_up) = oneshot::channel();
        let place = place(network_name, name);
        let network = &running.network;
        let (kind, address) = (port.attachment.kind(), port.attachment.address());
        let belongings: Vec<Belonging> =
            port.attachment.belongings().into_iter().map(|(belonging, _)| belonging).collect();
        let mut leaves = None;
        let task = match port.attachment.keeper() {
            Keeper::Clients(keeper) => {
                let (fabric, settings) = (self.fabric.clone(), port.settings.clone());
                let clients = Clients::new(fabric, network.clone(), (place.clone(), kind), settings, ready);
                self.fabric.directory.set_address(&place, address);
                tokio::spawn(vmlan_ports::run_clients(clients, keeper, stopped))
            }
            Keeper::Guest(keeper) => {
                let joining = Joining {
                    network,
                    place: place.clone(),
                    kind,
                    settings: &port.settings,
                    parent: None,
                    budget: None,
                    trunk: None,
                };
                let mut seat = match self.fabric.join(joining) {
                    Ok(seat) => seat,
                    Err(error) => return Progress::Failed(error.to_string()),
                };
                self.fabric.directory.set_address(&place, address);
                seat.tell_when_ready(ready);
                let before = self.departures.iter().filter(|departure| {
                    departure.leaving.place == place
                        || departure.belongings.iter().any(|belonging| belongings.contains(belonging))
                });
                let before = before.map(|departure| departure.leaving.done.clone()).collect();
                let (left, leaving) = oneshot::channel();
                let (done, is_done) = watch::channel(());
                leaves = Some((leaving, is_done));
                let ends = Ends { stop: stopped, left, done, before };
                tokio::spawn(vmlan_ports::run(seat, keeper, ends))
            }
        };
        running.ports.insert(name.to_owned(), Task { place, stop, leaves, task });
        Progress::SettingUp(setting_up)
    }

    fn add_trunk(&mut self, network: &str, trunk: &Trunk) -> Progress {
        let Some(running) = self.networks.get_mut(network) else {
            return Progress::Failed(format!("there is no network {network}"));
        };
        let wish = Arc::new(TrunkWish::default());
        let mut seat = match self.fabric.join_trunk(&running.network, network, trunk, wish.clone()) {
            Ok(seat) => seat,
            Err(error) => return Progress::Failed(error.to_string()),
        };
        let (stop, stopped) = oneshot::channel();
        let (ready, setting_up) = oneshot::channel();
        seat.tell_when_ready(ready);
        let task = tokio::spawn(vmlan_ports::run_trunk(seat, trunk.clone(), wish, stopped));
        running.trunk = Some(Task { place: place(network, TRUNK), stop, leaves: None, task });
        Progress::SettingUp(setting_up)
    }

    async fn remove_trunk(&mut self, network: &str) -> Progress {
        let task = self.networks.get_mut(network).and_then(|running| running.trunk.take());
        if let Some(task) = task {
            task.end().await;
            self.fabric.trunks.remove(network);
        }
        Progress::Done
    }

    async fn remove_port(&mut self, network: &str, name: &str) -> Progress {
        if name == UPLINK {
            self.farewell(Some(network)).await;
        }
        let task = self.networks.get_mut(network).and_then(|running| running.ports.remove(name));
        if let Some(task) = task
            && let Some(leaving) = task.end().await
        {
            let attachment = self.config.port(network, name).map(|port| &port.attachment);
            let belongings = attachment.map(|attachment| attachment.belongings()).unwrap_or_default();
            let belongings = belongings.into_iter().map(|(belonging, _)| belonging).collect();
            self.departures.push(Departure { belongings, leaving });
        }
        Progress::Done
    }

    /// Gives a port, and its clients, other settings; another attachment as well where that depends on them.
    async fn change_port(&mut self, network: &str, name: &str, settings: &PortSettings) -> Progress {
        let place = place(network, name);
        let attachment = self.config.port(network, name).map(|port| port.attachment.clone());
        if let (Some(attachment), Some(old)) = (attachment, self.fabric.directory.settings(&place))
            && attachment.depends_on(&old, settings)
        {
            self.remove_port(network, name).await;
            return self.add_port(network, name, &Port { attachment, settings: settings.clone() });
        }
        for place in self.fabric.directory.family(&place) {
            let member = self
                .fabric
                .directory
                .rows()
                .get(&place)
                .map(|row| (row.member.clone(), row.settings.clone()));
            let Some((member, old)) = member else { continue };
            if let Some(member) = &member {
                if let Err(error) = member.network.update_port(member.id, port_policy(settings)) {
                    return Progress::Failed(error.to_string());
                }
                for (mac, vlan) in old.static_entries.difference(&settings.static_entries) {
                    member.network.remove_static(*mac, *vlan);
                }
                for (mac, vlan) in settings.static_entries.difference(&old.static_entries) {
                    if let Err(error) = member.network.add_static(*mac, *vlan, member.id) {
                        return Progress::Failed(error.to_string());
                    }
                }
            }
            self.fabric.directory.set_settings(&place, settings.clone());
            if let Some(uplink) =
                settings.uplink.as_ref().filter(|uplink| old.uplink.as_ref() != Some(*uplink))
                && let Some(running) = self.fabric.uplinks.get(network)
            {
                let (done, changed) = oneshot::channel();
                running.change(uplink.clone(), done);
                return Progress::SettingUp(changed);
            }
        }
        Progress::Done
    }
}

impl Progress {
    fn report(self, action: &Action) -> ActionReport {
        match self {
            Progress::Done | Progress::SettingUp(_) => action.report(Outcome::Done, None),
            Progress::Failed(reason) => action.report(Outcome::Failed, Some(reason)),
            Progress::NeedsRestart => action.report(
                Outcome::NeedsRestart,
                Some("the number of workers changes when vmlan is started again".into()),
            ),
        }
    }
}

fn make_network(name: &str, settings: &NetworkSettings) -> std::sync::Arc<Network> {
    // Keyed by the system's randomness, so that nobody can choose addresses that collide.
    let seed = [RandomState::new().hash_one(0), RandomState::new().hash_one(1)];
    Network::new(NetworkConfig {
        name: name.to_owned(),
        mtu: settings.mtu.octets(),
        fdb: FdbConfig { size: settings.fdb_size, ageing: settings.ageing, seed },
        pass_reserved: settings.pass_reserved,
    })
}
