//! The log: readers that stop, peers that are a nuisance, and peers that choose their names to deceive.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::Instant;

use rustix::io::ioctl_fionbio;
use testbed::wait_until;

use crate::arena::Arena;
use crate::support::PATIENCE;

const VDE: &str = "[network.lab.port.bad]\nvde = { directory = \"bad.vde\" }\n";

/// Asks for a port whose frames go to `path`, where nobody is any more, and waits to be sent away.
fn ask_in_vain(arena: &Arena, path: &Path) {
    use std::os::unix::ffi::OsStrExt;
    drop(UnixDatagram::bind(path).expect("a free path"));
    let mut octets: Vec<u8> = [0xfeed_face_u32, 3, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
    octets.extend_from_slice(&1_u16.to_ne_bytes());
    octets.extend_from_slice(path.as_os_str().as_bytes());
    octets.resize(12 + 110, 0);
    octets.extend_from_slice(b"hostile");
    let mut stream = UnixStream::connect(arena.path("bad.vde/ctl")).expect("the switch");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // It may be sent away in the middle.
    let _ = stream.write_all(&octets);
    let _ = stream.read_to_end(&mut Vec::new());
    std::fs::remove_file(path).expect("our own file");
}

/// Lines of the log about the port `bad` and its clients.
fn lines_about_bad(arena: &Arena) -> usize {
    arena.daemon.log().lines().filter(|line| line.contains("lab/bad")).count()
}

#[test]
fn what_a_client_does_again_and_again_is_said_now_and_then() {
    let arena = Arena::start(VDE);
    let path = arena.path("bad.vde/dead");
    let start = Instant::now();
    ask_in_vain(&arena, &path);
    wait_until("the first to be said at once", PATIENCE, || lines_about_bad(&arena) == 1);
    for _ in 0..150 {
        ask_in_vain(&arena, &path);
    }
    // Three at first, and then a line and a summary each ten seconds.
    let most = 3 + 2 * (start.elapsed().as_secs() as usize / 10 + 1);
    assert!(lines_about_bad(&arena) <= most, "more than {most} lines:\n{}", arena.daemon.log());
    // Others have their say.
    let table = format!(r#"{{"stream":{{"listen":"{}"}}}}"#, arena.path("no/such/directory").display());
    assert_eq!(arena.daemon.add_port("lab", "other", &table).error().code, vmlan_api::ErrorCode::NotSetUp);
    arena.daemon.wait_for_log("port lab/other: ");
    arena.finish();
}

#[test]
fn a_clients_path_forges_no_line_and_drives_no_terminal() {
    let arena = Arena::start(VDE);
    let forged = "bad.vde/dead\n2026-01-01T00:00:00.000Z ERROR forged \u{1b}[2J\u{202e}";
    ask_in_vain(&arena, &arena.path(forged));
    let shown = r"dead\n2026-01-01T00:00:00.000Z ERROR forged \u{1b}[2J\u{202e}";
    arena.daemon.wait_for_log(shown);
    let log = arena.daemon.log();
    assert!(log.chars().all(|c| c == '\n' || vmlan_api::is_plain(c)), "{log:?}");
    assert!(!log.lines().any(|line| line.starts_with("2026-01-01T00:00:00.000Z ERROR forged")), "{log}");
    arena.finish();
}

#[test]
fn a_reader_of_the_log_that_stopped_holds_up_nothing() {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    // Full: the first line has to wait for its reader.
    ioctl_fionbio(&writer, true).expect("a mode");
    while writer.write_all(&[b'x'; 4096]).is_ok() {}
    while writer.write_all(b"x").is_ok() {}
    ioctl_fionbio(&writer, false).expect("a mode");

    let arena = Arena::start_logging_to(OwnedFd::from(writer), VDE);
    for _ in 0..50 {
        ask_in_vain(&arena, &arena.path("bad.vde/dead"));
        assert_eq!(arena.daemon.status().networks, 1);
    }
    let missing = arena.path("no/such/directory");
    let table = format!(r#"{{"stream":{{"listen":"{}"}}}}"#, missing.display());
    assert_eq!(arena.daemon.add_port("lab", "other", &table).status, 503);
    // Ends the daemon with SIGTERM.
    arena.finish();
    drop(reader);
}

#[test]
fn a_reader_of_the_log_that_left_holds_up_nothing() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let arena = Arena::start_logging_to(OwnedFd::from(writer), VDE);
    ask_in_vain(&arena, &arena.path("bad.vde/dead"));
    assert_eq!(arena.daemon.status().networks, 1);
    arena.finish();
}
