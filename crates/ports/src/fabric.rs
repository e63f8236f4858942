//! The parts that ports are made of: the data plane, the link layer's registry and the directory.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use vmlan_dataplane::{Done, Effort, Notice, Options, Plane, Polling, PortKey, PortSetup};
use vmlan_drivers::Fault;
use vmlan_frame::{Counters, ETHERNET_HEADER, Mutex, Takes, VLAN_TAG, VlanId};
use vmlan_lan::{
    Limits, Network, PortConfig, PortError, PortPolicy, Prefix, Rate, Roles, TrunkConfig, TrunkNotice,
    TrunkPolicy, VlanRole, VlanSet,
};
use vmlan_link::{BridgeGuard, LinkOptions, Registry};

use super::directory::{Directory, Member, Place, Row, Unrest};
use super::seat::Seat;
use super::trunks::Trunks;
use super::uplinks::Uplinks;
use crate::Emitter;
use crate::filter::Rules;
use crate::interface::Shared as Interfaces;
use crate::users::{Budget, Users};
use crate::{PortSettings, StateDirectory, Vlan};

/// A fault of the attachment with that number.
pub type FaultNotice = (u64, Fault);

/// Where faults of each port go.
type Routes = Arc<Mutex<HashMap<PortKey, mpsc::UnboundedSender<FaultNotice>>>>;

/// Shared by the supervisor and the tasks that keep ports attached.
pub struct Fabric {
    plane: Mutex<Option<Plane>>,
    workers: usize,
    /// Where links come from.
    pub registry: Registry,
    /// All ports, for whoever asks.
    pub directory: Directory,
    /// The trunks of all networks, for whoever asks.
    pub trunks: Trunks,
    /// The uplinks of all networks, for whoever asks.
    pub uplinks: Arc<Uplinks>,
    routes: Routes,
    /// Everything that interface ports have together.
    pub(crate) interfaces: Arc<Interfaces>,
    /// The limits on what users of the sockets may hold.
    pub users: Arc<Users>,
    /// Counts the seconds, so that everything that looks once in a while wakes the process together.
    pub ticks: watch::Receiver<u64>,
    /// Where ports keep what outlives the daemon.
    pub(crate) state: StateDirectory,
}

/// A port that is to join a network.
pub struct Joining<'a> {
    /// The network.
    pub network: &'a Arc<Network>,
    /// Its names.
    pub place: Place,
    /// The kind of its attachment.
    pub kind: vmlan_api::PortKind,
    /// Its settings.
    pub settings: &'a PortSettings,
    /// The port whose client it is.
    pub parent: Option<String>,
    /// The budget that the port shares with other ports of its user.
    pub budget: Option<Budget>,
    /// For a trunk, what the network has to know of it.
    pub trunk: Option<JoiningTrunk>,
}

/// The parts of a trunk that its network has to know.
pub struct JoiningTrunk {
    pub policy: TrunkPolicy,
    pub notify: Arc<dyn Fn(TrunkNotice) + Send + Sync>,
}

/// Why a port could not join its network.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The network has no place for it.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The link layer has none.
    #[error("the link layer refused the port: {0}")]
    Link(#[from] vmlan_link::Error),
    /// There are no workers any more.
    #[error("the data plane has ended")]
    Ended,
}

/// The places of a joined port in every layer; all are given back when dropped.
pub struct Joined {
    fabric: Arc<Fabric>,
    pub place: Place,
    pub network: Arc<Network>,
    pub id: vmlan_lan::PortId,
    /// The network's place on the link, and the link.
    bridge: BridgeGuard,
    pub key: PortKey,
    /// Network and workers have let go of it.
    has_left: bool,
}

impl Fabric {
    /// Starts the data plane.
    pub fn start(
        workers: usize,
        events: Emitter,
        users: Arc<Users>,
        ticks: watch::Receiver<u64>,
        state: StateDirectory,
    ) -> io::Result<Arc<Fabric>> {
        let routes = Routes::default();
        let known = routes.clone();
        let notify = move |notice| match notice {
            Notice::Fault { port, attachment, fault } => {
                let routes = known.lock();
                // Without a route the port has left already.
                if let Some(route) = routes.get(&port) {
                    let _ = route.send((attachment, fault));
                }
            }
            Notice::WorkerPanicked { worker, reason } => {
                tracing::error!(
                    "worker {worker}: a bug in vmlan: {reason}; please report it; the worker goes on"
                );
            }
        };
        let plane = Plane::start(Options { workers, ..Options::default() }, notify)?;
        Ok(Arc::new(Fabric {
            workers: plane.workers(),
            plane: Mutex::new(Some(plane)),
            registry: Registry::new(workers, std::time::SystemTime::now),
            directory: Directory::new(events),
            trunks: Trunks::default(),
            uplinks: Arc::default(),
            routes,
            interfaces: Arc::default(),
            users,
            ticks,
            state,
        }))
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Tells what each worker has done; none when the data plane has ended.
    pub fn efforts(&self) -> Vec<Effort> {
        self.with_plane(Plane::efforts).unwrap_or_default()
    }

    /// Lets the workers wait for traffic in another way.
    pub fn set_poll(&self, poll: vmlan_api::Poll) {
        let polling = match poll {
            vmlan_api::Poll::Adaptive => Polling::Adaptive,
            vmlan_api::Poll::Busy => Polling::Busy,
            vmlan_api::Poll::Sleep => Polling::Sleep,
        };
        self.with_plane(|plane| plane.set_polling(polling));
    }

    /// Ends the data plane after what waits was sent, or after `patience`.
    pub fn stop(&self, patience: std::time::Duration) {
        let plane = self.plane.lock().take();
        if let Some(plane) = plane {
            plane.stop(patience);
        }
    }

    /// Does `work` with the data plane; `None` when that has ended.
    pub fn with_plane<T>(&self, work: impl FnOnce(&Plane) -> T) -> Option<T> {
        self.plane.lock().as_ref().map(work)
    }

    /// Has everything that the kernel carried past the workers counted by its ports; to be called before counters are
    /// read.
    pub fn count(&self) {
        self.interfaces.count();
    }

    /// Returns when no frame passes the workers any more by something that was withdrawn before the call: a rule or a
    /// capture that was attached sees every frame from then on. Waits for some ten milliseconds, where there is
    /// something to wait for.
    pub fn settle(&self) {
        self.interfaces.settle();
    }

    /// Goes by the name `daemon` from now on, under which the kernel keeps what it carries when this process is killed,
    /// and takes over what an earlier process of that name left for these interface ports, each with its network. What
    /// it left for others is removed. To be called before a port joins.
    pub fn take_over(&self, daemon: &str, ports: &BTreeSet<(String, String)>) {
        self.interfaces.take_over(daemon, ports);
    }

    /// Tells what the kernel carries of a port, when that is an interface port or a trunk beside some.
    pub fn fast(&self, network: &Arc<Network>, id: vmlan_lan::PortId) -> Option<vmlan_api::PortFast> {
        self.interfaces.report(network, id)
    }

    /// Returns the addresses of a network whose frames the kernel carries.
    pub fn fast_stations(&self, network: &Arc<Network>) -> BTreeSet<(vmlan_frame::MacAddr, Option<VlanId>)> {
        self.interfaces.stations(network)
    }

    /// Makes a port in every layer. It is not attached to anything yet.
    pub fn join(self: &Arc<Self>, joining: Joining<'_>) -> Result<Seat, JoinError> {
        let Joining { network, place, kind, settings, parent, budget, trunk } = joining;
        let (group, share) = budget.map(|Budget { group, share }| (group, share)).unzip();
        let mtu = network.mtu();
        let bridge = attach_link(&self.registry, &place, mtu)?;
        let link = bridge.link().clone();
        let account = link.account();
        let added = match trunk {
            None => {
                let config = PortConfig::with(&place.port, port_policy(settings), account);
                network.add_port(PortConfig { group, ..config })
            }
            Some(JoiningTrunk { policy, notify }) => {
                network.add_trunk(TrunkConfig { name: place.port.clone(), policy, notify, account })
            }
        };
        let id = match added {
            Ok(id) => id,
            Err(error) => {
                detach_link(&bridge);
                return Err(error.into());
            }
        };
        let (sender, faults) = mpsc::unbounded_channel();
        let longest = mtu + ETHERNET_HEADER + VLAN_TAG;
        let setup = PortSetup {
            network: network.clone(),
            id,
            link: link.clone(),
            backlog: settings.queue,
            share,
            longest,
        };
        let key = self.with_plane(|plane| plane.add_port(&setup));
        let Some(key) = key else {
            network.remove_port(id);
            detach_link(&bridge);
            return Err(JoinError::Ended);
        };
        let joined = Joined {
            fabric: self.clone(),
            place: place.clone(),
            network: network.clone(),
            id,
            bridge,
            key,
            has_left: false,
        };
        for (mac, vlan) in &settings.static_entries {
            network.add_static(*mac, *vlan, id)?;
        }
        self.routes.lock().insert(key, sender);
        let rules = Some(Rules::new(link.clone()));
        let member = Some(Member { network: network.clone(), id, link });
        let (state, reason) = (vmlan_api::PortState::Waiting, None);
        self.directory.insert(
            &place,
            Row {
                kind,
                state,
                address: None,
                reason,
                unrest: Unrest::default(),
                peer: None,
                endpoint: None,
                settings: settings.clone(),
                mtu,
                member,
                parent,
                rules,
            },
        );
        Ok(Seat::new(self.clone(), joined, faults))
    }
}

impl Joined {
    pub fn counters(&self) -> Arc<Counters> {
        self.bridge.link().counters().clone()
    }

    /// The port's link.
    #[cfg(all(target_os = "linux", feature = "netlink"))]
    pub fn link(&self) -> &vmlan_link::Link {
        self.bridge.link()
    }

    /// Gives everything back, and answers when no worker holds any of it.
    pub async fn leave(mut self) {
        let _ = self.let_go().await;
        // The directory forgets it last: who sees that it is gone finds its place and its number free.
        drop(self);
    }

    /// Has network and workers let go of it; tells when they have.
    fn let_go(&mut self) -> oneshot::Receiver<()> {
        let (done, wait) = done();
        self.has_left = true;
        // The network stops sending to it first, so that nothing is on its way when the workers forget it.
        self.network.remove_port(self.id);
        self.fabric.with_plane(|plane| plane.remove_port(self.key, done));
        wait
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if !self.has_left {
            // Nobody waits for it.
            drop(self.let_go());
        }
        self.fabric.routes.lock().remove(&self.key);
        detach_link(&self.bridge);
        self.fabric.directory.remove(&self.place);
    }
}

/// Something for the data plane to hold until it is done, and a way to wait for that.
pub fn done() -> (Done, oneshot::Receiver<()>) {
    let (sender, receiver) = oneshot::channel();
    let tell = move || {
        // Nobody has to wait for it.
        let _ = sender.send(());
    };
    (Done::new(tell), receiver)
}

/// The network's view of a port's settings.
pub fn port_policy(settings: &PortSettings) -> PortPolicy {
    PortPolicy {
        macs: settings.mac.clone(),
        guard: settings.guard,
        vlan: vlan_role(&settings.vlan),
        promiscuous: settings.promiscuous,
        sees_trunk: settings.sees_trunk,
        limits: Limits {
            storm: (settings.storm > 0).then(|| Rate::frames(settings.storm)),
            copies: (settings.copies > 0).then(|| Rate::copies(settings.copies)),
            // A million bits.
            rate: settings.rate.map(|rate| Rate::octets(rate * 125_000)),
        },
        enabled: settings.enabled,
        isolated: settings.isolated,
        roles: Roles { dhcp: settings.roles.contains(&vmlan_api::Role::Dhcp) },
        floating: settings.floating.iter().map(|of| Prefix { address: of.address, len: of.prefix }).collect(),
        quota: settings.quota,
        fast: settings.fast,
    }
}

/// The network's view of a role in VLANs.
pub fn vlan_role(vlan: &Vlan) -> VlanRole {
    match vlan {
        Vlan::None => VlanRole::Unset,
        Vlan::Access(vlan) => VlanRole::Access(*vlan),
        Vlan::Trunk { allowed, native } => {
            VlanRole::Trunk { allowed: VlanSet::from_iter(allowed.iter().copied()), native: *native }
        }
    }
}

/// A link for a port, attached, with the network behind its filters. A port that was there before has the link again
/// that it had, with its number, unless somebody still holds that.
fn attach_link(registry: &Registry, place: &Place, mtu: usize) -> Result<BridgeGuard, vmlan_link::Error> {
    let mtu = vmlan_link::Mtu::new(mtu as u64).expect("the configuration's range is the same");
    // The workers bring every frame into the form that the port's medium takes.
    let capabilities = Takes::ALL;
    let options = LinkOptions {
        mtu,
        capabilities,
        // The interface shows what is counted by class.
        classifies: true,
        ..LinkOptions::ethernet("port").expect("a good name")
    };
    let known = LinkOptions { unique_id: Some(place.to_string().into_bytes()), ..options.clone() };
    let link = match registry.acquire(known) {
        Err(vmlan_link::Error::Busy | vmlan_link::Error::InvalidArgument) => registry.acquire(options)?,
        link => link?,
    };
    link.attach(Arc::new(()), None)?;
    link.attach_bridge()
}

fn detach_link(bridge: &BridgeGuard) {
    // Fails when it is detached already, which is what is wanted.
    let _ = bridge.link().detach();
}
