//! The state of the daemon as metrics (docs/metrics.md).
//!
//! Theory of operation. A scrape is answered by control alone: it gathers what workers, links and networks have written
//! down anyway, and writes it as text. No worker is asked, and nothing is kept between scrapes. Every metric is one row
//! of the tables below, which hold its name, its kind, its explanation and its value.
//!
//! The number of series is bounded by the configuration: of a port there are those of its table, and one for each
//! reason for which it has dropped something, of which there are [`DropReason::COUNT`]. Nothing that a guest chooses is
//! a label.

#[cfg(feature = "control")]
mod answers;
mod text;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use vmlan_api::PortKind;
use vmlan_frame::{Direction, DropReason, Snapshot};
use vmlan_lan::FdbTally;
use vmlan_ports::{Effort, Unrest};

#[cfg(feature = "control")]
pub(crate) use answers::Answers;
pub use text::Format;
use text::{Exposition, Kind, Labels};

/// Gathers and writes the metrics.
pub(crate) type Scrape = Arc<dyn Fn(Format) -> String + Send + Sync>;

/// All that a scrape tells.
pub(crate) struct Facts {
    /// When the process was started, since 1970.
    pub(crate) started: Duration,
    pub(crate) networks: Vec<NetworkFacts>,
    pub(crate) workers: Vec<Effort>,
    pub(crate) ports: Vec<PortFacts>,
}

/// A network.
pub(crate) struct NetworkFacts {
    pub(crate) name: String,
    pub(crate) mtu: usize,
    pub(crate) ports: usize,
    pub(crate) fdb: FdbTally,
    pub(crate) fdb_capacity: usize,
}

/// A port.
pub(crate) struct PortFacts {
    pub(crate) network: String,
    pub(crate) port: String,
    pub(crate) kind: PortKind,
    pub(crate) is_up: bool,
    pub(crate) unrest: Unrest,
    /// None where clients are ports of their own.
    pub(crate) traffic: Option<Snapshot>,
}

/// A metric of something that there are several of.
struct Metric<T> {
    /// The name, without `_total` and `_info`.
    name: &'static str,
    kind: Kind,
    help: &'static str,
    series: fn(&T, &mut Series<'_>),
}

/// The series of one thing, as they are written.
struct Series<'a> {
    text: &'a mut Exposition,
    labels: &'a Labels,
}

impl Series<'_> {
    fn one(&mut self, value: u64) {
        self.text.count(self.labels, "", value);
    }

    /// From the guest, and to it.
    fn both_ways(&mut self, rx: u64, tx: u64) {
        self.text.count(self.labels, RX, rx);
        self.text.count(self.labels, TX, tx);
    }
}

const RX: &str = "direction=\"rx\"";
const TX: &str = "direction=\"tx\"";

const fn metric<T>(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    series: fn(&T, &mut Series<'_>),
) -> Metric<T> {
    Metric { name, kind, help, series }
}

/// The metrics of the process.
static OF_DAEMON: [Metric<Facts>; 2] = [
    metric("vmlan_build", Kind::Info, "The version of the daemon.", |_, to| {
        let version = concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"");
        to.text.count(to.labels, version, 1);
    }),
    metric(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the daemon was started, since 1970.",
        |facts, to| {
            to.text.seconds(to.labels, facts.started);
        },
    ),
];

/// The metrics of a network.
static OF_NETWORKS: [Metric<NetworkFacts>; 5] = [
    metric(
        "vmlan_network_mtu_bytes",
        Kind::Gauge,
        "Largest packet, without Ethernet header and FCS.",
        |network, to| to.one(network.mtu as u64),
    ),
    metric(
        "vmlan_network_ports",
        Kind::Gauge,
        "Ports, clients of VDE directories and control sockets too.",
        |network, to| to.one(network.ports as u64),
    ),
    metric(
        "vmlan_network_fdb_entries",
        Kind::Gauge,
        "Addresses in the forwarding database, fixed ones too.",
        |network, to| to.one(network.fdb.entries as u64),
    ),
    metric(
        "vmlan_network_fdb_limit",
        Kind::Gauge,
        "Most addresses that the forwarding database holds.",
        |network, to| to.one(network.fdb_capacity as u64),
    ),
    metric(
        "vmlan_network_fdb_moves",
        Kind::Counter,
        "Learnt addresses that changed their port.",
        |network, to| to.one(network.fdb.moves),
    ),
];

/// The metrics of a worker.
static OF_WORKERS: [Metric<Effort>; 5] = [
    metric(
        "vmlan_worker_busy_seconds",
        Kind::Counter,
        "Time in turns in which frames were received or sent.",
        |worker, to| to.text.seconds(to.labels, worker.busy),
    ),
    metric("vmlan_worker_turns", Kind::Counter, "Turns given to ports.", |worker, to| to.one(worker.turns)),
    metric(
        "vmlan_worker_polls",
        Kind::Counter,
        "Times that the system was asked which descriptors are ready.",
        |worker, to| to.one(worker.polls),
    ),
    metric("vmlan_worker_batch_frames", Kind::Histogram, "Frames received at once.", |worker, to| {
        let counts = Effort::limits().zip(worker.batches);
        to.text.histogram(to.labels, counts, worker.frames);
    }),
    metric(
        "vmlan_worker_restarts",
        Kind::Counter,
        "Times that the worker began anew after a panic, a bug of vmlan's.",
        |worker, to| to.one(worker.restarts),
    ),
];

/// The metrics of a port.
static OF_PORTS: [Metric<PortFacts>; 12] = [
    metric("vmlan_port", Kind::Info, "The kind of the port.", |port, to| {
        let kind = ["kind=\"", port.kind.as_str(), "\""].concat();
        to.text.count(to.labels, &kind, 1);
    }),
    metric("vmlan_port_up", Kind::Gauge, "1 while frames flow, else 0.", |port, to| {
        to.one(u64::from(port.is_up));
    }),
    metric("vmlan_port_connections", Kind::Counter, "Times that a guest was connected.", |port, to| {
        to.one(port.unrest.connections);
    }),
    metric("vmlan_port_failures", Kind::Counter, "Times that the port came to be failed.", |port, to| {
        to.one(port.unrest.failures);
    }),
    metric("vmlan_port_frames", Kind::Counter, "Frames: rx from the guest, tx to it.", |port, to| {
        let Some(traffic) = &port.traffic else { return };
        to.both_ways(traffic.rx_frames, traffic.tx_frames);
    }),
    metric(
        "vmlan_port_bytes",
        Kind::Counter,
        "Octets of frames, with Ethernet header, without FCS.",
        |port, to| {
            let Some(traffic) = &port.traffic else { return };
            to.both_ways(traffic.rx_octets, traffic.tx_octets);
        },
    ),
    metric(
        "vmlan_port_multicast_frames",
        Kind::Counter,
        "Frames among those to groups, broadcast too.",
        |port, to| {
            let Some(traffic) = &port.traffic else { return };
            to.both_ways(traffic.rx_multicasts, traffic.tx_multicasts);
        },
    ),
    metric(
        "vmlan_port_copies",
        Kind::Counter,
        "Copies made of received frames for other ports.",
        |port, to| {
            let Some(traffic) = &port.traffic else { return };
            to.one(traffic.copies);
        },
    ),
    metric(
        "vmlan_port_no_receiver_frames",
        Kind::Counter,
        "Frames to all or to an unknown address while no other port was there.",
        |port, to| {
            let Some(traffic) = &port.traffic else { return };
            to.one(traffic.dropped(DropReason::NoReceiver));
        },
    ),
    metric("vmlan_port_queued_frames", Kind::Gauge, "Frames that wait for the guest.", |port, to| {
        let Some(traffic) = &port.traffic else { return };
        to.one(traffic.queued);
    }),
    metric(
        "vmlan_port_dropped_frames",
        Kind::Counter,
        "Frames dropped: rx from the guest, tx on their way to it.",
        |port, to| {
            let Some(traffic) = &port.traffic else { return };
            let rx = traffic.dropped_on(Direction::Ingress) - traffic.dropped(DropReason::NoReceiver);
            to.both_ways(rx, traffic.dropped_on(Direction::Egress));
        },
    ),
    metric(
        "vmlan_port_drops",
        Kind::Counter,
        "The dropped frames by reason, for the reasons that there were.",
        |port, to| {
            let Some(traffic) = &port.traffic else { return };
            let reasons = DropReason::ALL.iter().filter(|reason| **reason != DropReason::NoReceiver);
            for reason in reasons.filter(|reason| traffic.dropped(**reason) > 0) {
                let way = match reason.direction() {
                    Direction::Ingress => RX,
                    Direction::Egress => TX,
                };
                let labels = [way, ",reason=\"", reason.name(), "\""].concat();
                to.text.count(to.labels, &labels, traffic.dropped(*reason));
            }
        },
    ),
];

/// Octets of text for a port, roughly.
const ROOM: usize = 2048;

/// Writes all that there is to tell.
pub(crate) fn write(facts: &Facts, format: Format) -> String {
    let mut text = Exposition::new(format, ROOM * (facts.ports.len() + 4));
    let label = |name: &'static str, value: String| Labels::new(&[(name, &value)]);
    let networks = facts.networks.iter().map(|network| label("network", network.name.clone())).collect();
    let workers = (0..facts.workers.len()).map(|number| label("worker", number.to_string())).collect();
    let of_port = |of: &PortFacts| Labels::new(&[("network", &of.network), ("port", &of.port)]);
    let ports = facts.ports.iter().map(of_port).collect();
    write_all(&mut text, &OF_DAEMON, std::slice::from_ref(facts), vec![Labels::default()]);
    write_all(&mut text, &OF_NETWORKS, &facts.networks, networks);
    write_all(&mut text, &OF_WORKERS, &facts.workers, workers);
    write_all(&mut text, &OF_PORTS, &facts.ports, ports);
    text.end()
}

/// Writes metrics of things, each with its labels.
fn write_all<T>(text: &mut Exposition, metrics: &[Metric<T>], of: &[T], labels: Vec<Labels>) {
    for metric in metrics {
        text.begin(metric.name, metric.kind, metric.help);
        for (thing, labels) in of.iter().zip(&labels) {
            (metric.series)(thing, &mut Series { text, labels });
        }
    }
}
