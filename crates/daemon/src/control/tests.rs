use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::config::Change;
use crate::handle::{self, Query, Request, UplinkQuery};

mod connections;
mod metrics;
mod socket;
mod uplink;

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(20);

/// A server over a supervisor that answers with fixed values and tells what it was asked to change.
struct Daemon {
    server: Server,
    asked: mpsc::UnboundedReceiver<String>,
    emit: mpsc::UnboundedSender<vmlan_api::EventKind>,
}

/// A server alone.
struct Server {
    _directory: TempDir,
    path: PathBuf,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

fn start(limits: Limits) -> Daemon {
    let (handle, requests) = handle::channel();
    let (tell, asked) = mpsc::unbounded_channel();
    let (emit, to_emit) = mpsc::unbounded_channel();
    tokio::spawn(supervise(requests, tell, to_emit));
    Daemon { server: serve_with(handle, limits), asked, emit }
}

fn serve_alone(handle: Handle) -> Server {
    serve_with(handle, Limits::default())
}

fn serve_with(handle: Handle, limits: Limits) -> Server {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("vmlan/control.sock");
    let socket = ControlSocket::bind(&path).expect("a control socket");
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(serve(socket, handle, limits, async {
        let _ = stopped.await;
    }));
    Server { _directory: directory, path, stop, task }
}

impl Server {
    async fn end(self) {
        self.stop.send(()).expect("a server");
        timeout(DEADLINE, self.task).await.expect("the server's end").expect("no panic");
    }
}

async fn supervise(
    mut requests: handle::Requests,
    tell: mpsc::UnboundedSender<String>,
    mut to_emit: mpsc::UnboundedReceiver<vmlan_api::EventKind>,
) {
    let report = |dry_run| Ok(vmlan_api::ApplyReport { dry_run, ..Default::default() });
    loop {
        let request = tokio::select! {
            request = requests.next() => request,
            Some(event) = to_emit.recv() => {
                requests.emit(event);
                continue;
            }
        };
        let Some(request) = request else { return };
        match request {
            Request::Query(Query::Status(reply)) => drop(reply.send(Ok(status()))),
            Request::Query(Query::Config(reply)) => drop(reply.send(Ok(running()))),
            Request::Query(Query::Networks(reply)) => drop(reply.send(Ok(Vec::new()))),
            Request::Query(Query::Ports { reply, .. }) => drop(reply.send(Ok(vec![port()]))),
            Request::Query(Query::Fdb { network, reply }) if network == "lab" => {
                drop(reply.send(Ok(Vec::new())))
            }
            Request::Query(Query::Fdb { reply, .. }) => {
                drop(reply.send(Err(vmlan_api::Error::new(
                    vmlan_api::ErrorCode::UnknownNetwork,
                    "there is no such network",
                ))));
            }
            Request::Query(Query::Ui(reply)) => {
                let link = "http://127.0.0.1:7070/?token=00".to_owned();
                drop(reply.send(Ok(vmlan_api::WebPage { link, writes: false })));
            }
            Request::Query(Query::Metrics(format, reply)) => {
                drop(reply.send(Ok(format!("{format:?}\n"))));
            }
            Request::Query(Query::Settle(reply)) => drop(reply.send(Ok(()))),
            Request::Query(Query::Links { reply, .. }) => drop(reply.send(Ok(Vec::new()))),
            Request::Query(Query::Trunks { reply, .. }) => drop(reply.send(Ok(Vec::new()))),
            Request::Query(Query::Uplink(query)) => uplink::answer(query, &tell),
            Request::Apply { config, dry_run, reply } => {
                let _ = tell.send(format!("apply {} {dry_run}", config.networks().len()));
                drop(reply.send(report(dry_run)));
            }
            Request::Reload { dry_run, reply } => {
                let _ = tell.send(format!("reload {dry_run}"));
                drop(reply.send(report(dry_run)));
            }
            Request::Change { change, dry_run, reply } => {
                let _ = tell.send(match change {
                    Change::AddPort { network, port, table } => {
                        format!("add {network} {port} {table}")
                    }
                    Change::AddNetwork { network, table } => format!("add {network} {table}"),
                    Change::RemoveNetwork { network } => format!("remove {network}"),
                    Change::RemovePort { network, port } if port == "stuck" => {
                        let failed = vmlan_api::ActionReport {
                            action: vmlan_api::ActionKind::RemovePort,
                            network: Some(network),
                            port: Some(port),
                            outcome: vmlan_api::Outcome::Failed,
                            reason: Some("the device is busy".to_owned()),
                        };
                        drop(reply.send(Ok(vmlan_api::ApplyReport {
                            dry_run,
                            actions: vec![failed],
                            notes: Vec::new(),
                        })));
                        continue;
                    }
                    Change::RemovePort { network, port } => format!("remove {network} {port}"),
                    other => format!("{other:?}"),
                });
                drop(reply.send(report(dry_run)));
            }
            Request::Query(Query::Filters { reply, .. }) => drop(reply.send(Ok(Vec::new()))),
            Request::Shutdown(reply) => drop(reply.send(Ok(()))),
        }
    }
}

fn running() -> vmlan_api::Config {
    let (web, port) = ("web".to_owned(), vmlan_api::PortConfig::default());
    let network = vmlan_api::NetworkConfig { port: [(web, port)].into(), ..Default::default() };
    vmlan_api::Config { network: [("lab".to_owned(), network)].into(), ..Default::default() }
}

fn status() -> vmlan_api::Status {
    vmlan_api::Status {
        version: "0.0.0".into(),
        pid: 1,
        state: vmlan_api::DaemonState::Running,
        uptime_seconds: 1.5,
        workers: 1,
        poll: vmlan_api::Poll::Adaptive,
        networks: 1,
        ports: 1,
        config: None,
        listeners: Vec::new(),
    }
}

fn port() -> vmlan_api::Port {
    vmlan_api::Port {
        fast: None,
        network: "lab".into(),
        port: "web".into(),
        index: Some(1),
        kind: vmlan_api::PortKind::Stream,
        state: vmlan_api::PortState::Waiting,
        reason: None,
        address: Some("/run/vmlan/web.sock".into()),
        peer: None,
        mechanism: None,
        mac: None,
        addresses: Vec::new(),
        name: None,
        vlan: None,
        mtu: 1500,
        counters: vmlan_api::Counters::default(),
        tunnel: None,
        rings: None,
    }
}

impl Daemon {
    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.server.path).await.expect("a connection")
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        ask(&self.server.path, method, path, body).await
    }

    async fn asked(&mut self) -> String {
        timeout(DEADLINE, self.asked.recv()).await.expect("a request in time").expect("a request")
    }
}

/// Sends octets and reads until the server closes.
async fn exchange(socket: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).await.expect("a connection");
    // The server may have answered and closed before it read everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an answer in time");
    assert!(read.is_ok() || !answer.is_empty(), "no answer: {read:?}");
    String::from_utf8(answer).expect("text")
}

/// One request: its status code and its body.
async fn ask(socket: &Path, method: &str, path: &str, body: &str) -> (u16, Value) {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: vmlan\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    let answer = exchange(socket, (head + body).as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a header");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status code");
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

/// Reads until `end` has come.
async fn read_until(stream: &mut UnixStream, end: &str) -> String {
    let mut text = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&text).contains(end) {
            let mut octets = [0; 4096];
            let count = stream.read(&mut octets).await.expect("a readable stream");
            assert!(count > 0, "the stream ended after {:?}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&octets[..count]);
        }
    };
    timeout(DEADLINE, read).await.expect("the text in time");
    String::from_utf8(text).expect("text")
}

#[tokio::test]
async fn every_listing_answers_with_its_json() {
    let daemon = start(Limits::default());
    for (path, expected) in [
        ("/v1/openapi.json", serde_json::from_str(vmlan_api::OPENAPI).expect("JSON")),
        ("/v1/status", json!(status())),
        ("/v1/networks", json!([])),
        ("/v1/ports", json!([port()])),
        ("/v1/ports?network=lab", json!([port()])),
        ("/v1/networks/lab/ports", json!([port()])),
        ("/v1/networks/lab/ports/web", json!(port())),
        ("/v1/config", json!({"network": {"lab": {"port": {"web": {}}}}})),
        ("/v1/config?format=json", json!({"network": {"lab": {"port": {"web": {}}}}})),
        ("/v1/networks/lab/fdb", json!([])),
        (
            "/v1/counters",
            json!([{"network": "lab", "port": "web", "counters": vmlan_api::Counters::default(), "rings": null}]),
        ),
        (
            "/v1/counters?port=lab%2Fweb",
            json!([{"network": "lab", "port": "web", "counters": vmlan_api::Counters::default(), "rings": null}]),
        ),
    ] {
        assert_eq!(daemon.ask("GET", path, "").await, (200, expected), "{path}");
    }
}

#[tokio::test]
async fn errors_are_json_with_code_message_and_field() {
    let daemon = start(Limits::default());
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let long = format!("{{\"mac\":\"{}\"}}", "x".repeat(64 * 1024));
    let too_long = " ".repeat((1 << 20) + 1);
    for (method, path, body, status, code) in [
        ("GET", "/", "", 404, "not_found"),
        ("GET", "/v2/ports", "", 404, "not_found"),
        ("GET", "/v1/ports/../../../etc/passwd", "", 404, "not_found"),
        ("DELETE", "/v1/ports", "", 405, "method_not_allowed"),
        ("GET", "/v1/apply", "", 405, "method_not_allowed"),
        ("GET", "/v1/ports?netwrok=lab", "", 400, "bad_request"),
        ("GET", "/v1/status?pretty", "", 400, "bad_request"),
        ("GET", "/v1/events?network=lab", "", 400, "bad_request"),
        ("GET", "/v1/networks/lab?dry_run=true", "", 400, "bad_request"),
        ("DELETE", "/v1/networks/lab/forwards?dry_run=true", "", 405, "method_not_allowed"),
        ("POST", "/v1/networks/lab/ports/web?dryrun=true", "{}", 400, "bad_request"),
        ("DELETE", "/v1/networks/lab/ports/web?dry_run=yes", "", 400, "bad_request"),
        ("DELETE", "/v1/networks/lab/ports/web?dry_run=false&dry_run=true", "", 400, "bad_request"),
        ("GET", "/v1/config?format=yaml", "", 400, "bad_request"),
        ("GET", "/v1/networks/lab/ports/none", "", 404, "unknown_port"),
        ("DELETE", "/v1/networks/lab/ports/stuck", "", 503, "not_set_up"),
        ("GET", "/v1/networks/%ff/fdb", "", 400, "bad_request"),
        ("GET", "/v1/networks/none/fdb", "", 404, "unknown_network"),
        ("GET", "/v1/counters?port=none", "", 404, "unknown_port"),
        ("POST", "/v1/apply", "", 400, "bad_json"),
        ("POST", "/v1/apply", "{", 400, "bad_json"),
        ("POST", "/v1/apply", &deep, 400, "too_deep"),
        ("POST", "/v1/apply", r#"{"dry_run": true, "dry_run": false}"#, 400, "bad_json"),
        ("POST", "/v1/apply", r#"{"network": {"a": {"mtu": 1500, "mtu": 9000}}}"#, 400, "bad_json"),
        ("POST", "/v1/capture", r#"{"filter": "1\n6 0 0 0", "filter": "1\n6 0 0 1"}"#, 400, "bad_json"),
        ("POST", "/v1/networks/lab/ports/web", r#"{"tap": {"name": "a", "name": "b"}}"#, 400, "bad_json"),
        ("POST", "/v1/apply", &too_long, 413, "too_large"),
        ("POST", "/v1/apply", "[]", 422, "wrong_type"),
        ("POST", "/v1/apply", r#"{"dry_run": 1}"#, 422, "wrong_type"),
        ("POST", "/v1/reload", r#"{"network": {}}"#, 422, "unknown_key"),
        ("GET", "/v1/capture", "", 405, "method_not_allowed"),
        ("POST", "/v1/capture", r#"{"port": ["lab"]}"#, 422, "unknown_key"),
        ("POST", "/v1/capture", r#"{"filter": "icmp"}"#, 422, "bad_filter"),
        ("POST", "/v1/capture", r#"{"ports": ["lab/none"]}"#, 404, "unknown_port"),
        ("DELETE", "/v1/capture/1", "", 404, "not_found"),
        ("DELETE", "/v1/capture/x", "", 400, "bad_request"),
        ("POST", "/v1/networks/lab/ports/web", "", 400, "bad_json"),
        ("POST", "/v1/networks/lab/ports/web", &long, 413, "too_large"),
    ] {
        let (got, body) = daemon.ask(method, path, body).await;
        assert_eq!((got, &body["code"]), (status, &json!(code)), "{method} {path}: {body}");
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
        assert!(body.get("field").is_some(), "{body}");
    }
}

#[tokio::test]
async fn a_change_that_is_not_set_up_says_why_and_that_it_stays() {
    let daemon = start(Limits::default());
    let (status, body) = daemon.ask("DELETE", "/v1/networks/lab/ports/stuck", "").await;
    assert_eq!(status, 503);
    let message = body["message"].as_str().expect("a message");
    assert!(message.starts_with("lab/stuck: the device is busy; it stays"), "{message}");
}

#[tokio::test]
async fn the_running_configuration_can_be_had_as_a_file() {
    let daemon = start(Limits::default());
    let answer = exchange(
        &daemon.server.path,
        b"GET /v1/config?format=toml HTTP/1.1\r\nhost: v\r\nconnection: close\r\n\r\n",
    )
    .await;
    let (head, text) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains("application/toml"), "{head}");
    assert_eq!(text, "[network.lab.port.web]\n");
}

#[tokio::test]
async fn a_configuration_with_faults_names_all_of_them() {
    let daemon = start(Limits::default());
    let config = json!({"network": {"lab": {"mtu": 9, "port": {"web": {"tapp": {}}}}}}).to_string();

    let (status, body) = daemon.ask("POST", "/v1/apply", &config).await;

    assert_eq!((status, &body["code"]), (422, &json!("invalid_config")));
    let fields: Vec<_> =
        body["details"].as_array().expect("details").iter().map(|fault| &fault["field"]).collect();
    assert_eq!(fields, ["network.lab.port.web.tapp", "network.lab.mtu"]);
    assert!(body["details"][0]["message"].as_str().is_some_and(|text| text.contains("did you mean `tap`?")));
}

#[tokio::test]
async fn changes_reach_the_supervisor() {
    let mut daemon = start(Limits::default());
    // A long configuration is no long body.
    let long = json!({"network": {"lab": {}}}).to_string() + &" ".repeat(200_000);
    for (method, path, body, expected) in [
        ("POST", "/v1/apply", r#"{"network": {"lab": {}}}"#, "apply 1 false"),
        ("POST", "/v1/apply", r#"{"dry_run": true}"#, "apply 0 true"),
        ("POST", "/v1/apply?dry_run=true", long.as_str(), "apply 1 true"),
        ("POST", "/v1/reload", "", "reload false"),
        ("POST", "/v1/reload", r#"{"dry_run": true}"#, "reload true"),
        (
            "POST",
            "/v1/networks/lab/ports/web",
            r#"{"tap": {"name": "t0"}}"#,
            r#"add lab web {"tap":{"name":"t0"}}"#,
        ),
        ("POST", "/v1/networks/lab", "", "add lab {}"),
        ("DELETE", "/v1/networks/lab", "", "remove lab"),
        ("DELETE", "/v1/networks/lab/ports/a%20b", "", "remove lab a b"),
    ] {
        let (status, answer) = daemon.ask(method, path, body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        assert_eq!(daemon.asked().await, expected);
    }
}

#[tokio::test]
async fn a_gigabyte_is_refused_before_it_is_sent() {
    let daemon = start(Limits::default());
    let head = b"POST /v1/apply HTTP/1.1\r\nHost: vmlan\r\nContent-Length: 1073741824\r\n\r\n";
    let mut request = head.to_vec();
    request.resize(head.len() + (2 << 20), b' ');
    assert!(exchange(&daemon.server.path, &request).await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let daemon = start(Limits::default());
    for garbage in [b"\x00\x01\x02\x03\r\n\r\n".to_vec(), [&b"GET /"[..], &[b'x'; 100_000]].concat()] {
        let answer = exchange(&daemon.server.path, &garbage).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
}

#[tokio::test]
async fn events_are_lines_until_the_daemon_ends() {
    let daemon = start(Limits { event_streams: 1, ..Limits::default() });
    let mut stream = daemon.connect().await;
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: vmlan\r\n\r\n").await.expect("a request");
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.contains("application/x-ndjson"), "{head}");

    let (status, body) = daemon.ask("GET", "/v1/events", "").await;
    assert_eq!((status, &body["code"]), (503, &json!("unavailable")));

    let event = vmlan_api::EventKind::PortUp { network: "lab".into(), port: "web".into() };
    daemon.emit.send(event).expect("a supervisor");
    let line = read_until(&mut stream, "}\n").await;
    assert!(line.contains(r#""event":"port_up","network":"lab","port":"web""#), "{line}");

    daemon.server.end().await;
    let mut rest = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("an end").expect("a clean end");
}

/// Asks for a capture and waits for the head of the answer: the connection and the capture's number, or `None` when
/// there is no place.
async fn capture(daemon: &Daemon) -> Option<(UnixStream, String)> {
    let mut stream = daemon.connect().await;
    let request =
        b"POST /v1/capture HTTP/1.1\r\nHost: vmlan\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(request).await.expect("a request");
    let mut head = Vec::new();
    // The magic number of the first block.
    while !head.windows(4).any(|octets| octets == 0x1a2b_3c4d_u32.to_ne_bytes()) {
        if head.starts_with(b"HTTP/1.1 503 ") {
            return None;
        }
        let mut octets = [0; 4096];
        let count = timeout(DEADLINE, stream.read(&mut octets)).await.expect("a head").expect("a stream");
        head.extend_from_slice(&octets[..count]);
        assert!(count > 0, "{}", String::from_utf8_lossy(&head));
    }
    let head = String::from_utf8_lossy(&head);
    assert!(head.contains("content-type: application/x-pcapng\r\n"), "{head}");
    let number = head.split("vmlan-capture: ").nth(1).expect("a number");
    Some((stream, number.split("\r\n").next().expect("a line").to_owned()))
}

#[tokio::test]
async fn captures_end_when_asked_when_their_reader_leaves_and_with_the_daemon() {
    let daemon = start(Limits { captures: 2, ..Limits::default() });
    let (mut asked, number) = capture(&daemon).await.expect("a place");
    let (left, _) = capture(&daemon).await.expect("a place");
    let (status, body) = daemon.ask("POST", "/v1/capture", "").await;
    assert_eq!((status, &body["code"]), (503, &json!("unavailable")));

    let (status, body) = daemon.ask("DELETE", &format!("/v1/capture/{number}"), "").await;
    assert_eq!((status, body.to_string()), (200, format!("{{\"capture\":{number}}}")));
    let mut rest = Vec::new();
    timeout(DEADLINE, asked.read_to_end(&mut rest)).await.expect("an end").expect("a clean end");
    assert!(rest.ends_with(b"0\r\n\r\n"), "the last chunk is missing");
    let (status, _) = daemon.ask("DELETE", &format!("/v1/capture/{number}"), "").await;
    assert_eq!(status, 404);

    // Both places are free again, although nothing was ever captured.
    drop(left);
    let mut open = Vec::new();
    let both = async {
        while open.len() < 2 {
            open.extend(capture(&daemon).await.map(|(stream, _)| stream));
        }
    };
    timeout(DEADLINE, both).await.expect("free places");
    daemon.server.end().await;
    for mut stream in open {
        let mut rest = Vec::new();
        timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("an end").expect("a clean end");
        assert!(rest.ends_with(b"0\r\n\r\n"), "the last chunk is missing");
    }
}

#[tokio::test]
async fn a_slow_reader_of_events_is_told_how_many_it_lost() {
    let (handle, requests) = handle::channel();
    let server = serve_alone(handle);
    let mut stream = UnixStream::connect(&server.path).await.expect("a connection");
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: vmlan\r\n\r\n").await.expect("a request");
    read_until(&mut stream, "\r\n\r\n").await;

    // Nothing else runs meanwhile: all of them are there before the first is taken.
    let count = 3 * vmlan_ports::EVENT_QUEUE as u64;
    for _ in 0..count {
        requests.emit(vmlan_api::EventKind::NetworkAdded { network: "lab".into() });
    }
    requests.emit(vmlan_api::EventKind::NetworkRemoved { network: "last".into() });

    let text = read_until(&mut stream, "\"last\"").await;
    let lost =
        text.lines().find_map(|line| match serde_json::from_str::<vmlan_api::Event>(line).ok()?.kind {
            vmlan_api::EventKind::Lost { count } => Some(count),
            _ => None,
        });
    let told = text.matches("\"network_added\"").count() as u64;
    assert_eq!(lost.map(|lost| lost + told), Some(count));
}

#[tokio::test]
async fn without_a_supervisor_the_answer_is_unavailable() {
    let (handle, requests) = handle::channel();
    drop(requests);
    let server = serve_alone(handle);
    let (status, body) = ask(&server.path, "GET", "/v1/ports", "").await;
    assert_eq!((status, &body["code"]), (503, &json!("unavailable")));
}
