//! Captures on the running daemon: what arrives in files, what is lost, and what stays when a client goes.

#[path = "support/mod.rs"]
mod support;

use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use testbed::{Output, Process, poll_until, require, run, wait_for, wait_until};
use vmlan_frame::MacAddr;
use vmlan_guest::{Amount, Attachment, Guest, GuestConfig, Ping, ethernet};

use support::{Daemon, PATIENCE, Peer, TYPE, VMLAN, exchange, mac, meet};

const CONFIG: &str = "[network.lab]\nmtu = 9000\n\
    [network.lab.port.web]\nstream = { listen = \"web.sock\" }\n\
    [network.lab.port.db]\nstream = { listen = \"db.sock\" }\n";

/// A daemon with two raw guests that know each other.
fn lab() -> (Daemon, Peer, Peer) {
    let daemon = Daemon::start(CONFIG);
    let attach = |number, name| Peer::attach(number, Attachment::Stream { path: daemon.path(name) });
    let (mut web, mut db) = (attach(1, "web.sock"), attach(2, "db.sock"));
    meet(&mut web, &mut db);
    (daemon, web, db)
}

fn command(daemon: &Daemon, arguments: &[&str]) -> Command {
    let mut command = Command::new(VMLAN);
    command.arg("capture").args(arguments).arg("--control").arg(daemon.control());
    command.current_dir(daemon.path(""));
    command
}

/// A capture that has begun: what passes from now on is in it.
#[track_caller]
fn capture(daemon: &Daemon, arguments: &[&str]) -> Process {
    let mut process = Process::spawn(command(daemon, arguments));
    process.wait_for_log("; Ctrl-C ends it\n", PATIENCE);
    process
}

/// Waits until a capture that has enough ends by itself; what it wrote.
#[track_caller]
fn ended(mut process: Process) -> String {
    wait_until("the capture's end", PATIENCE, || !process.is_running());
    let (status, log) = process.terminate(PATIENCE);
    assert_eq!(status.code(), Some(0), "{log}");
    log
}

/// The fields of every frame as tshark reads them, which must have nothing to complain about.
#[track_caller]
fn tshark(file: &Path, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(["-T", "fields"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let Output { stdout, stderr, .. } = run(command, PATIENCE).expect_success();
    let complaints: Vec<_> = stderr.lines().filter(|line| !line.starts_with("Running as user")).collect();
    assert!(complaints.is_empty(), "{}: {complaints:?}", file.display());
    stdout.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

fn guest(daemon: &Daemon, name: &str, number: u8) -> Guest {
    let attachment = Attachment::Stream { path: daemon.path(&format!("{name}.sock")) };
    let config = GuestConfig::new(name, mac(number), attachment);
    Guest::spawn(config.ipv4(Ipv4Addr::new(10, 0, 0, number), 24)).expect("a guest")
}

#[track_caller]
fn ping(from: &Guest, number: u8) {
    let address = IpAddr::from(Ipv4Addr::new(10, 0, 0, number));
    let report = from.ping(address, Ping::default()).expect("a guest with a stack");
    assert!(report.is_complete(), "{report:?}");
}

#[test]
fn what_guests_say_is_in_the_file_and_tshark_reads_it() {
    require!(tool("tshark"));
    let daemon = Daemon::start(CONFIG);
    let (web, _db) = (guest(&daemon, "web", 1), guest(&daemon, "db", 2));
    daemon.wait_up(&["web", "db"]);
    let process = capture(&daemon, &["lab", "--both", "-w", "lab.pcapng"]);

    ping(&web, 2);
    let (status, log) = process.terminate(PATIENCE);

    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("frames captured, 0 lost"), "{log}");
    let fields = ["frame.interface_name", "frame.packet_flags_direction", "icmp.type", "ip.src"];
    let frames = tshark(&daemon.path("lab.pcapng"), &fields);
    for (port, direction, kind, source) in [
        ("web", 1, "8", "10.0.0.1"),
        ("db", 2, "8", "10.0.0.1"),
        ("db", 1, "0", "10.0.0.2"),
        ("web", 2, "0", "10.0.0.2"),
    ] {
        let wanted = [&format!("lab/{port}"), &format!("0x{direction:08x}"), kind, source];
        assert!(frames.iter().any(|frame| *frame == wanted), "{wanted:?} in {frames:?}");
    }
    daemon.stop();
}

#[test]
fn a_frame_is_in_the_file_once_where_it_came_in() {
    let (daemon, mut web, mut db) = lab();
    let counts: Vec<_> = [&["lab"][..], &["lab/db"], &["lab", "--both"], &["lab", "lab/db"]]
        .into_iter()
        .map(|arguments| {
            let process = capture(&daemon, arguments);
            exchange(&mut web, &mut db);
            let log = process.terminate(PATIENCE).1;
            ["lab/web  rx", "lab/web  tx", "lab/db  rx", "lab/db  tx"].map(|way| log.matches(way).count())
        })
        .collect();
    assert_eq!(counts, [[1, 0, 1, 0], [0, 0, 1, 1], [1, 1, 1, 1], [1, 0, 1, 1]]);
    daemon.stop();
}

#[test]
fn tshark_takes_nothing_for_a_retransmission() {
    require!(tool("tshark"));
    let daemon = Daemon::start(CONFIG);
    let (web, db) = (guest(&daemon, "web", 1), guest(&daemon, "db", 2));
    daemon.wait_up(&["web", "db"]);
    let process = capture(&daemon, &["lab", "-w", "lab.pcapng"]);

    let _server = db.tcp_serve(7).expect("a guest with a stack");
    let sent = web.tcp_send(([10, 0, 0, 2], 7).into(), Amount::Octets(100_000)).expect("a transfer");
    assert_eq!(sent.octets, 100_000);
    let (status, log) = process.terminate(PATIENCE);

    assert_eq!(status.code(), Some(0), "{log}");
    let frames = tshark(
        &daemon.path("lab.pcapng"),
        &["tcp.len", "tcp.analysis.retransmission", "tcp.analysis.duplicate_ack"],
    );
    let octets: usize = frames.iter().filter_map(|frame| frame.first()?.parse::<usize>().ok()).sum();
    assert_eq!(octets, 100_000);
    assert!(frames.iter().all(|frame| frame[1..].iter().all(String::is_empty)), "{frames:?}");
    daemon.stop();
}

#[test]
fn a_filter_keeps_what_matches() {
    require!(tool("tshark"), tool("tcpdump"));
    let daemon = Daemon::start(CONFIG);
    let (web, _db) = (guest(&daemon, "web", 1), guest(&daemon, "db", 2));
    daemon.wait_up(&["web", "db"]);
    fs::write(daemon.path("all"), "1\n6 0 0 262144\n").expect("our own directory");
    let all = capture(&daemon, &["lab/web", "-f", "@all", "-w", "all.pcapng"]);
    let expression = capture(&daemon, &["lab/web", "-f", "icmp", "-w", "icmp.pcapng"]);

    ping(&web, 2);
    let logs = [all, expression].map(|process| process.terminate(PATIENCE).1);

    let protocols = |file: &str| {
        let frames = tshark(&daemon.path(file), &["eth.type"]);
        frames.into_iter().flatten().collect::<Vec<_>>()
    };
    let matching = protocols("icmp.pcapng");
    assert!(!matching.is_empty() && matching.iter().all(|kind| kind == "0x0800"), "{matching:?} {logs:?}");
    // To ping, they had to find each other.
    assert!(protocols("all.pcapng").iter().any(|kind| kind == "0x0806"), "{logs:?}");
    daemon.stop();
}

#[test]
fn ports_that_come_later_are_captured_and_the_file_is_whole_when_the_daemon_ends() {
    require!(tool("tshark"));
    let (daemon, mut web, db) = lab();
    let mut process = capture(&daemon, &["lab", "-w", "lab.pcapng"]);

    let table = format!("{{\"vde\": {{\"directory\": \"{}\"}}}}", daemon.path("lab.vde").display());
    assert_eq!(daemon.add_port("lab", "guests", &table).status, 200);
    let mut late = Peer::attach(3, Attachment::Vde { directory: daemon.path("lab.vde") });
    meet(&mut late, &mut web);
    // The port is captured from some moment after it came.
    let is_there = || {
        exchange(&mut late, &mut web);
        let octets = fs::read(daemon.path("lab.pcapng")).expect("the file");
        octets.windows(12).any(|window| window == b"lab/guests.0")
    };
    assert!(poll_until(PATIENCE, is_there), "{}", process.log());
    exchange(&mut late, &mut web);
    drop((late, web, db));
    let path = daemon.path("lab.pcapng");
    let directory = daemon.stop();

    wait_until("the capture's end", PATIENCE, || !process.is_running());
    let (status, log) = process.terminate(PATIENCE);
    assert_eq!(status.code(), Some(0), "{log}");
    let frames = tshark(&path, &["frame.interface_name", "eth.src"]);
    let of_late = ["lab/guests.0".to_owned(), mac(3).to_string()];
    assert!(frames.iter().any(|frame| *frame == of_late), "{frames:?}");
    drop(directory);
}

/// A capture into a pipe of the test.
struct Piped {
    child: Child,
    log: std::path::PathBuf,
}

impl Piped {
    #[track_caller]
    fn start(daemon: &Daemon, arguments: &[&str]) -> Piped {
        let log = daemon.path("capture.log");
        let stderr = File::create(&log).expect("our own directory");
        let mut command = command(daemon, arguments);
        let child = command.stdout(Stdio::piped()).stderr(stderr).spawn().expect("vmlan can be started");
        let piped = Piped { child, log };
        wait_until("the capture's start", PATIENCE, || piped.log().contains("Ctrl-C ends it"));
        piped
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("our own directory")
    }

    /// Reads all there is; how it ended.
    #[track_caller]
    fn finish(&mut self) -> (Vec<u8>, ExitStatus) {
        let mut octets = Vec::new();
        self.child.stdout.take().expect("a pipe").read_to_end(&mut octets).expect("a pipe");
        let status = wait_for("the end", PATIENCE, || self.child.try_wait().expect("our own child"));
        (octets, status)
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Long frames that [`flood`] sends.
const FRAMES: usize = 3000;

/// Sends more than pipe, sockets and queues of a capture hold, each frame of which passes two ports; the length of
/// each.
#[track_caller]
fn flood(web: &mut Peer, db: &mut Peer) -> usize {
    let frame = ethernet(db.mac, web.mac, TYPE, &[7; 9000]);
    for _ in 0..FRAMES {
        web.raw.send_frame(&frame).expect("room for a frame");
        db.raw.expect(|came| came.len() == frame.len()).expect("the frame");
    }
    frame.len()
}

#[test]
fn a_reader_that_never_reads_does_not_keep_the_daemon_from_ending() {
    let (daemon, mut web, mut db) = lab();
    let mut capture = Piped::start(&daemon, &["lab", "-w", "-"]);

    flood(&mut web, &mut db);
    let _directory = daemon.stop();

    let (octets, status) = capture.finish();
    let log = capture.log();
    assert!(status.code() == Some(1) && log.contains("broke off the connection"), "{log}");
    assert!(!octets.is_empty());
}

#[test]
fn a_reader_that_never_reads_loses_frames_and_the_traffic_goes_on() {
    let (daemon, mut web, mut db) = lab();
    let mut capture = Piped::start(&daemon, &["lab", "--both", "-w", "-"]);

    let len = flood(&mut web, &mut db);
    let pid = i32::try_from(capture.child.id()).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.expect("a process id"), rustix::process::Signal::TERM)
        .expect("our own child");
    let (octets, status) = capture.finish();

    let log = capture.log();
    assert_eq!(status.code(), Some(0), "{log}");
    let line = log.lines().find(|line| line.contains("frames captured")).expect("a report");
    let numbers: Vec<usize> =
        line.split(' ').filter_map(|word| word.trim_matches(':').parse().ok()).collect();
    let [captured, lost] = numbers[..] else { panic!("{line}") };
    assert!(captured > 0 && lost > 0 && line.ends_with("too slowly"), "{line}");
    assert_eq!(captured + lost, 2 * FRAMES, "{line}");
    assert!(octets.len() > captured * len);
    daemon.stop();
}

#[test]
fn a_pipe_can_be_watched_live() {
    require!(tool("tshark"));
    let (daemon, mut web, mut db) = lab();
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$0\" capture lab -w - --count 2 --control \"$1\" | tshark -i - -l", VMLAN]);
    shell.arg(daemon.control());
    let mut process = Process::spawn(shell);
    process.wait_for_log("Ctrl-C ends it\n", PATIENCE);

    exchange(&mut web, &mut db);
    wait_until("tshark's end", PATIENCE, || !process.is_running());

    let (status, log) = process.terminate(PATIENCE);
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("\n2 packets captured"), "{log}");
    daemon.stop();
}

#[test]
fn clients_that_are_killed_leave_nothing() {
    let (daemon, mut web, mut db) = lab();
    let threads = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("a running daemon");
        // A thread may end meanwhile.
        let names = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name == "capture\n").count()
    };
    let before = daemon.descriptors();

    // One of the eight is left to other users.
    let captures: Vec<_> = (0..7).map(|_| capture(&daemon, &["-w", "/dev/null"])).collect();
    assert_eq!(threads(), 7);
    let refused = run(command(&daemon, &["-w", "/dev/null"]), PATIENCE);
    assert!(
        refused.status.code() == Some(1)
            && refused.stderr.contains("of captures (`captures` in [limits.user])"),
        "{refused:?}"
    );
    // Nothing passes: it is the connection that tells.
    drop(captures);

    wait_until("the threads' end", PATIENCE, || threads() == 0);
    wait_until("the descriptors", PATIENCE, || daemon.descriptors() <= before);
    exchange(&mut web, &mut db);
    capture(&daemon, &["-w", "/dev/null"]);
    daemon.stop();
}

#[test]
fn what_is_dropped_is_listed_with_the_reason() {
    let config = format!("{CONFIG}mac = \"{}\"\n", mac(2));
    let daemon = Daemon::start(&config);
    let attach = |number, name| Peer::attach(number, Attachment::Stream { path: daemon.path(name) });
    let (mut web, mut db) = (attach(1, "web.sock"), attach(2, "db.sock"));
    meet(&mut web, &mut db);
    let process = capture(&daemon, &["lab/db", "--drops", "--count", "2"]);

    exchange(&mut web, &mut db);
    for (source, destination) in [(mac(9), web.mac), (mac(2), MacAddr([1, 0x80, 0xc2, 0, 0, 0]))] {
        db.raw.send_frame(&ethernet(destination, source, TYPE, &[0; 46])).expect("room for a frame");
    }
    let log = ended(process);

    let lines: Vec<_> = log.lines().filter(|line| line.contains("lab/db")).collect();
    let [guarded, reserved] = lines[..] else { panic!("{log}") };
    let content = format!("  rx  {} > {}  type 0x88b5, 60 octets  (dropped: source_guard)", mac(9), web.mac);
    assert!(guarded.ends_with(&content), "{guarded}");
    assert!(reserved.ends_with("(dropped: reserved_address)"), "{reserved}");
    assert!(log.ends_with("2 frames captured, 0 lost\n"), "{log}");
    daemon.stop();
}

#[test]
fn what_is_lost_on_the_way_out_is_listed_too() {
    let daemon = Daemon::start(&format!("{CONFIG}queue = 4\n"));
    let attach = |number, name| Peer::attach(number, Attachment::Stream { path: daemon.path(name) });
    let (mut web, mut db) = (attach(1, "web.sock"), attach(2, "db.sock"));
    meet(&mut web, &mut db);
    let mut process = capture(&daemon, &["lab/db", "--drops", "--count", "3"]);

    // It does not read any more, so first its socket and then its queue fills.
    let frame = ethernet(db.mac, web.mac, TYPE, &[0; 1400]);
    wait_until("three drops", PATIENCE, || {
        web.raw.send_frame(&frame).expect("room for a frame");
        !process.is_running()
    });
    let log = process.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("lab/db")).collect();
    assert!(lines.len() == 3 && lines.iter().all(|line| line.ends_with("(dropped: queue_full)")), "{log}");
    assert!(lines[0].contains(&format!("{} > {}", web.mac, db.mac)), "{log}");
    daemon.stop();
}

#[test]
fn every_file_of_a_rotation_is_whole() {
    require!(tool("tshark"));
    let (daemon, mut web, mut db) = lab();
    let process =
        capture(&daemon, &["lab", "-w", "lab.pcapng", "--rotate", "1K", "--count", "40", "-s", "60"]);

    (0..20).for_each(|_| exchange(&mut web, &mut db));
    let log = ended(process);

    let is_file = |name: &String| name.starts_with("lab-0") && name.ends_with(".pcapng");
    let names = fs::read_dir(daemon.path("")).expect("our own directory").flatten();
    let names: Vec<_> =
        names.filter_map(|entry| entry.file_name().into_string().ok()).filter(is_file).collect();
    assert!(names.len() > 1 && log.contains(&format!("in {} files, 0 lost", names.len())), "{names:?} {log}");
    let frames = |name: &String| {
        let path = daemon.path(name);
        assert!(path.metadata().expect("a file").len() < 1500, "{name}");
        tshark(&path, &["frame.interface_name"]).len()
    };
    assert_eq!(names.iter().map(frames).sum::<usize>(), 40);
    daemon.stop();
}

#[test]
fn a_full_disk_ends_the_capture_and_counts() {
    let (daemon, mut web, mut db) = lab();
    let output = run(command(&daemon, &["lab", "-w", "/dev/full"]), PATIENCE);

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.contains("/dev/full cannot be written"), "{output:?}");
    assert!(output.stderr.contains("0 frames captured, "), "{output:?}");
    exchange(&mut web, &mut db);
    daemon.stop();
}

#[test]
fn what_cannot_be_captured_is_refused_with_a_word() {
    let daemon = Daemon::start(CONFIG);
    fs::write(daemon.path("bad"), "2\n6 0 0 60\n6 0 x 0\n").expect("our own directory");
    for (arguments, code, complaint) in [
        (&["none"][..], 1, "there is no network none"),
        (&["lab/none"], 1, "there is no port lab/none"),
        (&["lab/"], 1, "NETWORK/PORT"),
        (&["-w", "/no/such/file"], 1, "/no/such/file cannot be written"),
        (&["-f", "@bad"], 2, "line 3"),
        (&["-f", "2\n5 0 0 9\n6 0 0 0"], 2, "instruction 0"),
        (&["-s", "0"], 2, "--snaplen"),
        (&["--count", "0"], 2, "--count"),
        (&["--rotate", "1K"], 2, "--write"),
        (&["-w", "x", "--rotate", "big"], 2, "10M"),
        (&["-w", "-", "--rotate", "1K"], 2, "--rotate needs a file"),
    ] {
        let output = run(command(&daemon, arguments), PATIENCE);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert!(output.stderr.contains(complaint), "{arguments:?}: {}", output.stderr);
    }
    daemon.stop();
}
