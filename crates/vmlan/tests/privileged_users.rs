//! Clients of another user than ours: who may connect, and that a user has a part of the places and of everything else,
//! however many it takes.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};
use rustix::process::{Gid, Uid};
use testbed::{require, wait_until};
use vmlan_api::PortState;
use vmlan_drivers::tunnel::client::Client;
use vmlan_frame::MacAddr;
use vmlan_guest::{Attachment, RawGuest, ethernet};

use support::{Daemon, PATIENCE, Peer, Probe, TYPE, exchange, meet};

/// A user that is not ours.
const NOBODY: u32 = 65_534;
/// How many clients it wants, and how many it gets: a quarter of the directory's places.
const WANTED: usize = 300;
const GIVEN: usize = 256;
/// How long those flood.
const FLOOD: Duration = Duration::from_secs(2);
/// Resident memory that they may cost while none of them reads, in KiB: 8 MiB for what waits, 16 KiB of each, and what
/// else a port has. With a whole backlog for each it would be 128 MiB.
const COST: u64 = 64 << 10;

/// A group that no user of the system has, and a user who is in none of its own.
const GROUP: u32 = 61_234;
const MEMBER: u32 = 61_235;
const OWNER: u32 = 61_236;

/// Makes the calling thread, and those that it starts, another user's, who is in `groups`.
fn become_user(user: u32, groups: &[u32]) {
    let (group, user) = (Gid::from_raw(user), Uid::from_raw(user));
    let groups: Vec<_> = groups.iter().copied().map(Gid::from_raw).collect();
    rustix::thread::set_thread_groups(&groups).expect("root");
    rustix::thread::set_thread_res_gid(group, group, group).expect("root");
    rustix::thread::set_thread_res_uid(user, user, user).expect("root");
}

/// Does something as another user, in a thread of its own.
fn as_user<T: Send>(user: u32, groups: &[u32], act: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let acting = scope.spawn(|| {
            become_user(user, groups);
            act()
        });
        acting.join().expect("it does not panic")
    })
}

/// Attaches as many clients as there are places for, tells how many, and floods for a while; keeps them until told to
/// let go.
fn attack(directory: &Path, told: &mpsc::Sender<usize>, go: &mpsc::Receiver<()>) {
    become_user(NOBODY, &[]);
    let attach = |number| {
        let attachment = Attachment::Vde { directory: directory.to_owned() };
        RawGuest::attach(&format!("nobody{number}"), attachment, Duration::from_secs(2)).ok()
    };
    let mut clients: Vec<RawGuest> = (0..WANTED).map_while(attach).collect();
    told.send(clients.len()).expect("the test");
    let begin = Instant::now();
    while begin.elapsed() < FLOOD {
        for (number, client) in clients.iter_mut().enumerate() {
            let source = MacAddr([0x02, 0x66, 0x66, 0, (number >> 8) as u8, number as u8]);
            let _ = client.try_send(&ethernet(MacAddr::BROADCAST, source, TYPE + 2, &[0; 1400]));
        }
    }
    told.send(0).expect("the test");
    let _ = go.recv();
}

fn attached(daemon: &Daemon) -> usize {
    daemon.ports().iter().filter(|port| port.port.starts_with("all.")).count()
}

#[test]
fn another_user_leaves_places_and_memory_to_others_and_is_heard_no_more_than_one_port() {
    require!(root());
    let directory = support::directory();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("our own directory");
    let daemon = Daemon::start_in(
        directory,
        "[network.lab.port.one]\nstream = { listen = \"one.sock\" }\nmac = \"52:54:00:00:00:01\"\n\
         [network.lab.port.two]\nstream = { listen = \"two.sock\" }\nmac = \"52:54:00:00:00:02\"\n\
         [network.lab.port.all]\nvde = { directory = \"all.vde\", mode = \"0666\" }\nstorm = 200\n",
    );
    let stream = |number, path: &str| Peer::attach(number, Attachment::Stream { path: daemon.path(path) });
    let (one, two) = (stream(1, "one.sock"), stream(2, "two.sock"));
    daemon.wait_up(&["one", "two"]);
    let probe = Probe::start(one, two);
    let before = daemon.resident();

    let all: PathBuf = daemon.path("all.vde");
    let (tell, told) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    let attacker = thread::spawn({
        let all = all.clone();
        move || attack(&all, &tell, &wait)
    });
    assert_eq!(told.recv_timeout(6 * PATIENCE), Ok(GIVEN));
    let root = |number| Peer::attach(number, Attachment::Vde { directory: all.clone() });
    let (mut three, mut four) = (root(3), root(4));
    wait_until("our own clients' ports", PATIENCE, || attached(&daemon) == GIVEN + 2);
    exchange(&mut three, &mut four);
    probe.wait(100);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(0));
    let now = daemon.resident();
    assert!(now <= before + COST, "{now} KiB resident; {before} KiB before");
    let learnt = daemon.fdb("lab").into_iter().filter(|entry| entry.port.starts_with("all.")).count();
    assert!(learnt <= GIVEN + 2, "{learnt} addresses");

    drop(go);
    attacker.join().expect("the attacker");
    drop((three, four));
    wait_until("the ports to go", PATIENCE, || attached(&daemon) == 0);
    let now = daemon.resident();
    assert!(now <= before + COST / 2, "{now} KiB resident; {before} KiB before");
    probe.finish();
    daemon.stop();
}

/// Connects to a socket as a user, for a moment; true if that is allowed.
fn may_connect(kind: SocketType, path: &Path, user: u32, groups: &[u32]) -> bool {
    as_user(user, groups, || {
        let socket = socket(AddressFamily::UNIX, kind, None).expect("a socket");
        match connect(&socket, &SocketAddrUnix::new(path).expect("a short path")) {
            Ok(()) => true,
            Err(Errno::ACCESS) => false,
            Err(error) => panic!("{}: {error}", path.display()),
        }
    })
}

fn config(access: &str) -> String {
    format!(
        "[network.lab.port.stream]\nstream = {{ listen = \"stream.sock\", {access} }}\n\
         [network.lab.port.datagram]\ndatagram = {{ listen = \"datagram.sock\", {access} }}\n\
         [network.lab.port.pair]\ndatagram = {{ local = \"pair.sock\", remote = \"none.sock\", {access} }}\n\
         [network.lab.port.all]\nvde = {{ directory = \"all.vde\", {access} }}\n\
         [network.lab.port.monitor]\nvhost_user = {{ listen = \"monitor.sock\", {access} }}\n\
         [network.lab.port.vpn]\ntunnel = {{ listen = \"vpn.sock\", address = \"10.0.0.9/24\", {access} }}\n"
    )
}

/// Every socket of that configuration.
const SOCKETS: [(SocketType, &str); 6] = [
    (SocketType::STREAM, "stream.sock"),
    (SocketType::DGRAM, "datagram.sock"),
    (SocketType::DGRAM, "pair.sock"),
    (SocketType::STREAM, "all.vde/ctl"),
    (SocketType::STREAM, "monitor.sock"),
    (SocketType::SEQPACKET, "vpn.sock"),
];

fn wait_for_sockets(daemon: &Daemon) {
    daemon.wait_up(&["all", "vpn"]);
    ["stream", "datagram", "pair", "monitor"]
        .iter()
        .for_each(|port| daemon.wait_state(port, PortState::Waiting));
}

/// A directory that every user may enter.
fn open_directory() -> tempfile::TempDir {
    let directory = support::directory();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o711)).expect("our own directory");
    directory
}

#[test]
fn a_group_and_an_owner_may_connect_and_others_may_not() {
    require!(root());
    let daemon = Daemon::start_in(open_directory(), &config(&format!("mode = \"0660\", group = {GROUP}")));
    wait_for_sockets(&daemon);
    for (kind, name) in SOCKETS {
        let may = |user, groups: &[u32]| may_connect(kind, &daemon.path(name), user, groups);
        assert!(may(MEMBER, &[GROUP]), "{name}: a member of the group");
        assert!(!may(MEMBER, &[]), "{name}: another user");
    }

    daemon.write_config(&config(&format!("owner = {OWNER}")));
    let applied = daemon.cli(&["apply"]);
    assert!(applied.success(), "{applied:?}");
    wait_for_sockets(&daemon);
    for (kind, name) in SOCKETS {
        let may = |user, groups: &[u32]| may_connect(kind, &daemon.path(name), user, groups);
        assert!(may(OWNER, &[]), "{name}: its owner");
        assert!(!may(MEMBER, &[GROUP]), "{name}: another user");
    }
    let log = daemon.log();
    assert!(!log.contains("removed what another user"), "{log}");
    daemon.stop();
}

#[test]
fn guests_of_a_group_talk_over_every_kind_of_socket() {
    require!(root());
    let directory = open_directory();
    let own = directory.path().join("own");
    fs::create_dir(&own).expect("our own directory");
    chown(&own, Some(MEMBER), None).expect("root");
    let daemon = Daemon::start_in(directory, &config(&format!("mode = \"0660\", group = {GROUP}")));
    wait_for_sockets(&daemon);
    let member = |number, attachment| as_user(MEMBER, &[GROUP], || Peer::attach(number, attachment));
    let mut guests = [
        member(1, Attachment::Stream { path: daemon.path("stream.sock") }),
        member(2, Attachment::Datagram { local: own.join("guest"), remote: daemon.path("datagram.sock") }),
        member(3, Attachment::Vde { directory: daemon.path("all.vde") }),
    ];
    let [one, two, three] = &mut guests;
    meet(two, one);
    meet(three, one);
    let vpn = daemon.path("vpn.sock");
    let tunnel = as_user(MEMBER, &[GROUP], || Client::connect(&vpn, 0, &[]));
    assert!(tunnel.is_ok());
    let path = daemon.path("monitor.sock");
    let monitor = as_user(MEMBER, &[GROUP], || UnixStream::connect(&path));
    assert!(monitor.is_ok());
    let peer = format!("pid {}, uid {MEMBER}", std::process::id());
    wait_until("the user of a machine monitor to be shown", PATIENCE, || {
        daemon.port("monitor").peer.as_ref() == Some(&peer)
    });
    drop((guests, tunnel, monitor));
    wait_until("clients to go", PATIENCE, || attached(&daemon) == 0);
    daemon.stop();
}

#[test]
fn sockets_of_a_daemon_that_was_killed_are_replaced_whoever_owns_them() {
    require!(root());
    let owned = config(&format!("owner = {OWNER}"));
    let daemon = Daemon::start_in(open_directory(), &owned);
    wait_for_sockets(&daemon);
    let daemon = Daemon::start_in(daemon.kill(), &owned);
    wait_for_sockets(&daemon);
    for (kind, name) in SOCKETS {
        assert!(may_connect(kind, &daemon.path(name), OWNER, &[]), "{name}");
    }
    daemon.stop();
}

#[test]
fn a_socket_that_cannot_be_given_away_fails_its_port_and_says_why() {
    require!(root());
    let directory = open_directory();
    chown(directory.path(), Some(MEMBER), Some(MEMBER)).expect("root");
    let program = format!("exec setpriv --reuid {MEMBER} --regid {MEMBER} --clear-groups \"$@\"");
    let other = "[network.lab.port.other]\nstream = { listen = \"other.sock\" }\n";
    let daemon = Daemon::start_by(
        directory,
        &format!("{other}{}", config(&format!("mode = \"0660\", group = {GROUP}"))),
        &["sh", "-c", &program, "sh"],
    );
    for port in ["stream", "datagram", "pair", "all", "vpn"] {
        daemon.wait_state(port, PortState::Failed);
        let reason = daemon.port(port).reason.expect("a reason");
        assert!(reason.contains(&format!("cannot be given to group {GROUP}")), "{reason}");
        assert!(reason.contains("run vmlan as"), "{reason}");
    }
    daemon.wait_state("other", PortState::Waiting);
    daemon.stop();
}
