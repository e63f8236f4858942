//! Requests about uplinks: leases, flows and forwards.

use std::net::IpAddr;

use axum::body::Body;
use axum::extract::State;
use vmlan_api::{Error, ErrorCode};

use super::body::LARGEST;
use super::failure::{Answer, Failure, Json};
use super::query::Query;
use super::routes::{PathArguments, Shared, path_of};

pub(super) async fn uplinks(State(shared): State<Shared>, query: Query) -> Answer {
    Json::of(&shared.handle.uplinks(query.text("network")).await?)
}

pub(super) async fn uplink(State(shared): State<Shared>, network: PathArguments<String>) -> Answer {
    Json::of(&shared.handle.uplink(path_of(network)?).await?)
}

pub(super) async fn leases(State(shared): State<Shared>, query: Query) -> Answer {
    Json::of(&shared.handle.leases(query.text("network")).await?)
}

pub(super) async fn network_leases(State(shared): State<Shared>, network: PathArguments<String>) -> Answer {
    Json::of(&shared.handle.leases(Some(path_of(network)?)).await?)
}

pub(super) async fn release(State(shared): State<Shared>, lease: PathArguments<(String, String)>) -> Answer {
    let (network, address) = path_of(lease)?;
    let address = address.parse::<IpAddr>().map_err(|_| {
        let message = "the address of a lease is an IP address, as in /leases/10.213.5.16";
        Failure::from(Error::at(ErrorCode::BadRequest, "address", message))
    })?;
    Json::of(&shared.handle.release(network, address).await?)
}

pub(super) async fn flows(State(shared): State<Shared>, query: Query) -> Answer {
    let (network, port) = (query.text("network"), query.text("port"));
    if network.is_none() && port.is_some() {
        let message = "a port is one of a network; name that too: ?network=N&port=P";
        return Err(Error::at(ErrorCode::BadRequest, "network", message).into());
    }
    Json::of(&shared.handle.flows(network, port).await?)
}

pub(super) async fn network_flows(
    State(shared): State<Shared>,
    network: PathArguments<String>,
    query: Query,
) -> Answer {
    Json::of(&shared.handle.flows(Some(path_of(network)?), query.text("port")).await?)
}

pub(super) async fn close_flow(State(shared): State<Shared>, flow: PathArguments<(String, u64)>) -> Answer {
    let (network, id) = path_of(flow)?;
    Json::of(&shared.handle.close_flow(network, id).await?)
}

pub(super) async fn forwards(State(shared): State<Shared>, query: Query) -> Answer {
    Json::of(&shared.handle.forwards(query.text("network")).await?)
}

pub(super) async fn network_forwards(State(shared): State<Shared>, network: PathArguments<String>) -> Answer {
    Json::of(&shared.handle.forwards(Some(path_of(network)?)).await?)
}

pub(super) async fn add_forward(
    State(shared): State<Shared>,
    network: PathArguments<String>,
    body: Body,
) -> Answer {
    let network = path_of(network)?;
    let empty = r#"the body is empty; send a forward: {"forward": "127.0.0.1:2222=web:22"}"#;
    let value = shared.read(body, LARGEST, empty).await?;
    let request: vmlan_api::ForwardRequest = serde_json::from_value(value).map_err(|error| {
        let message = format!("{error}; the body is as in {{\"forward\": \"127.0.0.1:2222=web:22\"}}");
        Failure::from(Error::at(ErrorCode::WrongType, "forward", message))
    })?;
    Json::of(&shared.handle.add_forward(network, request.forward).await?)
}

pub(super) async fn remove_forward(
    State(shared): State<Shared>,
    forward: PathArguments<(String, u64)>,
) -> Answer {
    let (network, id) = path_of(forward)?;
    Json::of(&shared.handle.remove_forward(network, id).await?)
}
