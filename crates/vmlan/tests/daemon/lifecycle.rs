//! Start, end, and what the program says when something is in its way.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;

use rustix::process::Signal;
use testbed::{Output, run};
use vmlan_api::{DaemonState, Outcome, PortState};
use vmlan_guest::Attachment;

use crate::support::{Daemon, PATIENCE, Peer, VMLAN, assert_balanced, directory, exchange, free_port};

const CONFIG: &str = "[network.lab.port.one]\nstream = { listen = \"one.sock\" }\n\
                      [network.lab.port.two]\nstream = { listen = \"two.sock\" }\n";

fn guests(daemon: &Daemon) -> (Peer, Peer) {
    let one = Peer::attach(1, Attachment::Stream { path: daemon.path("one.sock") });
    let two = Peer::attach(2, Attachment::Stream { path: daemon.path("two.sock") });
    daemon.wait_up(&["one", "two"]);
    (one, two)
}

fn vmlan(arguments: &[&str]) -> Output {
    let mut command = Command::new(VMLAN);
    command.args(arguments).env_remove("XDG_RUNTIME_DIR");
    run(command, PATIENCE)
}

#[test]
fn the_daemon_tells_about_itself() {
    let daemon = Daemon::start(&format!("workers = 2\n{CONFIG}"));
    let status = daemon.status();
    assert_eq!((status.pid, status.state, status.workers), (daemon.pid(), DaemonState::Running, 2));
    assert_eq!(status.config.as_deref(), daemon.path("vmlan.toml").to_str());
    let mode = std::fs::metadata(daemon.control()).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (mut one, mut two) = guests(&daemon);
    exchange(&mut one, &mut two);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn sigterm_ends_it_in_order_and_so_does_sigint() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = Daemon::start(&format!(
            "{CONFIG}[network.lab.port.datagram]\ndatagram = {{ listen = \"datagram.sock\" }}\n\
             [network.lab.port.vde]\nvde = {{ directory = \"lab.vde\" }}\n"
        ));
        let (mut one, mut two) = guests(&daemon);
        let _vde = Peer::attach(3, Attachment::Vde { directory: daemon.path("lab.vde") });
        exchange(&mut one, &mut two);

        daemon.signal(signal);

        assert_eq!(daemon.wait_end().code(), Some(0), "{}", daemon.log());
        one.raw.wait_closed().expect("the end of the connection");
        for socket in ["one.sock", "two.sock", "datagram.sock", "lab.vde/ctl", "control.sock"] {
            assert!(!daemon.path(socket).exists(), "{socket} was left behind");
        }
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    // A setup program that takes its time holds nothing up but its port.
    let daemon = Daemon::start(CONFIG);
    let (mut one, mut two) = guests(&daemon);
    exchange(&mut one, &mut two);
    let mut daemon = daemon;
    daemon.signal(Signal::TERM);
    if daemon.is_running() {
        daemon.signal(Signal::TERM);
    }
    let code = daemon.wait_end().code();
    assert!(matches!(code, Some(0 | 1)), "{code:?}");
}

#[test]
fn a_second_daemon_on_one_control_socket_is_refused() {
    let daemon = Daemon::start(CONFIG);
    let other = directory();
    let config = other.path().join("vmlan.toml");
    std::fs::write(&config, "[network.lab]\n").expect("a file");
    let control = daemon.control();
    let (config, control) = (config.to_str().expect("text"), control.to_str().expect("text"));

    let output = vmlan(&["run", "--config", config, "--control", control]);

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        output.stderr.contains("another vmlan answers at") && output.stderr.contains(control),
        "{output:?}"
    );
    assert_eq!(daemon.status().pid, daemon.pid());
    daemon.stop();
}

#[test]
fn sockets_of_a_killed_daemon_are_replaced() {
    let config = format!(
        "{CONFIG}[network.lab.port.datagram]\ndatagram = {{ listen = \"datagram.sock\" }}\n\
         [network.lab.port.vde]\nvde = {{ directory = \"lab.vde\" }}\n"
    );
    let daemon = Daemon::start(&config);
    let vde = Peer::attach(3, Attachment::Vde { directory: daemon.path("lab.vde") });
    let directory = daemon.kill();
    assert!(directory.path().join("control.sock").exists() && directory.path().join("one.sock").exists());
    drop(vde);

    let daemon = Daemon::start_in(directory, &config);
    let (mut one, mut two) = guests(&daemon);
    exchange(&mut one, &mut two);
    daemon.wait_state("datagram", PortState::Waiting);
    daemon.wait_up(&["vde"]);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn what_is_in_the_way_of_a_port_is_named_with_its_cure_and_others_start() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    let _held = UnixListener::bind(path("held.sock")).expect("a listener");
    std::fs::write(path("file.sock"), "not a socket").expect("a file");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let busy = tcp.local_addr().expect("an address");
    let config = format!(
        "{CONFIG}[network.lab.port.held]\nstream = {{ listen = \"held.sock\" }}\n\
         [network.lab.port.file]\ndatagram = {{ listen = \"file.sock\" }}\n\
         [network.lab.port.tcp]\nstream = {{ listen = \"{busy}\" }}\n\
         [network.lab.port.nowhere]\nstream = {{ listen = \"no/such/directory.sock\" }}\n\
         [network.lab.port.vde]\nvde = {{ directory = \"file.sock\" }}\n"
    );
    // The VDE directory and the datagram socket claim one path, which the check of the file finds.
    let config = config.replace("directory = \"file.sock\"", "directory = \"no/such/directory\"");
    let daemon = Daemon::start_in(directory, &config);
    let (mut one, mut two) = guests(&daemon);
    exchange(&mut one, &mut two);

    for (port, cause, cure) in [
        ("held", "held.sock is in use by another program", "choose another path or stop that program"),
        ("file", "file.sock exists and is no socket", "move it away or choose another path"),
        ("tcp", &busy.to_string(), "choose another address"),
        ("nowhere", "the directory does not exist", "create it, or choose another path"),
        ("vde", "no/such: the directory does not exist", "create it, or choose another path"),
    ] {
        daemon.wait_state(port, PortState::Failed);
        let reason = daemon.port(port).reason.expect("a reason");
        assert!(reason.contains(cause) && reason.contains(cure), "{port}: {reason}");
        daemon.wait_for_log(&format!("port lab/{port}: "));
    }

    // Each comes by itself once its way is free.
    drop(tcp);
    std::fs::remove_file(daemon.path("file.sock")).expect("the file");
    std::fs::create_dir_all(daemon.path("no/such")).expect("a directory");
    for port in ["file", "tcp", "nowhere"] {
        daemon.wait_state(port, PortState::Waiting);
    }
    daemon.wait_up(&["vde"]);
    assert_balanced(&daemon);
    std::fs::remove_file(daemon.path("held.sock")).expect("the socket");
    daemon.stop();
}

#[test]
fn a_port_that_cannot_be_added_fails_the_command_with_the_reason() {
    let daemon = Daemon::start(CONFIG);
    let output = daemon.cli(&["port", "add", "lab", "three", "stream", "listen=no/where.sock"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.contains("the directory does not exist"), "{output:?}");

    for (arguments, complaint) in [
        (
            &["port", "add", "lab", "one", "stream", "listen=x.sock"][..],
            "port one exists in network lab; remove it",
        ),
        (&["port", "add", "none", "x", "stream", "listen=x.sock"], "there is no network none; there is: lab"),
        (
            &["port", "add", "lab", "x", "stream", "listen=one.sock"],
            "one.sock is that of network.lab.port.one",
        ),
        (&["port", "add", "lab", "x", "stream", "listen=x.sock", "mac=x"], "network.lab.port.x.mac"),
        (&["port", "add", "lab", "x", "stream", "listen=x.sock", "mode=999"], "write them in octal"),
        (&["port", "add", "lab", "x", "stream", "listen=x.sock", "group=no-such-group"], "no-such-group"),
        (&["port", "add", "lab", "a/b", "stream", "listen=x.sock"], "is no name for a port"),
        (&["port", "remove", "lab", "nobody"], "there is no port nobody in network lab; there are: "),
        (&["port", "show", "lab/nobody"], "there is no port nobody in network lab; there are: "),
        (&["network", "add", "lab"], "network lab exists"),
        (&["network", "remove", "lba"], "there is no network lba; there is: lab"),
        (&["network", "add", "x", "mut=9000"], "did you mean `mtu`?"),
        (&["counters", "nobody"], "there is no port nobody; there are: lab/"),
        (&["ports", "none"], "there is no network none; there is: lab"),
        (&["fdb", "none"], "there is no network none; there is: lab"),
    ] {
        let output = daemon.cli(arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stderr.contains(complaint) && output.stderr.starts_with("error: "), "{output:?}");
        assert!(
            !output.stderr.contains("error: error:") && !output.stderr.contains("deserialize"),
            "{output:?}"
        );
    }
    for arguments in [&["port", "add", "lab", "x", "stream", "lisen=x"][..], &["fdb"], &["frobnicate"]] {
        assert_eq!(daemon.cli(arguments).status.code(), Some(2), "{arguments:?}");
    }
    daemon.stop();
}

#[test]
fn every_listing_is_a_table_or_json() {
    let daemon = Daemon::start(CONFIG);
    let (mut one, mut two) = guests(&daemon);
    exchange(&mut one, &mut two);
    for (arguments, word) in [
        (&["status"][..], "running"),
        (&["networks"], "lab"),
        (&["ports"], "stream"),
        (&["ports", "lab"], "one"),
        (&["fdb", "lab"], "52:54:00:00:00:01"),
        (&["counters"], "two"),
        (&["counters", "lab/one"], "one"),
    ] {
        let table = daemon.cli(arguments).expect_success();
        assert!(table.stdout.contains(word), "{table:?}");
        let json = daemon.cli(&[arguments, &["--json"]].concat()).expect_success();
        let value: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
        assert!(json.stdout.contains(word) && (value.is_array() || value.is_object()), "{value}");
    }
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_bad_configuration_does_not_start() {
    let directory = directory();
    let (config, control) = (directory.path().join("vmlan.toml"), directory.path().join("control.sock"));
    std::fs::write(&config, "[network.lab]\nmtu = 3\n").expect("a file");
    let (config, control) = (config.to_str().expect("text"), control.to_str().expect("text"));

    let output = vmlan(&["run", "--config", config, "--control", control]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.contains(&format!("{config}:2:")), "{output:?}");

    let output = vmlan(&["run", "--config", "/no/such/file.toml", "--control", control]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.contains("/no/such/file.toml"), "{output:?}");
    assert!(!std::path::Path::new(control).exists());
}

#[test]
fn a_second_guest_of_a_busy_stream_port_is_sent_away() {
    let port = free_port();
    let daemon = Daemon::start(&format!(
        "{CONFIG}[network.lab.port.tcp]\nstream = {{ listen = \"127.0.0.1:{port}\" }}\n"
    ));
    let (mut one, mut two) = guests(&daemon);
    let connect = || std::net::TcpStream::connect(("127.0.0.1", port)).expect("a listener");
    let mut three = Peer::attach(3, Attachment::StreamFd(connect().into()));
    daemon.wait_up(&["tcp"]);

    let mut second = Peer::attach(4, Attachment::Stream { path: daemon.path("one.sock") });
    let mut fourth = Peer::attach(5, Attachment::StreamFd(connect().into()));

    assert!(second.raw.wait_closed().is_ok() && fourth.raw.wait_closed().is_ok());
    exchange(&mut one, &mut two);
    exchange(&mut three, &mut one);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn workers_share_the_work_and_their_number_needs_a_restart() {
    let daemon = Daemon::start(&format!("workers = 2\n{CONFIG}"));
    let (mut one, mut two) = guests(&daemon);
    for _ in 0..100 {
        exchange(&mut one, &mut two);
    }
    daemon.write_config(&format!("workers = 3\n{CONFIG}"));
    let report: vmlan_api::ApplyReport = daemon.request("POST", "/v1/reload", None).json();
    assert_eq!(report.actions[0].outcome, Outcome::NeedsRestart, "{report:?}");
    exchange(&mut one, &mut two);
    assert_balanced(&daemon);
    daemon.stop();
}
