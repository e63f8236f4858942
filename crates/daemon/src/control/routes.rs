//! Which request asks the supervisor what.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{Response, header};
use axum::response::IntoResponse;
use axum::routing::{MethodFilter, MethodRouter, get, on};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use vmlan_api::{Error, ErrorCode, Method, Operation, OperationId, Outcome};

use super::Limits;
use super::body::{self, LARGEST, LARGEST_CONFIG};
use super::capture::Captures;
use super::capture_request::CaptureRequest;
use super::events;
use super::failure::{Answer, Failure, Json};
use super::life::Life;
use super::metrics;
use super::query::{Query, takes};
use super::uplink;
use crate::config::{self, Change};
use crate::handle::Handle;
use vmlan_ports::users::{self, Places, Resource, User, Users};

/// The state that every request needs.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) handle: Handle,
    pub(super) shares: Shares,
    /// The connection's place among those of its user.
    pub(super) peer: Option<Arc<users::Place>>,
    pub(super) body_time: Duration,
    pub(super) event_streams: Arc<Semaphore>,
    pub(super) captures: Captures,
    pub(super) stopped: watch::Receiver<bool>,
    /// The connection's, which has one of its own.
    pub(super) life: Arc<Life>,
}

/// The places that one user may take: connections, event streams and captures.
#[derive(Debug, Clone)]
pub(super) struct Shares {
    pub(super) connections: Arc<Places>,
    events: Arc<Places>,
    captures: Arc<Places>,
}

impl Shares {
    pub(super) fn new(users: &Arc<Users>, limits: &Limits) -> Shares {
        let places = |resource, total| Places::new(users.clone(), resource, total);
        Shares {
            connections: places(Resource::Connections, limits.connections),
            events: places(Resource::Events, limits.event_streams),
            captures: places(Resource::Captures, limits.captures),
        }
    }
}

impl Shared {
    /// The same for the connection that has this place.
    pub(super) fn of_connection(&self, peer: users::Place, life: Arc<Life>) -> Shared {
        Shared { peer: Some(Arc::new(peer)), life, ..self.clone() }
    }

    /// A place of the connection's user.
    fn share(&self, places: &Arc<Places>) -> Result<users::Place, Failure> {
        let user = self.peer.as_ref().map_or(User::Unknown, |peer| peer.user());
        places.take(user).map_err(|full| Failure::new(ErrorCode::Unavailable, full.to_string()))
    }
}

pub(super) type PathArguments<T> = Result<Path<T>, PathRejection>;
/// The names of a network and of one of its ports.
type PortArguments = PathArguments<(String, String)>;

impl Shared {
    /// Reads a body that has to be there; `empty` is the complaint when it is not.
    pub(super) async fn read(&self, body: Body, largest: usize, empty: &str) -> Result<Value, Failure> {
        let value = body::read(body, largest, self.body_time, &self.life).await?;
        value.ok_or_else(|| Failure::new(ErrorCode::BadJson, empty))
    }

    /// Makes one change. One that could not be set up is an error, though it stays and is tried again.
    async fn change(&self, change: Change, query: Query) -> Answer {
        let report = self.handle.change(change, query.flag("dry_run")?).await?;
        match report.actions.iter().find(|action| action.outcome == Outcome::Failed) {
            Some(failed) => Err(not_set_up(failed).into()),
            None => Json::of(&report),
        }
    }
}

/// The operations of the interface, the metrics, which have notations of their own, and nothing else.
pub(super) fn router(shared: Shared) -> Router {
    let with = |router: Router<Shared>, operation: &Operation| {
        router.route(operation.path, takes(operation.query, function(operation)))
    };
    Operation::ALL
        .iter()
        .fold(Router::new(), with)
        .route("/metrics", takes(&[], get(metrics::scrape)))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(shared)
}

/// The function that carries out an operation, behind its method.
fn function(operation: &Operation) -> MethodRouter<Shared> {
    let method = match operation.method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Patch => MethodFilter::PATCH,
        Method::Delete => MethodFilter::DELETE,
    };
    match operation.id {
        OperationId::Openapi => on(method, openapi),
        OperationId::Status => on(method, status),
        OperationId::Ui => on(method, web_page),
        OperationId::Config => on(method, running_config),
        OperationId::Networks => on(method, networks),
        OperationId::Network => on(method, one_network),
        OperationId::AddNetwork => on(method, add_network),
        OperationId::RemoveNetwork => on(method, remove_network),
        OperationId::Fdb => on(method, fdb),
        OperationId::NetworkPorts => on(method, network_ports),
        OperationId::Port => on(method, one_port),
        OperationId::AddPort => on(method, add_port),
        OperationId::ChangePort => on(method, change_port),
        OperationId::RemovePort => on(method, remove_port),
        OperationId::AddFilter => on(method, add_filter),
        OperationId::RemoveFilter => on(method, remove_filter),
        OperationId::Ports => on(method, ports),
        OperationId::Filters => on(method, filters),
        OperationId::Trunks => on(method, trunks),
        OperationId::Counters => on(method, counters),
        OperationId::Uplinks => on(method, uplink::uplinks),
        OperationId::Uplink => on(method, uplink::uplink),
        OperationId::Leases => on(method, uplink::leases),
        OperationId::NetworkLeases => on(method, uplink::network_leases),
        OperationId::Release => on(method, uplink::release),
        OperationId::Flows => on(method, uplink::flows),
        OperationId::NetworkFlows => on(method, uplink::network_flows),
        OperationId::CloseFlow => on(method, uplink::close_flow),
        OperationId::Forwards => on(method, uplink::forwards),
        OperationId::NetworkForwards => on(method, uplink::network_forwards),
        OperationId::AddForward => on(method, uplink::add_forward),
        OperationId::RemoveForward => on(method, uplink::remove_forward),
        OperationId::Apply => on(method, apply),
        OperationId::Reload => on(method, reload),
        OperationId::Events => on(method, event_stream),
        OperationId::Capture => on(method, capture),
        OperationId::EndCapture => on(method, end_capture),
    }
}

async fn not_found() -> Failure {
    Failure::new(ErrorCode::NotFound, "there is no such path; the paths are in docs/api.md")
}

async fn method_not_allowed() -> Failure {
    Failure::new(ErrorCode::MethodNotAllowed, "the path does not take this method; see docs/api.md")
}

/// The error for a change whose action failed.
fn not_set_up(action: &vmlan_api::ActionReport) -> Error {
    let place: Vec<_> = [&action.network, &action.port].into_iter().flatten().map(String::as_str).collect();
    let reason = action.reason.as_deref().unwrap_or("the log says why");
    Error::not_set_up(&place.join("/"), reason)
}

/// The description of all this, which is the same whatever runs.
async fn openapi() -> Response<Body> {
    ([(header::CONTENT_TYPE, "application/json")], vmlan_api::OPENAPI).into_response()
}

async fn status(State(shared): State<Shared>) -> Answer {
    Json::of(&shared.handle.status().await?)
}

/// The link to the web page.
async fn web_page(State(shared): State<Shared>) -> Answer {
    Json::of(&shared.handle.ui().await?)
}

/// The configuration that runs, in a form that can be applied again.
async fn running_config(State(shared): State<Shared>, query: Query) -> Result<Response<Body>, Failure> {
    let format = query.text("format");
    let config = shared.handle.config().await?;
    match format.as_deref() {
        None | Some("json") => Ok(Json::of(&config)?.into_response()),
        Some("toml") => {
            let text = config::to_toml(&config)?;
            Ok(([(header::CONTENT_TYPE, "application/toml")], text).into_response())
        }
        Some(_) => Err(Error::at(ErrorCode::BadRequest, "format", "format must be json or toml").into()),
    }
}

async fn networks(State(shared): State<Shared>) -> Answer {
    Json::of(&shared.handle.networks().await?)
}

async fn one_network(State(shared): State<Shared>, network: PathArguments<String>) -> Answer {
    Json::of(&shared.handle.network(path_of(network)?).await?)
}

async fn add_network(
    State(shared): State<Shared>,
    network: PathArguments<String>,
    query: Query,
    body: Body,
) -> Answer {
    let network = path_of(network)?;
    let value = body::read(body, LARGEST_CONFIG, shared.body_time, &shared.life).await?;
    let table = value.unwrap_or_else(|| Value::Object(Default::default()));
    shared.change(Change::AddNetwork { network, table }, query).await
}

async fn remove_network(
    State(shared): State<Shared>,
    network: PathArguments<String>,
    query: Query,
) -> Answer {
    shared.change(Change::RemoveNetwork { network: path_of(network)? }, query).await
}

async fn ports(State(shared): State<Shared>, query: Query) -> Answer {
    Json::of(&shared.handle.ports(query.text("network")).await?)
}

async fn network_ports(State(shared): State<Shared>, network: PathArguments<String>) -> Answer {
    Json::of(&shared.handle.ports(Some(path_of(network)?)).await?)
}

async fn one_port(State(shared): State<Shared>, port: PortArguments) -> Answer {
    let (network, port) = path_of(port)?;
    Json::of(&shared.handle.port(network, port).await?)
}

async fn trunks(State(shared): State<Shared>, query: Query) -> Answer {
    Json::of(&shared.handle.trunks(query.text("network")).await?)
}

async fn filters(State(shared): State<Shared>, query: Query) -> Answer {
    Json::of(&shared.handle.filters(query.text("network")).await?)
}

async fn counters(State(shared): State<Shared>, query: Query) -> Answer {
    let (network, port) = (query.text("network"), query.text("port"));
    Json::of(&shared.handle.counters(network, port).await?)
}

async fn fdb(State(shared): State<Shared>, network: PathArguments<String>) -> Answer {
    Json::of(&shared.handle.fdb(path_of(network)?).await?)
}

/// The body is a configuration with `dry_run` beside it.
async fn apply(State(shared): State<Shared>, query: Query, body: Body) -> Answer {
    let mut dry_run = query.flag("dry_run")?;
    let empty = "the body is empty; send a configuration, or POST /v1/reload to read the daemon's file again";
    let mut value = shared.read(body, LARGEST_CONFIG, empty).await?;
    dry_run |= take_dry_run(&mut value)?;
    // A filter may take its time to be compiled.
    let read = tokio::task::spawn_blocking(move || config::from_json(value)).await;
    let read = read.map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
    let config = read.map_err(Failure::from_faults)?;
    Json::of(&shared.handle.apply(config, dry_run).await?)
}

async fn reload(State(shared): State<Shared>, query: Query, body: Body) -> Answer {
    let mut dry_run = query.flag("dry_run")?;
    if let Some(mut value) = body::read(body, LARGEST, shared.body_time, &shared.life).await? {
        dry_run |= take_dry_run(&mut value)?;
        if value.as_object().is_none_or(|members| !members.is_empty()) {
            let message = "the body takes `dry_run` only; send a configuration to /v1/apply";
            return Err(Failure::new(ErrorCode::UnknownKey, message));
        }
    }
    Json::of(&shared.handle.reload(dry_run).await?)
}

async fn add_port(State(shared): State<Shared>, port: PortArguments, query: Query, body: Body) -> Answer {
    let (network, port) = path_of(port)?;
    let empty = r#"the body is empty; send the port's table: {"tap": {"name": "vm-web"}}"#;
    let table = shared.read(body, LARGEST, empty).await?;
    shared.change(Change::AddPort { network, port, table }, query).await
}

async fn change_port(State(shared): State<Shared>, port: PortArguments, query: Query, body: Body) -> Answer {
    let (network, port) = path_of(port)?;
    let empty = r#"the body is empty; send the keys that change: {"enabled": false}"#;
    let keys = shared.read(body, LARGEST, empty).await?;
    if !keys.is_object() {
        return Err(Failure::new(ErrorCode::WrongType, "the body must be an object"));
    }
    shared.change(Change::ChangePort { network, port, keys }, query).await
}

async fn remove_port(State(shared): State<Shared>, port: PortArguments, query: Query) -> Answer {
    let (network, port) = path_of(port)?;
    shared.change(Change::RemovePort { network, port }, query).await
}

async fn add_filter(State(shared): State<Shared>, port: PortArguments, query: Query, body: Body) -> Answer {
    let (network, port) = path_of(port)?;
    let empty = r#"the body is empty; send a rule: {"action": "drop", "expression": "udp port 67"}"#;
    let mut value = shared.read(body, LARGEST, empty).await?;
    let wrong = || Failure::from(Error::at(ErrorCode::WrongType, "at", "at must be a whole number"));
    let at = take(&mut value, "at").map(|at| at.as_u64().ok_or_else(wrong)).transpose()?;
    shared.change(Change::AddFilter { network, port, filter: value, at }, query).await
}

async fn remove_filter(
    State(shared): State<Shared>,
    filter: PathArguments<(String, String, u64)>,
    query: Query,
) -> Answer {
    let (network, port, number) = path_of(filter)?;
    shared.change(Change::RemoveFilter { network, port, number }, query).await
}

async fn event_stream(State(shared): State<Shared>) -> Result<Response<Body>, Failure> {
    let share = shared.share(&shared.shares.events)?;
    let place = shared
        .event_streams
        .try_acquire_owned()
        .map_err(|_| Failure::new(ErrorCode::Unavailable, "too many event streams are open; close one"))?;
    let places = (place, share, shared.life.streaming());
    Ok(events::response(shared.handle.subscribe(), shared.stopped, places))
}

async fn capture(State(shared): State<Shared>, body: Body) -> Result<Response<Body>, Failure> {
    // The longest filter is longer than other bodies.
    let body = body::read(body, LARGEST_CONFIG, shared.body_time, &shared.life).await?;
    let request = CaptureRequest::parse(body)?;
    let share = shared.share(&shared.shares.captures)?;
    shared.captures.start(shared.handle, request, shared.stopped, share, &shared.life).await
}

async fn end_capture(State(shared): State<Shared>, number: PathArguments<u64>) -> Answer {
    let number = path_of(number)?;
    if !shared.captures.end(number) {
        return Err(Failure::new(ErrorCode::NotFound, format!("there is no capture {number}; it has ended")));
    }
    Json::of(&vmlan_api::CaptureEnded { capture: number })
}

/// Takes a member out of a body; a null is none.
fn take(body: &mut Value, member: &str) -> Option<Value> {
    body.as_object_mut()?.remove(member).filter(|value| !value.is_null())
}

/// Takes the member `dry_run` out of a body.
fn take_dry_run(body: &mut Value) -> Result<bool, Failure> {
    match take(body, "dry_run") {
        None => Ok(false),
        Some(Value::Bool(dry_run)) => Ok(dry_run),
        Some(_) => Err(Error::at(ErrorCode::WrongType, "dry_run", "dry_run must be true or false").into()),
    }
}

pub(super) fn path_of<T>(arguments: PathArguments<T>) -> Result<T, Failure> {
    arguments.map(|Path(value)| value).map_err(|_| {
        let message = "the path is not legal: names are UTF-8 text, and numbers have digits only";
        Failure::new(ErrorCode::BadRequest, message)
    })
}
