//! Clients of the control socket that send garbage, too much, too slowly, or do not read.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use vmlan_api::{ErrorCode, EventKind};

use crate::arena::Arena;
use crate::support::{Answer, PATIENCE, VMLAN};

#[test]
fn garbage_is_refused() {
    let arena = Arena::start("");
    let long_header = format!("GET /v1/status HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(100_000));
    for octets in [
        &b"\0\0\0\0\0\0\0\0"[..],
        b"garbage\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"POST /v1/apply HTTP/1.1\r\nHost: v\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/apply HTTP/1.1\r\nHost: v\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        long_header.as_bytes(),
    ] {
        let mut stream = arena.daemon.connect();
        // It may be refused before all of it is written.
        let _ = stream.write_all(octets);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let answer = Answer::read(&mut stream);
        assert!(answer.as_ref().is_none_or(|answer| answer.status >= 400), "{answer:?}");
    }
    for (method, path, body, status, code) in [
        ("GET", "/", None, 404, ErrorCode::NotFound),
        ("GET", "/v1/../../etc/passwd", None, 404, ErrorCode::NotFound),
        ("GET", "/v1/networks/%2e%2e%2f/fdb", None, 404, ErrorCode::UnknownNetwork),
        ("GET", "/v1/networks/%ff/fdb", None, 400, ErrorCode::BadRequest),
        ("DELETE", "/v1/status", None, 405, ErrorCode::MethodNotAllowed),
        ("DELETE", "/v1/networks/lab/ports/..%2f..", None, 404, ErrorCode::UnknownPort),
        (
            "POST",
            "/v1/networks/lab/ports/..%2fx",
            Some(r#"{"stream":{"listen":"/tmp/x"}}"#),
            422,
            ErrorCode::BadName,
        ),
        ("POST", "/v1/apply", Some("{"), 400, ErrorCode::BadJson),
        ("POST", "/v1/apply", Some(r#"{"netwrk":{}}"#), 422, ErrorCode::UnknownKey),
        ("POST", "/v1/apply", Some("[]"), 422, ErrorCode::WrongType),
    ] {
        let answer = arena.daemon.request(method, path, body);
        assert_eq!((answer.status, answer.error().code), (status, code), "{method} {path}: {}", answer.body);
    }
    arena.finish();
}

#[test]
fn bodies_that_are_too_long_or_too_deep_are_refused() {
    let arena = Arena::start("");
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for levels in [33, 10_000] {
        let error = arena.daemon.request("POST", "/v1/apply", Some(&deep(levels))).error();
        assert_eq!(error.code, ErrorCode::TooDeep, "{error:?}");
    }
    for (path, claimed) in [
        ("/v1/apply", 1_usize << 30),
        ("/v1/apply", (1 << 20) + 1),
        ("/v1/networks/lab/ports/x", (64 << 10) + 1),
    ] {
        let mut stream = arena.daemon.connect();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: v\r\nConnection: close\r\nContent-Length: {claimed}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("a connection");
        let chunk = vec![b' '; 64 << 10];
        for _ in 0..claimed.div_ceil(chunk.len()).min(40) {
            // It may be refused before all of it is written.
            if stream.write_all(&chunk).is_err() {
                break;
            }
        }
        let answer = Answer::read(&mut stream);
        // A connection that was reset under the sender may have lost the answer.
        assert!(answer.as_ref().is_none_or(|answer| answer.status == 413), "{answer:?}");
    }
    arena.finish();
}

#[test]
fn connections_that_say_nothing_hold_up_nobody_for_long() {
    let arena = Arena::start("");
    let silent: Vec<_> = (0..200).filter_map(|_| connect(&arena)).collect();
    arena.probe.wait(250);
    assert!(silent.len() >= 64, "{}", silent.len());
    drop(silent);
    assert_eq!(arena.daemon.status().networks, 1);
    arena.finish();
}

#[test]
fn thousands_of_connections_keep_nobody_away() {
    let arena = Arena::start("");
    let mut open = std::collections::VecDeque::new();
    let mut made = 0;
    while made < 10_000 {
        match connect(&arena) {
            Some(stream) => {
                made += 1;
                open.push_back(stream);
            }
            // The queue is full: the oldest makes room.
            None => drop(open.pop_front()),
        }
        if open.len() > 500 {
            open.pop_front();
        }
    }
    assert_eq!(arena.daemon.status().networks, 1);
    drop(open);
    arena.finish();
}

/// Sends requests until no more are taken, and reads no answer.
fn clog(arena: &Arena) -> UnixStream {
    let mut stream = arena.daemon.connect();
    stream.set_nonblocking(true).expect("a mode");
    let requests = b"GET /v1/ports HTTP/1.1\r\nHost: v\r\n\r\n".repeat(100);
    while stream.write_all(&requests).is_ok() {}
    stream
}

#[test]
fn clients_that_read_no_answers_keep_nobody_away() {
    let arena = Arena::start("");
    let clogged: Vec<_> = (0..64).map(|_| clog(&arena)).collect();
    assert_eq!(arena.daemon.status().networks, 1);
    arena.probe.wait(250);
    drop(clogged);
    arena.finish();
}

#[test]
fn clients_that_read_no_answers_do_not_hold_up_the_end() {
    let arena = Arena::start("");
    let clogged: Vec<_> = (0..64).map(|_| clog(&arena)).collect();
    arena.finish();
    drop(clogged);
}

#[test]
fn a_member_that_stands_twice_is_refused_at_every_depth() {
    let arena = Arena::start("");
    for (body, member) in [
        (r#"{"dry_run": true, "network": {}, "dry_run": false}"#, "dry_run"),
        (r#"{"network": {"lab": {"mtu": 1500}, "lab": {}}}"#, "network.lab"),
        (r#"{"network": {"lab": {"port": {"x": {"queue": 1, "queue": 2}}}}}"#, "network.lab.port.x.queue"),
    ] {
        let answer = arena.daemon.request("POST", "/v1/apply", Some(body));
        let error = answer.error();
        assert_eq!((answer.status, error.code), (400, ErrorCode::BadJson), "{body}: {error}");
        assert_eq!(error.field.as_deref(), Some(member), "{body}: {error}");
    }
    arena.finish();
}

/// A connection, unless the queue of the socket is full.
fn connect(arena: &Arena) -> Option<UnixStream> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a socket");
    let address = SocketAddrUnix::new(arena.daemon.control()).expect("a short path");
    connect(&socket, &address).ok().map(|()| UnixStream::from(socket))
}

#[test]
fn readers_of_events_that_do_not_read_lose_events_and_nothing_else() {
    let arena = Arena::start("");
    // With the reader below, as many as one user may have: four are left to others.
    let mut slow: Vec<_> = (0..27)
        .map(|_| {
            let mut stream = arena.daemon.connect();
            stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: v\r\n\r\n").expect("a connection");
            // Only the beginning of the header: the subscription is there.
            stream.read_exact(&mut [0; 12]).expect("a header");
            stream
        })
        .collect();
    let mut lazy = arena.daemon.events();
    let refused = arena.daemon.request("GET", "/v1/events", None).error();
    assert_eq!(refused.code, ErrorCode::Unavailable);

    let socket = arena.path("x.sock").display().to_string();
    let table = format!(r#"{{"stream":{{"listen":"{socket}"}}}}"#);
    // Enough to fill the buffers between, and the queue: each round is five events of some 100 octets.
    for _ in 0..600 {
        assert_eq!(arena.daemon.add_port("lab", "x", &table).status, 200);
        assert_eq!(arena.daemon.request("DELETE", "/v1/networks/lab/ports/x", None).status, 200);
    }
    let mut seen = 0;
    let lost = loop {
        match lazy.next().expect("an event") {
            EventKind::Lost { count } => break Some(count),
            // All fitted between.
            EventKind::Applied { .. } if seen == 1199 => break None,
            EventKind::Applied { .. } => seen += 1,
            _ => {}
        }
    };
    assert!(lost.is_none_or(|count| count > 0));
    slow.clear();
    drop(lazy);
    // The places of the streams are free again.
    drop(arena.daemon.events());
    arena.finish();
}

#[test]
fn another_user_is_not_served() {
    testbed::require!(root(), tool("setpriv"));
    use std::os::unix::fs::PermissionsExt;
    let arena = Arena::start("");
    // Even where the files let everybody in, the peer's user does not.
    for path in [arena.path(""), arena.daemon.control()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("our own file");
    }
    // Where the program is, that user may not be allowed.
    let program = arena.path("vmlan");
    std::fs::copy(VMLAN, &program).expect("a copy");
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
    command.arg("status").arg("--control").arg(arena.daemon.control());
    let output = testbed::run(command, PATIENCE);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.contains("its own user and root only"), "{output:?}");
    arena.finish();
}
