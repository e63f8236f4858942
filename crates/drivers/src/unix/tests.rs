use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};

use super::*;

fn place(path: impl AsRef<Path>) -> Place {
    Place::of(path.as_ref()).unwrap()
}

/// The access of these permissions, for ourselves.
fn with(bits: u32) -> Access {
    Access::of(mode(bits))
}

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_left_over_is_replaced_and_what_is_in_use_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    drop(UnixListener::bind(&path).unwrap());
    let (_socket, bound) = listen(&place(&path), PRIVATE).unwrap();
    assert!(matches!(listen(&place(&path), PRIVATE), Err(Error::InUse { .. })));
    drop(bound);
    assert!(!path.exists());
}

#[test]
fn a_held_directory_tells_what_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "").unwrap();
    let made = directory.path().join("made");
    let (held, _made) = Directory::open_or_make(&made, PRIVATE).unwrap();
    fs::write(made.join("other"), "").unwrap();
    assert!(held.names().unwrap().contains(&"other".into()));
    assert!(Directory::open(directory.path()).unwrap().names().unwrap().contains(&"file".into()));
}

#[test]
fn the_same_for_datagrams() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    drop(UnixDatagram::bind(&path).unwrap());
    let _held = bind_datagram(&place(&path), PRIVATE).unwrap();
    assert!(matches!(bind_datagram(&place(&path), PRIVATE), Err(Error::InUse { .. })));
}

#[test]
fn other_files_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "contents").unwrap();
    let listen = |path: &Path| Place::of(path).and_then(|place| listen(&place, PRIVATE));
    assert!(matches!(listen(&path), Err(Error::InTheWay { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "contents");
    assert!(matches!(listen(&path.with_file_name("x".repeat(120))), Err(Error::TooLong { .. })));
    assert!(matches!(listen(&directory.path().join("none/a")), Err(Error::NoDirectory { .. })));
}

#[test]
fn a_link_is_in_the_way_and_where_it_leads_nothing_happens() {
    let directory = tempfile::tempdir().unwrap();
    let (target, link) = (directory.path().join("target"), directory.path().join("link"));
    drop(UnixListener::bind(&target).unwrap());
    symlink(&target, &link).unwrap();
    assert!(matches!(listen(&place(&link), PRIVATE), Err(Error::InTheWay { .. })));
    assert!(fs::symlink_metadata(&target).unwrap().file_type().is_socket());
}

#[test]
fn a_path_that_was_taken_over_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let (_socket, bound) = listen(&place(&path), PRIVATE).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "somebody else's").unwrap();
    drop(bound);
    assert!(path.exists());
}

#[test]
fn a_socket_is_removed_from_the_directory_that_it_was_made_in() {
    let directory = tempfile::tempdir().unwrap();
    let (here, there) = (directory.path().join("here"), directory.path().join("there"));
    fs::create_dir(&here).unwrap();
    let (_socket, bound) = listen(&place(here.join("a.sock")), PRIVATE).unwrap();
    fs::rename(&here, &there).unwrap();
    fs::create_dir(&here).unwrap();
    fs::write(here.join("a.sock"), "").unwrap();
    drop(bound);
    assert!(here.join("a.sock").exists() && !there.join("a.sock").exists());
}

/// The umask is the process's: this is the only test here that depends on it, and works with any.
#[test]
fn permissions_are_those_that_were_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    for bits in [0o600, 0o660, 0o666, 0o777, 0o620] {
        let path = directory.path().join(format!("{bits:o}"));
        let (_stream, _bound) = listen(&place(&path), with(bits)).unwrap();
        assert_eq!(mode_of(&path), bits);
        let peer = UnixDatagram::bind(path.with_extension("peer")).unwrap();
        let node = Node::open(&path.with_extension("peer")).unwrap();
        let path = path.with_extension("dgram");
        let (_data, _bound) = bind_connected(&place(&path), with(bits), &node).unwrap();
        assert_eq!(mode_of(&path), bits);
        drop(peer);
    }
    let path = directory.path().join("datagram");
    let (_socket, _bound) = bind_datagram(&place(&path), PRIVATE).unwrap();
    assert_eq!(mode_of(&path), 0o600);
}

#[test]
fn a_socket_belongs_to_whom_it_was_made_for_and_its_directory_to_us() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: only root gives files away");
    }
    let directory = tempfile::tempdir().unwrap();
    let access = Access { owner: Some(65_533), group: Some(65_532), ..with(0o660) };
    let path = directory.path().join("stream");
    let (_stream, _bound) = listen(&place(&path), access).unwrap();
    let found = fs::symlink_metadata(&path).unwrap();
    assert_eq!((found.uid(), found.gid(), mode_of(&path)), (65_533, 65_532, 0o660));
    let (shared, _made) = Directory::open_or_make(&directory.path().join("shared"), access).unwrap();
    let found = fs::symlink_metadata(shared.path()).unwrap();
    assert_eq!((found.uid(), found.gid(), mode_of(shared.path())), (0, 65_532, 0o1771));
    // A left-over of its owner's is one of ours.
    let place = shared.place("ctl");
    std::mem::forget(listen(&place, access).unwrap().1);
    assert!(!shared.evict_strangers("ctl".as_ref(), access.owner) && place.path().exists());
    assert!(shared.evict_strangers("ctl".as_ref(), None) && !place.path().exists());
}

#[test]
fn a_socket_for_another_user_is_ours_alone_before() {
    for (bits, first) in [(0o660, 0o600), (0o060, 0), (0o666, 0o600)] {
        assert_eq!(Access { group: Some(1), ..with(bits) }.at_first(), mode(first));
        assert_eq!(with(bits).at_first(), mode(bits));
    }
}

/// Only Linux lets one thread be another user.
#[cfg(target_os = "linux")]
#[test]
fn a_socket_that_cannot_be_given_away_says_so_and_is_not_left() {
    use rustix::fs::{Gid, Uid};
    use rustix::thread::{set_thread_res_gid, set_thread_res_uid};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    // A thread of its own, for it becomes another user where we are root.
    let tried = std::thread::spawn(move || {
        if rustix::process::geteuid().is_root() {
            let (group, user) = (Gid::from_raw(65_534), Uid::from_raw(65_534));
            set_thread_res_gid(group, group, group).unwrap();
            set_thread_res_uid(user, user, user).unwrap();
        }
        let access = Access { owner: Some(0), ..PRIVATE };
        (listen(&place(&path), access).map(|_| ()), path.exists())
    });
    let (result, is_left) = tried.join().unwrap();
    let error = result.unwrap_err().to_string();
    assert!(error.contains("cannot be given to user 0") && error.contains("run vmlan as root"), "{error}");
    assert!(!is_left);
}

#[test]
fn a_file_is_followed_and_not_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let (path, other) = (directory.path().join("a"), directory.path().join("b"));
    let peer = UnixDatagram::bind(&path).unwrap();
    let other_socket = UnixDatagram::bind(&other).unwrap();
    let node = Directory::open(directory.path()).unwrap().find("a".as_ref()).unwrap();
    let user = rustix::process::geteuid().as_raw();
    assert!(node.is_socket_of(user) && !node.is_socket_of(user + 1));
    fs::rename(&path, directory.path().join("moved")).unwrap();
    symlink(&other, &path).unwrap();

    let (socket, _bound) = bind_connected(&place(directory.path().join("ours")), PRIVATE, &node).unwrap();
    rustix::net::send(&socket, b"frame", rustix::net::SendFlags::empty()).unwrap();
    let mut octets = [0; 16];
    assert_eq!(peer.recv(&mut octets).unwrap(), 5);
    other_socket.set_nonblocking(true).unwrap();
    assert!(other_socket.recv(&mut octets).is_err());
    assert!(node.is_there() && node.is_held(SocketType::DGRAM));
    drop(peer);
    assert!(!node.is_held(SocketType::DGRAM));
    fs::remove_file(directory.path().join("moved")).unwrap();
    assert!(!node.is_there());
    // Another name is another way in, which nobody looked at.
    let node = Directory::open(directory.path()).unwrap().find("b".as_ref()).unwrap();
    fs::hard_link(&other, directory.path().join("again")).unwrap();
    assert!(node.is_socket() && !node.is_socket_of(user));
}

#[test]
fn nobody_but_the_peer_is_queued() {
    let directory = tempfile::tempdir().unwrap();
    let peer = UnixDatagram::bind(directory.path().join("peer")).unwrap();
    let node = Node::open(&directory.path().join("peer")).unwrap();
    let ours = place(directory.path().join("ours"));
    let (_socket, bound) = bind_connected(&ours, with(0o666), &node).unwrap();
    assert!(UnixDatagram::unbound().unwrap().send_to(b"frame", bound.path()).is_err());
    peer.send_to(b"frame", bound.path()).unwrap();
}

#[test]
fn a_directory_that_others_may_write_to_is_sticky() {
    let directory = tempfile::tempdir().unwrap();
    for (bits, wanted) in [(0o600, 0o700), (0o660, 0o1770), (0o666, 0o1777), (0o644, 0o755), (0o622, 0o1733)]
    {
        let path = directory.path().join("shared");
        let (_shared, made) = Directory::open_or_make(&path, with(bits)).unwrap();
        assert_eq!(mode_of(&path), wanted, "{bits:o}");
        drop(made);
        assert!(!path.exists(), "it was empty");
    }
}

#[test]
fn a_directory_in_which_others_could_exchange_files_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("there");
    fs::create_dir(&path).unwrap();
    for (bits, safe) in
        [(0o755, true), (0o1777, true), (0o1770, true), (0o777, false), (0o770, false), (0o702, false)]
    {
        fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
        let opened = Directory::open_or_make(&path, with(0o666));
        assert_eq!(mode_of(&path), bits, "it is left as it is");
        match opened {
            Ok((_, made)) => assert!(safe && made.is_none(), "{bits:o}"),
            Err(Error::Unsafe { cure, .. }) => assert!(!safe && cure.contains("chmod +t"), "{cure}"),
            Err(error) => panic!("{error}"),
        }
    }
    let link = directory.path().join("link");
    symlink(&path, &link).unwrap();
    fs::write(directory.path().join("file"), "").unwrap();
    for path in [link, directory.path().join("file")] {
        assert!(matches!(Directory::open_or_make(&path, PRIVATE), Err(Error::Unsafe { .. })));
    }
}

#[test]
fn a_directory_that_was_made_stays_with_what_others_put_into_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shared");
    let (_shared, made) = Directory::open_or_make(&path, with(0o600)).unwrap();
    fs::write(path.join("file"), "").unwrap();
    drop(made);
    assert!(path.join("file").exists());
}
