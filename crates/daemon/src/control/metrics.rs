//! Scrapes of metrics: `GET /metrics` of the control socket, and of the TCP socket of `[daemon] metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use vmlan_drivers::inject;
use vmlan_ports::panics::{Relapses, caught};
use vmlan_ports::throttle::Throttle;
use vmlan_ports::users::User;

use super::failure::Failure;
use super::life::{Life, Patience, Watched};
use super::places::Places;
use super::routes::Shared;
use super::{ACCEPT_PAUSE, HEADER};
use crate::metrics::{Answers, Format};

/// Connections that are served at once. A Prometheus has one, and few ask besides.
const CONNECTIONS: usize = 16;
/// Time for the header of a request.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// Time in which a client has to read something of the answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// How long a connection may keep its place while it waits for its client and others wait for a place.
const TURN: Duration = Duration::from_millis(500);
/// The longest that a connection lives, however slowly its client reads.
const LIFE: Duration = Duration::from_secs(30);

/// Answers a scrape of the control socket.
pub(super) async fn scrape(
    State(shared): State<Shared>,
    headers: HeaderMap,
) -> Result<Response<Body>, Failure> {
    let format = format_of(&headers);
    let text = shared.handle.metrics(format).await?;
    Ok(response(format, text))
}

/// Answers scrapes of a TCP socket for ever, and begins anew after a panic.
pub(crate) async fn serve(listener: TcpListener, answers: Arc<Answers>) {
    let mut places = Places::new(CONNECTIONS, TURN);
    let mut relapses = Relapses::default();
    while let Err(panic) = caught(accept(&listener, &answers, &mut places)).await {
        relapses.begin_anew("the listener for metrics", panic).await;
    }
}

async fn accept(listener: &TcpListener, answers: &Arc<Answers>, places: &mut Places) {
    let mut throttle = Throttle::new();
    loop {
        throttle.pass().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                inject::panic_at(|| "metrics-accept".to_owned());
                places.make_room().await;
                let life = Life::new();
                places.add(User::Unknown, life.clone(), serve_connection(stream, life, answers.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "the socket for metrics accepts no connection for now");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, life: Arc<Life>, answers: Arc<Answers>) {
    let stream = Watched::new(stream, life.clone(), Patience { answer: ANSWER_TIME, stream: ANSWER_TIME });
    let service = TowerToHyperService::new(router(answers));
    let service = service_fn(|request| {
        let (service, life) = (service.clone(), life.clone());
        async move {
            life.served();
            let answer = service.call(request).await;
            life.answered();
            answer
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEADER)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(LIFE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection for metrics ended"),
        Err(_) => tracing::debug!("a connection for metrics was ended: its client is too slow"),
    }
}

fn router(answers: Arc<Answers>) -> Router {
    let plain = |status: StatusCode, text: &'static str| async move { (status, text) };
    let not_found = move || plain(StatusCode::NOT_FOUND, "there is only /metrics here\n");
    let not_allowed = move || plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n");
    Router::new()
        .route("/metrics", get(scrape_answers))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(answers)
}

async fn scrape_answers(State(answers): State<Arc<Answers>>, headers: HeaderMap) -> Response<Body> {
    let format = format_of(&headers);
    response(format, answers.get(format))
}

/// The notation that a request asks for.
fn format_of(headers: &HeaderMap) -> Format {
    let wishes = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    Format::accepted(&wishes.collect::<Vec<_>>().join(","))
}

fn response(format: Format, text: impl Into<Bytes>) -> Response<Body> {
    let kind = HeaderValue::from_static(format.content_type());
    ([(header::CONTENT_TYPE, kind)], Body::from(text.into())).into_response()
}
