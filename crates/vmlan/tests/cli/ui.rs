//! `ui`: the link that it prints, and how it ends. What the server answers to whom is tested in its crate.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout};

use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// A running `vmlan ui`, killed on drop.
struct Ui {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Ui {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(daemon: &Daemon) -> Ui {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vmlan"))
        .args(["ui", "--control", daemon.socket.to_str().expect("text")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("vmlan can be run");
    let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    Ui { child, stdout }
}

/// The answer to a request for `path`.
fn get(address: &str, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn the_link_opens_the_page_until_a_signal_ends_it() {
    let daemon = Daemon::start();
    let mut ui = start(&daemon);
    let mut link = String::new();
    ui.stdout.read_line(&mut link).expect("a link");
    let rest = link.trim_end().strip_prefix("http://").expect("a link");
    let (address, token) = rest.split_once('/').expect("a path");

    let entered = get(address, &format!("/{token}"), "");
    let line = |name: &str| entered.lines().find_map(|line| line.strip_prefix(name)).expect("a header");
    let cookie = line("set-cookie: ").split(';').next().expect("a cookie");
    let key = line("location: /#key=");
    let known = format!("Cookie: {cookie}\r\nVmlan-Key: {key}\r\n");

    assert!(get(address, "/", "").starts_with("HTTP/1.1 403 "));
    assert!(get(address, "/", &known).contains("<title>vmlan</title>"));
    assert!(get(address, "/v1/status", &known).contains("\"state\""));

    let pid = Pid::from_child(&ui.child);
    kill_process(pid, Signal::INT).expect("our own child");
    assert_eq!(ui.child.wait().expect("an end").code(), Some(0));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn what_cannot_be_served_is_told() {
    let daemon = Daemon::start();
    for (arguments, code, message) in [
        (&["ui", "--listen", "0.0.0.0:0"][..], 1, "is no loopback address"),
        (&["ui", "--listen", "localhost"], 2, "invalid"),
        (&["ui", "--json"], 2, "writes no JSON"),
    ] {
        let output = daemon.vmlan(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert!(text(&output.stderr).contains(message), "{arguments:?}: {output:?}");
    }
    let socket = daemon.directory.path().join("none.sock");
    let output = vmlan(&["ui", "--control", socket.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is `vmlan run` running?"), "{output:?}");
}
