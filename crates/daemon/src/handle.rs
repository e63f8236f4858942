//! How the rest of the process speaks to the supervisor.
//!
//! The supervisor owns all running state in one task; nobody else touches it. A [`Handle`] sends it [`Request`]s, each
//! with a place for its one reply, and hands out the stream of events. Requests are answered in their order; a
//! [`Query`] is answered beside them, from what there is. When the supervisor is gone every method answers
//! [`vmlan_api::ErrorCode::Unavailable`].

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot};
use vmlan_ports::Emitter;
pub use vmlan_ports::PortLink;
use vmlan_ports::users::Users;

use crate::config::{Change, ValidConfig};
use crate::metrics::Format;
pub use crate::uplink::UplinkQuery;

/// Requests that may wait for the supervisor; further senders wait.
const REQUEST_QUEUE: usize = 32;

/// Where the one answer to a request goes.
pub type Reply<T> = oneshot::Sender<Result<T, vmlan_api::Error>>;

/// A question about the running daemon. Its answer waits for no change.
#[derive(Debug)]
pub enum Query {
    /// The state of the daemon.
    Status(Reply<vmlan_api::Status>),
    /// The link to the web page.
    Ui(Reply<vmlan_api::WebPage>),
    /// The configuration that runs, with paths made absolute.
    Config(Reply<vmlan_api::Config>),
    /// All networks, by name.
    Networks(Reply<Vec<vmlan_api::Network>>),
    /// The ports of one network or of all, by network and name.
    Ports {
        /// Only this network's; an error if there is none.
        network: Option<String>,
        /// The answer.
        reply: Reply<Vec<vmlan_api::Port>>,
    },
    /// The forwarding database of a network.
    Fdb {
        /// Its name.
        network: String,
        /// The answer.
        reply: Reply<Vec<vmlan_api::FdbEntry>>,
    },
    /// The trunk of one network or those of all, by network.
    Trunks {
        /// Only this network's; an error if there is none.
        network: Option<String>,
        /// The answer.
        reply: Reply<Vec<vmlan_api::Trunk>>,
    },
    /// The links of the ports of one network or of all, by network and name.
    Links {
        /// Only this network's; an error if there is none.
        network: Option<String>,
        /// The answer.
        reply: Reply<Vec<PortLink>>,
    },
    /// The rules about ports' frames, of one network or of all.
    Filters {
        /// Only this network's; an error if there is none.
        network: Option<String>,
        /// The answer.
        reply: Reply<Vec<vmlan_api::Filter>>,
    },
    /// Answers when no frame passes by something that was withdrawn before.
    Settle(Reply<()>),
    /// Everything that is measured, in this notation.
    Metrics(Format, Reply<String>),
    /// Something about uplinks, or a change of what one carries.
    Uplink(UplinkQuery),
}

/// A request to the supervisor.
#[derive(Debug)]
pub enum Request {
    /// Something about what runs, where nobody else answers it.
    Query(Query),
    /// Make this configuration the running one.
    Apply {
        /// The configuration that shall run.
        config: Box<ValidConfig>,
        /// Only tell what would be done.
        dry_run: bool,
        /// The answer, when everything was done or failed.
        reply: Reply<vmlan_api::ApplyReport>,
    },
    /// Read the daemon's own configuration file again and apply it.
    Reload {
        /// Only tell what would be done.
        dry_run: bool,
        /// The answer, when everything was done or failed.
        reply: Reply<vmlan_api::ApplyReport>,
    },
    /// Change one thing of what runs.
    Change {
        /// The change.
        change: Change,
        /// Only tell what would be done.
        dry_run: bool,
        /// The answer, when everything was done or failed.
        reply: Reply<vmlan_api::ApplyReport>,
    },
    /// End the daemon in order.
    Shutdown(Reply<()>),
}

/// Speaks to the supervisor; clones speak to the same one.
#[derive(Debug, Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    queries: mpsc::Sender<Query>,
    events: Emitter,
    users: Arc<Users>,
}

/// The supervisor's end: requests to answer, and where events go.
#[derive(Debug)]
pub struct Requests {
    requests: mpsc::Receiver<Request>,
    /// None while somebody else answers them.
    queries: Option<Queries>,
    events: Emitter,
    users: Arc<Users>,
}

/// Queries to answer.
#[derive(Debug)]
pub struct Queries {
    queries: mpsc::Receiver<Query>,
}

impl Queries {
    /// The next query; `None` when no handle is left. Safe to cancel: no query is lost.
    pub async fn next(&mut self) -> Option<Query> {
        self.queries.recv().await
    }
}

/// Makes a handle and the supervisor's end of it.
pub fn channel() -> (Handle, Requests) {
    let (sender, receiver) = mpsc::channel(REQUEST_QUEUE);
    let (asks, queries) = mpsc::channel(REQUEST_QUEUE);
    let events = Emitter::default();
    let users = Arc::<Users>::default();
    let handle = Handle { requests: sender, queries: asks, events: events.clone(), users: users.clone() };
    let queries = Some(Queries { queries });
    (handle, Requests { requests: receiver, queries, events, users })
}

impl Handle {
    /// Returns the users of the sockets, and what each may hold.
    pub fn users(&self) -> &Arc<Users> {
        &self.users
    }
}

impl Requests {
    /// The next request; `None` when no handle is left. Safe to cancel: no request is lost.
    pub async fn next(&mut self) -> Option<Request> {
        let Some(queries) = &mut self.queries else { return self.requests.recv().await };
        tokio::select! {
            request = self.requests.recv() => request,
            Some(query) = queries.next() => Some(Request::Query(query)),
        }
    }

    /// Takes the queries, which somebody else answers from now on.
    ///
    /// # Panics
    /// When they were taken before.
    pub(crate) fn take_queries(&mut self) -> Queries {
        self.queries.take().expect("they are taken once")
    }

    /// Tells all subscribers what happened, now; without subscribers it is forgotten.
    pub fn emit(&self, kind: vmlan_api::EventKind) {
        self.events.emit(kind);
    }

    /// Returns the users of the sockets, and what each may hold.
    pub(crate) fn users(&self) -> &Arc<Users> {
        &self.users
    }

    /// Returns an emitter, for others that have events to tell.
    pub fn emitter(&self) -> Emitter {
        self.events.clone()
    }
}

impl Handle {
    /// The state of the daemon.
    ///
    /// # Errors
    /// [`vmlan_api::ErrorCode::Unavailable`] when the supervisor is gone, here and in every method.
    pub async fn status(&self) -> Result<vmlan_api::Status, vmlan_api::Error> {
        self.query(Query::Status).await
    }

    /// The link to the web page that the daemon serves.
    ///
    /// # Errors
    /// [`vmlan_api::ErrorCode::NotFound`] where the configuration has none, [`vmlan_api::ErrorCode::Unavailable`] while
    /// its address cannot be had.
    pub async fn ui(&self) -> Result<vmlan_api::WebPage, vmlan_api::Error> {
        self.query(Query::Ui).await
    }

    /// All networks, by name.
    ///
    /// # Errors
    /// See [`Handle::status`].
    pub async fn networks(&self) -> Result<Vec<vmlan_api::Network>, vmlan_api::Error> {
        self.query(Query::Networks).await
    }

    /// The configuration that runs, with paths made absolute, and with what was changed since it was applied.
    ///
    /// # Errors
    /// See [`Handle::status`].
    pub async fn config(&self) -> Result<vmlan_api::Config, vmlan_api::Error> {
        self.query(Query::Config).await
    }

    /// One network.
    ///
    /// # Errors
    /// [`vmlan_api::ErrorCode::UnknownNetwork`].
    pub async fn network(&self, name: String) -> Result<vmlan_api::Network, vmlan_api::Error> {
        let networks = self.networks().await?;
        if let Some(network) = networks.iter().find(|network| network.network == name) {
            return Ok(network.clone());
        }
        let known = networks.iter().map(|network| network.network.as_str());
        Err(vmlan_api::Error::unknown_network(&name, known))
    }

    /// One port.
    ///
    /// # Errors
    /// [`vmlan_api::ErrorCode::UnknownNetwork`], [`vmlan_api::ErrorCode::UnknownPort`].
    pub async fn port(&self, network: String, name: String) -> Result<vmlan_api::Port, vmlan_api::Error> {
        let ports = self.ports(Some(network.clone())).await?;
        if let Some(port) = ports.iter().find(|port| port.port == name) {
            return Ok(port.clone());
        }
        let known = ports.iter().map(|port| port.port.as_str());
        Err(vmlan_api::Error::unknown_port(&network, &name, known))
    }

    /// The ports of one network or of all.
    ///
    /// # Errors
    /// [`vmlan_api::ErrorCode::UnknownNetwork`].
    pub async fn ports(&self, network: Option<String>) -> Result<Vec<vmlan_api::Port>, vmlan_api::Error> {
        self.query(|reply| Query::Ports { network, reply }).await
    }

    /// The trunk of one network, or those of all.
    ///
    /// # Errors
    /// [`vmlan_api::ErrorCode::UnknownNetwork`].
    pub async fn trunks(&self, network: Option<String>) -> Result<Vec<vmlan_api::Trunk>, vmlan_api::Error> {
        self.query(|reply| Query::Trunks { network, reply }).await
    }

    /// Returns when every frame is seen by the captures that were attached to links before: the kernel carries none
    /// past them any more.
    ///
    /// # Errors
    /// When the daemon is ending.
    pub async fn settle(&self) -> Result<(), vmlan_api::Error> {
        self.query(Query::Settle).await
    }

    /// The forwarding database of a network.
    ///
    /// # Errors
    /// [`vmlan_api::ErrorCode::UnknownNetwork`].
    pub async fn fdb(&self, network: String) -> Result<Vec<vmlan_api::FdbEntry>, vmlan_api::Error> {
        self.query(|reply| Query::Fdb { network, reply }).await
    }

    /// The counters of the ports of one network or of all; with `filter` of those that it names, as `port` or
    /// `network/port`.
    ///
    /// # Errors
    /// [`vmlan_api::ErrorCode::UnknownNetwork`]; [`vmlan_api::ErrorCode::UnknownPort`] when the filter fits none.
    pub async fn counters(
        &self,
        network: Option<String>,
        filter: Option<String>,
    ) -> Result<Vec<vmlan_api::PortCounters>, vmlan_api::Error> {
        let ports = self.ports(network).await?;
        let fits = |port: &vmlan_api::Port| filter.as_deref().is_none_or(|filter| names(filter, port));
        if let Some(filter) = filter.as_deref().filter(|_| !ports.iter().any(fits)) {
            let known: Vec<_> = ports.iter().map(|port| format!("{}/{}", port.network, port.port)).collect();
            return Err(vmlan_api::Error::no_such_port(filter, known.iter().map(String::as_str)));
        }
        let counters = |port: vmlan_api::Port| vmlan_api::PortCounters {
            network: port.network,
            port: port.port,
            counters: port.counters,
            rings: port.rings,
        };
        Ok(ports.into_iter().filter(fits).map(counters).collect())
    }

    /// The links of the ports of one network or of all. Ports whose clients are ports of their own have none.
    ///
    /// # Errors
    /// [`vmlan_api::ErrorCode::UnknownNetwork`].
    pub async fn links(&self, network: Option<String>) -> Result<Vec<PortLink>, vmlan_api::Error> {
        self.query(|reply| Query::Links { network, reply }).await
    }

    /// Makes `config` the running configuration, or only tells what would be done.
    ///
    /// # Errors
    /// Only when nothing could be tried; an action that failed stands in the report.
    pub async fn apply(
        &self,
        config: ValidConfig,
        dry_run: bool,
    ) -> Result<vmlan_api::ApplyReport, vmlan_api::Error> {
        self.ask(|reply| Request::Apply { config: Box::new(config), dry_run, reply }).await
    }

    /// Reads the daemon's own configuration file again and applies it.
    ///
    /// # Errors
    /// The faults of the file; [`vmlan_api::ErrorCode::NoConfigFile`] when the daemon runs without one.
    pub async fn reload(&self, dry_run: bool) -> Result<vmlan_api::ApplyReport, vmlan_api::Error> {
        self.ask(|reply| Request::Reload { dry_run, reply }).await
    }

    /// Changes one thing of what runs, or only tells what would be done.
    ///
    /// # Errors
    /// See [`Change::apply`].
    pub async fn change(
        &self,
        change: Change,
        dry_run: bool,
    ) -> Result<vmlan_api::ApplyReport, vmlan_api::Error> {
        self.ask(|reply| Request::Change { change, dry_run, reply }).await
    }

    /// Everything that is measured, as text in the notation `format` (docs/metrics.md).
    ///
    /// # Errors
    /// See [`Handle::status`].
    pub async fn metrics(&self, format: Format) -> Result<String, vmlan_api::Error> {
        self.query(|reply| Query::Metrics(format, reply)).await
    }

    /// The rules about ports' frames and what they matched, of one network or of all.
    ///
    /// # Errors
    /// [`vmlan_api::ErrorCode::UnknownNetwork`].
    pub async fn filters(&self, network: Option<String>) -> Result<Vec<vmlan_api::Filter>, vmlan_api::Error> {
        self.query(|reply| Query::Filters { network, reply }).await
    }

    /// The events from now on. A slow subscriber loses the oldest and is told how many.
    pub fn subscribe(&self) -> broadcast::Receiver<vmlan_api::Event> {
        self.events.subscribe()
    }

    /// Asks the daemon to end; answers when it has begun to.
    ///
    /// # Errors
    /// See [`Handle::status`].
    pub async fn shutdown(&self) -> Result<(), vmlan_api::Error> {
        self.ask(Request::Shutdown).await
    }

    pub(crate) async fn query<T>(
        &self,
        query: impl FnOnce(Reply<T>) -> Query,
    ) -> Result<T, vmlan_api::Error> {
        ask(&self.queries, query).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, vmlan_api::Error> {
        ask(&self.requests, request).await
    }
}

async fn ask<Q, T>(
    to: &mpsc::Sender<Q>,
    question: impl FnOnce(Reply<T>) -> Q,
) -> Result<T, vmlan_api::Error> {
    let (reply, answer) = oneshot::channel();
    to.send(question(reply)).await.map_err(|_| gone())?;
    answer.await.unwrap_or_else(|_| Err(gone()))
}

fn names(filter: &str, port: &vmlan_api::Port) -> bool {
    match filter.split_once('/') {
        Some((network, name)) => port.network == network && port.port == name,
        None => port.port == filter,
    }
}

fn gone() -> vmlan_api::Error {
    vmlan_api::Error::new(
        vmlan_api::ErrorCode::Unavailable,
        "vmlan is ending; start it again and repeat the request",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(network: &str, name: &str) -> vmlan_api::Port {
        vmlan_api::Port { network: network.into(), port: name.into(), ..Default::default() }
    }

    async fn answer_ports_once(mut requests: Requests) {
        let Some(Request::Query(Query::Ports { reply, .. })) = requests.next().await else {
            panic!("a request for ports")
        };
        reply.send(Ok(vec![port("a", "web"), port("b", "web"), port("b", "db")])).expect("a waiting asker");
    }

    #[tokio::test]
    async fn counters_are_filtered_by_port_or_by_network_and_port() {
        for (filter, expected) in [(None, 3), (Some("web"), 2), (Some("b/web"), 1)] {
            let (handle, requests) = channel();
            let (counters, ()) =
                tokio::join!(handle.counters(None, filter.map(str::to_owned)), answer_ports_once(requests));
            assert_eq!(counters.map(|list| list.len()), Ok(expected), "{filter:?}");
        }
    }

    #[tokio::test]
    async fn a_filter_that_fits_no_port_is_an_error() {
        let (handle, requests) = channel();
        let (counters, ()) =
            tokio::join!(handle.counters(None, Some("a/db".into())), answer_ports_once(requests));
        assert_eq!(counters.map_err(|error| error.code), Err(vmlan_api::ErrorCode::UnknownPort));
    }

    #[tokio::test]
    async fn without_a_supervisor_requests_are_answered_with_unavailable() {
        let (handle, requests) = channel();
        drop(requests);
        assert_eq!(handle.status().await.map_err(|error| error.code), Err(vmlan_api::ErrorCode::Unavailable));
    }

    #[tokio::test]
    async fn a_supervisor_that_dies_over_a_request_is_unavailable() {
        let (handle, mut requests) = channel();
        let (status, ()) = tokio::join!(handle.status(), async move { drop(requests.next().await) });
        assert_eq!(status.map_err(|error| error.code), Err(vmlan_api::ErrorCode::Unavailable));
    }

    #[tokio::test]
    async fn a_query_is_answered_while_a_change_is_carried_out() {
        let (handle, mut requests) = channel();
        let mut queries = requests.take_queries();
        let change = tokio::spawn({
            let handle = handle.clone();
            async move { handle.reload(false).await }
        });
        let Some(Request::Reload { reply, .. }) = requests.next().await else { panic!("the change") };
        let answer = async {
            let Some(Query::Ports { reply, .. }) = queries.next().await else { panic!("a query for ports") };
            reply.send(Ok(vec![port("a", "web")])).expect("a waiting asker");
        };
        let (ports, ()) = tokio::join!(handle.ports(None), answer);
        assert_eq!(ports.map(|ports| ports.len()), Ok(1));
        drop(reply);
        assert!(change.await.expect("the task").is_err());
    }

    #[tokio::test]
    async fn subscribers_see_what_is_emitted() {
        let (handle, requests) = channel();
        let mut events = handle.subscribe();
        requests.emit(vmlan_api::EventKind::NetworkAdded { network: "lab".into() });
        let event = events.recv().await.expect("the event");
        assert_eq!(event.kind, vmlan_api::EventKind::NetworkAdded { network: "lab".into() });
    }
}
