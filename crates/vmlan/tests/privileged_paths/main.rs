//! Another user of the host, who may write where the daemon's sockets are and exchanges names while it uses them.

#[path = "../support/mod.rs"]
mod support;

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use testbed::{require, wait_until};
use vmlan_api::PortState;
use vmlan_frame::MacAddr;
use vmlan_guest::Attachment;

use support::{Daemon, PATIENCE, Peer, assert_balanced, directory};

const ANOTHER: u32 = 65_534;

/// How often a race is run.
const ROUNDS: usize = 100;

const CONFIG: &str = "[network.lab.port.v]\nvde = { directory = \"v\", mode = \"0666\" }\n\
                      [network.lab.port.p]\nstream = { listen = \"p.sock\" }\n";

/// A daemon with a VDE directory for every user.
#[track_caller]
fn shared() -> Daemon {
    let directory = directory();
    set_mode(directory.path(), 0o755);
    let daemon = Daemon::start_in(directory, CONFIG);
    daemon.wait_up(&["v"]);
    daemon
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("our own file");
}

/// Runs `work`, and the threads that it starts, as another user.
fn as_another_user<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let become_another = || {
        let (user, group) = (Uid::from_raw(ANOTHER), Gid::from_raw(ANOTHER));
        set_thread_groups(&[])?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)
    };
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            become_another().expect("root may");
            work()
        });
        thread.join().expect("the work does not panic")
    })
}

/// Runs `work` while two names are exchanged without a pause.
fn while_exchanging(one: &Path, other: &Path, work: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // One of them is not there, or may not be touched.
                let _ = renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
            }
        });
        work();
        done.store(true, Ordering::Relaxed);
    });
}

/// Joins the switch with the datagram socket at `path`.
fn join(directory: &Path, path: &Path) -> io::Result<UnixStream> {
    let mut octets = Vec::new();
    for word in [0xfeed_face_u32, 3, 0] {
        octets.extend_from_slice(&word.to_ne_bytes());
    }
    octets.extend_from_slice(&1_u16.to_ne_bytes());
    octets.extend_from_slice(path.as_os_str().as_bytes());
    octets.resize(12 + 110, 0);
    let mut control = UnixStream::connect(directory.join("ctl"))?;
    control.set_read_timeout(Some(PATIENCE))?;
    control.write_all(&octets)?;
    control.read_exact(&mut [0; 110])?;
    Ok(control)
}

/// A guest of ours joins, is heard, and leaves again.
#[track_caller]
fn works(daemon: &Daemon) {
    let before: Vec<_> = clients(daemon);
    let mut guest = Peer::attach(8, Attachment::Vde { directory: daemon.path("v") });
    guest.send(MacAddr::BROADCAST);
    let mut joined = None;
    wait_until("the guest's frame", PATIENCE, || {
        joined = daemon.ports().into_iter().find(|port| {
            port.port.starts_with("v.") && !before.contains(&port.port) && port.counters.rx_frames == 1
        });
        joined.is_some()
    });
    let joined = joined.expect("it is there").port;
    daemon.departs(&joined);
    drop(guest);
    wait_until("the port to go", PATIENCE, || !clients(daemon).contains(&joined));
}

fn clients(daemon: &Daemon) -> Vec<String> {
    daemon.ports().into_iter().map(|port| port.port).filter(|name| name.starts_with("v.")).collect()
}

#[test]
fn no_file_gets_another_mode_from_exchanged_names() {
    require!(root());
    let daemon = shared();
    let (v, secret) = (daemon.path("v"), daemon.path("secret"));
    fs::write(&secret, "secret").expect("our own directory");
    set_mode(&secret, 0o600);
    let (link, ours) = (v.join("link"), v.join(format!("000.{}", daemon.pid())));
    let joined = as_another_user(|| {
        let mut joined = 0;
        symlink(&secret, &link).expect("a shared directory");
        while_exchanging(&link, &ours, || {
            for round in 0..ROUNDS {
                let path = v.join(format!("mine.{round}"));
                let _socket = UnixDatagram::bind(&path).expect("a shared directory");
                joined += usize::from(join(&v, &path).is_ok());
                // A link in the place of the switch's socket would be in the way of the next round.
                if ours.is_symlink() {
                    let _ = fs::remove_file(&ours);
                }
                if !link.is_symlink() {
                    let _ = fs::remove_file(&link);
                    let _ = symlink(&secret, &link);
                }
                let _ = fs::remove_file(&path);
            }
        });
        joined
    });
    let mode = secret.metadata().expect("it is there").permissions().mode() & 0o7777;
    assert_eq!(format!("{mode:o}"), "600");
    assert!(joined > 0, "nothing was tried: no client joined");
    wait_until("the clients to go", PATIENCE, || clients(&daemon).is_empty());
    works(&daemon);
    daemon.stop();
}

#[test]
fn frames_go_to_no_socket_that_the_client_may_not_use() {
    require!(root());
    let daemon = shared();
    let (v, private) = (daemon.path("v"), daemon.path("private"));
    fs::create_dir(&private).expect("our own directory");
    set_mode(&private, 0o700);
    let victim = UnixDatagram::bind(private.join("socket")).expect("our own directory");
    victim.set_nonblocking(true).expect("a socket");
    let mut guest = Peer::attach(7, Attachment::Stream { path: daemon.path("p.sock") });
    daemon.wait_up(&["p"]);
    let (own, link) = (v.join("own"), v.join("link"));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            as_another_user(|| {
                let _socket = UnixDatagram::bind(&own).expect("a shared directory");
                symlink(private.join("socket"), &link).expect("a shared directory");
                while_exchanging(&own, &link, || {
                    for _ in 0..ROUNDS {
                        // Refused whenever the link is there; long enough for a frame when it is not.
                        let _control = join(&v, &own);
                        thread::yield_now();
                    }
                });
                for path in [&own, &link] {
                    fs::remove_file(path).expect("their own name");
                }
            });
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            guest.send(MacAddr::BROADCAST);
            thread::yield_now();
        }
    });
    let mut frame = [0; 2000];
    assert!(victim.recv(&mut frame).is_err(), "a frame came to a socket that is root's alone");
    wait_until("the clients to go", PATIENCE, || clients(&daemon).is_empty());
    works(&daemon);
    daemon.stop();
}

#[test]
fn what_is_in_a_shared_directory_stays_its_owners() {
    require!(root());
    let daemon = shared();
    let v = daemon.path("v");
    let mut guest = Peer::attach(7, Attachment::Vde { directory: v.clone() });
    daemon.wait_up(&["v.0"]);
    let names = || fs::read_dir(&v).expect("it is there").map(|entry| entry.expect("an entry").path());
    assert!(names().count() >= 3, "ctl, and both ends of a client");
    as_another_user(|| {
        for path in names() {
            assert!(fs::remove_file(&path).is_err(), "{}", path.display());
            assert!(fs::rename(&path, v.join("taken")).is_err(), "{}", path.display());
        }
    });
    guest.send(MacAddr::BROADCAST);
    wait_until("the guest's frame", PATIENCE, || daemon.port("v.0").counters.rx_frames == 1);
    works(&daemon);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn names_that_another_user_takes_keep_no_client_and_no_daemon_away() {
    require!(root());
    let daemon = shared();
    let (v, pid) = (daemon.path("v"), daemon.pid());
    as_another_user(|| {
        for number in 0..4 {
            let taken = v.join(format!("{number:03}.{pid}"));
            fs::create_dir(&taken).expect("a shared directory");
            fs::write(taken.join("file"), "").expect("their own directory");
        }
    });
    works(&daemon);
    // While no daemon runs, `ctl` is anybody's.
    let mut directory = daemon.stop();
    let ctl = directory.path().join("v/ctl");
    let take: [fn(&Path) -> Option<UnixListener>; 3] = [
        |path| {
            fs::create_dir(path).expect("a shared directory");
            fs::write(path.join("file"), "").expect("their own directory");
            None
        },
        |path| {
            fs::write(path, "").expect("a shared directory");
            None
        },
        |path| Some(UnixListener::bind(path).expect("a shared directory")),
    ];
    for take in take {
        let _listener = as_another_user(|| take(&ctl));
        let daemon = Daemon::start_in(directory, CONFIG);
        daemon.wait_up(&["v"]);
        works(&daemon);
        directory = daemon.stop();
    }
}

#[track_caller]
fn is_refused(daemon: &Daemon, said: &str) {
    wait_until(said, PATIENCE, || {
        let port = daemon.port("v");
        port.state == PortState::Failed && port.reason.is_some_and(|reason| reason.contains(said))
    });
}

#[test]
fn a_directory_that_others_could_change_is_refused_until_it_is_safe() {
    require!(root());
    let directory = directory();
    let v = directory.path().join("v");
    fs::create_dir(&v).expect("our own directory");
    set_mode(&v, 0o777);
    let daemon = Daemon::start_in(directory, CONFIG);
    is_refused(&daemon, "chmod +t");
    set_mode(&v, 0o755);
    daemon.wait_up(&["v"]);
    let directory = daemon.stop();

    chown(&v, Some(ANOTHER), Some(ANOTHER)).expect("root may");
    let daemon = Daemon::start_in(directory, CONFIG);
    is_refused(&daemon, "it belongs to user 65534");
    daemon.stop();
}
