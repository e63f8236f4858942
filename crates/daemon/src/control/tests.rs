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
use crate::handle::{self, Query, Request};

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
            Request::Query(Query::Links { reply, .. }) => drop(reply.send(Ok(Vec::new()))),
            Request::Query(Query::Trunks { reply, .. }) => drop(reply.send(Ok(Vec::new()))),
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
    }
}

fn port() -> vmlan_api::Port {
    vmlan_api::Port {
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
        vlan: None,
        mtu: 1500,
        counters: vmlan_api::Counters::default(),
        tunnel: None,
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
            json!([{"network": "lab", "port": "web", "counters": vmlan_api::Counters::default()}]),
        ),
        (
            "/v1/counters?port=lab%2Fweb",
            json!([{"network": "lab", "port": "web", "counters": vmlan_api::Counters::default()}]),
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
async fn a_half_sent_request_is_closed() {
    let limits =
        Limits { header: Duration::from_millis(50), body: Duration::from_millis(50), ..Limits::default() };
    let daemon = start(limits);
    for (half, answer) in [
        ("", ""),
        ("GET /v1/sta", ""),
        ("POST /v1/reload HTTP/1.1\r\nHost: vmlan\r\nContent-Length: 5\r\n\r\n{", "HTTP/1.1 408 "),
    ] {
        let mut stream = daemon.connect().await;
        stream.write_all(half.as_bytes()).await.expect("half a request");
        let mut text = Vec::new();
        let closed = timeout(DEADLINE, stream.read_to_end(&mut text)).await;
        assert!(closed.is_ok(), "{half} is open still");
        assert!(String::from_utf8_lossy(&text).starts_with(answer), "{half}");
    }
}

const STATUS: &[u8] = b"GET /v1/status HTTP/1.1\r\nHost: vmlan\r\n\r\n";

/// A request for the status and its answer, on a connection that stays open.
async fn ask_status(stream: &mut UnixStream) {
    stream.write_all(STATUS).await.expect("a request");
    read_until(stream, "\"running\"").await;
}

/// Waits until the server closes.
async fn until_closed(stream: &mut UnixStream) {
    let mut octets = Vec::new();
    // Reset is closed as well.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut octets)).await.expect("an end in time");
}

#[tokio::test]
async fn a_connection_without_a_place_gets_that_of_the_one_idle_longest() {
    let daemon = start(Limits { connections: 2, ..Limits::default() });
    let (mut first, mut second) = (daemon.connect().await, daemon.connect().await);
    ask_status(&mut first).await;
    ask_status(&mut second).await;
    let mut third = daemon.connect().await;
    ask_status(&mut third).await;
    until_closed(&mut first).await;
    ask_status(&mut second).await;
    ask_status(&mut third).await;
}

#[tokio::test]
async fn clients_that_keep_asking_keep_nobody_away() {
    let daemon = start(Limits { connections: 2, ..Limits::default() });
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut stream = daemon.connect().await;
        ask_status(&mut stream).await;
        busy.push(tokio::spawn(async move {
            let mut octets = [0; 4096];
            // Until it is sent away.
            while stream.write_all(STATUS).await.is_ok() && matches!(stream.read(&mut octets).await, Ok(1..))
            {
            }
        }));
    }
    let mut third = daemon.connect().await;
    ask_status(&mut third).await;
    for client in busy {
        client.abort();
    }
}

#[tokio::test]
async fn clients_that_say_nothing_keep_nobody_away() {
    let limits = Limits { connections: 2, turn: Duration::from_millis(50), ..Limits::default() };
    let daemon = start(limits);
    let mut silent = Vec::new();
    for half in
        ["", "GET /v1/sta", "POST /v1/reload HTTP/1.1\r\nHost: vmlan\r\nContent-Length: 5\r\n\r\n{"].repeat(5)
    {
        let mut stream = daemon.connect().await;
        stream.write_all(half.as_bytes()).await.expect("half a request");
        silent.push(stream);
    }
    let mut last = daemon.connect().await;
    ask_status(&mut last).await;
}

#[tokio::test]
async fn an_answer_that_streams_keeps_its_place() {
    let limits = Limits { connections: 1, turn: Duration::from_millis(1), ..Limits::default() };
    let daemon = start(limits);
    let mut stream = daemon.connect().await;
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: vmlan\r\n\r\n").await.expect("a request");
    read_until(&mut stream, "\r\n\r\n").await;
    let mut other = daemon.connect().await;
    other.write_all(STATUS).await.expect("a request");
    for _ in 0..50 {
        let event = vmlan_api::EventKind::PortUp { network: "lab".into(), port: "web".into() };
        daemon.emit.send(event).expect("a supervisor");
        read_until(&mut stream, "}\n").await;
        let waits = timeout(Duration::from_millis(1), other.readable()).await;
        assert!(waits.is_err(), "the other one was served");
    }
    drop(stream);
    read_until(&mut other, "\"running\"").await;
}

/// Sends requests until no more are taken, and reads no answer.
async fn clog(stream: &UnixStream, request: &[u8]) {
    let mut refused = 0;
    while refused < 20 {
        match stream.try_write(request) {
            Ok(_) => refused = 0,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                refused += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(_) => return,
        }
    }
}

#[tokio::test]
async fn a_client_that_reads_no_answer_loses_its_connection() {
    let daemon = start(Limits { answer: Duration::from_millis(50), ..Limits::default() });
    let mut stream = daemon.connect().await;
    clog(&stream, STATUS).await;
    let closed = async {
        // What the kernel holds is still there to be read, but nothing can be sent.
        while stream.write_all(STATUS).await.is_ok() {}
    };
    timeout(DEADLINE, closed).await.expect("an end in time");
    until_closed(&mut stream).await;
}

#[tokio::test]
async fn clients_that_read_no_answers_keep_nobody_away_and_do_not_hold_up_the_end() {
    let limits = Limits {
        connections: 4,
        turn: Duration::from_millis(50),
        // Not the deadline gives the places back.
        answer: Duration::from_secs(3600),
        ..Limits::default()
    };
    let daemon = start(limits);
    let mut open = Vec::new();
    for _ in 0..8 {
        let stream = daemon.connect().await;
        clog(&stream, STATUS).await;
        open.push(stream);
    }
    let mut last = daemon.connect().await;
    ask_status(&mut last).await;
    daemon.server.end().await;
}

#[tokio::test]
async fn a_reader_of_events_that_reads_nothing_at_all_loses_its_stream() {
    let limits = Limits { event_streams: 1, stream: Duration::from_millis(50), ..Limits::default() };
    let daemon = start(limits);
    let mut stream = daemon.connect().await;
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: vmlan\r\n\r\n").await.expect("a request");
    read_until(&mut stream, "\r\n\r\n").await;
    let freed = async {
        loop {
            for _ in 0..500 {
                let event = vmlan_api::EventKind::NetworkAdded { network: "lab".repeat(50) };
                daemon.emit.send(event).expect("a supervisor");
            }
            let mut second = daemon.connect().await;
            second.write_all(b"HEAD /v1/events HTTP/1.1\r\nHost: vmlan\r\n\r\n").await.expect("a request");
            if read_until(&mut second, "\r\n\r\n").await.starts_with("HTTP/1.1 200 ") {
                break;
            }
        }
    };
    timeout(DEADLINE, freed).await.expect("a free place in time");
}

#[tokio::test]
async fn a_connection_that_stays_idle_is_closed() {
    let daemon = start(Limits { header: Duration::from_millis(50), ..Limits::default() });
    let mut stream = daemon.connect().await;
    ask_status(&mut stream).await;
    until_closed(&mut stream).await;
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

#[tokio::test]
async fn the_socket_is_for_its_owner_alone_and_goes_with_the_server() {
    let daemon = start(Limits::default());
    let mode = |path: &Path| path.metadata().expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(&daemon.server.path), 0o600);
    assert_eq!(
        mode(daemon.server.path.parent().expect("a directory")),
        0o711,
        "sockets of ports may be there"
    );

    let path = daemon.server.path.clone();
    daemon.server.end().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_in_use_is_left_alone_and_a_stale_one_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("control.sock");

    // A closed listener leaves its file behind, as a daemon that was killed does.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    let first = ControlSocket::bind(&path).expect("the stale socket is replaced");
    assert!(matches!(ControlSocket::bind(&path), Err(BindError::InUse { .. })));
    let inode = path.metadata().expect("a file").ino();

    // Another file under the same name is not ours to remove.
    std::fs::rename(&path, directory.path().join("moved")).expect("a rename");
    let second = ControlSocket::bind(&path).expect("the name is free");
    drop(first);
    assert_ne!(path.metadata().expect("the second socket is there").ino(), inode);
    drop(second);
    assert!(!path.exists());
}

/// A user who may open a directory may lock it.
#[tokio::test]
async fn a_lock_on_the_directory_keeps_nobody_away() {
    use rustix::fs::{FlockOperation, flock};
    let directory = tempfile::tempdir().expect("a directory");
    let locked = std::fs::File::open(directory.path()).expect("a directory");
    flock(&locked, FlockOperation::NonBlockingLockExclusive).expect("a lock");
    let path = directory.path().join("control.sock");
    drop(ControlSocket::bind(&path).expect("a control socket"));
    assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 0);
}

#[tokio::test]
async fn a_directory_that_all_may_change_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("control.sock");
    for (mode, safe) in [(0o777, false), (0o1777, true), (0o755, true)] {
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(mode)).expect("our own");
        match ControlSocket::bind(&path) {
            Ok(_) => assert!(safe, "{mode:o}"),
            Err(error) => assert!(!safe && error.to_string().contains("chmod +t"), "{error}"),
        }
    }
}

#[tokio::test]
async fn what_is_no_socket_is_never_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").expect("a file");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    for path in [&file, &link] {
        assert!(matches!(ControlSocket::bind(path), Err(BindError::NoSocket { .. })));
    }
    assert!(matches!(
        ControlSocket::bind(&directory.path().join("x".repeat(200))),
        Err(BindError::BadPath { .. })
    ));
    let blocked = ControlSocket::bind(&file.join("control.sock"));
    assert!(matches!(blocked, Err(BindError::System { .. })), "{blocked:?}");
    assert_eq!(std::fs::read_to_string(&file).ok().as_deref(), Some("precious"));
}

#[test]
fn only_our_user_and_root_may_connect() {
    for (peer, ours, welcome) in [(1000, 1000, true), (0, 1000, true), (1000, 0, false), (1001, 1000, false)]
    {
        assert_eq!(uid_may_connect(peer, ours), welcome, "{peer} {ours}");
    }
}

async fn run(program: &str, arguments: &[&str]) -> Option<std::process::Output> {
    match tokio::process::Command::new(program).args(arguments).output().await {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("SKIPPED: {program} cannot be run here: {error}");
            None
        }
    }
}

#[tokio::test]
async fn curl_speaks_to_it() {
    let daemon = start(Limits::default());
    let path = daemon.server.path.to_str().expect("text");
    let Some(output) = run("curl", &["-sS", "--unix-socket", path, "http://vmlan/v1/ports"]).await else {
        return;
    };
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).ok(), Some(json!([port()])));
}

#[tokio::test]
async fn another_user_is_closed_even_where_the_mode_lets_it_connect() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can become another user");
        return;
    }
    let daemon = start(Limits::default());
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("our file");
    };
    daemon.server.path.ancestors().skip(1).take(2).for_each(|directory| open(directory, 0o755));
    open(&daemon.server.path, 0o666);
    let path = daemon.server.path.to_str().expect("text");
    let curl = ["curl", "-sS", "--unix-socket", path, "http://vmlan/v1/status"];
    let arguments = [&["--reuid=65534", "--clear-groups"][..], &curl].concat();
    let Some(output) = run("setpriv", &arguments).await else { return };
    assert!(output.stdout.is_empty() && !output.status.success(), "{output:?}");
}

#[tokio::test]
async fn one_user_leaves_connections_to_others_and_is_told_why() {
    let daemon = start(Limits { connections: 16, ..Limits::default() });
    let mut open = Vec::new();
    for _ in 0..14 {
        let mut stream = daemon.connect().await;
        // One that streams keeps its place; an idle one would make room.
        stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: vmlan\r\n\r\n").await.expect("a request");
        read_until(&mut stream, "\r\n\r\n").await;
        open.push(stream);
    }
    let mut refused = daemon.connect().await;
    let mut answer = String::new();
    timeout(DEADLINE, refused.read_to_string(&mut answer)).await.expect("an end").expect("an answer");
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("`connections` in [limits.user]"),
        "{answer}"
    );
    open.pop();
    let again = async {
        while !exchange(
            &daemon.server.path,
            b"GET /v1/status HTTP/1.1\r\nHost: vmlan\r\nConnection: close\r\n\r\n",
        )
        .await
        .contains("\"running\"")
        {}
    };
    timeout(DEADLINE, again).await.expect("a place");
}

#[tokio::test]
async fn one_user_leaves_event_streams_to_others() {
    let daemon = start(Limits { event_streams: 8, ..Limits::default() });
    let mut open = Vec::new();
    for _ in 0..7 {
        let mut stream = daemon.connect().await;
        stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: vmlan\r\n\r\n").await.expect("a request");
        read_until(&mut stream, "\r\n\r\n").await;
        open.push(stream);
    }
    let (status, body) = daemon.ask("GET", "/v1/events", "").await;
    assert_eq!((status, &body["code"]), (503, &json!("unavailable")));
    assert!(body.to_string().contains("`events` in [limits.user]"), "{body}");
}
