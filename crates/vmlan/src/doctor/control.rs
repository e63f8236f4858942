//! The control socket: whether a daemon answers, or could.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use vmlan_api::{Listener, Service};

use super::{Check, Subject};
use crate::client::{Bounds, Client, ClientError};

const NAME: Subject = Subject::ControlSocket;
/// The most that a daemon's answer may take: one that hangs is a finding.
const BOUNDS: Bounds = Bounds { time: Some(Duration::from_secs(5)), octets: 64 << 10 };

/// Looks whether a daemon answers, and at what it serves besides.
pub fn checks(path: anyhow::Result<PathBuf>) -> Vec<Check> {
    let (check, listeners) = control_socket(path);
    [check].into_iter().chain(listeners.iter().map(listener)).collect()
}

/// A TCP socket of the daemon's.
fn listener(listener: &Listener) -> Check {
    let name = match listener.service {
        Service::Metrics => Subject::Metrics,
        Service::Ui => Subject::WebPage,
    };
    match &listener.reason {
        None => Check::ok(name, format!("served at {}", listener.address)),
        Some(reason) => Check::warn(name, format!("not served at {}", listener.address), reason),
    }
}

fn control_socket(path: anyhow::Result<PathBuf>) -> (Check, Vec<Listener>) {
    let path = match path {
        Ok(path) => path,
        Err(error) => return (Check::fail(NAME, "none", error.to_string()), Vec::new()),
    };
    let shown = path.display().to_string();
    let client = match Client::new(&path) {
        Ok(client) => client.bounded(BOUNDS),
        Err(error) => return (Check::fail(NAME, shown, error.to_string()), Vec::new()),
    };
    let failure = match client.get::<vmlan_api::Status>("/v1/status") {
        Ok(status) => {
            let value = format!("{shown}: vmlan {} runs as process {}", status.version, status.pid);
            return (Check::ok(NAME, value), status.listeners);
        }
        Err(ClientError::Unreachable { source, .. }) => match source.kind() {
            ErrorKind::NotFound => Check::ok(NAME, format!("{shown}: no daemon runs")),
            ErrorKind::ConnectionRefused => Check::warn(
                NAME,
                format!("{shown}: left behind"),
                "a daemon was killed; `vmlan run` replaces it",
            ),
            ErrorKind::PermissionDenied => Check::warn(
                NAME,
                format!("{shown}: belongs to another user"),
                "run this as that user or as root",
            ),
            _ => Check::fail(NAME, format!("{shown}: {source}"), "name another socket with --control"),
        },
        Err(error) => Check::warn(NAME, shown, error.to_string()),
    };
    (failure, Vec::new())
}
