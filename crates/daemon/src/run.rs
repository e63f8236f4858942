//! The daemon in the foreground.

use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::StateDirectory;
use crate::config::{self, ValidConfig};
use crate::control::{self, ControlSocket, Limits};
use crate::handle::{self, Handle};
use crate::log::Log;
use crate::notify;
use crate::supervisor::Supervisor;
use vmlan_ports::panics::{Relapses, caught};

/// How long the end of the process waits for its threads.
const LEFTOVERS: Duration = Duration::from_millis(500);

/// Ports that are enough for a word before they are set up.
const MANY: usize = 64;

/// The options of `vmlan run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The configuration file; without one the daemon starts with no network and waits for requests.
    pub config: Option<PathBuf>,
    /// Where the control socket shall be.
    pub control: PathBuf,
}

/// Runs the daemon until it is told to end, by SIGTERM, SIGINT or a request. SIGHUP makes it read its file again.
///
/// # Errors
/// When it cannot start: a configuration that is not valid, a control socket that is in use.
pub fn run(options: Options) -> anyhow::Result<()> {
    let Options { config: file, control } = options;
    let load = || match &file {
        Some(file) => Ok(config::load(file)?),
        None => Ok(ValidConfig::empty()),
    };
    begin(load, file.as_deref(), &control, |_| ())
}

/// Runs the daemon as [`run`] does, with a configuration that is in no file. `ready` is called once with what came of
/// it, before the first request is answered.
///
/// # Errors
/// When it cannot start: a control socket that is in use.
pub fn run_with(
    config: ValidConfig,
    control: PathBuf,
    ready: impl FnOnce(&vmlan_api::ApplyReport),
) -> anyhow::Result<()> {
    begin(|| Ok(config), None, &control, ready)
}

fn begin(
    load: impl FnOnce() -> anyhow::Result<ValidConfig>,
    file: Option<&Path>,
    control: &Path,
    ready: impl FnOnce(&vmlan_api::ApplyReport),
) -> anyhow::Result<()> {
    let taken = vmlan_sys::inherit_all();
    vmlan_sys::map_large_memory();
    let log = Log::to_stderr()?;
    if let Err(error) = taken {
        tracing::warn!(owner = true, "programs may inherit what this process inherited: {error}");
    }
    let config = load()?;
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start")?;
    let ended = runtime.block_on(serve(config, file, control, log.clone(), ready));
    // A thread that waits for a file may never end.
    runtime.shutdown_timeout(LEFTOVERS);
    log.flush();
    ended
}

async fn serve(
    config: ValidConfig,
    file: Option<&Path>,
    control_path: &Path,
    log: Log,
    ready: impl FnOnce(&vmlan_api::ApplyReport),
) -> anyhow::Result<()> {
    let signals = Signals::new().context("cannot receive signals")?;
    let socket = ControlSocket::bind(control_path)?;
    let (handle, requests) = handle::channel();
    let file = file.map(std::path::absolute).transpose()?;
    let mut supervisor = Supervisor::start(requests, config.workers(), file, StateDirectory::Usual)
        .context("cannot start the data plane")?;
    supervisor.set_control(control_path);
    supervisor.take_over(control_path, &config);
    let ports: usize = config.networks().values().map(|network| network.ports.len()).sum();
    if ports >= MANY {
        tracing::info!("setting up {ports} ports, which may take some seconds");
    }
    let report = supervisor.apply(config, false).await;

    let (stop, stopped) = oneshot::channel::<()>();
    let control = tokio::spawn(control::serve(socket, handle.clone(), Limits::default(), async {
        // An error: the supervisor has ended, which stops it as well.
        let _ = stopped.await;
    }));
    tokio::spawn(signals.persist(handle, log));
    tell_ready(&report, control_path);
    ready(&report);

    supervisor.run().await;
    tell_system(notify::STOPPING);
    let _ = stop.send(());
    control.await.context("the control interface failed")?;
    tracing::info!("ended");
    Ok(())
}

fn tell_ready(report: &vmlan_api::ApplyReport, control: &Path) {
    let (actions, failed) = (report.actions.len(), report.failed());
    let failed = match failed {
        0 => String::new(),
        count => format!(", {count} of them failed; see `vmlan ports`"),
    };
    tracing::info!("ready: {actions} changes made{failed}; control socket {}", control.display());
    tell_system(notify::READY);
}

/// Tells the service manager, if there is one.
fn tell_system(state: &str) {
    if let Err(error) = notify::tell(state) {
        tracing::warn!("the service manager cannot be told: {error}");
    }
}

/// Every port takes descriptors, so the daemon asks for as many as it may have.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("the limit of open files stays as it is: {error}");
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Obeys signals, after a panic too.
    async fn persist(mut self, handle: Handle, log: Log) {
        let mut relapses = Relapses::default();
        while let Err(panic) = caught(self.obey(&handle, &log)).await {
            relapses.begin_anew("the handling of signals", panic).await;
        }
    }

    /// Passes signals on as requests. A second signal to end ends the process at once.
    async fn obey(&mut self, handle: &Handle, log: &Log) {
        let mut ending = false;
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
                _ = self.hang_up.recv() => {
                    // What is wrong with the file is in the log.
                    let handle = handle.clone();
                    tokio::spawn(async move { reload(handle).await });
                    continue;
                }
            }
            if ending {
                tracing::warn!("ended at once by a second signal");
                log.flush();
                process::exit(1);
            }
            ending = true;
            tracing::info!("ending; a second signal ends at once");
            let handle = handle.clone();
            // An error: it is ending already.
            tokio::spawn(async move { handle.shutdown().await });
        }
    }
}

async fn reload(handle: Handle) {
    match handle.reload(false).await {
        Ok(report) => {
            tracing::info!(
                owner = true,
                "read the configuration again: {} changes, {} failed",
                report.actions.len(),
                report.failed()
            );
        }
        Err(error) => tracing::error!(owner = true, "the configuration was not read again: {error}"),
    }
}
