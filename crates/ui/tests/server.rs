//! The server as clients find it, in front of a daemon that answers with fixed texts.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::oneshot;
use vmlan_ui::{ASSETS, Limits, Options, Server};

/// The most that a test waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
struct Ui {
    address: SocketAddr,
    link: String,
    directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ui {
    fn start(limits: Limits) -> Ui {
        Ui::with(move |options| options.limits = limits)
    }

    fn with(change: impl FnOnce(&mut Options) + Send + 'static) -> Ui {
        let directory = tempfile::tempdir().expect("a directory");
        let control = directory.path().join("control.sock");
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listen = "127.0.0.1:0".parse().expect("an address");
                let read_config = |text: &str| match text {
                    "good" => Ok(vmlan_api::Config::default()),
                    _ => Err(vmlan_api::Error::new(vmlan_api::ErrorCode::Syntax, "not good")),
                };
                let mut options = Options {
                    listen,
                    control,
                    writes: Arc::default(),
                    read_config,
                    limits: Limits::default(),
                    on_change: |_| {},
                };
                change(&mut options);
                let server = Server::bind(options).await.expect("a server");
                tell.send((server.address().expect("an address"), server.link())).expect("a test");
                server.serve(async { drop(stopped.await) }).await;
            });
        });
        let (address, link) = told.recv().expect("a running server");
        Ui { address, link, directory, stop: Some(stop), thread: Some(thread) }
    }

    /// A daemon that answers every connection with `answer`, and tells the requests that it got.
    fn daemon(&self, answer: &'static str) -> mpsc::Receiver<String> {
        let listener = UnixListener::bind(self.directory.path().join("control.sock")).expect("a socket");
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut request = vec![0; 65536];
                let mut length = 0;
                while !is_whole(&request[..length]) {
                    match stream.read(&mut request[length..]) {
                        Ok(0) | Err(_) => break,
                        Ok(more) => length += more,
                    }
                }
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let last = tell.send(request).is_err();
                stream.write_all(answer.as_bytes()).expect("an answer");
                if last {
                    return;
                }
            }
        });
        told
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// The answer to these octets, until the server closes.
    fn send(&self, octets: &[u8]) -> String {
        let mut stream = self.connect();
        // The server may have closed before it has all.
        let _ = stream.write_all(octets);
        read(&mut stream)
    }

    /// The answer to a request with these lines of a header, beside `Host`.
    fn request(&self, line: &str, headers: &[&str], body: &str) -> String {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        self.send(
            format!(
                "{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
                self.address,
                body.len()
            )
            .as_bytes(),
        )
    }

    /// The lines with the cookie, the key and the origin, which the link is good for.
    fn enter(&self) -> [String; 3] {
        let (_, path) = self.link.split_once(&self.address.to_string()).expect("a link");
        let answer = self.request(&format!("GET {path}"), &[], "");
        assert!(answer.starts_with("HTTP/1.1 303 "), "{answer}");
        let cookie = header(&answer, "set-cookie").expect("a cookie");
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
        let cookie = cookie.split(';').next().expect("a cookie");
        let location = header(&answer, "location").expect("a place");
        let key = location.strip_prefix("/#key=").expect("a key");
        [format!("Cookie: {cookie}"), format!("Vmlan-Key: {key}"), format!("Origin: http://{}", self.address)]
    }
}

impl Drop for Ui {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the server panicked: {panic:?}");
        }
    }
}

/// True if a request has its header and its body.
fn is_whole(octets: &[u8]) -> bool {
    let text = String::from_utf8_lossy(octets);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = header(head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    body.len() >= length
}

fn read(stream: &mut TcpStream) -> String {
    let mut octets = Vec::new();
    // A connection that is reset behind an answer has answered.
    let _ = stream.read_to_end(&mut octets);
    String::from_utf8_lossy(&octets).into_owned()
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = answer.lines().take_while(|line| !line.is_empty());
    lines.find_map(|line| {
        line.split_once(": ").filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|it| it.1)
    })
}

fn all(headers: &[String; 3]) -> Vec<&str> {
    headers.iter().map(String::as_str).collect()
}

#[test]
fn without_the_token_there_is_nothing() {
    let ui = Ui::start(Limits::default());
    let asked = ui.daemon("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]");
    let origin = format!("Origin: http://{}", ui.address);
    let mut paths: Vec<&str> = ASSETS.iter().map(|asset| asset.path).collect();
    paths.extend(["/v1/ports", "/v1/events", "/ui/about", "/nothing", "/?token=", "/?token=00", "*"]);
    for path in paths {
        for method in ["GET", "POST", "DELETE", "OPTIONS", "BREW"] {
            let answer =
                ui.request(&format!("{method} {path}"), &[&origin, "Cookie: vmlan=1", "Vmlan-Key: 1"], "");
            assert!(answer.starts_with("HTTP/1.1 403 "), "{method} {path}: {answer}");
            let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
            assert!(body.len() < 100, "{method} {path}: {body}");
        }
    }
    assert!(asked.try_recv().is_err(), "the daemon was asked");
}

#[test]
fn the_link_opens_the_page_and_what_the_daemon_tells() {
    let ui = Ui::start(Limits::default());
    let asked = ui.daemon(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\n[]",
    );
    let entered = ui.enter();
    for asset in ASSETS {
        let answer = ui.request(&format!("GET {}", asset.path), &[&entered[0]], "");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(header(&answer, "content-type"), Some(asset.media));
        let policy = header(&answer, "content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(header(&answer, "x-content-type-options"), Some("nosniff"));
        assert_eq!(header(&answer, "referrer-policy"), Some("no-referrer"));
        assert_eq!(header(&answer, "cache-control"), Some("no-store"));
    }
    let answer = ui.request("GET /v1/ports?network=lab", &all(&entered), "");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("[]"), "{answer}");
    assert_eq!(header(&answer, "set-cookie"), None);
    let request = asked.recv_timeout(PATIENCE).expect("a request");
    assert!(request.starts_with("GET /v1/ports?network=lab HTTP/1.1\r\n"), "{request}");
    let lower = request.to_ascii_lowercase();
    assert!(
        !lower.contains("cookie") && !lower.contains("vmlan-key") && !lower.contains("origin"),
        "{request}"
    );
}

#[test]
fn another_name_or_another_site_gets_nothing() {
    let ui = Ui::start(Limits::default());
    let asked = ui.daemon("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]");
    let [cookie, key, origin] = ui.enter();
    let port = ui.address.port();
    for host in
        [format!("localhost:{port}"), format!("evil.example:{port}"), "127.0.0.1".to_owned(), String::new()]
    {
        for path in ["/", "/v1/ports"] {
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{cookie}\r\n{key}\r\n{origin}\r\n\r\n"
            );
            let answer = ui.send(request.as_bytes());
            assert!(answer.starts_with("HTTP/1.1 403 "), "{host} {path}: {answer}");
        }
    }
    for origin in ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site", "Accept: */*"]
    {
        for line in ["POST /v1/capture", "GET /v1/events", "POST /v1/reload?dry_run=true"] {
            let answer = ui.request(line, &[&cookie, &key, origin], "");
            assert!(answer.starts_with("HTTP/1.1 403 "), "{line} {origin}: {answer}");
        }
    }
    assert!(asked.try_recv().is_err(), "the daemon was asked");
}

#[test]
fn what_would_change_something_is_refused_unless_it_was_asked_for() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let reading = Ui::start(Limits::default());
    let asked = reading.daemon(answer);
    let entered = reading.enter();
    for line in [
        "POST /ui/apply",
        "POST /v1/reload",
        "POST /v1/reload?dry_run=false",
        "PATCH /v1/networks/lab/ports/a",
    ] {
        let answer = reading.request(line, &all(&entered), "good");
        assert!(
            answer.starts_with("HTTP/1.1 405 ") && answer.contains("vmlan ui --writes"),
            "{line}: {answer}"
        );
    }
    for line in
        ["POST /v1/apply", "DELETE /v1/networks/lab", "DELETE /", "PUT /v1/ports", "HEAD /v1/ports", "POST /"]
    {
        let answer = reading.request(line, &all(&entered), "{}");
        assert!(answer.starts_with("HTTP/1.1 40"), "{line}: {answer}");
    }
    assert!(asked.try_recv().is_err(), "the daemon was asked");
    let planned = reading.request("POST /ui/apply?dry_run=true", &all(&entered), "good");
    assert!(planned.starts_with("HTTP/1.1 200 "), "{planned}");
    let request = asked.recv_timeout(PATIENCE).expect("a request");
    assert!(request.starts_with("POST /v1/apply?dry_run=true HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\r\n\r\n{"), "{request}");
    let bad = reading.request("POST /ui/apply?dry_run=true", &all(&entered), "bad");
    assert!(bad.starts_with("HTTP/1.1 422 ") && bad.contains("not good"), "{bad}");

    let writing = Ui::with(|options| options.writes = Arc::new(AtomicBool::new(true)));
    let asked = writing.daemon(answer);
    let entered = writing.enter();
    for (line, told) in [("POST /ui/apply", "POST /v1/apply "), ("POST /v1/reload", "POST /v1/reload ")] {
        let answer = writing.request(line, &all(&entered), "good");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{line}: {answer}");
        let request = asked.recv_timeout(PATIENCE).expect("a request");
        assert!(request.starts_with(told), "{request}");
    }
    let answer = writing.request("DELETE /v1/networks/lab", &all(&entered), "");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[test]
fn a_capture_keeps_its_number_and_comes_piece_by_piece() {
    let ui = Ui::start(Limits::default());
    // The answer does not end: its first piece has to come all the same.
    let _asked =
        ui.daemon("HTTP/1.1 200 OK\r\nVmlan-Capture: 7\r\nTransfer-Encoding: chunked\r\n\r\n5\r\npiece\r\n");
    let [cookie, key, origin] = ui.enter();
    let mut stream = ui.connect();
    let request = format!(
        "POST /v1/capture HTTP/1.1\r\nHost: {}\r\n{cookie}\r\n{key}\r\n{origin}\r\nContent-Length: 2\r\n\r\n{{}}",
        ui.address
    );
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = Vec::new();
    let mut octet = [0];
    while !answer.ends_with(b"piece") {
        stream.read_exact(&mut octet).expect("the first piece");
        answer.push(octet[0]);
    }
    assert_eq!(header(&String::from_utf8_lossy(&answer), "vmlan-capture"), Some("7"));
}

#[test]
fn what_a_client_can_send_is_bounded() {
    let ui = Ui::start(Limits::default());
    let _asked = ui.daemon("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    let entered = ui.enter();
    let long = format!("X: {}", "a".repeat(40_000));
    let answer = ui.request("GET /", &[&entered[0], &long], "");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let answer = ui.request("POST /ui/apply?dry_run=true", &all(&entered), &"a".repeat((1 << 20) + 1));
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413 "), "{answer}");
    for nonsense in ["\r\n\r\n", "\0\0\0\0", "GET / HTTP/9.9\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = ui.connect();
        stream.write_all(nonsense.as_bytes()).expect("octets");
        stream.shutdown(std::net::Shutdown::Write).expect("an end");
        let answer = read(&mut stream);
        assert!(!answer.starts_with("HTTP/1.1 200"), "{nonsense:?}: {answer}");
    }
    assert!(ui.request("GET /", &[&entered[0]], "").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_client_that_sends_slowly_is_not_waited_for() {
    let short = Duration::from_millis(50);
    let ui = Ui::start(Limits { header: short, ..Limits::default() });
    let mut silent = ui.connect();
    let mut half = ui.connect();
    // It may be too late for even that.
    let _ = half.write_all(b"GET / HTTP/1.1\r\nHost: ");
    assert!(!read(&mut silent).contains("200 OK"));
    assert!(!read(&mut half).contains("200 OK"));

    let ui = Ui::start(Limits { body: short, ..Limits::default() });
    let [cookie, key, origin] = ui.enter();
    let mut slow = ui.connect();
    let head = format!(
        "POST /v1/capture HTTP/1.1\r\nHost: {}\r\n{cookie}\r\n{key}\r\n{origin}\r\nContent-Length: 100\r\n\r\n{{",
        ui.address
    );
    slow.write_all(head.as_bytes()).expect("a header");
    let answer = read(&mut slow);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[test]
fn strangers_who_fill_all_places_do_not_keep_the_page_away() {
    let ui = Ui::start(Limits { connections: 4, ..Limits::default() });
    let _asked = ui.daemon("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]");
    let entered = ui.enter();
    let strangers: Vec<_> = (0..40).map(|_| ui.connect()).collect();
    let answer = ui.request("GET /v1/ports", &all(&entered), "");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(strangers);
}

#[test]
fn a_daemon_that_is_not_there_is_told() {
    let ui = Ui::start(Limits::default());
    let entered = ui.enter();
    let answer = ui.request("GET /v1/ports", &all(&entered), "");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("no daemon answers"), "{answer}");
    let about = ui.request("GET /ui/about", &all(&entered), "");
    assert!(about.contains("\"writes\":false"), "{about}");
}

#[tokio::test]
async fn it_listens_on_this_host_alone() {
    let options = |listen: &str| Options {
        listen: listen.parse().expect("an address"),
        control: Path::new("/nowhere").to_owned(),
        writes: Arc::default(),
        read_config: |_| Ok(vmlan_api::Config::default()),
        limits: Limits::default(),
        on_change: |_| {},
    };
    for listen in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0"] {
        let error = Server::bind(options(listen)).await.expect_err("no loopback address");
        assert!(error.to_string().contains("is no loopback address"), "{error}");
    }
    let first = Server::bind(options("127.0.0.1:0")).await.expect("a server");
    let taken = first.address().expect("an address").to_string();
    let error = Server::bind(options(&taken)).await.expect_err("a port that is taken");
    assert!(error.to_string().contains("--listen"), "{error}");
}
