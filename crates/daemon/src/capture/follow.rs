//! Captures of whatever is selected, now and later.

use std::future::pending;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use vmlan_api::{Error, ErrorCode, Event, EventKind};

use super::{Capture, Selection};
use crate::handle::{Handle, PortLink};

/// Attaches every selected port that there is now, all of them without a selection.
///
/// # Errors
/// [`ErrorCode::UnknownNetwork`] or [`ErrorCode::UnknownPort`] when a selection fits nothing.
pub async fn attach_all(
    handle: &Handle,
    selections: &[Selection],
    capture: &mut Capture,
) -> Result<(), Error> {
    for selection in selections {
        let ports = handle.ports(Some(selection.network.clone())).await?;
        let fits = |port: &vmlan_api::Port| selection.includes(&port.network, &port.port);
        if selection.port.is_some() && !ports.iter().any(fits) {
            let selection = selection.to_string();
            let message = format!("there is no port {}; `vmlan ports` lists them", selection.escape_debug());
            return Err(Error::at(ErrorCode::UnknownPort, "ports", message));
        }
    }
    attach(handle, selections, capture, &handle.links(None).await?).await
}

/// Attaches selected ports as they come, for as long as it is polled. `events` is to be subscribed before
/// [`attach_all`] looks, so that no port is missed in between.
pub async fn follow(
    handle: &Handle,
    mut events: Receiver<Event>,
    selections: &[Selection],
    capture: &mut Capture,
) {
    loop {
        let network = match events.recv().await {
            Ok(Event { kind: EventKind::PortAdded { network, port }, .. })
                if is_selected(selections, &network, &port) =>
            {
                Some(network)
            }
            Ok(_) => continue,
            // Any port may have come.
            Err(RecvError::Lagged(_)) => None,
            Err(RecvError::Closed) => return pending().await,
        };
        // Fails when the network is gone again, or the daemon is ending.
        if let Ok(links) = handle.links(network).await {
            let _ = attach(handle, selections, capture, &links).await;
        }
    }
}

/// Attaches the selected ones among these; once it returns, the capture has every frame of theirs.
async fn attach(
    handle: &Handle,
    selections: &[Selection],
    capture: &mut Capture,
    links: &[PortLink],
) -> Result<(), Error> {
    for port in links.iter().filter(|port| is_selected(selections, &port.network, &port.port)) {
        let is_named = selections.iter().any(|s| s.port.is_some() && s.includes(&port.network, &port.port));
        // Fails when the port has just left.
        let _ = if is_named { capture.attach_both(port) } else { capture.attach(port) };
    }
    handle.settle().await
}

fn is_selected(selections: &[Selection], network: &str, port: &str) -> bool {
    selections.is_empty() || selections.iter().any(|selection| selection.includes(network, port))
}
