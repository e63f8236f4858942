//! Connections: clients that are slow, silent, or many.

use super::*;

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
    loop {
        match stream.try_write(request) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if timeout(Duration::from_millis(20), stream.writable()).await.is_err() {
                    return;
                }
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
