//! The web page of `[daemon] ui`.
//!
//! It is the page of `vmlan ui`, served within this process. What a browser asks for goes by the control socket all the
//! same, so the page can do what that offers and no more; a fault of its server ends a connection. The link's secret is
//! in this process alone, and who may use the control socket can ask for it. It lasts as long as the page is served at
//! one address: leave to write comes and goes without a new one.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::TcpListener;
use vmlan_drivers::inject;
use vmlan_ports::panics::{Relapses, caught};
use vmlan_ports::throttle::Throttle;
use vmlan_ui::{Connections, Limits, Options, Server};

use super::Shown;
use super::serving::Socket;
use crate::config::{self, WebPage};

/// The page that is served, if one is.
#[derive(Default)]
pub(super) struct Open {
    address: Option<SocketAddr>,
    writes: Arc<AtomicBool>,
}

/// Serves the page so from now on; with none, nowhere.
///
/// # Errors
/// Cause and cure in words when the address cannot be had, which is tried again meanwhile; without a control socket.
pub(super) async fn set(
    socket: &mut Socket,
    open: &mut Open,
    wanted: Option<WebPage>,
    control: Option<&Path>,
) -> Result<(), String> {
    let address = wanted.map(|page| page.address);
    let writes = wanted.is_some_and(|page| page.writes);
    let wrote = open.writes.swap(writes, Ordering::Relaxed);
    socket.shown.set_writes(writes);
    if address.is_some() && address == open.address {
        if wrote != writes {
            tracing::info!(owner = true, "the web page {} from now on", may(writes));
        }
        return socket.state();
    }
    open.address = address;
    let Some(listen) = address else { return socket.set(None, |_| std::future::ready(())).await };
    let Some(control) = control else {
        let reason = format!(
            "daemon.ui: cannot serve the page at {listen}: this daemon is part of another program and has no control \
             socket; remove the key"
        );
        return socket.fail(listen, reason).await;
    };
    let options = Options {
        listen,
        control: control.to_owned(),
        writes: open.writes.clone(),
        read_config: config::read_posted,
        limits: Limits::default(),
        on_change: |change| tracing::info!(owner = true, "asked by the web page: {change}"),
    };
    let shown = socket.shown.clone();
    socket.set(address, move |listener| serve(listener, options, shown)).await
}

/// Serves the page for ever, and begins anew after a panic.
async fn serve(listener: TcpListener, options: Options, shown: Arc<Shown>) {
    let (listen, writes) = (options.listen, options.writes.clone());
    let server = match Server::on(listener, options) {
        Ok(server) => server,
        Err(error) => {
            tracing::error!(owner = true, "daemon.ui: {error}");
            return shown.set(vmlan_api::Service::Ui, Some(listen), Some(format!("daemon.ui: {error}")));
        }
    };
    let writes = writes.load(Ordering::Relaxed);
    shown.set_page(vmlan_api::WebPage { link: server.link(), writes });
    tracing::info!(
        owner = true,
        "the web page is at {listen} and {}; `vmlan ui --link` prints the link that opens it",
        may(writes)
    );
    let mut connections = server.connections();
    let mut relapses = Relapses::default();
    while let Err(panic) = caught(accept(&server, &mut connections)).await {
        relapses.begin_anew("the web page", panic).await;
    }
}

/// Leave of the page, in words.
fn may(writes: bool) -> &'static str {
    if writes { "may change the configuration" } else { "only reads" }
}

async fn accept(server: &Server, connections: &mut Connections) {
    let mut throttle = Throttle::new();
    loop {
        throttle.pass().await;
        inject::panic_at(|| "page-accept".to_owned());
        server.accept(connections).await;
    }
}
