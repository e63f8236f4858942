//! A daemon without the feature `control`, which serves nothing by itself.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use vmlan_api::Service;

use super::Shown;
use crate::config::WebPage;
use crate::metrics::Scrape;

/// No sockets.
#[derive(Debug)]
pub(crate) struct Listeners {
    shown: Arc<Shown>,
}

impl Listeners {
    pub(crate) fn new(shown: Arc<Shown>) -> Listeners {
        Listeners { shown }
    }

    /// Does nothing: no page is served.
    pub(crate) fn set_control(&mut self, _: &Path) {}

    /// Does nothing without an address.
    ///
    /// # Errors
    /// With one.
    pub(crate) async fn set_metrics(&mut self, address: Option<SocketAddr>, _: Scrape) -> Result<(), String> {
        self.refuse(Service::Metrics, "daemon.metrics", address)
    }

    /// Does nothing without a page.
    ///
    /// # Errors
    /// With one.
    pub(crate) async fn set_page(&mut self, page: Option<WebPage>) -> Result<(), String> {
        self.refuse(Service::Ui, "daemon.ui", page.map(|page| page.address))
    }

    fn refuse(&self, service: Service, key: &str, address: Option<SocketAddr>) -> Result<(), String> {
        let reason = address.map(|address| {
            format!(
                "{key}: cannot listen at {address}: vmlan was built without the feature `control`; remove the key"
            )
        });
        self.shown.set(service, address, reason.clone());
        reason.map_or(Ok(()), Err)
    }

    /// Does nothing.
    pub(crate) async fn stop(&mut self) {}
}
