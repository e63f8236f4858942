#![forbid(unsafe_code)]
//! The benchmark: two network namespaces, joined by vmlan and by what else joins them, measured in turns.
//!
//! | Module | Is |
//! |---|---|
//! | `world` | the two namespaces and everything that must go with them |
//! | `peer` | the ways to join them: one function for each |
//! | `relay` | the bare relays, which run as programs of their own |
//! | `measure` | one measurement a module, on a world that is joined |
//! | `machine` | what the figures were measured on, and whether it was quiet |
//! | `campaign` | who is measured when, and what is said meanwhile |
//! | `report` | medians and ratios, as a table and as JSON |
//!
//! Progress goes to standard error and the tables to standard output. The exit status is 0, 1 when something failed, 2 for a
//! command line that is not understood, 130 after Ctrl-C.

mod arguments;
mod attempt;
mod campaign;
mod interrupt;
mod machine;
mod measure;
mod peer;
mod progress;
mod relay;
mod report;
mod world;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Parser;

use arguments::{Arguments, Command};
use campaign::Campaign;
use machine::Machine;
use peer::{Peer, Programs};
use report::{Report, Settings};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Some(Command::Relay { mechanism, first, second }) => {
            relay::run(mechanism, &first, &second).map(|()| ExitCode::SUCCESS)
        }
        None => bench(arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn bench(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let peers = arguments.peers();
    let this = env::current_exe().context("the path of this program")?;
    let vmlan = arguments.vmlan.unwrap_or_else(|| this.with_file_name("vmlan"));
    check_needs(&peers, &vmlan)?;
    let machine = Machine::look().context("what this machine is")?;
    // Known to be writable before the hour that the measurements may take.
    let json = arguments.json.as_deref().map(create).transpose()?;

    interrupt::install().context("watching for Ctrl-C")?;
    attempt::quiet_panics();
    let settings = Settings { rounds: arguments.rounds, seconds: arguments.seconds.as_secs_f64() };
    let campaign = Campaign::new(settings, arguments.patience, peers, Programs { bench: this, vmlan });
    eprintln!("{}", machine.line());
    let runs = campaign.run();
    world::sweep();

    let report = Report::new(machine, settings, runs);
    if !report.is_empty() {
        print!("{}", report.tables());
    }
    if let Some((mut file, path)) = json {
        report.write(&mut file).with_context(|| format!("cannot write {}", path.display()))?;
    }
    for failure in report.failures() {
        eprintln!("error: {failure}");
    }
    Ok(if interrupt::requested() {
        eprintln!("interrupted; nothing is left behind, and figures are of what was measured before");
        ExitCode::from(130)
    } else if report.failures().next().is_some() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn create(path: &Path) -> anyhow::Result<(fs::File, PathBuf)> {
    let file = fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok((file, path.to_owned()))
}

/// All that is missing is told at once, and before anything is measured.
fn check_needs(peers: &[Peer], vmlan: &Path) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "the benchmark makes network namespaces, TAP and veth interfaces, and needs root for it: run it with sudo"
        );
    }
    ensure!(Path::new("/dev/net/tun").exists(), "/dev/net/tun is missing: `modprobe tun`");
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &str| env::split_paths(&path).any(|directory| directory.join(name).is_file());
    let mut missing: Vec<&str> = world::PROGRAMS.to_vec();
    missing.extend(peers.iter().flat_map(|peer| peer.programs()));
    missing.retain(|program| !is_there(program));
    missing.sort_unstable();
    missing.dedup();
    ensure!(
        missing.is_empty(),
        "missing programs: {}; `apt-get install iproute2 iputils-ping iperf3 ethtool vde2` has them all",
        missing.join(", ")
    );
    ensure!(
        vmlan.is_file() || !peers.iter().any(|peer| peer.is_vmlan()),
        "there is no {}: build it with `cargo build --release -p vmlan`, or name another with --vmlan",
        vmlan.display()
    );
    Ok(())
}
