//! The task: one loop that has all the state.

mod guests;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use vmlan_services::proxy::Proxy;
use vmlan_services::ra::{Receiver, Schedule, Way};
use vmlan_services::rate::Rate;
use vmlan_services::{Client, Event, Leases, Port, Ports, dhcp4, dhcp6};

use super::channel::Channel;
use super::file::{self, LeaseFile};
use super::handle::{Command, Stopped};
use super::stream::{self, Request};
use super::upstream::Heard;
use super::{Callbacks, Config, Notice, Servers, resolvers};
use crate::uplink::host::has_ipv6;

/// Messages of the data path that are taken at once.
const BATCH: usize = 64;
/// Questions that a port may ask in a second, those about our own names among them.
const QUESTIONS: u32 = 2000;
/// Solicitations that a port may send in a second.
const SOLICITATIONS: u32 = 10;
/// The time between two looks for a route to the IPv6 internet.
const LOOK: Duration = Duration::from_secs(1);
/// The time between two events of one kind that a guest can cause at will.
const BETWEEN_EVENTS: Duration = Duration::from_secs(10);

/// Everything that the task begins with.
pub(super) struct Start {
    pub config: Config,
    pub ports: Vec<Port>,
    pub lease_file: Option<PathBuf>,
    pub resolv_conf: PathBuf,
    pub channel: Channel,
    pub streams: mpsc::Receiver<(UnixStream, Client)>,
    pub callbacks: Callbacks,
    pub commands: mpsc::Receiver<Command>,
}

struct Task {
    config: Config,
    ports: Ports,
    leases: Leases,
    dhcp4: dhcp4::Server,
    dhcp6: dhcp6::Server,
    schedule: Schedule,
    way: Way,
    proxy: Proxy,
    questions: Rate,
    solicitations: Rate,
    channel: Channel,
    file: LeaseFile,
    /// Seconds of the wall clock at which a lease may run out.
    expiry: Option<u64>,
    unwritten: bool,
    host_servers: Vec<SocketAddr>,
    callbacks: Callbacks,
    counts: BTreeMap<&'static str, u64>,
    told: BTreeMap<(u16, &'static str), Instant>,
    began: Instant,
    random: Random,
    attempts: JoinSet<()>,
    sockets: BTreeMap<u64, Vec<AbortHandle>>,
    heard: mpsc::Sender<Heard>,
    requests: mpsc::Sender<Request>,
    connections: JoinSet<()>,
}

/// Numbers that guests cannot foresee: a keyed hash of a counter.
struct Random {
    key: RandomState,
    count: u64,
}

impl Random {
    fn next(&mut self) -> u64 {
        self.count += 1;
        self.key.hash_one(self.count)
    }
}

fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Start {
    pub(super) async fn run(mut self) -> Stopped {
        let path = self.lease_file.clone();
        let load = move || path.map_or_else(|| (Leases::default(), None), |path| file::load(&path));
        let (leases, why) = tokio::task::spawn_blocking(load).await.unwrap_or_default();
        if let Some(why) = why {
            (self.callbacks.notice)(Notice::LeasesUnreadable(why));
        }
        let path = self.resolv_conf.clone();
        let servers = tokio::task::spawn_blocking(move || resolvers::read(&path)).await.unwrap_or_default();

        let (host, mut host_servers) = watch::channel(servers.clone());
        let follower = tokio::spawn(resolvers::follow(std::mem::take(&mut self.resolv_conf), host));
        let _follower = Ends(follower.abort_handle());
        let (heard, mut answers) = mpsc::channel(BATCH);
        let (requests, mut asked) = mpsc::channel(BATCH);
        let began = Instant::now();
        let mut ports = Ports::default();
        ports.replace(self.ports);
        let (mut commands, mut streams) = (self.commands, self.streams);
        let mut task = Task {
            expiry: leases.next_expiry(),
            config: self.config,
            ports,
            leases,
            dhcp4: dhcp4::Server::default(),
            dhcp6: dhcp6::Server::default(),
            schedule: Schedule::new(vmlan_frame::Instant::from_secs(1)),
            way: Way::Closed,
            proxy: Proxy::default(),
            questions: Rate::per_second(QUESTIONS),
            solicitations: Rate::per_second(SOLICITATIONS),
            channel: self.channel,
            file: LeaseFile::new(self.lease_file),
            unwritten: false,
            host_servers: servers,
            callbacks: self.callbacks,
            counts: BTreeMap::new(),
            told: BTreeMap::new(),
            began,
            random: Random { key: RandomState::new(), count: 0 },
            attempts: JoinSet::new(),
            sockets: BTreeMap::new(),
            heard,
            requests,
            connections: JoinSet::new(),
        };
        task.look();
        let (mut look, mut has_streams) = (Instant::now() + LOOK, true);
        loop {
            task.timers();
            if let Err(error) = task.channel.flush() {
                return Stopped::Channel(error);
            }
            let due = task.due().map_or(look, |due| due.min(look));
            tokio::select! {
                ready = task.channel.ready() => {
                    if let Err(error) = ready.and_then(|()| task.receive()) {
                        return Stopped::Channel(error);
                    }
                }
                command = commands.recv() => match command {
                    Some(Command::Farewell(done)) => {
                        task.farewell().await;
                        let _ = done.send(());
                    }
                    None => return Stopped::Asked,
                    Some(command) => task.obey(command),
                },
                Some((attempt, received)) = answers.recv() => {
                    let now = task.now();
                    let random = &mut || task.random.next() as u16;
                    match received {
                        Ok(octets) => task.proxy.received(attempt, &octets, now, random),
                        Err(_) => task.proxy.failed(attempt, now, random),
                    }
                    task.act();
                }
                Some(request) = asked.recv() => task.serve(request),
                stream = streams.recv(), if has_streams => match stream {
                    Some((stream, client)) => {
                        task.connections.spawn(stream::serve(stream, client, task.requests.clone()));
                    }
                    None => has_streams = false,
                },
                Ok(()) = host_servers.changed() => {
                    task.host_servers = host_servers.borrow_and_update().clone();
                    if task.config.servers == Servers::Host {
                        task.tell(Notice::Resolvers(task.servers()));
                    }
                }
                (result, answers) = task.file.written() => task.written(result, answers),
                () = sleep_until(due) => {
                    if look <= Instant::now() {
                        look = Instant::now() + LOOK;
                        task.look();
                    }
                }
            }
        }
    }
}

/// Ends a task when dropped.
struct Ends(AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Task {
    /// The time since the task began, and a second.
    fn now(&self) -> vmlan_frame::Instant {
        vmlan_frame::Instant::from_secs(1) + self.began.elapsed()
    }

    fn when(&self, at: vmlan_frame::Instant) -> Instant {
        self.began + at.since(vmlan_frame::Instant::from_secs(1))
    }

    fn tell(&self, notice: Notice) {
        (self.callbacks.notice)(notice);
    }

    /// Tells an event; of kinds that a guest can cause at will, one now and then.
    fn happened(&mut self, ingress: u16, event: Event) {
        let kind = match event {
            Event::Lease { .. } | Event::LeaseExpired { .. } => return self.tell(Notice::Event(event)),
            Event::PoolExhausted { .. } => "pool_exhausted",
            Event::AddressConflict { .. } => "address_conflict",
        };
        let now = Instant::now();
        let last = self.told.get(&(ingress, kind));
        if last.is_none_or(|last| now.duration_since(*last) >= BETWEEN_EVENTS) {
            self.told.insert((ingress, kind), now);
            self.tell(Notice::Event(event));
        }
    }

    fn count(&mut self, reason: &'static str) {
        *self.counts.entry(reason).or_default() += 1;
    }

    fn servers(&self) -> Vec<SocketAddr> {
        match &self.config.servers {
            Servers::Host => self.host_servers.clone(),
            Servers::Fixed(list) => list.clone(),
        }
    }

    /// Looks for a way to the IPv6 internet.
    fn look(&mut self) {
        if self.way == Way::Ending {
            return;
        }
        let way = match self.config.settings.subnet6.is_some() && has_ipv6() {
            true => Way::Open,
            false => Way::Closed,
        };
        if way != self.way {
            self.way = way;
            self.schedule.changed(self.now());
        }
    }

    fn due(&self) -> Option<Instant> {
        let settings = &self.config.settings;
        let advertise = settings.subnet6.map(|_| self.when(self.schedule.next()));
        let ask = self.proxy.next_deadline().map(|at| self.when(at));
        let expire = self.expiry.map(|at| {
            // A second at the least: the clocks differ in their seconds.
            Instant::now() + Duration::from_secs(at.saturating_sub(wall()).clamp(1, 3600))
        });
        [advertise, ask, expire, self.file.due()].into_iter().flatten().min()
    }

    fn timers(&mut self) {
        let now = self.now();
        if self.config.settings.subnet6.is_some() && self.schedule.is_due(now, self.random.next()) {
            self.advertise(0, Receiver::All);
        }
        self.proxy.expire(now, &mut || self.random.next() as u16);
        self.act();
        let wall = wall();
        if self.expiry.is_some_and(|expiry| expiry <= wall) {
            let events = self.leases.expire(wall);
            if !events.is_empty() {
                self.save(None);
            }
            events.into_iter().for_each(|event| self.tell(Notice::Event(event)));
            self.expiry = self.leases.next_expiry();
        }
        self.file.write(&self.leases);
        while self.attempts.try_join_next().is_some() {}
        while self.connections.try_join_next().is_some() {}
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Leases(reply) => drop(reply.send(self.leases.in_use(&self.ports, self.now()))),
            Command::Release(address, reply) => {
                let event = self.leases.release(address, wall());
                let _ = reply.send(event.is_some());
                if let Some(event) = event {
                    self.save(None);
                    self.tell(Notice::Event(event));
                }
            }
            Command::Resolvers(reply) => drop(reply.send(self.servers())),
            Command::Counts(reply) => {
                let lost = ("channel_full", self.channel.lost);
                let _ = reply.send(
                    self.counts.iter().map(|(reason, count)| (*reason, *count)).chain([lost]).collect(),
                );
            }
            Command::Update(config) => {
                let before = self.servers();
                self.config = *config;
                self.schedule.changed(self.now());
                self.look();
                if self.servers() != before {
                    self.tell(Notice::Resolvers(self.servers()));
                }
            }
            Command::Ports(ports) => self.ports.replace(ports),
            Command::PortUp(port) => self.ports.insert(port),
            Command::PortDown(ingress) => {
                self.ports.down(ingress);
                self.dhcp4.forget(ingress);
                self.dhcp6.forget(ingress);
                self.proxy.forget(ingress);
                self.questions.forget(ingress);
                self.solicitations.forget(ingress);
                self.leases.heard_mut().forget(ingress);
                self.told.retain(|(port, _), _| *port != ingress);
                self.act();
            }
            Command::Heard(address, client) => {
                let now = self.now();
                self.leases.heard_mut().note(address, client, now);
            }
            Command::Farewell(_) => unreachable!("taken by the loop"),
        }
    }

    /// Tells guests that the router is going, and sees leases written.
    async fn farewell(&mut self) {
        self.way = Way::Ending;
        self.advertise(0, Receiver::All);
        loop {
            if let Some(due) = self.file.due() {
                sleep_until(due).await;
                self.file.write(&self.leases);
            }
            if !self.file.is_writing() {
                break;
            }
            let (result, answers) = self.file.written().await;
            self.written(result, answers);
        }
        // Whether the data path still takes it decides nothing any more.
        let _ = self.channel.flush();
    }
}
