//! Questions about uplinks, and changes of what they carry. A change is no part of the configuration: the next one that
//! is applied puts back what it says.

use std::net::IpAddr;

use vmlan_api::Error;

use crate::handle::{Handle, Query, Reply};

/// A question about uplinks, or a change of what one carries.
#[derive(Debug)]
#[allow(
    missing_docs,
    reason = "the members are the network concerned and the answer, and repeat in every variant"
)]
#[non_exhaustive]
pub enum UplinkQuery {
    /// The uplink of one network, or those of all.
    Status { network: Option<String>, reply: Reply<Vec<vmlan_api::Uplink>> },
    /// The addresses that guests of one network have, or of all.
    Leases { network: Option<String>, reply: Reply<Vec<vmlan_api::Lease>> },
    /// End a lease.
    Release { network: String, address: IpAddr, reply: Reply<vmlan_api::Lease> },
    /// The flows of one network, or of all, or those of the guest at `port`.
    Flows { network: Option<String>, port: Option<String>, reply: Reply<Vec<vmlan_api::Flow>> },
    /// Reset the flow of this number.
    CloseFlow { network: String, id: u64, reply: Reply<vmlan_api::Flow> },
    /// The forwards of one network, or of all.
    Forwards { network: Option<String>, reply: Reply<Vec<vmlan_api::Forward>> },
    /// Add a forward, as it is written.
    AddForward { network: String, forward: String, reply: Reply<vmlan_api::Forward> },
    /// Remove the forward of this number.
    RemoveForward { network: String, id: u64, reply: Reply<vmlan_api::Forward> },
}

impl Handle {
    /// The uplink of one network, or those of all.
    ///
    /// # Errors
    /// [`vmlan_api::ErrorCode::UnknownNetwork`]; [`vmlan_api::ErrorCode::NotFound`] when that network has no uplink,
    /// here and in every method.
    pub async fn uplinks(&self, network: Option<String>) -> Result<Vec<vmlan_api::Uplink>, Error> {
        self.query(|reply| Query::Uplink(UplinkQuery::Status { network, reply })).await
    }

    /// The uplink of a network.
    ///
    /// # Errors
    /// See [`Handle::uplinks`].
    pub async fn uplink(&self, network: String) -> Result<vmlan_api::Uplink, Error> {
        let uplinks = self.uplinks(Some(network.clone())).await?;
        uplinks.into_iter().next().ok_or_else(|| no_uplink(&network))
    }

    /// The addresses that guests of one network have, or of all.
    ///
    /// # Errors
    /// [`vmlan_api::ErrorCode::Unavailable`] when that network's uplink does not run, here and in the methods below.
    pub async fn leases(&self, network: Option<String>) -> Result<Vec<vmlan_api::Lease>, Error> {
        self.query(|reply| Query::Uplink(UplinkQuery::Leases { network, reply })).await
    }

    /// Ends a lease, so that its address is free.
    ///
    /// # Errors
    /// [`vmlan_api::ErrorCode::NotFound`] when nobody has the address.
    pub async fn release(&self, network: String, address: IpAddr) -> Result<vmlan_api::Lease, Error> {
        self.query(|reply| Query::Uplink(UplinkQuery::Release { network, address, reply })).await
    }

    /// The open flows of one network, or of all; with `port` those of the guest there.
    ///
    /// # Errors
    /// [`vmlan_api::ErrorCode::UnknownPort`].
    pub async fn flows(
        &self,
        network: Option<String>,
        port: Option<String>,
    ) -> Result<Vec<vmlan_api::Flow>, Error> {
        self.query(|reply| Query::Uplink(UplinkQuery::Flows { network, port, reply })).await
    }

    /// Resets a flow.
    ///
    /// # Errors
    /// [`vmlan_api::ErrorCode::NotFound`].
    pub async fn close_flow(&self, network: String, id: u64) -> Result<vmlan_api::Flow, Error> {
        self.query(|reply| Query::Uplink(UplinkQuery::CloseFlow { network, id, reply })).await
    }

    /// The forwards of one network, or of all.
    ///
    /// # Errors
    /// See [`Handle::leases`].
    pub async fn forwards(&self, network: Option<String>) -> Result<Vec<vmlan_api::Forward>, Error> {
        self.query(|reply| Query::Uplink(UplinkQuery::Forwards { network, reply })).await
    }

    /// Adds a forward, as it is written, until a configuration is applied.
    ///
    /// # Errors
    /// [`vmlan_api::ErrorCode::BadAddress`], [`vmlan_api::ErrorCode::BadPath`],
    /// [`vmlan_api::ErrorCode::UnknownPort`]; [`vmlan_api::ErrorCode::Conflict`] when its place is taken.
    pub async fn add_forward(&self, network: String, forward: String) -> Result<vmlan_api::Forward, Error> {
        self.query(|reply| Query::Uplink(UplinkQuery::AddForward { network, forward, reply })).await
    }

    /// Removes a forward, and resets its flows, until a configuration is applied.
    ///
    /// # Errors
    /// [`vmlan_api::ErrorCode::NotFound`].
    pub async fn remove_forward(&self, network: String, id: u64) -> Result<vmlan_api::Forward, Error> {
        self.query(|reply| Query::Uplink(UplinkQuery::RemoveForward { network, id, reply })).await
    }
}

/// The error for a network without an uplink.
pub(crate) fn no_uplink(network: &str) -> Error {
    let message = format!("network {network} has no uplink; add `uplink = {{}}` to [network.{network}]");
    Error::new(vmlan_api::ErrorCode::NotFound, message)
}
