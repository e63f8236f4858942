//! Extended BPF: programs that classify or divert traffic, and the tables that they look into (bpf(2)).
//!
//! A program and a table live as long as a descriptor or something in the kernel, as a traffic-control filter, holds
//! them.

mod pin;
mod table;
mod xdp;

pub use pin::{is_bpf, mount_bpf};
pub use table::{Kind, Numbers, PerCpu, Table, grace};
pub use xdp::{Sockets, attach_xdp, load_xdp};

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Commands, `enum bpf_cmd` of linux/bpf.h.
const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE: libc::c_long = 2;
const MAP_DELETE: libc::c_long = 3;
const MAP_GET_NEXT_KEY: libc::c_long = 4;
const PROG_LOAD: libc::c_long = 5;
const PROGRAMS_QUERY: libc::c_long = 16;
const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;

/// `BPF_MAP_TYPE_HASH`.
const HASH: u32 = 1;
/// `BPF_F_NO_PREALLOC`: an empty table costs nothing.
const NO_PREALLOC: u32 = 1;
/// `BPF_PROG_TYPE_SCHED_CLS`.
const CLASSIFIER: u32 = 3;

/// `enum bpf_attach_type`: `BPF_TCX_INGRESS` and `BPF_TCX_EGRESS`.
const TCX: [u32; 2] = [46, 47];

/// The licence that programs are loaded under, as the kernel wants to know it.
const LICENCE: &std::ffi::CStr = c"Dual MIT/GPL";

/// Octets of a name, with a zero at its end.
const NAME: usize = 16;

/// `union bpf_attr` of MAP_CREATE, up to `map_name`.
#[repr(C)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; NAME],
}

/// `union bpf_attr` of MAP_UPDATE, MAP_DELETE and MAP_GET_NEXT_KEY, whose next key is in the place of the value.
#[repr(C)]
struct Element {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Element {
    /// For a key and a value, or their places; either may be none.
    fn new<K, V>(map: &OwnedFd, key: *const K, value: *const V) -> Element {
        let (key, value) = (key.expose_provenance() as u64, value.expose_provenance() as u64);
        Element { map_fd: map.as_raw_fd() as u32, padding: 0, key, value, flags: 0 }
    }
}

/// `union bpf_attr` of PROG_LOAD, up to `prog_ifindex`.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; NAME],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The kind of a program that is to be loaded.
struct Program {
    prog_type: u32,
    prog_flags: u32,
    /// The interface that it is for; 0 where it is for any.
    prog_ifindex: u32,
}

/// `union bpf_attr` of LINK_CREATE, with what tcx has at its end.
#[repr(C)]
struct NewLink {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative_fd: u32,
    padding: u32,
    expected_revision: u64,
}

/// `union bpf_attr` of PROGRAMS_QUERY, up to the number of programs.
#[repr(C)]
struct Query {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    padding: u32,
}

/// `union bpf_attr` of LINK_UPDATE.
#[repr(C)]
struct UpdateLink {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

impl Create {
    /// For a table of entries of these octets, at most `limit`.
    fn new(map_type: u32, [key_size, value_size]: [usize; 2], limit: u32, name: &str) -> Create {
        Create {
            map_type,
            key_size: key_size as u32,
            value_size: value_size as u32,
            max_entries: limit,
            map_flags: 0,
            inner_map_fd: 0,
            numa_node: 0,
            map_name: short(name),
        }
    }
}

/// A table of keys of so many words, which a program can ask whether it holds one.
#[derive(Debug)]
pub struct Set<const WORDS: usize>(Table<Numbers<u32, WORDS>, u32>);

impl<const WORDS: usize> Set<WORDS> {
    /// An empty table for at most `limit` keys; the kernel shows it under `name`, of letters, digits, `_` and `.`.
    ///
    /// # Errors
    /// `EPERM` without CAP_BPF; `ENOMEM` when the limit is too high.
    pub fn new(name: &str, limit: u32) -> io::Result<Set<WORDS>> {
        Table::new(Kind::SparseHash, name, limit).map(Set)
    }

    /// Puts a key in; it may be there already.
    ///
    /// # Errors
    /// `E2BIG` when the table is full.
    pub fn insert(&self, key: [u32; WORDS]) -> io::Result<()> {
        self.0.put(Numbers(key), 1)
    }

    /// Takes a key out.
    ///
    /// # Errors
    /// `NotFound` when it is not there.
    pub fn remove(&self, key: [u32; WORDS]) -> io::Result<()> {
        if self.0.remove(Numbers(key))? { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// The keys, in no particular order. A key that comes or goes meanwhile may be missing or be there.
    ///
    /// # Errors
    /// Errors of bpf(2).
    pub fn keys(&self) -> io::Result<Vec<[u32; WORDS]>> {
        Ok(self.0.entries()?.into_iter().map(|(Numbers(key), _)| key).collect())
    }
}

impl<const WORDS: usize> AsFd for Set<WORDS> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Loads a traffic classifier of these instructions (Documentation/bpf/standardization/instruction-set.rst), each as
/// one number in the machine's order; the kernel shows it under `name`.
///
/// # Errors
/// `EPERM` without CAP_BPF and CAP_NET_ADMIN; `EACCES` or `EINVAL` for a program that the kernel does not trust.
pub fn load_classifier(name: &str, instructions: &[u64]) -> io::Result<OwnedFd> {
    load(name, Program { prog_type: CLASSIFIER, prog_flags: 0, prog_ifindex: 0 }, instructions)
}

fn load(name: &str, program: Program, instructions: &[u64]) -> io::Result<OwnedFd> {
    let request = Load {
        prog_type: program.prog_type,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr().expose_provenance() as u64,
        license: LICENCE.as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: program.prog_flags,
        prog_name: short(name),
        prog_ifindex: program.prog_ifindex,
        expected_attach_type: 0,
    };
    // SAFETY: PROG_LOAD reads `insn_cnt` instructions at `insns` and text up to its zero at `license`; both live
    // through the call, and it writes no log.
    let fd = unsafe { bpf(PROG_LOAD, &request) }?;
    // SAFETY: the call has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Where an interface lets a program see its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Frames that come in.
    Ingress,
    /// Frames that go out.
    Egress,
}

impl Hook {
    /// All of them, each at the place of its number.
    pub const ALL: [Hook; 2] = [Hook::Ingress, Hook::Egress];
}

/// A classifier on a hook of an interface ("tcx", Linux 6.6), which it leaves when the link is dropped, in whatever
/// way the process ends; unless the link has a name ([`Link::pin`]), which keeps it there.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// Puts the classifier behind those that the hook has.
    ///
    /// # Errors
    /// `EINVAL` from a kernel that does not know such hooks; `ENODEV` without the interface; `EPERM` without
    /// CAP_NET_ADMIN.
    pub fn new(classifier: impl AsFd, interface: u32, hook: Hook) -> io::Result<Link> {
        link(classifier.as_fd(), interface, TCX[hook as usize], 0).map(Link)
    }

    /// Puts another classifier in the place of the one that is there, without a moment between; it may be the same.
    ///
    /// # Errors
    /// `ENOLINK` when the interface is gone, or somebody took the link off it.
    pub fn update(&self, classifier: impl AsFd) -> io::Result<()> {
        let request = UpdateLink {
            link_fd: self.0.as_raw_fd() as u32,
            new_prog_fd: classifier.as_fd().as_raw_fd() as u32,
            flags: 0,
            old_prog_fd: 0,
        };
        // SAFETY: LINK_UPDATE reads the members above, which are numbers.
        unsafe { bpf(LINK_UPDATE, &request) }.map(drop)
    }

    /// Gives the link a name, an absolute path without dots in a BPF file system. It stays on its hook while the name
    /// is there, also without a process.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken; `EPERM` for a name with a dot, and without the right.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        pin::pin(self.0.as_fd(), path)
    }

    /// Opens the link of this name; `None` when nothing has it, or something that is no link to an interface's hook.
    ///
    /// # Errors
    /// Errors of bpf(2).
    pub fn open(path: &Path) -> io::Result<Option<Link>> {
        let opened = pin::open(path)?;
        Ok(opened.filter(|object| pin::place_of(object.as_fd()).is_some()).map(Link))
    }

    /// The number of the interface, and the hook that it is on; `None` when it is on none any more.
    pub fn place(&self) -> Option<(u32, Hook)> {
        let (interface, attach_type) = pin::place_of(self.0.as_fd())?;
        let hook = Hook::ALL.into_iter().find(|hook| TCX[*hook as usize] == attach_type)?;
        (interface != 0).then_some((interface, hook))
    }
}

/// How many classifiers are on an own hook of an interface.
///
/// # Errors
/// `EINVAL` from a kernel that does not know such hooks; `ENODEV` without the interface; `EPERM` without CAP_NET_ADMIN.
pub fn classifiers_at(interface: u32, hook: Hook) -> io::Result<u32> {
    let mut request = Query {
        target_ifindex: interface,
        attach_type: TCX[hook as usize],
        query_flags: 0,
        attach_flags: 0,
        prog_ids: 0,
        count: 0,
        padding: 0,
    };
    // SAFETY: PROGRAMS_QUERY writes numbers to `request` alone where it has no place for a list.
    match unsafe { bpf_mut(PROGRAMS_QUERY, &mut request) } {
        Ok(_) => Ok(request.count),
        // Nothing was ever there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Puts a program in its place on an interface, for as long as the descriptor is open.
fn link(program: BorrowedFd<'_>, interface: u32, attach_type: u32, flags: u32) -> io::Result<OwnedFd> {
    let request = NewLink {
        prog_fd: program.as_raw_fd() as u32,
        target_ifindex: interface,
        attach_type,
        flags,
        relative_fd: 0,
        padding: 0,
        expected_revision: 0,
    };
    // SAFETY: LINK_CREATE reads the members above, which are numbers.
    let fd = unsafe { bpf(LINK_CREATE, &request) }?;
    // SAFETY: the call has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn create(request: &Create) -> io::Result<OwnedFd> {
    // SAFETY: MAP_CREATE reads the members of `request` and keeps no pointer.
    let fd = unsafe { bpf(MAP_CREATE, request) }?;
    // SAFETY: the call has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Cuts `name` to the octets that fit, with a zero behind them.
fn short(name: &str) -> [u8; NAME] {
    let mut octets = [0; NAME];
    let fits = name.len().min(NAME - 1);
    octets[..fits].copy_from_slice(&name.as_bytes()[..fits]);
    octets
}

/// # Safety
/// `request` has to be what `command` takes and only reads, and its pointers valid for it.
unsafe fn bpf<T>(command: libc::c_long, request: &T) -> io::Result<libc::c_int> {
    // SAFETY: the pointer and the length describe `request`, which is not written to; the caller answers for what is
    // in it.
    unsafe { call(command, std::ptr::from_ref(request).cast(), size_of::<T>()) }
}

/// # Safety
/// `request` has to be what `command` takes, its pointers valid for it, and good whatever bits are written to it.
unsafe fn bpf_mut<T>(command: libc::c_long, request: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the pointer and the length describe `request`; the caller answers for what is in it.
    unsafe { call(command, std::ptr::from_mut(request).cast(), size_of::<T>()) }
}

/// # Safety
/// As [`bpf`] and [`bpf_mut`], for the `octets` at `request`.
unsafe fn call(
    command: libc::c_long,
    request: *const libc::c_void,
    octets: usize,
) -> io::Result<libc::c_int> {
    // SAFETY: the caller answers for the request.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, request, octets as libc::c_long) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `r0 = 0; exit`, and one that ends nowhere.
    const NOTHING: [u64; 2] = [0xb7, 0x95];
    const ENDLESS: [u64; 1] = [0xb7];

    #[test]
    fn programs_and_tables() {
        let set = match Set::<2>::new("a_name_that_is_longer", 2) {
            // Without the right, that is all there is to see.
            Err(error) => return assert_eq!(error.raw_os_error(), Some(libc::EPERM)),
            Ok(set) => set,
        };
        assert!(set.remove([1, 2]).is_err());
        set.insert([1, 2]).unwrap();
        set.insert([1, 2]).unwrap();
        set.insert([1, 3]).unwrap();
        assert_eq!(set.insert([1, 4]).unwrap_err().raw_os_error(), Some(libc::E2BIG));
        set.remove([1, 2]).unwrap();
        assert_eq!(set.keys().unwrap(), [[1, 3]]);
        let nothing = load_classifier("nothing", &NOTHING).unwrap();
        let nowhere = Link::new(&nothing, u32::MAX, Hook::Ingress);
        assert!(nowhere.is_err());
        assert!(load_classifier("endless", &ENDLESS).is_err());
    }
}
