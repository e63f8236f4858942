//! The server: connections, and answers to what the gate lets through.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use vmlan_api::{Error, ErrorCode};

use crate::gate::{Gate, Pass, Refusal};
use crate::patient::Patient;
use crate::places::{Known, Places};
use crate::routes::{self, Route};
use crate::{Options, StartError, assets, proxy};

/// Octets of the header of a request, and of what is read at once.
const HEADER: usize = 16 * 1024;
/// Octets of a body: a configuration.
const LARGEST_BODY: usize = 1 << 20;
/// The pause when no connection can be accepted, for want of descriptors for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// The header in which the daemon numbers a capture.
const CAPTURE: HeaderName = HeaderName::from_static("vmlan-capture");

/// The headers of every answer: nothing is loaded from elsewhere, runs within HTML, or is framed.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

type Body = Either<Full<Bytes>, Incoming>;

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    gate: Gate,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn bind(options: Options) -> Result<Server, StartError> {
        let listen = options.listen;
        if !listen.ip().is_loopback() {
            return Err(StartError::NotLoopback(listen));
        }
        let listener =
            TcpListener::bind(listen).await.map_err(|source| StartError::Listen { listen, source })?;
        Server::on(listener, options)
    }

    /// Serves at a socket that listens already.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn on(listener: TcpListener, options: Options) -> Result<Server, StartError> {
        let listen = options.listen;
        let address = listener.local_addr().map_err(|source| StartError::Listen { listen, source })?;
        if !address.ip().is_loopback() {
            return Err(StartError::NotLoopback(address));
        }
        let gate = Gate::new(address).map_err(StartError::Random)?;
        Ok(Server { listener, shared: Arc::new(Shared { options, gate }) })
    }

    /// The link that opens the page. It holds the token.
    pub fn link(&self) -> String {
        self.shared.gate.link()
    }

    /// The address at which it listens.
    ///
    /// # Errors
    /// The error of getsockname(2).
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is ready; then every connection ends.
    pub async fn serve(&self, stop: impl Future<Output = ()>) {
        let mut connections = self.connections();
        let accept = async {
            loop {
                self.accept(&mut connections).await;
            }
        };
        tokio::select! {
            () = accept => {}
            () = stop => {}
        }
    }

    /// No connections yet, for [`Server::accept`].
    pub fn connections(&self) -> Connections {
        Connections(Places::new(self.shared.options.limits.connections))
    }

    /// Waits for a connection, and serves it among `connections` from then on.
    pub async fn accept(&self, connections: &mut Connections) {
        match self.listener.accept().await {
            Ok((stream, _)) => {
                let known = Known::default();
                let connection = serve_connection(stream, self.shared.clone(), known.clone());
                connections.0.add(known, connection).await;
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// The connections that are served. Dropping it ends them.
#[derive(Debug)]
pub struct Connections(Places);

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>, known: Known) {
    let limits = shared.options.limits;
    let service = service_fn(move |request| {
        let (shared, known) = (shared.clone(), known.clone());
        async move { Ok::<_, Infallible>(finished(shared.answer(request, &known).await)) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(HEADER)
        .serve_connection(TokioIo::new(Patient::new(stream, limits.answer)), service);
    // An error is the client's, and tells nothing that it does not know.
    let _ = connection.await;
}

/// The answer with the headers of every answer.
fn finished(mut response: Response<Body>) -> Response<Body> {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>, known: &Known) -> Response<Body> {
        let (method, uri) = (request.method(), request.uri());
        let pass = match self.gate.judge(method, uri, request.headers()) {
            Ok(pass) => pass,
            Err(refusal) => return refused(refusal),
        };
        if pass == Pass::Enter {
            return self.welcome();
        }
        known.set();
        if pass == Pass::Page {
            return match (method, assets::at(uri.path())) {
                (&Method::GET, Some(asset)) => {
                    of(StatusCode::OK, asset.media, Bytes::from_static(asset.octets))
                }
                _ => error(&Error::new(ErrorCode::MethodNotAllowed, "the page is only read")),
            };
        }
        match routes::of(method, uri.path(), uri.query(), self.writes()) {
            Route::About => self.about(),
            Route::Daemon => self.pass_on(request).await,
            Route::Apply => self.apply(request).await,
            Route::ReadOnly => error(&Error::new(
                ErrorCode::MethodNotAllowed,
                "this page changes nothing; `vmlan ui --writes` may, and the daemon's own with `ui_writes = true` in \
                 `[daemon]`",
            )),
            Route::Unknown => error(&Error::new(ErrorCode::NotFound, "there is no such path")),
        }
    }

    /// Gives the browser the cookie and the key, and sends it to the page.
    fn welcome(&self) -> Response<Body> {
        let (cookie, location) = self.gate.welcome();
        let mut response = of(StatusCode::SEE_OTHER, "text/plain; charset=utf-8", Bytes::new());
        for (name, value) in [(header::SET_COOKIE, cookie), (header::LOCATION, location)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }

    fn writes(&self) -> bool {
        self.options.writes.load(Ordering::Relaxed)
    }

    fn about(&self) -> Response<Body> {
        let about = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "control": self.options.control.to_string_lossy(),
            "writes": self.writes(),
        });
        of(StatusCode::OK, "application/json", Bytes::from(about.to_string()))
    }

    /// Has the daemon answer.
    async fn pass_on(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        match self.read(body).await {
            Ok(body) => self.ask(parts.method, target, body).await,
            Err(fault) => error(&fault),
        }
    }

    /// Has the daemon apply a configuration file's text, or tell what that would do.
    async fn apply(&self, request: Request<Incoming>) -> Response<Body> {
        let dry = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        let body = match self.read(request.into_body()).await {
            Ok(body) => body,
            Err(fault) => return error(&fault),
        };
        let read = self.options.read_config;
        // A filter may take its time to be compiled.
        let config = tokio::task::spawn_blocking(move || match std::str::from_utf8(&body) {
            Ok(text) => read(text),
            Err(_) => Err(Error::new(ErrorCode::BadRequest, "the file is not in UTF-8")),
        });
        let config = match config.await {
            Ok(Ok(config)) => config,
            Ok(Err(fault)) => return error(&fault),
            Err(fault) => return error(&Error::new(ErrorCode::Internal, fault.to_string())),
        };
        match serde_json::to_vec(&config) {
            Ok(body) => self.ask(Method::POST, &format!("/v1/apply{dry}"), Bytes::from(body)).await,
            Err(fault) => error(&Error::new(ErrorCode::Internal, fault.to_string())),
        }
    }

    async fn ask(&self, method: Method, target: &str, body: Bytes) -> Response<Body> {
        let change = routes::changes(&method, target).then(|| format!("{method} {target}"));
        let answer = match proxy::ask(&self.options.control, method, target, body).await {
            Ok(answer) => answer,
            Err(message) => return error(&Error::new(ErrorCode::Unavailable, message)),
        };
        if let Some(change) = change {
            (self.options.on_change)(&format!("{change}, answered with status {}", answer.status().as_u16()));
        }
        let (parts, body) = answer.into_parts();
        let mut response = Response::new(Either::Right(body));
        *response.status_mut() = parts.status;
        for name in [header::CONTENT_TYPE, CAPTURE] {
            if let Some(value) = parts.headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        response
    }

    /// A body, bounded in octets and time.
    async fn read(&self, body: Incoming) -> Result<Bytes, Error> {
        let body = Limited::new(body, LARGEST_BODY).collect();
        match tokio::time::timeout(self.options.limits.body, body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(fault)) if fault.is::<LengthLimitError>() => {
                Err(Error::new(ErrorCode::TooLarge, format!("the body is longer than {LARGEST_BODY} octets")))
            }
            Ok(Err(fault)) => {
                Err(Error::new(ErrorCode::BadRequest, format!("the body ended early: {fault}")))
            }
            Err(_) => Err(Error::new(ErrorCode::Timeout, "the body did not arrive in time")),
        }
    }
}

fn of(status: StatusCode, media: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// A stranger's answer; its connection ends with it.
fn refused(refusal: Refusal) -> Response<Body> {
    let body = Bytes::from_static(refusal.0.as_bytes());
    let mut response = of(StatusCode::FORBIDDEN, "text/plain; charset=utf-8", body);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// An error in the form of the control interface.
fn error(error: &Error) -> Response<Body> {
    let status = match error.code {
        ErrorCode::BadRequest => StatusCode::BAD_REQUEST,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::Timeout => StatusCode::REQUEST_TIMEOUT,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    of(status, "application/json", Bytes::from(serde_json::to_vec(error).unwrap_or_default()))
}
