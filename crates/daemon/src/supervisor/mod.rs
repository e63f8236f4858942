//! The supervisor: owns what runs, carries out plans, and answers requests.
//!
//! Theory of operation. One task owns the networks and a handle to the task of every port (`attach`). It
//! compares the configuration that runs with the one that is wanted ([`crate::plan`]) and carries out the actions in
//! their order. An action is done as a whole or not at all; one that fails says why in the report and keeps no other
//! from being done. A port that could not be set up stays, says why, and is tried again by its own task.
//!
//! Once a second, the networks age their addresses, what they learnt becomes events, and everything else that looks
//! once in a while is woken with it, so that an idle daemon wakes once a second and no more.

mod apply;
mod uplinks;
mod view;
mod warn;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use vmlan_api::{Error, ErrorCode, EventKind};
use vmlan_drivers::inject;
use vmlan_lan::Network;

use apply::Steps;
use view::View;
use vmlan_ports::{Emitter, Fabric, Place, StateDirectory, follow_links};

use crate::config::{self, Belonging, Change, ValidConfig};
use crate::handle::{Reply, Request, Requests};
use crate::listeners::Listeners;
use crate::plan::plan;
use vmlan_ports::panics::{self, caught};

/// How long frames that wait may take when the daemon ends.
const DRAIN: Duration = Duration::from_secs(1);

/// The supervisor of all that runs: the networks, their ports and their trunks.
pub struct Supervisor {
    requests: Requests,
    fabric: Arc<Fabric>,
    networks: BTreeMap<String, Running>,
    departures: Vec<Departure>,
    config: ValidConfig,
    file: Option<PathBuf>,
    ticks: watch::Sender<u64>,
    /// The same for whoever asks.
    view: Arc<View>,
    /// Where metrics and the web page are served.
    listeners: Listeners,
}

/// A network that runs.
struct Running {
    network: Arc<Network>,
    ports: BTreeMap<String, Task>,
    trunk: Option<Task>,
}

/// The task that keeps a port attached.
struct Task {
    place: Place,
    stop: oneshot::Sender<()>,
    /// Word that the port is out of every layer, where the task may have something to do afterwards, and its end then.
    leaves: Option<(oneshot::Receiver<()>, watch::Receiver<()>)>,
    task: JoinHandle<()>,
}

impl Task {
    /// Ends the task; answers when the port is out of every layer, with what is left to do.
    async fn end(self) -> Option<Leaving> {
        self.stop().await
    }

    /// Stops the task now; what it answers waits until the port is out of every layer.
    fn stop(self) -> impl Future<Output = Option<Leaving>> {
        // An error: it has ended already.
        let _ = self.stop.send(());
        let (place, leaves, task) = (self.place, self.leaves, self.task);
        async move {
            let Some((left, done)) = leaves else {
                end_of(&place, task).await;
                return None;
            };
            // An error: the task failed, which its end tells.
            let _ = left.await;
            Some(Leaving { place, task, done })
        }
    }
}

/// The task of a port that has left every layer, and runs its terminate program.
struct Leaving {
    place: Place,
    task: JoinHandle<()>,
    done: watch::Receiver<()>,
}

/// A port that has left and still does something with what was its own.
struct Departure {
    belongings: Vec<Belonging>,
    leaving: Leaving,
}

async fn end_of(port: &Place, task: JoinHandle<()>) {
    if let Err(error) = task.await {
        tracing::error!(%port, "its task failed: {error}; please report it");
    }
}

/// A configuration that is being applied.
enum Applying {
    Preview(vmlan_api::ApplyReport),
    Done { steps: Steps, events: Emitter, notes: Vec<String> },
}

impl Applying {
    /// The account of it, once it is known.
    async fn finish(self) -> vmlan_api::ApplyReport {
        match self {
            Applying::Preview(report) => report,
            Applying::Done { steps, events, notes } => {
                let report = vmlan_api::ApplyReport { notes, ..steps.settle().await };
                let (actions, failed) = (report.actions.len() as u64, report.failed() as u64);
                events.emit(EventKind::Applied { actions, failed });
                report
            }
        }
    }

    /// Answers when the account is known, and keeps nobody waiting meanwhile.
    fn answer(self, reply: Reply<vmlan_api::ApplyReport>) {
        // Whoever asked may have gone.
        tokio::spawn(async move { reply.send(Ok(self.finish().await)) });
    }
}

impl Supervisor {
    /// Starts the data plane, for `workers` workers, with nothing to do yet. `file` is what a reload reads; what
    /// outlives the daemon is kept in `state`.
    ///
    /// # Errors
    /// No threads, descriptors or memory.
    pub fn start(
        requests: Requests,
        workers: NonZeroUsize,
        file: Option<PathBuf>,
        state: StateDirectory,
    ) -> std::io::Result<Supervisor> {
        let (ticks, ticked) = watch::channel(0);
        let users = requests.users().clone();
        let fabric = Fabric::start(workers.get(), requests.emitter(), users, ticked, state)?;
        let view = Arc::new(View::new(fabric.clone(), file.clone()));
        let listeners = Listeners::new(view.listeners.clone());
        Ok(Supervisor {
            requests,
            fabric,
            networks: BTreeMap::new(),
            departures: Vec::new(),
            config: ValidConfig::empty_for(workers),
            file,
            ticks,
            view,
            listeners,
        })
    }

    /// Names the control socket of this daemon, which its web page asks. To be called before a configuration is
    /// applied.
    pub fn set_control(&mut self, control: &Path) {
        self.listeners.set_control(control);
    }

    /// Has the kernel keep what it carries of interface ports when this process is killed, for the next one with this
    /// control socket; and takes over what the last one left for the ports of `config`. To be called before that is
    /// applied.
    pub fn take_over(&self, control: &Path, config: &ValidConfig) {
        let ports = config.networks().iter().flat_map(|(network, of_it)| {
            let is_interface =
                |port: &&String| of_it.ports[*port].attachment.kind() == vmlan_api::PortKind::Interface;
            of_it.ports.keys().filter(is_interface).map(|port| (network.clone(), port.clone()))
        });
        // It is found again whatever way leads to it.
        let directory = control.parent().and_then(|directory| directory.canonicalize().ok());
        let control = match (directory, control.file_name()) {
            (Some(directory), Some(name)) => directory.join(name),
            _ => control.to_owned(),
        };
        self.fabric.take_over(&control.to_string_lossy(), &ports.collect());
    }

    /// Answers requests until it is asked to end, and then ends everything in order.
    pub async fn run(mut self) {
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let queries = self.requests.take_queries();
        let answers = tokio::spawn(view::serve(self.view.clone(), queries));
        let links = tokio::spawn(follow_links(self.fabric.clone(), self.requests.emitter()));
        loop {
            tokio::select! {
                request = self.requests.next() => match request {
                    Some(Request::Shutdown(reply)) => {
                        // Whoever asked may have gone, here and below.
                        let _ = reply.send(Ok(()));
                        break;
                    }
                    Some(request) => {
                        // Whoever asked gets no answer, which says as much.
                        if let Err(panic) = caught(self.answer(request)).await {
                            tracing::error!("a request was not carried out: {panic}");
                        }
                    }
                    None => break,
                },
                _ = second.tick() => {
                    if let Err(panic) = panics::catch(|| self.tick()) {
                        tracing::error!("what is done once a second was not done: {panic}");
                    }
                    self.forget_departures().await;
                }
            }
        }
        self.end().await;
        answers.abort();
        links.abort();
    }

    async fn end(&mut self) {
        self.view.set_state(vmlan_api::DaemonState::Stopping);
        self.listeners.stop().await;
        self.farewell(None).await;
        let fabric = self.fabric.clone();
        // Frames that wait are sent while the ports are still there.
        let drained = tokio::task::spawn_blocking(move || fabric.stop(DRAIN));
        if let Err(error) = drained.await {
            tracing::error!("the data plane did not end in order: {error}");
        }
        self.release_descriptors(&ValidConfig::empty());
        let mut ports = Vec::new();
        for running in std::mem::take(&mut self.networks).into_values() {
            // The trunk first: what it diverts has nobody to go to.
            if let Some(trunk) = running.trunk {
                trunk.end().await;
            }
            // All are stopped before one is waited for, so that their programs run side by side.
            ports.extend(running.ports.into_values().map(Task::stop));
        }
        let mut leaving: Vec<Leaving> =
            std::mem::take(&mut self.departures).into_iter().map(|gone| gone.leaving).collect();
        for port in ports {
            leaving.extend(port.await);
        }
        for Leaving { place, task, .. } in leaving {
            end_of(&place, task).await;
        }
    }

    /// Has the uplink of a network, or those of all, tell its guests that it ends; for a moment.
    async fn farewell(&self, network: Option<&str>) {
        let uplinks = self.fabric.uplinks.list(network);
        let all = async {
            for (_, uplink) in uplinks {
                uplink.farewell().await;
            }
        };
        // One that does not answer is not waited for: its guests find out by themselves.
        let _ = timeout(DRAIN, all).await;
    }

    /// Closes the inherited descriptors that the running configuration names and `config` does not, so that what is at
    /// their other ends sees it when the ports close theirs.
    fn release_descriptors(&self, config: &ValidConfig) {
        for number in self.config.descriptors().difference(&config.descriptors()) {
            vmlan_sys::disinherit(*number);
        }
    }

    /// Forgets the ports that have left and are done.
    async fn forget_departures(&mut self) {
        let (done, left) = std::mem::take(&mut self.departures)
            .into_iter()
            .partition(|departure| departure.leaving.task.is_finished());
        self.departures = left;
        let done: Vec<Departure> = done;
        for departure in done {
            let Leaving { place, task, .. } = departure.leaving;
            end_of(&place, task).await;
        }
    }

    async fn answer(&mut self, request: Request) {
        inject::panic_at(|| "request".to_owned());
        match request {
            // Only before it answers them beside what it does.
            Request::Query(query) => self.view.answer(query),
            Request::Apply { config, dry_run, reply } => self.begin_all(*config, dry_run).await.answer(reply),
            Request::Reload { dry_run, reply } => match self.reload(dry_run).await {
                Ok(applying) => applying.answer(reply),
                Err(error) => drop(reply.send(Err(error))),
            },
            Request::Change { change, dry_run, reply } => self.change(change, dry_run, reply).await,
            Request::Shutdown(_) => unreachable!("taken by the loop"),
        }
    }

    /// Makes the changed configuration run, unless it has faults. A filter may take its time to be compiled.
    async fn change(&mut self, change: Change, dry_run: bool, reply: Reply<vmlan_api::ApplyReport>) {
        let config = self.config.clone();
        // Whoever asked may have gone.
        match tokio::task::spawn_blocking(move || change.apply(&config)).await {
            Ok(Ok(config)) => {
                let known = config::notes(&self.config);
                let notes = config::notes(&config).into_iter().filter(|note| !known.contains(note)).collect();
                self.begin(config, dry_run, notes).await.answer(reply);
            }
            Ok(Err(faults)) => drop(reply.send(Err(Error::from_faults(faults)))),
            Err(error) => drop(reply.send(Err(Error::new(ErrorCode::Internal, error.to_string())))),
        }
    }

    async fn reload(&mut self, dry_run: bool) -> Result<Applying, Error> {
        let Some(file) = self.file.clone() else {
            let message = "vmlan runs without a configuration file; apply one with `vmlan apply FILE`";
            return Err(Error::new(ErrorCode::NoConfigFile, message));
        };
        let loaded = tokio::task::spawn_blocking(move || config::load(&file)).await;
        match loaded.map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))? {
            Ok(config) => Ok(self.begin_all(config, dry_run).await),
            Err(errors) => {
                // The old configuration stays; the log says where the new one is wrong, for who sent only a signal.
                tracing::error!(owner = true, "the configuration stays as it is:");
                for line in errors.to_string().lines() {
                    tracing::error!(owner = true, "{line}");
                }
                Err(errors.to_api())
            }
        }
    }

    /// Makes `config` run, or tells what would be done.
    pub async fn apply(&mut self, config: ValidConfig, dry_run: bool) -> vmlan_api::ApplyReport {
        self.begin_all(config, dry_run).await.finish().await
    }

    /// Begins with a configuration that was written as a whole, all of whose notes are worth telling.
    async fn begin_all(&mut self, config: ValidConfig, dry_run: bool) -> Applying {
        let notes = config::notes(&config);
        self.begin(config, dry_run, notes).await
    }

    /// Does what there is to do for `config`; its ports may still be being set up afterwards.
    async fn begin(&mut self, config: ValidConfig, dry_run: bool, notes: Vec<String>) -> Applying {
        let plan = plan(&self.config, &config);
        if dry_run {
            return Applying::Preview(vmlan_api::ApplyReport { notes, ..plan.preview() });
        }
        self.release_descriptors(&config);
        let steps = self.carry_out(plan).await;
        self.config = config;
        self.view.set_config(self.config.as_api().clone());
        Applying::Done { steps, events: self.requests.emitter(), notes }
    }

    /// Does the work that is due once a second.
    fn tick(&mut self) {
        self.ticks.send_modify(|count| *count += 1);
        inject::panic_at(|| "tick".to_owned());
        let now = now();
        for (name, running) in &self.networks {
            running.network.age(now);
            let happened = running.network.events();
            if !happened.events.is_empty() {
                self.tell(name, &running.network, happened.events);
            }
            if happened.lost > 0 {
                self.requests.emit(EventKind::Lost { count: happened.lost });
            }
        }
    }

    fn tell(&self, name: &str, network: &Arc<Network>, events: Vec<vmlan_lan::Event>) {
        let names = self.fabric.directory.names(network);
        let port_of = |id| names.get(&id).cloned();
        for event in events {
            let network = name.to_owned();
            let number = |vlan: Option<vmlan_frame::VlanId>| vlan.map(|vlan| u64::from(vlan.get()));
            let told = match event {
                vmlan_lan::Event::Learnt { mac, vlan, port } => {
                    let (mac, vlan) = (mac.to_string(), number(vlan));
                    port_of(port).map(|port| EventKind::MacLearnt { network, port, mac, vlan })
                }
                vmlan_lan::Event::Moved { mac, vlan, from, to } => {
                    port_of(to).zip(port_of(from)).map(|(port, from)| EventKind::MacMoved {
                        network,
                        from,
                        port,
                        mac: mac.to_string(),
                        vlan: number(vlan),
                    })
                }
                vmlan_lan::Event::Contested { mac, vlan, port, claimant } => {
                    port_of(port).zip(port_of(claimant)).map(|(port, claimant)| {
                        let (mac, vlan) = (mac.to_string(), number(vlan));
                        let told = EventKind::MacContested { network, port, claimant, mac, vlan };
                        warn::of_contest(&told);
                        told
                    })
                }
                vmlan_lan::Event::Conflict { port, mac, address, owner } => {
                    port_of(port).zip(port_of(owner)).map(|(port, owner)| {
                        let address = address.map(|address| address.to_string());
                        let mac = mac.to_string();
                        let told = EventKind::AddressConflict { network, port, mac, address, owner };
                        warn::of_conflict(&told);
                        told
                    })
                }
                vmlan_lan::Event::AddressMoved { address, from, to } => {
                    let (old_mac, mac) = (from.1.to_string(), to.1.to_string());
                    port_of(from.0).zip(port_of(to.0)).map(|(from, port)| {
                        let address = address.to_string();
                        EventKind::AddressMoved { network, address, from, old_mac, port, mac }
                    })
                }
                vmlan_lan::Event::QuotaReached { port } => {
                    warn::of_quota(name, port_of(port));
                    None
                }
                vmlan_lan::Event::Expired { .. } | vmlan_lan::Event::Evicted { .. } => None,
            };
            if let Some(told) = told {
                self.requests.emit(told);
            }
        }
    }
}

fn now() -> vmlan_frame::Instant {
    vmlan_frame::Instant::from_nanos(vmlan_sys::monotonic_nanos())
}

/// The place of a port.
fn place(network: &str, port: &str) -> Place {
    Place { network: network.to_owned(), port: port.to_owned() }
}
