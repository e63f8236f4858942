#![forbid(unsafe_code)]
//! The benchmark: vmlan, what people would use instead, and bare relays that mark the limit, measured in turns.
//!
//! | Module | Is |
//! |---|---|
//! | `row` | what a row of the report is: work, who takes part, what is to be reached |
//! | `rows` | all rows, a module for each group |
//! | `world` | two network namespaces and everything that must go with them |
//! | `peer` | the ways to join these: a module for each |
//! | `plugs` | guests that are datagram sockets instead |
//! | `relay` | the bare relays, which run as programs of their own |
//! | `measure` | one measurement a module, on what is set up |
//! | `machine` | what the figures were measured on, and whether it was quiet |
//! | `campaign` | who is measured when, and what is said meanwhile |
//! | `report` | medians, ratios and what was reached, as tables, Markdown, JSON and charts |
//!
//! Progress goes to standard error and the tables to standard output. The exit status is 0, 1 when something failed, 2
//! for a command line that is not understood, 130 after Ctrl-C. What is missing on this machine is told, and is no
//! failure.

mod arguments;
mod campaign;
mod machine;
mod measure;
mod peer;
mod plugs;
mod progress;
mod relay;
mod report;
mod row;
mod rows;
mod world;

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use arguments::{Arguments, Command};
use machine::Machine;
use report::{Report, Settings};
use row::{Programs, Row, Setting};
use testbed::{attempt, interrupt};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Some(Command::Relay(relay)) => relay.run().map(|()| ExitCode::SUCCESS),
        None => bench(arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn bench(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let rows = match rows::choose(&arguments.only) {
        Ok(rows) => rows,
        Err(unknown) => {
            eprintln!("error: there is no group or row {}; --list shows all", unknown.join(", "));
            return Ok(ExitCode::from(2));
        }
    };
    if arguments.list {
        list(&rows);
        return Ok(ExitCode::SUCCESS);
    }
    let this = env::current_exe().context("the path of this program")?;
    let vmlan = arguments.vmlan.unwrap_or_else(|| this.with_file_name("vmlan"));
    check_needs(&vmlan)?;
    raise_limit()?;
    let machine = Machine::look().context("what this machine is")?;
    // Known to be writable before the hours that the measurements may take.
    let json = arguments.json.as_deref().map(create).transpose()?;
    let markdown = arguments.markdown.as_deref().map(create).transpose()?;
    if let Some(charts) = &arguments.charts {
        fs::create_dir_all(charts).with_context(|| format!("cannot make {}", charts.display()))?;
    }
    interrupt::install().context("watching for Ctrl-C")?;
    attempt::quiet_panics();

    let programs = Programs { bench: this, vmlan };
    let setting = Setting::new(programs, arguments.seconds, arguments.long, arguments.patience);
    let settings = Settings {
        rounds: arguments.rounds,
        seconds: arguments.seconds.as_secs_f64(),
        long_seconds: arguments.long.as_secs_f64(),
    };
    eprintln!("{}", machine.line());
    say_missing(&rows);
    let time = campaign::guess(&rows, &setting) * arguments.rounds;
    eprintln!("{} rows, {} rounds: about {} min", rows.len(), arguments.rounds, time.as_secs().div_ceil(60));
    let runs = campaign::run(&rows, arguments.rounds, &setting);
    world::sweep();

    let report = Report::new(machine, settings, rows, runs);
    if !report.is_empty() {
        print!("{}", report.tables());
    }
    if let Some((mut file, path)) = json {
        report.write(&mut file).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some((mut file, path)) = markdown {
        let written = file.write_all(report.markdown(arguments.charts.as_deref()).as_bytes());
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(charts) = &arguments.charts {
        report.draw(charts)?;
    }
    for failure in report.failures() {
        eprintln!("error: {failure}");
    }
    for missing in report.missing() {
        eprintln!("MISSING: {missing}");
    }
    Ok(if interrupt::requested() {
        eprintln!("interrupted; nothing is left behind, and figures are of what was measured before");
        ExitCode::from(130)
    } else if report.failures().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn list(rows: &[Row]) {
    for row in rows {
        println!("{:24} {}", row.name, row.title);
        let names: Vec<&str> = row.contestants.iter().map(|contestant| contestant.name).collect();
        println!("{:24} {}", "", names.join(" | "));
    }
}

fn create(path: &Path) -> anyhow::Result<(fs::File, PathBuf)> {
    let file = fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok((file, path.to_owned()))
}

/// All that is missing and without which nothing can be measured is told at once.
fn check_needs(vmlan: &Path) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "the benchmark makes network namespaces, TAP and veth interfaces, and needs root for it: run it with sudo"
        );
    }
    ensure!(Path::new("/dev/net/tun").exists(), "/dev/net/tun is missing: `modprobe tun`");
    let missing: Vec<&str> =
        world::PROGRAMS.into_iter().filter(|program| !campaign::is_there(program)).collect();
    ensure!(
        missing.is_empty(),
        "missing programs: {}; `apt-get install iproute2 iputils-ping iperf3 ethtool` has them all",
        missing.join(", ")
    );
    ensure!(
        vmlan.is_file(),
        "there is no {}: build it with `cargo build --release -p vmlan`, or name another with --vmlan",
        vmlan.display()
    );
    Ok(())
}

/// Peers that are not there are named before the rest is measured without them.
fn say_missing(rows: &[Row]) {
    let contestants = rows.iter().flat_map(|row| &row.contestants);
    let mut missing: Vec<&str> = contestants
        .flat_map(|one| one.needs.iter().copied())
        .filter(|program| !campaign::is_there(program))
        .collect();
    missing.sort_unstable();
    missing.dedup();
    if !missing.is_empty() {
        eprintln!("MISSING: {}: rows that need them are told as missing", missing.join(", "));
    }
}

/// Hundreds of guests have a socket each, and the programs that are run inherit the limit.
fn raise_limit() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).context("the limit of open files")
}
