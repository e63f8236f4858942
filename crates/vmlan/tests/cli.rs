//! The command line as scripts use it: output, exit codes, and what reaches the daemon.
//!
//! The daemon here is the real control interface over a supervisor that answers with fixed values.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use vmlan_daemon::config::Change;
use vmlan_daemon::control::{self, ControlSocket, Limits};
use vmlan_daemon::handle::{self, Query, Request};

#[path = "support/program.rs"]
mod program;
#[path = "cli/ui.rs"]
mod ui;
#[path = "cli/uplink.rs"]
mod uplink;
#[path = "cli/vm.rs"]
mod vm;

const CONFIG: &str = "[network.lab]\n[network.lab.port.web]\nstream = { listen = \"web.sock\" }\n";

fn vmlan(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_vmlan");
    Command::new(program).args(arguments).env_remove("XDG_RUNTIME_DIR").output().expect("vmlan can be run")
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// A control interface, and what its supervisor was asked to change.
struct Daemon {
    directory: TempDir,
    socket: PathBuf,
    asked: mpsc::Receiver<String>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("control.sock");
        let (tell, asked) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let path = socket.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let control = ControlSocket::bind(&path).expect("a control socket");
                let (handle, requests) = handle::channel();
                tokio::spawn(supervise(requests, tell));
                ready.send(()).expect("a waiting test");
                let stopped = async {
                    let _ = stopped.await;
                };
                control::serve(control, handle, Limits::default(), stopped).await;
            });
        });
        is_ready.recv().expect("a running server");
        Self { directory, socket, asked, stop: Some(stop), thread: Some(thread) }
    }

    fn vmlan(&self, arguments: &[&str]) -> Output {
        let socket = self.socket.to_str().expect("text");
        vmlan(&[arguments, &["--control", socket]].concat())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("text").to_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The server may be gone already when a test failed.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn supervise(mut requests: handle::Requests, tell: mpsc::Sender<String>) {
    while let Some(request) = requests.next().await {
        match request {
            Request::Query(Query::Status(reply)) => drop(reply.send(Ok(vmlan_api::Status {
                version: "9.9.9".into(),
                pid: 42,
                state: vmlan_api::DaemonState::Running,
                uptime_seconds: 75.0,
                workers: 2,
                poll: vmlan_api::Poll::Adaptive,
                networks: 1,
                ports: 1,
                config: Some("/etc/vmlan.toml".into()),
                listeners: Vec::new(),
            }))),
            Request::Query(Query::Ui(reply)) => drop(reply.send(Err(vmlan_api::Error::new(
                vmlan_api::ErrorCode::NotFound,
                "the daemon serves no web page",
            )))),
            Request::Query(Query::Metrics(_, reply)) => drop(reply.send(Ok(String::new()))),
            Request::Query(Query::Config(reply)) => {
                let lab = vmlan_api::NetworkConfig { mtu: Some(9000), ..Default::default() };
                let network = [("lab".to_owned(), lab)].into();
                drop(reply.send(Ok(vmlan_api::Config { network, ..Default::default() })));
            }
            Request::Query(Query::Networks(reply)) => drop(reply.send(Ok(vec![vmlan_api::Network {
                network: "lab".into(),
                mtu: 1500,
                ports: 1,
                ports_up: 0,
                fdb_entries: 1,
                fdb_size: 8192,
                fdb_ageing_seconds: 300,
                pass_reserved: false,
            }]))),
            Request::Query(Query::Ports { network: Some(network), reply }) if network != "lab" => {
                drop(reply.send(Err(vmlan_api::Error::new(
                    vmlan_api::ErrorCode::UnknownNetwork,
                    "there is no network none",
                ))));
            }
            Request::Query(Query::Ports { reply, .. }) => drop(reply.send(Ok(vec![port()]))),
            Request::Query(Query::Fdb { reply, .. }) => drop(reply.send(Ok(vec![vmlan_api::FdbEntry {
                fast: false,
                mac: "52:54:00:00:00:01".into(),
                vlan: None,
                port: "web".into(),
                is_static: false,
                age_seconds: Some(1.5),
                addresses: vec!["10.213.5.10".into()],
                name: Some("web".into()),
            }]))),
            Request::Query(Query::Settle(reply)) => drop(reply.send(Ok(()))),
            Request::Query(Query::Trunks { reply, .. }) => drop(reply.send(Ok(Vec::new()))),
            Request::Query(Query::Uplink(query)) => uplink::answer(query, &tell),
            Request::Query(Query::Links { reply, .. }) => drop(reply.send(Ok(Vec::new()))),
            Request::Apply { config, dry_run, reply } => {
                let stream = config.as_api().network["lab"].port["web"].stream.clone().expect("the table");
                let _ = tell.send(format!("apply {dry_run} {}", stream.listen.expect("an address")));
                drop(reply.send(Ok(report(vmlan_api::Outcome::Done, None))));
            }
            Request::Reload { dry_run, reply } => {
                let _ = tell.send(format!("reload {dry_run}"));
                requests.emit(vmlan_api::EventKind::Applied { actions: 0, failed: 0 });
                drop(reply.send(Ok(vmlan_api::ApplyReport { dry_run, ..Default::default() })));
            }
            Request::Change { change: Change::AddPort { network, port, table }, reply, dry_run } => {
                let dry = if dry_run { "dry run: " } else { "" };
                let _ = tell.send(format!("{dry}add {network} {port} {table}"));
                drop(reply.send(Ok(report(vmlan_api::Outcome::Done, None))));
            }
            Request::Change { change: Change::RemovePort { network, port }, reply, .. } => {
                let _ = tell.send(format!("remove {network} {port}"));
                drop(reply.send(Ok(report(vmlan_api::Outcome::Failed, Some("it is stuck".into())))));
            }
            Request::Change { change, reply, .. } => {
                let _ = tell.send(format!("{change:?}"));
                drop(reply.send(Ok(report(vmlan_api::Outcome::Done, None))));
            }
            Request::Query(Query::Filters { reply, .. }) => drop(reply.send(Ok(Vec::new()))),
            Request::Shutdown(reply) => drop(reply.send(Ok(()))),
        }
    }
}

fn port() -> vmlan_api::Port {
    let drops = [("queue_full".to_owned(), 3)].into();
    let voice = vmlan_api::ClassCounters { rx_frames: 2, tx_frames: 5, ..Default::default() };
    let classes = vmlan_api::Classes { voice, ..Default::default() };
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
        mac: vmlan_api::OneOrMany::from_items(vec!["52:54:00:00:00:01".into()]),
        addresses: vec!["10.213.5.10".into(), "fd00::10".into()],
        name: Some("web".into()),
        vlan: Some(vmlan_api::VlanConfig { access: Some(10), ..Default::default() }),
        mtu: 1500,
        counters: vmlan_api::Counters { rx_frames: 7, classes, drops, ..Default::default() },
        tunnel: None,
        rings: None,
    }
}

fn report(outcome: vmlan_api::Outcome, reason: Option<String>) -> vmlan_api::ApplyReport {
    let action = vmlan_api::ActionReport {
        action: vmlan_api::ActionKind::AddPort,
        network: Some("lab".into()),
        port: Some("web".into()),
        outcome,
        reason,
    };
    vmlan_api::ApplyReport { dry_run: false, actions: vec![action], notes: vec!["mind this".into()] }
}

#[test]
fn listings_are_tables_or_json() {
    let daemon = Daemon::start();
    for (arguments, words, member) in [
        (&["status"][..], &["version", "9.9.9", "1m 15s", "/etc/vmlan.toml"][..], "pid"),
        (&["networks"], &["NETWORK", "lab", "1500", "0/1"], "fdb_ageing_seconds"),
        (&["ports"], &["web", "stream", "waiting", "at /run/vmlan/web.sock", "10"], "counters"),
        (&["ports", "-v"], &["web", "52:54:00:00:00:01", "/run/vmlan/web.sock", "1500"], "counters"),
        (
            &["port", "show", "lab/web"],
            &["QEMU 9.2", "path=/run/vmlan/web.sock", "mac=52:54:00:00:00:01"],
            "address",
        ),
        (&["port", "show", "lab", "web"], &["lab/web"], "address"),
        (&["config"], &["[network.lab]", "mtu = 9000"], "network"),
        (&["ports", "lab"], &["web"], "state"),
        (&["fdb", "lab"], &["52:54:00:00:00:01", "web", "1.5s"], "age_seconds"),
        (&["counters"], &["lab", "web", "7", " voice=2/5 ", "queue_full=3"], "counters"),
        (&["counters", "lab/web"], &["queue_full=3"], "port"),
        (&["counters", "lab"], &["queue_full=3"], "port"),
    ] {
        let output = daemon.vmlan(arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let table = text(&output.stdout);
        words.iter().for_each(|word| assert!(table.contains(word), "{word} is missing in\n{table}"));

        let value = json_of(&daemon.vmlan(&[arguments, &["--json"]].concat()));
        assert!(
            value.get(member).or_else(|| value[0].get(member)).is_some(),
            "{member} is missing in {value}"
        );
    }
}

#[test]
fn check_tells_what_is_wrong_and_where() {
    let daemon = Daemon::start();
    let good = vmlan(&["check", &daemon.write("good.toml", CONFIG)]);
    assert_eq!((good.status.code(), text(&good.stdout).contains("1 network and 1 port")), (Some(0), true));

    let bad = daemon.write("bad.toml", &CONFIG.replace("stream", "steam"));
    let output = vmlan(&["check", &bad]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(
        message.contains("did you mean `stream`?") && message.contains(&format!("{bad}:3:1")),
        "{message}"
    );
}

#[test]
fn apply_sends_the_file_with_absolute_paths() {
    let daemon = Daemon::start();
    let file = daemon.write("vmlan.toml", CONFIG);
    let socket = daemon.directory.path().join("web.sock");

    let output = daemon.vmlan(&["apply", &file, "--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(daemon.asked.recv().ok(), Some(format!("apply true {}", socket.display())));
    assert!(text(&output.stdout).contains("add_port"), "{output:?}");
    assert!(text(&output.stdout).ends_with("note: mind this\n"), "{output:?}");

    let output = daemon.vmlan(&["apply"]);
    assert_eq!(daemon.asked.recv().ok().as_deref(), Some("reload false"));
    assert!(text(&output.stdout).contains("nothing to do"), "{output:?}");
}

#[test]
fn a_file_with_faults_never_reaches_the_daemon() {
    let daemon = Daemon::start();
    let bad = daemon.write("bad.toml", "[network.lab]\nmtu = 1\n");
    assert_eq!(daemon.vmlan(&["apply", &bad]).status.code(), Some(1));
    assert_eq!(daemon.asked.try_recv(), Err(mpsc::TryRecvError::Empty));
}

#[test]
fn ports_are_added_and_removed() {
    let daemon = Daemon::start();
    let output = daemon.vmlan(&["port", "add", "lab", "web", "tap", "name=vm-web", "vlan.access=10"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let table = json!({"tap": {"name": "vm-web"}, "vlan": {"access": 10}});
    assert_eq!(daemon.asked.recv().ok(), Some(format!("add lab web {table}")));

    let output = daemon.vmlan(&["port", "add", "lab", "web", "tap", "name=vm-web", "--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        daemon.asked.recv().ok().as_deref(),
        Some(r#"dry run: add lab web {"tap":{"name":"vm-web"}}"#)
    );

    // What the daemon could not do makes the command fail, and its reason is shown.
    let output = daemon.vmlan(&["port", "remove", "lab", "guests.0"]);
    assert_eq!(daemon.asked.recv().ok().as_deref(), Some("remove lab guests.0"));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("lab/web: it is stuck; it stays"), "{output:?}");
}

#[test]
fn what_the_daemon_refuses_is_a_failure_with_its_message() {
    let daemon = Daemon::start();
    let output = daemon.vmlan(&["ports", "none"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("there is no network none"), "{output:?}");
}

#[test]
fn without_a_daemon_the_message_says_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("none.sock");
    let output = vmlan(&["status", "--control", socket.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(message.contains("none.sock") && message.contains("is `vmlan run` running?"), "{message}");
}

#[test]
fn errors_are_json_for_whoever_asks_for_json() {
    let daemon = Daemon::start();
    let output = daemon.vmlan(&["ports", "none", "--json"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let error: Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert_eq!((&error["code"], &error["field"]), (&json!("unknown_network"), &Value::Null));

    let output = vmlan(&["demo", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(serde_json::from_slice::<Value>(&output.stderr).expect("JSON")["code"], "bad_request");

    let bad = daemon.write("bad.toml", "[network.lab]\nmtu = 1\n");
    let output = vmlan(&["check", &bad, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let fault = &json_of(&output)["errors"][0];
    assert_eq!((&fault["line"], &fault["field"]), (&json!(2), &json!("network.lab.mtu")));
}

#[test]
fn networks_are_added_and_removed() {
    let daemon = Daemon::start();
    let output = daemon.vmlan(&["network", "add", "lan", "mtu=9000"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(daemon.asked.recv().is_ok_and(|asked| asked.starts_with("AddNetwork") && asked.contains("9000")));
    assert_eq!(daemon.vmlan(&["network", "remove", "lan"]).status.code(), Some(0));
    assert!(daemon.asked.recv().is_ok_and(|asked| asked.starts_with("RemoveNetwork")));
}

#[test]
fn completions_know_what_runs() {
    let daemon = Daemon::start();
    let complete = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmlan"));
        command.args(["--", "vmlan"]).args(words).env("VMLAN_COMPLETE", "fish");
        let output = command.env("VMLAN_CONTROL", &daemon.socket).output().expect("vmlan can be run");
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout)
    };
    for (words, expected) in [
        (&["fdb", ""][..], "lab"),
        (&["capture", "lab/"], "lab/web"),
        (&["port", "show", "la"], "lab/web"),
        (&["port", "remove", "lab", "w"], "web"),
        (&["port", "add", "lab", "new", "tap", "vlan.t"], "vlan.tagged="),
        (&["port", "add", "lab", "new", "tap", "ow"], "owner="),
        (&["filter", "list", "l"], "lab"),
        (&["cap"], "capture"),
    ] {
        let output = complete(words);
        let found = output.lines().any(|line| line.split('\t').next() == Some(expected));
        assert!(found, "{words:?}: {expected} is not in\n{output}");
    }
    assert!(!complete(&["fdb", "x"]).contains("lab"));
}

#[test]
fn the_socket_is_named_by_a_variable_too() {
    let daemon = Daemon::start();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmlan"));
    let output = command.args(["status", "--json"]).env("VMLAN_CONTROL", &daemon.socket).output();
    assert_eq!(json_of(&output.expect("vmlan can be run"))["pid"], 42);
}

#[test]
fn faults_of_a_file_are_told_once_when_the_daemon_starts() {
    let daemon = Daemon::start();
    let bad = daemon.write("bad.toml", "[network.lab]\nmtu = 1\n");
    let socket = daemon.directory.path().join("other.sock");
    let output = vmlan(&["run", &bad, "--control", socket.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert_eq!(message.matches("error:").count(), 1, "{message}");
    assert!(message.contains("bad.toml:2:"), "{message}");
}

#[test]
fn check_looks_at_this_machine_when_asked() {
    let daemon = Daemon::start();
    let listener = std::os::unix::net::UnixListener::bind(daemon.directory.path().join("taken.sock"));
    let listener = listener.expect("a socket");
    let file = daemon.write(
        "here.toml",
        "[network.lab.port.a]\nstream = { listen = \"none/a.sock\" }\n\
         [network.lab.port.b]\nstream = { listen = \"taken.sock\" }\n\
         [network.lab.port.c]\ndatagram = { listen = \"c.sock\" }\n\
         [network.lab.trunk]\ninterface = \"none0\"\n",
    );
    assert_eq!(vmlan(&["check", &file]).status.code(), Some(0));
    let output = vmlan(&["check", &file, "--here", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = json_of(&output)["errors"].clone();
    let told: Vec<_> = errors.as_array().expect("a list").iter().map(|error| error.to_string()).collect();
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told.iter().any(|error| error.contains("port.a") && error.contains("mkdir -p")), "{told:#?}");
    assert!(told.iter().any(|error| error.contains("port.b") && error.contains("listens at")), "{told:#?}");
    assert!(told.iter().any(|error| error.contains("lab.trunk") && error.contains("none0")), "{told:#?}");
    drop(listener);
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["fdb"],
        &["ports", "--jsno"],
        &["port", "add", "lab", "web", "tun"],
        &["port", "add", "lab", "web", "tap", "name"],
        &["port", "add", "lab", "web", "tap", "nmae=x"],
        &["port", "show", "lab"],
        &["port", "remove", "lab/web", "web"],
        &["network", "add", "lab", "mtu"],
        &["completions", "cmd.exe"],
    ] {
        let control = ["--control", "/nonexistent/vmlan.sock"];
        let output = vmlan(&[arguments, if arguments.is_empty() { &[] } else { &control }].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn errors_of_the_command_line_have_their_code_in_json() {
    for (arguments, exit, code) in [
        (&["explain", "source_gard"][..], 1, "not_found"),
        (&["vm"], 2, "bad_request"),
        (&["frobnicate"], 2, "bad_request"),
        (&["port", "show", "web"], 2, "bad_request"),
        (&["status", "--control", "/nonexistent/vmlan.sock"], 1, "unavailable"),
    ] {
        let output = vmlan(&[&["--json"], arguments].concat());
        let error: Value = serde_json::from_slice(&output.stderr).unwrap_or_else(|_| panic!("{output:?}"));
        assert_eq!((output.status.code(), error["code"].as_str()), (Some(exit), Some(code)), "{output:?}");
    }
}

#[test]
fn help_version_completions_and_manual_need_no_daemon() {
    for (arguments, word) in [
        (&["--help"][..], "Usage: vmlan"),
        (&["port", "add", "--help"], "KEY=VALUE"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
        (&["version"], env!("CARGO_PKG_VERSION")),
        (&["--version"], "\ncommit    "),
        (&["version"], "\nfeatures  "),
        (&["version", "--json"], "\"commit\""),
        (&["--json", "--version"], "\"commit\""),
        (&["--version", "--json"], "\"features\""),
        (&["completions", "bash"], "VMLAN_COMPLETE=\"bash\""),
        (&["completions", "zsh"], "#compdef vmlan"),
        (&["completions", "fish"], "complete --keep-order"),
    ] {
        let output = vmlan(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(text(&output.stdout).contains(word), "{arguments:?}");
    }
}

#[test]
fn doctor_has_a_hint_for_whatever_is_not_well() {
    let daemon = Daemon::start();
    let output = daemon.vmlan(&["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let checks = json_of(&output);
    for check in checks.as_array().expect("a list") {
        assert!(check["status"] == "ok" || check["hint"].is_string(), "{check}");
    }
    let names: Vec<_> = checks.as_array().expect("a list").iter().map(|check| &check["check"]).collect();
    for name in ["control_socket", "kinds", "trunk", "sockets"] {
        assert!(names.contains(&&json!(name)), "{name}: {names:?}");
    }
    assert!(text(&daemon.vmlan(&["doctor"]).stdout).contains("runs as process 42"));
}

#[test]
fn events_are_followed_until_the_daemon_ends() {
    let daemon = Daemon::start();
    let socket = daemon.socket.to_str().expect("text");
    let mut follower = Command::new(env!("CARGO_BIN_EXE_vmlan"))
        .args(["events", "--control", socket])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("vmlan can be run");
    let stdout = BufReader::new(follower.stdout.take().expect("a pipe"));
    let (tell, lines) = mpsc::channel();
    let reader =
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));

    // Until the follower has subscribed, events are for nobody.
    let deadline = Instant::now() + Duration::from_secs(20);
    let line = loop {
        assert!(Instant::now() < deadline, "no event arrived");
        daemon.vmlan(&["apply"]);
        if let Ok(line) = lines.try_recv() {
            break line;
        }
    };
    assert!(line.contains("applied") && line.contains("actions=0 failed=0"), "{line}");

    drop(daemon);
    assert_eq!(follower.wait().expect("an end").code(), Some(1));
    drop(lines);
    let _ = reader.join();
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let daemon = Daemon::start();
    let socket = daemon.socket.display();
    let line =
        format!("{} ports --control {socket} | true; exit ${{PIPESTATUS[0]}}", env!("CARGO_BIN_EXE_vmlan"));
    let output = Command::new("bash").args(["-c", &line]).output().expect("bash can be run");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

/// To bring it up to date: `cargo run -- man > docs/vmlan.1`.
#[test]
fn the_manual_page_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/vmlan.1");
    let stored = std::fs::read_to_string(&file).expect("docs/vmlan.1");
    assert!(stored == text(&vmlan(&["man"]).stdout), "docs/vmlan.1 is old: cargo run -- man > docs/vmlan.1");
}
