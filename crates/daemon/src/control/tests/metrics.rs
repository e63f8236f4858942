use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::metrics::{Answers, Format};

/// The socket for metrics, whose answers are the notation and the number of the scrape.
struct Listening {
    address: std::net::SocketAddr,
    task: JoinHandle<()>,
}

async fn listen() -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("a bound socket");
    let scrapes = AtomicU64::new(0);
    let answers = Answers::new(Arc::new(move |format: Format| {
        format!("{format:?} {}\n", scrapes.fetch_add(1, Relaxed))
    }));
    Listening { address, task: tokio::spawn(super::super::metrics::serve(listener, Arc::new(answers))) }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listening {
    async fn connect(&self) -> TcpStream {
        timeout(DEADLINE, TcpStream::connect(self.address))
            .await
            .expect("a connection in time")
            .expect("a listener")
    }

    /// Sends octets and reads until the server closes.
    async fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The server may have answered and closed before it read everything.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        // A reset is an end too.
        let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an end in time");
        String::from_utf8(answer).expect("text")
    }
}

fn get(path: &str, more: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: vmlan\r\n{more}\r\n").into_bytes()
}

#[tokio::test]
async fn the_control_socket_answers_in_the_notation_that_is_asked_for() {
    let daemon = start(Limits::default());
    for (accept, kind, body) in [
        ("", "text/plain; version=0.0.4; charset=utf-8", "Plain"),
        (
            "Accept: application/openmetrics-text; version=1.0.0\r\n",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "OpenMetrics",
        ),
    ] {
        let more = format!("Connection: close\r\n{accept}");
        let answer = exchange(&daemon.server.path, &get("/metrics", &more)).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains(&format!("content-type: {kind}\r\n")), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{body}\n")), "{answer}");
    }
    let (code, error) = daemon.ask("POST", "/metrics", "").await;
    assert_eq!((code, &error["code"]), (405, &json!("method_not_allowed")));
    daemon.server.end().await;
}

#[tokio::test]
async fn the_tcp_socket_reads_one_request_and_answers_metrics_alone() {
    let listening = listen().await;
    // Whatever the client says, the connection is closed behind the first answer.
    for (request, status, end) in [
        (get("/metrics", "Connection: keep-alive\r\n"), "200 ", "\r\n\r\nPlain 0\n"),
        (b"HEAD /metrics HTTP/1.1\r\nHost: vmlan\r\n\r\n".to_vec(), "200 ", "\r\n\r\n"),
        (get("/", ""), "404 ", "there is only /metrics here\n"),
        (get("/v1/status", ""), "404 ", "there is only /metrics here\n"),
        (
            b"POST /metrics HTTP/1.1\r\nHost: v\r\nContent-Length: 0\r\n\r\n".to_vec(),
            "405 ",
            "answered here\n",
        ),
        (b"DELETE /metrics HTTP/1.1\r\nHost: v\r\n\r\n".to_vec(), "405 ", "answered here\n"),
        (b"\x16\x03\x01 no HTTP\r\n\r\n".to_vec(), "400 ", ""),
        (get("/metrics", &format!("X: {}\r\n", "x".repeat(64 * 1024))), "431 ", ""),
    ] {
        let answer = listening.exchange(&request).await;
        let shown = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{shown}: {answer}");
        assert!(answer.ends_with(end), "{shown}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_ask_within_a_moment_get_one_answer() {
    let scrapes = AtomicU64::new(0);
    let answers =
        Answers::new(Arc::new(move |format: Format| format!("{format:?} {}", scrapes.fetch_add(1, Relaxed))));
    let all = [Format::Plain, Format::OpenMetrics, Format::Plain, Format::OpenMetrics]
        .map(|format| answers.get(format));
    assert_eq!(all, ["Plain 0", "OpenMetrics 1", "Plain 0", "OpenMetrics 1"]);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(answers.get(Format::Plain), "Plain 2");
}

#[tokio::test]
async fn clients_that_say_nothing_keep_nobody_away() {
    let listening = listen().await;
    let mut silent = Vec::new();
    for number in 0..100 {
        let mut stream = listening.connect().await;
        // Some begin and never end.
        let begun: &[u8] = if number % 2 == 0 { b"" } else { b"GET /metrics HTTP/1.1\r\nX: " };
        let _ = stream.write_all(begun).await;
        silent.push(stream);
    }
    let answer = listening.exchange(&get("/metrics", "")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(silent);
}
