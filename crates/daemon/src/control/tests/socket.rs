//! The socket, and who may connect to it.

use super::*;

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
