//! Answers to questions about uplinks. What a worker has to be asked for is waited for by a task of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use vmlan_api::{Error, ErrorCode, PortKind};
use vmlan_ports::uplink::{UplinkSettings, checked_forward};
use vmlan_ports::{UPLINK, UplinkControl};

use super::place;
use super::view::View;
use crate::handle::Reply;
use crate::uplink::{UplinkQuery, no_uplink};

/// The longest wait for a worker's answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest wait for what a listing has besides.
const IN_PASSING: Duration = Duration::from_millis(500);

/// An uplink, as its port's row has it.
struct Found {
    network: String,
    /// The report that follows from the row.
    report: vmlan_api::Uplink,
    /// None while it does not run.
    control: Option<Arc<dyn UplinkControl>>,
}

impl View {
    /// Answers a query. Whoever asked may have gone.
    pub(super) fn about_uplinks(&self, query: UplinkQuery) {
        match query {
            UplinkQuery::Status { network, reply } => match self.found(network.as_deref()) {
                Ok(found) => later(reply, async move { Ok(reports(found).await) }),
                Err(error) => drop(reply.send(Err(error))),
            },
            UplinkQuery::Leases { network, reply } => match self.controls(network.as_deref()) {
                Ok(controls) => later(reply, async move {
                    let mut leases = Vec::new();
                    for control in controls {
                        leases.extend(control.leases().await);
                    }
                    Ok(leases)
                }),
                Err(error) => drop(reply.send(Err(error))),
            },
            UplinkQuery::Forwards { network, reply } => {
                let forwards = self.controls(network.as_deref());
                drop(
                    reply.send(forwards.map(|of| of.iter().flat_map(|control| control.forwards()).collect())),
                );
            }
            UplinkQuery::Flows { network, port, reply } => {
                let controls = self.known_port(network.as_deref(), port.as_deref());
                match controls.and_then(|()| self.controls(network.as_deref())) {
                    Ok(controls) => later(reply, async move {
                        let mut flows = Vec::new();
                        for control in controls {
                            flows.extend(control.flows(port.clone()).await);
                        }
                        Ok(flows)
                    }),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            UplinkQuery::Release { network, address, reply } => match self.control(&network) {
                Ok(control) => later(reply, async move { control.release(address).await }),
                Err(error) => drop(reply.send(Err(error))),
            },
            UplinkQuery::CloseFlow { network, id, reply } => match self.control(&network) {
                Ok(control) => later(reply, async move { control.close_flow(id).await }),
                Err(error) => drop(reply.send(Err(error))),
            },
            UplinkQuery::AddForward { network, forward, reply } => {
                let config = self.shown().config.clone();
                let none = Default::default();
                let ports = config.network.get(&network).map_or(&none, |network| &network.port);
                let checked = self
                    .control(&network)
                    .and_then(|control| checked_forward(&forward, ports).map(|forward| (control, forward)));
                match checked {
                    Ok((control, forward)) => later(reply, async move { control.add_forward(forward).await }),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            UplinkQuery::RemoveForward { network, id, reply } => match self.control(&network) {
                Ok(control) => later(reply, async move { control.remove_forward(id).await }),
                Err(error) => drop(reply.send(Err(error))),
            },
        }
    }

    /// The uplink of a network, which has to have one, or those of all.
    fn found(&self, network: Option<&str>) -> Result<Vec<Found>, Error> {
        network.map_or(Ok(()), |name| self.running(name).map(drop))?;
        let rows = self.fabric.directory.rows();
        let own = rows.iter().filter(|(place, row)| {
            row.kind == PortKind::Uplink && network.is_none_or(|network| network == place.network)
        });
        let found = own.filter_map(|(place, row)| {
            let report = UplinkSettings::report(row.settings.uplink.as_ref()?, &place.network);
            Some(Found {
                network: place.network.clone(),
                report,
                control: self.fabric.uplinks.get(&place.network),
            })
        });
        let mut found: Vec<_> = found.collect();
        drop(rows);
        // The row's state, as everybody is told it.
        for port in self.fabric.directory.ports(network) {
            if let Some(own) = found.iter_mut().find(|own| own.network == port.network && port.port == UPLINK)
            {
                (own.report.state, own.report.reason) = (port.state, port.reason);
            }
        }
        match network {
            Some(network) if found.is_empty() => Err(no_uplink(network)),
            _ => Ok(found),
        }
    }

    /// The running uplink of a network.
    fn control(&self, network: &str) -> Result<Arc<dyn UplinkControl>, Error> {
        let found = self.found(Some(network))?;
        let mut why = "it is being set up".to_owned();
        for Found { report, control, .. } in found {
            match control {
                Some(control) => return Ok(control),
                None => why = report.reason.unwrap_or(why),
            }
        }
        let message = format!("the uplink of network {network} does not run: {why}");
        Err(Error::new(ErrorCode::Unavailable, message))
    }

    /// The running uplink of a network, which has to run, or all that run.
    fn controls(&self, network: Option<&str>) -> Result<Vec<Arc<dyn UplinkControl>>, Error> {
        match network {
            Some(network) => Ok(vec![self.control(network)?]),
            None => Ok(self.fabric.uplinks.list(None).into_iter().map(|(_, control)| control).collect()),
        }
    }

    /// Checks that a network has a port of this name.
    fn known_port(&self, network: Option<&str>, port: Option<&str>) -> Result<(), Error> {
        let (Some(network), Some(port)) = (network, port) else { return Ok(()) };
        self.running(network)?;
        let rows = self.fabric.directory.rows();
        if rows.contains_key(&place(network, port)) {
            return Ok(());
        }
        let known = rows.keys().filter(|place| place.network == network).map(|place| place.port.as_str());
        Err(Error::unknown_port(network, port, known))
    }
}

impl View {
    /// Answers with rows, to which `add` adds what the uplinks of the network, or of all, know of guests. Without an
    /// uplink, or where one does not answer in time, the rows are as they are.
    pub(super) fn with_guests<T: Send + 'static>(
        &self,
        reply: Reply<Vec<T>>,
        network: Option<&str>,
        rows: Result<Vec<T>, Error>,
        add: fn(&mut [T], &[vmlan_api::Lease]),
    ) {
        let uplinks = self.fabric.uplinks.list(network);
        let mut rows = match rows {
            Ok(rows) if !rows.is_empty() && !uplinks.is_empty() => rows,
            // Whoever asked may have gone, here and below.
            rows => return drop(reply.send(rows)),
        };
        tokio::spawn(async move {
            let known = async {
                let mut leases = Vec::new();
                for (_, control) in uplinks {
                    leases.extend(control.leases().await);
                }
                leases
            };
            if let Ok(leases) = timeout(IN_PASSING, known).await {
                add(&mut rows, &leases);
            }
            let _ = reply.send(Ok(rows));
        });
    }
}

/// Adds the guests' addresses and names to the ports that they are behind.
pub(super) fn name_ports(ports: &mut [vmlan_api::Port], leases: &[vmlan_api::Lease]) {
    for port in ports {
        let own = |lease: &&vmlan_api::Lease| {
            lease.network == port.network && lease.port.as_ref() == Some(&port.port)
        };
        (port.addresses, port.name) = guest(leases.iter().filter(own));
    }
}

/// Adds the guests' addresses and names to the MAC addresses that they have, where those are behind their ports.
pub(super) fn name_stations(stations: &mut [vmlan_api::FdbEntry], leases: &[vmlan_api::Lease]) {
    for station in stations {
        let own = |lease: &&vmlan_api::Lease| {
            lease.mac == station.mac && lease.port.as_ref().is_none_or(|port| *port == station.port)
        };
        (station.addresses, station.name) = guest(leases.iter().filter(own));
    }
}

/// The addresses of some leases, and the first name among them.
fn guest<'a>(leases: impl Iterator<Item = &'a vmlan_api::Lease>) -> (Vec<String>, Option<String>) {
    let mut name = None;
    let mut addresses = Vec::new();
    for lease in leases {
        name = name.or_else(|| lease.name.clone());
        addresses.push(lease.address.clone());
    }
    (addresses, name)
}

/// Adds to each row what the running uplink says.
async fn reports(found: Vec<Found>) -> Vec<vmlan_api::Uplink> {
    let mut reports = Vec::with_capacity(found.len());
    for Found { report, control, .. } in found {
        let Some(control) = control else {
            reports.push(report);
            continue;
        };
        let (state, reason) = (report.state, report.reason);
        reports.push(vmlan_api::Uplink { state, reason, ..control.status().await });
    }
    reports
}

/// Sends the answer when it is there; an error when that takes too long.
fn later<T: Send + 'static>(
    reply: Reply<T>,
    answer: impl Future<Output = Result<T, Error>> + Send + 'static,
) {
    tokio::spawn(async move {
        let late =
            |_| Err(Error::new(ErrorCode::Unavailable, "the uplink did not answer in time; try it again"));
        // Whoever asked may have gone.
        let _ = reply.send(timeout(PATIENCE, answer).await.unwrap_or_else(late));
    });
}

#[cfg(test)]
mod tests;
