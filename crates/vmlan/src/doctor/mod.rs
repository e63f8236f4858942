//! `doctor`: what this machine offers to vmlan, and what to do where it does not.

mod control;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
mod sockets;
mod subject;

#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(target_os = "macos")]
use macos as platform;

use std::path::PathBuf;

use serde::Serialize;

pub use platform::ROOT_RUNTIME_DIRECTORY;
pub use subject::Subject;

use crate::args::Output;
use crate::command::Failure;
use crate::output::{print, print_json};
use crate::progress::Progress;
use crate::table::table;

/// Descriptors that a daemon with many ports wants.
const WANTED_DESCRIPTORS: u64 = 4096;

/// Columns of the findings.
const HEAD: [&str; 4] = ["STATUS", "CHECK", "VALUE", "HINT"];

/// One look at the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The thing that was looked at.
    check: Subject,
    /// How it is.
    status: Level,
    /// Finding of the check.
    value: String,
    /// Advice, where there is something to do.
    hint: Option<String>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As vmlan wants it.
    Ok,
    /// Something does not work, or not as well as it could.
    Warn,
    /// vmlan cannot run.
    Fail,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

impl Check {
    fn ok(check: Subject, value: impl Into<String>) -> Self {
        Self { check, status: Level::Ok, value: value.into(), hint: None }
    }

    fn warn(check: Subject, value: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check, status: Level::Warn, value: value.into(), hint: Some(hint.into()) }
    }

    fn fail(check: Subject, value: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check, status: Level::Fail, value: value.into(), hint: Some(hint.into()) }
    }
}

/// Looks at everything, and with `clean` removes what was left behind; fails when vmlan cannot run here.
pub fn run(control: anyhow::Result<PathBuf>, clean: bool, output: Output) -> Result<(), Failure> {
    let progress = Progress::start("looking at this machine");
    let checks = checks(control, clean);
    drop(progress);
    if output.json {
        print_json(&checks)?;
    } else {
        print(&table(&HEAD, &checks.iter().map(row).collect::<Vec<_>>()))?;
    }
    if checks.iter().any(|check| check.status == Level::Fail) { Err(Failure::Told) } else { Ok(()) }
}

/// Looks at everything, as text for a report.
pub fn report(control: anyhow::Result<PathBuf>) -> String {
    table(&HEAD, &checks(control, false).iter().map(row).collect::<Vec<_>>())
}

fn checks(control: anyhow::Result<PathBuf>, clean: bool) -> Vec<Check> {
    let mut checks = vec![user()];
    checks.extend(platform::checks());
    checks.push(leftovers(clean));
    checks.extend(control.as_ref().ok().map(|control| sockets::check(control)));
    checks.push(descriptors());
    checks.push(resolver());
    checks.extend(control::checks(control));
    checks
}

fn row(check: &Check) -> Vec<String> {
    vec![
        check.status.as_str().to_owned(),
        check.check.name().to_owned(),
        check.value.clone(),
        check.hint.clone().unwrap_or_default(),
    ]
}

fn user() -> Check {
    let uid = rustix::process::geteuid();
    match uid.is_root() {
        true => Check::ok(Subject::User, "root"),
        false => Check::ok(Subject::User, format!("uid {}", uid.as_raw())),
    }
}

fn descriptors() -> Check {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    match limit.current {
        Some(current)
            if current < WANTED_DESCRIPTORS
                && limit.maximum.is_some_and(|most| most < WANTED_DESCRIPTORS) =>
        {
            Check::warn(
                Subject::Descriptors,
                current.to_string(),
                format!(
                    "a port takes a few each; for many ports raise the hard limit to {WANTED_DESCRIPTORS} (LimitNOFILE=)"
                ),
            )
        }
        Some(current) if current < WANTED_DESCRIPTORS => Check::warn(
            Subject::Descriptors,
            current.to_string(),
            format!("a port takes a few each; for many ports run `ulimit -n {WANTED_DESCRIPTORS}` before"),
        ),
        Some(current) => Check::ok(Subject::Descriptors, current.to_string()),
        None => Check::ok(Subject::Descriptors, "unlimited"),
    }
}

/// Looks for the servers that an uplink asks for names.
fn resolver() -> Check {
    const FILE: &str = "/etc/resolv.conf";
    let name = Subject::Resolver;
    let hint =
        "guests of an uplink resolve names of their network only: name a server there, or set `dns.servers`";
    match std::fs::read_to_string(FILE) {
        Ok(text) => match servers(&text) {
            servers if servers.is_empty() => Check::warn(name, format!("no server in {FILE}"), hint),
            servers => Check::ok(name, servers.join(" ")),
        },
        Err(error) => Check::warn(name, format!("{FILE}: {error}"), hint),
    }
}

/// The servers that a file names in the form of resolv.conf(5).
fn servers<'a>(text: &'a str) -> Vec<&'a str> {
    let server = |line: &'a str| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    };
    text.lines().filter_map(server).collect()
}

/// Checks for leftovers of a killed daemon on interfaces; removes them if `clean` is set.
fn leftovers(clean: bool) -> Check {
    let name = Subject::Leftovers;
    let found = match vmlan_daemon::leftovers::find() {
        Ok(found) => found,
        Err(error) => return Check::warn(name, format!("not known: {error}"), "run this as root"),
    };
    let list = found.iter().map(|leftover| leftover.what.as_str()).collect::<Vec<_>>().join(", ");
    match (found.is_empty(), clean) {
        (true, _) => Check::ok(name, "none"),
        (false, false) => Check::warn(
            name,
            list,
            "a killed vmlan left them; it takes them over when it is started again, and `vmlan doctor --clean` removes them",
        ),
        (false, true) => match vmlan_daemon::leftovers::clean(&found) {
            Ok(()) => Check::ok(name, format!("removed: {list}")),
            Err(error) => Check::warn(name, format!("{list} cannot be removed: {error}"), "run this as root"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::servers;

    #[test]
    fn servers_are_named_line_by_line() {
        let text = "# nameserver 192.0.2.9\nsearch lab\n nameserver\t192.0.2.1 # first\nnameserver\nnameserver ::1\n";
        assert_eq!(servers(text), ["192.0.2.1", "::1"]);
        assert!(servers("").is_empty());
    }
}
