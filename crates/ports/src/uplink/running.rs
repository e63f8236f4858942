//! A running uplink: what keeps its parts in step, and what others see of it and change.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::time::Instant;
use vmlan_api::{Error, ErrorCode, EventKind, LeaseSource, PortState, Timestamp};
use vmlan_drivers::Endpoint;
use vmlan_drivers::uplink::{Command, Uplink};
use vmlan_frame::{Mutex, wire::IpProtocol};
use vmlan_nat::Notice as EngineNotice;
use vmlan_nat::reach::Egress;
use vmlan_services::leases::{InUse, Source};
use vmlan_services::names::Learned;
use vmlan_services::{Client, Event};

use super::convert::{
    deny_silently, egress, host_services, limits, names, open_filter, service_guard, services_config,
    services_ports,
};
use super::forward::ForwardSpec;
use super::forwards::Forwards;
use super::host::HostAddresses;
use super::kernel::Kernel;
use super::notes::{Means, lacking, may_echo};
use super::services::{Handle, Notice};
use super::{Rooms, UplinkSettings, flows};
use crate::fabric::Fabric;
use crate::uplinks::{Later, UplinkControl};
use crate::{Place, Ready, Seat, UplinkPort};

/// Waits before each question after flows, from the one before: a client has set its address up in well under a second.
const ASKED_AFTER: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_millis(650), Duration::from_secs(2)];

/// Something that one part has for the others.
pub(super) enum News {
    Engine(EngineNotice),
    Services(Notice),
    Learned(Learned, Duration),
}

/// An event about the same is told once in so long.
const AGAIN: Duration = Duration::from_secs(1);

/// Events that are remembered for that at most.
const REMEMBERED: usize = 1024;

pub(super) struct Running {
    fabric: Arc<Fabric>,
    place: Place,
    /// The network, and the uplink's port in it.
    lan: (Arc<vmlan_lan::Network>, vmlan_lan::PortId),
    mtu: usize,
    rooms: Rooms,
    uplink: Arc<Uplink>,
    services: Handle,
    /// In mode `kernel`, the way out.
    kernel: Option<Kernel>,
    state: Mutex<Changing>,
    forwards: Mutex<Forwards>,
}

/// The parts that change.
struct Changing {
    settings: Arc<UplinkSettings>,
    /// The ports as they were told last.
    ports: Vec<UplinkPort>,
    ipv6_route: bool,
    notes: BTreeMap<&'static str, String>,
    /// When each event was told.
    told: BTreeMap<(u16, String), Instant>,
}

impl Running {
    pub(super) fn new(
        seat: &Seat,
        settings: Arc<UplinkSettings>,
        uplink: Arc<Uplink>,
        (services, kernel): (Handle, Option<Kernel>),
    ) -> Arc<Running> {
        let rooms = settings.rooms;
        let state = Changing {
            settings,
            ports: Vec::new(),
            ipv6_route: false,
            notes: BTreeMap::new(),
            told: BTreeMap::new(),
        };
        Arc::new(Running {
            fabric: seat.fabric().clone(),
            place: seat.place().clone(),
            lan: (seat.network().clone(), seat.id()),
            mtu: seat.mtu(),
            rooms,
            uplink,
            services,
            kernel,
            forwards: Mutex::new(Forwards::new(&seat.place().network)),
            state: Mutex::new(state),
        })
    }

    pub(super) fn endpoint(&self) -> Arc<dyn Endpoint> {
        self.uplink.clone()
    }

    /// The gateway's IPv4 address, for people.
    pub(super) fn gateway(&self) -> String {
        format!("{}/{}", self.rooms.subnet.host(1), self.rooms.subnet.prefix)
    }

    fn emit(&self, kind: EventKind) {
        self.fabric.directory.events().emit(kind);
    }

    fn network(&self) -> String {
        self.place.network.clone()
    }

    /// Tells the data path which addresses are the host's, when that has changed.
    pub(super) fn tell_host(&self, host: &mut HostAddresses) {
        match host.look() {
            Ok(None) => {}
            Ok(Some((addresses, ipv6))) => {
                self.uplink.tell(Command::HostAddresses(addresses));
                let mut state = self.state.lock();
                state.ipv6_route = ipv6;
                state.notes.remove("addresses");
            }
            Err(error) => {
                // Nothing of the host's is open by this: those that were known stay closed.
                let note = format!("the host's addresses cannot be listed: {error}");
                self.state.lock().notes.insert("addresses", note);
            }
        }
        let own = self.kernel.as_ref().map(Kernel::device);
        if let (true, overlap) = host.overlap(&self.rooms, own) {
            self.note_overlap(overlap);
        }
    }

    /// Notes that a network of the host's overlaps the guests', and logs it once.
    fn note_overlap(&self, overlap: Option<String>) {
        let notes = &mut self.state.lock().notes;
        let Some(note) = overlap else {
            notes.remove("overlap");
            return;
        };
        if notes.get("overlap") != Some(&note) {
            tracing::warn!(port = %self.place, "{note}");
            notes.insert("overlap", note);
        }
    }

    /// Brings ports, leases and forwards in step.
    ///
    /// # Errors
    /// The kernel did not take its rules.
    pub(super) async fn sync(&self) -> Result<(), String> {
        let ports = self.fabric.directory.ports_of(&self.place.network);
        let before = std::mem::replace(&mut self.state.lock().ports, ports.clone());
        if before != ports {
            for gone in &before {
                let same = |port: &&UplinkPort| port.ingress == gone.ingress && port.name == gone.name;
                if !ports.iter().any(|port| same(&port)) {
                    self.uplink.tell(Command::PortGone(gone.ingress));
                }
            }
            for port in &ports {
                let was_up = before.iter().find(|old| old.ingress == port.ingress).map(|old| old.up);
                match (was_up, port.up) {
                    (Some(true), false) => self.uplink.tell(Command::PortAway(port.ingress)),
                    (Some(false) | None, true) => self.uplink.tell(Command::PortBack(port.ingress)),
                    _ => {}
                }
                if before.iter().find(|old| old.ingress == port.ingress).map(|old| &old.egress)
                    != Some(&port.egress)
                {
                    self.uplink.tell(Command::PortEgress(port.ingress, port.egress.clone()));
                }
            }
            let set =
                ports.iter().flat_map(|port| port.addresses.iter().map(|address| (*address, port.ingress)));
            self.uplink.tell(Command::SetAddresses(set.collect()));
            self.services.ports(services_ports(&ports)).await;
        }
        let leases = self.services.leases().await;
        // Of a port that is back. What is leased later is bound by the services.
        for lease in leases.iter().filter(|lease| lease.source != Source::Static) {
            if let Some(port) = ports.iter().find(|port| port.name == lease.port && port.up) {
                self.uplink.tell(Command::Bind(lease.address, lease.mac, port.ingress));
            }
        }
        self.aim_with(&ports, &leases).await
    }

    /// Has forwards lead to their guests.
    ///
    /// # Errors
    /// The kernel did not take its rules, which is noted; the rules before hold.
    async fn aim(&self) -> Result<(), String> {
        let ports = self.state.lock().ports.clone();
        self.aim_with(&ports, &self.services.leases().await).await
    }

    async fn aim_with(&self, ports: &[UplinkPort], leases: &[InUse]) -> Result<(), String> {
        let address = |name: &str, v4: bool| {
            let port = ports.iter().find(|port| port.name == name && port.up)?;
            let set = port.addresses.iter().copied();
            let leased = leases.iter().filter(|lease| lease.port == name).map(|lease| lease.address);
            let mut all: Vec<IpAddr> = set.chain(leased).collect();
            // One of the callers' family first: the guest sees their addresses then.
            all.sort_by_key(|address| address.is_ipv4() != v4);
            all.first().copied()
        };
        self.forwards.lock().aim(&self.uplink, address);
        self.tell_kernel(ports).await
    }

    /// Has the kernel's rules be those of the settings and of the forwards.
    ///
    /// # Errors
    /// The kernel did not take them, which is noted; the rules before hold.
    async fn tell_kernel(&self, ports: &[UplinkPort]) -> Result<(), String> {
        let Some(kernel) = &self.kernel else { return Ok(()) };
        let open = self.state.lock().settings.egress.clone();
        // Of a guest that may not reach everything the driver has to know which packets are answers.
        let is_open = |name: &str| {
            let stricter = ports.iter().find(|port| port.name == name).and_then(|port| port.egress.as_ref());
            open == Egress::All && stricter.is_none_or(|egress| *egress == Egress::All)
        };
        let inward = self.forwards.lock().inward(is_open);
        let result = kernel.update(&open, inward).await;
        let mut state = self.state.lock();
        match &result {
            Ok(()) => state.notes.remove("rules"),
            Err(reason) => state.notes.insert("rules", reason.clone()),
        };
        result
    }

    /// Looks at what the kernel's way out needs, and tells what is in the way.
    ///
    /// # Errors
    /// The way out is gone.
    pub(super) async fn look_at_kernel(&self) -> Result<(), String> {
        let Some(kernel) = &self.kernel else { return Ok(()) };
        let Some(notes) = kernel.look().await? else { return Ok(()) };
        let reason = notes.join("; ");
        match notes.is_empty() {
            true => self.state.lock().notes.remove("kernel"),
            false => {
                tracing::warn!(port = %self.place, "{reason}");
                self.emit(EventKind::UplinkBlocked { network: self.network(), reason: reason.clone() });
                self.state.lock().notes.insert("kernel", reason)
            }
        };
        Ok(())
    }

    /// Goes on with other settings.
    ///
    /// # Errors
    /// A forward that cannot be; all else holds.
    pub(super) async fn take_settings(&self, settings: &Arc<UplinkSettings>) -> Result<(), String> {
        self.state.lock().settings = settings.clone();
        let (network, port) = &self.lan;
        // Fails only when the port has left the network.
        let _ = network.set_services(Some(service_guard(settings, *port)));
        self.uplink.tell(Command::Limits(limits(settings)));
        self.uplink.tell(Command::Rate(settings.limits.rate));
        self.uplink.tell(Command::OpenFilter(open_filter(settings)));
        self.uplink.tell(Command::Services(host_services(settings)));
        // Before the rules, so that what they close is not told where it is not to be.
        self.uplink.tell(Command::DenySilently(deny_silently(settings)));
        self.uplink.tell(Command::Egress(egress(settings)));
        self.services.update(services_config(settings, self.mtu, &self.place.network)).await;
        if let Some(kernel) = &self.kernel
            && let Err(reason) = kernel.integrate(settings.integrate).await
        {
            tracing::warn!(port = %self.place, "{reason}");
        }
        let result = self.forwards.lock().configure(&self.uplink, &settings.forwards);
        let rules = self.aim().await;
        match &result {
            Ok(()) => self.state.lock().notes.remove("forwards"),
            Err(reason) => self.state.lock().notes.insert("forwards", reason.clone()),
        };
        result.and(rules)
    }

    /// Passes news from one part to the others, and tells people.
    pub(super) async fn hear(&self, news: News) {
        match news {
            News::Learned(Learned { ingress, name, address, .. }, ttl) => {
                self.uplink.tell(Command::Learned { ingress, name: name.to_string(), address, ttl });
            }
            News::Engine(EngineNotice::Heard(address, mac, ingress)) => {
                self.services.heard(address, Client { ingress, mac });
                let _ = self.aim().await;
            }
            News::Engine(EngineNotice::Denied(ingress, to, protocol)) => {
                let target = match protocol {
                    IpProtocol::TCP => format!("{to}/tcp"),
                    IpProtocol::UDP => format!("{to}/udp"),
                    _ => to.ip().to_string(),
                };
                if let Some(port) = self.first_in_a_while(ingress, &target) {
                    self.emit(EventKind::EgressDenied { network: self.network(), port, target });
                }
            }
            News::Engine(EngineNotice::FlowLimit(ingress)) => self.tell_limit(ingress, "flows"),
            News::Engine(EngineNotice::NoDescriptor(ingress)) => self.tell_limit(ingress, "descriptors"),
            News::Services(notice) => self.hear_services(notice).await,
        }
    }

    fn tell_limit(&self, ingress: u16, limit: &str) {
        if let Some(port) = self.first_in_a_while(ingress, limit) {
            self.emit(EventKind::FlowLimit { network: self.network(), port, limit: limit.to_owned() });
        }
    }

    /// Finds out whether the guest at a port, which has just got its address, knows of its flows: it may have been
    /// started anew. It answers once it uses the address, so it is asked a few times.
    fn ask_after_flows(&self, ingress: u16) {
        let uplink = self.uplink.clone();
        tokio::spawn(async move {
            for after in ASKED_AFTER {
                tokio::time::sleep(after).await;
                uplink.tell(Command::PortMayBeNew(ingress));
            }
        });
    }

    async fn hear_services(&self, notice: Notice) {
        let network = self.network();
        match notice {
            Notice::Event(Event::Lease { address, mac, port, name }) => {
                let ingress = self.state.lock().ports.iter().find(|of| of.name == port).map(|of| of.ingress);
                if let Some(ingress) = ingress {
                    self.ask_after_flows(ingress);
                }
                let (address, mac) = (address.to_string(), mac.to_string());
                let until = None;
                self.emit(EventKind::Lease { network, port, address, mac, name, until });
                let _ = self.aim().await;
            }
            Notice::Event(Event::LeaseExpired { address, mac, port }) => {
                self.uplink.tell(Command::Unbind(address.into()));
                let (address, mac, port) = (address.to_string(), mac.to_string(), Some(port));
                self.emit(EventKind::LeaseExpired { network, port, address, mac });
                let _ = self.aim().await;
            }
            Notice::Event(Event::PoolExhausted { mac, port }) => {
                self.emit(EventKind::PoolExhausted { network, port, mac: mac.to_string() });
            }
            Notice::Event(Event::AddressConflict { address, mac, port }) => {
                let (mac, address) = (mac.to_string(), Some(address.to_string()));
                let owner = "another guest".to_owned();
                self.emit(EventKind::AddressConflict { network, port, mac, address, owner });
            }
            Notice::Resolvers(resolvers) => {
                let resolvers: Vec<_> = resolvers.iter().map(ToString::to_string).collect();
                self.emit(EventKind::ResolversChanged { network, resolvers });
            }
            Notice::LeasesUnreadable(reason) | Notice::LeasesUnwritten(reason) => {
                tracing::warn!(port = %self.place, "{reason}");
                self.state.lock().notes.insert("leases", reason);
            }
        }
    }

    /// The port's name, if nothing alike was told of it lately.
    fn first_in_a_while(&self, ingress: u16, what: &str) -> Option<String> {
        let mut state = self.state.lock();
        let now = Instant::now();
        if state.told.len() >= REMEMBERED {
            state.told.retain(|_, at| now.duration_since(*at) < AGAIN);
        }
        let key = (ingress, what.to_owned());
        if state.told.get(&key).is_some_and(|at| now.duration_since(*at) < AGAIN)
            || state.told.len() >= REMEMBERED
        {
            return None;
        }
        state.told.insert(key, now);
        state.ports.iter().find(|port| port.ingress == ingress).map(|port| port.name.clone())
    }

    /// Asks the data path.
    async fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(Box<dyn FnOnce(T) + Send>) -> Command,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.uplink.tell(command(Box::new(move |answer| drop(sender.send(answer)))));
        receiver.await.ok()
    }

    async fn all_flows(&self) -> Vec<(u16, vmlan_api::Flow)> {
        let Some(flows) = self.ask(Command::Flows).await else { return Vec::new() };
        let names = names(&self.state.lock().ports);
        flows::rows(&flows, &self.place.network, &names)
    }

    fn lease(&self, lease: &InUse) -> vmlan_api::Lease {
        let until = lease.until.map(|at| Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_secs(at)));
        vmlan_api::Lease {
            network: self.network(),
            address: lease.address.to_string(),
            mac: lease.mac.to_string(),
            port: Some(lease.port.clone()).filter(|port| !port.starts_with('#')),
            name: lease.name.clone(),
            until,
            source: match lease.source {
                Source::Set => LeaseSource::Set,
                Source::Dynamic => LeaseSource::Dynamic,
                Source::Static => LeaseSource::Static,
            },
        }
    }
}

impl UplinkControl for Running {
    fn farewell(&self) -> Later<'_, ()> {
        Box::pin(async {
            self.services.farewell().await;
            // The first answer comes in the turn that takes what the services have sent, the second one after it.
            for _ in 0..2 {
                let _ = self.ask(Command::Flows).await;
            }
        })
    }

    fn status(&self) -> Later<'_, vmlan_api::Uplink> {
        Box::pin(async {
            let flows = self.ask(Command::Flows).await;
            let leases = self.services.leases().await.len() as u64;
            let drops = self.services.counts().await;
            let resolvers = self.services.resolvers().await;
            let echo = may_echo();
            let state = self.state.lock();
            let mut report = state.settings.report(&self.place.network);
            report.state = PortState::Up;
            report.leases = leases;
            report.ipv6_route = state.ipv6_route;
            report.resolvers = resolvers.iter().map(ToString::to_string).collect();
            let means = Means { resolvers: !resolvers.is_empty(), ipv6: state.ipv6_route, echo };
            report.notes = state.notes.values().cloned().chain(lacking(&state.settings, means)).collect();
            report.drops = drops.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
            if let Some(flows) = flows {
                flows::report(&flows, &mut report);
            }
            report.drops.retain(|_, count| *count > 0);
            report
        })
    }

    fn leases(&self) -> Later<'_, Vec<vmlan_api::Lease>> {
        Box::pin(async { self.services.leases().await.iter().map(|lease| self.lease(lease)).collect() })
    }

    fn release(&self, address: IpAddr) -> Later<'_, Result<vmlan_api::Lease, Error>> {
        Box::pin(async move {
            let leases = self.services.leases().await;
            let Some(lease) = leases.iter().find(|lease| lease.address == address) else {
                let message = format!("no guest of network {} has {address}", self.place.network);
                return Err(Error::at(ErrorCode::NotFound, "address", message));
            };
            let row = self.lease(lease);
            let refuse =
                |why: &str| Err(Error::at(ErrorCode::Conflict, "address", format!("{address} {why}")));
            match (lease.source, address) {
                (Source::Set, _) => refuse("is set on its port; change the configuration"),
                (Source::Static, _) | (_, IpAddr::V6(_)) => {
                    refuse("was not given by the uplink: the guest just uses it")
                }
                (Source::Dynamic, IpAddr::V4(address)) => {
                    self.services.release(address).await;
                    self.uplink.tell(Command::Unbind(address.into()));
                    Ok(row)
                }
            }
        })
    }

    fn flows(&self, port: Option<String>) -> Later<'_, Vec<vmlan_api::Flow>> {
        Box::pin(async move {
            let flows = self.all_flows().await.into_iter().map(|(_, flow)| flow);
            flows.filter(|flow| port.as_ref().is_none_or(|port| flow.port == *port)).collect()
        })
    }

    fn close_flow(&self, id: u64) -> Later<'_, Result<vmlan_api::Flow, Error>> {
        Box::pin(async move {
            let found = self.all_flows().await.into_iter().find(|(_, flow)| flow.id == id);
            let closed = self.ask(|answer| Command::CloseFlow(id, answer)).await.unwrap_or(false);
            match found.filter(|_| closed) {
                Some((_, flow)) => Ok(flow),
                None => {
                    let message =
                        format!("network {} has no flow {id}; it may have ended", self.place.network);
                    Err(Error::at(ErrorCode::NotFound, "id", message))
                }
            }
        })
    }

    fn forwards(&self) -> Vec<vmlan_api::Forward> {
        self.forwards.lock().list()
    }

    fn add_forward(&self, forward: ForwardSpec) -> Later<'_, Result<vmlan_api::Forward, Error>> {
        Box::pin(async move {
            let row = self.forwards.lock().add(&self.uplink, forward, false)?;
            let _ = self.aim().await;
            Ok(row)
        })
    }

    fn remove_forward(&self, id: u64) -> Later<'_, Result<vmlan_api::Forward, Error>> {
        Box::pin(async move {
            let Some(row) = self.forwards.lock().remove(&self.uplink, id) else {
                let message =
                    format!("network {} has no forward {id}; see `vmlan forward list`", self.place.network);
                return Err(Error::at(ErrorCode::NotFound, "id", message));
            };
            let _ = self.aim().await;
            Ok(row)
        })
    }

    fn change(self: Arc<Self>, settings: Arc<UplinkSettings>, done: Ready) {
        tokio::spawn(async move {
            let result = self.take_settings(&settings).await;
            // Whoever asked may have gone.
            let _ = done.send(result);
        });
    }
}
