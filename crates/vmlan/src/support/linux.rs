//! Facts about a process and the system, from /proc. Everything is bounded, and no path is in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// Octets of a file of /proc.
const LARGEST: u64 = 256 << 10;
/// Threads that are looked at.
const MOST_THREADS: usize = 1024;
/// Descriptors that are looked at.
const MOST_DESCRIPTORS: usize = 1 << 20;

/// A file of the archive, a line about it, and how it is read of a process.
pub type Fact = (&'static str, &'static str, fn(i32) -> Result<String, String>);

/// Facts that are told of the daemon's process beside its threads.
pub const FACTS: [Fact; 4] = [
    ("process/status.txt", "the daemon's process as the kernel describes it", |pid| of(pid, "status")),
    ("process/limits.txt", "its limits", |pid| of(pid, "limits")),
    ("process/memory.txt", "its memory, by kind", |pid| {
        of(pid, "smaps_rollup").map(|text| without_first_line(&text))
    }),
    ("process/descriptors.txt", "its open descriptors, how many of each kind", descriptors),
];

/// The name of the system, from os-release(5).
pub fn system() -> String {
    let text = read(Path::new("/etc/os-release")).unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or("not known", |name| name.trim_matches('"')).to_owned()
}

/// Names of users of this machine: those who log in.
pub fn users() -> Vec<String> {
    let text = read(Path::new("/etc/passwd")).unwrap_or_default();
    let user = |line: &str| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?.parse::<u32>().ok()?);
        (uid >= 1000 && uid != 65_534).then(|| name.to_owned())
    };
    text.lines().filter_map(user).collect()
}

/// The threads of a process, each with its state, the place in the kernel where it waits, and its processor time.
pub fn threads(pid: i32) -> Result<String, String> {
    let directory = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&directory).map_err(|error| format!("{directory}: {error}"))?;
    let mut numbers: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    let mut text = format!("at {}; times in ticks of 1/100 s\n", vmlan_api::Timestamp::now());
    let _ = writeln!(
        text,
        "{:<10} {:<16} {:<5} {:>10} {:>10}  WAITS IN",
        "THREAD", "NAME", "STATE", "USER", "KERNEL"
    );
    for number in numbers.iter().take(MOST_THREADS) {
        // A thread may have ended.
        let Ok(stat) = of(pid, &format!("task/{number}/stat")) else { continue };
        let Some((name, [state, user, kernel])) = thread(&stat) else { continue };
        let place = of(pid, &format!("task/{number}/wchan")).unwrap_or_default();
        let place = if place.trim_matches(['0', '\n']).is_empty() { "-" } else { place.trim() };
        let _ = writeln!(text, "{number:<10} {name:<16} {state:<5} {user:>10} {kernel:>10}  {place}");
    }
    if numbers.len() > MOST_THREADS {
        let _ = writeln!(text, "and {} more", numbers.len() - MOST_THREADS);
    }
    Ok(text)
}

/// The name, and state, user time and kernel time, of a line of proc_pid_stat(5). The name may hold anything.
fn thread(stat: &str) -> Option<(&str, [&str; 3])> {
    let (_, rest) = stat.split_once('(')?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some((name, [fields.first()?, fields.get(11)?, fields.get(12)?]))
}

fn descriptors(pid: i32) -> Result<String, String> {
    let directory = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&directory).map_err(|error| format!("{directory}: {error}"))?;
    let mut kinds = BTreeMap::<String, u64>::new();
    for entry in entries.flatten().take(MOST_DESCRIPTORS) {
        // It may be closed meanwhile.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        *kinds.entry(kind(&target.to_string_lossy())).or_default() += 1;
    }
    Ok(kinds.iter().map(|(kind, count)| format!("{count:>8}  {kind}\n")).collect())
}

/// The kind of a descriptor, without a name that a user chose.
fn kind(target: &str) -> String {
    match target {
        "/dev/net/tun" | "/dev/null" | "/dev/vhost-net" => target.to_owned(),
        _ if target.starts_with("/memfd:") => "memfd".to_owned(),
        _ if target.starts_with("/dev/shm/") || target.starts_with("/dev/hugepages/") => {
            "shared memory".to_owned()
        }
        _ if target.starts_with("/dev/") => "device".to_owned(),
        _ if target.starts_with('/') => "file".to_owned(),
        // `socket:[8123]`, `anon_inode:[eventpoll]`, `anon_inode:bpf-map`
        _ => match target.split_once(':') {
            Some(("anon_inode", rest)) => rest.trim_matches(['[', ']']).to_owned(),
            Some((kind, _)) => kind.to_owned(),
            None => "other".to_owned(),
        },
    }
}

/// Leaves out the range of addresses that the kernel puts in front.
fn without_first_line(text: &str) -> String {
    text.split_once('\n').map_or(text, |(_, rest)| rest).to_owned()
}

fn of(pid: i32, file: &str) -> Result<String, String> {
    let path = format!("/proc/{pid}/{file}");
    read(Path::new(&path)).map_err(|error| format!("{path}: {error}"))
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut octets = Vec::new();
    File::open(path)?.take(LARGEST).read_to_end(&mut octets)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_have_any_name() {
        let stat = "12 (a) (b) ) S 1 2 3 4 5 6 7 8 9 10 111 222 13";
        assert_eq!(thread(stat), Some(("a) (b) ", ["S", "111", "222"])));
        assert_eq!(thread("12 (a) S 1"), None);
        assert_eq!(thread(""), None);
    }

    #[test]
    fn kinds_of_descriptors_have_no_names_of_users() {
        for (target, wanted) in [
            ("socket:[812]", "socket"),
            ("anon_inode:[eventpoll]", "eventpoll"),
            ("anon_inode:bpf-map", "bpf-map"),
            ("/home/alice/vmlan.toml", "file"),
            ("/dev/shm/alice", "shared memory"),
            ("/memfd:alice (deleted)", "memfd"),
            ("/dev/net/tun", "/dev/net/tun"),
            ("alice", "other"),
        ] {
            assert_eq!(kind(target), wanted, "{target}");
        }
    }

    #[test]
    fn of_this_process_everything_is_told() {
        let pid = i32::try_from(std::process::id()).expect("a process id");
        for (name, _, read) in FACTS {
            assert!(read(pid).is_ok_and(|text| !text.is_empty()), "{name}");
        }
        let threads = threads(pid).expect("threads");
        assert!(threads.lines().count() > 2, "{threads}");
        assert!(super::threads(-1).is_err());
    }
}
