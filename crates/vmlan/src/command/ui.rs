//! `ui`: a web page about the daemon.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use vmlan_api::{Status, WebPage};
use vmlan_daemon::config;
use vmlan_ui::{Limits, Options, Server};

use super::Failure;
use crate::args::Output;
use crate::client::Client;
use crate::output::{Answer, print, tell};
use crate::signals::Endings;

/// Serves the page until a signal ends it.
pub fn run(client: &Client, listen: SocketAddr, writes: bool) -> Result<(), Failure> {
    // A daemon that is not there is told here rather than in the browser.
    client.get::<Status>("/v1/status")?;
    let options = Options {
        listen,
        control: client.path().to_owned(),
        writes: Arc::new(AtomicBool::new(writes)),
        read_config: config::read_posted,
        limits: Limits::default(),
        on_change: |change| tell(&format!("asked by the page: {change}")),
    };
    let endings = Endings::new().map_err(anyhow::Error::new)?;
    let served = endings.run_until_one(async {
        let server = Server::bind(options).await.map_err(anyhow::Error::new)?;
        let link = server.link();
        print(&format!("{link}\nThe link is for you alone: it opens the page. Ctrl-C ends it.\n"))?;
        server.serve(std::future::pending()).await;
        Ok(())
    });
    served.unwrap_or(Ok(()))
}

/// Tells the link to the page that the daemon serves.
pub fn link(client: &Client, output: Output) -> Result<Answer, Failure> {
    let page: WebPage = client.get("/v1/ui")?;
    if output.json {
        return Answer::json(&page, output);
    }
    Ok(Answer::text(&format!("{}\n", page.link)))
}
