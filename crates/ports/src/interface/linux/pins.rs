//! Names in the BPF file system for what the kernel carries, by which it outlives a killed daemon.
//!
//! Theory of operation. A daemon has a directory of its own, called after its network namespace and its control
//! socket, which it keeps locked. In it is a directory for each network that has interface ports, with the network's
//! tables and, by port, the links that hold programs on an interface's hooks. As long as these have their names the
//! kernel works with them, whatever becomes of the daemon: frames between the addresses that it knows go on, all others
//! are dropped. The next daemon with that control socket opens the tables, and changes the programs in their places.
//! One that ends in order takes the names away, and nothing is left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat};
use rustix::io::Errno;
use vmlan_sys::ebpf::{Hook, Link, is_bpf, mount_bpf};

use crate::hooks::Names;
use crate::interface_lock::namespace;

/// Where hosts have the BPF file system.
const FILE_SYSTEM: &str = "/sys/fs/bpf";

/// The directory of all daemons' there.
const ROOT: &str = "/sys/fs/bpf/vmlan";

/// Most octets of a name, and most things that one directory is expected to have.
const LONGEST_NAME: usize = 255;
const MOST: usize = 16_384;

/// The ends of the names of a port's links, by hook.
const ENDINGS: [&str; 2] = ["+ingress", "+egress"];

/// The directory of one daemon.
pub(super) struct Pins {
    path: PathBuf,
    _lock: OwnedFd,
}

impl Pins {
    /// Makes or takes over the directory of the daemon with this name.
    ///
    /// # Errors
    /// Says why there can be none.
    pub(super) fn open(daemon: &str) -> Result<Arc<Pins>, String> {
        let said = |what: &str, error: io::Error| format!("cannot {what}: {error}");
        let directory = open(Path::new(FILE_SYSTEM)).map_err(|error| said("open /sys/fs/bpf", error))?;
        if !is_bpf(&directory) {
            mount_bpf(Path::new(FILE_SYSTEM))
                .map_err(|error| said("mount the BPF file system at /sys/fs/bpf", error))?;
        }
        let path = path_of(daemon).map_err(|error| said("name a directory", error))?;
        let make = || {
            make_directory(Path::new(ROOT))?;
            make_directory(&path)?;
            let lock = open(&path)?;
            take(&lock)?;
            // A daemon that ends removes its directory while it has the lock.
            let is_there = fstat(&lock)?.st_ino == fs::metadata(&path)?.ino();
            if is_there { Ok(lock) } else { Err(io::ErrorKind::NotFound.into()) }
        };
        let mut made = make();
        if made.as_ref().is_err_and(|error: &io::Error| error.kind() == io::ErrorKind::NotFound) {
            made = make();
        }
        match made {
            Ok(lock) => Ok(Arc::new(Pins { path, _lock: lock })),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::WOULDBLOCK) => {
                Err(format!("another vmlan has {}", path.display()))
            }
            Err(error) => Err(said(&format!("make {}", path.display()), error)),
        }
    }

    /// True if an earlier daemon of this name left its directory.
    pub(super) fn are_there(daemon: &str) -> bool {
        path_of(daemon).is_ok_and(|path| path.is_dir())
    }

    /// Takes the names away that are of none of these ports, each with its network.
    pub(super) fn keep(&self, ports: &BTreeSet<(String, String)>) {
        let wanted: BTreeSet<_> = ports.iter().map(|(network, port)| (name(network), name(port))).collect();
        for (network, path) in entries(&self.path) {
            if !wanted.iter().any(|(of, _)| *of == network) {
                remove(&path);
                continue;
            }
            for (entry, path) in entries(&path) {
                let port = ENDINGS.iter().find_map(|ending| entry.strip_suffix(ending));
                if port.is_some_and(|port| !wanted.contains(&(network.clone(), port.to_owned()))) {
                    let _ = fs::remove_file(path);
                }
            }
        }
    }

    /// Takes the names of a port's links away, if they are there.
    pub(super) fn forget(&self, network: &str, port: &str) {
        drop(links(&self.path.join(name(network)), port));
    }

    /// The directory of a network, which may not be there yet.
    pub(super) fn network(self: &Arc<Self>, network: &str) -> Directory {
        Directory { path: self.path.join(name(network)), _pins: self.clone() }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // They stay while anything is in them.
        let _ = fs::remove_dir(&self.path);
        let _ = fs::remove_dir(ROOT);
    }
}

/// The names of one network, which go when this does.
pub(super) struct Directory {
    path: PathBuf,
    _pins: Arc<Pins>,
}

impl Directory {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what there is, and makes it anew.
    pub(super) fn make_anew(&self) -> io::Result<()> {
        remove(&self.path);
        make_directory(&self.path)
    }

    /// The names for a port's links.
    pub(super) fn links(&self, port: &str) -> Names {
        links(&self.path, port)
    }

    /// The ports whose link on the way in is on an interface: the name of each, as it is here, and the interface's
    /// number.
    pub(super) fn ports(&self) -> BTreeMap<String, u32> {
        let port = |(entry, path): (String, PathBuf)| {
            let port = entry.strip_suffix(ENDINGS[0])?;
            match Link::open(&path).ok()??.place()? {
                (index, Hook::Ingress) => Some((port.to_owned(), index)),
                _ => None,
            }
        };
        entries(&self.path).into_iter().filter_map(port).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn links(directory: &Path, port: &str) -> Names {
    Names(ENDINGS.map(|ending| directory.join(format!("{}{ending}", name(port)))))
}

/// A name of a network, a port or a daemon as it can be one here: the file system takes none with a dot.
pub(super) fn name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(octet.into()),
            b'/' => name.push('@'),
            b'.' => name.push(','),
            _ => name.push_str(&format!("%{octet:02x}")),
        }
    }
    name
}

/// The prefix of the names of directories of daemons in the network namespace of the calling thread: interfaces of
/// different ones have the same numbers.
fn prefix() -> io::Result<String> {
    Ok(format!("{}:", namespace()?))
}

fn path_of(daemon: &str) -> io::Result<PathBuf> {
    let name = format!("{}{}", prefix()?, name(daemon));
    if name.len() > LONGEST_NAME {
        return Err(Errno::NAMETOOLONG.into());
    }
    Ok(Path::new(ROOT).join(name))
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Locks a directory. Whoever looks for leftovers has a lock for a moment.
fn take(directory: &OwnedFd) -> io::Result<()> {
    for _ in 0..10 {
        match flock(directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(5)),
            result => return Ok(result?),
        }
    }
    Ok(flock(directory, FlockOperation::NonBlockingLockExclusive)?)
}

fn make_directory(path: &Path) -> io::Result<()> {
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Entries of a directory by name; none of one that is not there.
fn entries(path: &Path) -> Vec<(String, PathBuf)> {
    let Ok(listed) = fs::read_dir(path) else { return Vec::new() };
    let named = listed
        .flatten()
        .take(MOST)
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    named.collect()
}

/// Removes a directory of names, and of such directories.
fn remove(path: &Path) {
    for (_, entry) in entries(path) {
        if fs::remove_file(&entry).is_err() {
            for (_, inner) in entries(&entry) {
                let _ = fs::remove_file(inner);
            }
            let _ = fs::remove_dir(entry);
        }
    }
    let _ = fs::remove_dir(path);
}

/// Names of killed daemons in the calling thread's network namespace.
pub(crate) mod leftovers {
    use super::*;

    /// Finds the directories that no running daemon has, each with the number of programs that it keeps: those of this
    /// namespace, and those all of whose interfaces are gone.
    pub(crate) fn find() -> Vec<(PathBuf, usize)> {
        let Ok(prefix) = prefix() else { return Vec::new() };
        let left = entries(Path::new(ROOT)).into_iter().filter(|(_, path)| is_left(path));
        let found = left.filter_map(|(name, path)| {
            let links: Vec<_> = links_in(&path);
            let is_found = name.starts_with(&prefix) || links.iter().all(|(_, index)| index.is_none());
            is_found.then_some((path, links.len()))
        });
        found.collect()
    }

    /// Removes one, and with it what it keeps in the kernel.
    pub(crate) fn clean(path: &Path) -> io::Result<()> {
        if !is_left(path) {
            return Err(io::Error::other("a vmlan has it by now"));
        }
        remove(path);
        let _ = fs::remove_dir(ROOT);
        if path.exists() { Err(io::Error::other("it is not empty; remove what is in it")) } else { Ok(()) }
    }

    /// Takes programs of killed daemons of other names off this interface: theirs would be asked before ours.
    pub(in crate::interface) fn sweep(index: u32) {
        for (at, on) in find().iter().flat_map(|(path, _)| links_in(path)) {
            if on == Some(index) {
                let _ = fs::remove_file(at);
                tracing::info!("took a program off interface {index} that another vmlan left");
            }
        }
    }

    fn is_left(path: &Path) -> bool {
        open(path).is_ok_and(|directory| flock(&directory, FlockOperation::NonBlockingLockShared).is_ok())
    }

    /// The links of a daemon, each with the number of the interface that it is on, if it is on one.
    fn links_in(path: &Path) -> Vec<(PathBuf, Option<u32>)> {
        let all = entries(path).into_iter().flat_map(|(_, network)| entries(&network));
        let links = all.filter(|(name, _)| ENDINGS.iter().any(|ending| name.ends_with(ending)));
        let place = |path: &Path| Some(Link::open(path).ok()??.place()?.0);
        links.map(|(_, path)| (path.clone(), place(&path))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_dots_and_stay_different() {
        assert_eq!(name("/run/vmlan/control.sock"), "@run@vmlan@control,sock");
        assert_eq!(name("fc-1_a"), "fc-1_a");
        let odd = ["a.b", "a,b", "a/b", "a@b", "a%b", "a+b", "ä"].map(name);
        assert!(odd.iter().all(|name| !name.contains(['.', '/', '+'])), "{odd:?}");
        assert_eq!(odd.iter().collect::<BTreeSet<_>>().len(), odd.len());
    }
}
