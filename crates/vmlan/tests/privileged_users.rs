//! Clients of another user than ours: a user has a part of the places and of everything else, however many it takes.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Gid, Uid};
use testbed::{require, wait_until};
use vmlan_frame::MacAddr;
use vmlan_guest::{Attachment, RawGuest, ethernet};

use support::{Daemon, PATIENCE, Peer, Probe, TYPE, exchange};

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

/// Makes the calling thread, and those that it starts, another user's.
fn become_nobody() {
    let (group, user) = (Gid::from_raw(NOBODY), Uid::from_raw(NOBODY));
    rustix::thread::set_thread_groups(&[]).expect("root");
    rustix::thread::set_thread_res_gid(group, group, group).expect("root");
    rustix::thread::set_thread_res_uid(user, user, user).expect("root");
}

/// Attaches as many clients as there are places for, tells how many, and floods for a while; keeps them until told to
/// let go.
fn attack(directory: &Path, told: &mpsc::Sender<usize>, go: &mpsc::Receiver<()>) {
    become_nobody();
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
