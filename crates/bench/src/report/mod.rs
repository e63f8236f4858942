//! What came of it: medians, ratios, every figure.
//!
//! Figures of different rounds are never divided by each other: the same program differs by a third from one minute to the next. A ratio is made within
//! each round, and its median over the rounds is told.

mod statistics;
mod table;

pub use statistics::quantile;

use std::io::{self, Write};

use serde::{Serialize, Serializer};

use crate::machine::Machine;
use crate::measure::{PacketRate, RoundTrip, Tcp};
use crate::peer::Peer;
use statistics::median;
use table::Table;

/// How the measurements were made.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Settings {
    /// How many times each peer was measured.
    pub rounds: u32,
    /// How long a measurement took.
    pub seconds: f64,
}

/// A measurement, and how busy the machine was just before.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample<T> {
    /// What was measured.
    #[serde(flatten)]
    pub value: T,
    /// Share of all processors' time that something else used, 0 to 1.
    pub busy_before: f64,
    /// Whether that was too much to trust the figure by itself.
    pub noisy: bool,
}

/// All that was measured of a peer in a round.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figures {
    /// Throughput.
    pub tcp: Sample<Tcp>,
    /// Packets of 64 octets.
    pub rate: Sample<PacketRate>,
    /// Packets of 64 octets there and back, through another processor.
    pub round_trip: Sample<RoundTrip>,
    /// The same with everything on one processor.
    pub round_trip_one_cpu: Sample<RoundTrip>,
}

impl Figures {
    fn noisy(&self) -> impl Iterator<Item = bool> {
        let Figures { tcp, rate, round_trip, round_trip_one_cpu } = self;
        [tcp.noisy, rate.noisy, round_trip.noisy, round_trip_one_cpu.noisy].into_iter()
    }
}

/// A peer in a round.
#[derive(Debug, Serialize)]
pub struct Run {
    /// Counted from 1.
    pub round: u32,
    /// Who was measured.
    #[serde(serialize_with = "name")]
    pub peer: Peer,
    /// What came of it, or why nothing did.
    #[serde(flatten, serialize_with = "outcome")]
    pub figures: Result<Figures, String>,
}

fn name<S: Serializer>(peer: &Peer, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(peer.name())
}

fn outcome<S: Serializer>(figures: &Result<Figures, String>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Outcome<'a> {
        figures: Option<&'a Figures>,
        error: Option<&'a str>,
    }
    let error = figures.as_ref().err().map(String::as_str);
    Outcome { figures: figures.as_ref().ok(), error }.serialize(serializer)
}

/// A figure that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metric {
    Tcp,
    Rate,
    RoundTripMedian,
    RoundTripTail,
    RoundTripOneCpu,
}

impl Metric {
    const ALL: [Metric; 5] =
        [Metric::Tcp, Metric::Rate, Metric::RoundTripMedian, Metric::RoundTripTail, Metric::RoundTripOneCpu];

    fn of(self, figures: &Figures) -> f64 {
        match self {
            Metric::Tcp => figures.tcp.value.gbit_per_s,
            Metric::Rate => figures.rate.value.received_mpps,
            Metric::RoundTripMedian => figures.round_trip.value.p50_us,
            Metric::RoundTripTail => figures.round_trip.value.p99_us,
            Metric::RoundTripOneCpu => figures.round_trip_one_cpu.value.p50_us,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Metric::Tcp => "TCP Gbit/s",
            Metric::Rate => "64 octets Mpps",
            Metric::RoundTripMedian => "RTT p50 µs",
            Metric::RoundTripTail => "RTT p99 µs",
            Metric::RoundTripOneCpu => "one CPU p50 µs",
        }
    }
}

/// A number for each metric as JSON, in the order of [`Metric::ALL`]; `null` where no round has one.
#[derive(Debug, PartialEq, Serialize)]
struct Summary {
    tcp_gbit_per_s: Option<f64>,
    received_mpps: Option<f64>,
    rtt_p50_us: Option<f64>,
    rtt_p99_us: Option<f64>,
    rtt_one_cpu_p50_us: Option<f64>,
}

impl Summary {
    fn new(of: impl Fn(Metric) -> Option<f64>) -> Summary {
        Summary {
            tcp_gbit_per_s: of(Metric::Tcp),
            received_mpps: of(Metric::Rate),
            rtt_p50_us: of(Metric::RoundTripMedian),
            rtt_p99_us: of(Metric::RoundTripTail),
            rtt_one_cpu_p50_us: of(Metric::RoundTripOneCpu),
        }
    }
}

/// All that was measured.
pub struct Report {
    machine: Machine,
    settings: Settings,
    runs: Vec<Run>,
}

impl Report {
    /// Of these runs.
    pub fn new(machine: Machine, settings: Settings, runs: Vec<Run>) -> Report {
        Report { machine, settings, runs }
    }

    /// Whether nobody was measured or tried.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// One message for each run that failed.
    pub fn failures(&self) -> impl Iterator<Item = String> {
        self.runs.iter().filter_map(|run| {
            let error = run.figures.as_ref().err()?;
            Some(format!("{} failed in round {}: {error}", run.peer.name(), run.round))
        })
    }

    /// Tables of medians and ratios, for a person.
    pub fn tables(&self) -> String {
        let head = |first| [first].into_iter().chain(Metric::ALL.map(Metric::title)).chain(["rounds"]);
        let mut medians = Table::new(head("median"));
        for peer in self.peers() {
            let rounds = self.figures(peer).count().to_string();
            let values = Metric::ALL.map(|metric| number(self.median(peer, metric)));
            medians.row([peer.name().to_owned()].into_iter().chain(values).chain([rounds]));
        }
        let mut ratios = Table::new(head("median ratio"));
        for (ours, theirs) in self.pairs() {
            let rounds = self.rounds_of_both(ours, theirs).count().to_string();
            let values = Metric::ALL.map(|metric| number(self.ratio(ours, theirs, metric)));
            let name = format!("{} / {}", ours.name(), theirs.name());
            ratios.row([name].into_iter().chain(values).chain([rounds]));
        }
        let good = self.runs.iter().filter_map(|run| run.figures.as_ref().ok());
        let noisy: Vec<bool> = good.flat_map(Figures::noisy).collect();
        let (measured, noisy) = (noisy.len(), noisy.into_iter().filter(|noisy| *noisy).count());
        format!(
            "{}\nrounds: {}, seconds: {}, {noisy} of {measured} measurements began on a noisy machine\n\n{}\n{}",
            self.machine.line(),
            self.settings.rounds,
            self.settings.seconds,
            medians,
            ratios
        )
    }

    /// Everything as JSON.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let medians: Vec<_> = self.peers().map(|peer| {
            serde_json::json!({ "peer": peer.name(), "median": Summary::new(|metric| self.median(peer, metric)) })
        }).collect();
        let ratios: Vec<_> = self
            .pairs()
            .map(|(ours, theirs)| {
                let median = Summary::new(|metric| self.ratio(ours, theirs, metric));
                serde_json::json!({ "of": ours.name(), "to": theirs.name(), "median": median })
            })
            .collect();
        let report = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "machine": self.machine,
            "settings": self.settings,
            "medians": medians,
            "ratios": ratios,
            "runs": self.runs,
        });
        serde_json::to_writer_pretty(&mut *to, &report)?;
        to.write_all(b"\n")?;
        to.flush()
    }

    /// Who was measured or tried.
    fn peers(&self) -> impl Iterator<Item = Peer> {
        Peer::ALL.into_iter().filter(|peer| self.runs.iter().any(|run| run.peer == *peer))
    }

    fn pairs(&self) -> impl Iterator<Item = (Peer, Peer)> {
        let has = |peer| self.runs.iter().any(|run| run.peer == peer);
        Peer::RATIOS.into_iter().filter(move |(ours, theirs)| has(*ours) && has(*theirs))
    }

    /// By round.
    fn figures(&self, peer: Peer) -> impl Iterator<Item = (u32, &Figures)> {
        let of_peer = self.runs.iter().filter(move |run| run.peer == peer);
        of_peer.filter_map(|run| Some((run.round, run.figures.as_ref().ok()?)))
    }

    fn median(&self, peer: Peer, metric: Metric) -> Option<f64> {
        median(self.figures(peer).map(|(_, figures)| metric.of(figures)))
    }

    fn rounds_of_both(&self, ours: Peer, theirs: Peer) -> impl Iterator<Item = (&Figures, &Figures)> {
        self.figures(ours).filter_map(move |(round, figures)| {
            let (_, others) = self.figures(theirs).find(|(other, _)| *other == round)?;
            Some((figures, others))
        })
    }

    fn ratio(&self, ours: Peer, theirs: Peer, metric: Metric) -> Option<f64> {
        median(self.rounds_of_both(ours, theirs).map(|(ours, theirs)| metric.of(ours) / metric.of(theirs)))
    }
}

/// With about three digits that mean something.
fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) if value >= 1.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests;
