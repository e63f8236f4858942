//! `ui`: a web page about the daemon.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};
use vmlan_api::{Config, Error};
use vmlan_daemon::config;
use vmlan_ui::{Limits, Options, Server};

use super::Failure;
use crate::output::print;

/// Serves the page until a signal ends it.
pub fn run(control: PathBuf, listen: SocketAddr, writes: bool) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::new)?;
    runtime.block_on(async {
        let options = Options { listen, control, writes, read_config, limits: Limits::default() };
        let server = Server::bind(options).await.map_err(anyhow::Error::new)?;
        let [mut interrupt, mut terminate, mut hang_up] = signals().map_err(anyhow::Error::new)?;
        print(&format!(
            "{}\nThe link is for you alone: it opens the page. Ctrl-C ends it.\n",
            server.link()
        ))?;
        let stop = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
        };
        server.serve(stop).await;
        Ok(())
    })
}

fn signals() -> std::io::Result<[tokio::signal::unix::Signal; 3]> {
    let [interrupt, terminate, hang_up] =
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    Ok([signal(interrupt)?, signal(terminate)?, signal(hang_up)?])
}

/// Reads a configuration file's text, as `vmlan apply` reads a file.
fn read_config(text: &str) -> Result<Config, Error> {
    match config::parse(text, "configuration", None) {
        Ok(config) => Ok(config.as_api().clone()),
        Err(errors) => {
            let fault = |located: &config::Located| {
                let mut error = located.error.clone();
                if let Some(place) = &located.place {
                    error.message = format!("line {}: {}", place.line, error.message);
                }
                error
            };
            Err(Error::from_faults(errors.faults().iter().map(fault).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::read_config;

    #[test]
    fn a_fault_is_told_with_its_line() {
        let config = read_config("[network.lab]\nmtu = 9000\n").expect("a configuration");
        assert_eq!(config.network["lab"].mtu, Some(9000));

        let error = read_config("[network.lab]\nmtuu = 9000\n").expect_err("no such key");

        assert!(error.message.starts_with("line 2: unknown key"), "{}", error.message);
    }
}
