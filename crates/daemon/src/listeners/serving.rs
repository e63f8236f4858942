//! The sockets of a daemon that has a control interface.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use vmlan_api::Service;

use super::{Shown, page};
use crate::config::WebPage;
use crate::control;
use crate::metrics::{Answers, Scrape};

/// How long to wait before an address is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// The sockets.
pub(crate) struct Listeners {
    metrics: Socket,
    page: Socket,
    open: page::Open,
    /// The control socket, which the web page asks.
    control: Option<PathBuf>,
}

impl Listeners {
    pub(crate) fn new(shown: Arc<Shown>) -> Listeners {
        let socket = |service| Socket { service, shown: shown.clone(), served: None, task: None };
        Listeners {
            metrics: socket(Service::Metrics),
            page: socket(Service::Ui),
            open: page::Open::default(),
            control: None,
        }
    }

    /// Names the control socket, without which no page can be served.
    pub(crate) fn set_control(&mut self, control: &Path) {
        // A directory that is gone has no sockets either.
        self.control = std::path::absolute(control).ok();
    }

    /// Serves metrics at `address` from now on instead of where it did; with none, nowhere.
    ///
    /// # Errors
    /// Cause and cure in words when the address cannot be had, which is tried again meanwhile.
    pub(crate) async fn set_metrics(
        &mut self,
        address: Option<SocketAddr>,
        scrape: Scrape,
    ) -> Result<(), String> {
        let answers = Arc::new(Answers::new(scrape));
        self.metrics.set(address, move |listener| control::metrics::serve(listener, answers)).await
    }

    /// Serves the web page so from now on; with none, nowhere.
    ///
    /// # Errors
    /// As [`Listeners::set_metrics`].
    pub(crate) async fn set_page(&mut self, wanted: Option<WebPage>) -> Result<(), String> {
        page::set(&mut self.page, &mut self.open, wanted, self.control.as_deref()).await
    }

    /// Listens nowhere any more; the sockets are closed when it answers.
    pub(crate) async fn stop(&mut self) {
        self.metrics.stop().await;
        self.page.stop().await;
    }
}

/// One socket that is listened at, if there is one.
pub(super) struct Socket {
    service: Service,
    pub(super) shown: Arc<Shown>,
    /// The address that was asked for last.
    served: Option<SocketAddr>,
    task: Option<JoinHandle<()>>,
}

impl Socket {
    /// Listens at `address` from now on instead of where it did, and has `serve` do the rest; with none, nowhere.
    ///
    /// # Errors
    /// Cause and cure in words when the address cannot be had, which is tried again meanwhile.
    pub(super) async fn set<S>(
        &mut self,
        address: Option<SocketAddr>,
        serve: impl FnOnce(TcpListener) -> S + Send + 'static,
    ) -> Result<(), String>
    where
        S: Future<Output = ()> + Send,
    {
        self.stop().await;
        let before = std::mem::replace(&mut self.served, address);
        if let Some(before) = before.filter(|before| address != Some(*before)) {
            tracing::info!(owner = true, "daemon.{}: no longer served at {before}", self.service.as_str());
        }
        let Some(address) = address else {
            self.shown.set(self.service, None, None);
            return Ok(());
        };
        let service = self.service;
        let bound = bind(service, address).await;
        let failure = bound.as_ref().err().cloned();
        self.shown.set(service, Some(address), failure.clone());
        let shown = self.shown.clone();
        self.task = Some(tokio::spawn(async move {
            let listener = match bound {
                Ok(listener) => {
                    // The page has more to say.
                    if service == Service::Metrics {
                        tracing::info!(owner = true, "daemon.metrics: served at {address}");
                    }
                    listener
                }
                Err(error) => {
                    tracing::error!(owner = true, "{error}");
                    let listener = bind_some_time(service, address).await;
                    shown.set(service, Some(address), None);
                    listener
                }
            };
            serve(listener).await;
        }));
        failure.map_or(Ok(()), Err)
    }

    /// Returns why nothing is served where something should be.
    #[cfg(feature = "ui")]
    pub(super) fn state(&self) -> Result<(), String> {
        let rows = self.shown.list().into_iter();
        let reason = rows.filter(|row| row.service == self.service).find_map(|row| row.reason);
        reason.map_or(Ok(()), Err)
    }

    /// Shows that nothing is served at `address`, and why.
    pub(super) async fn fail(&mut self, address: SocketAddr, reason: String) -> Result<(), String> {
        self.stop().await;
        self.shown.set(self.service, Some(address), Some(reason.clone()));
        Err(reason)
    }

    /// Listens nowhere any more; the socket is closed when it answers.
    pub(super) async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // That it was aborted is no news.
            let _ = task.await;
        }
    }
}

async fn bind(service: Service, address: SocketAddr) -> Result<TcpListener, String> {
    let key = service.as_str();
    TcpListener::bind(address).await.map_err(|error| {
        format!(
            "daemon.{key}: cannot listen at {address}: {error}; name an address of this host with a free port \
             (`ss -ltnp` shows who has it), or remove the key"
        )
    })
}

async fn bind_some_time(service: Service, address: SocketAddr) -> TcpListener {
    loop {
        sleep(AGAIN).await;
        if let Ok(listener) = bind(service, address).await {
            tracing::info!(owner = true, "daemon.{}: served at {address} now", service.as_str());
            return listener;
        }
    }
}
