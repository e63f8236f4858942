//! One attack from start to end: a daemon, probes beside it, rounds of quiet and attack in turns, and a look at whether
//! everything is as it was.
//!
//! The file is long because the order of these steps is what it is about.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::nice;
use serde::Serialize;
use testbed::attempt::attempt;
use testbed::{Netns, interrupt};
use vmlan_frame::DropReason;
use vmlan_guest::client::Client;

use crate::attack::{Attack, Card, Field, Held, Judged, Lands, Stage, Start};
use crate::books;
use crate::daemon::{Daemon, Launch, State, get};
use crate::peers::{datagram_guest, stream_guest};
use crate::probe::{End, Figures, Interface, Probe, mac};
use crate::shape::{Shape, stay_on};
use crate::wire::PROBE;

/// Resident memory that the daemon may keep, in KiB: buffers that it had not touched before, queues, and what the
/// allocator holds back.
const KEPT: u64 = 16 << 10;
/// Descriptors that a daemon keeps once a machine monitor was there: that of /dev/null, to ring guests by.
const KEPT_DESCRIPTORS: usize = 1;
/// Lines that the log may have whatever happens, and lines a second of attack.
const LINES: (f64, f64) = (10.0, 2.0);
/// Lines that each port of machine monitors may have: three that one came, left, was quarantined, was refused beside
/// another one, and that the port works again.
const LINES_OF_PORT: f64 = 15.0;
/// How often the control interface is asked something during an attack.
const ASK: Duration = Duration::from_millis(100);
/// How long the control interface may take for a short request.
const ANSWER: Duration = Duration::from_secs(5);

/// The ports of the probes' guests.
const PROBES: [&str; 4] = ["one", "two", "tap1", "tap2"];

/// How attacks are run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program that is attacked.
    pub vmlan: PathBuf,
    /// Times of quiet and attack in turns.
    pub rounds: u32,
    /// The length of each.
    pub time: Duration,
    /// The largest factor of the quiet p99; without one no latency is judged.
    pub limit: Option<f64>,
    /// How long what has to happen may take.
    pub patience: Duration,
    /// Every attack is only tried, for a moment.
    pub is_short: bool,
}

/// Figures of a probe, quiet and under attack.
#[derive(Clone, Debug, Serialize)]
pub struct Suffered {
    /// The kind of its guests.
    pub probe: &'static str,
    /// Medians over the rounds of quiet; sums of frames.
    pub quiet: Figures,
    /// The same over the rounds of attack.
    pub attack: Figures,
}

impl Suffered {
    /// The p99 during the attack, in units of the quiet one.
    pub fn factor(&self) -> f64 {
        self.attack.p99 / self.quiet.p99.max(0.1)
    }
}

/// The result of an attack.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The attack's name.
    pub name: &'static str,
    /// A line about it.
    pub about: &'static str,
    /// True when it is judged by a latency.
    pub is_timed: bool,
    /// Figures of the probes.
    pub suffered: Vec<Suffered>,
    /// Resident memory of the daemon afterwards, less that before, in KiB.
    pub memory: i64,
    /// Lines of the log for a second of attack.
    pub lines: f64,
    /// The longest answer of the control interface, in milliseconds.
    pub answer: f64,
    /// True when the books of the network balance; without a value ports left with their counts.
    pub balanced: Option<bool>,
    /// Frames for the probes' guests that found their queues full.
    pub unread: u64,
    /// Promises that do not hold.
    pub broken: Vec<String>,
    /// How far the attackers came.
    pub notes: Vec<String>,
    /// Why it could not be carried out.
    pub failed: Option<String>,
}

impl Outcome {
    /// Tells whether every promise holds.
    pub fn holds(&self) -> bool {
        self.broken.is_empty() && self.failed.is_none()
    }
}

/// Runs an attack. Whatever was made for it is gone afterwards, also when it fails.
pub fn run(attack: &dyn Attack, settings: &Settings) -> Outcome {
    let card = attack.card();
    let mut outcome = Outcome {
        name: card.name,
        about: card.about,
        is_timed: card.judged == Judged::Latency && settings.limit.is_some(),
        suffered: Vec::new(),
        memory: 0,
        lines: 0.0,
        answer: 0.0,
        balanced: None,
        unread: 0,
        broken: Vec::new(),
        notes: Vec::new(),
        failed: None,
    };
    if let Err(error) = attempt(|| carry_out(attack, &card, settings, &mut outcome)) {
        outcome.failed = Some(format!("{error:#}"));
    }
    outcome
}

fn carry_out(
    attack: &dyn Attack,
    card: &Card,
    settings: &Settings,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let directory = tempfile::Builder::new().prefix("vmlan-at-").tempdir().context("a directory")?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).context("a directory")?;
    let shape = Shape::look().context("the processors")?;
    // Tests run beside others, which need the processors too.
    let is_placed = !settings.is_short;
    let is_root = rustix::process::geteuid().is_root();
    let has_taps = is_root && (!settings.is_short || card.stage == Stage::Tap);
    let taps = if has_taps { vec![silent("probe1"), silent("probe2")] } else { Vec::new() };
    let field = Field::new(directory.path(), lands(card), settings.patience, settings.is_short);
    let config = format!("{}{}", probes_config(&taps), attack.config(&field));
    let launch = Launch {
        program: &settings.vmlan,
        directory: directory.path(),
        config: &config,
        netns: field.lands.trunk.as_ref().map(|(host, _)| host),
        start: card.start,
        processors: is_placed.then(|| shape.daemon()),
    };
    let mut daemon = Daemon::start(&launch)?;
    let mut probes = vec![sockets(&field, settings, is_placed.then(|| shape.probe()), is_root)?];
    if has_taps {
        probes.push(interfaces(&taps, is_placed.then(|| shape.probe()))?);
    }
    let mut honest = attack.honest(&field).context("honest clients")?;
    let before = daemon.state(settings.patience)?;

    let rounds = if card.judged == Judged::Property { 1 } else { settings.rounds };
    let time = settings.time.max(card.least);
    let mut figures = vec![(Vec::new(), Vec::new()); probes.len()];
    let mut departed = Vec::new();
    let log_before = daemon.log().len();
    let mut attacked = Duration::ZERO;
    for _ in 0..rounds {
        if !settings.is_short {
            probes.iter().for_each(Probe::go);
            interrupt::sleep(settings.time);
            stop(&probes, settings, &mut figures, |(quiet, _)| quiet, &field);
        }
        probes.iter().for_each(Probe::go);
        let start = Instant::now();
        let round = Round { attack, card, field: &field, settings, time };
        let held = round.run(is_placed.then_some(&shape), outcome, || {
            stop(&probes, settings, &mut figures, |(_, attack)| attack, &field);
        })?;
        attacked += start.elapsed();
        for client in &mut honest {
            if let Some(name) = client.lost() {
                field.broken(format!("{name} was disconnected"));
            }
        }
        if !daemon.is_running() {
            field.broken("the daemon ended");
            break;
        }
        departs(&field, &before, &mut departed);
        drop(held);
        if interrupt::requested() {
            break;
        }
    }
    ensure!(!interrupt::requested(), "interrupted");
    if daemon.is_running() {
        attack.after(&field)?;
        restored(&daemon, &before, card, settings, &field, &departed, outcome);
    }
    outcome.suffered = probes
        .iter()
        .zip(&figures)
        .map(|(probe, (quiet, attack))| Suffered {
            probe: probe.name,
            quiet: summary(quiet),
            attack: summary(attack),
        })
        .collect();
    drop((honest, probes));
    log(&daemon, log_before, attacked, card, &field, outcome);
    if daemon.is_running() {
        match daemon.stop(settings.patience) {
            Ok(status) if status.success() => {}
            Ok(status) => field.broken(format!("SIGTERM ended the daemon with {status}")),
            Err(error) => field.broken(error.to_string()),
        }
    }
    (outcome.broken, outcome.notes) = field.take();
    outcome.broken.extend(judged(outcome, settings));
    Ok(())
}

/// A time of attack.
struct Round<'a> {
    attack: &'a dyn Attack,
    card: &'a Card,
    field: &'a Field,
    settings: &'a Settings,
    time: Duration,
}

impl Round<'_> {
    /// Runs the attackers; `stop` stops the probes while they still attack. Answers what the attackers still have.
    fn run(
        &self,
        shape: Option<&Shape>,
        outcome: &mut Outcome,
        stop: impl FnOnce(),
    ) -> anyhow::Result<Vec<Held>> {
        let Round { attack, card, field, settings, time } = *self;
        field.set_over(false);
        let attacker = |number| {
            if let Some(shape) = shape {
                // Where latencies are judged an attacker takes only the time that the probes leave. Races want more.
                if card.judged == Judged::Latency {
                    let _ = nice(19);
                }
                stay_on(&shape.attackers()).context("the attackers' processors")?;
            }
            attempt(|| attack.attack(field, number))
        };
        thread::scope(|scope| {
            let spawn = |number| scope.spawn(move || attacker(number));
            let attackers: Vec<_> = (0..card.attackers).map(spawn).collect();
            let start = Instant::now();
            while start.elapsed() < time && !interrupt::requested() {
                if card.start != Start::StoppedLog || field.is_short {
                    ask(field, settings, outcome);
                }
                interrupt::sleep(ASK.min(time.saturating_sub(start.elapsed())));
            }
            let during = attempt(|| attack.during(field));
            stop();
            field.set_over(true);
            let joined = attackers.into_iter().map(|attacker| attacker.join().expect("a caught panic"));
            let held = joined.collect::<anyhow::Result<Vec<Held>>>();
            during?;
            held.context("an attacker")
        })
    }
}

/// Asks the control interface for its status.
fn ask(field: &Field, settings: &Settings, outcome: &mut Outcome) {
    let limit = if settings.is_short { settings.patience } else { ANSWER };
    let start = Instant::now();
    if let Err(error) = get::<vmlan_api::Status>(&field.control(), "/v1/status", limit) {
        field.broken(format!("the control interface does not answer during the attack: {:#}", error));
    }
    outcome.answer = outcome.answer.max(start.elapsed().as_secs_f64() * 1000.0);
}

fn stop(
    probes: &[Probe],
    settings: &Settings,
    figures: &mut [(Vec<Figures>, Vec<Figures>)],
    which: impl Fn(&mut (Vec<Figures>, Vec<Figures>)) -> &mut Vec<Figures>,
    field: &Field,
) {
    probes.iter().for_each(|probe| probe.stop(settings.patience));
    for (probe, figures) in probes.iter().zip(figures) {
        match probe.figures() {
            Ok(measured) => which(figures).push(measured),
            Err(error) => {
                field.broken(format!("a guest of the probe ({}) was disconnected: {error}", probe.name))
            }
        }
    }
}

/// Remembers the counters of ports that will go with the attackers, as soon as they stand still.
fn departs(field: &Field, before: &State, departed: &mut Vec<vmlan_api::Port>) {
    let gone = || -> anyhow::Result<Vec<vmlan_api::Port>> {
        let is_new =
            |port: &vmlan_api::Port| !before.ports.contains_key(&format!("{}/{}", port.network, port.port));
        Ok(field.ports()?.into_iter().filter(is_new).collect())
    };
    let mut last = Vec::new();
    let deadline = Instant::now() + field.patience;
    while let Ok(now) = gone()
        && Instant::now() < deadline
    {
        if now == last {
            break;
        }
        last = now;
        thread::sleep(Duration::from_millis(20));
    }
    departed.extend(last);
}

/// Waits until descriptors, memory, ports and books are as they were.
fn restored(
    daemon: &Daemon,
    before: &State,
    card: &Card,
    settings: &Settings,
    field: &Field,
    departed: &[vmlan_api::Port],
    outcome: &mut Outcome,
) {
    let mut faults = Vec::new();
    let deadline = Instant::now() + settings.patience;
    loop {
        match compared(daemon, before, card, field, departed, outcome) {
            Ok(found) => faults = found,
            Err(error) => faults.push(format!("the daemon cannot be asked afterwards: {error:#}")),
        }
        if faults.is_empty() || Instant::now() >= deadline || interrupt::requested() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    faults.into_iter().for_each(|fault| field.broken(fault));
}

fn compared(
    daemon: &Daemon,
    before: &State,
    card: &Card,
    field: &Field,
    departed: &[vmlan_api::Port],
    outcome: &mut Outcome,
) -> anyhow::Result<Vec<String>> {
    let now = daemon.state(field.patience)?;
    let mut faults = Vec::new();
    let kept = if card.ports > 0 { KEPT_DESCRIPTORS } else { 0 };
    if now.descriptors > before.descriptors + kept {
        faults.push(format!("{} descriptors, {} before", now.descriptors, before.descriptors));
    }
    if now.mappings > before.mappings {
        faults.push(format!("{} mappings of guests' memory, {} before", now.mappings, before.mappings));
    }
    if now.threads > before.threads {
        faults.push(format!("{} threads of connections, {} before", now.threads, before.threads));
    }
    outcome.memory = now.resident as i64 - before.resident as i64;
    if now.resident > before.resident + KEPT {
        faults.push(format!("{} KiB resident, {} before", now.resident, before.resident));
    }
    for (port, state) in &before.ports {
        match now.ports.get(port) {
            None => faults.push(format!("port {port} is gone")),
            // A port that only attackers use may be kept shut for a while.
            Some(other) if other != state && is_anothers(port) => {
                faults.push(format!("port {port} is {}, {} before", other.as_str(), state.as_str()));
            }
            Some(_) => {}
        }
    }
    let left = now.ports.len().saturating_sub(before.ports.len());
    if left > 0 {
        faults.push(format!("{left} ports of attackers are still there"));
    }
    let status: vmlan_api::Status = get(&field.control(), "/v1/status", field.patience)?;
    if status.pid != daemon.pid() {
        faults.push(format!("process {} instead of {}", status.pid, daemon.pid()));
    }
    let mut ports = field.ports()?;
    let full = DropReason::QueueFull.name();
    let probes = ports.iter().filter(|port| PROBES.contains(&port.port.as_str()));
    outcome.unread = probes.filter_map(|port| port.counters.drops.get(full)).sum();
    let unbalanced = if card.churns {
        books::imbalances_of_ports(&ports)
    } else {
        ports.extend_from_slice(departed);
        books::imbalances(&ports)
    };
    outcome.balanced = (!card.churns).then_some(unbalanced.is_empty());
    faults.extend(unbalanced.into_iter().map(|fault| format!("books: {fault}")));
    Ok(faults)
}

/// True if a port is one of the probes', of an honest client's, or the trunk.
fn is_anothers(port: &str) -> bool {
    let name = port.rsplit('/').next().unwrap_or(port);
    name.contains('.') || name == "trunk" || PROBES.contains(&name)
}

/// Returns the lines that the daemon has written since the attack began.
fn log(
    daemon: &Daemon,
    before: usize,
    attacked: Duration,
    card: &Card,
    field: &Field,
    outcome: &mut Outcome,
) {
    let text = daemon.log();
    let new = text.get(before..).unwrap_or_default();
    let (lines, seconds) = (new.lines().count() as f64, attacked.as_secs_f64().max(0.001));
    outcome.lines = lines / seconds;
    let (some, rate) = LINES;
    let most = some + LINES_OF_PORT * card.ports as f64 + rate * seconds;
    if card.start != Start::StoppedLog && lines > most {
        field.broken(format!("{lines} lines of log in {seconds:.1} s"));
    }
    let panics = new.matches("panicked").count();
    if panics > 0 {
        let first = new.lines().find(|line| line.contains("panicked")).unwrap_or_default();
        field.broken(format!("{panics} panics: {first}"));
    }
    if new.lines().any(|line| line.starts_with(crate::themes::FORGED)) {
        field.broken("a peer forged a line of the log");
    }
}

/// Returns the limits that the figures of the probes break.
fn judged(outcome: &Outcome, settings: &Settings) -> Vec<String> {
    let mut broken = Vec::new();
    for suffered in &outcome.suffered {
        let Suffered { probe, quiet, attack } = suffered;
        // A probe that does not read in time because the machine is busy loses what its own queue has no room for. Only
        // where it has real-time priority that is the daemon's fault.
        let is_own_fault = settings.is_short && attack.lost <= outcome.unread;
        if attack.lost > 0 && !is_own_fault {
            broken.push(format!("{} of {} frames lost ({probe})", attack.lost, attack.sent));
        }
        if attack.repeated + quiet.repeated > 0 {
            broken.push(format!("{} frames repeated ({probe})", attack.repeated + quiet.repeated));
        }
        if let Some(limit) = settings.limit.filter(|_| outcome.is_timed)
            && suffered.factor() > limit
        {
            broken.push(format!("p99 x {:.1} ({probe})", suffered.factor()));
        }
    }
    broken
}

/// Medians of latencies, the largest maximum, sums of frames.
fn summary(rounds: &[Figures]) -> Figures {
    let median = |of: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).filter(|value| value.is_finite()).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    };
    Figures {
        sent: rounds.iter().map(|round| round.sent).sum(),
        lost: rounds.iter().map(|round| round.lost).sum(),
        repeated: rounds.iter().map(|round| round.repeated).sum(),
        p50: median(|round| round.p50),
        p99: median(|round| round.p99),
        max: rounds.iter().map(|round| round.max).fold(0.0, f64::max),
    }
}

fn lands(card: &Card) -> Lands {
    match card.stage {
        Stage::Sockets | Stage::Users => Lands::default(),
        Stage::Tap => Lands { tap: Some(silent("attacker")), trunk: None },
        Stage::Trunk => {
            let (host, wire) = (silent("host"), silent("wire"));
            host.veth("eth0", &wire, "eth0");
            host.configure(
                "eth0",
                &testbed::Interface::new().mac("52:54:00:00:00:01").address("10.9.0.1/24"),
            );
            wire.configure(
                "eth0",
                &testbed::Interface::new().mac("52:54:00:00:00:02").address("10.9.0.2/24"),
            );
            Lands { tap: None, trunk: Some((host, wire)) }
        }
    }
}

/// A namespace whose interfaces send nothing of themselves.
fn silent(hint: &str) -> Netns {
    let netns = Netns::new(hint);
    netns.sysctl("net.ipv6.conf.default.disable_ipv6", "1");
    netns
}

fn probes_config(taps: &[Netns]) -> String {
    let mut config = String::from(
        "[network.lab.port.one]\nstream = { listen = \"one.sock\" }\n\
         [network.lab.port.two]\ndatagram = { listen = \"two.sock\" }\n",
    );
    for (number, netns) in (1..).zip(taps) {
        let path = netns.path();
        config.push_str(&format!(
            "[network.lab.port.tap{number}]\ntap = {{ name = \"t0\", netns = \"{}\" }}\n",
            path.display()
        ));
    }
    config
}

fn sockets(
    field: &Field,
    settings: &Settings,
    processors: Option<rustix::thread::CpuSet>,
    is_root: bool,
) -> anyhow::Result<Probe> {
    let one = stream_guest(&field.path("one.sock"), settings.patience).context("the probe's stream")?;
    let two = datagram_guest(&field.path("two.local"), &field.path("two.sock"), settings.patience)
        .context("the probe's datagram socket")?;
    let is_real_time = is_root && processors.is_some();
    let ends = [End { client: one, mac: mac(1, 1) }, End { client: two, mac: mac(1, 2) }];
    Probe::start("sockets", ends, processors, is_real_time)
}

fn interfaces(taps: &[Netns], processors: Option<rustix::thread::CpuSet>) -> anyhow::Result<Probe> {
    let mut ends = Vec::new();
    for (number, netns) in (1..).zip(taps) {
        netns.configure("t0", &testbed::Interface::new());
        let interface = Interface::open(netns, "t0", PROBE).context("a packet socket")?;
        let client: Box<dyn Client> = Box::new(interface);
        ends.push(End { client, mac: mac(2, number) });
    }
    let is_real_time = processors.is_some();
    let ends = ends.try_into().map_err(|_| anyhow::anyhow!("two namespaces"))?;
    Probe::start("taps", ends, processors, is_real_time)
}
