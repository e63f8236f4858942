use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::*;

fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

fn this_process() -> Process {
    Process::of(std::process::id()).unwrap()
}

const FIRST: Cursor = Cursor { index: 1, wrap: true };

/// Where a ring of two entries starts, the first of which was used.
fn position(checkpoint: &Checkpoint) -> Cursor {
    let mapping = Mapping::plain(32);
    let table = mapping.span(0, 32).unwrap();
    table.store_u16(14, 1 << 15 | 1 << 7);
    checkpoint.begin(Starting { address: 7, table, num: 2, base: Cursor::BEGINNING }).0
}

/// Starts a ring, as if for `process`, and has it take a turn.
fn run(checkpoints: &Checkpoints, index: usize, process: Process) -> Checkpoint {
    let checkpoint = checkpoints.entry(index, process, 0x8000).unwrap();
    position(&checkpoint);
    checkpoint.word().store(Turn { from: Cursor::BEGINNING, to: FIRST, writes: false });
    checkpoint
}

#[test]
fn entries_outlive_those_who_wrote_them_and_go_with_the_last() {
    let directory = directory();
    let path = directory.path().join("runtime/lab:a.rings");
    for index in [0, RINGS - 1] {
        let checkpoints = Checkpoints::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        run(&checkpoints, index, this_process());
        drop(checkpoints);

        let checkpoints = Checkpoints::open(&path).unwrap();
        let checkpoint = checkpoints.entry(index, this_process(), 0x8000).unwrap();
        assert_eq!(position(&checkpoint), FIRST);
        checkpoint.erase();
        drop(checkpoints);
        assert!(!path.exists());
    }
    let checkpoints = Checkpoints::open(&path).unwrap();
    assert!(checkpoints.entry(RINGS, this_process(), 0).is_none());
}

#[test]
fn a_file_is_one_ports() {
    let directory = directory();
    let path = directory.path().join("lab:a.rings");
    let first = Checkpoints::open(&path).unwrap();
    assert_eq!(first.path(), path);
    let second = Checkpoints::open(&path).err().map(|error| error.kind());
    assert_eq!(second, Some(io::ErrorKind::WouldBlock));
    drop(first);
    assert!(Checkpoints::open(&path).is_ok());
}

#[test]
fn what_is_not_ours_is_not_opened() {
    let directory = directory();
    let path = directory.path().join("lab:a.rings");
    let other = directory.path().join("other");
    fs::write(&other, "content").unwrap();
    symlink(&other, &path).unwrap();
    assert!(Checkpoints::open(&path).is_err());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(Checkpoints::open(&path).is_err());
    fs::remove_dir(&path).unwrap();
    fs::write(&path, "content").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert!(Checkpoints::open(&path).is_err());
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert!(Checkpoints::open(&path).is_ok());
    assert_eq!(fs::read_to_string(&other).unwrap(), "content");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    assert!(Checkpoints::open(&path).is_err());
}

#[test]
fn a_file_that_is_not_in_memory_is_told_of_and_removed() {
    let program = std::env::current_exe().expect("our own path");
    let disk = tempfile::tempdir_in(program.parent().expect("a directory")).expect("a directory");
    let at = |path: &Path| rustix::fs::statfs(path).expect("a file system").f_type;
    if at(disk.path()) == at(Path::new("/dev/shm")) {
        eprintln!("SKIPPED: the target directory is on tmpfs");
        return;
    }

    let error = Checkpoints::open(&disk.path().join("lab:vu.rings")).err().expect("no tmpfs");

    let told = error.to_string();
    assert!(told.contains("not on tmpfs; let RUNTIME_DIRECTORY") && !told.contains("guest"), "{told}");
    assert_eq!(std::fs::read_dir(disk.path()).expect("our own directory").count(), 0);
}

#[test]
fn what_has_another_form_is_emptied() {
    let directory = directory();
    let path = directory.path().join("lab:a.rings");
    for content in [vec![0xff; SIZE as usize], vec![0xff; 100], vec![0; 2 * SIZE as usize]] {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let checkpoints = Checkpoints::open(&path).unwrap();
        assert!(checkpoints.is_empty());
        assert_eq!(path.metadata().unwrap().len(), SIZE);
    }
}

#[test]
fn a_file_that_is_cut_short_counts_as_empty() {
    let directory = directory();
    let path = directory.path().join("lab:a.rings");
    let checkpoints = Checkpoints::open(&path).unwrap();
    let checkpoint = run(&checkpoints, 200, this_process());
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    checkpoint.word().store(Turn::none(Cursor::BEGINNING));
    assert_eq!(position(&checkpoint), Cursor::BEGINNING);
    assert!(checkpoints.entry(200, this_process(), 0x8000).is_none());
}

#[test]
fn files_of_front_ends_that_are_gone_are_removed() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let process = Process::of(child.id()).unwrap();
    let later = Process { started: process.started + 1, ..process };
    for (name, process) in [("child.rings", process), ("later.rings", later), ("child.other", process)] {
        run(&Checkpoints::open(&path(name)).unwrap(), 0, process);
    }
    let held = Checkpoints::open(&path("held.rings")).unwrap();
    run(&held, 0, later);
    fs::write(path("other.txt"), "").unwrap();

    let there = || {
        drop(Checkpoints::open(&path("new.rings")).unwrap());
        let names = fs::read_dir(directory.path()).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(there(), ["child.other", "child.rings", "held.rings", "other.txt"]);
    // Ends it.
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(there(), ["child.other", "held.rings", "other.txt"]);
}

#[test]
fn a_process_is_told_from_others() {
    assert_eq!(Process::of(std::process::id()), Some(this_process()));
    assert_ne!(Process::of(1), Some(this_process()));
    assert_eq!(Process::of(0), None);
    assert_eq!(Process::of(u32::MAX), None);
}
