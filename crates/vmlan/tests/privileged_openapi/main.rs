//! The description of the control interface, held against a running daemon by schemathesis.
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use testbed::{Netns, require, run};
use vmlan_api::{Operation, Status};

use support::{Daemon, directory};

const SCHEMATHESIS: &str = "schemathesis==4.32.5";
/// Longer than it takes on any machine.
const LIMIT: Duration = Duration::from_secs(300);

const CONFIG: &str = "[network.lab]\nuplink = { mode = \"none\", subnet = \"10.213.5.0/24\" }\n\
    [network.lab.port.web]\nstream = { listen = \"web.sock\" }\n\
    [network.lab.port.guests]\nvde = { directory = \"guests\" }\n";

/// Operations whose answers have no end.
const STREAMS: [&str; 2] = ["events", "capture"];

#[test]
fn no_answer_is_undocumented() {
    require!(testbed::require::namespaces(), tool("python3"), python(SCHEMATHESIS));
    let netns = Netns::new("openapi");
    let daemon = Daemon::start_within(&netns, directory(), CONFIG);
    let address = relay(&netns, daemon.control());
    let programs = testbed::venv::programs(SCHEMATHESIS).expect("it was there a moment ago");
    let description = daemon.path("openapi.json");
    std::fs::write(&description, vmlan_api::OPENAPI).expect("our own directory");

    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/privileged_openapi");
    let mut schemathesis = netns.command(programs.join("schemathesis"));
    schemathesis.arg("--config-file").arg(ours.join("schemathesis.toml"));
    schemathesis.arg("run").arg(&description).arg("--url").arg(format!("http://{address}"));
    schemathesis.args([
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,\
         response_headers_conformance,response_schema_conformance",
    ]);
    schemathesis.args(["--phases", "coverage,fuzzing", "--max-examples", "20", "--seed", "1"]);
    schemathesis.args(["--generation-database", "none", "--suppress-health-check", "all", "--no-color"]);
    // A connection may be closed between two requests: docs/api.md.
    schemathesis.args(["--request-timeout", "60", "--request-retries", "1"]);
    for stream in STREAMS {
        schemathesis.args(["--exclude-operation-id", stream]);
    }
    schemathesis.env("SCHEMATHESIS_HOOKS", "hooks").env("PYTHONPATH", ours);
    schemathesis.env("PYTHONDONTWRITEBYTECODE", "1").env("HOME", daemon.path(""));
    schemathesis.current_dir(daemon.path(""));
    let output = run(schemathesis, LIMIT).expect_success();

    let all = Operation::ALL.len();
    let tested = format!("{} selected / {all} total", all - STREAMS.len());
    assert!(output.stdout.contains(&tested), "{tested:?} is not in:\n{}", output.stdout);
    let status: Status = daemon.request("GET", "/v1/status", None).json();
    assert_eq!((status.networks, status.pid), (1, daemon.pid()), "{}", daemon.log());
}

/// An address in the namespace whose connections lead to a Unix socket, for as long as the test runs.
fn relay(netns: &Netns, socket: PathBuf) -> SocketAddr {
    let listener = netns.inside(|| TcpListener::bind("127.0.0.1:0")).expect("a port of our own namespace");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for caller in listener.incoming().map_while(Result::ok) {
            let Ok(daemon) = UnixStream::connect(&socket) else { return };
            join(caller, daemon);
        }
    });
    address
}

/// Copies what each side says to the other until both have ended.
fn join(caller: TcpStream, daemon: UnixStream) {
    let (mut from_caller, mut to_daemon) =
        (caller.try_clone().expect("a descriptor"), daemon.try_clone().expect("a descriptor"));
    let (mut from_daemon, mut to_caller) = (daemon, caller);
    thread::spawn(move || {
        // Either side may close at any time.
        let _ = io::copy(&mut from_caller, &mut to_daemon);
        let _ = to_daemon.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        let _ = io::copy(&mut from_daemon, &mut to_caller);
        let _ = to_caller.shutdown(Shutdown::Both);
    });
}
