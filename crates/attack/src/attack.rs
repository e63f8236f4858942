//! An attack, and the field on which it takes place.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testbed::Netns;
use vmlan_frame::Mutex;

use crate::daemon;
use crate::peers::Honest;

/// An attack's name, its purpose and the conditions under which it runs.
#[derive(Clone, Copy, Debug)]
pub struct Card {
    /// Its name, for the command line and the tables.
    pub name: &'static str,
    /// A line about it.
    pub about: &'static str,
    /// The machine that it needs.
    pub stage: Stage,
    /// Attackers at a time, a thread each.
    pub attackers: usize,
    /// The measure it is judged by, beside what holds for all.
    pub judged: Judged,
    /// Shortest time that the attack needs in order to have an effect.
    pub least: Duration,
    /// Ports come and go with it, and take their counts along, so that the books of the network cannot balance.
    pub churns: bool,
    /// Ports that it attacks from: each of them may cause some lines of the log.
    pub ports: usize,
    /// How the daemon is started for it.
    pub start: Start,
}

/// The machine that an attack needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Sockets, and no privileges.
    Sockets,
    /// Sockets, and threads of another user: root.
    Users,
    /// A TAP device in a namespace: root.
    Tap,
    /// A host with a trunk, and a wire: root.
    Trunk,
}

/// The measure by which an attack is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// The latency of the probes' frames.
    Latency,
    /// A property that either holds or does not.
    Property,
}

/// How the daemon is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// As usual.
    Usual,
    /// With a file mode creation mask of 0.
    Umask0,
    /// With a log that is a pipe, whose reader never reads.
    StoppedLog,
}

impl Card {
    /// An attack by one attacker that needs nothing and is judged by the latency of the probes' frames.
    pub(crate) const fn new(name: &'static str, about: &'static str) -> Card {
        Card {
            name,
            about,
            stage: Stage::Sockets,
            attackers: 1,
            judged: Judged::Latency,
            least: Duration::ZERO,
            churns: false,
            ports: 0,
            start: Start::Usual,
        }
    }

    pub(crate) const fn property(mut self) -> Card {
        self.judged = Judged::Property;
        self
    }

    pub(crate) const fn on(mut self, stage: Stage) -> Card {
        self.stage = stage;
        self
    }

    pub(crate) const fn by(mut self, attackers: usize) -> Card {
        self.attackers = attackers;
        self
    }

    pub(crate) const fn churning(mut self) -> Card {
        self.churns = true;
        self
    }

    pub(crate) const fn at_ports(mut self, ports: usize) -> Card {
        self.ports = ports;
        self
    }

    pub(crate) const fn for_at_least(mut self, time: Duration) -> Card {
        self.least = time;
        self
    }

    pub(crate) const fn started(mut self, start: Start) -> Card {
        self.start = start;
        self
    }
}

/// The things that an attacker still holds when its time is over; dropped after the counters were read.
pub type Held = Box<dyn Any + Send>;

/// An attack. An error of its methods says that it could not be carried out; a promise that does not hold is told to
/// `Field::broken`. All methods but the first three have nothing to do for most attacks.
pub trait Attack: Sync {
    /// Its name and conditions.
    fn card(&self) -> Card;

    /// The tables of the ports that it needs beside those of the probes; paths are relative to the daemon's directory.
    fn config(&self, field: &Field) -> String;

    /// The work of an attacker until `Field::is_over`.
    ///
    /// # Errors
    /// When it cannot be carried out.
    fn attack(&self, field: &Field, number: usize) -> anyhow::Result<Held>;

    /// Clients that are there before and have to stay.
    ///
    /// # Errors
    /// When they cannot be had.
    fn honest(&self, _field: &Field) -> anyhow::Result<Vec<Honest>> {
        Ok(Vec::new())
    }

    /// Looks at something while the attack goes on.
    ///
    /// # Errors
    /// When it cannot be seen.
    fn during(&self, _field: &Field) -> anyhow::Result<()> {
        Ok(())
    }

    /// Looks at something when the attackers are gone.
    ///
    /// # Errors
    /// When it cannot be seen.
    fn after(&self, _field: &Field) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Namespaces for attacks by interfaces.
#[derive(Default)]
pub(crate) struct Lands {
    /// Where the attacker's TAP is.
    pub(crate) tap: Option<Netns>,
    /// The daemon's machine, and the wire that its `eth0` is on.
    pub(crate) trunk: Option<(Netns, Netns)>,
}

/// The field on which an attack takes place: a directory with the daemon's sockets, and namespaces.
pub struct Field {
    directory: PathBuf,
    pub(crate) lands: Lands,
    /// The least time that a step of an honest client may take.
    pub(crate) patience: Duration,
    /// True if the attack is only tried, for the shortest time in which it has an effect.
    pub(crate) is_short: bool,
    over: AtomicBool,
    broken: Mutex<Vec<String>>,
    notes: Mutex<Vec<String>>,
}

impl Field {
    pub(crate) fn new(directory: &Path, lands: Lands, patience: Duration, is_short: bool) -> Field {
        let over = AtomicBool::new(false);
        let (broken, notes) = Default::default();
        Field { directory: directory.to_owned(), lands, patience, is_short, over, broken, notes }
    }

    /// A path in the daemon's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A path among the temporary files, which any user may use.
    pub(crate) fn temporary(&self, number: usize) -> PathBuf {
        let mut name = self.directory.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{number}"));
        std::env::temp_dir().join(name)
    }

    /// The control socket.
    pub(crate) fn control(&self) -> PathBuf {
        daemon::control(&self.directory)
    }

    /// True if attackers are to stop.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(crate) fn set_over(&self, over: bool) {
        self.over.store(over, Ordering::Relaxed);
    }

    /// Sleeps for `time`, or until the attack is over.
    pub(crate) fn pause(&self, time: Duration) {
        let deadline = Instant::now() + time;
        while !self.is_over() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
    }

    /// Remembers a promise that does not hold; the same text once.
    pub(crate) fn broken(&self, text: impl Into<String>) {
        remember(&self.broken, text.into());
    }

    /// Remembers how far an attack came, for a reader who doubts that it did.
    pub(crate) fn note(&self, text: impl Into<String>) {
        remember(&self.notes, text.into());
    }

    /// The conditions that did not hold, and notes.
    pub(crate) fn take(&self) -> (Vec<String>, Vec<String>) {
        let take = |texts: &Mutex<Vec<String>>| std::mem::take(&mut *texts.lock());
        (take(&self.broken), take(&self.notes))
    }

    /// The ports with their counters.
    pub(crate) fn ports(&self) -> anyhow::Result<Vec<vmlan_api::Port>> {
        daemon::ports(&self.control(), self.patience)
    }
}

fn remember(texts: &Mutex<Vec<String>>, text: String) {
    let mut texts = texts.lock();
    if !texts.contains(&text) {
        texts.push(text);
    }
}
