#![forbid(unsafe_code)]
//! `vmlan-attack`: attacks on a daemon of its own, as a table.
//!
//! Progress goes to standard error and the table to standard output. The exit status is 0 when every promise holds, 1
//! when one is broken or an attack could not be carried out, 2 for a command line that is not understood, 130 after
//! Ctrl-C.

mod arguments;

use std::env;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use attack::{Attack, Report, Settings, Shape, Stage, themes};
use clap::Parser;
use testbed::{attempt, interrupt};

use arguments::Arguments;

/// How long what has to happen during and after an attack may take.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    run(Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let attacks = match themes::choose(&arguments.only) {
        Ok(attacks) => attacks,
        Err(unknown) => {
            eprintln!("error: there is no theme or attack {}; --list shows all", unknown.join(", "));
            return Ok(ExitCode::from(2));
        }
    };
    if arguments.list {
        list(&arguments.only);
        return Ok(ExitCode::SUCCESS);
    }
    let this = env::current_exe().context("the path of this program")?;
    let vmlan = arguments.vmlan.unwrap_or_else(|| this.with_file_name("vmlan"));
    ensure!(
        vmlan.is_file(),
        "there is no {}: build it with `cargo build --release -p vmlan`, or name another with --vmlan",
        vmlan.display()
    );
    let json = arguments.json.as_deref().map(create).transpose()?;
    let markdown = arguments.markdown.as_deref().map(create).transpose()?;
    interrupt::install().context("watching for Ctrl-C")?;
    attempt::quiet_panics();
    attack::raise_limit()?;

    let shape = Shape::look().context("the processors")?;
    let limit = arguments.limit.unwrap_or_else(|| shape.limit());
    let machine = shape.line(limit);
    eprintln!("{machine}");
    let is_root = rustix::process::geteuid().is_root();
    let (attacks, left): (Vec<_>, Vec<_>) =
        attacks.into_iter().partition(|attack| is_root || attack.card().stage == Stage::Sockets);
    if !left.is_empty() {
        let names: Vec<_> = left.iter().map(|attack| attack.card().name).collect();
        eprintln!("NOT ROOT: without {}, and without probes behind TAPs", names.join(", "));
    }
    let settings = Settings {
        vmlan,
        rounds: arguments.rounds,
        time: arguments.seconds,
        limit: Some(limit),
        patience: PATIENCE,
        is_short: false,
    };
    let mut outcomes = Vec::new();
    for (number, attack) in (1..).zip(&attacks) {
        let card = attack.card();
        eprint!("[{number:>2}/{}] {}: ", attacks.len(), card.name);
        let outcome = attack::run(*attack, &settings);
        if interrupt::requested() {
            break;
        }
        eprintln!("{}", attack::line(&outcome));
        outcomes.push(outcome);
    }

    let seconds = arguments.seconds.as_secs_f64();
    let report = Report { machine, limit, rounds: arguments.rounds, seconds, outcomes };
    if !report.outcomes.is_empty() {
        print!("{}", report.table());
    }
    if let Some((mut file, path)) = json {
        report.write(&mut file).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some((mut file, path)) = markdown {
        let written = file.write_all(report.markdown().as_bytes());
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if interrupt::requested() {
        eprintln!("interrupted; nothing is left behind");
        ExitCode::from(130)
    } else if report.holds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn list(only: &[String]) {
    for theme in themes::ALL {
        let is_wanted = |attack: &&&dyn Attack| {
            only.is_empty() || only.iter().any(|name| *name == theme.name || *name == attack.card().name)
        };
        for attack in theme.attacks.iter().filter(is_wanted) {
            let card = attack.card();
            let root = if card.stage == Stage::Sockets { "" } else { " (root)" };
            println!("{:12} {:24} {}{root}", theme.name, card.name, card.about);
        }
    }
}

fn create(path: &Path) -> anyhow::Result<(File, PathBuf)> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok((file, path.to_owned()))
}
