//! The task: one loop that has all the state.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use vmlan_services::names::{self, Question, Verdict, learned, pass_on};
use vmlan_services::packet::{DHCP_SERVER, DHCP6_SERVER, DNS, Packet, udp_frame};
use vmlan_services::proxy::{Action, Asker, Proxy};
use vmlan_services::ra::{self, Receiver, Schedule, Way};
use vmlan_services::rate::Rate;
use vmlan_services::{Client, Event, Leases, Port, Ports, dhcp4, dhcp6};

use super::channel::{Channel, HEADER, LONGEST};
use super::file::{self, Answer, LeaseFile};
use super::handle::{Command, Stopped};
use super::stream::{self, Decision, Request};
use super::upstream::{self, Heard};
use super::{Callbacks, Config, Notice, Servers, resolvers};

/// Messages of the data path that are taken at once.
const BATCH: usize = 64;
/// Questions that a port may ask in a second, those about our own names among them.
const QUESTIONS: u32 = 2000;
/// Solicitations that a port may send in a second.
const SOLICITATIONS: u32 = 10;
/// The time between two looks for a route to the IPv6 internet.
const LOOK: Duration = Duration::from_secs(10);
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

/// True if the host has a route to the IPv6 internet. Nothing is sent.
fn has_route() -> bool {
    const FAR: Ipv6Addr = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1);
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0));
    socket.and_then(|socket| socket.connect((FAR, DNS))).is_ok()
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
                    Some(Command::Stop) | None => break,
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
        task.end().await
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
            Servers::Fixed(list) => list.iter().map(|address| (*address, DNS).into()).collect(),
        }
    }

    /// Looks for a way to the IPv6 internet.
    fn look(&mut self) {
        let way = match self.config.settings.subnet6.is_some() && has_route() {
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

    /// Takes what the data path has sent.
    fn receive(&mut self) -> std::io::Result<()> {
        let mut buffer = [0; HEADER + LONGEST + 1];
        for _ in 0..BATCH {
            let Some((ingress, frame)) = self.channel.receive(&mut buffer)? else { break };
            match Packet::parse(frame) {
                Some(Packet::Udp { mac, addresses, from, to, payload }) => {
                    let client = Client { ingress, mac };
                    let (source, destination) = (addresses.source(), addresses.destination());
                    match (to, source) {
                        (DHCP_SERVER, IpAddr::V4(_)) => self.dhcp4(client, payload),
                        (DHCP6_SERVER, IpAddr::V6(source)) => self.dhcp6(client, source, payload),
                        (DNS, _) => {
                            let asker = Asker { client, from: (source, from).into(), to: destination };
                            self.question(asker, payload);
                        }
                        _ => self.count("no_service"),
                    }
                }
                Some(Packet::RouterSolicitation { mac, from }) => {
                    if self.solicitations.take(ingress, self.now()) {
                        let receiver = self.schedule.solicited(mac, from, self.now());
                        self.advertise(if receiver == Receiver::All { 0 } else { ingress }, receiver);
                    }
                }
                None => self.count("malformed"),
            }
        }
        Ok(())
    }

    fn advertise(&mut self, ingress: u16, receiver: Receiver) {
        if let Some(frame) = ra::frame(&self.config.settings, self.way, receiver) {
            self.channel.send(ingress, &frame);
        }
    }

    fn dhcp4(&mut self, client: Client, message: &[u8]) {
        let (now, wall) = (self.now(), wall());
        let parts = (&self.config.settings, &self.ports, &mut self.leases);
        let outcome = match self.dhcp4.handle(parts, client, message, now, wall) {
            Ok(outcome) => outcome,
            Err(refusal) => return self.count(dhcp4_reason(refusal)),
        };
        // No state that a message makes ends before an offer does; looked at too early, nothing is done.
        let soonest = wall + vmlan_services::leases::OFFER;
        self.expiry = Some(self.expiry.map_or(soonest, |expiry| expiry.min(soonest)));
        outcome.events.into_iter().for_each(|event| self.happened(client.ingress, event));
        let answer = outcome.reply.and_then(|reply| reply.frame(&self.config.settings));
        let answer = answer.map(|frame| (client.ingress, frame));
        if outcome.binds {
            self.save(answer);
        } else if let Some((ingress, frame)) = answer {
            self.channel.send(ingress, &frame);
        }
    }

    /// Has the leases written; the answer is sent after that.
    fn save(&mut self, answer: Option<Answer>) {
        if let Some((ingress, frame)) = self.file.changed(answer) {
            self.channel.send(ingress, &frame);
        }
        self.file.write(&self.leases);
    }

    fn written(&mut self, result: std::io::Result<()>, answers: Vec<Answer>) {
        for (ingress, frame) in answers {
            self.channel.send(ingress, &frame);
        }
        let failed = result.is_err();
        if let Err(error) = result
            && !self.unwritten
        {
            self.tell(Notice::LeasesUnwritten(error.to_string()));
        }
        self.unwritten = failed;
    }

    fn dhcp6(&mut self, client: Client, source: Ipv6Addr, message: &[u8]) {
        if !source.is_unicast_link_local() {
            return self.count("dhcp6_not_link_local");
        }
        let now = self.now();
        match self.dhcp6.handle(&self.config.settings, &self.ports, client, message, now) {
            Ok(outcome) => {
                if let Some(event) = outcome.event {
                    self.happened(client.ingress, event);
                }
                let frame = dhcp6::frame(&self.config.settings, client, source, &outcome.message);
                if let Some(frame) = frame {
                    self.channel.send(client.ingress, &frame);
                }
            }
            Err(refusal) => self.count(dhcp6_reason(refusal)),
        }
    }

    /// Octets of the largest DNS message in one packet to an address.
    fn room(&self, to: IpAddr) -> usize {
        const UDP: usize = 8;
        let header = if to.is_ipv4() { 20 } else { 40 };
        usize::from(self.config.settings.mtu).min(LONGEST - 14) - header - UDP
    }

    fn decide(&mut self, client: Client, octets: &[u8], room: Option<usize>) -> Verdict {
        let now = self.now();
        if !self.questions.take(client.ingress, now) {
            self.count("dns_rate");
            return Verdict::Ignore;
        }
        names::decide((&self.config.settings, &self.ports, &self.leases), client, octets, room, now)
    }

    fn question(&mut self, asker: Asker, octets: &[u8]) {
        match self.decide(asker.client, octets, Some(self.room(asker.to))) {
            Verdict::Ignore => self.count("dns_ignored"),
            Verdict::Answer(answer) => self.answer(&asker, &answer),
            Verdict::Ask(question) => {
                let (now, servers) = (self.now(), self.servers());
                let random = &mut || self.random.next() as u16;
                self.proxy.ask(asker, question, octets, &servers, now, random);
                self.act();
            }
        }
    }

    fn answer(&mut self, asker: &Asker, message: &[u8]) {
        let settings = &self.config.settings;
        let addresses = (asker.to, asker.from.ip());
        let ports = (DNS, asker.from.port());
        if let Some(frame) = udp_frame(settings.mac, asker.client.mac, addresses, ports, message) {
            self.channel.send(asker.client.ingress, &frame);
        }
    }

    /// Does what the questions that wait want done.
    fn act(&mut self) {
        while let Some(action) = self.proxy.poll_action() {
            match action {
                Action::Ask { attempt, server, message } => {
                    let task = upstream::ask(attempt, server, message, self.heard.clone());
                    let handle = self.attempts.spawn(task);
                    self.sockets.entry(attempt.question).or_default().push(handle);
                }
                Action::Close { question } => {
                    let handles = self.sockets.remove(&question).unwrap_or_default();
                    handles.iter().for_each(AbortHandle::abort);
                }
                Action::Answer { asker, question, message } => {
                    let room = Some(self.room(asker.to));
                    let message = self.pass_on(asker.client, &question, message, room);
                    self.answer(&asker, &message);
                }
            }
        }
    }

    /// Makes a resolver's answer fit for a guest, after the way to what it names is open.
    fn pass_on(&self, client: Client, question: &Question, answer: Vec<u8>, room: Option<usize>) -> Vec<u8> {
        let settings = &self.config.settings;
        let now = self.now();
        let open = learned(settings, &self.ports, client, question, &answer, now);
        open.into_iter().for_each(|learned| {
            let good_for = learned.until.since(now);
            (self.callbacks.learned)(learned, good_for);
        });
        pass_on(settings, question, answer, room)
    }

    fn serve(&mut self, request: Request) {
        // A connection that is gone takes no answer.
        match request {
            Request::Decide(client, octets, reply) => {
                let decision = match self.decide(client, &octets, None) {
                    Verdict::Ignore => Decision::Close,
                    Verdict::Answer(answer) => Decision::Answer(answer),
                    Verdict::Ask(question) => {
                        Decision::Ask(question, self.servers(), self.random.next() as u16)
                    }
                };
                let _ = reply.send(decision);
            }
            Request::PassOn(client, question, answer, reply) => {
                let _ = reply.send(self.pass_on(client, &question, answer, None));
            }
        }
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
            Command::Stop => {}
        }
    }

    /// Tells guests that the router is gone, and sees leases written.
    async fn end(mut self) -> Stopped {
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
        Stopped::Asked
    }
}

fn dhcp4_reason(refusal: dhcp4::Refusal) -> &'static str {
    match refusal {
        dhcp4::Refusal::Malformed => "dhcp_malformed",
        dhcp4::Refusal::Bootp => "dhcp_bootp",
        dhcp4::Refusal::Relayed => "dhcp_relayed",
        dhcp4::Refusal::Reply => "dhcp_reply",
        dhcp4::Refusal::Hardware => "dhcp_hardware",
        dhcp4::Refusal::Rate => "dhcp_rate",
        dhcp4::Refusal::OtherServer => "dhcp_other_server",
        dhcp4::Refusal::NotTheirs => "dhcp_not_theirs",
        dhcp4::Refusal::NoAddress => "dhcp_no_address",
    }
}

fn dhcp6_reason(refusal: dhcp6::Refusal) -> &'static str {
    match refusal {
        dhcp6::Refusal::Malformed => "dhcp6_malformed",
        dhcp6::Refusal::Kind => "dhcp6_kind",
        dhcp6::Refusal::OtherServer => "dhcp6_other_server",
        dhcp6::Refusal::Rate => "dhcp6_rate",
        dhcp6::Refusal::Nothing => "dhcp6_nothing",
    }
}
