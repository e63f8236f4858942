//! `ui`: a web page about the daemon.

use std::net::SocketAddr;

use vmlan_api::{Config, Error, Status};
use vmlan_daemon::config;
use vmlan_ui::{Limits, Options, Server};

use super::Failure;
use crate::client::Client;
use crate::output::print;
use crate::signals::Endings;

/// Serves the page until a signal ends it.
pub fn run(client: &Client, listen: SocketAddr, writes: bool) -> Result<(), Failure> {
    // A daemon that is not there is told here rather than in the browser.
    client.get::<Status>("/v1/status")?;
    let control = client.path().to_owned();
    let options = Options { listen, control, writes, read_config, limits: Limits::default() };
    let mut endings = Endings::new().map_err(anyhow::Error::new)?;
    let served = endings.run_until_one(async {
        let server = Server::bind(options).await.map_err(anyhow::Error::new)?;
        let link = server.link();
        print(&format!("{link}\nThe link is for you alone: it opens the page. Ctrl-C ends it.\n"))?;
        server.serve(std::future::pending()).await;
        Ok(())
    });
    served.unwrap_or(Ok(()))
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
