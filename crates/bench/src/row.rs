//! The rows of the report, each with the candidates that take part in it and the target for vmlan.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde::Serialize;

use crate::machine::{Quiet, wait_for_quiet};
use testbed::interrupt;

/// Rows that are asked for together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Two namespaces with a TAP each
    Tap,
    /// Two datagram sockets
    Dgram,
    /// Two stream sockets
    Stream,
    /// Many ports, addresses, networks; memory
    Scale,
    /// A port that floods beside two that talk
    Fair,
    /// The host's interface as a port of the network
    Host,
    /// Guests behind interfaces of the host
    Iface,
    /// A guest's way out, and in
    Nat,
    /// Two vhost-user sockets
    Vhost,
}

impl Group {
    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Group::Tap => "tap",
            Group::Dgram => "dgram",
            Group::Stream => "stream",
            Group::Scale => "scale",
            Group::Fair => "fair",
            Group::Host => "host",
            Group::Iface => "iface",
            Group::Nat => "nat",
            Group::Vhost => "vhost",
        }
    }

    /// As the title of a section.
    pub fn title(self) -> &'static str {
        match self {
            Group::Tap => "TAP to TAP",
            Group::Dgram => "Datagram sockets",
            Group::Stream => "Stream sockets",
            Group::Scale => "Scale and cost",
            Group::Fair => "Fairness",
            Group::Host => "Host filter",
            Group::Iface => "Interface ports",
            Group::Nat => "Uplink",
            Group::Vhost => "vhost-user sockets",
        }
    }
}

/// One number of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The name of the quantity.
    pub name: &'static str,
    /// The unit of the quantity.
    pub unit: &'static str,
    /// True if more is better.
    pub more_is_better: bool,
}

impl Figure {
    /// TCP payload.
    pub const TCP: Figure = Figure { name: "TCP", unit: "Gbit/s", more_is_better: true };
    /// TCP payload from a guest.
    pub const OUT: Figure = Figure { name: "TCP out", unit: "Gbit/s", more_is_better: true };
    /// TCP payload to a guest.
    pub const IN: Figure = Figure { name: "TCP in", unit: "Gbit/s", more_is_better: true };
    /// Connections that are made, used for one octet and closed.
    pub const CONNECTS: Figure = Figure { name: "connects", unit: "1/s", more_is_better: true };
    /// Resident memory that a connection adds.
    pub const FLOW_MEMORY: Figure = Figure { name: "memory a flow", unit: "KiB", more_is_better: false };
    /// Datagrams that arrived.
    pub const DATAGRAMS: Figure = Figure { name: "datagrams", unit: "Mpps", more_is_better: true };
    /// Frames.
    pub const RATE: Figure = Figure { name: "frames", unit: "Mpps", more_is_better: true };
    /// Median of the round-trip time.
    pub const P50: Figure = Figure { name: "RTT p50", unit: "µs", more_is_better: false };
    /// The time that one round trip in a hundred takes or more.
    pub const P99: Figure = Figure { name: "RTT p99", unit: "µs", more_is_better: false };
    /// Mean of the round-trip time.
    pub const ROUND_TRIP: Figure = Figure { name: "RTT mean", unit: "µs", more_is_better: false };
    /// Resident memory of the switch.
    pub const MEMORY: Figure = Figure { name: "memory", unit: "MiB", more_is_better: false };
}

/// A limit that a number keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
}

impl Bound {
    /// True if `value` keeps to it.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtLeast(bound) => value >= bound,
            Bound::AtMost(bound) => value <= bound,
        }
    }
}

/// A target for vmlan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Target {
    /// Which of the row's figures.
    pub figure: usize,
    /// Whose.
    pub of: &'static str,
    /// Divided within each round by whose; by itself when absent.
    pub to: Option<&'static str>,
    /// The limit for the median.
    pub bound: Bound,
    /// The value that would be good to reach.
    pub reach: Option<f64>,
}

impl Target {
    /// A ratio that is to be so much at least.
    pub const fn ratio(figure: usize, of: &'static str, to: &'static str, least: f64) -> Target {
        Target { figure, of, to: Some(to), bound: Bound::AtLeast(least), reach: None }
    }

    /// A ratio that is to be so much at most.
    pub const fn ratio_at_most(figure: usize, of: &'static str, to: &'static str, most: f64) -> Target {
        Target { figure, of, to: Some(to), bound: Bound::AtMost(most), reach: None }
    }

    /// A figure that keeps to `bound` by itself.
    pub const fn absolute(figure: usize, of: &'static str, bound: Bound) -> Target {
        Target { figure, of, to: None, bound, reach: None }
    }

    /// The same, and what would be good.
    pub const fn reaching(mut self, reach: f64) -> Target {
        self.reach = Some(reach);
        self
    }
}

/// A measurement: its figures in the row's order.
type Measure = Box<dyn Fn(&Setting) -> anyhow::Result<Vec<f64>>>;

/// One of those who are compared in a row.
pub struct Contestant {
    /// The name in reports.
    pub name: &'static str,
    /// Programs of others that it needs.
    pub needs: Vec<&'static str>,
    measure: Measure,
}

impl Contestant {
    /// Made ready, measured and cleaned up by `measure`.
    pub fn new(
        name: &'static str,
        needs: &[&'static str],
        measure: impl Fn(&Setting) -> anyhow::Result<Vec<f64>> + 'static,
    ) -> Contestant {
        Contestant { name, needs: needs.to_vec(), measure: Box::new(measure) }
    }

    /// Measures once.
    ///
    /// # Errors
    /// Why there are no figures; [`Unavailable`] when there cannot be any on this machine.
    ///
    /// # Panics
    /// When a program cannot be started or does not come up; the message shows what it said.
    pub fn measure(&self, setting: &Setting) -> anyhow::Result<Vec<f64>> {
        (self.measure)(setting)
    }
}

/// This machine cannot do it, for no fault of the benchmark or of who is measured.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// Which ratios a row shows besides those that have a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// The first contestant, which is vmlan, to each other one.
    FirstToOthers,
    /// Each other one to the first, which is where vmlan has least to do.
    OthersToFirst,
}

/// One line of work.
pub struct Row {
    /// Where it belongs.
    pub group: Group,
    /// The name on the command line and of its charts: the group, a hyphen, and what is particular.
    pub name: &'static str,
    /// The measured traffic, for people to read.
    pub title: &'static str,
    /// The quantities that come out.
    pub figures: &'static [Figure],
    /// The candidates that are compared.
    pub contestants: Vec<Contestant>,
    /// Which ratios are shown.
    pub pairs: Pairs,
    /// The targets.
    pub targets: Vec<Target>,
    /// How often `Setting::duration` a measurement takes about.
    pub measurements: f64,
}

impl Row {
    /// A row that compares the first contestant with each other one, once.
    pub fn new(
        group: Group,
        name: &'static str,
        title: &'static str,
        figures: &'static [Figure],
        contestants: Vec<Contestant>,
        targets: Vec<Target>,
    ) -> Row {
        let pairs = Pairs::FirstToOthers;
        Row { group, name, title, figures, contestants, pairs, targets, measurements: 1.0 }
    }
}

/// Our own programs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// This one, which is the relays too.
    pub bench: PathBuf,
    /// The vmlan to measure.
    pub vmlan: PathBuf,
}

/// How to measure.
pub struct Setting {
    /// The measurement.
    pub programs: Programs,
    /// How long a measurement takes.
    pub duration: Duration,
    /// How long the long run takes.
    pub long: Duration,
    patience: Duration,
    quiet: Cell<Option<Quiet>>,
}

impl Setting {
    /// With these programs; waits for at most `patience` for a quiet machine before each measurement.
    pub fn new(programs: Programs, duration: Duration, long: Duration, patience: Duration) -> Setting {
        Setting { programs, duration, long, patience, quiet: Cell::new(None) }
    }

    /// Waits for a quiet machine: everything is set up and the measurement comes next.
    ///
    /// # Errors
    /// When the user wants an end.
    pub fn wait_for_quiet(&self) -> anyhow::Result<()> {
        let quiet = wait_for_quiet(self.patience, interrupt::requested).context("/proc/stat")?;
        // The busiest of several counts.
        let busiest = self.quiet.get().filter(|before| before.busy > quiet.busy).unwrap_or(quiet);
        self.quiet.set(Some(busiest));
        if interrupt::requested() {
            bail!("interrupted");
        }
        Ok(())
    }

    /// How busy the machine was at most before the measurements since the last time; `None` when there were none.
    pub fn take_quiet(&self) -> Option<Quiet> {
        self.quiet.take()
    }
}
