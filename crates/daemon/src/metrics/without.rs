//! A daemon without the feature `control`, which serves no metrics by itself.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Format;

/// Gathers and writes the metrics.
pub(crate) type Scrape = Arc<dyn Fn(Format) -> String + Send + Sync>;

/// Nothing that could listen.
#[derive(Default)]
pub(crate) struct Listener {}

impl Listener {
    /// Does nothing without an address.
    ///
    /// # Errors
    /// With one.
    pub(crate) async fn set(&mut self, address: Option<SocketAddr>, _: Scrape) -> Result<(), String> {
        let refusal = |address| {
            format!(
                "daemon.metrics: cannot listen at {address}: vmlan was built without the feature `control`; remove the key"
            )
        };
        address.map_or(Ok(()), |address| Err(refusal(address)))
    }

    /// Does nothing.
    pub(crate) async fn stop(&mut self) {}
}
