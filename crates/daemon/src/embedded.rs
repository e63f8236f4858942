//! The daemon inside another process: no control socket, no signals, no log of its own.
//!
//! A thread runs the supervisor; the methods here wait for its answers, so they must not be called from an
//! asynchronous task. Dropping an [`Embedded`] ends the daemon as [`Embedded::stop`] does.

use std::fs::File;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime;
use tokio::sync::broadcast;
use tokio::time::timeout;
use vmlan_api::{Error, ErrorCode};

use crate::StateDirectory;
use crate::capture::{self, Capture};
use crate::config::{Change, ValidConfig};
use crate::handle::{self, Handle};
use crate::supervisor::Supervisor;

/// How long a wait goes on without looking at the counters, of which no event tells.
const LOOK: Duration = Duration::from_millis(10);

/// A daemon that runs in this process.
#[derive(Debug)]
pub struct Embedded {
    handle: Handle,
    runtime: runtime::Handle,
    /// None once it was waited for.
    thread: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Starts a daemon with this configuration, and tells what came of every part of it. It runs even when some, or
    /// all, failed. What outlives it, as leases do, is kept in `state`.
    ///
    /// # Errors
    /// No threads, descriptors or memory.
    pub fn start(
        config: ValidConfig,
        state: StateDirectory,
    ) -> io::Result<(Embedded, vmlan_api::ApplyReport)> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (handle, requests) = handle::channel();
        let mut supervisor = Supervisor::start(requests, config.workers(), None, state)?;
        let on_runtime = runtime.handle().clone();
        let (tell, report) = std::sync::mpsc::sync_channel(1);
        let run = move || {
            runtime.block_on(async {
                // Whoever starts it waits for the report.
                let _ = tell.send(supervisor.apply(config, false).await);
                supervisor.run().await
            })
        };
        let thread = thread::Builder::new().name("vmlan".into()).spawn(run)?;
        let embedded = Embedded { handle, runtime: on_runtime, thread: Some(thread) };
        let report = report.recv().map_err(|_| io::Error::other("the supervisor failed"))?;
        Ok((embedded, report))
    }

    /// A handle for asynchronous tasks, and for all that has no method here.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The ports of one network or of all.
    ///
    /// # Errors
    /// See [`Handle::ports`].
    pub fn ports(&self, network: Option<&str>) -> Result<Vec<vmlan_api::Port>, Error> {
        self.wait_for(self.handle.ports(network.map(str::to_owned)))
    }

    /// Waits until `condition` holds for all ports, at most for `patience`; the ports by then.
    ///
    /// # Errors
    /// See [`Handle::ports`].
    pub fn wait(
        &self,
        patience: Duration,
        mut condition: impl FnMut(&[vmlan_api::Port]) -> bool,
    ) -> Result<Vec<vmlan_api::Port>, Error> {
        let deadline = Instant::now() + patience;
        let mut events = self.subscribe();
        self.wait_for(async {
            loop {
                let ports = self.handle.ports(None).await?;
                let left = deadline.saturating_duration_since(Instant::now());
                if condition(&ports) || left.is_zero() {
                    return Ok(ports);
                }
                // Whichever event it was, and even if it was missed: look again.
                let _ = timeout(left.min(LOOK), events.recv()).await;
            }
        })
    }

    /// The forwarding database of a network.
    ///
    /// # Errors
    /// See [`Handle::fdb`].
    pub fn fdb(&self, network: &str) -> Result<Vec<vmlan_api::FdbEntry>, Error> {
        self.wait_for(self.handle.fdb(network.to_owned()))
    }

    /// The counters of the ports that `filter` names, as `port` or `network/port`, or of all.
    ///
    /// # Errors
    /// See [`Handle::counters`].
    pub fn counters(&self, filter: Option<&str>) -> Result<Vec<vmlan_api::PortCounters>, Error> {
        self.wait_for(self.handle.counters(None, filter.map(str::to_owned)))
    }

    /// Makes `config` the running configuration.
    ///
    /// # Errors
    /// See [`Handle::apply`].
    pub fn apply(&self, config: ValidConfig) -> Result<vmlan_api::ApplyReport, Error> {
        self.wait_for(self.handle.apply(config, false))
    }

    /// Adds a port to a running network.
    ///
    /// # Errors
    /// See [`Change::apply`].
    pub fn add_port(
        &self,
        network: &str,
        name: &str,
        port: vmlan_api::PortConfig,
    ) -> Result<vmlan_api::ApplyReport, Error> {
        let (network, name) = (network.to_owned(), name.to_owned());
        self.change(Change::AddPort { network, port: name, table: table_of(&port)? })
    }

    /// Removes a port.
    ///
    /// # Errors
    /// See [`Change::apply`].
    pub fn remove_port(&self, network: &str, name: &str) -> Result<vmlan_api::ApplyReport, Error> {
        self.change(Change::RemovePort { network: network.to_owned(), port: name.to_owned() })
    }

    /// Changes one thing of what runs.
    ///
    /// # Errors
    /// See [`Change::apply`].
    pub fn change(&self, change: Change) -> Result<vmlan_api::ApplyReport, Error> {
        self.wait_for(self.handle.change(change, false))
    }

    /// The addresses that guests of one network have, or of all.
    ///
    /// # Errors
    /// See [`Handle::leases`].
    pub fn leases(&self, network: Option<&str>) -> Result<Vec<vmlan_api::Lease>, Error> {
        self.wait_for(self.handle.leases(network.map(str::to_owned)))
    }

    /// Adds a forward, as it is written, to a running network, until a configuration is applied.
    ///
    /// # Errors
    /// See [`Handle::add_forward`].
    pub fn add_forward(&self, network: &str, forward: &str) -> Result<vmlan_api::Forward, Error> {
        self.wait_for(self.handle.add_forward(network.to_owned(), forward.to_owned()))
    }

    /// The events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<vmlan_api::Event> {
        self.handle.subscribe()
    }

    /// Captures what passes the ports that there are now, of one network or of all, to `file`.
    ///
    /// # Errors
    /// See [`Handle::links`] and [`Capture::start`].
    pub fn capture(
        &self,
        network: Option<&str>,
        file: File,
        options: capture::Options,
    ) -> Result<Capture, Error> {
        let links = self.wait_for(self.handle.links(network.map(str::to_owned)))?;
        let internal = |error: io::Error| {
            Error::new(vmlan_api::ErrorCode::Internal, format!("the capture cannot be started: {error}"))
        };
        let mut capture = Capture::start(file, options).map_err(internal)?;
        for link in &links {
            // Fails when the port has just left.
            let _ = capture.attach(link);
        }
        self.wait_for(self.handle.settle())?;
        Ok(capture)
    }

    /// Ends the daemon in order: what waits is sent, and every port gives back what it has.
    ///
    /// # Panics
    /// When the supervisor did, which is a bug of ours.
    pub fn stop(mut self) {
        self.end().expect("the supervisor does not panic");
    }

    fn end(&mut self) -> Option<()> {
        let thread = self.thread.take()?;
        // An error: it has ended already.
        let _ = self.wait_for(self.handle.shutdown());
        // A panic of the supervisor was reported by its thread.
        thread.join().ok()
    }

    fn wait_for<T>(&self, answer: impl Future<Output = T>) -> T {
        self.runtime.block_on(answer)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.end();
    }
}

fn table_of(port: &vmlan_api::PortConfig) -> Result<serde_json::Value, Error> {
    serde_json::to_value(port).map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn a_daemon_without_a_control_socket_starts_changes_and_ends() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = "[network.lab.port.web]\nstream = { listen = \"web.sock\" }\n";
        let config = config::parse(text, "test", Some(directory.path())).expect("a good configuration");

        let (daemon, report) = Embedded::start(config, StateDirectory::None).expect("a daemon");

        assert_eq!((report.actions.len(), report.failed()), (2, 0));
        let path = directory.path().join("db.sock");
        let listen = Some(path.to_str().expect("text").to_owned());
        let stream = Some(vmlan_api::StreamConfig { listen, ..Default::default() });
        let port = vmlan_api::PortConfig { stream, ..Default::default() };
        daemon.add_port("lab", "db", port).expect("a new name");
        let waiting = |ports: &[vmlan_api::Port]| {
            ports.len() == 2 && ports.iter().all(|port| port.state == vmlan_api::PortState::Waiting)
        };
        let ports = daemon.wait(PATIENCE, waiting).expect("a daemon");
        assert!(waiting(&ports) && path.exists(), "{ports:?}");
        daemon.remove_port("lab", "web").expect("a known port");
        assert_eq!(daemon.counters(None).expect("a daemon").len(), 1);

        daemon.stop();
        assert_eq!(directory.path().read_dir().expect("a directory").count(), 0);
    }
}
