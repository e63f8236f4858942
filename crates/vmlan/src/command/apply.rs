//! `check` and `apply`: configuration files.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use vmlan_daemon::config::{self, ConfigErrors, Located, ValidConfig};

use super::{Failure, control_path};
use crate::args::Output;
use crate::client::{Bounds, Client};
use crate::output::{self, or_dash, print, print_json};
use crate::table::table;

/// The most that a check waits for the vmlan that runs, and that it reads of its configuration.
const LOOK: Bounds = Bounds { time: Some(Duration::from_secs(5)), octets: 64 << 20 };

/// Checks a file and tells what it holds, or every fault in it, and everything that can never be set up; with `here`
/// also what this machine lacks for it, beside the vmlan at `control` if one runs.
pub fn check(file: &Path, here: bool, control: Option<&Path>, output: Output) -> Result<(), Failure> {
    let config = match config::load(file) {
        Ok(config) => config,
        Err(errors) if output.json => return told_as_json(file, &errors),
        Err(errors) => return Err(faults(file, &errors)),
    };
    let mut found = config::hindrances(&config);
    let never = found.len();
    if here {
        found.extend(config::here(&config, running(control).as_ref()));
    }
    let notes = config::notes(&config);
    let ports: usize = config.networks().values().map(|network| network.ports.len()).sum();
    if output.json {
        print_json(&json!({
            "file": file, "networks": config.networks().len(), "ports": ports, "errors": found, "notes": notes,
        }))?;
        return if found.is_empty() { Ok(()) } else { Err(Failure::Told) };
    }
    if !found.is_empty() {
        let told = found.iter().enumerate().map(|(number, error)| {
            let field = error.field.as_deref().unwrap_or_default();
            let what = if number < never { "can never be set up" } else { "cannot be set up here now" };
            format!("{field} {what}: {}", error.message)
        });
        let told = told.collect::<Vec<_>>().join("\nerror: ");
        return Err(Failure::Failed(anyhow::anyhow!("{told}\n --> {}", file.display())));
    }
    let summary = format!(
        "{}: good, with {} and {}\n",
        file.display(),
        counted(config.networks().len(), "network"),
        counted(ports, "port")
    );
    print(&summary)?;
    tell_notes(&notes)
}

/// The configuration of the vmlan that runs, if one answers.
fn running(control: Option<&Path>) -> Option<ValidConfig> {
    let client = Client::new(&control_path(control).ok()?).ok()?.bounded(LOOK);
    config::validate(client.get("/v1/config").ok()?).ok()
}

/// The faults of a file for a program, each with its place.
fn told_as_json(file: &Path, errors: &ConfigErrors) -> Result<(), Failure> {
    let fault = |located: &Located| {
        let place = located.place.as_ref();
        let vmlan_api::Error { code, message, field, .. } = &located.error;
        json!({
            "code": code, "message": message, "field": field,
            "line": place.map(|place| place.line), "column": place.map(|place| place.column),
        })
    };
    let errors: Vec<_> = errors.faults().iter().map(fault).collect();
    print_json(&json!({ "file": file, "networks": null, "ports": null, "errors": errors, "notes": [] }))?;
    Err(Failure::Told)
}

/// Sends a file to the daemon, or has it read its own.
pub fn apply(client: &Client, file: Option<&Path>, dry_run: bool, output: Output) -> Result<(), Failure> {
    let report: vmlan_api::ApplyReport = match file {
        Some(file) => {
            let config = load(file)?.as_api().clone();
            client.post("/v1/apply", &vmlan_api::ApplyRequest { dry_run, config })?
        }
        None => client.post("/v1/reload", &vmlan_api::ReloadRequest { dry_run })?,
    };
    tell(&report, output)
}

/// Writes what was done; an action that failed makes the command fail.
pub fn tell(report: &vmlan_api::ApplyReport, output: Output) -> Result<(), Failure> {
    if output.json {
        print_json(report)?;
    } else {
        match report.actions.is_empty() {
            true => print("nothing to do: this configuration runs already\n")?,
            false => print(&table(&["ACTION", "NETWORK", "PORT", "OUTCOME", "REASON"], &rows(report)))?,
        }
        tell_notes(&report.notes)?;
    }
    if report.failed() > 0 { Err(Failure::Told) } else { Ok(()) }
}

fn tell_notes(notes: &[String]) -> Result<(), Failure> {
    notes.iter().try_for_each(|note| print(&format!("note: {note}\n")))
}

fn rows(report: &vmlan_api::ApplyReport) -> Vec<Vec<String>> {
    let row = |action: &vmlan_api::ActionReport| {
        vec![
            action.action.as_str().to_owned(),
            or_dash(action.network.as_deref()),
            or_dash(action.port.as_deref()),
            action.outcome.as_str().to_owned(),
            or_dash(action.reason.as_deref()),
        ]
    };
    report.actions.iter().map(row).collect()
}

fn load(file: &Path) -> Result<ValidConfig, Failure> {
    config::load(file).map_err(|errors| faults(file, &errors))
}

fn faults(file: &Path, errors: &ConfigErrors) -> Failure {
    let count = errors.faults().len();
    output::tell(&format!("{errors}\n{}: {}", file.display(), counted(count, "error")));
    Failure::Told
}

/// `1 port`, `2 ports`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
