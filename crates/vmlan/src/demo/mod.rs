//! `vmlan demo`: the main job on an embedded default.
//!
//! Theory of operation. A daemon runs inside this process with one network ([`lab`]). Guests that live in the process
//! too, each with a TCP/IP stack of its own, are attached to it by the sockets that real guests use; as root, the
//! kernel's own stack joins by a TAP in a namespace without a name ([`kernel`]). They ping each other and send each
//! other TCP ([`measure`]). Two more guests have nothing set: they get addresses and names from the network's uplink,
//! and by it reach a server of this process and are reached by it ([`uplink`]). A capture runs beside it, and in the
//! end the counters of all ports must balance ([`books`]). The first thing that does not work ends the demonstration
//! with an error.
//!
//! Everything that it makes is under one temporary directory or ends with the process, except the capture file; a
//! signal that ends it early removes both ([`interrupt`]). Progress goes to stderr, results to stdout.

mod books;
mod host;
mod interrupt;
mod lab;
mod measure;
mod report;
mod sockets;
mod uplink;

#[cfg(target_os = "linux")]
#[path = "linux/kernel.rs"]
mod kernel;
#[cfg(target_os = "macos")]
#[path = "macos/kernel.rs"]
mod kernel;

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use tempfile::{TempDir, TempPath};
use vmlan_daemon::capture::{self, Capture};

use self::books::Books;
use self::host::{Family, Host};
use self::lab::Lab;
use self::measure::{RoundTrips, Throughput};
use self::uplink::{Step, Uplinked};
use crate::command::Failure;
use crate::output::{print, tell};

/// The longest that anything may take that is a matter of milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// How the names of all that is made begin.
const PREFIX: &str = "vmlan-demo-";

/// Enough of each frame for its headers, and of frames for a few screens of tshark.
const CAPTURE: capture::Options = capture::Options {
    snaplen: 128,
    frames: Some(20_000),
    queue: 4 << 20,
    drops: false,
    both: false,
    filter: None,
};

/// Results of the demonstration.
struct Results {
    ports: Vec<vmlan_api::Port>,
    steps: Vec<Step>,
    round_trips: Vec<RoundTrips>,
    throughputs: Vec<Throughput>,
    books: Books,
    capture: capture::Report,
}

/// Runs the demonstration.
///
/// # Errors
/// When it cannot be set up, something does not arrive as it was sent, or the counters do not balance.
pub fn run() -> Result<(), Failure> {
    let start = Instant::now();
    let files = Files::create()?;
    let lab = Lab::start(files.directory.path())?;
    let left_out = lab.left_out.clone();
    let results = demonstrate(&lab, &files.capture);
    // What was captured tells more than an error alone.
    let capture = files.capture.keep().context("the capture file cannot be kept")?;
    let what =
        || format!("the demonstration failed; what was captured until then is in {}", capture.display());
    let results = results.with_context(what)?;
    lab.end();
    let path = files.directory.path().to_owned();
    files.directory.close().with_context(|| format!("{} cannot be removed", path.display()))?;
    print(&report::text(&results, &left_out, &capture, start.elapsed()))
}

fn demonstrate(lab: &Lab, file: &Path) -> anyhow::Result<Results> {
    let file = File::options().write(true).open(file).context("the capture file cannot be opened")?;
    let capture = lab.daemon.capture(Some(lab::NETWORK), file, CAPTURE)?;
    let (uplinked, steps) = Uplinked::start(lab)?;
    let hosts = lab.hosts();
    let round_trips = ping_all(lab, &hosts)?;
    let mut throughputs = transfer_all(&hosts)?;
    throughputs.extend(uplinked.transfer()?);

    progress("counting: every copy of a frame must have been sent, dropped for a reason, or still wait");
    let balanced = |ports: &[vmlan_api::Port]| Books::of(ports).balance();
    let ports = lab.daemon.wait(PATIENCE, balanced)?;
    let books = Books::of(&ports);
    anyhow::ensure!(
        books.balance(),
        "the books do not balance: {books}; this is a bug in vmlan, please report it"
    );
    let capture = finish(capture)?;
    Ok(Results { ports, steps, round_trips, throughputs, books, capture })
}

/// Every guest to everybody else, both families.
fn ping_all(lab: &Lab, hosts: &[&dyn Host]) -> anyhow::Result<Vec<RoundTrips>> {
    progress(&format!(
        "pinging: everybody, over IPv4 and IPv6, {} echo requests each",
        measure::ECHO_REQUESTS
    ));
    let mut round_trips = Vec::new();
    for from in &lab.guests {
        for to in hosts.iter().filter(|to| to.name() != from.name()) {
            round_trips.push(measure::ping(from.guest(), *to)?);
        }
    }
    Ok(round_trips)
}

/// Everybody to everybody else; of two directions one over IPv4 and one over IPv6.
fn transfer_all(hosts: &[&dyn Host]) -> anyhow::Result<Vec<Throughput>> {
    let seconds = measure::TRANSFER.as_secs_f64();
    progress(&format!("sending TCP: {seconds} s from everybody to everybody, every octet compared"));
    let mut throughputs = Vec::new();
    for (number, from) in hosts.iter().enumerate() {
        for (other, to) in hosts.iter().enumerate().filter(|(other, _)| *other != number) {
            let wanted = if number < other { Family::Ipv4 } else { Family::Ipv6 };
            let family = if to.address(wanted).is_some() { wanted } else { Family::Ipv4 };
            throughputs.push(measure::transfer(*from, *to, family)?);
        }
    }
    Ok(throughputs)
}

fn finish(capture: Capture) -> anyhow::Result<capture::Report> {
    let mut report = capture.stop();
    match report.error.take() {
        Some(error) => Err(error).context("the capture file cannot be written"),
        None => Ok(report),
    }
}

/// Files that the demonstration keeps on disk.
struct Files {
    /// For the sockets; goes when dropped.
    directory: TempDir,
    /// The one thing that stays, once something was captured.
    capture: TempPath,
}

impl Files {
    fn create() -> anyhow::Result<Files> {
        let place = std::env::temp_dir();
        let cannot =
            || format!("nothing can be made in {}; set TMPDIR to another directory", place.display());
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX);
        let directory = builder.permissions(Permissions::from_mode(0o700)).tempdir().with_context(cannot)?;
        let file =
            tempfile::Builder::new().prefix(PREFIX).suffix(".pcapng").tempfile().with_context(cannot)?;
        let capture = file.into_temp_path();
        interrupt::clean_up_on_signal(directory.path().to_owned(), capture.to_path_buf())
            .context("cannot receive signals")?;
        Ok(Files { directory, capture })
    }
}

/// Tells what is being done.
fn progress(what: &str) {
    tell(&format!("* {what}"));
}
