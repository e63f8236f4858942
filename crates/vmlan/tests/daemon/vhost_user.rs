//! The life of a vhost-user port, as far as it takes no guest: who connects to whom, and what is left of whom.

use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::{pread, pwrite};
use testbed::{wait_for, wait_until};
use vmlan_api::PortState;
use vmlan_drivers::vhost_user::message::Kind;
use vmlan_frame::MacAddr;

use crate::support::{
    Daemon, FRAMES, GuestMemory, Monitor, PATIENCE, assert_balanced, directory, mac, numbered,
};

fn start(table: &str) -> Daemon {
    Daemon::start(&format!("[network.lab.port.web]\nvhost_user = {{ {table} }}\n"))
}

/// Waits until a monitor is there, which has no guest, and answers for what the port waits then.
#[track_caller]
fn wait_for_peer(daemon: &Daemon) -> String {
    let port = wait_for("a peer", PATIENCE, || {
        daemon.find_port("web").filter(|port| port.peer.is_some() && port.state == PortState::Waiting)
    });
    port.reason.expect("a reason")
}

#[test]
fn a_port_has_one_monitor_at_a_time_and_then_the_next() {
    let daemon = start("listen = \"web.sock\"");
    let path = daemon.path("web.sock");
    assert_eq!(daemon.port("web").address.as_deref(), path.to_str());
    let mut first = Monitor::connect(&path);
    first.expect_service();
    let reason = wait_for_peer(&daemon);
    assert!(!reason.contains("waiting for a guest"), "{reason}");

    Monitor::connect(&path).expect_end();
    first.expect_service();
    // The other one is there before the first one's end is heard of.
    drop(first);
    let mut successor = Monitor::connect(&path);
    successor.expect_service();
    drop(successor);
    wait_until("it to be alone", PATIENCE, || daemon.port("web").peer.is_none());
    let port = daemon.port("web");
    assert!(
        port.state == PortState::Waiting
            && port.reason.is_some_and(|why| why.contains("waiting for a guest"))
    );
    daemon.stop();
}

#[test]
fn a_socket_is_the_daemons_user_alone_unless_the_port_says_otherwise() {
    use std::os::unix::fs::PermissionsExt;
    for (keys, wanted) in [("", 0o600), (", mode = \"0660\"", 0o660)] {
        let daemon = start(&format!("listen = \"web.sock\"{keys}"));
        let path = daemon.path("web.sock");
        let mode = path.metadata().expect("the socket").permissions().mode() & 0o7777;
        assert_eq!(mode, wanted, "{mode:o}");
        let _monitor = Monitor::connect(&path);
        let peer = format!("pid {}, uid {}", std::process::id(), rustix::process::getuid().as_raw());
        wait_until("its user to be shown", PATIENCE, || daemon.port("web").peer.as_ref() == Some(&peer));
        daemon.stop();
    }
}

#[test]
fn a_monitor_that_listens_is_connected_to_again_and_again() {
    let directory = directory();
    let path = directory.path().join("monitor");
    let daemon = start(&format!("connect = \"{}\"", path.display()));
    for _ in 0..3 {
        let listener = UnixListener::bind(&path).expect("a free path");
        let mut monitor = Monitor::new(listener.accept().expect("the daemon's connection").0);
        monitor.expect_service();
        wait_for_peer(&daemon);
        drop((listener, monitor));
        std::fs::remove_file(&path).expect("its path");
        wait_until("it to be alone", PATIENCE, || daemon.port("web").peer.is_none());
    }
    daemon.stop();
}

#[test]
fn inherited_sockets_are_connections_or_listen() {
    let directory = directory();
    let path = directory.path().join("inherited");
    let listener = UnixListener::bind(&path).expect("a listener");
    let (monitor, ours) = UnixStream::pair().expect("a pair");
    let config = "[network.lab.port.web]\nvhost_user = { fd = 3 }\n\
                  [network.lab.port.pair]\nvhost_user = { fd = 4 }\n";
    let daemon = Daemon::start_with_descriptors(config, listener.into(), ours.into());
    let mut pair = Monitor::new(monitor);
    pair.expect_service();
    for round in 0..3 {
        if round == 2 {
            // A change that attaches the port anew leaves the socket that listens what it is.
            daemon.write_config(&config.replacen("fd = 3 }\n", "fd = 3 }\nqueue = 7\n", 1));
            assert!(daemon.cli(&["apply"]).success());
        }
        let mut monitor = Monitor::connect(&path);
        monitor.expect_service();
        wait_for_peer(&daemon);
        drop(monitor);
        wait_until("it to be alone", PATIENCE, || daemon.port("web").peer.is_none());
    }
    drop(pair);
    daemon.wait_state("pair", PortState::Down);
    assert!(daemon.port("pair").reason.is_some_and(|reason| reason.contains("inherited")));
    daemon.stop();
}

#[test]
fn a_monitor_that_breaks_the_rules_is_kept_away_for_a_moment() {
    let daemon = start("listen = \"web.sock\"");
    let mut events = daemon.events();
    let mut monitor = Monitor::connect(&daemon.path("web.sock"));
    monitor.send(2, Kind::GetFeatures, &[], None);
    monitor.expect_end();
    events.expect("a quarantine", |event| matches!(event, vmlan_api::EventKind::Quarantined { .. }));
    daemon.wait_state("web", PortState::Waiting);
    Monitor::connect(&daemon.path("web.sock")).expect_service();
    daemon.stop();
}

#[test]
fn what_a_ring_that_is_never_enabled_sends_is_dropped_and_counted() {
    const MEMORY: u64 = 1 << 20;
    const USER: u64 = 0x7f00_0000_0000;
    /// Where the ring's parts and its buffer are.
    const AVAILABLE: u64 = 0x1000;
    const USED: u64 = 0x2000;
    const BUFFER: u64 = 0x8000;
    const FRAME: u32 = 60;
    let daemon = start("listen = \"web.sock\"");
    let memory = memfd_create("guest", MemfdFlags::CLOEXEC).expect("memory");
    ftruncate(&memory, MEMORY).expect("memory");
    let write = |offset: u64, octets: &[u8]| assert_eq!(pwrite(&memory, octets, offset), Ok(octets.len()));
    let longs = |longs: &[u64]| longs.iter().flat_map(|long| long.to_ne_bytes()).collect::<Vec<_>>();
    // One descriptor of a buffer with a header and a frame, which is available.
    write(0, &[&BUFFER.to_le_bytes()[..], &(12 + FRAME).to_le_bytes()].concat());
    write(AVAILABLE, &[0, 0, 1, 0, 0, 0]);

    let mut monitor = Monitor::connect(&daemon.path("web.sock"));
    // Version 1, and rings that are not enabled by themselves.
    monitor.send(1, Kind::SetFeatures, &longs(&[1 << 32 | 1 << 30]), None);
    let region = longs(&[1, 0, MEMORY, USER, 0]);
    monitor.send(1, Kind::SetMemTable, &region, Some(&memory));
    let tx = 1_u64;
    monitor.send(1, Kind::SetVringNum, &longs(&[tx | 8 << 32]), None);
    monitor.send(1, Kind::SetVringAddr, &longs(&[tx, USER, USER + USED, USER + AVAILABLE, 0]), None);
    let kick = eventfd(0, EventfdFlags::empty()).expect("a descriptor");
    monitor.send(1, Kind::SetVringKick, &longs(&[tx]), Some(&kick));
    wait_until("the frame to be dropped", PATIENCE, || {
        daemon.port("web").counters.drops.get("not_attached") == Some(&1)
    });

    let port = daemon.port("web");
    assert_eq!((port.state, port.counters.rx_frames), (PortState::Waiting, 1));
    wait_until("the guest to get its buffer back", PATIENCE, || {
        let mut used = [0; 2];
        assert_eq!(pread(&memory, &mut used, USED + 2), Ok(2));
        u16::from_le_bytes(used) == 1
    });
    monitor.expect_service();
    drop(monitor);
    daemon.stop();
}

#[test]
fn a_path_that_is_swept_away_is_bound_again_and_still_takes_descriptors() {
    let daemon = start("listen = \"web.sock\"");
    let path = daemon.path("web.sock");
    std::fs::remove_file(&path).expect("the socket");
    wait_until("the path to be there again", PATIENCE, || path.exists());
    Monitor::connect(&path).expect_service();
    daemon.stop();
}

#[test]
fn monitors_that_come_and_go_leave_nothing_behind() {
    let daemon = start("listen = \"web.sock\"");
    let come_and_go = || {
        let mut monitor = Monitor::connect(&daemon.path("web.sock"));
        monitor.expect_service();
        // Half a message.
        monitor.socket.write_all(&[0; 5]).expect("a connection");
        drop(monitor);
        wait_until("it to be alone", PATIENCE, || {
            let port = daemon.port("web");
            port.peer.is_none() && port.state == PortState::Waiting
        });
    };
    come_and_go();
    let before = daemon.descriptors();
    (0..3).for_each(|_| come_and_go());
    wait_until("descriptors to be closed", PATIENCE, || daemon.descriptors() <= before);
    daemon.stop();
}

/// Counts the descriptors that a process has, its threads of connections, and its mappings of guests' memory.
fn belongings(daemon: &Daemon) -> [usize; 3] {
    let process = format!("/proc/{}", daemon.pid());
    let tasks = std::fs::read_dir(format!("{process}/task")).expect("our own child").flatten();
    // One that ends meanwhile has no name.
    let names = tasks.map(|task| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default());
    let maps = std::fs::read_to_string(format!("{process}/maps")).expect("our own child");
    let mappings = maps.lines().filter(|line| line.contains(GuestMemory::NAME));
    [daemon.descriptors(), names.filter(|name| name.starts_with("vmlan-vhost")).count(), mappings.count()]
}

/// The way in which a guest ends.
type End = fn(Monitor, &GuestMemory);

#[test]
fn case_50_however_a_guest_ends_its_books_balance_and_nothing_of_it_is_left() {
    let daemon = start("listen = \"web.sock\"");
    let frame = numbered(MacAddr::BROADCAST, mac(1), 1);
    let ends: [(&str, End); 7] = [
        ("it leaves", |monitor, _| drop(monitor)),
        ("its memory is cut short", |monitor, memory| {
            ftruncate(&memory.file, 0).expect("a file");
            monitor.kick();
            monitor.expect_end();
        }),
        ("its rings lose their memory", |mut monitor, _| {
            monitor.send(1, Kind::SetMemTable, &[0; 8], None);
            monitor.expect_service();
        }),
        ("its ring is broken", |mut monitor, memory| {
            memory.break_ring();
            monitor.kick();
            monitor.expect_service();
        }),
        ("a message has another version", |mut monitor, _| {
            monitor.send(2, Kind::GetFeatures, &[], None);
            monitor.expect_end();
        }),
        ("a message is half sent", |mut monitor, _| {
            monitor.socket.write_all(&[0; 5]).expect("a connection");
            monitor.expect_end();
        }),
        ("a descriptor is left unread", |mut monitor, memory| {
            monitor.send(2, Kind::GetFeatures, &[], None);
            // It may be over already, and mostly is not.
            let _ = monitor.try_send(1, Kind::SetLogFd, &[], Some(&memory.file));
            monitor.expect_end();
        }),
    ];
    let (mut before, mut sent) = (None, 0);
    for (what, end) in ends {
        let memory = GuestMemory::new();
        let mut monitor = Monitor::connect(&daemon.path("web.sock"));
        monitor.run(&memory);
        daemon.wait_up(&["web"]);
        wait_until("one thread and one mapping", PATIENCE, || belongings(&daemon)[1..] == [1, 1]);
        memory.receive();
        for _ in 0..4 {
            memory.send(&frame);
            monitor.kick();
            wait_until("frames to be taken", PATIENCE, || memory.is_sent());
            sent += FRAMES;
        }
        wait_until("the books", PATIENCE, || daemon.port("web").counters.rx_frames == sent);

        end(monitor, &memory);

        wait_until("it to be alone", PATIENCE, || {
            let port = daemon.port("web");
            port.peer.is_none() && port.state == PortState::Waiting
        });
        wait_until("what it had to be given back", PATIENCE, || belongings(&daemon)[1..] == [0, 0]);
        let most = *before.get_or_insert_with(|| daemon.descriptors());
        wait_until("descriptors to be closed", PATIENCE, || daemon.descriptors() <= most);
        assert_balanced(&daemon);
        assert_eq!(daemon.port("web").counters.rx_frames, sent, "{what}");
    }
    daemon.stop();
}
